//! The ledger of a new node: a member's, as far as its segments are fetched, with every part held against the others.
//!
//! The rows must add up to the ledger's index, the lines to its tree, and the ledger to its own digest; index, audit files
//! and tiles are then made of them here. Where it stands in the log, in which term and with which members, the fetched
//! segments say and nobody else. All of that may still be somebody's invention: the node notes that nobody has confirmed
//! it until an `Attested` in the log, of its place or a later one, says the same ([`Unconfirmed`]). If one says otherwise
//! the node stops, and computes everything from the log when it is started again.

use super::{Terms, Trouble};
use crate::index;
use crate::peers::files::{State, What};
use crate::projections::projector::Projector;
use crate::projections::tiles::{Edge, Tiles};
use crate::projections::work::{Leaves, Work};
use crate::projections::worm::{Rotation, Worm};
use engine::leaf::Leaf;
use engine::ledger::{First, Ledger, Table};
use engine::limits::{LEAF_MAX, RECENT_KEYS_MAX};
use engine::log::Lsn;
use engine::tree::{Tree, leaf_hash};
use raft::{Peer, Standing};
use segments::{Frame, Kind};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The longest ledger, bytes, without rows and lines: tenants, policies and the like.
const LEDGER_MAX: u64 = 256 << 20;
/// How many times as long as the log its rows or lines can be: a line is written for a submission of a few bytes, too.
const PARTS_TO_LOG: u64 = 64;
/// Bytes of lines that are handed on together.
const LINES_AT_A_TIME: usize = 1 << 20;

/// Where what a ledger brings along is kept.
#[derive(Clone, Debug)]
pub struct Places {
    /// Projections.
    pub proj: PathBuf,
    /// Audit files, and when they end.
    pub worm: (PathBuf, Rotation),
    /// Tiles.
    pub tiles: PathBuf,
    /// Names the log that the index is a cache of.
    pub id: u64,
}

/// What the fetched segments say of the group at each record.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Where terms begin.
    terms: Vec<(Lsn, u64)>,
    /// Memberships: place, term, bytes.
    memberships: Vec<(Lsn, u64, Vec<u8>)>,
    /// The last record that some batch knew to be committed.
    pub committed: Lsn,
    /// Bytes of the segments.
    pub bytes: u64,
}

impl Known {
    pub(super) fn frame(&mut self, frame: &Frame<'_>) {
        match frame.kind {
            Kind::Entry => {
                if self.terms.last().is_none_or(|(_, term)| *term != frame.term) {
                    self.terms.push((frame.lsn, frame.term));
                }
                if let Some(bytes) = engine::event::membership(frame.payload) {
                    self.memberships.push((frame.lsn, frame.term, bytes));
                }
            }
            Kind::Truncate => {
                self.terms.retain(|(first, _)| *first <= frame.lsn);
                self.memberships.retain(|(lsn, ..)| *lsn <= frame.lsn);
            }
            Kind::Vote | Kind::Purged => {}
        }
    }

    /// How the group stands at a record, in Raft's words.
    fn standing(&self, lsn: Lsn) -> Option<Standing> {
        let (_, term) = self.terms.iter().rev().find(|(first, _)| *first <= lsn)?;
        let (at, its_term, bytes) = self.memberships.iter().rev().find(|(at, ..)| *at <= lsn)?;
        Some(Standing::new(lsn, *term, (*at, *its_term, bytes)))
    }
}

