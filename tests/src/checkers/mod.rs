//! One file per invariant, named in `docs/INVARIANTS.md`. Each is a second reading of its rule, by other
//! means than the product's, and each names the mutants that it must catch.
//!
//! A checker is a function from what was seen to the first broken promise, if any.

pub mod answer_after_durable;
pub mod bounded;
pub mod chained;
pub mod durable;
pub mod first_write_wins;
pub mod log_before_parse;
pub mod merge;
pub mod once_failed;
pub mod one_canon;
pub mod prefix;
pub mod regions_converge;
pub mod replay_identical;
pub mod sealed_is_committed;
pub mod sealed_is_final;
pub mod ship_in_order;
pub mod tenants_apart;
pub mod tree_append_only;
pub mod verify_before_dedup;

use crate::disk::Device;
use crate::sim::history::{History, Sight};

/// What is left of a segment once it is read as `segments/src/segment.rs` draws it.
pub struct RawSegment {
    /// Its number.
    pub number: u64,
    /// All of its bytes.
    pub bytes: Vec<u8>,
}

/// Size of the unit of the log's files.
pub const BLOCK: usize = 4096;

impl RawSegment {
    /// The segments of a log, by number. One that was prepared and not begun is all zeros and no segment.
    pub fn all(device: &Device) -> Vec<RawSegment> {
        (1..)
            .map_while(|number| {
                let bytes = device.bytes(&segments::segment_name(number))?;
                (bytes[..8] == *b"FLKSEGMT").then_some(RawSegment { number, bytes })
            })
            .collect()
    }

    /// The little-endian number at `at`.
    pub fn u64_at(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().expect("eight bytes"))
    }

    /// The name of the segment that this one was made again for, if its bytes are others.
    pub fn stands_for(&self) -> Option<[u8; 32]> {
        let name: [u8; 32] = self.bytes[BLOCK - 32..BLOCK].try_into().expect("32 bytes");
        (name != [0; 32]).then_some(name)
    }

    /// What the next segment calls it by.
    pub fn name(&self) -> [u8; 32] {
        let own = || blake3::hash(&self.bytes[..self.bytes.len() - BLOCK]).into();
        self.stands_for().unwrap_or_else(own)
    }

    /// The footer's last position and the end of the batches, if there is a footer.
    pub fn footer(&self) -> Option<(u64, u64)> {
        let at = self.bytes.len() - BLOCK;
        (self.bytes[at..at + 8] == *b"FLKSEAL\0").then(|| (self.u64_at(at + 48), self.u64_at(at + 56)))
    }

    /// Where batches begin, up to the first that is none.
    pub fn batches(&self) -> Vec<usize> {
        let (mut at, mut batches) = (BLOCK, Vec::new());
        while self.bytes.get(at..at + 4) == Some(b"FLKB") {
            batches.push(at);
            at += u32::from_le_bytes(self.bytes[at + 8..at + 12].try_into().expect("four bytes")) as usize;
        }
        batches
    }
}

/// Every checker that looks at a whole history, in the order in which a failure tells most.
pub fn all(device: &Device, history: &History, sight: &Sight, again: &Sight) -> Vec<String> {
    let checks = [
        prefix::check(history, sight),
        durable::check(history, sight),
        verify_before_dedup::check(history, sight),
        first_write_wins::check(history, sight),
        log_before_parse::check(history, sight),
        replay_identical::check(history, sight, again),
        tenants_apart::check(sight),
        tree_append_only::check(history, sight),
        once_failed::check(&device.suffered()),
        sealed_is_committed::check(device, sight),
        sealed_is_final::check(&history.sealed, device),
        chained::check(device),
        bounded::check(history.in_flight_most),
        one_canon::check(sight),
    ];
    checks.into_iter().filter_map(Result::err).collect()
}
