//! One batch: the frames of one write, padded with zeros to whole blocks.
//!
//! Keeps S6 (chained): every batch carries its own place, its number, and the BLAKE3 digest of all bytes of
//! its segment before it; the segment's header carries the digest of the segment before.
//!
//! ```text
//!   0        4        8        12       16       20       24               32
//! +--------+--------+--------+--------+--------+--------+----------------+----------------+
//! | "FLKB" | crc    | bytes  | used   | frames | 0      | segment        | offset         |
//! +--------+--------+--------+--------+--------+--------+----------------+----------------+
//!  40               48               56               64               72
//! +----------------+----------------+----------------+----------------+----------------+
//! | number         | durable        | durable_lsn    | committed      | first          |
//! +----------------+----------------+----------------+----------------+----------------+
//!  80               88               96                                                128
//! +----------------+----------------+-------------------------------------------------+- - -
//! | tip            | kept           | chain                                           | frames, zeros
//! +----------------+----------------+-------------------------------------------------+- - -
//!   crc       CRC-32 begun with the place, over bytes 8..`bytes`, padding included
//!   bytes     length of the batch, whole blocks         used       header and frames, bytes
//!   number    1 for the log's first batch, then one more each, over all segments
//!   durable   highest batch known durable when this one was made: proof of what a crash may not take
//!   durable_lsn  last position of that batch            committed  last position known committed then
//!   first     lsn of the first Entry frame, or 0        tip        last position after this batch
//!   kept      lowest position a Truncate frame in this batch keeps, or all ones
//!   chain     BLAKE3 of the segment's bytes 0..`offset`
//! ```

use engine::limits::BLOCK;
use engine::log::{Digest, Lsn};

use crate::bytes::{array, is_zero, put, u32_at, u64_at};
use crate::damage::Flaw;
use crate::frame::{FRAME_HEADER, Frame, Kind, PAYLOAD_MAX};
use crate::place::Stamp;

/// Bytes of a batch before its first frame.
pub const BATCH_HEADER: usize = 128;

/// Largest batch, bytes: the largest frame and what stands around it.
pub const BATCH_MAX: usize = (BATCH_HEADER + FRAME_HEADER + PAYLOAD_MAX).next_multiple_of(BLOCK);

/// `kept` where a batch truncates nothing.
pub(crate) const KEPT_ALL: u64 = u64::MAX;

pub(crate) const MAGIC: [u8; 4] = *b"FLKB";

/// The fields of a batch that are not implied by its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub bytes: u32,
    pub used: u32,
    pub frames: u32,
    pub offset: u64,
    pub number: u64,
    pub durable: u64,
    pub durable_lsn: Lsn,
    pub committed: Lsn,
    pub first: u64,
    pub tip: Lsn,
    pub kept: u64,
    pub chain: Digest,
}

impl Header {
    /// Reads the header at the start of `bytes` (a block or more), which stands at `offset`, with at most
    /// `room` bytes before the end of the batches. The checksum is not looked at: it covers the whole batch.
    pub(crate) fn read(stamp: &Stamp, offset: u64, room: u64, bytes: &[u8]) -> Result<Header, Flaw> {
        if array(bytes, 0) != MAGIC {
            return Err(Flaw::new(0, "the magic of a batch", format!("{:02x?}", &bytes[..4])));
        }
        let length = u32_at(bytes, 8);
        let longest = room.min(BATCH_MAX as u64);
        if u64::from(length) > longest || length == 0 || !(length as usize).is_multiple_of(BLOCK) {
            return Err(Flaw::new(8, format!("a batch of whole blocks, at most {longest} bytes"), length));
        }
        let used = u32_at(bytes, 12);
        if (used as usize) < BATCH_HEADER + FRAME_HEADER
            || (used as usize).next_multiple_of(BLOCK) != length as usize
        {
            return Err(Flaw::new(12, format!("frames that fill {length} bytes"), used));
        }
        if u32_at(bytes, 20) != 0 {
            return Err(Flaw::new(20, "four zero bytes", u32_at(bytes, 20)));
        }
        if (u64_at(bytes, 24), u64_at(bytes, 32)) != (stamp.segment(), offset) {
            let found = format!("segment {} offset {}", u64_at(bytes, 24), u64_at(bytes, 32));
            return Err(Flaw::new(24, format!("segment {} offset {offset}", stamp.segment()), found));
        }
        Ok(Header {
            bytes: length,
            used,
            frames: u32_at(bytes, 16),
            offset,
            number: u64_at(bytes, 40),
            durable: u64_at(bytes, 48),
            durable_lsn: Lsn(u64_at(bytes, 56)),
            committed: Lsn(u64_at(bytes, 64)),
            first: u64_at(bytes, 72),
            tip: Lsn(u64_at(bytes, 80)),
            kept: u64_at(bytes, 88),
            chain: Digest(array(bytes, 96)),
        })
    }