/// Fetches a member's state and makes it this node's. Whether it did: what does not hold is not used, and the log is
/// enough.
pub(super) async fn fetch(
    terms: &Terms<'_>,
    peer: &Peer,
    state: &State,
    known: &Known,
) -> Result<bool, Trouble> {
    let at = |source| terms.here(source);
    let Some(standing) = known.standing(state.lsn).filter(|_| state.lsn <= known.committed) else {
        tracing::info!(lsn = state.lsn.0, "the member's ledger stands beyond what its segments call agreed");
        return Ok(false);
    };
    let most = known.bytes.saturating_mul(PARTS_TO_LOG);
    if state.ledger.bytes > LEDGER_MAX || state.rows > most || state.lines > most {
        tracing::error!(
            node = peer.node,
            ?state,
            "no log of this length has such a ledger: it is not fetched"
        );
        return Ok(false);
    }
    let dir = terms.places.proj.join("seed");
    std::fs::create_dir_all(&dir).map_err(at)?;
    let lsn = state.lsn;
    let files = [
        (What::Ledger(lsn), state.ledger.bytes, dir.join(format!("{lsn}.ledger"))),
        (What::Rows(lsn), state.rows, dir.join(format!("{lsn}.rows"))),
        (What::Lines(lsn), state.lines, dir.join(format!("{lsn}.lines"))),
    ];
    // What another one began with.
    for entry in std::fs::read_dir(&dir).map_err(at)? {
        let path = entry.map_err(at)?.path();
        if files.iter().all(|(.., file)| *file != path) {
            std::fs::remove_file(&path).map_err(at)?;
        }
    }
    for (what, bytes, path) in &files {
        let file = OpenOptions::new().create(true).write(true).truncate(false).open(path).map_err(at)?;
        let have = file.metadata().map_err(at)?.len().min(*bytes);
        file.set_len(have).map_err(at)?;
        match terms.pieces(peer, *what, have..*bytes, &file).await {
            Ok(()) => {}
            Err(Trouble::Refused(why)) => {
                tracing::warn!(why, "a member's ledger is not to be had");
                std::fs::remove_dir_all(&dir).map_err(at)?;
                return Ok(false);
            }
            Err(trouble) => return Err(trouble),
        }
    }
    let (places, region, listed) = (terms.places.clone(), terms.identity.region.clone(), *state);
    let paths = files.map(|(.., path)| path);
    let metrics = terms.metrics.clone();
    let made =
        tokio::task::spawn_blocking(move || make(&places, &region, &listed, standing, &paths, metrics));
    let made = made.await.map_err(|error| at(io::Error::other(error)))?;
    std::fs::remove_dir_all(&dir).map_err(at)?;
    match made {
        Ok(leaves) => {
            tracing::info!(
                lsn = lsn.0,
                leaves,
                node = peer.node,
                "a member's ledger holds together and is taken up"
            );
            Ok(true)
        }
        Err(why) => {
            terms.metrics.seed_refused.inc();
            tracing::error!(
                why,
                node = peer.node,
                "a member's ledger is refused: everything is computed from the log"
            );
            Ok(false)
        }
    }
}

