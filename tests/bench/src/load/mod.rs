//! A load generator that costs little: one thread, one epoll, many keep-alive connections, no allocation per
//! request. The same loop drives HTTP, Redis, PostgreSQL and etcd through [`Protocol`].
//!
//! Closed: each connection sends its next request when the answer of the last one is complete. Paced: requests
//! fall due at a fixed rate, and the latency counts from the moment a request was due, so that a server that
//! stalls cannot hide the requests it kept waiting.

mod epoll;
pub mod etcd;
pub mod http;
pub mod postgres;
pub mod redis;

use crate::stats::{Histogram, Sample, histogram, micros};
use epoll::Epoll;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// What stands at the head of the bytes received so far.
pub enum Parsed {
    /// Not a whole message yet.
    More,
    /// A message of `len` bytes that does not end the request.
    Aside { len: usize },
    /// The answer, `len` bytes; `good` says whether it is the one that the workload expects, `units` how many
    /// records it acknowledges.
    Answer { len: usize, good: bool, units: u32 },
}

/// One request-response protocol over TCP.
pub trait Protocol {
    /// State of one connection.
    type Conn: Default;
    /// Bytes to send first; answered before the first request if `hello` is not empty.
    fn hello(&mut self, conn: &mut Self::Conn) -> Vec<u8>;
    /// The next request, or `None` when the pool is used up.
    fn next(&mut self, conn: &mut Self::Conn) -> Option<&[u8]>;
    /// Looks at the received bytes; whatever it puts into `reply` is sent at once.
    fn parse(&mut self, conn: &mut Self::Conn, received: &[u8], reply: &mut Vec<u8>) -> Parsed;
}

/// How hard to drive.
#[derive(Clone, Copy)]
pub struct Plan {
    pub addr: SocketAddr,
    pub connections: usize,
    pub warm: Duration,
    pub measure: Duration,
    /// Requests a second over all connections; `None` is closed-loop.
    pub rate: Option<f64>,
}

/// What came of it.
pub struct Outcome {
    /// Answers inside the measured window and its length.
    pub answers: u64,
    pub units: u64,
    pub bad: u64,
    pub seconds: f64,
    pub latency: Histogram,
    /// The pool of requests was used up before the time was.
    pub exhausted: bool,
    /// The first unexpected answer, for the error message.
    pub first_bad: Option<String>,
}

impl Outcome {
    /// Records a second with latencies.
    ///
    /// # Errors
    /// If any answer was not the expected one or the pool ended before the window did: such a rate would be
    /// about something else than the row says.
    pub fn sample(&self) -> io::Result<Sample> {
        if self.bad > 0 {
            let first = self.first_bad.as_deref().unwrap_or("");
            return Err(io::Error::other(format!(
                "{} of {} answers were unexpected, first: {first}",
                self.bad, self.answers
            )));
        }
        if self.exhausted {
            return Err(io::Error::other("the pool of requests is too small for this machine"));
        }
        Ok(Sample::new(self.units as f64 / self.seconds)
            .with("p50 us", micros(&self.latency, 0.5))
            .with("p99 us", micros(&self.latency, 0.99))
            .with("p99.9 us", micros(&self.latency, 0.999))
            .with("p95 us", micros(&self.latency, 0.95)))
    }
}

struct Conn<S> {
    socket: TcpStream,
    received: Vec<u8>,
    filled: usize,
    unsent: Vec<u8>,
    due: Instant,
    busy: bool,
    token: u64,
    state: S,
}

/// No read of one event takes more than this; longer answers arrive in several.
const READ: usize = 64 << 10;

/// Drives `protocol` as `plan` says.
///
/// # Errors
/// Connection errors and a server that closes: a run with a lost connection is no run.
pub fn drive<P: Protocol>(plan: &Plan, protocol: &mut P) -> io::Result<Outcome> {
    let epoll = Epoll::new()?;
    let mut conns = Vec::with_capacity(plan.connections);
    for token in 0..plan.connections as u64 {
        let socket = connect(plan.addr)?;
        epoll.add(socket.as_raw_fd(), token)?;
        let received = vec![0; READ];
        let (unsent, due, state) = (Vec::new(), Instant::now(), P::Conn::default());
        conns.push(Conn { socket, received, filled: 0, unsent, due, busy: false, token, state });
    }
    Driver { plan, protocol, epoll, conns, idle: VecDeque::new(), outcome: Outcome::new(), sent: 0, busy: 0 }
        .run()
}

impl Outcome {
    fn new() -> Outcome {
        Outcome {
            answers: 0,
            units: 0,
            bad: 0,
            seconds: 0.0,
            latency: histogram(),
            exhausted: false,
            first_bad: None,
        }
    }
}

fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&addr, Duration::from_secs(5))?;
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

struct Driver<'a, P: Protocol> {
    plan: &'a Plan,
    protocol: &'a mut P,
    epoll: Epoll,
    conns: Vec<Conn<P::Conn>>,
    /// Paced: connections that wait for a request to fall due.
    idle: VecDeque<usize>,
    outcome: Outcome,
    /// Paced: requests that have fallen due and been sent.
    sent: u64,
    /// Connections that wait for an answer.
    busy: usize,
}

