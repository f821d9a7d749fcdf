//! `flk snapshot save`: from a node's directory, whether the node runs or not.
//!
//! Sealed segments never change, so they are copied as files, and checked. Of what stands after them, everything that the
//! log itself says was agreed is written again. A node that is stopped and alone in its group agreed to all it has.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use engine::log::Lsn;
use segments::copy::{CopyError, NewLog};
use segments::{
    Frame, Kind, MANIFEST, OpenError, SPARE, Scan, ScanError, Scanned, segment_name, segment_number,
};
use serde_json::json;

use super::listing::{Entry, LISTING, Listing, digest};
use super::membership;
use crate::audit::home::{Home, HomeArgs};
use crate::audit::keychain::{self, STATEMENT_MAX};
use crate::audit::source::{Faulty, LogFiles};
use crate::pack::put;
use crate::pack::tiles::read_file;
use crate::report::{Exit, Fault, Report, State};
use crate::ui::{Ui, Unit, bytes, thousands};

/// Copies the log of a node, which may run, to a new directory
///
/// DIR is a data directory on this machine. Of a node that runs the copy holds everything that was agreed up to a moment
/// ago; nothing is asked of the node, and nothing of it is locked. Keys are not copied: keep keys/kek and keys/log.key
/// elsewhere, a restored node needs them.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    /// The data directory.
    pub home: HomeArgs,
    /// The snapshot: a directory that is empty or not there
    pub out: PathBuf,
}

/// What a pass over a log's frames tells.
#[derive(Debug, Default)]
pub struct Facts {
    /// The last entry that some batch knew to be committed.
    pub committed: Lsn,
    /// The last entry.
    pub tip: Lsn,
    /// Where terms begin, in order.
    terms: Vec<(Lsn, u64)>,
    /// Every node that was ever a member.
    pub members: BTreeSet<u64>,
    /// How many vote.
    pub voters: usize,
}

impl Facts {
    fn note(&mut self, scanned: &Scanned<'_>) {
        self.committed = self.committed.max(scanned.committed);
        let frame = &scanned.frame;
        match frame.kind {
            Kind::Entry => {
                self.tip = frame.lsn;
                if self.terms.last().is_none_or(|(_, term)| *term != frame.term) {
                    self.terms.push((frame.lsn, frame.term));
                }
                if let Some((members, voters)) = membership::read(frame.payload) {
                    self.members.extend(members);
                    self.voters = voters;
                }
            }
            Kind::Truncate => {
                self.tip = frame.lsn;
                self.terms.retain(|(first, _)| *first <= frame.lsn);
            }
            Kind::Vote | Kind::Purged => {}
        }
    }

    /// The term of the last entry.
    pub fn term(&self) -> u64 {
        self.terms.last().map_or(0, |(_, term)| *term)
    }
}

