//! Before a leader logs what all nodes must have computed, it asks the others what they did.
//!
//! ```text
//! question  upto u64
//! answer    known u8; if 1: outcomes 32, ledger 32
//! ```
//! A quorum that computed the same: it is logged, and whoever computed something else meets it there. A quorum that computed
//! one other thing: the leader halts, and nothing wrong was logged. Neither in time: it is tried again with the next
//! attestation; meanwhile nothing waits for it.

use crate::node::Node;
use crate::peers::DIGEST;
use bytes::Bytes;
use engine::codec::{DecodeError, Reader};
use engine::event::Event;
use engine::log::{Digest, Lsn};
use futures_util::stream::{FuturesUnordered, StreamExt};
use raft::{MemberStanding, Peer};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of an answer, at most.
const ANSWER_MAX: usize = 1 + 32 + 32;
/// How long the others may take: they are some records behind, not seconds.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two questions to a node that is not there yet.
const PAUSE: Duration = Duration::from_millis(1);
/// Before all are asked again of whom too few answered.
const TOO_FEW_PAUSE: Duration = Duration::from_millis(50);

/// Digests of outcomes and ledger.
type Digests = (Digest, Digest);

/// What the others say.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Agreed,
    Refuted(Digests),
    /// Too few answered in time.
    Open,
}

/// Has what this node attests confirmed, until the task is dropped.
pub async fn run(node: Arc<Node>) {
    loop {
        let events = node.fold.to_confirm().await;
        let attested = events.iter().find_map(|event| match event {
            Event::Attested(attested) => Some(attested.clone()),
            _ => None,
        });
        let Some(attested) = attested else { continue };
        let ours = (attested.outcomes, attested.ledger);
        match ask(&node, attested.upto, ours).await {
            Verdict::Agreed => {
                node.fold.notary.confirmed(attested.upto);
                node.fold.confirmed(&attested, events);
            }
            Verdict::Refuted(theirs) => node.fold.refuted(attested.upto, ours, theirs),
            Verdict::Open => node.fold.not_logged(&events),
        }
    }
}

/// Has what receipts are to be signed over confirmed, until the task is dropped: one question at a time, for all that
/// was folded by then.
pub async fn receipts(node: Arc<Node>) {
    loop {
        let wanted = node.fold.notary.to_confirm().await;
        let folded = {
            let core = node.fold.core();
            let upto = core.ledger.applied();
            core.ledger.computed_after(upto).map(|ours| (upto, ours))
        };
        let Some((upto, ours)) = folded.filter(|(upto, _)| *upto >= wanted) else {
            // Its requests were told within the record, which ends in a moment.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        match ask(&node, upto, ours).await {
            Verdict::Agreed => node.fold.notary.confirmed(upto),
            Verdict::Refuted(theirs) => return node.fold.refuted(upto, ours, theirs),
            // Too few are there; some may be soon.
            Verdict::Open => tokio::time::sleep(TOO_FEW_PAUSE).await,
        }
    }
}

async fn ask(node: &Node, upto: Lsn, ours: Digests) -> Verdict {
    let voters: Vec<MemberStanding> =
        node.group.members().into_iter().filter(|member| member.voter).collect();
    let mut count = Count::new(voters.len(), ours);
    let end = Instant::now() + PATIENCE;
    let others = voters.iter().filter(|member| member.node != node.config.node_id);
    let mut answers: FuturesUnordered<_> = others.map(|voter| one(node, voter, upto, end)).collect();
    while count.verdict() == Verdict::Open
        && let Some(answer) = answers.next().await
    {
        count.others.extend(answer);
    }
    count.verdict()
}

