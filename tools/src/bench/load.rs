//! Load over keep-alive HTTP/1.1 connections, cheap enough to share a machine with what it measures.
//!
//! One epoll loop per thread drives its share of the connections. Each connection sends one request, waits for the
//! whole answer, records how long that took, and sends the next (closed loop). With a rate, sends are scheduled
//! ahead and an answer's time counts from when its request was due, so that a stall is not hidden by the requests
//! it kept from being sent.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::answer::{Answer, parse};
use super::epoll::{Epoll, READ, READ_WRITE};

/// Longest answer time recorded, nanoseconds: a minute.
pub const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// Largest answer accepted, bytes.
const ANSWER_MAX: usize = 16 << 20;

/// What is sent: request number `n`, whole, from request line to the last byte of the body. `false` when there is
/// no such request.
pub trait Requests: Sync {
    /// Appends request `n` to `out`.
    fn write(&self, n: u64, out: &mut Vec<u8>) -> bool;
    /// How many records request `n` carries.
    fn records(&self, n: u64) -> u64;
    /// How many records of an answer count as recorded; the default takes a 2xx as all of them.
    fn recorded(&self, n: u64, answer: &Answer<'_>) -> u64 {
        if (200..300).contains(&answer.status) { self.records(n) } else { 0 }
    }
}

/// How much load, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Where to connect.
    pub to: SocketAddr,
    /// Connections in all.
    pub connections: usize,
    /// Threads that drive them.
    pub threads: usize,
    /// Stop sending after this long.
    pub time: Duration,
    /// Answers in this first stretch are not counted.
    pub warm_up: Duration,
    /// Requests per second over all connections; none: as fast as answers come.
    pub rate: Option<f64>,
}

/// What a second of the run looked like.
#[derive(Clone, Debug)]
pub struct Second {
    /// Records answered.
    pub records: u64,
    /// Answer times, nanoseconds.
    pub latency: Histogram<u64>,
}

/// What came of the load.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Time counted, after the warm-up.
    pub elapsed: Duration,
    /// Requests answered.
    pub requests: u64,
    /// Records answered 2xx.
    pub records: u64,
    /// Records sent that were not.
    pub refused: u64,
    /// Answers that carried `Idempotent-Replayed`.
    pub replayed: u64,
    /// Connections that broke, could not be made, or answered what is not HTTP.
    pub broken: u64,
    /// Answers by status, those that occurred.
    pub statuses: Vec<(u16, u64)>,
    /// Request and body bytes sent.
    pub bytes: u64,
    /// Answer times, nanoseconds.
    pub latency: Histogram<u64>,
    /// The run by seconds.
    pub seconds: Vec<Second>,
    /// Whether there were no more requests before the time was up.
    pub ran_out: bool,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(100, LATENCY_MAX_NS, 3)
        .expect("the bounds are constants that the crate accepts")
}

impl Outcome {
    fn new() -> Outcome {
        Outcome {
            elapsed: Duration::ZERO,
            requests: 0,
            records: 0,
            refused: 0,
            replayed: 0,
            broken: 0,
            statuses: Vec::new(),
            bytes: 0,
            latency: histogram(),
            seconds: Vec::new(),
            ran_out: false,
        }
    }

    /// Records per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.records as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    fn merge(&mut self, other: Outcome) {
        self.requests += other.requests;
        self.records += other.records;
        self.refused += other.refused;
        self.replayed += other.replayed;
        self.broken += other.broken;
        self.bytes += other.bytes;
        self.elapsed = self.elapsed.max(other.elapsed);
        self.ran_out |= other.ran_out;
        for (status, count) in other.statuses {
            self.status(status, count);
        }
        self.latency.add(&other.latency).expect("both histograms have the same bounds");
        for (i, second) in other.seconds.into_iter().enumerate() {
            let mine = self.second(i);
            mine.records += second.records;
            mine.latency.add(&second.latency).expect("both histograms have the same bounds");
        }
    }

    fn status(&mut self, status: u16, count: u64) {
        match self.statuses.binary_search_by_key(&status, |(have, _)| *have) {
            Ok(at) => self.statuses[at].1 += count,
            Err(at) => self.statuses.insert(at, (status, count)),
        }
    }

    fn second(&mut self, at: usize) -> &mut Second {
        while self.seconds.len() <= at {
            self.seconds.push(Second { records: 0, latency: histogram() });
        }
        &mut self.seconds[at]
    }
}

