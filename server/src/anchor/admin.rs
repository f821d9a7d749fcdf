//! What operators see of the targets, and what they may do about dead letters.

use super::Anchors;
use super::lane::Failure;
use serde_json::{Value, json};

/// What to do about a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Try now.
    Retry,
    /// Give it up: nothing is tried before there is a newer checkpoint.
    Drop,
}

impl Anchors {
    /// Every target with its cursor and its dead letter. `newest` leaves stand under the newest checkpoint.
    pub fn show(&self, newest: u64, now_ms: u64) -> Value {
        let inner = self.lock();
        let rows = self.targets.iter().zip(&inner.lanes).map(|(target, one)| {
            let done = inner.state.done(target.kind(), &target.name);
            let size = done.map_or(0, |done| done.size);
            let behind = if one.spared { 0 } else { newest.saturating_sub(size) };
            let letter = one.lane.letter().map(|letter| {
                let kind = match letter.failure {
                    Failure::Later(..) => "no-answer",
                    Failure::Refused(_) => "refused",
                    Failure::Contradicted(_) => "contradicted",
                };
                json!({
                    "size": letter.size, "since_ms": letter.since_ms, "last_ms": letter.last_ms, "tries": letter.tries,
                    "kind": kind, "why": letter.failure.why(),
                })
            });
            let age_s = if behind == 0 || one.behind_ms == 0 { 0 } else { now_ms.saturating_sub(one.behind_ms) / 1000 };
            json!({
                "target": target.name, "kind": target.kind().name(), "every_s": target.every_ms as f64 / 1000.0,
                "attested": size, "attested_ms": done.map(|done| done.at_ms), "backlog": behind, "backlog_age_s": age_s,
                "failed_tries": one.lane.tries(), "dead_letter": letter, "spared": one.spared,
                "promised": inner.state.promised(&target.name).count(),
                "block": inner.state.block(&target.name).map(|block| {
                    json!({"attested": block.size, "height": block.height, "merkle_root": block.root})
                }),
            })
        });
        let rows: Vec<Value> = rows.collect();
        let plan = self.goals.map(|goals| json!({"goals": goals, "plan": self.plan(&inner, now_ms)}));
        let unplanned = self.targets.iter().filter(|target| target.price.is_none());
        let always: Vec<&str> = unplanned.map(|target| target.name.as_str()).collect();
        json!({
            "ready": inner.ready, "upto": inner.state.upto, "newest": newest, "targets": rows, "plan": plan,
            "always": always,
        })
    }

    /// Acts on the dead letter of the target with this name, or of all that have one. How many there were.
    pub fn act(&self, act: Act, name: Option<&str>) -> usize {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let mut count = 0;
        for (target, one) in self.targets.iter().zip(&mut inner.lanes) {
            if one.lane.letter().is_none() || name.is_some_and(|name| name != target.name) {
                continue;
            }
            count += 1;
            match act {
                Act::Retry => one.lane.retry(),
                Act::Drop => drop(one.lane.drop_letter()),
            }
        }
        if count > 0 {
            self.save_lanes(inner);
        }
        count
    }
}
