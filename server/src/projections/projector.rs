//! The thread that writes the projections, behind the fold and never in its way.
//!
//! The fold hands over leaves in log order; the thread gathers for a few milliseconds, writes, and publishes a
//! checkpoint once everything under it is there. L1: the fold waits when more than [`BACKLOG`] bytes are
//! unwritten.
//!
//! A full disk is waited for: what could not be written is kept and tried again, readers see what they saw, and when half
//! of the backlog is used up the node refuses submissions ([`Projector::stalled`]). After any other failed write nothing
//! more is written and no snapshot is taken, so the next start makes everything again from the log; answers do not
//! depend on any of it.

use super::is_full;
use super::lines::{self, Lines};
use super::snapshot::{self, Marks};
use super::tiles::Tiles;
use super::work::{Leaves, Work};
use super::worm::{Span, Worm};
use crate::metrics::Metrics;
use engine::ledger::TableError;
use engine::log::{Digest, Lsn};
use engine::tree::tiles::{Tile, bundle_push};
use raft::Standing;
use segments::runs::Syncing;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Unwritten bytes above which the fold waits.
const BACKLOG: usize = 64 << 20;
/// How long leaves are gathered before they are written.
const GATHER: Duration = Duration::from_millis(10);
/// How long it must be quiet to write the files of a checkpoint at once.
const QUIET: Duration = Duration::from_millis(200);
/// How often they are written while the log is busy. Each time a few files take the place of others, and file systems are
/// slow to use again what was removed a moment ago.
const BUSY: Duration = Duration::from_secs(1);
/// How long to wait before a full disk is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(500);

#[derive(Default)]
struct State {
    work: VecDeque<Work>,
    /// Of everything that is not written, also what the thread holds.
    bytes: usize,
    busy: bool,
    stop: bool,
    /// Why nothing can be written now; what is unwritten is kept.
    paused: Option<String>,
    /// Why nothing is written any more.
    failed: Option<String>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    room: Condvar,
    stalled: AtomicBool,
}

impl Shared {
    /// To be called whenever one of the two may have changed.
    fn note_stall(&self, state: &State) {
        let stalled = state.paused.is_some() && state.bytes > BACKLOG / 2;
        self.stalled.store(stalled, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Handle to the thread.
pub struct Projector {
    shared: Arc<Shared>,
    spans: Arc<RwLock<Vec<Span>>>,
    tiles: Tiles,
    lines: Lines,
    thread: Option<JoinHandle<()>>,
}

struct Writer {
    worm: Worm,
    tiles: Tiles,
    spans: Arc<RwLock<Vec<Span>>>,
    snapshot: PathBuf,
    metrics: Arc<Metrics>,
    /// A checkpoint is published that stands on no disk yet.
    outdated: bool,
    written_out: Instant,
    /// Leaves of the oldest work that the audit files have taken.
    taken: usize,
}

impl Projector {
    /// Starts the thread. `spans` are the WORM files there are, the open one last.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn start(
        worm: Worm,
        worm_dir: PathBuf,
        spans: Vec<Span>,
        tiles: Tiles,
        snapshot: PathBuf,
        metrics: Arc<Metrics>,
    ) -> io::Result<Projector> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            room: Condvar::new(),
            stalled: AtomicBool::new(false),
        });
        let spans = Arc::new(RwLock::new(spans));
        let mut writer = Writer {
            worm,
            tiles: tiles.clone(),
            spans: spans.clone(),
            snapshot,
            metrics,
            outdated: false,
            written_out: Instant::now(),
            taken: 0,
        };
        let theirs = shared.clone();
        let thread =
            std::thread::Builder::new().name("flk-projector".into()).spawn(move || writer.run(&theirs))?;
        Ok(Projector { shared, spans, tiles, lines: Lines::of(worm_dir), thread: Some(thread) })
    }

    /// Hands over work in log order; waits when too much is unwritten.
    pub fn hand(&self, work: Work) {
        let size = work.size();
        let mut state = self.shared.lock();
        while state.bytes > BACKLOG && state.failed.is_none() && state.paused.is_none() {
            state = self.shared.room.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        if state.bytes > BACKLOG
            && let Some(why) = state.paused.take()
        {
            // Only a replay at the start comes here; it must end, and the files can be made again.
            tracing::error!(why, "too much waits for room: projections are rebuilt at the next start");
            state.failed = Some(why);
        }
        if state.failed.is_some() {
            return;
        }
        state.bytes += size;
        state.work.push_back(work);
        self.shared.note_stall(&state);
        let asleep = state.work.len() == 1 && !state.busy;
        drop(state);
        if asleep {
            self.shared.wake.notify_one();
        }
    }

    /// Why nothing is written any more, if so.
    pub fn failed(&self) -> Option<String> {
        self.shared.lock().failed.clone()
    }

    /// Why nothing can be written for now, if so.
    pub fn paused(&self) -> Option<String> {
        self.shared.lock().paused.clone()
    }

    /// Whether so much waits for room on the disk that nothing may be added.
    pub fn stalled(&self) -> bool {
        self.shared.stalled.load(Ordering::Relaxed)
    }

    /// The tiles.
    pub fn tiles(&self) -> &Tiles {
        &self.tiles
    }

    /// The WORM files, in the order of their leaves.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Leaves in the WORM files so far.
    pub fn written(&self) -> u64 {
        let spans = self.spans.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        spans.last().map_or(0, |span| span.first + span.count)
    }

    /// Leaves `from..to` from the WORM files, without their newlines.
    ///
    /// # Errors
    /// When they are not written yet, or a file cannot be read.
    pub fn leaves(&self, from: u64, to: u64) -> io::Result<Vec<Vec<u8>>> {
        let mut out = Vec::new();
        self.each_leaf(from, to, |leaf| out.push(leaf.to_vec()))?;
        Ok(out)
    }

    /// The bundle of this tile's entries (C2SP tlog-tiles).
    ///
    /// # Errors
    /// As [`leaves`](Projector::leaves).
    pub fn bundle(&self, tile: Tile) -> io::Result<Vec<u8>> {
        let from = tile.first();
        let mut bundle = Vec::new();
        self.each_leaf(from, from + u64::from(tile.width), |leaf| bundle_push(&mut bundle, leaf))?;
        Ok(bundle)
    }

    fn each_leaf(&self, from: u64, to: u64, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let spans = self.spans.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let begin = spans.partition_point(|span| span.first + span.count <= from);
        let wanted: Vec<Span> = spans[begin..].iter().take_while(|span| span.first < to).cloned().collect();
        drop(spans);
        if wanted.last().map_or(from, |last| last.first + last.count) < to {
            return Err(io::Error::other("not written yet"));
        }
        for span in &wanted {
            self.lines.each(span, from, to, &mut take)?;
        }
        Ok(())
    }

    /// What reads the leaves of records `from..=to` that are written now from the WORM files.
    pub fn leaves_of(
        &self,
        from: Lsn,
        to: Lsn,
    ) -> impl FnOnce() -> io::Result<Vec<Vec<u8>>> + Send + 'static + use<> {
        let (dir, spans) = (self.lines.dir().to_owned(), self.spans());
        move || lines::of_records(&dir, &spans, from, to)
    }

    /// Waits until everything handed over is written, or cannot be.
    pub fn drain(&self) {
        let mut state = self.shared.lock();
        while (state.busy || !state.work.is_empty()) && state.failed.is_none() && state.paused.is_none() {
            self.shared.wake.notify_one();
            let (next, _) =
                self.shared.room.wait_timeout(state, GATHER).unwrap_or_else(|poisoned| poisoned.into_inner());
            state = next;
        }
    }
}

