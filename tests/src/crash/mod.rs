//! The crash-consistency suite of the segment log: every short history, stopped everywhere, ended every way.
//!
//! - [`histories`] T1: every sequence of operations up to a length, dying at every disk operation of the last one,
//!   with every way in which what was in doubt can be lost; each world then lives on and loses power again.
//! - [`flips`] T2 and T3: every bit of a sealed segment, of the open one and of the manifest; every length.
//! - [`failures`] T4: the n-th write, sync and read fails, for every n, in every way.
//! - [`splices`] T5: good bytes in wrong places.
//! - [`mutants`]: disks that break an obligation, or swallow a step of the log's; T1 or T4 must see each of them.
//!
//! What every world is held against is in [`world`]: S1 (nothing acknowledged is missing), S2 (what survived is a
//! prefix of what was appended), S3 (after a failure nothing is accepted).

pub mod failures;
pub mod flips;
pub mod histories;
pub mod mutants;
pub mod splices;
pub mod world;

/// Scales the suite: `FLK_CRASH_DEPTH=4` walks histories of four operations, and so on. The default keeps the
/// whole suite under a minute in release.
pub fn depth(default: usize) -> usize {
    std::env::var("FLK_CRASH_DEPTH").ok().and_then(|depth| depth.parse().ok()).unwrap_or(default)
}

/// In a build that is not optimised, looks at one of so many cases.
pub fn stride(unoptimised: usize) -> usize {
    if cfg!(debug_assertions) { unoptimised } else { 1 }
}
