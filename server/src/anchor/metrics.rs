//! What a scrape and `/readyz?verbose` show of anchors.

use super::lane::Failure;
use super::{Anchors, Inner, Watched};
use engine::checkpoint::Signed;
use std::fmt::Write as _;

/// What is counted over all targets.
struct Sum {
    known: usize,
    cosigned: usize,
    met: bool,
    contradicted: Vec<String>,
    dead: usize,
    size: u64,
}

impl Anchors {
    fn sum(&self, inner: &Inner) -> Sum {
        let best = inner.state.witnessed_above(0);
        let known = self.policy.as_ref().map_or(0, |policy| policy.witnesses.len());
        let standing = self.policy.as_ref().zip(best).and_then(|(policy, best)| {
            let signed = Signed::parse(best.text().as_bytes()).ok()?;
            policy.standing(&signed).ok()
        });
        let contradicts = |one: &Watched| {
            one.lane.letter().is_some_and(|letter| matches!(letter.failure, Failure::Contradicted(_)))
        };
        let lanes = || self.targets.iter().zip(&inner.lanes);
        Sum {
            known,
            cosigned: standing.as_ref().map_or(0, |standing| standing.cosigned.len()),
            met: standing.is_some_and(|standing| standing.met),
            contradicted: lanes().filter(|(_, one)| contradicts(one)).map(|(t, _)| t.name.clone()).collect(),
            dead: inner.lanes.iter().filter(|one| one.lane.letter().is_some()).count(),
            size: best.map_or(0, |best| best.size),
        }
    }

    /// A line about the witnesses, and one about the other targets.
    pub fn lines(&self) -> [String; 2] {
        let inner = self.lock();
        let sum = self.sum(&inner);
        let mut witnesses = match (&self.policy, inner.ready) {
            (None, _) => "none configured: nobody outside holds this log to its history".to_owned(),
            (_, false) => "the log is read for what they said".to_owned(),
            _ => format!(
                "witnesses {}/{} on {} entries, policy {}",
                sum.cosigned,
                sum.known,
                sum.size,
                if sum.met { "met" } else { "NOT MET" }
            ),
        };
        if !sum.contradicted.is_empty() {
            let _ =
                write!(witnesses, "; CONTRADICTED by {}: flk audit dlq list", sum.contradicted.join(", "));
        }
        let others = self.targets.len() - self.asked();
        let anchors = match (others, sum.dead) {
            (0, 0) => "none configured".to_owned(),
            (others, 0) => format!("{others} configured, none given up"),
            (others, dead) => {
                format!("{others} configured; {dead} of all targets given up: flk audit dlq list")
            }
        };
        [witnesses, anchors]
    }

    fn asked(&self) -> usize {
        use engine::event::AnchorKind::Cosignature;
        self.targets.iter().filter(|target| target.kind() == Cosignature).count()
    }

    /// The section of a metrics page. `newest` leaves stand under the newest checkpoint.
    pub fn page(&self, newest: u64, now_ms: u64) -> String {
        let inner = self.lock();
        let sum = self.sum(&inner);
        let mut out = String::new();
        let mut gauge = |name, help, value: usize| {
            family(&mut out, name, "gauge", help);
            let _ = writeln!(out, "{name} {value}");
        };
        gauge("flk_witnesses", "Witnesses of the policy.", sum.known);
        let help = "Witnesses of the policy that cosigned the best witnessed checkpoint.";
        gauge("flk_witness_cosignatures", help, sum.cosigned);
        let help = "1 while the best witnessed checkpoint meets the policy, or there is none.";
        gauge("flk_witness_policy_met", help, usize::from(sum.met || self.policy.is_none()));
        let help = "Witnesses and places for copies that hold another history than this log.";
        gauge("flk_witness_contradicted", help, sum.contradicted.len());
        gauge("flk_anchor_dead_letters", "Targets whose last checkpoint was given up.", sum.dead);
        self.rows(&mut out, &inner, newest, now_ms);
        out
    }

    fn rows(&self, out: &mut String, inner: &Inner, newest: u64, now_ms: u64) {
        type Value = fn(&Watched, u64, u64) -> u64;
        let rows: [(&str, &str, &str, Value); 4] = [
            (
                "flk_anchor_backlog_leaves",
                "gauge",
                "Leaves under the newest checkpoint that a target has not attested; none where the plan does without it.",
                |_, behind, _| behind,
            ),
            (
                "flk_anchor_backlog_age_seconds",
                "gauge",
                "For how long there have been such leaves.",
                |one, behind, now_ms| match (behind, one.behind_ms) {
                    (0, _) | (_, 0) => 0,
                    (_, since) => now_ms.saturating_sub(since) / 1000,
                },
            ),
            ("flk_anchor_attested_total", "counter", "Checkpoints attested.", |one, _, _| one.succeeded),
            ("flk_anchor_failures_total", "counter", "Tries that failed.", |one, _, _| one.failed),
        ];
        for (name, kind, help, value) in rows {
            if self.targets.is_empty() {
                continue;
            }
            family(out, name, kind, help);
            for (target, one) in self.targets.iter().zip(&inner.lanes) {
                let done = inner.state.done(target.kind(), &target.name).map_or(0, |done| done.size);
                let behind = if one.spared { 0 } else { newest.saturating_sub(done) };
                let value = value(one, behind, now_ms);
                let (kind, target) = (target.kind().name(), escaped(&target.name));
                let _ = writeln!(out, "{name}{{kind=\"{kind}\",target=\"{target}\"}} {value}");
            }
        }
    }
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A label's value: names of keys may hold what would end it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
