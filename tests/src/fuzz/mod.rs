//! Fuzz targets: plain functions that must not panic, whatever the bytes.
//!
//! One list for two drivers: the normal test run mutates the seeds and the committed corpus for a bounded number
//! of rounds ([`mutate`]), and `tests/fuzz.sh TARGET SECONDS` runs libFuzzer over the same functions with
//! coverage feedback. An input that once broke something goes into `tests/fuzz/corpus/TARGET/` and stays.
//!
//! A target does more than decode: what decodes must encode to the same bytes, so that two byte strings never
//! mean the same thing.

pub mod events;
pub mod ledger;
pub mod mutate;
pub mod proofs;
pub mod summary;

/// One decoder under attack.
#[derive(Clone, Copy)]
pub struct Target {
    /// Names it on the command line and its directory of the corpus.
    pub name: &'static str,
    /// Takes any bytes; panics on a broken promise.
    pub run: fn(&[u8]),
    /// Well-formed inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "event", run: events::event, seeds: events::event_seeds },
    Target { name: "record", run: events::record, seeds: events::record_seeds },
    Target { name: "checkpoint", run: proofs::checkpoint, seeds: proofs::checkpoint_seeds },
    Target { name: "receipt", run: proofs::receipt, seeds: proofs::receipt_seeds },
    Target { name: "ots", run: proofs::ots, seeds: proofs::ots_seeds },
    Target { name: "vkey", run: proofs::vkey, seeds: proofs::vkey_seeds },
    Target { name: "tile", run: proofs::tile, seeds: proofs::tile_seeds },
    Target { name: "body", run: summary::body, seeds: summary::body_seeds },
    Target { name: "decimal", run: summary::decimal, seeds: summary::decimal_seeds },
    Target { name: "policy", run: summary::policy, seeds: summary::policy_seeds },
    Target { name: "leaf", run: ledger::leaf, seeds: ledger::leaf_seeds },
    Target { name: "row", run: ledger::row, seeds: ledger::row_seeds },
    Target { name: "snapshot", run: ledger::snapshot, seeds: ledger::snapshot_seeds },
    Target { name: "block", run: segments::fuzz_block, seeds: segments::block_seeds },
    Target { name: "segment", run: segments::fuzz_segment, seeds: segments::segment_seeds },
    Target { name: "manifest", run: segments::runs::fuzz_manifest, seeds: ledger::manifest_seeds },
    Target { name: "filters", run: segments::runs::fuzz_filters, seeds: ledger::filters_seeds },
    Target { name: "listing", run: tools::snapshot::listing::fuzz, seeds: tools::snapshot::listing::seeds },
    Target { name: "files", run: server::peers::files::fuzz, seeds: server::peers::files::seeds },
    Target { name: "history", run: ledger::history, seeds: ledger::history_seeds },
];

/// The target of that name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}
