//! The simulated side of the port between nodes: every message may be lost, late, repeated, overtaken. Who lies
//! on the way is a mutant.
//!
//! A message that was sent is on its way, whatever becomes of its sender. What arrives is worked on by the
//! receiving node as itself: it dies with it, and waits while it is paused.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use raft::{Group, InRepair, Peer, Transport, Unreached};
use tokio::sync::oneshot;

use super::mutants::Mutant;
use super::wire::{Answer, Id, Request};
use super::world::World;
use crate::rt::{self, Owner, SimRt, sleep};
use crate::sim::world::MS;

/// A life that answers.
#[derive(Clone)]
pub struct Up {
    /// The life.
    pub owner: Owner,
    /// Its group.
    pub group: Arc<Group<SimRt>>,
    /// Which directory it lives on.
    pub incarnation: u64,
}

/// A life whose log is not open yet.
#[derive(Clone)]
pub struct Starting {
    /// The life.
    pub owner: Owner,
    /// Who answers while its log is repaired.
    pub door: Arc<InRepair>,
    /// Which directory it lives on.
    pub incarnation: u64,
}

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
    /// What the ways have done so far, by class.
    pub counts: Counts,
    /// Who is there, by name.
    pub up: BTreeMap<u64, Up>,
    /// Who is about to be, by name.
    pub starting: BTreeMap<u64, Starting>,
}

/// Messages by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sent, questions and answers.
    pub sent: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost to a cut.
    pub cut: u64,
    /// Delivered twice.
    pub twice: u64,
    /// Refused, because another directory answers to the name.
    pub refused: u64,
}

impl Default for Ways {
    fn default() -> Ways {
        Ways {
            cut: BTreeSet::new(),
            loss: 0,
            twice: 1,
            delay: (MS / 10, MS),
            counts: Counts::default(),
            up: BTreeMap::new(),
            starting: BTreeMap::new(),
        }
    }
}

impl Ways {
    /// All open and quick again.
    pub fn heal(&mut self) {
        let quick = Ways::default();
        self.cut.clear();
        (self.loss, self.twice, self.delay) = (quick.loss, quick.twice, quick.delay);
    }

    /// Does a message get through in this direction, and when?
    pub fn pass(&mut self, from: u64, to: u64) -> Option<u64> {
        self.counts.sent += 1;
        if self.cut.contains(&(from, to)) {
            self.counts.cut += 1;
            return None;
        }
        if rt::chance(self.loss) {
            self.counts.lost += 1;
            return None;
        }
        Some(self.delay.0 + rt::below(self.delay.1.max(1)))
    }
}

/// The ways as one life of one node uses them.
#[derive(Clone)]
pub struct Net {
    pub(super) world: World,
    pub(super) node: u64,
    pub(super) incarnation: u64,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ways of node {}", self.node)
    }
}

type Carried = Result<Vec<u8>, Unreached>;

impl Net {
    async fn carry(self, peer: Peer, mut request: Vec<u8>) -> Carried {
        let to = self.world.misdirected(peer.node, self.node);
        if let Some(answer) = self.lie(peer.node, &mut request) {
            return Ok(answer);
        }
        let pass = |from, to| self.world.ways().pass(from, to);
        let Some(there) = pass(self.node, to) else { return pending().await };
        if rt::chance(self.world.ways().twice) {
            self.world.ways().counts.twice += 1;
            let (copy, request, to) = (self.clone(), request.clone(), Peer { node: to, ..peer.clone() });
            let late = there + rt::below(200 * MS);
            rt::spawn(Owner::default(), async move {
                sleep(late).await;
                // Nobody waits for the copy's answer.
                drop(copy.deliver(&to, request));
            });
        }
        sleep(there).await;
        let Some(answer) = self.deliver(&Peer { node: to, ..peer }, request) else {
            return Err(Unreached::NoWay("nobody listens".into()));
        };
        let Ok(answer) = answer.await else { return pending().await };
        let Some(back) = pass(to, self.node) else { return pending().await };
        sleep(back).await;
        Ok(answer)
    }

