//! S5 sealed-is-final: a sealed segment's bytes are the same for ever.
//!
//! Mutant: edits a sealed segment.

use std::collections::BTreeMap;

use super::RawSegment;
use crate::disk::Device;

/// Digests of sealed segments, by number, as they were first seen.
pub type Sealed = BTreeMap<u64, [u8; 32]>;

/// Take down what is sealed now.
pub fn note(sealed: &mut Sealed, device: &Device) {
    for segment in RawSegment::all(device).iter().filter(|segment| segment.footer().is_some()) {
        sealed.entry(segment.number).or_insert_with(|| blake3::hash(&segment.bytes).into());
    }
}

/// The first sealed segment that has changed or gone.
pub fn check(sealed: &Sealed, device: &Device) -> Result<(), String> {
    let now: BTreeMap<_, _> =
        RawSegment::all(device).into_iter().map(|segment| (segment.number, segment.bytes)).collect();
    for (number, digest) in sealed {
        match now.get(number) {
            None => return Err(format!("S5: sealed segment {number} is gone")),
            Some(bytes) if blake3::hash(bytes) != *digest => {
                return Err(format!("S5: sealed segment {number} has changed"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
