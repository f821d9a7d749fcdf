//! Whom a node asks for its term when a vote may be lost, and whose answers are enough.

use std::collections::BTreeSet;

use futures_util::future::BoxFuture;

use super::votes::{enough, nobody};
use super::*;
use crate::transport::{Alone, Unreached};
use crate::types::Member;

/// Peers that answer by this.
struct Says<F>(F);

impl<F> std::fmt::Debug for Says<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Says")
    }
}

impl<F: Fn(u64, Lsn, Lsn) -> Fetched + Send + Sync + 'static> Transport for Says<F> {
    fn ask(
        &self,
        peer: &Peer,
        request: Vec<u8>,
        _: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, Unreached>> {
        let Ok(Request::Fetch { from, to }) = Request::decode(&request) else { panic!("another question") };
        let answer = Answer::Fetched((self.0)(peer.node, from, to)).encode();
        Box::pin(std::future::ready(Ok(answer)))
    }
}

fn fetched(in_repair: bool, term: u64, entries: &[(u64, u64)]) -> Fetched {
    let entries = entries.iter().map(|(lsn, term)| (Lsn(*lsn), *term, vec![*lsn as u8])).collect();
    let (committed, members_at) = (Lsn(100), Lsn(1));
    Fetched { in_repair, vote: nobody(term), committed, members_at, members: Vec::new(), entries }
}

fn set(nodes: &[u64]) -> BTreeSet<u64> {
    nodes.iter().copied().collect()
}

fn joint(sets: &[&[u64]], learners: &[u64]) -> Membership {
    let all = sets.iter().copied().flatten().chain(learners);
    let nodes = all.map(|node| (*node, Member::default())).collect::<BTreeMap<_, _>>();
    Membership::new(sets.iter().map(|voters| set(voters)).collect(), nodes).expect("voters are members")
}

fn members(voters: &[u64]) -> Membership {
    joint(&[voters], &[])
}

