//! The one writer of the log.
//!
//! A [`LogActor`] owns [`segments::Log`] and with it the disk. It takes everything that is queued,
//! puts it into one batch, writes once, syncs once, and then completes every callback in the order
//! in which the requests came. While a batch is in flight and more is queued, the next batch is
//! handed to the disk too. There is no commit timer: an idle disk is given whatever there is.
//!
//! - I6, S1: nothing is completed before the log said that it is durable.
//! - S3 (once-failed-stays-failed): after the first failed write or sync every request fails, also
//!   those that were queued before it, until the process has been restarted and has recovered.
//!
//! [`LogActor::step`] holds all of the logic and knows no thread. [`spawn_thread`] runs it on a
//! thread of its own; the simulator runs it as a task.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, Thread};

use engine::log::Lsn;
use openraft::storage::IOFlushed;
use openraft::type_config::alias::OneshotSenderOf;
use openraft_rt::{Instant, OneshotSender};
use segments::{Disk, Frame, Log, LogError, Ticket};

use crate::codec::Body;
use crate::log_store::Shared;
use crate::types::{Runtime, Types};

/// Frame kinds in the log. Pinned: they stand on disk.
pub mod kind {
    /// One Raft entry; lsn and term are the entry's.
    pub const ENTRY: u8 = 1;
    /// A vote.
    pub const VOTE: u8 = 2;
    /// Everything after the frame's lsn is void.
    pub const TRUNCATE: u8 = 3;
    /// Raft no longer reads at or below this log id. The bytes stay.
    pub const PURGED: u8 = 4;
    /// The highest log id known to be committed when the frame was written.
    pub const COMMITTED: u8 = 5;
}

/// Batches handed to the disk and not yet complete, at most. Two keep the disk busy while the
/// next batch is being framed; more only split the load into smaller syncs.
const FLIGHTS_MAX: usize = 2;

/// Payload bytes in one read, at most, unless a single entry is larger.
pub(crate) const READ_BYTES_MAX: usize = 8 << 20;

/// One frame to be written.
pub(crate) struct Out {
    pub(crate) kind: u8,
    pub(crate) lsn: Lsn,
    pub(crate) term: u64,
    pub(crate) body: Body,
}

/// A frame read back: lsn, term, payload.
pub(crate) type Stored = (Lsn, u64, Vec<u8>);

/// What the log is asked to do.
pub(crate) enum Command<R: Runtime> {
    /// Write these frames and say when they are durable.
    Write { frames: Vec<Out>, done: IOFlushed<Types<R>> },
    /// Read the entries in `[from, to)`: all, or the first few.
    Read { from: Lsn, to: Lsn, done: OneshotSenderOf<Types<R>, io::Result<Vec<Stored>>> },
}

/// A batch on its way to the disk.
struct Flight<R: Runtime> {
    ticket: Ticket,
    /// The end of the log once it is durable.
    end: Lsn,
    frames: u64,
    bytes: u64,
    began: R::Instant,
    done: Vec<IOFlushed<Types<R>>>,
}

/// Owner of the log. See the module.
pub struct LogActor<D: Disk, R: Runtime> {
    log: Log<D>,
    shared: Arc<Shared<R>>,
    taken: VecDeque<Command<R>>,
    flights: VecDeque<Flight<R>>,
    /// The end of the log as appended.
    end: Lsn,
}

impl<D: Disk, R: Runtime> LogActor<D, R> {
    pub(crate) fn new(log: Log<D>, end: Lsn, shared: Arc<Shared<R>>) -> LogActor<D, R> {
        LogActor { log, shared, taken: VecDeque::new(), flights: VecDeque::new(), end }
    }

    /// Wait until [`LogActor::step`] has something to do; `false` once the group has shut down and
    /// everything it had asked for is done.
    pub async fn ready(&self) -> bool {
        !self.flights.is_empty() || self.shared.mailbox.ready().await
    }

    /// Take what is queued, write it, and complete what has become durable.
    pub fn step(&mut self) {
        self.shared.mailbox.drain(&mut self.taken);
        if let Err(error) = self.submit() {
            self.fail(&error);
        }
        // Wait for the disk only when there is nothing better to do.
        let mut wait = self.flights.len() >= FLIGHTS_MAX || self.shared.mailbox.is_empty();
        while !self.flights.is_empty() {
            match self.log.complete(wait) {
                Ok(Some(ticket)) => self.land(ticket),
                Ok(None) => break,
                Err(error) => self.fail(&error),
            }
            wait = false;
        }
    }

