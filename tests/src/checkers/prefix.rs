//! S2 prefix: the log at the end is what was appended, without hole or stranger, and holds every record
//! that any life has applied, as that life saw it.
//!
//! Mutants: ack before fsync, no directory sync, ENOSPC ignored, short write taken for whole, retry after a
//! failed fsync, off-by-one watermark.

use crate::sim::history::{History, Sight};
use engine::log::Lsn;

/// The first record that is missing, or is another one.
pub fn check(history: &History, sight: &Sight) -> Result<(), String> {
    for (nth, (lsn, record)) in sight.records.iter().enumerate() {
        if *lsn != Lsn(nth as u64 + 1) {
            return Err(format!("S2: record {lsn} follows {nth}"));
        }
        let Some(applied) = history.applied.get(lsn) else { continue };
        if (applied.term, &applied.events) != (record.term, &record.events) {
            return Err(format!("S2: record {lsn} is not the one that was applied"));
        }
    }
    let end = sight.records.len() as u64;
    if let Some((lsn, _)) = history.applied.range(Lsn(end + 1)..).next() {
        return Err(format!("S2: record {lsn} was applied, and the log ends at {end}"));
    }
    // A new life leads in a new term, so no log id is ever given twice (the regression named
    // `enable_leader_restore`).
    for pair in history.terms.windows(2) {
        if pair[1].1 <= pair[0].1 {
            return Err(format!("S2: life {} led in term {} after term {}", pair[1].0, pair[1].1, pair[0].1));
        }
    }
    Ok(())
}