    /// The handshake of `server/src/peers/hello.rs`: both ends are who the other one's membership says.
    fn greets(&self, peer: &Peer, up: &Up) -> bool {
        let known = up.group.member(self.node).map_or(0, |member| member.incarnation);
        let same = |expected: u64, found: u64| expected == 0 || expected == found;
        same(peer.incarnation, up.incarnation) && same(known, self.incarnation)
    }

    fn deliver(&self, peer: &Peer, request: Vec<u8>) -> Option<oneshot::Receiver<Vec<u8>>> {
        if self.world.options.mutant == Mutant::VotesInRepair {
            self.vote_in_repair(peer.node, &request);
        }
        let Some(up) = self.world.ways().up.get(&peer.node).cloned() else {
            return self.deliver_in_repair(peer, request);
        };
        let misdirected = self.world.options.mutant == Mutant::Misdelivers;
        if !self.greets(peer, &up) {
            self.world.ways().counts.refused += 1;
            if self.world.options.mutant != Mutant::ForgetsIncarnation && !misdirected {
                return None;
            }
        }
        let (done, answer) = oneshot::channel();
        let (from, to, world) = (self.node, peer.node, self.world.clone());
        let asked = match Request::read(&request) {
            Ok(asked) => asked,
            Err(error) => {
                world.violation(format!("a message that a second reader cannot read: {error}"));
                return None;
            }
        };
        world.truth().heard(from, &asked);
        rt::spawn(up.owner, async move {
            let mut answer = up.group.serve(from, &request).await;
            if world.options.mutant == Mutant::GrantsTwice {
                grant(&mut answer);
            }
            world.observe(to, up.incarnation, &asked, &answer);
            misread(world.options.mutant, &mut answer);
            // Whoever asked may have given up.
            let _ = done.send(answer);
            world.after_answer(to, &asked);
        });
        Some(answer)
    }

    /// The same where the log is not open yet.
    fn deliver_in_repair(&self, peer: &Peer, request: Vec<u8>) -> Option<oneshot::Receiver<Vec<u8>>> {
        let starting = self.world.ways().starting.get(&peer.node).cloned()?;
        if peer.incarnation != 0 && peer.incarnation != starting.incarnation {
            self.world.ways().counts.refused += 1;
            return None;
        }
        let asked = Request::read(&request).ok()?;
        let (done, answer) = oneshot::channel();
        let (to, world) = (peer.node, self.world.clone());
        rt::spawn(starting.owner, async move {
            let mut answer = starting.door.serve(&request).await;
            if let (Mutant::GivesDamaged, Request::Fetch(first, last)) = (world.options.mutant, &asked) {
                give_more(&mut answer, *first, *last);
            }
            world.observe(to, starting.incarnation, &asked, &answer);
            misread(world.options.mutant, &mut answer);
            // Whoever asked may have given up.
            let _ = done.send(answer);
        });
        Some(answer)
    }

    /// A mutant: a node that waits for its repair gives its vote.
    fn vote_in_repair(&self, to: u64, request: &[u8]) {
        let Ok(asked @ Request::Vote { pre: false, vote, last, .. }) = Request::read(request) else { return };
        let waits = self.world.state().rotten.contains(&to) && self.world.group(to).is_none();
        if waits && self.world.node(to, |node| node.alive.is_some() && node.suspect > 0) {
            let known_as = self.world.node(to, |node| node.known_as);
            let answer = Answer::Voted { vote, granted: true, last }.write();
            self.world.observe(to, known_as, &asked, &answer);
        }
    }

