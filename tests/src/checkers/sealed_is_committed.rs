//! S4 sealed-is-committed: nothing in a sealed segment was ever void. With one voter: the last position that
//! a footer speaks of is in the log, and so is all before it.
//!
//! Mutant: sealing before the commit.

use super::RawSegment;
use crate::disk::Device;
use crate::sim::history::Sight;

/// The first segment that was sealed too early.
pub fn check(device: &Device, sight: &Sight) -> Result<(), String> {
    too_early(&RawSegment::all(device), sight.records.len() as u64)
}

fn too_early(segments: &[RawSegment], end: u64) -> Result<(), String> {
    for segment in segments {
        let Some((last, _)) = segment.footer() else { continue };
        if last > end {
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
        assert_eq!(too_early(&segments, 5), Ok(()));
        assert!(too_early(&segments, 4).is_err());
    }
}
