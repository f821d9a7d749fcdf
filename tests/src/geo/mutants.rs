//! Planted bugs of regions. Each lives in a port - the node that ships, the place, the machine; the product has no switch for
//! any of them.

use super::{GeoOptions, run};

/// What is wrong in this world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mutant {
    /// Nothing.
    #[default]
    None,
    /// A receiver goes on behind a gap, as if what comes next were what is missing.
    SkipsARange,
    /// A receiver leaves out a record and counts on.
    SkipsARecord,
    /// A range that comes a second time is taken for the next one.
    AppliesTwice,
    /// Of two firsts the one wins that came here first, by the wall clock.
    TieByWallClock,
    /// A client is answered as if there were no other region.
    OwnLogOnly,
    /// What was fetched is cosigned before it is agreed.
    SignsBeforeStoring,
    /// What was known of others when a record was decided does not travel with it.
    ForgetsSeen,
    /// A bill counts, whoever signed it.
    AcceptsAnothersBill,
    /// A range is not held against its bill.
    ChunkNotVerified,
    /// The shipper goes on before its bill is stored.
    BillNotAwaited,
    /// A receiver that starts again folds its log without what came from others.
    ForgetsImports,
    /// The last bill is never looked at.
    LosesTheEnd,
    /// What a submission's signature was found to be is not shipped.
    DropsSignatures,
    /// A cosignature of another region's log counts as one of ours.
    MirrorOfAnother,
    /// What is withheld is shipped all the same.
    ShipsWhatStays,
    /// The leaf of another submission is told for what is withheld.
    LeafOfAnother,
    /// That a tenant is withheld does not travel.
    ForgetsWhatStays,
}

/// Every mutant, with its name in reports.
pub fn all() -> Vec<(&'static str, Mutant)> {
    use Mutant::*;
    vec![
        ("skips-a-range", SkipsARange),
        ("skips-a-record", SkipsARecord),
        ("applies-twice", AppliesTwice),
        ("tie-by-wall-clock", TieByWallClock),
        ("own-log-only", OwnLogOnly),
        ("signs-before-storing", SignsBeforeStoring),
        ("forgets-seen", ForgetsSeen),
        ("accepts-anothers-bill", AcceptsAnothersBill),
        ("chunk-not-verified", ChunkNotVerified),
        ("watermark-before-bill", BillNotAwaited),
        ("forgets-imports-at-restart", ForgetsImports),
        ("loses-the-end", LosesTheEnd),
        ("drops-signatures", DropsSignatures),
        ("mirror-not-checked", MirrorOfAnother),
        ("ships-what-stays", ShipsWhatStays),
        ("leaf-of-another", LeafOfAnother),
        ("forgets-what-stays", ForgetsWhatStays),
    ]
}

/// The mutant with this name.
pub fn named(name: &str) -> Option<Mutant> {
    all().into_iter().find_map(|(known, mutant)| (known == name).then_some(mutant))
}

/// How many seeds, from the first on, until a mutant is caught; and by what. `None` after `most`.
pub fn seeds_to_kill(fresh: impl Fn(u64) -> GeoOptions, first: u64, most: u64) -> Option<(u64, String)> {
    (0..most).find_map(|n| run(&fresh(first + n)).violations.into_iter().next().map(|broken| (n + 1, broken)))
}
