//! S5 sealed-is-final: a sealed segment's bytes are the same for ever.
//!
//! Mutant: edits a sealed segment.

use std::collections::BTreeMap;

use super::RawSegment;
use crate::disk::Device;

/// What sealed segments were when they were first seen, by number: the digest of all bytes, and the name that the next
/// one has for it.
pub type Sealed = BTreeMap<u64, ([u8; 32], [u8; 32])>;

/// Take down what is sealed now.
pub fn note(sealed: &mut Sealed, device: &Device) {
    for segment in RawSegment::all(device).iter().filter(|segment| segment.footer().is_some()) {
        let seen = || (blake3::hash(&segment.bytes).into(), segment.name());
        sealed.entry(segment.number).or_insert_with(seen);
    }
}

/// The first sealed segment that has changed or gone.
pub fn check(sealed: &Sealed, device: &Device) -> Result<(), String> {
    let now: BTreeMap<_, _> =
        RawSegment::all(device).into_iter().map(|segment| (segment.number, segment)).collect();
    for (number, (digest, name)) in sealed {
        match now.get(number) {
            None => return Err(format!("S5: sealed segment {number} is gone")),
            // One that was repaired and has other bytes says for which it stands.
            Some(segment) if segment.stands_for() == Some(*name) => {}
            Some(segment) if blake3::hash(&segment.bytes) != *digest => {
                return Err(format!("S5: sealed segment {number} has changed"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
