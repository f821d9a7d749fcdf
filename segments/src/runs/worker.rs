//! The thread that builds and merges runs and writes the manifest, and how the table talks to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use engine::ledger::TableError;

use super::build::Builder;
use super::manifest::{Manifest, RunEntry};
use super::rows::{Files, GROUP, whole};
use super::run::Run;
use super::{TableOptions, disk};

/// The runs a lookup asks.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// Neighbours, oldest first.
    pub(super) runs: Vec<Arc<Run>>,
    /// Rows below this are found through them.
    pub(super) demoted: u64,
}

/// What the table asks for.
pub(super) enum Job {
    Demote { upto: u64, files: Files },
    Expire { row: u64 },
    Sync { rows: u64, tail: Vec<u8>, files: Files, reply: Sender<Result<(), TableError>> },
    Rewind { rows: u64, tail: Vec<u8>, reply: Sender<Result<(), TableError>> },
    Settle { reply: Sender<Result<(), TableError>> },
}

/// Jobs that may wait. A ledger asks for one demotion at a time and a snapshot now and then; when the disk is
/// so slow that this many wait, asking for another is an error rather than a queue without end.
const QUEUE: usize = 64;

/// A merge writes at most this many keys: about a gigabyte.
const MERGE_KEYS_MAX: u64 = 64 << 20;

/// What the thread publishes.
#[derive(Debug, Default)]
struct Board {
    version: AtomicU64,
    /// Something did not read back as written: the manifest is gone and must not come back.
    doubted: AtomicBool,
    state: Mutex<(Arc<Runs>, Option<TableError>)>,
}

/// The table's side.
#[derive(Debug)]
pub(super) struct Office {
    board: Arc<Board>,
    desk: Desk,
}

#[derive(Debug)]
enum Desk {
    /// A thread works.
    Thread(Option<SyncSender<Job>>, Option<JoinHandle<()>>),
    /// Whoever asks works.
    Inline(Mutex<Worker>),
}

impl Office {
    pub(super) fn open(
        dir: &Path,
        options: &TableOptions,
        manifest: Manifest,
        runs: &Arc<Runs>,
    ) -> Result<Office, TableError> {
        let board = Arc::new(Board::default());
        board.state.lock().unwrap_or_else(PoisonError::into_inner).0 = Arc::clone(runs);
        let mut worker = Worker {
            dir: dir.to_path_buf(),
            manifest,
            runs: runs.runs.clone(),
            board: Arc::clone(&board),
            failed: false,
        };
        worker.remove_strangers()?;
        let desk = if options.background {
            let (jobs, inbox) = sync_channel(QUEUE);
            #[expect(
                clippy::disallowed_methods,
                reason = "merges runs beside the fold; joined when the office closes"
            )]
            let thread =
                std::thread::Builder::new().name("flk-runs".into()).spawn(move || worker.work(&inbox));
            Desk::Thread(Some(jobs), Some(thread.map_err(|error| disk("start thread for runs", &error))?))
        } else {
            Desk::Inline(Mutex::new(worker))
        };
        Ok(Office { board, desk })
    }

    pub(super) fn send(&self, job: Job) -> Result<(), TableError> {
        match &self.desk {
            Desk::Thread(jobs, _) => match jobs.as_ref().map(|jobs| jobs.try_send(job)) {
                Some(Ok(())) => Ok(()),
                Some(Err(TrySendError::Full(_))) => {
                    let error = format!("{QUEUE} jobs wait already");
                    Err(TableError::Disk { operation: "queue work on runs", error })
                }
                Some(Err(TrySendError::Disconnected(_))) | None => Err(TableError::Poisoned),
            },
            Desk::Inline(worker) => {
                worker.lock().unwrap_or_else(PoisonError::into_inner).handle(job);
                Ok(())
            }
        }
    }

    /// Lets the next opening find nothing: what is here cannot be trusted.
    pub(super) fn doubt(&self, dir: &Path) {
        self.board.doubted.store(true, Ordering::Release);
        Manifest::remove(dir);
    }

    /// The runs, if they have changed since version `seen`.
    pub(super) fn newer(&self, seen: u64) -> Result<Option<(u64, Arc<Runs>)>, TableError> {
        let version = self.board.version.load(Ordering::Acquire);
        if version == seen {
            return Ok(None);
        }
        let state = self.board.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &state.1 {
            Some(error) => Err(error.clone()),
            None => Ok(Some((version, Arc::clone(&state.0)))),
        }
    }
}

