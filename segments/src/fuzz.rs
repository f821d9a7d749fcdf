//! The decoders of the log's files against any bytes, for the fuzz targets in `tests/src/fuzz`.
//!
//! Checksums would turn nearly every changed input away at the first look, so these put the right ones in before
//! they decode: what lies behind a checksum must stand on its own.

use engine::limits::BLOCK;
use engine::log::{Digest, Lsn};

use crate::batch::{BATCH_HEADER, Header, Sum};
use crate::bytes::{array, close_block, put, u32_at};
use crate::frame::{FRAME_HEADER, Frame};
use crate::manifest::Manifest;
use crate::manifest::Slots;
use crate::place::{Identity, Stamp};
use crate::segment::{Footer, SegmentHeader};
use crate::walk::{Chain, Here, Walk};

/// Blocks of the segment that [`fuzz_segment`] walks.
const BLOCKS: usize = 8;

fn header() -> SegmentHeader {
    SegmentHeader {
        identity: Identity { cluster: [5; 16], region: "fuzz".into() },
        number: 3,
        first_batch: 7,
        tip: Lsn(20),
        bytes: (BLOCKS * BLOCK) as u64,
        previous: Digest([1; 32]),
        stands_for: Digest::ZERO,
    }
}

/// One block of each kind: the first byte says which, the rest is the block, its checksum put right. What decodes must
/// encode to the same bytes.
///
/// # Panics
/// When it does not.
pub fn fuzz_block(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let mut block = Box::new([0; BLOCK]);
    let taken = rest.len().min(BLOCK);
    block[..taken].copy_from_slice(&rest[..taken]);
    close_block(&mut block);
    match kind % 3 {
        0 => {
            if let Ok(header) = SegmentHeader::decode(&block) {
                assert_eq!(header.encode(), block, "one header, one text");
            }
        }
        1 => {
            if let Ok(footer) = Footer::decode(&block) {
                assert_eq!(footer.encode(), block, "one footer, one text");
            }
        }
        _ => {
            let zeros = [0; BLOCK];
            for file in [[&zeros[..], &block[..]].concat(), [&block[..], &zeros[..]].concat()] {
                if let Ok(Slots { newest: Some(manifest), .. }) = Slots::decode(&file) {
                    assert_eq!(manifest.encode(), block, "one manifest, one text");
                }
            }
            // Of any length, and with the checksum as it came.
            let _ = Slots::decode(rest);
        }
    }
}

/// What [`fuzz_block`] starts from.
#[must_use]
pub fn block_seeds() -> Vec<Vec<u8>> {
    let footer = Footer {
        number: 3,
        first_batch: 7,
        last_batch: 9,
        first: Lsn(21),
        last: Lsn(30),
        end: 16384,
        frames: 12,
        digest: Digest([2; 32]),
    };
    let manifest = Manifest { generation: 5, active: header(), sealed: 2, sealed_digest: Digest([1; 32]) };
    let seed = |kind: u8, block: &[u8]| [&[kind][..], block].concat();
    vec![seed(0, &header().encode()[..]), seed(1, &footer.encode()[..]), seed(2, &manifest.encode()[..])]
}

/// The batches of a segment. Wherever a batch seems to begin, its checksums, its place and its chain are put right;
/// then the walk must stop somewhere, and what it accepted must be in order.
///
/// # Panics
/// When a promise of the walk is broken.
pub fn fuzz_segment(bytes: &[u8]) {
    let header = header();
    let (stamp, end) = (header.stamp(), header.footer_at() as usize);
    let mut segment = vec![0; end + BLOCK];
    segment[..BLOCK].copy_from_slice(&header.encode()[..]);
    let taken = bytes.len().min(end - BLOCK);
    segment[BLOCK..BLOCK + taken].copy_from_slice(&bytes[..taken]);
    let mut at = BLOCK;
    while at < end {
        at += mend(&stamp, &mut segment, at, end).unwrap_or(BLOCK);
    }

    let (mut tip, mut frames) = (header.tip, 0_u64);
    let mut walk = Walk::new(&header, Lsn(10), Chain::EachBatch);
    loop {
        let mut source = &segment[..];
        let step = walk.step(&mut source, &mut |_, place, frame| {
            assert!(
                place as usize >= BLOCK && place as usize + frame.size() <= end,
                "L1: inside the segment"
            );
            frames += 1;
            Ok::<(), std::convert::Infallible>(())
        });
        match step {
            Ok(Here::Batch(batch)) => {
                assert!(batch.committed <= tip, "S4: nothing is committed before it is there");
                assert!(batch.tip >= batch.committed, "S4: nothing committed is void");
                tip = batch.tip;
            }
            Ok(here) => {
                let _ = walk.later(&mut source, &here).expect("the segment is in memory");
                break;
            }
            Err(_) => panic!("the segment is in memory, and nobody refused"),
        }
    }
    assert!(walk.offset as usize <= end && walk.frames <= frames && walk.tip == tip);
}

