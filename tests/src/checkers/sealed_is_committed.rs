//! S4 sealed-is-committed: nothing in a sealed segment was ever void. With one voter: the last position that
//! a footer speaks of is in the log, and so is all before it. With several a later segment may void the end of what a
//! full one held; what no later segment voids is in the log here, too.
//!
//! Mutant: sealing before the commit.

use super::RawSegment;
use crate::disk::Device;
use crate::sim::history::Sight;

/// Where a batch's header says the lowest position that it keeps; all ones where it voids nothing.
const KEPT: usize = 88;

/// The first segment that was sealed too early.
pub fn check(device: &Device, sight: &Sight) -> Result<(), String> {
    too_early(&RawSegment::all(device), sight.records.len() as u64, false)
}

/// The same in a log of a group.
pub fn check_of_many(device: &Device, sight: &Sight) -> Result<(), String> {
    too_early(&RawSegment::all(device), sight.records.len() as u64, true)
}

/// Does a batch in here void this position of a segment before it?
fn voids(segment: &RawSegment, lsn: u64) -> bool {
    segment.batches().iter().any(|at| segment.u64_at(at + KEPT) < lsn)
}

fn too_early(segments: &[RawSegment], end: u64, many: bool) -> Result<(), String> {
    for (nth, segment) in segments.iter().enumerate() {
        let Some((last, _)) = segment.footer() else { continue };
        let voided = many && segments[nth + 1..].iter().any(|later| voids(later, last));
        if last > end && !voided {
            return Err(format!(
                "S4: segment {} is sealed up to {last}, the log ends at {end}",
                segment.number
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::BLOCK;

    #[test]
    fn the_mutant_that_seals_before_the_commit_is_seen() {
        let mut bytes = vec![0; 2 * BLOCK];
        bytes[BLOCK..BLOCK + 8].copy_from_slice(b"FLKSEAL\0");
        bytes[BLOCK + 48] = 5;
        let segments = [RawSegment { number: 1, bytes }];
        for many in [false, true] {
            assert_eq!(too_early(&segments, 5, many), Ok(()));
            assert!(too_early(&segments, 4, many).is_err());
        }
    }

    #[test]
    fn only_what_a_later_segment_voids_may_stand_past_the_end() {
        let footer = |last: u8| {
            let mut bytes = vec![0; 2 * BLOCK];
            bytes[BLOCK..BLOCK + 8].copy_from_slice(b"FLKSEAL\0");
            bytes[BLOCK + 48] = last;
            bytes
        };
        let open = |kept: u64| {
            let mut bytes = vec![0; 3 * BLOCK];
            bytes[BLOCK..BLOCK + 4].copy_from_slice(b"FLKB");
            bytes[BLOCK + 8..BLOCK + 12].copy_from_slice(&(BLOCK as u32).to_le_bytes());
            bytes[BLOCK + KEPT..BLOCK + KEPT + 8].copy_from_slice(&kept.to_le_bytes());
            bytes
        };
        let log =
            |kept| [(1, footer(5)), (2, open(kept))].map(|(number, bytes)| RawSegment { number, bytes });
        assert_eq!(too_early(&log(4), 4, true), Ok(()));
        assert!(too_early(&log(5), 4, true).is_err());
        assert!(too_early(&log(u64::MAX), 4, true).is_err());
        assert!(too_early(&log(4), 4, false).is_err());
    }
}
