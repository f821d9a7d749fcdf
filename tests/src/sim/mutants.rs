//! Planted bugs. Each is a way in which an implementation of a port could be wrong; the product itself
//! has no switch for any of them. A checker that no mutant can upset is not one.

use engine::event::{Envelope, Event};
use engine::ledger::Lineage;
use engine::log::Lsn;
use engine::summary::{PcsId, parse};

use super::fold::Fold;
use super::history::Answer;
use crate::disk::Sloppy;

/// What is wrong in this world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mutant {
    /// Nothing.
    #[default]
    None,
    /// The disk breaks an obligation.
    Disk(Sloppy),
    /// The machine answers wrongly.
    Fold(FoldMutant),
    /// The proposer does.
    Door(DoorMutant),
}

/// Wrong machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoldMutant {
    /// A later content replaces an earlier one.
    LastWriteWins,
    /// The index is asked before the signature.
    DedupBeforeVerify,
    /// Names expire by the clock on the wall.
    TtlByWallClock,
    /// Names are shared by all tenants.
    CrossTenantKey,
    /// A restart point one record too far on.
    WatermarkOffByOne,
    /// State that a restart loses goes into the answers.
    ForgetsAtRestart,
    /// The tree's last leaf differs from life to life.
    RewritesLeaf,
    /// The digest depends on the life of the process.
    DigestOfLife,
    /// A duplicate that comes soon after the first counts as a first.
    RetryIsFirst,
}

/// Wrong doors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoorMutant {
    /// Answers when the batch is handed over.
    AnswersAtOnce,
    /// Answers duplicates from what is still in flight.
    AnswersDuplicatesEarly,
    /// Logs what it understood, not what was sent.
    LogsWhatItParsed,
    /// Admits without a limit.
    Unbounded,
}

/// Every mutant, with the name it has in reports.
pub fn all() -> Vec<(&'static str, Mutant)> {
    let disk = |sloppy| Mutant::Disk(sloppy);
    let none = Sloppy::default();
    vec![
        ("ack before fsync", disk(Sloppy { no_sync: true, ..none })),
        ("vote not synced", disk(Sloppy { no_sync_of_votes: true, ..none })),
        ("no directory sync", disk(Sloppy { no_directory_sync: true, ..none })),
        ("retry after a failed fsync", disk(Sloppy { retry_failed_sync: true, ..none })),
        ("short write taken for whole", disk(Sloppy { short_writes_are_whole: true, ..none })),
        ("ENOSPC ignored", disk(Sloppy { full_is_success: true, ..none })),
        ("misplaced write", disk(Sloppy { misplaces: true, ..none })),
        ("edits a sealed segment", disk(Sloppy { edits_sealed: true, ..none })),
        ("last write wins", Mutant::Fold(FoldMutant::LastWriteWins)),
        ("dedup before verify", Mutant::Fold(FoldMutant::DedupBeforeVerify)),
        ("TTL by wall clock", Mutant::Fold(FoldMutant::TtlByWallClock)),
        ("cross-tenant key", Mutant::Fold(FoldMutant::CrossTenantKey)),
        ("off-by-one watermark", Mutant::Fold(FoldMutant::WatermarkOffByOne)),
        ("forgets at restart", Mutant::Fold(FoldMutant::ForgetsAtRestart)),
        ("rewrites a leaf", Mutant::Fold(FoldMutant::RewritesLeaf)),
        ("digest of this life", Mutant::Fold(FoldMutant::DigestOfLife)),
        ("answers at once", Mutant::Door(DoorMutant::AnswersAtOnce)),
        ("answers duplicates early", Mutant::Door(DoorMutant::AnswersDuplicatesEarly)),
        ("logs what it parsed", Mutant::Door(DoorMutant::LogsWhatItParsed)),
        ("no bound at the door", Mutant::Door(DoorMutant::Unbounded)),
    ]
}

impl Fold {
    /// What this machine says instead of the right answer.
    pub(super) fn mutate(&mut self, lsn: Lsn, nth: u32, event: &Event, right: Answer) -> Answer {
        let (Mutant::Fold(mutant), Event::Received(envelope)) = (self.mutant(), event) else { return right };
        match mutant {
            FoldMutant::LastWriteWins => match right {
                Answer::Conflict { accepted, .. } => Answer::First { accepted },
                right => right,
            },
            FoldMutant::DedupBeforeVerify => match (right, self.claimed(envelope)) {
                (Answer::Refused(_), Some(lineage)) => {
                    let first = (lineage.first.lsn, lineage.first.nth);
                    Answer::Duplicate { first, accepted: lineage.first.accepted() }
                }
                (right, _) => right,
            },
            FoldMutant::TtlByWallClock => match right {
                Answer::Duplicate { accepted, .. } | Answer::Conflict { accepted, .. } => {
                    let first = self.claimed(envelope).map_or(0, |lineage| lineage.first.time_ms);
                    let expired = super::clock::wall_ms() > first + super::workload::TTL_MS;
                    if expired { Answer::First { accepted } } else { right }
                }
                right => right,
            },
            FoldMutant::CrossTenantKey => {
                let Some(id) = claimed_id(envelope) else { return right };
                let first = *self.seen.entry(id).or_insert((lsn, nth));
                match right {
                    Answer::First { accepted } if first != (lsn, nth) => {
                        Answer::Duplicate { first, accepted }
                    }
                    right => right,
                }
            }
            FoldMutant::ForgetsAtRestart => match right {
                Answer::Duplicate { first, accepted } if !self.mine.contains(&first) => {
                    Answer::First { accepted }
                }
                Answer::First { .. } => {
                    self.mine.insert((lsn, nth));
                    right
                }
                right => right,
            },
            FoldMutant::RetryIsFirst => match right {
                Answer::Duplicate { first, accepted } if lsn.0 - first.0.0 < 4 => Answer::First { accepted },
                right => right,
            },
            FoldMutant::WatermarkOffByOne | FoldMutant::RewritesLeaf | FoldMutant::DigestOfLife => right,
        }
    }

    fn claimed(&self, envelope: &Envelope) -> Option<Lineage<'_>> {
        let id = claimed_id(envelope)?;
        self.ledger().lineage(&envelope.tenant, &id).ok().flatten()
    }
}

fn claimed_id(envelope: &Envelope) -> Option<PcsId> {
    PcsId::from_hex(&parse(&envelope.body).ok()?.pcs_id)
}
