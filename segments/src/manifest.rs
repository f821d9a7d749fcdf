//! The manifest: which segments exist, in 8 KiB however long the log is.
//!
//! Segments are numbered from 1 without a gap, and each names the digest of the one before, so the last of
//! them stands for all. The manifest holds what a lost or torn segment header would leave unknown. It has two
//! slots; each change goes, in one write and one sync, to the slot that does not hold the newest value.
//!
//! ```text
//! slot k at k * 4096, holds the generations with g mod 2 = k
//!   0 "FLKMANIF"                                  56 first_batch  number of its first batch
//!   8 crc      CRC-32 of the slot's other bytes   64 tip          last position before it
//!  12 version  u32, 1                             72 previous     BLAKE3 digest of the segment before it
//!  16 fingerprint of the limits, u64             104 sealed       the last sealed segment, or 0
//!  24 cluster, 16 bytes                          112 digest       its BLAKE3 digest, or zeros
//!  40 generation  from 1                         144 bytes        length of the file of `active`
//!  48 active   the last segment that was begun   152 length of the region's name, u8
//!                                                153 region, then zeros
//! ```

use engine::limits::{BLOCK, fingerprint};
use engine::log::{Digest, Lsn};

use crate::bytes::{array, close_block, is_zero, put, u64_at};
use crate::damage::Flaw;
use crate::place::Identity;
use crate::segment::{BlockFlaw, FORMAT_VERSION, SegmentHeader, open_block, put_region, region_at};

/// File name of the manifest.
pub const MANIFEST: &str = "MANIFEST";

/// Length of the manifest's file, bytes.
pub(crate) const MANIFEST_BYTES: u64 = 2 * BLOCK as u64;

const MAGIC: [u8; 8] = *b"FLKMANIF";

/// Which segments exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// 1 for the first manifest of a log, one more for each change.
    pub generation: u64,
    /// The header of the last segment that was begun.
    pub active: SegmentHeader,
    /// Number of the last sealed segment, 0 when none is.
    pub sealed: u64,
    /// Its digest, zero when none is.
    pub sealed_digest: Digest,
}

impl Manifest {
    /// Where this generation is stored.
    pub(crate) fn offset(&self) -> u64 {
        self.generation % 2 * BLOCK as u64
    }

    pub(crate) fn encode(&self) -> Box<[u8; BLOCK]> {
        let mut slot = Box::new([0; BLOCK]);
        put(&mut slot[..], 0, &MAGIC);
        put(&mut slot[..], 12, &FORMAT_VERSION.to_le_bytes());
        put(&mut slot[..], 16, &fingerprint().to_le_bytes());
        put(&mut slot[..], 24, &self.active.identity.cluster);
        put(&mut slot[..], 40, &self.generation.to_le_bytes());
        put(&mut slot[..], 48, &self.active.number.to_le_bytes());
        put(&mut slot[..], 56, &self.active.first_batch.to_le_bytes());
        put(&mut slot[..], 64, &self.active.tip.0.to_le_bytes());
        put(&mut slot[..], 72, &self.active.previous.0);
        put(&mut slot[..], 104, &self.sealed.to_le_bytes());
        put(&mut slot[..], 112, &self.sealed_digest.0);
        put(&mut slot[..], 144, &self.active.bytes.to_le_bytes());
        put_region(&mut slot, 152, &self.active.identity.region);
        close_block(&mut slot);
        slot
    }

    fn decode(slot: &[u8; BLOCK], nth: u64) -> Result<Manifest, BlockFlaw> {
        open_block(slot, MAGIC, "manifest slot")?;
        if u64_at(slot, 16) != fingerprint() {
            return Err(BlockFlaw::Limits(u64_at(slot, 16)));
        }
        let bad = |at, expected: &str, found: u64| Err(BlockFlaw::Bad(Flaw::new(at, expected, found)));
        let region = region_at(slot, 152, BLOCK).map_err(BlockFlaw::Bad)?;
        let active = SegmentHeader {
            identity: Identity { cluster: array(slot, 24), region },
            number: u64_at(slot, 48),
            first_batch: u64_at(slot, 56),
            tip: Lsn(u64_at(slot, 64)),
            bytes: u64_at(slot, 144),
            previous: Digest(array(slot, 72)),
            stands_for: Digest::ZERO,
        };
        let manifest = Manifest {
            generation: u64_at(slot, 40),
            active,
            sealed: u64_at(slot, 104),
            sealed_digest: Digest(array(slot, 112)),
        };
        if manifest.generation == 0 || manifest.generation % 2 != nth {
            return bad(40, "a generation that belongs into this slot", manifest.generation);
        }
        if manifest.sealed >= manifest.active.number {
            return bad(104, "a sealed segment before the active one", manifest.sealed);
        }
        if manifest.active.bytes < 4 * BLOCK as u64 || !manifest.active.bytes.is_multiple_of(BLOCK as u64) {
            return bad(144, "a length of four blocks or more", manifest.active.bytes);
        }
        Ok(manifest)
    }
}

/// What the two slots hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slots {
    /// The newest whole value.
    pub newest: Option<Manifest>,
    /// The one before it, where both slots are whole.
    pub older: Option<Manifest>,
    /// A slot that is neither whole nor empty nor merely older: a torn write, or rot.
    pub damaged: Option<Flaw>,
}

impl Slots {
    /// Reads both slots. Of a value of another version, of other limits, this says so whatever the other holds.
    pub(crate) fn decode(file: &[u8]) -> Result<Slots, BlockFlaw> {
        if file.len() as u64 != MANIFEST_BYTES {
            return Err(BlockFlaw::Bad(Flaw::new(0, format!("{MANIFEST_BYTES} bytes"), file.len())));
        }
        let mut slots = Slots { newest: None, older: None, damaged: None };
        for (nth, slot) in file.as_chunks::<BLOCK>().0.iter().enumerate() {
            match Manifest::decode(slot, nth as u64) {
                Ok(manifest) => {
                    slots.older = match &slots.newest {
                        Some(newest) if newest.generation > manifest.generation => Some(manifest),
                        _ => slots.newest.replace(manifest),
                    };
                }
                Err(BlockFlaw::Bad(_)) if is_zero(slot) => {}
                Err(BlockFlaw::Bad(flaw)) => slots.damaged = Some(flaw.within((nth * BLOCK) as u64)),
                Err(other) => return Err(other),
            }
        }
        Ok(slots)
    }
}