/// Makes everything a node has beside its log; the snapshot comes last. Returns how many leaves there are.
fn make(
    places: &Places,
    region: &str,
    listed: &State,
    standing: Standing,
    [ledger, rows, lines]: &[PathBuf; 3],
    metrics: std::sync::Arc<crate::metrics::Metrics>,
) -> Result<u64, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let bytes = std::fs::read(ledger).map_err(|error| text(&error))?;
    if bytes.last_chunk::<32>() != Some(&listed.ledger.digest.0) {
        return Err("the ledger has another digest than was listed".into());
    }
    let (applied, count) = engine::ledger::inspect(&bytes).map_err(|error| text(&error))?;
    if (applied, count * First::SIZE as u64) != (listed.lsn, listed.rows) {
        return Err(format!("the ledger stands at record {applied} with {count} rows, not as was listed"));
    }
    let mut table = index::create(&places.proj, places.id).map_err(|error| text(&error))?;
    let mut reader = BufReader::with_capacity(1 << 20, File::open(rows).map_err(|error| text(&error))?);
    for number in 0..count {
        let mut row = [0; First::SIZE];
        reader.read_exact(&mut row).map_err(|error| text(&error))?;
        let row = First::decode(&row).map_err(|error| format!("row {number}: {error}"))?;
        table.push(&row).map_err(|error| text(&error))?;
        // As the ledger does: the older half of what memory should hold goes to the disk.
        if (number + 1).is_multiple_of(RECENT_KEYS_MAX) {
            table.demote(number + 1 - RECENT_KEYS_MAX / 2).map_err(|error| text(&error))?;
        }
    }
    table.settle().map_err(|error| text(&error))?;
    let ledger = Ledger::restore(&bytes, table).map_err(|error| text(&error))?;
    ledger.check_rows().map_err(|error| text(&error))?;
    if ledger.region() != region {
        return Err(format!("the ledger is that of region {}", ledger.region()));
    }
    // Before anything is made of them: a line that is not the ledger's must not become a file.
    let mut tree = Tree::new();
    each_line(lines, &mut |leaf| {
        tree.append(leaf_hash(leaf));
        Ok(())
    })?;
    if (tree.size(), tree.root()) != (ledger.tree().size(), ledger.tree().root()) {
        return Err(format!("{} lines do not have the root of the ledger's tree", tree.size()));
    }
    let (worm, rotation) = &places.worm;
    let tiles = Tiles::new(places.tiles.clone(), Edge::default(), None);
    let snapshot = places.proj.join("snapshot");
    let writer = Worm::new(worm.clone(), *rotation);
    let projector = Projector::start(writer, worm.clone(), Vec::new(), tiles, snapshot, metrics);
    let projector = projector.map_err(|error| text(&error))?;
    write_lines(lines, &projector)?;
    Unconfirmed::note(&places.proj, applied).map_err(|error| text(&error))?;
    let syncing = ledger.table().sync().map_err(|error| text(&error))?;
    projector.hand(Work::Snapshot(standing, bytes, syncing));
    projector.drain();
    match projector.failed().or_else(|| projector.paused()) {
        Some(why) => Err(why),
        None => Ok(tree.size()),
    }
}

/// Goes through the lines of a file.
fn each_line(path: &Path, each: &mut dyn FnMut(&[u8]) -> Result<(), String>) -> Result<(), String> {
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path).map_err(|error| error.to_string())?);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader).take(LEAF_MAX as u64 + 1).read_until(b'\n', &mut line);
        if read.map_err(|error| error.to_string())? == 0 {
            return Ok(());
        }
        each(line.strip_suffix(b"\n").ok_or("a line has no end")?)?;
    }
}

/// Writes lines that were found to be the ledger's.
fn write_lines(path: &Path, projector: &Projector) -> Result<(), String> {
    let (mut leaves, mut held, mut seq) = (Leaves::default(), 0, 0);
    each_line(path, &mut |leaf| {
        let parsed = Leaf::parse(leaf).map_err(|error| format!("line {seq}: {error}"))?;
        leaves.push(seq, parsed.time_ms, leaf, leaf_hash(leaf));
        seq += 1;
        held += leaf.len();
        if held >= LINES_AT_A_TIME {
            projector.hand(Work::Leaves(std::mem::take(&mut leaves)));
            held = 0;
        }
        Ok(())
    })?;
    if !leaves.is_empty() {
        projector.hand(Work::Leaves(leaves));
    }
    Ok(())
}

/// A ledger that came from a member and that nothing in the log has confirmed yet.
#[derive(Debug)]
pub struct Unconfirmed {
    proj: PathBuf,
    /// Where it stood; 0 for none.
    lsn: AtomicU64,
}

impl Unconfirmed {
    fn path(proj: &Path) -> PathBuf {
        proj.join("unconfirmed")
    }

    /// Notes, durably, that the ledger to come is somebody else's word.
    fn note(proj: &Path, lsn: Lsn) -> io::Result<()> {
        let mut file = File::create(Unconfirmed::path(proj))?;
        io::Write::write_all(&mut file, format!("{lsn}\n").as_bytes())?;
        file.sync_all()?;
        File::open(proj)?.sync_all()
    }

