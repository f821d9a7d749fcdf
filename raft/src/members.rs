//! Who is in the group: seeing it, changing it, and handing over its lead.
//!
//! A node comes in as a learner, which receives entries and has no vote, and is made a voter once it has
//! nearly all of them. A change of voters goes through a joint membership, so that no two majorities of
//! different memberships can decide at once. A name is never given to another disk: a node that lost its
//! own comes back under a fresh name.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use engine::log::Lsn;
use openraft::ChangeMembers;
use openraft::Instant;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::ClientWriteResponse;

use crate::error::MembersError;
use crate::group::Group;
use crate::message::{Answer, Request};
use crate::network;
use crate::transport::Unreached;
use crate::types::{Member, Runtime, Types, lsn_of};

/// One node of the group, as the node that was asked knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStanding {
    /// Its name.
    pub node: u64,
    /// What the membership says of it.
    pub member: Member,
    /// Whether it votes.
    pub voter: bool,
    /// The last entry it is known to hold as the leader's log has it; only a leader knows of others.
    pub matched: Option<Lsn>,
    /// Time since it last answered the leader; only a leader knows.
    pub silent: Option<Duration>,
}

/// How long a membership that was agreed may take to show.
const SHOWS: Duration = Duration::from_secs(2);

/// Entries that a learner may lack when it becomes a voter. More, and the group would have to wait for it.
const PROMOTION_LAG: u64 = 1024;

/// A voter that has not answered for this long is not asked to lead: some heartbeats.
const SILENCE: Duration = Duration::from_secs(1);

impl<R: Runtime> Group<R> {
    /// The nodes of the group, by name.
    pub fn members(&self) -> Vec<MemberStanding> {
        let watch = self.raft.metrics();
        let raft = watch.borrow_watched();
        let membership = raft.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let standing = |(node, member): (&u64, &Member)| {
            let me = *node == self.node;
            let matched = raft.replication.as_ref().and_then(|all| all.get(node).copied().flatten());
            let heard = raft.heartbeat.as_ref().and_then(|all| all.get(node).copied().flatten());
            let mine = me.then(|| raft.last_log_index.map_or(Lsn::ZERO, lsn_of));
            MemberStanding {
                node: *node,
                member: member.clone(),
                voter: voters.contains(node),
                matched: matched.map(|id| lsn_of(id.index)).or(mine),
                silent: heard.filter(|_| !me).map(|heard| heard.elapsed()),
            }
        };
        membership.nodes().map(standing).collect()
    }

    /// What the membership says of one node.
    pub fn member(&self, node: u64) -> Option<Member> {
        let watch = self.raft.server_metrics();
        watch.borrow_watched().membership_config.membership().get_node(&node).cloned()
    }

    /// From now on this node does not ask for votes, nor takes the lead when it is handed over, until the
    /// process ends.
    pub fn stand_back(&self) {
        self.back.store(true, Ordering::Relaxed);
        self.raft.runtime_config().elect(false);
    }

    pub(crate) fn stands_back(&self) -> bool {
        self.back.load(Ordering::Relaxed)
    }

    /// The term in which this node leads, `None` while it does not.
    pub fn leads(&self) -> Option<u64> {
        let watch = self.raft.server_metrics();
        let raft = watch.borrow_watched();
        let leads = raft.state == ServerState::Leader && raft.current_leader == Some(self.node);
        leads.then_some(raft.vote.leader_id.term)
    }

    /// Who leads, as far as this node knows.
    pub fn leader(&self) -> Option<u64> {
        self.raft.server_metrics().borrow_watched().current_leader
    }

