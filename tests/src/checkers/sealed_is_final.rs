//! S5 sealed-is-final: a sealed segment's bytes are the same for ever.
//!
//! Mutant: edits a sealed segment.

use std::collections::BTreeMap;

use super::RawSegment;
use crate::disk::Device;

/// What sealed segments were when they were first seen, by number: the digest of all bytes, and the name that the next
/// one has for it.
pub type Sealed = BTreeMap<u64, ([u8; 32], [u8; 32])>;

/// Take down what is sealed now, whatever happens. A footer that only the page cache has may go with the power: the
/// manifest, which comes after its sync, has promised it to nobody.
pub fn note(sealed: &mut Sealed, device: &Device) {
    for segment in RawSegment::all(&device.image()).iter().filter(|segment| segment.footer().is_some()) {
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

#[cfg(test)]
mod tests {
    use segments::{Disk, segment_name};

    use super::*;
    use crate::checkers::BLOCK;
    use crate::disk::Sloppy;

    #[test]
    fn a_footer_counts_once_it_is_durable() {
        let device = Device::new(1, Sloppy::default());
        let mut disk = device.attach();
        disk.prepare(&segment_name(1), 4 * BLOCK as u64).unwrap();
        disk.prepared(true).unwrap().unwrap();
        let file = disk.open(&segment_name(1)).unwrap();
        disk.write(file, 0, b"FLKSEGMT").unwrap();
        disk.sync(file).unwrap();

        let mut sealed = Sealed::new();
        disk.write(file, 3 * BLOCK as u64, b"FLKSEAL\0").unwrap();
        note(&mut sealed, &device);
        assert!(sealed.is_empty(), "the power may take it");
        disk.sync(file).unwrap();
        note(&mut sealed, &device);
        assert_eq!((sealed.len(), check(&sealed, &device)), (1, Ok(())));
        device.rot(&segment_name(1), BLOCK, 1);
        assert!(check(&sealed, &device).unwrap_err().starts_with("S5"));
        device.lose_file(&segment_name(1));
        assert!(check(&sealed, &device).is_err());
    }
}