impl Drop for Office {
    /// Waits for the thread, so that nobody writes to the directory afterwards.
    fn drop(&mut self) {
        if let Desk::Thread(jobs, thread) = &mut self.desk {
            jobs.take();
            if let Some(thread) = thread.take() {
                let _ = thread.join();
            }
        }
    }
}

#[derive(Debug)]
struct Worker {
    dir: PathBuf,
    manifest: Manifest,
    runs: Vec<Arc<Run>>,
    board: Arc<Board>,
    failed: bool,
}

impl Worker {
    fn work(mut self, inbox: &Receiver<Job>) {
        while let Ok(job) = inbox.recv() {
            self.handle(job);
        }
    }

    /// Does one job. After the first error but a full disk none is done any more.
    fn handle(&mut self, job: Job) {
        match job {
            Job::Demote { upto, files } => {
                let done = self.demote(upto, &files);
                self.note(done);
            }
            Job::Expire { row } => self.manifest.expired = self.manifest.expired.max(row),
            Job::Sync { rows, tail, files, reply } => {
                self.answer(&reply, |worker| worker.sync(rows, tail, &files))
            }
            Job::Rewind { rows, tail, reply } => self.answer(&reply, |worker| worker.rewind(rows, tail)),
            Job::Settle { reply } => self.answer(&reply, |_| Ok(())),
        }
    }

    fn answer(
        &mut self,
        reply: &Sender<Result<(), TableError>>,
        work: impl FnOnce(&mut Worker) -> Result<(), TableError>,
    ) {
        let done = if self.failed { Err(TableError::Poisoned) } else { work(self) };
        self.note(done.clone());
        // Nobody may be waiting any more.
        let _ = reply.send(done);
    }

    fn note(&mut self, done: Result<(), TableError>) {
        let Err(error) = done else { return };
        if matches!(error, TableError::Full { .. }) && !self.failed {
            return self.step_back();
        }
        if !self.failed {
            self.failed = true;
            self.board.state.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(error);
            self.board.version.fetch_add(1, Ordering::Release);
        }
    }

    /// After a full disk stopped some work: what was committed last holds, and what was begun gives its room back. The
    /// next demotion does what this one left.
    fn step_back(&mut self) {
        let last = Arc::clone(&self.board.state.lock().unwrap_or_else(PoisonError::into_inner).0);
        self.runs.clone_from(&last.runs);
        self.manifest.demoted = last.demoted;
        self.manifest.runs = self.runs.iter().map(|run| run.entry).collect();
        let removed = self.remove_strangers();
        self.note(removed);
    }

    fn demote(&mut self, upto: u64, files: &Files) -> Result<(), TableError> {
        let from = self.manifest.demoted;
        if self.failed || upto <= from {
            return Ok(());
        }
        assert_eq!(upto % GROUP, 0, "the table demotes whole groups");
        let mut keys = Vec::with_capacity((upto - from) as usize);
        let first = from.max(self.manifest.expired.min(upto));
        files.each(first..upto, &mut |row, first| {
            keys.push((first.tag(), row));
        })?;
        keys.sort_unstable();
        // The rows a run speaks about are durable before it is.
        self.sync_rows(upto, Vec::new(), files)?;
        let mut run = Builder::new(&self.dir, self.manifest.id, from, upto, keys.len() as u64)?;
        keys.iter().try_for_each(|&(tag, row)| run.push(tag, row))?;
        self.runs.push(Arc::new(run.finish()?));
        self.manifest.demoted = upto;
        self.commit()?;
        while self.drop_expired()? || self.merge_last()? {}
        Ok(())
    }

    /// Merges the two newest runs if the newer is more than half as large as the older.
    fn merge_last(&mut self) -> Result<bool, TableError> {
        let [.., older, newer] = &self.runs[..] else { return Ok(false) };
        if newer.keys() * 2 <= older.keys() || older.keys() + newer.keys() > MERGE_KEYS_MAX {
            return Ok(false);
        }
        let merged = merge(&self.dir, self.manifest.id, [older, newer], self.manifest.expired)?;
        self.runs.truncate(self.runs.len() - 2);
        self.runs.push(Arc::new(merged));
        self.commit()?;
        Ok(true)
    }