    /// Waits until [`Group::leads`] is something else than `was`, and returns it. Never returns once the
    /// group has stopped.
    pub async fn leads_unlike(&self, was: Option<u64>) -> Option<u64> {
        let mut watch = self.raft.server_metrics();
        loop {
            let now = self.leads();
            if now != was {
                return now;
            }
            if watch.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Takes a node in as a learner, or, if it is in, corrects its address. Returns once that is agreed.
    ///
    /// # Errors
    /// [`MembersError`]; a known name with another incarnation is refused, for it would be another node.
    pub async fn add(&self, node: u64, member: Member) -> Result<(), MembersError> {
        if member.address.is_empty() || member.address.len() > crate::codec::ADDRESS_MAX {
            return Err(MembersError::Refused("an address is 1 to 256 bytes long".into()));
        }
        let known = self.members().into_iter().find(|known| known.node == node);
        let nodes = BTreeMap::from([(node, member.clone())]);
        match known {
            None => {
                self.change(ChangeMembers::AddNodes(nodes)).await?;
                // What was agreed shows a moment later, and whoever asks next must find it.
                let wait = self.raft.wait(Some(SHOWS));
                let shows = wait.metrics(
                    move |seen| seen.membership_config.membership().get_node(&node).is_some(),
                    "the new member shows",
                );
                let _ = shows.await;
                Ok(())
            }
            // Whoever asked before may have gone before it was agreed.
            Some(known) if known.member == member => self.agreed().await,
            Some(known)
                if known.member.incarnation != member.incarnation && known.member.incarnation != 0 =>
            {
                let why = format!(
                    "node {node} is known with another data directory; remove it and join under a name never used"
                );
                Err(MembersError::Refused(why))
            }
            Some(_) => self.change(ChangeMembers::SetNodes(nodes)).await,
        }
    }

    /// Waits until the membership that this leader knows is agreed. Until then it may be lost with its leader.
    async fn agreed(&self) -> Result<(), MembersError> {
        let mut watch = self.raft.metrics();
        loop {
            {
                let raft = watch.borrow_watched();
                if raft.state != ServerState::Leader {
                    return Err(MembersError::NotLeader { leader: raft.current_leader });
                }
                if raft.committed_membership_config == raft.membership_config {
                    return Ok(());
                }
            }
            if watch.changed().await.is_err() {
                return Err(MembersError::Stopped);
            }
        }
    }

    /// The sets of voters of which each has to agree, as far as this node knows: one, or two while they change.
    pub fn voter_sets(&self) -> Vec<Vec<u64>> {
        let watch = self.raft.server_metrics();
        let sets = watch.borrow_watched().membership_config.membership().get_joint_config().clone();
        sets.into_iter().map(|set| set.into_iter().collect()).collect()
    }

    /// Whether voters are between two sets, as far as this node knows.
    fn is_changing(&self) -> bool {
        self.voter_sets().len() > 1
    }

    /// Finishes a change of voters that a leader before this one left half done: until then both sets of voters
    /// have to agree. To be called by whoever begins to lead; does nothing if there is none.
    ///
    /// # Errors
    /// [`MembersError`].
    pub async fn finish_change(&self) -> Result<(), MembersError> {
        if !self.is_changing() {
            return Ok(());
        }
        // Nobody is added to the set that was aimed at, which leaves it alone.
        self.change(ChangeMembers::AddVoterIds(BTreeSet::new())).await
    }

    /// Makes a learner that has nearly caught up a voter.
    ///
    /// # Errors
    /// [`MembersError`].
    pub async fn promote(&self, node: u64) -> Result<(), MembersError> {
        let members = self.members();
        let Some(known) = members.iter().find(|known| known.node == node) else {
            return Err(MembersError::Unknown(node));
        };
        if known.voter && !self.is_changing() {
            return self.agreed().await;
        }
        if self.leads().is_some() {
            let last = self.metrics().last.0;
            let lag = last.saturating_sub(known.matched.unwrap_or(Lsn::ZERO).0);
            if lag > PROMOTION_LAG {
                return Err(MembersError::Behind { node, lag });
            }
        }
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([node]))).await
    }