fn asked(own: (u64, &[u64]), settled: u64, said: &[(u64, &[u64])]) -> Vec<u64> {
    let mender = Mender::new(1, Arc::new(Alone), Vec::new());
    mender.note(Lsn(own.0), &members(own.1));
    let said: Vec<_> = said.iter().map(|(at, voters)| (Lsn(*at), members(voters))).collect();
    let counts = mender.memberships(Lsn(settled), said);
    counts.iter().flat_map(Membership::voter_ids).collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn f3_one_that_an_agreed_membership_has_taken_out_is_not_waited_for() {
    assert_eq!(asked((5, &[1, 2, 3, 4]), 9, &[(9, &[1, 2, 3])]), [1, 2, 3]);
    // Taken in after it, and not agreed: it may be a candidate by now.
    assert_eq!(asked((5, &[1, 2, 3, 4]), 9, &[(9, &[1, 2, 3]), (11, &[1, 2, 3, 6])]), [1, 2, 3, 6]);
}

#[test]
fn f3_until_a_membership_is_agreed_all_that_are_known_may_have_asked() {
    assert_eq!(asked((5, &[1, 2, 3, 4]), 0, &[(9, &[1, 2, 3])]), [1, 2, 3, 4]);
    // What this node holds is newer than what the others have agreed.
    assert_eq!(asked((9, &[1, 2, 3, 4]), 5, &[(5, &[1, 2, 3])]), [1, 2, 3, 4]);
}

#[test]
fn f3_everybody_is_waited_for_and_most_must_be_at_work() {
    let may = |membership: &Membership, at_work: &[u64], in_repair: &[u64]| {
        enough(1, std::slice::from_ref(membership), &set(at_work), &set(in_repair)).is_ok()
    };
    let three = members(&[1, 2, 3]);
    assert!(may(&three, &[2, 3], &[]));
    assert!(!may(&three, &[2], &[]));
    assert!(!may(&three, &[2], &[3]));
    let four = members(&[1, 2, 3, 4]);
    assert!(may(&four, &[2, 3], &[4]));
    assert!(!may(&four, &[2], &[3, 4]));
    let five = members(&[1, 2, 3, 4, 5]);
    assert!(may(&five, &[2, 3, 4], &[5]));
    assert!(!may(&five, &[2, 3, 4], &[]));
    assert!(!may(&five, &[2, 3], &[4, 5]));
    // One that was in repair and is at work again counts as that.
    assert!(may(&five, &[2, 3, 4], &[4, 5]));
    assert!(may(&members(&[1, 2]), &[2], &[]));
    assert!(!may(&members(&[1]), &[], &[]));
}

#[test]
fn f3_both_sets_of_voters_count_and_learners_are_waited_for() {
    let may = |membership: &Membership, at_work: &[u64], in_repair: &[u64]| {
        enough(1, std::slice::from_ref(membership), &set(at_work), &set(in_repair)).is_ok()
    };
    let change = joint(&[&[1, 2, 3, 4, 5], &[1, 2, 6]], &[]);
    assert!(may(&change, &[2, 3, 4, 6], &[5]));
    assert!(!may(&change, &[2, 3, 4, 5], &[6]));
    assert!(!may(&change, &[2, 6], &[3, 4, 5]));
    // An entry that was lost may have made it a voter.
    let learner = joint(&[&[1, 2, 3]], &[4]);
    assert!(!may(&learner, &[2, 3], &[]));
    assert!(may(&learner, &[2, 3], &[4]) && may(&learner, &[2, 3, 4], &[]));
}

/// Node 5 might have led, with a vote of node 3 that had answered before, and be in repair by the time it is asked.
#[tokio::test]
async fn f3_those_at_work_are_asked_after_those_in_repair_have_said_so() {
    let asked = AtomicU64::new(0);
    let says = move |node, _, _| {
        let round = asked.fetch_add(1, Ordering::Relaxed) / 4;
        let term = if node == 3 { 7 + round } else { 2 };
        Fetched {
            members: codec::encode_membership(&members(&[1, 2, 3, 4, 5])),
            ..fetched(node == 5, term, &[])
        }
    };
    let mender = Mender::new(1, Arc::new(Says(says)), Vec::new());
    let nodes = (2..=5).map(|node| (node, Member { address: format!("{node}:1"), incarnation: 0 }));
    let me = (1, Member::default());
    let known = Membership::new(vec![set(&[1, 2, 3, 4, 5])], nodes.chain([me]).collect::<BTreeMap<_, _>>());
    mender.note(Lsn(1), &known.expect("voters are members"));
    let mut votes = Votes::default();
    let first = mender.vote(1, &mut votes).await;
    assert!(first.as_ref().is_err_and(|why| why.contains("node 5")), "{first:?}");
    assert_eq!(mender.vote(1, &mut votes).await, Ok(nobody(8)));
}

/// A log that changes while it is asked for in pieces.
#[tokio::test]
async fn f3_what_comes_in_pieces_comes_from_one_log() {
    let peer = Peer { node: 2, address: "2:1".into(), incarnation: 0 };
    let gap = |after| Gap {
        since: Lsn(6),
        tip: Lsn(7),
        stands: Lsn(9),
        until: Lsn(9),
        before: Vec::new(),
        after,
        settled: true,
    };
    let after = Some(segments::Known::of(Lsn(10), 3, &[10]));
    for (nine, good) in [(2, true), (3, false)] {
        let says = move |_, from: Lsn, to: Lsn| match (from.0, to.0) {
            (7, _) => fetched(false, 3, &[(7, 2), (8, 2), (9, 2)]),
            (9, _) => fetched(false, 3, &[(9, nine), (10, 3)]),
            _ => fetched(false, 3, &[(10, 3)]),
        };
        let mender = Mender::new(1, Arc::new(Says(says)), Vec::new());
        let all = mender.fetch_all(&peer, &gap(after)).await;
        assert_eq!(all.is_ok(), good, "{all:?}");
        assert!(all.is_err() || all.is_ok_and(|all| all.entries.len() == 4));
    }
}
