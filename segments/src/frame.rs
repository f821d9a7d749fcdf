//! One frame: the smallest thing the log keeps, and its bytes.
//!
//! ```text
//!  0        4        8   9     12       16               24               32
//! +--------+--------+---+-----+--------+----------------+----------------+- - - - - -
//! | length | crc    | k | 0 0 | nth    | lsn            | term           | payload
//! +--------+--------+---+-----+--------+----------------+----------------+- - - - - -
//!   length  payload bytes, at most PAYLOAD_MAX      k    kind: 1 Entry 2 Vote 3 Truncate 4 Purged
//!   crc     CRC-32 begun with the place, over bytes 8..32 and the payload, then the length
//!   nth     position of the frame in its batch, from 0
//! ```
//! All numbers are little-endian.

use engine::limits::RECORD_BYTES_MAX;
use engine::log::Lsn;

use crate::bytes::{array, put, u32_at, u64_at};
use crate::damage::Flaw;
use crate::place::Stamp;

/// Bytes of a frame before its payload.
pub const FRAME_HEADER: usize = 32;

/// Largest payload of one frame, bytes: one record.
pub const PAYLOAD_MAX: usize = RECORD_BYTES_MAX;

/// What a frame is for. The codes are part of the format and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// One log entry at `lsn`. The payload is opaque here.
    Entry = 1,
    /// The node's vote. The last one counts; `lsn` says nothing.
    Vote = 2,
    /// Entries after `lsn` are void. Nothing durable is rewritten to say so.
    Truncate = 3,
    /// Entries up to `lsn` came from a snapshot: the next entry is the one after the later of `lsn` and the tip.
    Purged = 4,
}

impl Kind {
    fn from_code(code: u8) -> Option<Kind> {
        [Kind::Entry, Kind::Vote, Kind::Truncate, Kind::Purged].into_iter().find(|kind| *kind as u8 == code)
    }
}

/// One frame, its payload borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is for.
    pub kind: Kind,
    /// Meaning by kind, see [`Kind`].
    pub lsn: Lsn,
    /// Raft term of an entry or a vote.
    pub term: u64,
    /// At most [`PAYLOAD_MAX`] bytes; may be empty.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// A log entry.
    #[must_use]
    pub fn entry(lsn: Lsn, term: u64, payload: &'a [u8]) -> Frame<'a> {
        Frame { kind: Kind::Entry, lsn, term, payload }
    }

    /// A vote.
    #[must_use]
    pub fn vote(term: u64, payload: &'a [u8]) -> Frame<'a> {
        Frame { kind: Kind::Vote, lsn: Lsn::ZERO, term, payload }
    }

    /// Void every entry after `kept`.
    #[must_use]
    pub fn truncate(kept: Lsn) -> Frame<'static> {
        Frame { kind: Kind::Truncate, lsn: kept, term: 0, payload: &[] }
    }

    /// Entries up to `lsn` are covered by a snapshot; the payload is the caller's log id.
    #[must_use]
    pub fn purged(lsn: Lsn, term: u64, payload: &'a [u8]) -> Frame<'a> {
        Frame { kind: Kind::Purged, lsn, term, payload }
    }

    /// Bytes this frame takes in a batch.
    #[must_use]
    pub fn size(&self) -> usize {
        FRAME_HEADER + self.payload.len()
    }

    /// Writes the frame at the start of `out`, which is at least [`Frame::size`] long.
    pub(crate) fn encode(&self, stamp: &Stamp, offset: u64, nth: u32, out: &mut [u8]) {
        let length = u32::try_from(self.payload.len()).expect("a payload is at most PAYLOAD_MAX");
        put(out, 0, &length.to_le_bytes());
        put(out, 8, &[self.kind as u8, 0, 0, 0]);
        put(out, 12, &nth.to_le_bytes());
        put(out, 16, &self.lsn.0.to_le_bytes());
        put(out, 24, &self.term.to_le_bytes());
        put(out, FRAME_HEADER, self.payload);
        let crc = stamp.crc(offset, &out[8..self.size()], length);
        put(out, 4, &crc.to_le_bytes());
    }

    /// The frame at the start of `bytes`, which stands at `offset` of its segment and is the `nth` of its batch.
    pub(crate) fn decode(stamp: &Stamp, offset: u64, nth: u32, bytes: &'a [u8]) -> Result<Frame<'a>, Flaw> {
        if bytes.len() < FRAME_HEADER {
            return Err(Flaw::new(
                0,
                format!("a frame of {FRAME_HEADER} bytes or more"),
                format!("{} bytes", bytes.len()),
            ));
        }
        let length = u32_at(bytes, 0);
        let room = (bytes.len() - FRAME_HEADER).min(PAYLOAD_MAX);
        if length as usize > room {
            return Err(Flaw::new(0, format!("payload length of at most {room}"), length));
        }
        let size = FRAME_HEADER + length as usize;
        let (found, expected) = (u32_at(bytes, 4), stamp.crc(offset, &bytes[8..size], length));
        if found != expected {
            return Err(Flaw::new(4, format!("frame checksum {expected:08x}"), format!("{found:08x}")));
        }
        let Some(kind) = Kind::from_code(bytes[8]) else {
            return Err(Flaw::new(8, "a known kind of frame", bytes[8]));
        };
        if array(bytes, 9) != [0; 3] {
            return Err(Flaw::new(9, "three zero bytes", "something else"));
        }
        if u32_at(bytes, 12) != nth {
            return Err(Flaw::new(12, format!("frame {nth} of its batch"), u32_at(bytes, 12)));
        }
        Ok(Frame {
            kind,
            lsn: Lsn(u64_at(bytes, 16)),
            term: u64_at(bytes, 24),
            payload: &bytes[FRAME_HEADER..size],
        })
    }
}
