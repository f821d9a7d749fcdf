//! A node that does not lead: what it passes on to the node that does, and what the leader does with it.
//!
//! Clients need not know who leads. A submission that a leader may or may not have recorded before it was
//! lost is simply made again: the first of its name wins, so it cannot take effect twice (I2).

use super::refusal::{Problem, Refusal};
use super::reply::Reply;
use super::{batch, cluster, submit};
use crate::node::Node;
use crate::peers::FORWARD;
use crate::peers::forward::{Ask, Kind, Told};
use raft::{Peer, ReadError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// How long a request waits for a group that has no leader: some elections.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one leader may take.
const ONE: Duration = Duration::from_secs(5);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(25);
/// Largest answer, bytes: a line for each record of a batch.
const ANSWER_MAX: usize = 256 << 20;
/// How long a read waits until it is known to be fresh.
const READ_PATIENCE: Duration = Duration::from_secs(5);

/// Has the leader answer a request, wherever it is, and whoever it is next.
pub(super) async fn ask_leader(node: &Arc<Node>, ask: &Ask) -> Result<Reply, Problem> {
    not_halted(node)?;
    let end = Instant::now() + PATIENCE;
    let mut sent = false;
    loop {
        let told = if node.leads() { here(node, ask).await } else { there(node, ask, &mut sent).await };
        match told {
            Told::Reply(reply) => return if sent { sure(ask, reply) } else { Ok(reply) },
            Told::Unknown => sent = true,
            Told::Elsewhere(_) => {}
        }
        if Instant::now() >= end || !node.has_peers() {
            let refusal = if sent { Refusal::OutcomeUnknown } else { Refusal::LogUnavailable };
            return Err(Problem::from(refusal).detail("the group has no leader that answers"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A reply after an earlier try whose outcome nobody knows. A decision is one, whoever made it first; but "not
/// recorded" is true of the last try only.
fn sure(ask: &Ask, reply: Reply) -> Result<Reply, Problem> {
    if ask.kind == Kind::Administration || !matches!(reply.status, 429 | 500 | 503) {
        return Ok(reply);
    }
    Err(Problem::from(Refusal::OutcomeUnknown).detail("it was made again, and not taken then"))
}

/// Answers a request here, if this node leads.
pub(crate) async fn here(node: &Arc<Node>, ask: &Ask) -> Told {
    if !node.leads() {
        return Told::Elsewhere(node.group.leader());
    }
    let result = match ask.kind {
        Kind::Submission => submit::here(node, ask).await,
        Kind::Batch => batch::here(node, ask).await,
        Kind::Administration => cluster::here(node, ask).await,
    };
    match result {
        Err(problem) if problem.elsewhere && node.has_peers() => match problem.refusal {
            Refusal::OutcomeUnknown => Told::Unknown,
            _ => Told::Elsewhere(None),
        },
        Err(problem) => Told::Reply(problem.into()),
        Ok(reply) => Told::Reply(reply),
    }
}

/// Passes a request on to the node that leads, if it is known.
async fn there(node: &Arc<Node>, ask: &Ask, sent: &mut bool) -> Told {
    let leader = node.group.leader().filter(|leader| *leader != node.config.node_id);
    let member = leader.and_then(|leader| node.group.member(leader));
    let (Some(leader), Some(member), Some(peers)) = (leader, member, &node.peers) else {
        return Told::Elsewhere(None);
    };
    let peer = Peer { node: leader, address: member.address, incarnation: member.incarnation };
    node.metrics.forwarded.inc();
    let answer = peers.wire.post(&peer, FORWARD, ask.encode().into(), ANSWER_MAX, ONE).await;
    match answer.map(|bytes| Told::decode(&bytes)) {
        Ok(Ok(told)) => told,
        Ok(Err(error)) => {
            *sent = true;
            tracing::warn!(%error, leader, "the leader's answer cannot be read");
            Told::Elsewhere(None)
        }
        Err(raft::Unreached::NoWay(_)) => Told::Elsewhere(None),
        Err(raft::Unreached::NoAnswer(_)) => {
            *sent = true;
            Told::Elsewhere(None)
        }
    }
}

/// A node that computed something else than the others neither answers for them nor speaks for a client.
fn not_halted(node: &Node) -> Result<(), Problem> {
    if node.fold.diverged().is_none() {
        return Ok(());
    }
    let detail = "this node computed something else than its group and has halted: ask another one";
    Err(Problem::from(Refusal::LogUnavailable).detail(detail).retry_after(60))
}

/// Waits until what this node shows is at least what was answered anywhere before now.
pub(super) async fn fresh(node: &Node) -> Result<(), Problem> {
    not_halted(node)?;
    if !node.has_peers() {
        // The only voter of a group has nobody who could know more.
        return Ok(());
    }
    let end = Instant::now() + READ_PATIENCE;
    loop {
        match node.group.read_index().await {
            Ok(_) => return Ok(()),
            // What was agreed is still true, and nothing newer can be.
            Err(ReadError::Stopped) if node.draining.load(Ordering::Relaxed) => return Ok(()),
            Err(_) if Instant::now() < end => tokio::time::sleep(PAUSE).await,
            Err(_) => {
                let detail =
                    "whether this node is up to date cannot be learnt: the group has no leader that answers";
                return Err(Problem::from(Refusal::LogUnavailable).detail(detail));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::forward::Wishes;

    #[test]
    fn a_later_refusal_does_not_undo_an_earlier_try() {
        let ask = |kind| Ask { kind, wishes: Wishes::default(), tenant: None, body: Vec::new() };
        let after = |kind, status| sure(&ask(kind), Reply::new(status, "", ""));
        for status in [429, 500, 503] {
            let problem = after(Kind::Submission, status).expect_err("nobody knows");
            assert_eq!(problem.refusal, Refusal::OutcomeUnknown, "{status}");
            assert_eq!(after(Kind::Administration, status).expect("as it came").status, status);
        }
        for status in [200, 202, 400, 401, 422] {
            assert_eq!(after(Kind::Batch, status).expect("a decision").status, status);
        }
    }
}
