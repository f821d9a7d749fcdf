//! S6 chained: every batch stands where it says, in the order it says, and carries the digest of all bytes of
//! its segment before it; every segment carries the digest of the one before.
//!
//! Mutants: misplaced write, edits a sealed segment.

use super::RawSegment;
use crate::disk::Device;

/// The first broken link.
pub fn check(device: &Device) -> Result<(), String> {
    links(&RawSegment::all(device))
}

fn links(segments: &[RawSegment]) -> Result<(), String> {
    let (mut number, mut previous) = (None, None);
    for segment in segments {
        if let Some(previous) = previous.filter(|previous| segment.bytes[72..104] != *previous) {
            let _: [u8; 32] = previous;
            return Err(format!("S6: segment {} does not follow the one before", segment.number));
        }
        for at in segment.batches() {
            let chain: [u8; 32] = blake3::hash(&segment.bytes[..at]).into();
            let place = format!("segment {} offset {at}", segment.number);
            if segment.bytes[at + 96..at + 128] != chain {
                return Err(format!("S6: the chain is broken at {place}"));
            }
            if (segment.u64_at(at + 24), segment.u64_at(at + 32)) != (segment.number, at as u64) {
                return Err(format!("S6: a batch of another place at {place}"));
            }
            let this = segment.u64_at(at + 40);
            if number.is_some_and(|number| this != number + 1) {
                return Err(format!("S6: batch {this} follows {number:?} at {place}"));
            }
            number = Some(this);
        }
        previous = Some(segment.name());
    }
    Ok(())
}