    /// What was noted; a note that cannot be read counts for the whole log.
    pub fn open(proj: &Path) -> Unconfirmed {
        let text = std::fs::read_to_string(Unconfirmed::path(proj));
        let lsn = text.map_or(0, |text| text.trim().parse().unwrap_or(u64::MAX));
        Unconfirmed { proj: proj.to_owned(), lsn: AtomicU64::new(lsn) }
    }

    /// Nothing of a member's is used any more.
    pub fn forget(proj: &Path) {
        // A note without a ledger is confirmed by the next `Attested`.
        let _ = std::fs::remove_file(Unconfirmed::path(proj));
    }

    /// Where the unconfirmed ledger stood, if there is one.
    pub fn lsn(&self) -> Option<Lsn> {
        Some(Lsn(self.lsn.load(Ordering::Relaxed))).filter(|lsn| *lsn != Lsn::ZERO)
    }

    /// The log says the same of the state after `upto`.
    pub fn agrees(&self, upto: Lsn) {
        if self.lsn().is_some_and(|lsn| lsn <= upto) {
            tracing::info!(upto = upto.0, "the ledger that came from a member is what the log attests");
            self.lsn.store(0, Ordering::Relaxed);
            Unconfirmed::forget(&self.proj);
        }
    }

    /// The log says otherwise: whatever this node has beside its log is worth nothing.
    pub fn differs(&self) {
        if self.lsn().is_some() {
            tracing::error!(
                "a member's ledger is not what the log attests; the next start computes it from the log"
            );
            // What cannot be removed is found out again at the next start.
            let _ = std::fs::remove_file(self.proj.join("snapshot"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::event::{Payload, Record};

    fn record(payload: Payload) -> Vec<u8> {
        let mut bytes = Vec::new();
        Record { leader: 1, payload }.encode(&mut bytes);
        bytes
    }

    #[test]
    fn where_a_record_stands_follows_from_what_lives() {
        let (blank, first, second) = (
            record(Payload::Blank),
            record(Payload::Membership(vec![1])),
            record(Payload::Membership(vec![2])),
        );
        let mut known = Known::default();
        let frames = [
            Frame::entry(Lsn(1), 0, &first),
            Frame::entry(Lsn(2), 1, &blank),
            Frame::entry(Lsn(3), 1, &second),
            Frame::entry(Lsn(4), 2, &blank),
            Frame::truncate(Lsn(2)),
            Frame::entry(Lsn(3), 3, &blank),
        ];
        frames.iter().for_each(|frame| known.frame(frame));
        assert_eq!(known.standing(Lsn(0)), None);
        let at = |lsn, term| Standing::new(Lsn(lsn), term, (Lsn(1), 0, &[1]));
        for (lsn, term) in [(1, 0), (2, 1), (3, 3), (9, 3)] {
            assert_eq!(known.standing(Lsn(lsn)), Some(at(lsn, term)), "{lsn}");
        }
    }

    #[test]
    fn a_ledger_is_unconfirmed_until_the_log_speaks_of_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let proj = dir.path();
        assert_eq!(Unconfirmed::open(proj).lsn(), None);
        Unconfirmed::note(proj, Lsn(7)).unwrap();
        std::fs::write(proj.join("snapshot"), b"a member's").unwrap();
        let fetched = Unconfirmed::open(proj);
        // What the log says of an earlier place says nothing of this one.
        fetched.agrees(Lsn(6));
        assert_eq!(fetched.lsn(), Some(Lsn(7)));
        fetched.differs();
        assert!(!proj.join("snapshot").exists());
        assert_eq!(Unconfirmed::open(proj).lsn(), Some(Lsn(7)));
        fetched.agrees(Lsn(7));
        assert_eq!((fetched.lsn(), Unconfirmed::open(proj).lsn()), (None, None));
        // A ledger that this node computed itself is its own affair.
        std::fs::write(proj.join("snapshot"), b"ours").unwrap();
        fetched.differs();
        assert!(proj.join("snapshot").exists());
    }
}
