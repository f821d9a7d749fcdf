//! Anchors: what others say of our checkpoints. Witnesses cosign them, authorities stamp the time on them, calendars and
//! directories keep them.
//!
//! One engine for all kinds. A target's task is to attest the newest checkpoint ([`lane`]); what it attested is an
//! `Anchored` event in the log, and where every target stands is a fold of those ([`state`], kept at the log by
//! [`follow`]). So a crash loses no task, and a task that runs twice changes nothing. Only the node that leads its group
//! works ([`work`]); all of them serve what was collected.
//!
//! Nothing waits for a target: not a submission, not a receipt, not readiness. What is missing shows in `/readyz?verbose`,
//! in the metrics and in every receipt.

mod admin;
pub mod bucket;
mod calendar;
mod copy;
mod enrich;
mod files;
mod follow;
mod lane;
mod metrics;
mod place;
mod plan;
mod stamp;
mod state;
mod targets;
mod witness;
mod work;

pub use admin::Act;
pub use follow::Feed;
pub use lane::{Failure, Lane, Next, Terms};
pub use state::State;
pub use targets::{Target, TargetError};
pub use work::run;

use crate::config::Config;
use crate::outbound::Outbound;
use crate::projections::tiles::Published;
use engine::checkpoint::{Signed, TrustPolicy};
use engine::log::Lsn;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use targets::Targets;
use tokio::sync::Notify;

/// Everything about anchors that a node has.
pub struct Anchors {
    /// Points the follower at records.
    pub feed: Arc<Feed>,
    /// Whom we ask, in the order of the settings.
    pub targets: Vec<Target>,
    policy: Option<TrustPolicy>,
    /// What a plan is to reach, if targets are planned.
    goals: Option<plan::Goals>,
    outbound: Outbound,
    tries: u32,
    lanes_file: std::path::PathBuf,
    inner: Mutex<Inner>,
    moved: Notify,
}

#[derive(Default)]
struct Inner {
    state: State,
    ready: bool,
    lanes: Vec<Watched>,
    /// Until when the plan that `spared` follows is not made again, milliseconds.
    planned_ms: u64,
    /// The checkpoint that all witnesses are asked about now, and since when, milliseconds.
    round: Option<(u64, Published)>,
    /// How far this process brought places for copies: at most one for each target.
    copied: BTreeMap<String, copy::Copied>,
}

/// A lane with what is measured of it.
#[derive(Default)]
struct Watched {
    lane: Lane,
    /// Since when there is something this target has not attested, milliseconds; 0 when there is nothing.
    behind_ms: u64,
    succeeded: u64,
    failed: u64,
    /// How the last tries ended, for the plan.
    tally: plan::Tally,
    /// The plan does without it.
    spared: bool,
}

impl Anchors {
    /// Reads the settings and what lanes were left.
    ///
    /// # Errors
    /// [`TargetError`], naming the file.
    pub fn open(config: &Config, feed: Arc<Feed>) -> Result<Anchors, TargetError> {
        let Targets { list, policy, goals, outbound } = Targets::load(config)?;
        let lanes_file = config.data_dir.join("proj").join("anchor-lanes");
        let left = std::fs::read(&lanes_file).ok();
        let mut left: BTreeMap<String, Lane> =
            left.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let mut lane = |target: &Target| left.remove(&target.label()).unwrap_or_default();
        let lanes = list.iter().map(|target| Watched { lane: lane(target), ..Watched::default() }).collect();
        let inner = Mutex::new(Inner { lanes, ..Inner::default() });
        let moved = Notify::new();
        let tries = config.anchor_tries;
        Ok(Anchors { feed, targets: list, policy, goals, outbound, tries, lanes_file, inner, moved })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether the state has caught up with the log.
    pub fn is_ready(&self) -> bool {
        self.lock().ready
    }

    /// The follower has come further.
    fn publish(&self, state: State) {
        let mut inner = self.lock();
        inner.state = state;
        inner.ready = true;
        drop(inner);
        self.moved.notify_waiters();
    }

    /// Waits until the state holds this record, and shows it.
    pub async fn folded<T>(&self, lsn: Lsn, look: impl FnOnce(&State) -> T) -> T {
        loop {
            let moved = self.moved.notified();
            {
                let inner = self.lock();
                if inner.ready && inner.state.upto >= lsn.0 {
                    return look(&inner.state);
                }
            }
            moved.await;
        }
    }

    /// What stands for another log that we watch.
    pub fn seen(&self, origin: &str) -> Option<state::Seen> {
        self.lock().state.seen(origin).cloned()
    }

    /// Leaves under the newest checkpoint of ours that a key of this name cosigned, and when that was logged, milliseconds.
    pub fn cosigned_by(&self, name: &str) -> Option<(u64, u64)> {
        let inner = self.lock();
        let done = inner.state.done(engine::event::AnchorKind::Cosignature, name)?;
        Some((done.size, done.at_ms))
    }

    /// Which targets attest a checkpoint now, and why; without goals all of them do.
    fn plan(&self, inner: &Inner, now_ms: u64) -> plan::Plan {
        let Some(goals) = &self.goals else { return plan::Plan::default() };
        let candidate = |(target, one): (&Target, &Watched)| {
            let price = target.price?;
            let failure = one.lane.letter().map(|letter| &letter.failure);
            Some(plan::Candidate {
                name: target.name.clone(),
                price,
                every_s: target.every_ms as f64 / 1000.0,
                reliability: one.tally.reliability(price.reliability, now_ms),
                contradicts: matches!(failure, Some(Failure::Contradicted(_))),
            })
        };
        let candidates: Vec<_> = self.targets.iter().zip(&inner.lanes).filter_map(candidate).collect();
        plan::plan(&candidates, goals)
    }

    /// How a target is tried.
    fn terms(&self, target: &Target) -> Terms {
        Terms { every_ms: target.every_ms, tries: self.tries }
    }

    /// The checkpoint to show for an entry: one that covers it, with as many cosignatures as there are. Beside it `k/n`:
    /// how many of the known witnesses stand under it.
    pub fn best(&self, newest: Published, entry: u64) -> (Published, String) {
        let cosigned = self.lock().state.witnessed_above(entry).cloned();
        let published = match cosigned {
            Some(one) => Published { size: one.size, note: one.text().into_bytes() },
            None => newest,
        };
        let count = self.count(&published.note);
        (published, count)
    }

    /// The newest checkpoint, with its cosignatures if it has any; or, if `witnessed`, the one that has most.
    pub fn shown(&self, newest: Published, witnessed: bool) -> Published {
        let inner = self.lock();
        let found = match witnessed {
            true => inner.state.witnessed_above(0),
            false => inner.state.witnessed_at(newest.size),
        };
        match found {
            Some(one) => Published { size: one.size, note: one.text().into_bytes() },
            None => newest,
        }
    }

    /// `0/n`: nobody has cosigned.
    pub fn none(&self) -> String {
        format!("0/{}", self.policy.as_ref().map_or(0, |policy| policy.witnesses.len()))
    }

    /// `k/n` for a note; `0/0` without a policy.
    fn count(&self, note: &[u8]) -> String {
        let standing = self.policy.as_ref().zip(Signed::parse(note).ok());
        match standing.map(|(policy, signed)| policy.standing(&signed)) {
            Some(Ok(standing)) => standing.to_string(),
            _ => self.none(),
        }
    }
}