/// Puts right the batch that begins at `at`, if its length makes sense; returns that length.
fn mend(stamp: &Stamp, segment: &mut [u8], at: usize, end: usize) -> Option<usize> {
    let chain = blake3::hash(&segment[..at]);
    let length = u32_at(segment, at + 8) as usize;
    let used = u32_at(segment, at + 12) as usize;
    if array(segment, at) != crate::batch::MAGIC || !(BLOCK..=end - at).contains(&length) || used > length {
        return None;
    }
    let batch = &mut segment[at..at + length];
    put(batch, 24, &stamp.segment().to_le_bytes());
    put(batch, 32, &(at as u64).to_le_bytes());
    put(batch, 96, chain.as_bytes());
    let mut frame = BATCH_HEADER;
    while frame + FRAME_HEADER <= used {
        let payload = u32_at(batch, frame);
        let size = FRAME_HEADER + payload as usize;
        if size > used - frame {
            break;
        }
        let crc = stamp.crc((at + frame) as u64, &batch[frame + 8..frame + size], payload);
        put(batch, frame + 4, &crc.to_le_bytes());
        frame += size;
    }
    let crc = stamp.crc(at as u64, &batch[8..], 0);
    put(batch, 4, &crc.to_le_bytes());
    Some(length)
}

/// What [`fuzz_segment`] starts from: two batches with a frame of every kind.
#[must_use]
pub fn segment_seeds() -> Vec<Vec<u8>> {
    let header = header();
    let stamp = header.stamp();
    let batches: [&[Frame<'_>]; 2] = [
        &[Frame::vote(4, b"vote"), Frame::purged(Lsn(12), 3, b"id"), Frame::entry(Lsn(21), 4, &[7; 5000])],
        &[Frame::truncate(Lsn(20)), Frame::entry(Lsn(21), 5, b"again")],
    ];
    let mut segment = header.encode().to_vec();
    let mut tip = header.tip;
    for (number, frames) in (header.first_batch..).zip(batches) {
        let offset = segment.len();
        let used = BATCH_HEADER + frames.iter().map(Frame::size).sum::<usize>();
        let mut batch = vec![0; used.next_multiple_of(BLOCK)];
        let (mut sum, mut at) = (Sum::new(tip), BATCH_HEADER);
        for frame in frames {
            frame.encode(&stamp, (offset + at) as u64, sum.frames, &mut batch[at..]);
            at += frame.size();
            sum = sum.with(frame, Lsn(10)).expect("they follow each other");
        }
        let written = Header {
            bytes: batch.len() as u32,
            used: used as u32,
            frames: sum.frames,
            offset: offset as u64,
            number,
            durable: number - 1,
            durable_lsn: tip,
            committed: Lsn(10),
            first: sum.first,
            tip: sum.tip,
            kept: sum.kept,
            chain: Digest(*blake3::hash(&segment).as_bytes()),
        };
        written.close(&stamp, &mut batch);
        tip = sum.tip;
        segment.extend_from_slice(&batch);
    }
    vec![segment.split_off(BLOCK)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seed that is turned away at the door would leave the rooms behind it untried.
    #[test]
    fn the_seeds_are_good() {
        let header = header();
        let mut segment = header.encode().to_vec();
        segment.extend_from_slice(&segment_seeds()[0]);
        segment.resize(BLOCKS * BLOCK, 0);
        let mut walk = Walk::new(&header, Lsn(10), Chain::EachBatch);
        let mut none = |_: &Header, _: u64, _: &Frame<'_>| Ok::<(), std::convert::Infallible>(());
        for expected in [Lsn(21), Lsn(21)] {
            let here = walk.step(&mut &segment[..], &mut none);
            assert!(matches!(&here, Ok(Here::Batch(batch)) if batch.tip == expected), "{here:?}");
        }
        assert!(matches!(walk.step(&mut &segment[..], &mut none), Ok(Here::Zero)));
        assert_eq!(walk.frames, 5);
        let blocks = block_seeds();
        let block = |nth: usize| blocks[nth][1..].first_chunk().expect("a block");
        assert!(SegmentHeader::decode(block(0)).is_ok() && Footer::decode(block(1)).is_ok());
        let file = [&[0; BLOCK][..], &blocks[2][1..]].concat();
        assert!(Slots::decode(&file).is_ok_and(|slots| slots.newest.is_some()));
        blocks.iter().for_each(|seed| fuzz_block(seed));
        fuzz_segment(&segment_seeds()[0]);
    }
}