/// Runs the load. `tick` is called about ten times a second with the number of records answered so far.
///
/// # Errors
/// No connection could be made, or the system gives no epoll instance.
pub fn run(load: &Load, requests: &dyn Requests, tick: &mut dyn FnMut(u64)) -> io::Result<Outcome> {
    let next = AtomicU64::new(0);
    let answered = AtomicU64::new(0);
    let threads = load.threads.clamp(1, load.connections.max(1));
    let shared = Shared { load, requests, next: &next, answered: &answered, start: Instant::now() };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let connections =
                    load.connections / threads + usize::from(thread < load.connections % threads);
                let shared = &shared;
                scope.spawn(move || {
                    let mut outcome = drive(shared, connections, thread)?;
                    outcome.elapsed = shared.start.elapsed();
                    Ok::<_, io::Error>(outcome)
                })
            })
            .collect();
        while !workers.iter().all(|worker| worker.is_finished()) {
            std::thread::sleep(Duration::from_millis(100));
            tick(answered.load(Ordering::Relaxed));
        }
        let mut outcome = Outcome::new();
        for worker in workers {
            outcome.merge(worker.join().map_err(|_| io::Error::other("a load thread stopped on a bug"))??);
        }
        outcome.elapsed = outcome.elapsed.min(load.time).saturating_sub(load.warm_up);
        Ok(outcome)
    })
}

struct Shared<'a> {
    load: &'a Load,
    requests: &'a dyn Requests,
    next: &'a AtomicU64,
    answered: &'a AtomicU64,
    start: Instant,
}

struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    sent: usize,
    input: Vec<u8>,
    request: u64,
    due: Instant,
    waiting: bool,
    wants_write: bool,
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

fn drive(shared: &Shared<'_>, count: usize, thread: usize) -> io::Result<Outcome> {
    let mut outcome = Outcome::new();
    let mut epoll = Epoll::new()?;
    let gap =
        shared.load.rate.map(|rate| Duration::from_secs_f64(shared.load.connections as f64 / rate.max(1e-3)));
    let mut connections = Vec::with_capacity(count);
    for slot in 0..count {
        let stream = connect(shared.load.to)?;
        epoll.add(&stream, slot as u64, READ)?;
        // Schedules start spread over one gap, so that a low rate is not sent in bursts.
        let offset =
            gap.map_or(Duration::ZERO, |gap| gap.mul_f64((slot + thread) as f64 / count.max(1) as f64 % 1.0));
        connections.push(Connection {
            stream,
            out: Vec::with_capacity(4096),
            sent: 0,
            input: Vec::with_capacity(4096),
            request: 0,
            due: shared.start + offset,
            waiting: false,
            wants_write: false,
        });
    }
    let end = shared.start + shared.load.time;
    let mut open = true;
    if gap.is_none() {
        for (slot, connection) in connections.iter_mut().enumerate() {
            open = open && begin(shared, &mut epoll, connection, slot, &mut outcome);
        }
    }
    let mut buffer = vec![0; 64 << 10];
    loop {
        let now = Instant::now();
        if now >= end {
            open = false;
        }
        let mut wait = Duration::from_millis(50);
        if let (Some(_), true) = (gap, open) {
            for (slot, connection) in connections.iter_mut().enumerate() {
                if !connection.waiting && connection.due <= now {
                    open = open && begin(shared, &mut epoll, connection, slot, &mut outcome);
                } else if !connection.waiting {
                    wait = wait.min(connection.due - now);
                }
            }
        }
        if connections.iter().all(|connection| !connection.waiting) && (!open || connections.is_empty()) {
            return Ok(outcome);
        }
        if now >= end + Duration::from_secs(10) {
            // What has not been answered ten seconds after the end never will be.
            outcome.broken += connections.iter().filter(|connection| connection.waiting).count() as u64;
            return Ok(outcome);
        }
        for (token, writable) in epoll.wait(wait)? {
            let slot = token as usize;
            let connection = &mut connections[slot];
            if writable && connection.wants_write {
                flush(&mut epoll, connection, slot)?;
            }
            match receive(shared, connection, &mut buffer, &mut outcome) {
                Progress::Waiting => {}
                Progress::Answered => {
                    connection.waiting = false;
                    if let Some(gap) = gap {
                        connection.due += gap;
                    } else if open && Instant::now() < end {
                        open = begin(shared, &mut epoll, connection, slot, &mut outcome);
                    }
                }
                Progress::Broken => {
                    if connection.waiting {
                        outcome.broken += 1;
                    }
                    connection.waiting = false;
                    connection.input.clear();
                    match connect(shared.load.to) {
                        Ok(stream) => {
                            epoll.add(&stream, token, READ)?;
                            connection.stream = stream;
                            if let Some(gap) = gap {
                                connection.due += gap;
                            } else if open {
                                open = begin(shared, &mut epoll, connection, slot, &mut outcome);
                            }
                        }
                        Err(_) => open = false,
                    }
                }
            }
        }
    }
}

