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
//! - F8: a full disk is not a failure. Batches are promised their room before they come here (`room`); what nobody asked
//!   room for and does not fit waits, in order.
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
use std::time::Duration;

use engine::log::Lsn;
use openraft::storage::IOFlushed;
use openraft::type_config::alias::OneshotSenderOf;
use openraft_rt::{Instant, OneshotSender};
use segments::{Disk, Fill, Frame, Kind, Log, LogError, Mended, Repair, Ticket};

use crate::codec::Body;
use crate::log_store::Shared;
use crate::repair::Rot;
use crate::types::{Runtime, Types};

/// How long to wait before a full disk is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(50);

/// How long to leave a disk alone that had no room for another segment.
const ASK_PAUSE: Duration = Duration::from_millis(500);

/// Payload bytes in one read, at most, unless a single entry is larger: what one message to a peer holds.
pub(crate) const READ_BYTES_MAX: usize = crate::message::ENTRIES_BYTES_MAX;

/// One frame to be written.
pub(crate) struct Out {
    pub(crate) kind: Kind,
    pub(crate) lsn: Lsn,
    pub(crate) term: u64,
    pub(crate) body: Body,
}

/// A frame read back: lsn, term, payload.
pub(crate) type Stored = (Lsn, u64, Vec<u8>);

/// What the log is asked to do.
pub(crate) enum Command<R: Runtime> {
    /// Write these frames and say when they are durable.
    Write { frames: VecDeque<Out>, done: IOFlushed<Types<R>> },
    /// Read the entries in `[from, to)`: all, or the first few.
    Read { from: Lsn, to: Lsn, done: OneshotSenderOf<Types<R>, io::Result<Vec<Stored>>> },
    /// See whether there is room again.
    Look,
    /// Look through a damaged sealed segment.
    Examine { segment: u64, done: OneshotSenderOf<Types<R>, Result<Box<Repair>, String>> },
    /// Make it whole with these.
    Mend { repair: Box<Repair>, fills: Vec<Fill>, done: OneshotSenderOf<Types<R>, Result<Mended, String>> },
}

/// A batch on its way to the disk.
struct Flight<R: Runtime> {
    ticket: Option<Ticket>,
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
    /// Flights at a time; one more would make the log wait.
    depth: usize,
    /// The end of the log as appended.
    end: Lsn,
    /// When another segment was asked for after a refusal.
    asked: Option<R::Instant>,
    /// The last attempt to make a segment was refused, and it has been said.
    refused: bool,
}

impl<D: Disk, R: Runtime> LogActor<D, R> {
    pub(crate) fn new(log: Log<D>, depth: u16, shared: Arc<Shared<R>>) -> LogActor<D, R> {
        let end = log.tip();
        let mut actor = LogActor {
            log,
            shared,
            taken: VecDeque::new(),
            flights: VecDeque::new(),
            depth: usize::from(depth),
            end,
            asked: None,
            refused: false,
        };
        actor.look();
        actor
    }

    /// Wait until [`LogActor::step`] has something to do; `false` once the group has shut down and
    /// everything it had asked for is done.
    pub async fn ready(&self) -> bool {
        !self.flights.is_empty() || !self.taken.is_empty() || self.shared.mailbox.ready().await
    }

    /// Take what is queued, write it, and complete what has become durable. When the disk is full,
    /// returns how long to wait before the next try.
    pub fn step(&mut self) -> Option<Duration> {
        self.shared.mailbox.drain(&mut self.taken);
        if let Err(error) = self.submit() {
            self.fail(&error);
        }
        // Wait for the disk only when there is nothing better to do.
        let wait = self.flights.len() >= self.depth || self.shared.mailbox.is_empty();
        if let Err(error) = self.collect(wait) {
            self.fail(&error);
        }
        (!self.taken.is_empty()).then_some(FULL_PAUSE)
    }

    /// Frame everything that was taken, up to a full disk, and hand it over as one batch.
    fn submit(&mut self) -> Result<(), LogError> {
        let mut flight = Flight {
            ticket: None,
            end: self.end,
            frames: 0,
            bytes: 0,
            began: R::Instant::now(),
            done: Vec::new(),
        };
        let mut outcome = Ok(());
        while let Some(command) = self.taken.pop_front() {
            let (mut frames, done) = match command {
                Command::Write { frames, done } => (frames, done),
                Command::Read { from, to, done } => {
                    // A receiver that went away no longer needs the answer.
                    let _ = done.send(self.read(from, to));
                    continue;
                }
                Command::Look => continue,
                Command::Examine { segment, done } => {
                    let examined = self.log.examine(segment).map(Box::new);
                    let _ = done.send(examined.map_err(|error| error.to_string()));
                    continue;
                }
                Command::Mend { repair, fills, done } => {
                    let _ = done.send(self.log.mend(*repair, &fills).map_err(|error| error.to_string()));
                    continue;
                }
            };
            outcome = self.append(&mut frames, &mut flight);
            if outcome.is_err() {
                self.taken.push_front(Command::Write { frames, done });
                break;
            }
            flight.done.push(done);
        }
        let full = matches!(outcome, Err(LogError::Full(_)));
        if outcome.is_ok() || full {
            outcome = Ok(());
            if flight.frames > 0 {
                self.log.set_committed(self.shared.progress.committed());
                flight.ticket = self.log.submit().map_err(|error| outcome = Err(error)).ok();
            }
        }
        if flight.frames > 0 {
            // Without a ticket it is about to fail with all the others.
            self.flights.push_back(flight);
        }
        self.look();
        outcome
    }

