//! Planted bugs of groups. Each lives in a port of the product - disk, transport, machine - or in the world
//! around it; the product has no switch for any of them.

use super::{TrioOptions, resumed, run, together};
use crate::disk::Sloppy;
use crate::sim::mutants::FoldMutant;

/// What is wrong in this world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mutant {
    /// Nothing.
    #[default]
    None,
    /// Every disk breaks an obligation.
    Disk(Sloppy),
    /// Every machine answers wrongly.
    Fold(FoldMutant),
    /// openraft's default: a restarted leader goes on in its old term. Shown on a group of its own, see `resumed`.
    Resumes,
    /// The transport says for a peer that it holds what it was not sent.
    AcksForOthers,
    /// The same for learners only: they become voters and lack entries.
    AcksForLearners,
    /// A voter says yes to a second candidate of the same term.
    GrantsTwice,
    /// A leader calls entries of older terms agreed because a majority holds them.
    CommitsOldTerm,
    /// Followers take what they are sent for agreed.
    CommitsAll,
    /// The codec drops the field that says what is agreed.
    DropsCommitted,
    /// Appends that travel together change places.
    SwapsEntries,
    /// An entry is left out and those behind it move up.
    LeavesHole,
    /// A candidate says that its log is longer than it is.
    LiesAboutLog,
    /// A message arrives at another node than the one named, and is answered in its name.
    Misdelivers,
    /// A node with a new disk is taken for the one that had its name.
    ForgetsIncarnation,
    /// A follower's machine leaves out a record now and then.
    SkipsEntry,
    /// A follower's machine applies a record twice now and then.
    AppliesTwice,
    /// A restart goes on with the membership before the one that it should know.
    StaleMembership,
    /// A restart goes on with an empty index of names.
    EmptyTable,
    /// A node that computed something else does not compare itself with what was attested.
    ComparesNothing,
    /// It compares, and goes on all the same.
    IgnoresAlarm,
    /// Reads do not ask who leads.
    StaleRead,
    /// A node that passes a submission on answers it itself.
    AnswersForwarded,
    /// A leader answers what it has not agreed yet.
    AnswersAtOnce,
    /// A node whose log is rotten makes of it what it likes before it opens it.
    Repair(WrongRepair),
    /// A node that repairs its log does not ask in which term it may have given a vote.
    ForgetsVote,
    /// It votes while it repairs.
    VotesInRepair,
    /// A node that may have lost a vote takes the word of one that is in repair itself for that of one at work.
    CountsInRepair,
    /// A node in repair reads on into the damage for others.
    GivesDamaged,
}

/// How a repair may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongRepair {
    /// Rot in the last segment is taken for a torn tail.
    Truncates,
    /// What is lost is not asked for: something empty stands in its place.
    Skips,
    /// A peer's frame is taken as it comes.
    Unverified,
    /// The same from one that has it from another leader.
    OtherTerm,
}

impl Mutant {
    /// Is it the repair of logs that is wrong? Nobody sees that while none rots.
    pub fn repairs(self) -> bool {
        use Mutant::*;
        matches!(self, Repair(_) | ForgetsVote | VotesInRepair | CountsInRepair | GivesDamaged)
            || matches!(self, Disk(sloppy) if sloppy.no_sync_of_repairs)
    }

    /// Is it the transport that is wrong?
    pub fn lies(self) -> bool {
        use Mutant::*;
        matches!(
            self,
            AcksForOthers
                | AcksForLearners
                | CommitsOldTerm
                | CommitsAll
                | DropsCommitted
                | SwapsEntries
                | LeavesHole
                | LiesAboutLog
        )
    }
}