impl Drop for Projector {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

impl Writer {
    fn run(&mut self, shared: &Shared) {
        let mut todo = VecDeque::new();
        loop {
            let mut state = shared.lock();
            while state.work.is_empty() && todo.is_empty() {
                if state.stop {
                    return;
                }
                let (next, quiet) =
                    shared.wake.wait_timeout(state, QUIET).unwrap_or_else(|poisoned| poisoned.into_inner());
                state = next;
                if quiet.timed_out() && state.work.is_empty() && self.outdated {
                    drop(state);
                    let result = self.write_out(true);
                    state = shared.lock();
                    self.check(shared, &mut state, result);
                    if state.paused.is_some() {
                        break;
                    }
                }
            }
            if state.paused.is_some() {
                if state.stop {
                    return;
                }
                let waited = shared.wake.wait_timeout(state, FULL_PAUSE);
                state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
            }
            state.busy = true;
            let urgent = state.stop || state.paused.is_some() || state.bytes > BACKLOG / 8;
            drop(state);
            if !urgent {
                #[allow(clippy::disallowed_methods)] // this thread serves nobody
                std::thread::sleep(GATHER);
            }
            todo.append(&mut shared.lock().work);
            let (result, done) = self.write_all(&mut todo);
            let mut state = shared.lock();
            state.busy = false;
            state.bytes -= done;
            self.check(shared, &mut state, result);
            if state.failed.is_some() {
                todo.clear();
            }
            drop(state);
            shared.room.notify_all();
        }
    }

    /// Does what is to do, oldest first, and says how many bytes of it are done. What is left is to be done again.
    fn write_all(&mut self, todo: &mut VecDeque<Work>) -> (io::Result<()>, usize) {
        let mut done = 0;
        while let Some(work) = todo.pop_front() {
            let size = work.size();
            match self.write(work) {
                Ok(()) => done += size,
                Err((error, left)) => {
                    match left {
                        Some(left) => todo.push_front(left),
                        None => done += size,
                    }
                    return (Err(error), done);
                }
            }
        }
        (self.flush().and_then(|()| self.write_out(false)), done)
    }