    /// Drops the oldest run once nobody will ask for any of its keys.
    fn drop_expired(&mut self) -> Result<bool, TableError> {
        let Some(oldest) = self.runs.first() else { return Ok(false) };
        if oldest.entry.to > self.manifest.expired {
            return Ok(false);
        }
        self.runs.remove(0);
        self.commit()?;
        Ok(true)
    }

    fn sync(&mut self, rows: u64, tail: Vec<u8>, files: &Files) -> Result<(), TableError> {
        self.sync_rows(rows, tail, files)?;
        self.commit()
    }

    /// Makes rows durable in their files; those of the unfinished group go into the manifest.
    fn sync_rows(&mut self, rows: u64, tail: Vec<u8>, files: &Files) -> Result<(), TableError> {
        if rows <= self.manifest.rows {
            return Ok(());
        }
        files.sync(self.manifest.rows)?;
        self.manifest.rows = rows;
        self.manifest.tail = tail;
        Ok(())
    }

    /// Forgets rows at and beyond `rows` and the runs that speak of them.
    fn rewind(&mut self, rows: u64, tail: Vec<u8>) -> Result<(), TableError> {
        if rows < self.manifest.rows {
            self.manifest.rows = rows;
            self.manifest.tail = tail;
        }
        while self.runs.last().is_some_and(|run| run.entry.to > rows) {
            self.runs.pop();
        }
        if self.manifest.demoted > rows {
            // Without runs nothing is covered but what has expired.
            let covered = self.runs.last().map(|run| run.entry.to);
            self.manifest.demoted = covered.unwrap_or(whole(self.manifest.expired.min(rows)));
        }
        self.commit()
    }

    /// Makes the manifest say what is, shows the table the runs, and only then removes files it no longer
    /// names.
    fn commit(&mut self) -> Result<(), TableError> {
        if self.board.doubted.load(Ordering::Acquire) {
            return Err(TableError::Poisoned);
        }
        self.manifest.runs = self.runs.iter().map(|run| run.entry).collect();
        self.manifest.write(&self.dir)?;
        let runs = Arc::new(Runs { runs: self.runs.clone(), demoted: self.manifest.demoted });
        self.board.state.lock().unwrap_or_else(PoisonError::into_inner).0 = runs;
        self.board.version.fetch_add(1, Ordering::Release);
        self.remove_strangers()
    }

    /// Removes runs and drafts that the manifest does not name.
    fn remove_strangers(&mut self) -> Result<(), TableError> {
        let named: Vec<String> = self.manifest.runs.iter().map(RunEntry::name).collect();
        for entry in fs::read_dir(&self.dir).map_err(|error| disk("list table directory", &error))? {
            let entry = entry.map_err(|error| disk("list table directory", &error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = name.starts_with("run-") || name.starts_with("manifest.");
            if ours && !named.contains(&name) {
                fs::remove_file(entry.path()).map_err(|error| disk("remove old run", &error))?;
            }
        }
        Ok(())
    }
}

/// Merges neighbours, without the keys that have expired.
fn merge(dir: &Path, id: u64, [older, newer]: [&Arc<Run>; 2], expired: u64) -> Result<Run, TableError> {
    let most = older.keys() + newer.keys();
    let mut merged = Builder::new(dir, id, older.entry.from, newer.entry.to, most)?;
    let (mut left, mut right) = (older.entries(), newer.entries());
    let (mut a, mut b) = (left.next()?, right.next()?);
    loop {
        let entry = match (a, b) {
            (Some(x), Some(y)) if x <= y => core::mem::replace(&mut a, left.next()?),
            (_, Some(_)) => core::mem::replace(&mut b, right.next()?),
            (Some(_), None) => core::mem::replace(&mut a, left.next()?),
            (None, None) => return merged.finish(),
        };
        if let Some((tag, row)) = entry.filter(|&(_, row)| row >= expired) {
            merged.push(tag, row)?;
        }
    }
}