    /// What a lying transport makes of a question; an answer if it makes that up too.
    fn lie(&self, to: u64, request: &mut Vec<u8>) -> Option<Vec<u8>> {
        let mutant = self.world.options.mutant;
        if !mutant.lies() {
            return None;
        }
        let mut read = Request::read(request).ok()?;
        match (&mut read, mutant) {
            (Request::Append(append), Mutant::AcksForOthers) => {
                let last = append.entries.last().map(|(id, _)| *id).or(append.previous);
                return (rt::chance(50) && !append.entries.is_empty()).then(|| Answer::Upto(last).write());
            }
            (Request::Append(append), Mutant::AcksForLearners) if !self.world.is_voter(to) => {
                let last = append.entries.last().map(|(id, _)| *id).or(append.previous);
                return (!append.entries.is_empty()).then(|| Answer::Upto(last).write());
            }
            (Request::Append(append), Mutant::CommitsOldTerm) => {
                let old = append.previous.filter(|previous| previous.term < append.vote.term);
                append.committed = append.committed.max(old);
            }
            (Request::Append(append), Mutant::CommitsAll) => {
                let last = append.entries.last().map(|(id, _)| *id);
                append.committed = append.committed.max(last);
            }
            (Request::Append(append), Mutant::DropsCommitted) => append.committed = None,
            (Request::Append(append), Mutant::SwapsEntries) => {
                if let [.., (_, one), (_, other)] = &mut append.entries[..] {
                    std::mem::swap(one, other);
                }
            }
            (Request::Append(append), Mutant::LeavesHole) if append.entries.len() > 1 => {
                // Without the first, and the others moved up so that nobody sees a gap.
                let ids: Vec<_> = append.entries.iter().map(|(id, _)| *id).collect();
                append.entries.remove(0);
                append.entries.iter_mut().zip(ids).for_each(|((id, _), moved)| *id = moved);
            }
            (Request::Vote { last: Some(last), .. }, Mutant::LiesAboutLog) => {
                (last.lsn, last.term) = (last.lsn + 1000, last.term + 1000);
            }
            _ => return None,
        }
        *request = read.write();
        None
    }
}

/// What one that repairs its log makes of an answer.
fn misread(mutant: Mutant, answer: &mut Vec<u8>) {
    if !matches!(mutant, Mutant::ForgetsVote | Mutant::CountsInRepair) {
        return;
    }
    if let Ok(Answer::Fetched(mut fetched)) = Answer::read(answer) {
        match mutant {
            Mutant::ForgetsVote => fetched.vote.term = 0,
            _ => fetched.in_repair = false,
        }
        *answer = Answer::Fetched(fetched).write();
    }
}

/// What one that is in repair gives if it reads on into the damage, sums or not.
fn give_more(answer: &mut Vec<u8>, first: u64, last: u64) {
    if let Ok(Answer::Fetched(mut fetched)) = Answer::read(answer) {
        let before = (Id { lsn: first - 1, term: fetched.vote.term.max(1) }, vec![0; 40]);
        let (id, record) = fetched.entries.last().cloned().unwrap_or(before);
        let more = (id.lsn + 1..=last).map(|lsn| (Id { lsn, ..id }, record.clone()));
        fetched.entries.extend(more);
        fetched.committed = fetched.committed.max(last);
        *answer = Answer::Fetched(fetched).write();
    }
}

/// A voter that says yes to everybody.
fn grant(answer: &mut Vec<u8>) {
    if let Ok(Answer::Voted { vote, granted: false, last }) = Answer::read(answer) {
        *answer = Answer::Voted { vote, granted: true, last }.write();
    }
}

impl Transport for Net {
    fn ask(&self, peer: &Peer, request: Vec<u8>, within: Duration) -> BoxFuture<'static, Carried> {
        let (done, carried) = oneshot::channel();
        let (net, peer) = (self.clone(), peer.clone());
        // Not a task of the sender: what was sent arrives also when the sender has died since.
        rt::spawn(Owner::default(), async move {
            let carried = rt::timeout(within.as_nanos() as u64, net.carry(peer, request)).await;
            let late = || Err(Unreached::NoAnswer("late".into()));
            let _ = done.send(carried.unwrap_or_else(|_| late()));
        });
        Box::pin(async move {
            carried.await.unwrap_or_else(|_| Err(Unreached::NoAnswer("the world is over".into())))
        })
    }
}
