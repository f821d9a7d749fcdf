//! The thread that writes the projections, behind the fold and never in its way.
//!
//! The fold hands over leaves in log order; the thread gathers for a few milliseconds, writes, and publishes a
//! checkpoint once everything under it is there. L1: the fold waits when more than [`BACKLOG`] bytes are
//! unwritten. After a failed write nothing more is written and no snapshot is taken, so the next start makes
//! everything again from the log; answers do not depend on any of it.

use super::snapshot::{self, Marks};
use super::tiles::{Published, Tiles};
use super::worm::{self, Span, Worm};
use crate::metrics::Metrics;
use engine::log::Digest;
use raft::Standing;
use segments::runs::Syncing;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Unwritten bytes above which the fold waits.
const BACKLOG: usize = 64 << 20;
/// How long leaves are gathered before they are written.
const GATHER: Duration = Duration::from_millis(10);
/// How often the files of a checkpoint are written while the log is busy, and how long it must be quiet to write
/// them at once.
const QUIET: Duration = Duration::from_millis(200);

/// Leaves in log order.
#[derive(Default)]
pub struct Leaves {
    /// Index of the first.
    first: u64,
    lines: Vec<u8>,
    /// End of each line, its event time, its hash.
    marks: Vec<(usize, u64, Digest)>,
}

impl Leaves {
    /// Adds the next leaf.
    pub fn push(&mut self, seq: u64, time_ms: u64, leaf: &[u8], hash: Digest) {
        if self.marks.is_empty() {
            self.first = seq;
        }
        assert_eq!(seq, self.first + self.marks.len() as u64, "T1: leaves are handed over in order");
        self.lines.extend_from_slice(leaf);
        self.marks.push((self.lines.len(), time_ms, hash));
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }
}

/// Something to write.
pub enum Work {
    /// Leaves.
    Leaves(Leaves),
    /// A checkpoint, after the leaves under it.
    Publish(Published),
    /// The ledger as it stands after everything before, once its rows are durable.
    Snapshot(Standing, Vec<u8>, Syncing),
}

#[derive(Default)]
struct State {
    work: Vec<Work>,
    bytes: usize,
    busy: bool,
    stop: bool,
    failed: Option<String>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    room: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Handle to the thread.
pub struct Projector {
    shared: Arc<Shared>,
    spans: Arc<RwLock<Vec<Span>>>,
    tiles: Tiles,
    worm_dir: PathBuf,
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
        let shared = Arc::new(Shared { state: Mutex::default(), wake: Condvar::new(), room: Condvar::new() });
        let spans = Arc::new(RwLock::new(spans));
        let mut writer = Writer {
            worm,
            tiles: tiles.clone(),
            spans: spans.clone(),
            snapshot,
            metrics,
            outdated: false,
            written_out: Instant::now(),
        };
        let theirs = shared.clone();
        let thread =
            std::thread::Builder::new().name("flk-projector".into()).spawn(move || writer.run(&theirs))?;
        Ok(Projector { shared, spans, tiles, worm_dir, thread: Some(thread) })
    }

