//! I3 replay-identical: two replays give one digest after every record, and every life that applied a
//! record had the same.
//!
//! Mutants: digest of this life, forgets at restart.

use crate::sim::history::{History, Sight};

/// The first record after which two folds differ.
pub fn check(history: &History, sight: &Sight, again: &Sight) -> Result<(), String> {
    if let Some((lsn, life)) = history.rewritten.first() {
        return Err(format!("I3: life {life} applied record {lsn} otherwise than a life before it"));
    }
    for ((lsn, first), (_, second)) in sight.records.iter().zip(&again.records) {
        if first != second {
            return Err(format!("I3: two replays differ at record {lsn}"));
        }
        let Some(live) = history.applied.get(lsn) else { continue };
        if live.digest != first.digest {
            return Err(format!("I3: live and replayed ledger differ at record {lsn}"));
        }
    }
    if sight.leaves == again.leaves { Ok(()) } else { Err("I3: two replays give other leaves".into()) }
}
