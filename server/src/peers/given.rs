//! A node's state for another one: the ledger at one record of the sealed log, the rows of its index, the lines of its
//! audit files.
//!
//! The newest snapshot stands where the log is not sealed yet, nearly always, and a new node could not go on from it. So
//! when a segment is sealed the snapshot that stands within it is kept under another name. Rows and lines only grow: those
//! that belong to it are the first ones of what there is.

use super::files::{Listed, State, What};
use crate::node::Node;
use crate::projections::snapshot::{self, Snapshot};
use crate::projections::worm::Span;
use engine::ledger::{First, Table};
use engine::log::{Digest, Lsn};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long after the last question about it a ledger is not replaced by a newer one: the node that fetches it needs all
/// of it, and may take longer than the next segment does to be sealed.
const LEASE: Duration = Duration::from_secs(10);

/// When another node last asked for the ledger that is kept.
#[derive(Debug, Default)]
pub struct Lease(Mutex<Option<Instant>>);

impl Lease {
    fn asked(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody asks: what `look` finds stays for a while.
    fn renew<T>(&self, look: impl FnOnce() -> T) -> T {
        let mut asked = self.asked();
        *asked = Some(Instant::now());
        look()
    }

    /// Runs `replace` unless somebody asked not long ago; whether it ran.
    fn unless_asked(&self, replace: impl FnOnce() -> io::Result<()>) -> io::Result<bool> {
        let asked = self.asked();
        if asked.is_some_and(|at| at.elapsed() < LEASE) {
            return Ok(false);
        }
        replace().map(|()| true)
    }
}

/// Rows that are read under the ledger's lock at a time.
const ROWS_AT_A_TIME: u64 = 1024;

/// The snapshot that is kept for others.
fn kept(node: &Node) -> PathBuf {
    node.config.data_dir.join("proj").join("snapshot.sealed")
}

/// Keeps the newest snapshot for others if it stands within what is sealed. To be called when a segment was sealed, and
/// again when it was not looked at because somebody is fetching the one before. Whether it was looked at.
///
/// # Errors
/// When the file system refuses.
pub fn keep(node: &Node, sealed: u64) -> io::Result<bool> {
    node.given.unless_asked(|| replace(node, sealed))
}

fn replace(node: &Node, sealed: u64) -> io::Result<()> {
    if sealed == 0 {
        return Ok(());
    }
    let newest = node.config.data_dir.join("proj").join("snapshot");
    let Some(found) = snapshot::read(&newest)? else { return Ok(()) };
    let before = snapshot::read(&kept(node)).ok().flatten().map_or(Lsn::ZERO, |kept| kept.standing.lsn);
    if found.standing.lsn <= before {
        return Ok(());
    }
    // Who gets it must see in the segments that all of it is agreed.
    if found.standing.lsn > segments::seed::agreed_in(&node.config.log_path(), sealed)? {
        return Ok(());
    }
    // The newest is replaced by another file, never written to: a second name keeps this one.
    let new = draft(&kept(node));
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::hard_link(&newest, &new)?;
    std::fs::rename(&new, kept(node))
}

/// The name under which it is put before it takes the place of the one before. Never that under which the projector writes its next
/// snapshot, which another thread may be doing just now.
fn draft(kept: &Path) -> PathBuf {
    kept.with_extension("sealed.new")
}

fn find(node: &Node) -> io::Result<Option<Snapshot>> {
    snapshot::read(&kept(node))
}

/// The state that can be had, if any.
pub(super) fn state(node: &Node) -> Option<State> {
    // What cannot be read is none: the new node computes it.
    let found = node.given.renew(|| find(node)).ok().flatten()?;
    let (_, rows) = engine::ledger::inspect(&found.ledger).ok()?;
    let digest = found.ledger.last_chunk::<32>()?;
    let lines = match &found.marks.worm {
        None => 0,
        Some(open) => {
            let before = node.fold.projector.spans();
            let before = before.iter().take_while(|span| span.first < open.first);
            before.map(|span| span.bytes).sum::<u64>() + open.bytes
        }
    };
    let files = [found.ledger.len() as u64, rows * First::SIZE as u64, lines];
    let [ledger, rows, lines] = files.map(|bytes| Listed { bytes, digest: Digest::ZERO });
    let ledger = Listed { digest: Digest(*digest), ..ledger };
    Some(State { lsn: found.standing.lsn, ledger, rows: rows.bytes, lines: lines.bytes })
}

/// A piece of it; `None` when it is not here any more.
pub(super) fn piece(node: &Node, what: What, offset: u64, length: u32) -> io::Result<Option<Vec<u8>>> {
    node.given.renew(|| ());
    match what {
        What::Segment(_) => Ok(None),
        What::Ledger(lsn) => {
            let found = find(node)?.filter(|found| found.standing.lsn == lsn);
            let end = usize::try_from(offset).ok().and_then(|offset| offset.checked_add(length as usize));
            Ok(found.and_then(|found| Some(found.ledger.get(end? - length as usize..end?)?.to_vec())))
        }
        What::Rows(_) => rows(node, offset, u64::from(length)),
        What::Lines(_) => {
            let spans = node.fold.projector.spans();
            lines(&node.config.worm_path(), &spans, offset, u64::from(length))
        }
    }
}

/// Bytes of the rows, one after the other.
fn rows(node: &Node, offset: u64, length: u64) -> io::Result<Option<Vec<u8>>> {
    let size = First::SIZE as u64;
    let (first, end) = (offset / size, (offset + length).div_ceil(size));
    let mut bytes = Vec::with_capacity(((end - first) * size) as usize);
    let mut next = first;
    while next < end {
        let core = node.fold.core();
        let table = core.ledger.table();
        if table.rows() < end {
            return Ok(None);
        }
        for number in next..end.min(next + ROWS_AT_A_TIME) {
            bytes.extend_from_slice(&table.row(number).map_err(io::Error::other)?.encode());
        }
        next += ROWS_AT_A_TIME;
    }
    let skip = (offset - first * size) as usize;
    Ok(Some(bytes[skip..skip + length as usize].to_vec()))
}

/// Bytes of the audit files, one after the other.
fn lines(dir: &Path, spans: &[Span], offset: u64, length: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::with_capacity(length as usize);
    let mut start = 0;
    for span in spans {
        let end = start + span.bytes;
        let wanted = offset + bytes.len() as u64;
        if wanted < end && (bytes.len() as u64) < length {
            let part = (end - wanted).min(length - bytes.len() as u64) as usize;
            let at = bytes.len();
            bytes.resize(at + part, 0);
            File::open(dir.join(&span.path))?.read_exact_at(&mut bytes[at..], wanted - start)?;
        }
        start = end;
    }
    Ok((bytes.len() as u64 == length).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_fetches_is_not_replaced() {
        let lease = Lease::default();
        assert!(lease.unless_asked(|| Ok(())).unwrap(), "nobody asked");
        assert_eq!(lease.renew(|| 7), 7);
        assert!(!lease.unless_asked(|| unreachable!("somebody asked")).unwrap());
        *lease.asked() = Instant::now().checked_sub(LEASE);
        assert!(lease.unless_asked(|| Ok(())).unwrap(), "it is long ago");
        assert!(lease.unless_asked(|| Err(io::ErrorKind::Other.into())).is_err());
    }

    #[test]
    fn what_is_kept_is_not_put_where_the_next_snapshot_is_written() {
        let newest = Path::new("proj/snapshot");
        assert_ne!(draft(&newest.with_extension("sealed")), snapshot::draft(newest));
    }

    #[test]
    fn lines_run_over_files() {
        let dir = tempfile::tempdir().unwrap();
        let texts: [&[u8]; 3] = [b"one\ntwo\n", b"three\n", b"four\nfive\n"];
        let mut spans = Vec::new();
        for (n, text) in texts.iter().enumerate() {
            let path = PathBuf::from(format!("{n}.jsonl"));
            std::fs::write(dir.path().join(&path), text).unwrap();
            spans.push(Span { path, first: n as u64, count: 1, bytes: text.len() as u64 });
        }
        let all = texts.concat();
        for from in 0..all.len() {
            for to in from..=all.len() {
                let found = lines(dir.path(), &spans, from as u64, (to - from) as u64).unwrap();
                assert_eq!(found.as_deref(), Some(&all[from..to]), "{from}..{to}");
            }
        }
        // More than there is, now.
        assert_eq!(lines(dir.path(), &spans, 3, all.len() as u64).unwrap(), None);
    }
}