    /// Frame everything that was taken and hand it to the disk as one batch.
    fn submit(&mut self) -> Result<(), LogError> {
        let began = R::Instant::now();
        let (mut frames, mut bytes, mut done) = (0, 0, Vec::new());
        let mut failed = None;
        while let Some(command) = self.taken.pop_front() {
            match command {
                Command::Read { from, to, done } => {
                    // A receiver that went away no longer needs the answer.
                    let _ = done.send(self.read(from, to));
                }
                Command::Write { frames: outs, done: callback } => {
                    done.push(callback);
                    for out in outs {
                        let body = out.body.bytes();
                        frames += 1;
                        bytes += body.len() as u64;
                        let frame = Frame { kind: out.kind, lsn: out.lsn, term: out.term, payload: body };
                        if let Err(error) = self.log.append(frame) {
                            failed = Some(error);
                            break;
                        }
                        match out.kind {
                            kind::ENTRY | kind::TRUNCATE => self.end = out.lsn,
                            kind::PURGED => self.end = self.end.max(out.lsn),
                            _ => {}
                        }
                    }
                }
            }
            if failed.is_some() {
                break;
            }
        }
        if let Some(error) = failed {
            done.into_iter().for_each(|done| done.io_completed(Err(to_io(&error))));
            return Err(error);
        }
        if done.is_empty() {
            return Ok(());
        }
        match self.log.submit() {
            Ok(ticket) => {
                self.flights.push_back(Flight { ticket, end: self.end, frames, bytes, began, done });
                Ok(())
            }
            Err(error) => {
                done.into_iter().for_each(|done| done.io_completed(Err(to_io(&error))));
                Err(error)
            }
        }
    }

    /// The oldest batch is durable: say so, in order.
    fn land(&mut self, ticket: Ticket) {
        let flight = self.flights.pop_front().expect("a completion without a batch in flight");
        assert!(flight.ticket == ticket, "I6: batches completed out of order");
        let took = R::Instant::now().saturating_duration_since(flight.began);
        self.shared.progress.batch(flight.frames, flight.bytes, took);
        self.shared.durable(flight.end);
        flight.done.into_iter().for_each(|done| done.io_completed(Ok(())));
    }

    /// S3: from here on every request fails, whatever the disk may say later.
    fn fail(&mut self, error: &LogError) {
        self.shared.progress.set_failed();
        self.shared.mailbox.drain(&mut self.taken);
        let flying = self.flights.drain(..).flat_map(|flight| flight.done);
        flying.for_each(|done| done.io_completed(Err(to_io(error))));
        for command in self.taken.drain(..) {
            match command {
                Command::Write { done, .. } => done.io_completed(Err(to_io(error))),
                Command::Read { done, .. } => drop(done.send(Err(to_io(error)))),
            }
        }
    }

    fn read(&mut self, from: Lsn, to: Lsn) -> io::Result<Vec<Stored>> {
        let (mut out, mut bytes, mut lsn) = (Vec::new(), 0, from);
        while lsn < to && (bytes < READ_BYTES_MAX || out.is_empty()) {
            let (term, payload) = self.log.read(lsn).map_err(|error| to_io(&error))?;
            bytes += payload.len();
            out.push((lsn, term, payload));
            lsn = lsn.next();
        }
        Ok(out)
    }
}

fn to_io(error: &LogError) -> io::Error {
    io::Error::other(error.to_string())
}

/// Run `actor` on a thread of its own until the group shuts down.
///
/// The thread asks for a higher priority, because every answer waits for it; where that is not
/// allowed it runs as it is.
pub(crate) fn spawn_thread<D, R>(mut actor: LogActor<D, R>) -> io::Result<JoinHandle<()>>
where
    D: Disk + Send + 'static,
    R: Runtime,
{
    std::thread::Builder::new().name("flk-log".into()).spawn(move || {
        raise_priority();
        while block_on(actor.ready()) {
            actor.step();
        }
    })
}

fn raise_priority() {
    // SAFETY: plain system call on the calling thread, no memory is passed.
    let refused = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -10) } != 0;
    if refused {
        tracing::debug!("the log thread runs at normal priority");
    }
}

/// Run one future on this thread, which parks while it waits.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
