//! S3 once-failed-stays-failed: a process whose write or sync has failed writes nothing more. Counted by the
//! disk itself, below whatever calls it.
//!
//! Mutants: retry after a failed fsync, short write taken for whole.

use crate::disk::Suffered;

/// Was anything written by a process after its first failure?
pub fn check(suffered: &Suffered) -> Result<(), String> {
    match suffered.writes_after_failure {
        0 => Ok(()),
        writes => Err(format!("S3: {writes} writes came after a failed one in the same life")),
    }
}