    /// Says what fits, and asks for more after a refusal, but not all the time: a file system that cannot reserve room
    /// is filled by each attempt.
    fn look(&mut self) {
        let mut room = self.log.room();
        if room.refused.is_some() {
            let now = R::Instant::now();
            if self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= ASK_PAUSE) {
                self.asked = Some(now);
                self.log.ask_next();
                room = self.log.room();
            }
        }
        match (&room.refused, self.refused) {
            (Some(why), false) => {
                tracing::warn!(why, left = room.bytes, "no room for another segment of the log")
            }
            (None, true) => tracing::info!("there is room for another segment of the log again"),
            _ => {}
        }
        self.refused = room.refused.is_some();
        self.shared.room.publish(room);
        self.shared.progress.set_sealed(self.log.sealed());
    }

    /// Put `frames` into the open batch; those that do not get in stay.
    fn append(&mut self, frames: &mut VecDeque<Out>, flight: &mut Flight<R>) -> Result<(), LogError> {
        while let Some(Out { kind, lsn, term, body }) = frames.front() {
            self.log.append(Frame { kind: *kind, lsn: *lsn, term: *term, payload: body.bytes() })?;
            match kind {
                Kind::Entry | Kind::Truncate => self.end = *lsn,
                Kind::Purged => self.end = self.end.max(*lsn),
                Kind::Vote => {}
            }
            flight.end = self.end;
            flight.frames += 1;
            flight.bytes += body.bytes().len() as u64;
            frames.pop_front();
        }
        Ok(())
    }

    /// Learn what has become durable, and say so in order.
    fn collect(&mut self, mut wait: bool) -> Result<(), LogError> {
        loop {
            // The log may have waited for batches by itself, so its mark counts, not what it returns now.
            let durable = self.log.durable();
            while self
                .flights
                .front()
                .is_some_and(|flight| flight.ticket.is_some_and(|ticket| ticket <= durable))
            {
                self.land();
            }
            if self.flights.is_empty() {
                // Everybody has been told: the time for what the log put off. One that has failed can still be read.
                return if self.log.has_failed() { Ok(()) } else { self.log.complete(false).map(drop) };
            }
            if self.log.complete(wait)?.is_none() {
                return Ok(());
            }
            wait = false;
        }
    }

    /// The oldest flight is durable.
    fn land(&mut self) {
        let flight = self.flights.pop_front().expect("the caller saw it");
        assert!(!self.shared.progress.failed(), "S3: nothing is acknowledged after a failure");
        let durable = flight.ticket.is_some_and(|ticket| ticket <= self.log.durable());
        assert!(durable, "I6: nothing is acknowledged before its sync");
        let took = R::Instant::now().saturating_duration_since(flight.began);
        self.shared.progress.batch(flight.frames, flight.bytes, took);
        self.shared.durable(flight.end);
        flight.done.into_iter().for_each(|done| done.io_completed(Ok(())));
    }

    /// S3: from here on every request fails, whatever the disk may say later.
    fn fail(&mut self, error: &LogError) {
        self.shared.failed();
        self.shared.mailbox.drain(&mut self.taken);
        let flying = self.flights.drain(..).flat_map(|flight| flight.done);
        flying.for_each(|done| done.io_completed(Err(to_io(error))));
        for command in self.taken.drain(..) {
            match command {
                Command::Write { done, .. } => done.io_completed(Err(to_io(error))),
                Command::Read { done, .. } => drop(done.send(Err(to_io(error)))),
                Command::Look => {}
                Command::Examine { done, .. } => drop(done.send(Err(error.to_string()))),
                Command::Mend { done, .. } => drop(done.send(Err(error.to_string()))),
            }
        }
    }

    /// Entries from `from` on and below `to`: one at least, and no more than [`READ_BYTES_MAX`] or one.
    fn read(&mut self, from: Lsn, to: Lsn) -> io::Result<Vec<Stored>> {
        let (mut out, mut bytes) = (Vec::new(), 0);
        let read = self.log.read(from, &mut |frame| {
            if frame.lsn >= to || (bytes > 0 && bytes + frame.payload.len() > READ_BYTES_MAX) {
                return false;
            }
            bytes += frame.payload.len();
            out.push((frame.lsn, frame.term, frame.payload.to_vec()));
            true
        });
        read.map_err(|error| match error {
            LogError::Corrupt(damage) => {
                let sealed = damage.segment <= self.log.sealed();
                io::Error::other(Rot { segment: damage.segment, sealed, what: damage.to_string() })
            }
            error => to_io(&error),
        })?;
        if out.is_empty() {
            Err(io::Error::other(format!("entry {from} is not in the log")))
        } else {
            Ok(out)
        }
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
            if let Some(pause) = actor.step() {
                std::thread::sleep(pause);
            }
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