/// What one voter computed, if it says so in time.
async fn one(node: &Node, voter: &MemberStanding, upto: Lsn, end: Instant) -> Option<Digests> {
    let wire = &node.peers.as_ref()?.wire;
    let peer = Peer {
        node: voter.node,
        address: voter.member.address.clone(),
        incarnation: voter.member.incarnation,
    };
    let question = Bytes::copy_from_slice(&upto.0.to_le_bytes());
    while Instant::now() < end {
        let within = end.saturating_duration_since(Instant::now());
        let answer = wire.post(&peer, DIGEST, question.clone(), ANSWER_MAX, within).await.ok()?;
        match decode(&answer) {
            Ok(Some(digests)) => return Some(digests),
            Ok(None) => tokio::time::sleep(PAUSE).await,
            Err(error) => {
                tracing::warn!(node = voter.node, %error, "its digest cannot be read");
                return None;
            }
        }
    }
    None
}

/// The answer to a question: what this node computed after that record, if it still, or already, knows.
pub fn answer(node: &Node, question: &[u8]) -> Vec<u8> {
    let computed = question.try_into().ok().and_then(|upto| {
        let core = node.fold.core();
        core.ledger.computed_after(Lsn(u64::from_le_bytes(upto)))
    });
    match computed {
        None => vec![0],
        Some((outcomes, ledger)) => [&[1][..], &outcomes.0, &ledger.0].concat(),
    }
}

fn decode(bytes: &[u8]) -> Result<Option<Digests>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let digests = match reader.bool("known")? {
        true => Some((Digest(reader.array("outcomes")?), Digest(reader.array("ledger")?))),
        false => None,
    };
    reader.end()?;
    Ok(digests)
}

/// Counts voters.
struct Count {
    need: usize,
    ours: Digests,
    others: Vec<Digests>,
}

impl Count {
    fn new(voters: usize, ours: Digests) -> Count {
        Count { need: voters / 2 + 1, ours, others: Vec::new() }
    }

    fn verdict(&self) -> Verdict {
        let equal = |to: &Digests| self.others.iter().filter(|other| *other == to).count();
        if equal(&self.ours) + 1 >= self.need {
            return Verdict::Agreed;
        }
        match self.others.iter().find(|other| **other != self.ours && equal(other) >= self.need) {
            Some(theirs) => Verdict::Refuted(*theirs),
            None => Verdict::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(n: u8) -> Digests {
        (Digest([n; 32]), Digest([n + 100; 32]))
    }

    #[test]
    fn a_quorum_decides_and_less_than_one_does_not() {
        let verdict = |voters, others: &[u8]| {
            let mut count = Count::new(voters, digests(1));
            count.others.extend(others.iter().map(|n| digests(*n)));
            count.verdict()
        };
        assert_eq!(verdict(1, &[]), Verdict::Agreed);
        assert_eq!(verdict(3, &[]), Verdict::Open);
        assert_eq!(verdict(3, &[1]), Verdict::Agreed);
        assert_eq!(verdict(3, &[2]), Verdict::Open);
        assert_eq!(verdict(3, &[2, 1]), Verdict::Agreed);
        assert_eq!(verdict(3, &[2, 2]), Verdict::Refuted(digests(2)));
        // Three nodes, three opinions: nobody knows.
        assert_eq!(verdict(3, &[2, 3]), Verdict::Open);
        assert_eq!(verdict(5, &[2, 2]), Verdict::Open);
        assert_eq!(verdict(5, &[2, 2, 2]), Verdict::Refuted(digests(2)));
        // Of two voters one is no quorum.
        assert_eq!(verdict(2, &[2]), Verdict::Open);
    }

    #[test]
    fn answers_are_whole_or_refused() {
        assert_eq!(decode(&[0]), Ok(None));
        let whole = [&[1][..], &[7; 32], &[9; 32]].concat();
        assert_eq!(decode(&whole), Ok(Some((Digest([7; 32]), Digest([9; 32])))));
        for length in 0..whole.len() {
            assert!(decode(&whole[..length]).is_err(), "{length}");
        }
        assert!(
            decode(&[&whole[..], &[0]].concat()).is_err()
                && decode(&[0, 0]).is_err()
                && decode(&[2]).is_err()
        );
    }
}
