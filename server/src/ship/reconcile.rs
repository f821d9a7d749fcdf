//! Cases: where regions differ, what is proposed, and what becomes of it.
//!
//! ```text
//! what is seen here (findings) -> Proposed -> Approved by the rule or by a person, or Refused -> Effected
//! ```
//! Only the node that leads opens cases, and every step is an event of the log: a new leader goes on with the same ones, and what
//! was decided, by whom and why is there for good. No step changes a record, an outcome or a leaf. A case is named by what it is
//! about, so that it is opened once however often it is seen. A conflict of two regions is opened in the one whose first does not stand:
//! its client is who was told something else.
//!
//! L1: at most so many are opened at a time, and no more than the ledger remembers.

use super::{Regions, TICK};
use crate::node::Node;
use engine::event::{CaseId, Event, REASON_MAX, Reconciled, Remedy, SCORE_MAX, SUBJECT_MAX, Step};
use engine::ledger::{Case, CaseState, Clash};
use engine::limits::TIME_MAX_MS;
use engine::log::Lsn;
use raft::Batch;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks at what differs.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Cases opened or moved by one record.
const AT_ONCE: usize = 16;
/// Tries in a row that fail before something is called missing.
const TRIES: u64 = 3;
/// Two clocks of machines that are kept in time differ by no more than this, ms: the earlier of two that are further apart was
/// earlier.
const CLOCKS_MS: u64 = 10_000;

/// Something that differs, and what could be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    remedy: Remedy,
    score: u16,
    subject: String,
    reason: String,
}

impl Finding {
    fn id(&self) -> CaseId {
        CaseId::of(self.remedy, &self.subject)
    }

    /// A region's log cannot be taken in: to fetch it again can do no harm.
    fn missing(region: &str, after: Lsn, why: &str) -> Finding {
        Finding {
            remedy: Remedy::ReplayMissing,
            score: 990,
            subject: format!("missing {region} {}", after.next()),
            reason: format!(
                "{why}; what is fetched again counts only where the log ended, under the region's key"
            ),
        }
    }

    fn quarantined(region: &str, at: Lsn, part: &str) -> Finding {
        Finding {
            remedy: Remedy::ManualReview,
            score: 0,
            subject: format!("quarantine {region} {at} {part}"),
            reason: "the log contradicts itself: nobody but a person can say which side was changed".into(),
        }
    }

    fn diverged(with: &str, what: &super::standing::Difference) -> Finding {
        Finding {
            remedy: Remedy::ManualReview,
            score: 0,
            subject: format!("divergence {with} {}", what.log),
            reason: format!("{what}: nobody but a person can say which side was changed"),
        }
    }

    /// Two contents under one name. The score grows with the time between them: which was earlier is certain when clocks
    /// could not have turned it round.
    fn conflict(clash: &Clash) -> Finding {
        let ((winner, leaf, won_ms), (loser, other, lost_ms)) = (&clash.winner, &clash.other);
        let apart_ms = lost_ms.saturating_sub(*won_ms);
        let score = 500 + 400 * apart_ms.min(CLOCKS_MS) / CLOCKS_MS;
        Finding {
            remedy: Remedy::ChooseFirst,
            score: score as u16,
            subject: format!("conflict {} {winner} {leaf} {loser} {other}", engine::codec::hex(&clash.key)),
            reason: format!(
                "that of {winner} is earlier by {apart_ms} ms of log time; that of {loser} does not stand"
            ),
        }
    }
}

/// What differs now, as this node sees it.
fn findings(node: &Node, regions: &Regions) -> Vec<Finding> {
    let differences = regions.differences();
    let refused: Vec<(String, u64, Option<String>)> = {
        let inner = regions.lock();
        let rows = regions.peers.iter().zip(&inner.peers);
        rows.map(|(peer, imports)| (peer.region.clone(), imports.in_a_row, imports.why.clone())).collect()
    };
    let core = node.fold.core();
    let mut out = Vec::new();
    for (region, in_a_row, why) in refused {
        let quarantine = core.ledger.origin(&region).and_then(|origin| origin.quarantine());
        match (quarantine, why) {
            (Some(found), _) => out.push(Finding::quarantined(&region, found.at.lsn, &found.part)),
            (None, Some(why)) if in_a_row >= TRIES => {
                let after = Lsn(core.ledger.position_of(&region).lsn.0 - 1);
                out.push(Finding::missing(&region, after, &why));
            }
            _ => {}
        }
    }
    out.extend(differences.iter().map(|(with, what)| Finding::diverged(with, what)));
    let lost = core.ledger.clashes().filter(|clash| clash.other.0 == regions.own);
    out.extend(lost.map(Finding::conflict));
    out
}

/// The next steps of cases: new ones for what was found, approvals that the rule gives, and what came of them.
/// `position` says up to which record a region's log is here.
fn steps(
    found: Vec<Finding>,
    cases: &[Case],
    above: u16,
    position: impl Fn(&str) -> Lsn,
) -> Vec<(CaseId, Step, String)> {
    let mut out = Vec::new();
    for case in cases {
        let safe = case.score > above;
        match (case.state, case.remedy) {
            (CaseState::Open, _) if safe => {
                let reason = format!("score {} is above {}", decimal(case.score), decimal(above));
                out.push((case.id, Step::Approved, reason));
            }
            (CaseState::Approved, Remedy::ReplayMissing) => {
                let mut words = case.subject.split(' ').skip(1);
                let (Some(region), Some(from)) = (words.next(), words.next().and_then(|n| n.parse().ok()))
                else {
                    continue;
                };
                let here = position(region);
                if here >= Lsn(from) {
                    out.push((case.id, Step::Effected, format!("taken in up to record {here}")));
                }
            }
            _ => {}
        }
    }
    for finding in found {
        let id = finding.id();
        if cases.iter().any(|case| case.id == id) || out.iter().any(|(known, ..)| *known == id) {
            continue;
        }
        let Finding { remedy, score, subject, reason } = finding;
        if subject.len() <= SUBJECT_MAX {
            out.push((id, Step::Proposed { remedy, score, subject }, reason));
        }
    }
    out.truncate(AT_ONCE);
    out
}

