//! L1 bounded: never more batches on their way than the group was told to let in, and the one that waits.
//!
//! Mutant: no bound at the door.

use crate::sim::world::IN_FLIGHT;

/// `most` batches were on their way at once.
pub fn check(most: u64) -> Result<(), String> {
    if most <= IN_FLIGHT as u64 + 1 {
        Ok(())
    } else {
        Err(format!("L1: {most} batches in flight, {IN_FLIGHT} let in"))
    }
}
