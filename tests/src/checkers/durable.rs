//! S1 durable, seen from outside: whatever a client was told is in the log at the end, with that answer.
//!
//! Mutants: ack before fsync, answers at once, retry after a failed fsync, ENOSPC ignored.

use std::collections::BTreeMap;

use crate::sim::history::{History, Sight};

/// The first answer that the log does not bear out.
pub fn check(history: &History, sight: &Sight) -> Result<(), String> {
    let there: BTreeMap<_, _> = sight.events().map(|(place, _, answer)| (place, *answer)).collect();
    for told in &history.told {
        match there.get(&told.place) {
            None => return Err(format!("S1: {:?} was answered and is gone", told.place)),
            Some(answer) if *answer != told.answer => {
                return Err(format!(
                    "S1: {:?} was told {:?}, the log says {answer:?}",
                    told.place, told.answer
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