    fn check(&mut self, shared: &Shared, state: &mut State, result: io::Result<()>) {
        match result {
            Ok(()) => {
                if state.paused.take().is_some() {
                    tracing::info!("projections are written again");
                }
            }
            // The fold may have given up in the meantime.
            Err(_) if state.failed.is_some() => {}
            Err(error) if is_full(&error) => {
                if state.paused.is_none() {
                    tracing::warn!(%error, "projections wait for room on the disk");
                    self.metrics.projection_errors.inc();
                }
                state.paused = Some(error.to_string());
            }
            Err(error) => {
                tracing::error!(%error, "projections are no longer written; they are rebuilt at the next start");
                self.metrics.projection_errors.inc();
                state.failed = Some(error.to_string());
            }
        }
        if state.failed.is_some() {
            self.outdated = false;
            state.paused = None;
            state.bytes = 0;
            state.work.clear();
        }
        self.metrics.projections_paused.set(i64::from(state.paused.is_some()));
        shared.note_stall(state);
    }

    /// Writes the published checkpoint with its partial tiles, but not for every checkpoint of a busy log.
    fn write_out(&mut self, quiet: bool) -> io::Result<()> {
        if self.outdated && (quiet || self.written_out.elapsed() >= BUSY) {
            self.tiles.write_out()?;
            self.outdated = false;
            self.written_out = Instant::now();
        }
        Ok(())
    }

    /// Does one piece of work. With an error comes back what is to be tried again.
    fn write(&mut self, work: Work) -> Result<(), (io::Error, Option<Work>)> {
        match work {
            Work::Leaves(leaves) => self.leaves(&leaves).map_err(|error| (error, Some(Work::Leaves(leaves)))),
            Work::Publish(published) => {
                // Readers of the checkpoint may ask for every leaf under it.
                if let Err(error) = self.flush() {
                    return Err((error, Some(Work::Publish(published))));
                }
                self.metrics.checkpoint_size.set(i64::try_from(published.size).unwrap_or(i64::MAX));
                self.tiles.publish(published);
                self.outdated = true;
                Ok(())
            }
            Work::Statement(statement) => match self.tiles.write_statement(&statement) {
                Err(error) if is_full(&error) => Err((error, Some(Work::Statement(statement)))),
                Err(error) => {
                    // It comes again with the next start, and stands in the ledger all the while.
                    tracing::warn!(%error, number = statement.number, "no statement about the log's keys");
                    Ok(())
                }
                Ok(()) => Ok(()),
            },
            Work::Keys(path, text) => {
                super::replace(&path, text.as_bytes()).map_err(|error| (error, Some(Work::Keys(path, text))))
            }
            Work::Snapshot(standing, ledger, rows) => match self.snapshot(&standing, ledger, rows) {
                Err(error) if is_full(&error) => {
                    // The one before it is good, and the next one will be better.
                    tracing::warn!(%error, "no room for a snapshot");
                    Ok(())
                }
                result => result.map_err(|error| (error, None)),
            },
        }
    }

    fn snapshot(&mut self, standing: &Standing, ledger: Vec<u8>, rows: Syncing) -> io::Result<()> {
        self.flush()?;
        self.write_out(true)?;
        self.worm.sync()?;
        rows.wait().map_err(|error| match error {
            TableError::Full { .. } => io::Error::new(io::ErrorKind::StorageFull, error),
            error => io::Error::other(error),
        })?;
        let marks =
            Marks { worm: self.worm.span(), edge: self.tiles.edge(), published: self.tiles.published() };
        snapshot::write(&self.snapshot, standing, ledger, marks)?;
        self.metrics.snapshot_lsn.set(i64::try_from(standing.lsn.0).unwrap_or(i64::MAX));
        Ok(())
    }

    fn leaves(&mut self, leaves: &Leaves) -> io::Result<()> {
        for n in self.taken..leaves.marks.len() {
            let (end, time_ms, hash) = &leaves.marks[n];
            let from = n.checked_sub(1).map_or(0, |before| leaves.marks[before].0);
            let line = &leaves.lines[from..*end];
            if let Some(closed) = self.worm.append(leaves.first + n as u64, *time_ms, line, hash)? {
                self.metrics.worm_files.inc();
                self.note(closed);
            }
            self.taken = n + 1;
        }
        let hashes: Vec<Digest> = leaves.marks.iter().map(|(_, _, hash)| *hash).collect();
        self.tiles.append(leaves.first, &hashes)?;
        self.taken = 0;
        self.metrics.worm_entries.inc_by(leaves.marks.len() as u64);
        self.metrics.worm_bytes.inc_by((leaves.lines.len() + leaves.marks.len()) as u64);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.worm.flush()?;
        if let Some(span) = self.worm.span() {
            self.note(span);
        }
        Ok(())
    }

    /// Keeps the list of files up to date: the last of them may have grown.
    fn note(&self, span: Span) {
        let mut spans = self.spans.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        match spans.last_mut() {
            Some(last) if last.first == span.first => *last = span,
            _ => spans.push(span),
        }
    }
}