/// Sends the next request on an idle connection; `false` when there is none left.
fn begin(
    shared: &Shared<'_>,
    epoll: &mut Epoll,
    connection: &mut Connection,
    slot: usize,
    outcome: &mut Outcome,
) -> bool {
    let n = shared.next.fetch_add(1, Ordering::Relaxed);
    connection.out.clear();
    if !shared.requests.write(n, &mut connection.out) {
        outcome.ran_out = true;
        return false;
    }
    if shared.load.rate.is_none() {
        connection.due = Instant::now();
    }
    connection.request = n;
    connection.sent = 0;
    connection.waiting = true;
    outcome.bytes += connection.out.len() as u64;
    // A failed write shows as a broken connection when it is read.
    let _ = flush(epoll, connection, slot);
    true
}

fn flush(epoll: &mut Epoll, connection: &mut Connection, slot: usize) -> io::Result<()> {
    while connection.sent < connection.out.len() {
        match connection.stream.write(&connection.out[connection.sent..]) {
            Ok(count) => connection.sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if !connection.wants_write {
                    connection.wants_write = true;
                    epoll.modify(&connection.stream, slot as u64, READ_WRITE)?;
                }
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Ok(()),
        }
    }
    if connection.wants_write {
        connection.wants_write = false;
        epoll.modify(&connection.stream, slot as u64, READ)?;
    }
    Ok(())
}

enum Progress {
    Waiting,
    Answered,
    Broken,
}

fn receive(
    shared: &Shared<'_>,
    connection: &mut Connection,
    buffer: &mut [u8],
    outcome: &mut Outcome,
) -> Progress {
    loop {
        match connection.stream.read(buffer) {
            Ok(0) => return Progress::Broken,
            Ok(count) => {
                connection.input.extend_from_slice(&buffer[..count]);
                if count < buffer.len() {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Progress::Broken,
        }
    }
    if connection.input.is_empty() {
        return Progress::Waiting;
    }
    match parse(&connection.input) {
        Ok(None) if connection.input.len() <= ANSWER_MAX => Progress::Waiting,
        Ok(Some((answer, length))) if connection.waiting && length == connection.input.len() => {
            count(shared, connection, &answer, outcome);
            let close = answer.close;
            connection.input.clear();
            if close {
                connection.waiting = false;
                return Progress::Broken;
            }
            Progress::Answered
        }
        Ok(_) | Err(_) => Progress::Broken,
    }
}

fn count(shared: &Shared<'_>, connection: &Connection, answer: &Answer<'_>, outcome: &mut Outcome) {
    let now = Instant::now();
    let sent = shared.requests.records(connection.request);
    let recorded = shared.requests.recorded(connection.request, answer).min(sent);
    shared.answered.fetch_add(recorded, Ordering::Relaxed);
    let since = now.saturating_duration_since(shared.start);
    if since < shared.load.warm_up || since > shared.load.time {
        return;
    }
    let took = u64::try_from(now.saturating_duration_since(connection.due).as_nanos()).unwrap_or(u64::MAX);
    outcome.latency.saturating_record(took);
    outcome.requests += 1;
    outcome.records += recorded;
    outcome.refused += sent - recorded;
    outcome.replayed += u64::from(answer.replayed);
    outcome.status(answer.status, 1);
    let second = outcome.second((since - shared.load.warm_up).as_secs() as usize);
    second.records += recorded;
    second.latency.saturating_record(took);
}

/// Requests that are all held in memory; each is sent once.
#[derive(Debug)]
pub struct Prepared {
    /// Whole requests and how many records each carries.
    pub requests: Arc<Vec<(Vec<u8>, u64)>>,
}

impl Requests for Prepared {
    fn write(&self, n: u64, out: &mut Vec<u8>) -> bool {
        let found = usize::try_from(n).ok().and_then(|n| self.requests.get(n));
        found.is_some_and(|(bytes, _)| {
            out.extend_from_slice(bytes);
            true
        })
    }

    fn records(&self, n: u64) -> u64 {
        self.requests[n as usize].1
    }
}

#[cfg(test)]
mod tests;