    /// Checks the checksum of the whole batch, `bytes` long, and its padding.
    pub(crate) fn check(&self, stamp: &Stamp, bytes: &[u8]) -> Result<(), Flaw> {
        let (found, expected) = (u32_at(bytes, 4), stamp.crc(self.offset, &bytes[8..], 0));
        if found != expected {
            return Err(Flaw::new(4, format!("batch checksum {expected:08x}"), format!("{found:08x}")));
        }
        if !is_zero(&bytes[self.used as usize..]) {
            return Err(Flaw::new(
                u64::from(self.used),
                "zeros up to the end of the batch",
                "something else",
            ));
        }
        Ok(())
    }

    /// Writes the header and the checksum over the finished batch.
    pub(crate) fn close(&self, stamp: &Stamp, batch: &mut [u8]) {
        put(batch, 0, &MAGIC);
        put(batch, 8, &self.bytes.to_le_bytes());
        put(batch, 12, &self.used.to_le_bytes());
        put(batch, 16, &self.frames.to_le_bytes());
        put(batch, 20, &[0; 4]);
        put(batch, 24, &stamp.segment().to_le_bytes());
        put(batch, 32, &self.offset.to_le_bytes());
        put(batch, 40, &self.number.to_le_bytes());
        put(batch, 48, &self.durable.to_le_bytes());
        put(batch, 56, &self.durable_lsn.0.to_le_bytes());
        put(batch, 64, &self.committed.0.to_le_bytes());
        put(batch, 72, &self.first.to_le_bytes());
        put(batch, 80, &self.tip.0.to_le_bytes());
        put(batch, 88, &self.kept.to_le_bytes());
        put(batch, 96, &self.chain.0);
        let crc = stamp.crc(self.offset, &batch[8..], 0);
        put(batch, 4, &crc.to_le_bytes());
    }
}

/// What the frames of a batch do to the log's positions, summed up as they are added or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    pub frames: u32,
    pub first: u64,
    pub tip: Lsn,
    pub kept: u64,
}

impl Sum {
    pub(crate) fn new(tip: Lsn) -> Sum {
        Sum { frames: 0, first: 0, tip, kept: KEPT_ALL }
    }

    /// The sum with one more frame, or which position the frame should have had: entries follow each other,
    /// and nothing committed is ever void.
    pub(crate) fn with(mut self, frame: &Frame<'_>, committed: Lsn) -> Result<Sum, Lsn> {
        match frame.kind {
            Kind::Entry => {
                let expected = self.tip.next();
                if frame.lsn != expected {
                    return Err(expected);
                }
                self.tip = frame.lsn;
                if self.first == 0 {
                    self.first = frame.lsn.0;
                }
            }
            Kind::Vote => {}
            Kind::Truncate => {
                if frame.lsn < committed {
                    return Err(committed);
                }
                self.tip = self.tip.min(frame.lsn);
                self.kept = self.kept.min(self.tip.0);
            }
            Kind::Purged => self.tip = self.tip.max(frame.lsn),
        }
        self.frames += 1;
        Ok(self)
    }
}

/// The frames of a checked batch, in order. Ends after the first error.
pub(crate) struct Frames<'a> {
    stamp: Stamp,
    offset: u64,
    bytes: &'a [u8],
    at: usize,
    nth: u32,
    frames: u32,
}

impl<'a> Frames<'a> {
    pub(crate) fn new(stamp: Stamp, header: &Header, batch: &'a [u8]) -> Frames<'a> {
        let bytes = &batch[..header.used as usize];
        Frames { stamp, offset: header.offset, bytes, at: BATCH_HEADER, nth: 0, frames: header.frames }
    }
}

impl<'a> Iterator for Frames<'a> {
    /// The frame and its offset in the segment.
    type Item = Result<(u64, Frame<'a>), Flaw>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.bytes.len() && self.nth == self.frames {
            return None;
        }
        if self.nth == u32::MAX {
            return None;
        }
        let place = self.offset + self.at as u64;
        let next = match self.nth < self.frames {
            true => Frame::decode(&self.stamp, place, self.nth, &self.bytes[self.at..]),
            false => Err(Flaw::new(0, format!("{} frames", self.frames), "more bytes")),
        };
        match next {
            Ok(frame) => {
                self.at += frame.size();
                self.nth += 1;
                Some(Ok((place, frame)))
            }
            Err(flaw) => {
                let flaw = flaw.within(self.at as u64);
                self.nth = u32::MAX;
                Some(Err(flaw))
            }
        }
    }
}
