//! The simulated side of the port between nodes: every message may be lost, late, repeated, overtaken.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use raft::{Group, Peer, Transport, Unreached};
use tokio::sync::oneshot;

use crate::rt::{self, Owner, SimRt, sleep};
use crate::sim::world::MS;

/// The state of the ways between nodes.
pub struct Ways {
    /// Directions in which nothing passes.
    pub cut: BTreeSet<(u64, u64)>,
    /// So many of a hundred messages are lost.
    pub loss: u64,
    /// So many of a hundred arrive twice.
    pub twice: u64,
    /// Time on the way, nanoseconds: least and spread.
    pub delay: (u64, u64),
    /// Messages sent and lost.
    pub counts: (u64, u64),
    /// Who is there, by name: the life that answers, and its group.
    pub up: Vec<Option<(Owner, Arc<Group<SimRt>>)>>,
}

impl Ways {
    /// All open and quick, nobody there.
    pub fn new(nodes: usize) -> Ways {
        let mut ways = Ways {
            cut: BTreeSet::new(),
            loss: 0,
            twice: 0,
            delay: (0, 0),
            counts: (0, 0),
            up: (0..=nodes).map(|_| None).collect(),
        };
        ways.heal();
        ways
    }

    /// All open and quick again.
    pub fn heal(&mut self) {
        self.cut.clear();
        (self.loss, self.twice, self.delay) = (0, 1, (MS / 10, MS));
    }

    /// Does a message get through in this direction, and when?
    fn pass(&mut self, from: u64, to: u64) -> Option<u64> {
        self.counts.0 += 1;
        if self.cut.contains(&(from, to)) || rt::chance(self.loss) {
            self.counts.1 += 1;
            return None;
        }
        Some(self.delay.0 + rt::below(self.delay.1.max(1)))
    }
}

/// The ways as one node uses them.
#[derive(Clone)]
pub struct Net {
    pub(super) ways: Arc<Mutex<Ways>>,
    pub(super) node: u64,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ways of node {}", self.node)
    }
}

impl Net {
    async fn carry(self, to: u64, request: Vec<u8>) -> Result<Vec<u8>, Unreached> {
        let pass = |from, to| self.ways.lock().unwrap().pass(from, to);
        let Some(there) = pass(self.node, to) else { return std::future::pending().await };
        sleep(there).await;
        let twice = rt::chance(self.ways.lock().unwrap().twice);
        if twice {
            // The copy's answer goes nowhere.
            drop(self.deliver(to, request.clone()));
        }
        let Some(answer) = self.deliver(to, request) else {
            return Err(Unreached::NoWay("nobody listens".into()));
        };
        let Ok(answer) = answer.await else { return std::future::pending().await };
        let Some(back) = pass(to, self.node) else { return std::future::pending().await };
        sleep(back).await;
        Ok(answer)
    }

    /// The receiving node works on it as itself: when it dies, the work dies with it.
    fn deliver(&self, to: u64, request: Vec<u8>) -> Option<oneshot::Receiver<Vec<u8>>> {
        let (owner, group) = self.ways.lock().unwrap().up[to as usize].clone()?;
        let (done, answer) = oneshot::channel();
        let from = self.node;
        rt::spawn(owner, async move {
            // Whoever asked may have given up.
            let _ = done.send(group.serve(from, &request).await);
        });
        Some(answer)
    }
}

impl Transport for Net {
    fn ask(
        &self,
        peer: &Peer,
        request: Vec<u8>,
        within: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, Unreached>> {
        let carried = self.clone().carry(peer.node, request);
        let within = within.as_nanos() as u64;
        Box::pin(async move {
            let carried = rt::timeout(within, carried).await;
            carried.unwrap_or_else(|_| Err(Unreached::NoAnswer("late".into())))
        })
    }
}
