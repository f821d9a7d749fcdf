//! What a node does when it begins to lead its group, and when it ceases.
//!
//! A new leader first makes sure that it has everything that was agreed before it (ReadIndex) and knows a quorum's time; then it stamps no
//! submission earlier than what the log holds, brings the logged tenants to what is configured here, and
//! only then takes submissions. A group of one goes through the same steps at its start.

use crate::clock::Clock as _;
use crate::group_time;
use crate::node::{Node, StartError};
use crate::tenants::reconcile;
use raft::{Batch, Member, ProposeError, ReadError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Settings events in one record while tenants are brought up to date.
const SETTINGS_A_RECORD: usize = 1000;
/// Between two tries of something that the group may allow soon.
const PAUSE: Duration = Duration::from_millis(20);

impl Node {
    /// Whether this node leads and takes submissions.
    pub fn leads(&self) -> bool {
        self.leading.load(Ordering::Acquire)
    }

    /// Whether other nodes can be asked.
    pub fn has_peers(&self) -> bool {
        self.peers.is_some()
    }

    /// Begins to take submissions as the leader of `term`. Returns early when it leads no more.
    ///
    /// # Errors
    /// What keeps a single node from starting: keys that cannot be used, or a log that takes nothing.
    pub async fn take_lead(&self, term: u64) -> Result<(), StartError> {
        while let Err(error) = self.group.read_index().await {
            if error == ReadError::Stopped || self.group.leads() != Some(term) {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        while self.has_peers() && !group_time::ask(self).await {
            if self.group.leads() != Some(term) {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        let log_time_ms = self.fold.core().ledger.log_time_ms();
        self.queue.lead(term, log_time_ms);
        let now_ms = self.time.wall_ms().max(log_time_ms);
        let events = reconcile(&self.config, &self.fold.core().ledger, &self.fold.terms.kek, now_ms)?;
        for events in events.chunks(SETTINGS_A_RECORD) {
            let batch = Batch { events: Arc::new(events.to_vec()), local: None };
            match self.group.propose(batch).await {
                Ok(_) => {}
                // Another one leads and does the same.
                Err(ProposeError::NotLeader { .. } | ProposeError::Unknown) if self.has_peers() => {
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.queue.lead(term, self.fold.core().ledger.log_time_ms());
        self.fold.lead(true);
        self.leading.store(true, Ordering::Release);
        Ok(())
    }

    /// Takes no more submissions itself.
    pub fn cede(&self) {
        self.leading.store(false, Ordering::Release);
        self.fold.lead(false);
    }

    /// What the membership should say of this node.
    pub fn me(&self) -> Member {
        match &self.peers {
            Some(peers) => Member { address: peers.advertise.clone(), incarnation: self.hello.incarnation },
            None => Member::default(),
        }
    }
}

/// Has the membership say where this node is: an operator may have moved it to another address, or given it one for the
/// first time.
async fn locate(node: &Node) {
    let me = node.me();
    if node.has_peers()
        && node.group.member(node.config.node_id).as_ref() != Some(&me)
        && let Err(error) = node.group.add(node.config.node_id, me).await
    {
        tracing::warn!(%error, "the membership does not say where this node is");
    }
}

/// Follows the group: leads when this node is elected, cedes when it is not.
pub async fn follow(node: Arc<Node>) {
    let mut led = node.led;
    if led.is_some() {
        locate(&node).await;
    }
    loop {
        let now = node.group.leads_unlike(led).await;
        node.cede();
        led = now;
        let Some(term) = now else {
            tracing::info!(leader = node.group.leader(), "this node does not lead");
            continue;
        };
        tracing::info!(term, "this node leads");
        if let Err(error) = node.take_lead(term).await {
            tracing::error!(%error, "this node leads and cannot bring the tenants up to date; it takes none of their submissions");
            continue;
        }
        if let Err(error) = node.group.finish_change().await {
            tracing::warn!(%error, "a change of voters is half done");
        }
        locate(&node).await;
    }
}
