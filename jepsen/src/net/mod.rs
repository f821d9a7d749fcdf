//! A network of user space: packets of hosts' TUN devices, carried with delay, jitter, loss, duplication, reordering
//! and one-way cuts that are switched while it runs.
//!
//! Bounded: a link holds at most [`QUEUE_MAX`] packets under way and drops what comes beyond, as a router does.

mod tun;

use crate::rng::Rng;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{Read, Result, Write};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use tun::Host;

/// Packets under way in one direction between two hosts.
const QUEUE_MAX: usize = 4096;
/// Largest packet of a TUN device here.
const PACKET_MAX: usize = 2048;
/// Where clients are; the nodes are hosts 1 and up.
pub const CLIENTS: usize = 0;

/// What happens to packets from one host to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// None arrives.
    pub cut: bool,
    /// Every packet takes this long, microseconds.
    pub delay_us: u64,
    /// And up to this much more, each its own, so that they overtake each other.
    pub jitter_us: u64,
    /// So many of a thousand are lost.
    pub loss: u64,
    /// So many of a thousand arrive twice.
    pub dup: u64,
}

/// A packet under way. The order is reversed: the heap gives the largest first.
struct Flying {
    due: Instant,
    number: u64,
    from: usize,
    to: usize,
    bytes: Vec<u8>,
}

impl PartialEq for Flying {
    fn eq(&self, other: &Flying) -> bool {
        self.number == other.number
    }
}

impl Eq for Flying {}

impl PartialOrd for Flying {
    fn partial_cmp(&self, other: &Flying) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Flying {
    fn cmp(&self, other: &Flying) -> std::cmp::Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

struct State {
    rules: Vec<Vec<Rule>>,
    queued: Vec<Vec<usize>>,
    flying: BinaryHeap<Flying>,
    number: u64,
    rng: Rng,
}

/// What the network did so far.
#[derive(Debug, Default)]
pub struct Tally {
    /// Packets that arrived.
    pub carried: AtomicU64,
    /// Packets that a rule or a full link dropped.
    pub dropped: AtomicU64,
    /// Packets that were late on purpose.
    pub delayed: AtomicU64,
    /// Packets that came twice.
    pub doubled: AtomicU64,
}

struct Shared {
    hosts: Vec<Host>,
    state: Mutex<State>,
    earlier: Condvar,
    tally: Tally,
}

/// The running network.
#[derive(Clone)]
pub struct Net(Arc<Shared>);

/// Address of a host.
pub fn address(host: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, host as u8 + 100)
}

impl Net {
    /// Clients in the namespace of this process, and `nodes` hosts in namespaces of their own.
    ///
    /// # Errors
    /// When a namespace or a device cannot be made.
    pub fn start(nodes: usize, seed: u64) -> Result<Net> {
        let mut hosts = vec![tun::here(address(CLIENTS))?];
        for host in 1..=nodes {
            hosts.push(tun::host(address(host))?);
        }
        let all = hosts.len();
        let state = State {
            rules: vec![vec![Rule::default(); all]; all],
            queued: vec![vec![0; all]; all],
            flying: BinaryHeap::new(),
            number: 0,
            rng: Rng::new(seed, "net"),
        };
        let shared =
            Shared { hosts, state: Mutex::new(state), earlier: Condvar::new(), tally: Tally::default() };
        let net = Net(Arc::new(shared));
        for host in 0..all {
            let wire = net.0.hosts[host].wire.try_clone()?;
            let net = net.clone();
            std::thread::spawn(move || net.listen(host, wire));
        }
        let late = net.clone();
        std::thread::spawn(move || late.deliver());
        Ok(net)
    }

    /// The namespace of a node.
    pub fn space(&self, host: usize) -> &File {
        self.0.hosts[host].space.as_ref().expect("a node has a namespace of its own")
    }

    /// Changes what happens between two hosts in one direction.
    pub fn rule(&self, from: usize, to: usize, rule: Rule) {
        self.state().rules[from][to] = rule;
    }

    /// All links are good again.
    pub fn heal(&self) {
        self.state().rules.iter_mut().flatten().for_each(|rule| *rule = Rule::default());
    }

    /// What it did so far.
    pub fn tally(&self) -> &Tally {
        &self.0.tally
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the packets of one host for as long as the process lives.
    fn listen(&self, from: usize, mut wire: File) {
        let mut packet = [0u8; PACKET_MAX];
        loop {
            let Ok(length) = wire.read(&mut packet) else { return };
            let bytes = &packet[..length];
            // The destination of an IPv4 packet; nothing else is routed here.
            let Some(&[a, b, c, d]) = bytes.get(16..20).filter(|_| bytes[0] >> 4 == 4) else { continue };
            let target = Ipv4Addr::new(a, b, c, d);
            if let Some(to) = self.0.hosts.iter().position(|host| host.address == target) {
                self.carry(from, to, bytes);
            }
        }
    }

    fn carry(&self, from: usize, to: usize, bytes: &[u8]) {
        let tally = &self.0.tally;
        let mut state = self.state();
        let rule = state.rules[from][to];
        if rule == Rule::default() && state.queued[from][to] == 0 {
            drop(state);
            return self.arrive(to, bytes);
        }
        if rule.cut || state.rng.chance(rule.loss, 1000) {
            tally.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let copies = if state.rng.chance(rule.dup, 1000) { 2 } else { 1 };
        tally.doubled.fetch_add(copies - 1, Ordering::Relaxed);
        for _ in 0..copies {
            if state.queued[from][to] >= QUEUE_MAX {
                tally.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let late = rule.delay_us + state.rng.below(rule.jitter_us + 1);
            let number = state.number;
            state.number += 1;
            state.queued[from][to] += 1;
            let due = Instant::now() + Duration::from_micros(late);
            state.flying.push(Flying { due, number, from, to, bytes: bytes.to_vec() });
            tally.delayed.fetch_add(1, Ordering::Relaxed);
        }
        drop(state);
        self.0.earlier.notify_one();
    }

    fn arrive(&self, to: usize, bytes: &[u8]) {
        // A device that is down loses the packet, as a host that is switched off does.
        let arrived = (&self.0.hosts[to].wire).write_all(bytes).is_ok();
        let count = if arrived { &self.0.tally.carried } else { &self.0.tally.dropped };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Delivers late packets when they are due, for as long as the process lives.
    fn deliver(&self) {
        let mut state = self.state();
        loop {
            let now = Instant::now();
            let wait = match state.flying.peek() {
                Some(next) if next.due <= now => {
                    let packet = state.flying.pop().expect("just seen");
                    state.queued[packet.from][packet.to] -= 1;
                    drop(state);
                    self.arrive(packet.to, &packet.bytes);
                    state = self.state();
                    continue;
                }
                Some(next) => next.due - now,
                None => Duration::from_secs(1),
            };
            let woken = self.0.earlier.wait_timeout(state, wait);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
