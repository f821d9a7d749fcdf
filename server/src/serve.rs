//! A node at work: the tasks around it, and the order in which it stops.

use crate::http::{Api, Front, terms};
use crate::mtls::certificates;
use crate::node::{Node, StartError};
use crate::peers::given;
use crate::scrub::{Scrubber, Terms};
use crate::{anchor, confirm, disk, group_time, lead, proposer, ship};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How long a leader that stops waits for another to take over.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(5);

/// A node that serves.
pub struct Running {
    /// Where it listens.
    pub address: std::net::SocketAddr,
    node: Arc<Node>,
    drain: watch::Sender<bool>,
    listener: JoinHandle<usize>,
    proposer: JoinHandle<()>,
    notary: JoinHandle<()>,
    scrubber: Option<Scrubber>,
    follower: JoinHandle<()>,
    peers: Option<JoinSet<()>>,
    watchers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts to serve an open node, in the place of who answered there before.
    ///
    /// # Errors
    /// When a thread is refused.
    pub async fn start(node: Node, front: Front) -> Result<Running, StartError> {
        let node = Arc::new(node);
        let address = front.address;
        let proposer = tokio::spawn(proposer::run(
            node.queue.clone(),
            node.group.clone(),
            node.fold.clone(),
            node.pool.clone(),
            node.metrics.clone(),
            node.config.batches_in_flight,
            node.group.record_max(),
        ));
        let notary = tokio::spawn(notary(node.clone()));
        let scrubber = scrubber(&node).map_err(StartError::Thread)?;
        let follower = tokio::spawn(lead::follow(node.clone()));
        let mut watchers =
            vec![tokio::spawn(disk::watch(node.clone())), tokio::spawn(anchor::run(node.clone()))];
        if node.regions.is_some() {
            watchers.push(tokio::spawn(ship::run(node.clone())));
        }
        let peers = node.peers.as_ref().and_then(|way| {
            node.fold.want_confirmation();
            watchers.push(tokio::spawn(confirm::run(node.clone())));
            watchers.push(tokio::spawn(group_time::watch(node.clone())));
            watchers.push(tokio::spawn(confirm::receipts(node.clone())));
            way.give(&node)
        });
        let certificates: Vec<_> = node.certificates().into_iter().map(|(_, one)| one).collect();
        if !certificates.is_empty() {
            let (refused, ends) = (&node.metrics.certificates_refused, &node.metrics.certificate_ends);
            watchers.push(tokio::spawn(certificates::watch(certificates, refused.clone(), ends.clone())));
        }
        let (drain, draining) = watch::channel(false);
        let patience = node.config.drain_timeout;
        let terms = terms(&node.config, front.workers.clone());
        let listener = tokio::spawn(crate::http::run(
            front.give_way().await?,
            Api::new(node.clone()),
            terms,
            node.slots.clone(),
            draining,
            patience,
        ));
        Ok(Running { address, node, drain, listener, proposer, notary, scrubber, follower, peers, watchers })
    }

    /// The node.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Returns, with the reason, when the ledger cannot go on: what it holds may be wrong.
    pub async fn ledger_died(&self) -> String {
        self.node.fold.died().await
    }

    /// Returns, with the reason, when the log takes nothing any more (S3).
    pub async fn log_failed(&self) -> String {
        self.node.group.failure().await.to_string()
    }

    /// Takes no part in the group any more: no votes, no entries, no reads of what was computed. What an operator
    /// asks is still answered.
    pub async fn halt(&self) {
        self.node.cede();
        self.node.group.halt().await;
    }

    /// Stops in order: the lead handed over, no new connections, requests in flight answered, a last
    /// checkpoint, the log closed, a snapshot, everything written.
    pub async fn stop(self) {
        let Running {
            node, drain, listener, mut proposer, notary, scrubber, follower, peers, watchers, ..
        } = self;
        watchers.iter().for_each(JoinHandle::abort);
        drop(scrubber);
        node.draining.store(true, Ordering::Relaxed);
        if node.has_peers() && node.group.members().iter().filter(|member| member.voter).count() > 1 {
            node.group.stand_back();
            // The others elect one anyway if nobody takes over; it takes them a second or two longer.
            if let Err(error) = node.group.hand_over(None, HAND_OVER_PATIENCE).await {
                tracing::warn!(%error, "the lead was not handed over");
            }
        }
        // The receivers live in tasks that may be gone already.
        let _ = drain.send(true);
        match listener.await {
            Ok(0) => {}
            Ok(cut) => tracing::warn!(cut, "connections were cut off at the end of the drain"),
            Err(error) => tracing::error!(%error, "the listener ended badly"),
        }
        notary.abort();
        follower.abort();
        node.fold.attest();
        node.queue.close();
        // Without a quorum what was proposed last is not agreed, however long one waits; who asked for it has gone.
        if tokio::time::timeout(HAND_OVER_PATIENCE, &mut proposer).await.is_err() {
            tracing::warn!(
                "the last records were not agreed in time; whether they will be, the others decide"
            );
            proposer.abort();
        }
        // From here on nothing is folded any more, also not what others propose.
        drop(peers);
        node.group.shutdown().await;
        let fold = node.fold.clone();
        if fold.fatal().is_none() {
            // Writing may take a moment, and nothing else runs any more.
            fold.snapshot();
        }
        fold.projector.drain();
        tracing::info!(applied = fold.core().ledger.applied().0, "stopped");
    }
}

/// The scrubber, unless it is turned off.
fn scrubber(node: &Node) -> std::io::Result<Option<Scrubber>> {
    let config = &node.config;
    if config.scrub_bytes_per_s == 0 {
        return Ok(None);
    }
    let terms =
        Terms { dir: config.log_path(), bytes_per_s: config.scrub_bytes_per_s, every: config.scrub_every };
    let group = node.group.clone();
    let sealed = move || group.metrics().sealed;
    let (group, runtime) = (node.group.clone(), tokio::runtime::Handle::current());
    let mend = move |damage: &segments::Damage| {
        let (group, segment, why) = (group.clone(), damage.segment, damage.to_string());
        runtime.spawn(async move { group.mend(segment, &why).await.is_ok() })
    };
    Scrubber::start(terms, sealed, node.fold.damages.clone(), Box::new(mend), node.metrics.clone()).map(Some)
}

/// Signing takes milliseconds, in which this thread has others to serve.
async fn attest(node: &Arc<Node>) {
    let fold = node.fold.clone();
    if let Err(error) = tokio::task::spawn_blocking(move || fold.attest()).await {
        tracing::error!(%error, "attesting ended badly");
    }
}

/// Attests and checkpoints at least every `attest.idle_ms` while there is anything new, and at once when there is much.
async fn notary(node: Arc<Node>) {
    let mut tick = tokio::time::interval(node.config.attest_idle);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sealed = 0;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = node.fold.much_to_attest() => {
                attest(&node).await;
                continue;
            }
        }
        attest(&node).await;
        node.fold.look_for_room();
        node.fold.look_at_vkeys();
        let now = node.log_metrics().sealed;
        if node.peers.is_some() && now > sealed {
            let theirs = node.clone();
            // What was kept before is as good; a new node has a little more to compute.
            match tokio::task::spawn_blocking(move || given::keep(&theirs, now)).await {
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    sealed = now;
                    tracing::warn!(%error, "no ledger is kept for new nodes");
                }
                _ => sealed = now,
            }
        }
        // A full disk is looked at again also while nobody submits anything; a group that has stopped has nothing to look at.
        if node.log_metrics().refused.is_some() {
            let _ = node.group.look_for_room().await;
        }
    }
}