    /// Hands over work in log order; waits when too much is unwritten.
    pub fn hand(&self, work: Work) {
        let size = match &work {
            Work::Leaves(leaves) => leaves.lines.len() + leaves.marks.len() * 48,
            Work::Publish(_) => 4096,
            Work::Snapshot(_, bytes, _) => bytes.len(),
        };
        let mut state = self.shared.lock();
        while state.bytes > BACKLOG && state.failed.is_none() {
            state = self.shared.room.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        if state.failed.is_some() {
            return;
        }
        state.bytes += size;
        state.work.push(work);
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

    /// The tiles.
    pub fn tiles(&self) -> &Tiles {
        &self.tiles
    }

    /// The WORM files, in the order of their leaves.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Leaves `from..to`, read from the WORM files.
    ///
    /// # Errors
    /// When a file cannot be read or the leaves are not written yet.
    pub fn leaves(&self, from: u64, to: u64) -> io::Result<Vec<Vec<u8>>> {
        let spans = self.spans.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let begin = spans.partition_point(|span| span.first + span.count <= from);
        let wanted: Vec<Span> = spans[begin..].iter().take_while(|span| span.first < to).cloned().collect();
        drop(spans);
        let mut out = Vec::new();
        for span in &wanted {
            out.extend(worm::leaves(&self.worm_dir, span, from, to)?);
        }
        if out.len() as u64 == to - from { Ok(out) } else { Err(io::Error::other("not written yet")) }
    }

    /// Waits until everything handed over is written.
    pub fn drain(&self) {
        let mut state = self.shared.lock();
        while (state.busy || !state.work.is_empty()) && state.failed.is_none() {
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
        loop {
            let mut state = shared.lock();
            while state.work.is_empty() {
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
                    self.check(&mut state, result);
                }
            }
            state.busy = true;
            let urgent = state.stop || state.bytes > BACKLOG / 8;
            drop(state);
            if !urgent {
                #[allow(clippy::disallowed_methods)] // this thread serves nobody
                std::thread::sleep(GATHER);
            }
            let work = {
                let mut state = shared.lock();
                state.bytes = 0;
                std::mem::take(&mut state.work)
            };
            let result = work
                .into_iter()
                .try_for_each(|work| self.write(work))
                .and_then(|()| self.flush())
                .and_then(|()| self.write_out(false));
            let mut state = shared.lock();
            state.busy = false;
            self.check(&mut state, result);
            drop(state);
            shared.room.notify_all();
        }
    }

    fn check(&mut self, state: &mut State, result: io::Result<()>) {
        if let Err(error) = result {
            tracing::error!(%error, "projections are no longer written; they are rebuilt at the next start");
            self.metrics.projection_errors.inc();
            self.outdated = false;
            state.failed = Some(error.to_string());
            state.work.clear();
        }
    }

    /// Writes the published checkpoint with its partial tiles, but not for every checkpoint of a busy log.
    fn write_out(&mut self, quiet: bool) -> io::Result<()> {
        if self.outdated && (quiet || self.written_out.elapsed() >= QUIET) {
            self.outdated = false;
            self.written_out = Instant::now();
            self.tiles.write_out()?;
        }
        Ok(())
    }

    fn write(&mut self, work: Work) -> io::Result<()> {
        match work {
            Work::Leaves(leaves) => self.leaves(&leaves),
            Work::Publish(published) => {
                // Readers of the checkpoint may ask for every leaf under it.
                self.flush()?;
                self.metrics.checkpoint_size.set(i64::try_from(published.size).unwrap_or(i64::MAX));
                self.tiles.publish(published);
                self.outdated = true;
                Ok(())
            }
            Work::Snapshot(standing, ledger, rows) => {
                self.flush()?;
                self.write_out(true)?;
                self.worm.sync()?;
                rows.wait().map_err(io::Error::other)?;
                let marks = Marks {
                    worm: self.worm.span(),
                    edge: self.tiles.edge(),
                    published: self.tiles.published(),
                };
                snapshot::write(&self.snapshot, &standing, ledger, marks)?;
                self.metrics.snapshot_lsn.set(i64::try_from(standing.lsn.0).unwrap_or(i64::MAX));
                Ok(())
            }
        }
    }

    fn leaves(&mut self, leaves: &Leaves) -> io::Result<()> {
        let mut from = 0;
        let mut hashes = Vec::with_capacity(leaves.marks.len());
        for (n, (end, time_ms, hash)) in leaves.marks.iter().enumerate() {
            let line = &leaves.lines[from..*end];
            from = *end;
            if let Some(closed) = self.worm.append(leaves.first + n as u64, *time_ms, line, hash)? {
                self.metrics.worm_files.inc();
                self.note(closed);
            }
            hashes.push(*hash);
        }
        self.metrics.worm_entries.inc_by(leaves.marks.len() as u64);
        self.metrics.worm_bytes.inc_by((leaves.lines.len() + leaves.marks.len()) as u64);
        self.tiles.append(&hashes)
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
