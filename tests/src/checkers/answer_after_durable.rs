//! I6 answer-after-durable: at the moment of an answer, the record it speaks of, and the first it points to,
//! would survive if the power went now and took everything that is not synced.
//!
//! Mutants: answers at once, answers duplicates early, ack before fsync.

use engine::log::Lsn;

use crate::sim::history::Place;

/// `end` is the last record that would survive.
pub fn check(place: Place, first: Option<Place>, end: Lsn) -> Result<(), String> {
    let needed = first.map_or(place.0, |first| first.0.max(place.0));
    if needed <= end {
        Ok(())
    } else {
        Err(format!("I6: record {needed} was answered, and {end} is durable"))
    }
}