/// A score as people write it: between 0 and 1.
pub fn decimal(score: u16) -> String {
    format!("{}.{:03}", score / SCORE_MAX, score % SCORE_MAX)
}

/// Text of at most so many bytes, cut where a character begins.
pub fn cut(mut text: String, most: usize) -> String {
    while text.len() > most {
        text.pop();
    }
    text
}

/// Looks, proposes and decides by rule, while this node leads.
pub async fn run(node: Arc<Node>) {
    let Some(regions) = &node.regions else { return };
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if !node.leads() || node.fold.stalled() || node.fold.damages.any() {
            continue;
        }
        let found = findings(&node, regions);
        let steps = {
            let core = node.fold.core();
            let cases: Vec<Case> = core.ledger.cases().cloned().collect();
            let position = |region: &str| Lsn(core.ledger.position_of(region).lsn.0 - 1);
            steps(found, &cases, regions.reconcile_above, position)
        };
        if steps.is_empty() {
            continue;
        }
        let again = steps.iter().any(|(_, step, _)| *step == Step::Approved);
        if let Err(why) = log(&node, steps, false).await {
            tracing::warn!(why, "what is proposed about other regions is not in the log; it is tried again");
            tokio::time::sleep(TICK).await;
        } else if again {
            regions.look_again();
        }
    }
}

/// Steps become events. Whether they count the ledger decides.
///
/// # Errors
/// Why they are not agreed.
pub async fn log(node: &Node, steps: Vec<(CaseId, Step, String)>, by_person: bool) -> Result<(), String> {
    let at_ms = node.clock.wall_ms().min(TIME_MAX_MS);
    let event = |(case, step, reason): (CaseId, Step, String)| {
        tracing::info!(case = %case, step = step.name(), by_person, reason, "reconciliation");
        Event::Reconciled(Reconciled { at_ms, case, by_person, reason: cut(reason, REASON_MAX), step })
    };
    let events = steps.into_iter().map(event).collect();
    let batch = Batch { events: Arc::new(events), local: None };
    node.group.propose(batch).await.map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clash(won_ms: u64, lost_ms: u64) -> Clash {
        Clash { key: [7; 32], winner: ("a".into(), 3, won_ms), other: ("b".into(), 5, lost_ms), fields: 1 }
    }

    fn case(finding: &Finding, state: CaseState) -> Case {
        Case {
            id: finding.id(),
            remedy: finding.remedy,
            score: finding.score,
            subject: finding.subject.clone(),
            reason: finding.reason.clone(),
            proposed_ms: 1,
            state,
            decided_ms: 0,
            by_person: false,
            decision: String::new(),
        }
    }

    #[test]
    fn the_score_of_a_conflict_grows_with_the_time_between_its_contents() {
        let score = |apart: u64| Finding::conflict(&clash(1000, 1000 + apart)).score;
        assert_eq!([score(0), score(5000), score(10_000), score(1 << 40)], [500, 700, 900, 900]);
        assert_eq!(
            (decimal(990), decimal(1000), decimal(7)),
            ("0.990".into(), "1.000".into(), "0.007".into())
        );
    }

    #[test]
    fn what_is_safe_goes_by_itself_and_the_rest_waits() {
        let missing = Finding::missing("b", Lsn(6), "the bill is missing");
        let conflict = Finding::conflict(&clash(1, 2));
        let nowhere = |_: &str| Lsn(6);
        let opened = steps(vec![missing.clone(), conflict.clone(), missing.clone()], &[], 950, nowhere);
        let names: Vec<_> = opened.iter().map(|(id, step, _)| (*id, step.name())).collect();
        assert_eq!(names, [(missing.id(), "proposed"), (conflict.id(), "proposed")]);
        let cases = [case(&missing, CaseState::Open), case(&conflict, CaseState::Open)];
        let next = steps(vec![missing.clone(), conflict.clone()], &cases, 950, nowhere);
        assert_eq!(next, [(missing.id(), Step::Approved, "score 0.990 is above 0.950".into())]);
        assert_eq!(steps(Vec::new(), &cases, SCORE_MAX, nowhere), []);
        // It is done when what was missing is here.
        let cases = [case(&missing, CaseState::Approved), case(&conflict, CaseState::Approved)];
        assert_eq!(steps(vec![missing.clone(), conflict.clone()], &cases, 950, nowhere), []);
        let next = steps(Vec::new(), &cases, 950, |region| Lsn(if region == "b" { 9 } else { 0 }));
        assert_eq!(next, [(missing.id(), Step::Effected, "taken in up to record 9".into())]);
        for state in [CaseState::Refused, CaseState::Effected] {
            assert_eq!(steps(vec![missing.clone()], &[case(&missing, state)], 950, nowhere), []);
        }
    }

    #[test]
    fn a_reason_is_cut_where_a_character_begins() {
        assert_eq!(cut("aäb".into(), 2), "a");
        assert_eq!(cut("aäb".into(), 3), "aä");
    }
}
