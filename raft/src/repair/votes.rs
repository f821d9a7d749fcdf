//! A vote may be lost: in which term does this node take part again?
//!
//! Nobody else knows a node's votes. But whoever was promised one asked for it, in a term that it had written down itself. So
//! all others are asked for their terms, and this node then stands as having given its vote in the highest of them to
//! nobody. What it may have promised in a lower term binds nobody any more, if
//!
//! - no candidate of a higher term may still count that vote. One that runs has its term, and says it. One whose process has
//!   ended since counts nothing any more; that it is in repair itself is a sign of that;
//! - no leader was elected with it in a higher term. Whoever runs and voted for that leader has its term, and says it. So those
//!   that run and answer must be enough to meet every majority of every set of voters.
//!
//! Those in repair must have said so before those that run are asked: otherwise one might win and end in between, with the
//! vote of somebody who had answered before. `docs/decisions/repair.md` has the whole reasoning.
//!
//! - Asked and waited for are also learners: an entry that only one of them and this node held may have made it a voter.
//! - Members that an agreed membership has taken out since are not waited for: they can win no election after that one, for a
//!   majority holds it without this node; and of an election before it that majority knows the term.

use std::collections::{BTreeMap, BTreeSet};

use engine::log::Lsn;
use openraft::impls::leader_id_std::LeaderId;

use super::Mender;
use crate::codec;
use crate::network;
use crate::types::{Membership, Vote};

/// What has been heard since the process started.
#[derive(Debug, Default)]
pub(super) struct Votes {
    /// Nodes that have said that they were in repair: whatever process of theirs had asked for votes before has ended.
    in_repair: BTreeSet<u64>,
}

/// A vote in `term` that nobody gets.
pub(super) fn nobody(term: u64) -> Vote {
    Vote { leader_id: LeaderId { term, voted_for: 0 }, committed: false }
}

impl Mender {
    /// The memberships by which somebody may have asked for this node's vote, where `settled` is the newest that
    /// is agreed, as far as anybody has `said`.
    pub(super) fn memberships(&self, settled: Lsn, said: Vec<(Lsn, Membership)>) -> Vec<Membership> {
        self.all_members()
            .into_iter()
            .chain(said)
            .filter(|(at, _)| *at >= settled)
            .map(|(_, members)| members)
            .collect()
    }

    /// A vote of a term at least as high as that of any vote this node may have given and that may still count; see the module.
    /// `own` is the highest term of those that can still be read.
    pub(super) async fn vote(&self, own: u64, votes: &mut Votes) -> Result<Vote, String> {
        let mut term = own;
        let (mut at_work, mut in_repair) = (BTreeMap::new(), BTreeSet::new());
        let mut said: Vec<(Lsn, Membership)> = Vec::new();
        let mut settled = Lsn::ZERO;
        for peer in self.peers() {
            // Those who cannot be reached are missed below.
            let Ok(fetched) = self.fetch(&peer, Lsn(1), Lsn(1)).await else { continue };
            term = term.max(fetched.vote.leader_id.term);
            match fetched.in_repair {
                true => drop(in_repair.insert(peer.node)),
                false => drop(at_work.insert(peer.node, peer.incarnation)),
            }
            if let Ok(membership) = codec::decode_membership(&fetched.members) {
                if fetched.members_at <= fetched.committed {
                    settled = settled.max(fetched.members_at);
                }
                let mut known = self.known();
                for (node, member) in membership.nodes() {
                    known.peers.entry(*node).or_insert_with(|| network::peer(*node, member));
                }
                drop(known);
                said.push((fetched.members_at, membership));
            }
        }
        let memberships = self.memberships(settled, said);
        // Another directory may answer to a name that was asked before it was known whose it is.
        let wanted = |node: u64, incarnation: u64| {
            let named = memberships.iter().filter_map(|members| members.get_node(&node));
            named.into_iter().all(|member| member.incarnation == incarnation)
        };
        at_work.retain(|node, incarnation| wanted(*node, *incarnation));
        let at_work: BTreeSet<u64> = at_work.into_keys().collect();
        let enough = enough(self.node, &memberships, &at_work, &votes.in_repair);
        votes.in_repair.append(&mut in_repair);
        enough.map(|()| nobody(term))
    }
}

/// Whether these answers are enough, for node `me`; why not.
pub(super) fn enough(
    me: u64,
    memberships: &[Membership],
    at_work: &BTreeSet<u64>,
    in_repair: &BTreeSet<u64>,
) -> Result<(), String> {
    let mut members = memberships.iter().flat_map(|members| members.nodes().map(|(node, _)| *node));
    if let Some(node) =
        members.find(|node| *node != me && !at_work.contains(node) && !in_repair.contains(node))
    {
        return Err(format!("a vote may be lost, and node {node} has not said its term"));
    }
    if at_work.is_empty() {
        return Err("a vote may be lost, and nobody says in which term".into());
    }
    for voters in memberships.iter().flat_map(|members| members.get_joint_config()) {
        let others = voters.iter().filter(|node| **node != me).count();
        let answer = voters.iter().filter(|node| **node != me && at_work.contains(node)).count();
        // So many do not fit beside any majority.
        let needed = (voters.len() - voters.len() / 2).min(others);
        if answer < needed {
            return Err(format!(
                "a vote may be lost, others are in repair too, and {needed} of the voters {voters:?} have to be at work"
            ));
        }
    }
    Ok(())
}