/// Every mutant, with the name it has in reports and on the command line.
pub fn all() -> Vec<(&'static str, Mutant)> {
    let disk = |sloppy| Mutant::Disk(sloppy);
    let none = Sloppy::default();
    vec![
        ("enable-leader-restore", Mutant::Resumes),
        ("ack-before-local-sync", disk(Sloppy { no_sync: true, ..none })),
        ("vote-not-synced", disk(Sloppy { no_sync_of_votes: true, ..none })),
        ("no-directory-sync", disk(Sloppy { no_directory_sync: true, ..none })),
        ("retry-after-failed-sync", disk(Sloppy { retry_failed_sync: true, ..none })),
        ("short-write-taken-for-whole", disk(Sloppy { short_writes_are_whole: true, ..none })),
        ("misplaced-write", disk(Sloppy { misplaces: true, ..none })),
        ("truncates-committed", disk(Sloppy { loses_last_sync: true, ..none })),
        ("ack-before-quorum", Mutant::AcksForOthers),
        ("promotes-a-learner-that-lacks-entries", Mutant::AcksForLearners),
        ("votes-twice-in-a-term", Mutant::GrantsTwice),
        ("vote-for-a-shorter-log", Mutant::LiesAboutLog),
        ("commits-an-older-term", Mutant::CommitsOldTerm),
        ("applies-beyond-commit", Mutant::CommitsAll),
        ("codec-drops-a-field", Mutant::DropsCommitted),
        ("pipelining-reorders", Mutant::SwapsEntries),
        ("leaves-a-hole", Mutant::LeavesHole),
        ("delivers-to-another-node", Mutant::Misdelivers),
        ("incarnation-not-checked", Mutant::ForgetsIncarnation),
        ("skips-an-entry", Mutant::SkipsEntry),
        ("applies-twice", Mutant::AppliesTwice),
        ("membership-of-the-wrong-index", Mutant::StaleMembership),
        ("names-not-in-the-snapshot", Mutant::EmptyTable),
        ("divergence-not-compared", Mutant::ComparesNothing),
        ("alarm-ignored", Mutant::IgnoresAlarm),
        ("last-write-wins", Mutant::Fold(FoldMutant::LastWriteWins)),
        ("wall-clock-in-a-decision", Mutant::Fold(FoldMutant::TtlByWallClock)),
        ("cross-tenant-key", Mutant::Fold(FoldMutant::CrossTenantKey)),
        ("restart-point-off-by-one", Mutant::Fold(FoldMutant::WatermarkOffByOne)),
        ("stale-read", Mutant::StaleRead),
        ("follower-answers-before-apply", Mutant::AnswersForwarded),
        ("answers-at-once", Mutant::AnswersAtOnce),
        ("retry-recorded-twice", Mutant::Fold(FoldMutant::RetryIsFirst)),
        ("rot-taken-for-a-torn-tail", Mutant::Repair(WrongRepair::Truncates)),
        ("rot-skipped", Mutant::Repair(WrongRepair::Skips)),
        ("repair-not-verified", Mutant::Repair(WrongRepair::Unverified)),
        ("repair-from-another-term", Mutant::Repair(WrongRepair::OtherTerm)),
        ("repair-not-synced", disk(Sloppy { no_sync_of_repairs: true, ..none })),
        ("repair-forgets-the-vote", Mutant::ForgetsVote),
        ("votes-while-in-repair", Mutant::VotesInRepair),
        ("counts-those-in-repair", Mutant::CountsInRepair),
        ("gives-what-is-damaged", Mutant::GivesDamaged),
    ]
}

/// The mutant with this name.
pub fn named(name: &str) -> Option<Mutant> {
    all().into_iter().find_map(|(known, mutant)| (known == name).then_some(mutant))
}

/// The first broken promise of one seed, if there is one.
pub fn caught(options: &TrioOptions) -> Option<String> {
    match options.mutant {
        Mutant::Resumes => resumed::run(options.seed, true).violations.into_iter().next(),
        Mutant::CountsInRepair => together::votes(options).violations.into_iter().next(),
        Mutant::GivesDamaged => together::apart(options).violations.into_iter().next(),
        _ => run(options).violations.into_iter().next(),
    }
}

/// How many seeds, from the first on, until a mutant is caught; and by what. `None` after `most`.
pub fn seeds_to_kill(options: &TrioOptions, most: u64) -> Option<(u64, String)> {
    (0..most).find_map(|n| {
        let seed = options.seed + n;
        let fresh = TrioOptions {
            mutant: options.mutant,
            nodes: options.nodes,
            rot: options.rot || options.mutant.repairs(),
            ..TrioOptions::new(seed, options.steps)
        };
        caught(&fresh).map(|broken| (n + 1, broken))
    })
}