    /// Takes a node out, voter or learner. A leader that takes itself out steps down once that is agreed.
    ///
    /// # Errors
    /// [`MembersError`]; the last voter cannot be taken out.
    pub async fn remove(&self, node: u64) -> Result<(), MembersError> {
        let members = self.members();
        let Some(known) = members.iter().find(|known| known.node == node) else {
            self.agreed().await?;
            return Err(MembersError::Unknown(node));
        };
        let nodes = BTreeSet::from([node]);
        if !known.voter {
            return self.change(ChangeMembers::RemoveNodes(nodes)).await;
        }
        if members.iter().filter(|member| member.voter).count() == 1 {
            return Err(MembersError::Refused("the last voter cannot be removed".into()));
        }
        self.change(ChangeMembers::RemoveVoters(nodes)).await
    }

    /// Asks `to`, or, without it, the voters in the order of how much of the log they have, to lead instead of
    /// this node, and waits until this node does not lead any more. Returns at once if it does not.
    ///
    /// A leader that hands over takes nothing more until another one is elected, so it asks first whether the
    /// other one is there and would.
    ///
    /// # Errors
    /// [`MembersError`]: there is nobody who would, or nobody took over within `patience`.
    pub async fn hand_over(&self, to: Option<u64>, patience: Duration) -> Result<(), MembersError> {
        let Some(term) = self.leads() else { return Ok(()) };
        if to == Some(self.node) {
            return Ok(());
        }
        let mut voters = self.members();
        voters.retain(|member| member.voter && member.node != self.node);
        match to {
            Some(to) => {
                voters.retain(|member| member.node == to);
                if voters.is_empty() {
                    return Err(MembersError::Unknown(to));
                }
            }
            // One that is there before one that was; then the one that has most.
            None => voters.sort_by_key(|member| {
                let there = member.silent.is_some_and(|silent| silent < SILENCE);
                Reverse((there, member.matched, Reverse(member.node)))
            }),
        }
        let mut why = "there is no other voter".to_owned();
        for MemberStanding { node, member, .. } in voters {
            let peer = network::peer(node, &member);
            match network::ask(&*self.transport, &peer, &Request::MayLead, SILENCE).await {
                Ok(Answer::TakeOver { accepted: true }) => {
                    // Whoever else is elected is as good, unless somebody asked for this one.
                    return match self.hand_to(node, term, patience).await? {
                        leader if leader == node || to.is_none() => Ok(()),
                        other => {
                            Err(MembersError::Refused(format!("node {other} was elected before node {node}")))
                        }
                    };
                }
                Ok(Answer::TakeOver { accepted: false }) => {
                    why = format!("node {node} stands back until it is restarted");
                }
                Ok(Answer::Refused(told)) => why = format!("node {node} refuses: {told}"),
                Ok(_) => why = format!("node {node} answers something else"),
                Err(Unreached::NoWay(told) | Unreached::NoAnswer(told)) => {
                    why = format!("node {node} is not reached: {told}");
                }
            }
        }
        Err(MembersError::Refused(why))
    }

    /// Hands over to `to`, and says who leads then.
    async fn hand_to(&self, to: u64, term: u64, patience: Duration) -> Result<u64, MembersError> {
        let stopped = |_| MembersError::Stopped;
        self.raft.trigger().transfer_leader(to).await.map_err(stopped)?;
        let taken = async {
            self.leads_unlike(Some(term)).await;
            let mut watch = self.raft.server_metrics();
            loop {
                let leader = watch.borrow_watched().current_leader;
                if leader.is_some() || watch.changed().await.is_err() {
                    return leader;
                }
            }
        };
        match R::timeout(patience, taken).await {
            Ok(Some(leader)) => Ok(leader),
            Ok(None) => Err(MembersError::Stopped),
            Err(_) => Err(MembersError::Refused(format!("node {to} did not take over in time"))),
        }
    }

    async fn change(&self, change: ChangeMembers<u64, Member>) -> Result<(), MembersError> {
        match self.raft.change_membership(change, false).await {
            Ok(ClientWriteResponse::<Types<R>> { .. }) => Ok(()),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Err(MembersError::NotLeader { leader: forward.leader_id })
            }
            Err(RaftError::APIError(error)) => Err(MembersError::Refused(error.to_string())),
            Err(RaftError::Fatal(_)) => Err(MembersError::Stopped),
        }
    }
}