/// Hands the frames of a log that stand after its first `copied` segments and that `keep` wants to a new log.
///
/// # Errors
/// The log cannot be read, or the new one not written.
pub fn repeat(
    (scan, copied): (&Scan, u64),
    new: &mut NewLog,
    keep: impl Fn(&Frame<'_>) -> bool,
) -> Result<Facts, ScanError<CopyError>> {
    let mut facts = Facts::default();
    for number in 1..=scan.last() {
        scan.frames(number, &mut |scanned| {
            facts.note(scanned);
            if number > copied && keep(&scanned.frame) { new.push(&scanned.frame) } else { Ok(()) }
        })?;
    }
    Ok(facts)
}

/// What to say of a log that cannot be read.
pub fn unreadable(dir: &Path, error: &OpenError) -> Fault {
    let exit = match error {
        OpenError::Corrupt(_) => Exit::Tampered,
        OpenError::MissingManifest | OpenError::MissingSegment { .. } => Exit::Missing,
        _ => Exit::Failed,
    };
    Fault::new("cannot read the log", dir.display(), error, "worm verify says what is wrong with it")
        .exit(exit)
}

/// What to say of a log that cannot be written.
pub fn unwritable(dir: &Path, error: &CopyError) -> Fault {
    let (exit, next) = match error {
        CopyError::Check(..) | CopyError::Stranger(_) => {
            (Exit::Tampered, "the log it is copied from is damaged: worm verify names the place")
        }
        CopyError::Taken => (Exit::Failed, "name a directory that is empty or not there"),
        _ => (Exit::Failed, "remove what was written, see to it that there is room, and begin again"),
    };
    Fault::new("cannot write the copy", dir.display(), error, next).exit(exit)
}

/// The same for both.
pub fn failed(from: &Path, to: &Path, error: &ScanError<CopyError>) -> Fault {
    match error {
        ScanError::Log(error) => unreadable(from, error),
        ScanError::Each(error) => unwritable(to, error),
    }
}

/// Saves.
///
/// # Errors
/// The directory cannot be read or is damaged, the copy cannot be written.
pub fn run(args: &Args, ui: Ui) -> Result<Report, Fault> {
    let home = Home::open(&args.home)?;
    let (from, to) = (home.log(), args.out.join("log"));
    if std::fs::read_dir(&args.out).is_ok_and(|mut list| list.next().is_some()) {
        return Err(unwritable(&args.out, &CopyError::Taken));
    }
    // Held until the copy is made: a node that starts meanwhile waits for nobody and says that the directory is in use.
    let lock = File::open(home.dir().join("LOCK")).ok();
    let stopped = lock.as_ref().is_none_or(|lock| lock.try_lock().is_ok());
    // What a crash left is no damage, and damage must not pass for what a crash left.
    match LogFiles::open(&from).and_then(|log| log.check_end()) {
        Ok(()) => {}
        Err(Faulty::Unusable(fault)) => return Err(fault),
        Err(Faulty::Missing(what)) => {
            return Err(Fault::new("the log is not whole", from.display(), what, "restore it from a copy")
                .exit(Exit::Missing));
        }
        Err(Faulty::Damaged(damage)) => return Err(unreadable(&from, &OpenError::Corrupt(damage))),
        Err(Faulty::Wrong(wrong)) => return Err(Fault::read(&from, wrong).exit(Exit::Tampered)),
    }
    let scan = Scan::open(&from).map_err(|error| unreadable(&from, &error))?;
    let sealed = scan.sealed();
    let length = |number| scan.length(number).map_err(|error| unreadable(&from, &error));
    let all = (1..=sealed).map(length).sum::<Result<u64, _>>()?;
    let mut progress = ui.progress("copy", all, Unit::Bytes);
    let begun =
        NewLog::begin(&to, scan.identity().clone(), length(scan.last())?, (&from, sealed), &mut |bytes| {
            progress.add(bytes);
        });
    progress.finish();
    let mut new = begun.map_err(|error| unwritable(&to, &error))?;
    let facts = repeat((&scan, sealed), &mut new, |_| true).map_err(|error| failed(&from, &to, &error))?;
    // With others to ask, what stands above the mark may yet be replaced; so may what a running node has not synced.
    let last = if stopped && facts.voters <= 1 { facts.tip } else { facts.committed };
    new.commit(last).map_err(|error| unwritable(&to, &error))?;
    drop(new);
    trim(&to)?;
    if home.vkey().exists() {
        let copy = args.out.join("keys").join("log.vkey");
        let copied =
            std::fs::create_dir_all(args.out.join("keys")).and_then(|()| std::fs::copy(home.vkey(), &copy));
        copied.and_then(|_| File::open(&copy)?.sync_all()).map_err(|error| Fault::write(&copy, error))?;
    }
    statements(&home, &args.out)?;
    let identity = scan.identity();
    let files = list(&args.out, ui)?;
    let listing = Listing { cluster: identity.cluster, region: identity.region.clone(), last: last.0, files };
    write(&args.out, &listing).map_err(|error| Fault::write(&args.out.join(LISTING), error))?;
    drop(lock);

    let mut report = Report::new("flk snapshot save");
    let detail = format!("{} sealed segments copied and checked, {}", thousands(sealed), bytes(all));
    report.check("segments", State::Ok, detail);
    let left = facts.tip.0 - last.0;
    let state = if stopped { "the node is stopped" } else { "the node runs" };
    let above = match left {
        0 => String::new(),
        left => format!("; {left} that stand above the mark of what is agreed are left out"),
    };
    report.check("records", State::Ok, format!("up to record {last}; {state}{above}"));
    report.check("listing", State::Ok, format!("{} files, {}", listing.files.len(), bytes(listing.bytes())));
    report.data = json!({
        "last": last.0, "left_out": left, "stopped": stopped, "sealed": sealed,
        "files": listing.files.len(), "bytes": listing.bytes(), "region": listing.region,
    });
    let out = args.out.display();
    report.verdict = format!("saved up to record {last}; next: flk snapshot verify {out}");
    Ok(report)
}

/// Copies what says how the log's keys follow each other: with it whoever holds any of them can check the copy.
fn statements(home: &Home, out: &Path) -> Result<(), Fault> {
    let from = home.statements();
    for (step, bytes) in keychain::collect(|name| read_file(&from.join(name), STATEMENT_MAX))? {
        let path = out.join(keychain::name(step.number));
        put(&path, &bytes)?;
        File::open(&path).and_then(|file| file.sync_all()).map_err(|error| Fault::write(&path, error))?;
    }
    Ok(())
}

/// Every file of the snapshot with its digest.
fn list(out: &Path, ui: Ui) -> Result<Vec<Entry>, Fault> {
    let mut names = Vec::new();
    for folder in ["keys", "log"] {
        let path = out.join(folder);
        for entry in std::fs::read_dir(&path).into_iter().flatten() {
            let name = entry.map_err(|error| Fault::read(&path, error))?.file_name();
            names.push(format!("{folder}/{}", name.to_string_lossy()));
        }
    }
    names.retain(|name| belongs(name));
    names.sort();
    let mut progress = ui.progress("digests", 0, Unit::Bytes);
    let mut files = Vec::new();
    for name in names {
        let path = out.join(&name);
        let digest = digest(&path, &mut |bytes| progress.add(bytes));
        let (bytes, digest) = digest.map_err(|error| Fault::read(&path, error))?;
        files.push(Entry { name, bytes, digest });
    }
    progress.finish();
    Ok(files)
}

/// Whether a file is one of a snapshot's.
fn belongs(name: &str) -> bool {
    match name.split_once('/') {
        Some(("log", name)) => [MANIFEST, SPARE].contains(&name) || segment_number(name).is_some(),
        Some(("keys", name)) => name == "log.vkey" || name.ends_with(".tlog-proof"),
        _ => false,
    }
}

/// Removes the segments that were made ahead and not begun.
fn trim(log: &Path) -> Result<(), Fault> {
    let last = Scan::open(log).map_err(|error| unreadable(log, &error))?.last();
    let unused = log.join(segment_name(last + 1));
    match std::fs::remove_file(&unused) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Fault::write(&unused, error)),
        _ => Ok(()),
    }
}

/// Writes the listing, last of all.
fn write(out: &Path, listing: &Listing) -> std::io::Result<()> {
    for folder in ["log", "keys"] {
        if out.join(folder).is_dir() {
            File::open(out.join(folder))?.sync_all()?;
        }
    }
    let new = out.join(format!("{LISTING}.new"));
    let mut file = File::create(&new)?;
    file.write_all(listing.text().as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, out.join(LISTING))?;
    File::open(out)?.sync_all()
}