impl<P: Protocol> Driver<'_, P> {
    fn run(mut self) -> io::Result<Outcome> {
        let begin = Instant::now();
        for token in 0..self.conns.len() {
            let conn = &mut self.conns[token];
            let hello = self.protocol.hello(&mut conn.state);
            if hello.is_empty() {
                self.ready(token, begin, begin)?;
            } else {
                // The answer to the hello comes through `parse` like any other and is not counted: it falls
                // into the warm-up.
                conn.due = begin;
                conn.busy = true;
                self.busy += 1;
                send(&self.epoll, conn, &hello)?;
            }
        }
        let (open, end) = (begin + self.plan.warm, begin + self.plan.warm + self.plan.measure);
        let mut measuring = false;
        loop {
            let mut now = Instant::now();
            if !measuring && now >= open {
                measuring = true;
                self.outcome = Outcome {
                    first_bad: self.outcome.first_bad.take(),
                    bad: self.outcome.bad,
                    exhausted: self.outcome.exhausted,
                    ..Outcome::new()
                };
            }
            // An exhausted pool ends the run once everything that was sent is answered.
            if now >= end || (self.outcome.exhausted && self.busy == 0) {
                let since = if measuring { open } else { begin };
                self.outcome.seconds = (now - since).as_secs_f64();
                return Ok(self.outcome);
            }
            let timeout = self.pace(begin, now)?.unwrap_or(end - now).min(end - now);
            for event in 0..self.epoll.wait(timeout)? {
                let (token, writable) = self.epoll.event(event);
                if writable {
                    flush(&self.epoll, &mut self.conns[token as usize])?;
                }
                self.receive(token as usize, begin, &mut now)?;
            }
        }
    }

    /// Sends what has fallen due; returns the time to the next one.
    fn pace(&mut self, begin: Instant, now: Instant) -> io::Result<Option<Duration>> {
        let Some(rate) = self.plan.rate else { return Ok(None) };
        while !self.outcome.exhausted {
            let due = begin + Duration::from_secs_f64(self.sent as f64 / rate);
            if due > now {
                return Ok(Some(due - now));
            }
            let Some(token) = self.idle.pop_front() else {
                // Everything is late; the next answer frees a connection.
                return Ok(Some(Duration::from_secs(1)));
            };
            self.sent += 1;
            self.send_next(token, due)?;
        }
        Ok(None)
    }

    /// The connection may send again: at once, or when the next request falls due.
    fn ready(&mut self, token: usize, begin: Instant, now: Instant) -> io::Result<()> {
        let Some(rate) = self.plan.rate else { return self.send_next(token, now) };
        let due = begin + Duration::from_secs_f64(self.sent as f64 / rate);
        if due <= now && self.idle.is_empty() {
            self.sent += 1;
            self.send_next(token, due)
        } else {
            self.idle.push_back(token);
            Ok(())
        }
    }

    fn send_next(&mut self, token: usize, due: Instant) -> io::Result<()> {
        let conn = &mut self.conns[token];
        match self.protocol.next(&mut conn.state) {
            Some(request) => {
                conn.due = due;
                conn.busy = true;
                self.busy += 1;
                send(&self.epoll, conn, request)
            }
            None => {
                self.outcome.exhausted = true;
                Ok(())
            }
        }
    }

    fn receive(&mut self, token: usize, begin: Instant, now: &mut Instant) -> io::Result<()> {
        let mut reply = Vec::new();
        loop {
            let conn = &mut self.conns[token];
            if conn.filled == conn.received.len() {
                conn.received.resize(conn.filled * 2, 0);
            }
            match conn.socket.read(&mut conn.received[conn.filled..]) {
                Ok(0) => return Err(io::Error::other("the server closed a connection")),
                Ok(n) => conn.filled += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
            let whole = conn.filled < conn.received.len();
            let mut at = 0;
            loop {
                let conn = &mut self.conns[token];
                let received = &conn.received[at..conn.filled];
                let parsed = self.protocol.parse(&mut conn.state, received, &mut reply);
                if !reply.is_empty() {
                    send(&self.epoll, conn, &reply)?;
                    reply.clear();
                }
                match parsed {
                    Parsed::More => break,
                    Parsed::Aside { len } => at += len,
                    Parsed::Answer { len, good, units } => {
                        if !std::mem::take(&mut conn.busy) {
                            return Err(io::Error::other("an answer without a request"));
                        }
                        self.busy -= 1;
                        *now = Instant::now();
                        let _ = self.outcome.latency.record((*now - conn.due).as_nanos() as u64);
                        self.outcome.answers += 1;
                        self.outcome.units += u64::from(units);
                        if !good {
                            self.outcome.bad += 1;
                            self.outcome.first_bad.get_or_insert_with(|| {
                                let text = &conn.received[at..at + len.min(400)];
                                String::from_utf8_lossy(text).replace(['\r', '\n'], " ")
                            });
                        }
                        at += len;
                        self.ready(token, begin, *now)?;
                    }
                }
            }
            let conn = &mut self.conns[token];
            conn.received.copy_within(at..conn.filled, 0);
            conn.filled -= at;
            // A short read has emptied the socket; epoll (level-triggered) tells of anything that comes later.
            if whole {
                return Ok(());
            }
        }
    }
}

/// Sends `bytes`, keeping what the socket does not take until it has room.
fn send<S>(epoll: &Epoll, conn: &mut Conn<S>, bytes: &[u8]) -> io::Result<()> {
    if !conn.unsent.is_empty() {
        conn.unsent.extend_from_slice(bytes);
        return Ok(());
    }
    let sent = match conn.socket.write(bytes) {
        Ok(n) => n,
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
        Err(e) => return Err(e),
    };
    if sent < bytes.len() {
        conn.unsent.extend_from_slice(&bytes[sent..]);
        epoll.watch(conn.socket.as_raw_fd(), conn.token, true)?;
    }
    Ok(())
}

/// Sends what was kept, now that there is room.
fn flush<S>(epoll: &Epoll, conn: &mut Conn<S>) -> io::Result<()> {
    while !conn.unsent.is_empty() {
        match conn.socket.write(&conn.unsent) {
            Ok(n) => drop(conn.unsent.drain(..n)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    epoll.watch(conn.socket.as_raw_fd(), conn.token, false)
}
