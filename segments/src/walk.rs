//! Walking a segment batch by batch: the one reader of the format, under recovery, scan, check and read.

use std::io;

use engine::limits::BLOCK;
use engine::log::{Digest, Lsn};

use crate::batch::{Frames, Header, Sum};
use crate::bytes::is_zero;
use crate::damage::Flaw;
use crate::frame::Frame;
use crate::place::Stamp;
use crate::segment::SegmentHeader;
use crate::source::Source;

/// Bytes hashed at once: enough for all lanes, and few beside the window, so that a window is seldom read again
/// because the hash is ahead of the batches.
const PIECE: u64 = 128 << 10;

/// When the digests in the batches are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chain {
    /// At every batch: for a segment whose own digest is not known yet.
    EachBatch,
    /// Not: the digest of the whole segment covers them. Hashes in large pieces, which is faster.
    Whole,
    /// Nor is anything hashed: for a reader of bytes that were held against their digest before.
    Trusted,
}

/// What stands where the next batch should.
#[derive(Debug)]
pub(crate) enum Here {
    /// A good batch. The walk has moved behind it.
    Batch(Header),
    /// The place of the footer: no room for another batch.
    End,
    /// A block of zeros.
    Zero,
    /// Bytes that fail their checksum, or never were a batch.
    Damaged(Flaw),
    /// A batch whose checksum holds at this place, but which is not the next one.
    Stranger(Flaw),
}

/// Why a walk could not go on.
#[derive(Debug)]
pub(crate) enum Stop<E> {
    /// The bytes could not be read.
    Io(io::Error),
    /// The visitor said so.
    Each(E),
}

/// What follows in the segment after the place where the walk stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Later {
    /// Zeros up to the footer.
    Nothing,
    /// Bytes that prove nothing: a torn batch, or one that was in flight beside it.
    Residue,
    /// A good batch that knew the missing one to be durable.
    Proof,
}

/// Where a walk stands.
pub(crate) struct Walk {
    stamp: Stamp,
    footer_at: u64,
    /// Where the next batch should stand.
    pub offset: u64,
    /// The number it should have.
    pub next_batch: u64,
    /// Last position so far.
    pub tip: Lsn,
    /// Highest mark seen.
    pub committed: Lsn,
    /// Highest batch some later batch knew to be durable.
    pub durable: u64,
    /// Frames seen in this segment.
    pub frames: u64,
    chain: Chain,
    hasher: blake3::Hasher,
    hashed: u64,
}

impl Walk {
    /// A walk over the segment of this header, from its first batch. `committed` is the highest mark before it.
    pub(crate) fn new(header: &SegmentHeader, committed: Lsn, chain: Chain) -> Walk {
        Walk {
            stamp: header.stamp(),
            footer_at: header.footer_at(),
            offset: BLOCK as u64,
            next_batch: header.first_batch,
            tip: header.tip,
            committed,
            durable: header.first_batch.saturating_sub(1),
            frames: 0,
            chain,
            hasher: blake3::Hasher::new(),
            hashed: 0,
        }
    }

    /// Reads what stands at the next place, and hands the frames of a good batch to `each`, with their offsets.
    pub(crate) fn step<E>(
        &mut self,
        source: &mut impl Source,
        each: &mut dyn FnMut(&Header, u64, &Frame<'_>) -> Result<(), E>,
    ) -> Result<Here, Stop<E>> {
        if self.offset >= self.footer_at {
            return Ok(Here::End);
        }
        match self.chain {
            // The header block, then each batch as it is accepted.
            Chain::EachBatch => self.hash_to(source, self.offset).map_err(Stop::Io)?,
            Chain::Whole if self.hashed <= self.offset => {
                let ahead = (self.offset + PIECE).min(self.footer_at);
                self.hash_to(source, ahead).map_err(Stop::Io)?;
            }
            Chain::Whole | Chain::Trusted => {}
        }
        let room = self.footer_at - self.offset;
        let block = source.bytes(self.offset, BLOCK).map_err(Stop::Io)?;
        if is_zero(block) {
            return Ok(Here::Zero);
        }
        let header = match Header::read(&self.stamp, self.offset, room, block) {
            Ok(header) => header,
            Err(flaw) => return Ok(Here::Damaged(flaw.within(self.offset))),
        };
        let batch = source.bytes(self.offset, header.bytes as usize).map_err(Stop::Io)?;
        if let Err(flaw) = header.check(&self.stamp, batch) {
            return Ok(Here::Damaged(flaw.within(self.offset)));
        }
        if let Some(flaw) = self.stranger(&header) {
            return Ok(Here::Stranger(flaw.within(self.offset)));
        }
        let mut sum = Sum::new(self.tip);
        for item in Frames::new(self.stamp, &header, batch) {
            let (place, frame) = match item {
                Ok(item) => item,
                Err(flaw) => return Ok(Here::Stranger(flaw.within(self.offset))),
            };
            sum = match sum.with(&frame, header.committed) {
                Ok(sum) => sum,
                Err(lsn) => {
                    let expected = format!("position {lsn} or a frame that leads to it");
                    return Ok(Here::Stranger(Flaw::new(place, expected, frame.lsn)));
                }
            };
            each(&header, place, &frame).map_err(Stop::Each)?;
        }
        if (sum.frames, sum.first, sum.tip, sum.kept)
            != (header.frames, header.first, header.tip, header.kept)
        {
            let flaw = Flaw::new(72, format!("{sum:?}, as its frames say"), format!("{header:?}"));
            return Ok(Here::Stranger(flaw.within(self.offset)));
        }
        self.offset += u64::from(header.bytes);
        self.next_batch += 1;
        self.tip = header.tip;
        self.committed = header.committed;
        self.durable = self.durable.max(header.durable);
        self.frames += u64::from(header.frames);
        Ok(Here::Batch(header))
    }

    /// Why a batch with a good checksum is not the next one.
    fn stranger(&self, header: &Header) -> Option<Flaw> {
        if header.number != self.next_batch {
            return Some(Flaw::new(40, format!("batch {}", self.next_batch), header.number));
        }
        if header.durable >= header.number {
            return Some(Flaw::new(48, format!("a durable batch before {}", header.number), header.durable));
        }
        if header.committed < self.committed || header.committed > self.tip.max(self.committed) {
            let expected = format!("a committed position from {} to {}", self.committed, self.tip);
            return Some(Flaw::new(64, expected, header.committed));
        }
        if self.chain == Chain::EachBatch {
            let chain = self.chain_digest();
            if header.chain != chain {
                return Some(Flaw::new(96, format!("chain {chain}"), header.chain));
            }
        }
        None
    }

    /// BLAKE3 of the bytes hashed so far; at a batch boundary, of all bytes before it.
    fn chain_digest(&self) -> Digest {
        Digest(*self.hasher.finalize().as_bytes())
    }

    fn hash_to(&mut self, source: &mut impl Source, end: u64) -> io::Result<()> {
        while self.hashed < end {
            let piece = (end - self.hashed).min(PIECE);
            self.hasher.update(source.bytes(self.hashed, piece as usize)?);
            self.hashed += piece;
        }
        Ok(())
    }

    /// Looks at everything between the place where the walk stopped and the footer.
    pub(crate) fn later(&self, source: &mut impl Source, here: &Here) -> io::Result<Later> {
        let mut later = Later::Nothing;
        // What stands at the stop itself was judged already.
        let mut at = match here {
            Here::Damaged(_) | Here::Stranger(_) => self.offset + BLOCK as u64,
            Here::Batch(_) | Here::End | Here::Zero => self.offset,
        };
        while at < self.footer_at {
            let block = source.bytes(at, BLOCK)?;
            if !is_zero(block) {
                later = Later::Residue;
                if let Ok(header) = Header::read(&self.stamp, at, self.footer_at - at, block) {
                    let proves = header.number > self.next_batch && header.durable >= self.next_batch;
                    let batch = source.bytes(at, header.bytes as usize)?;
                    if header.check(&self.stamp, batch).is_ok() && proves {
                        return Ok(Later::Proof);
                    }
                }
            }
            at += BLOCK as u64;
        }
        Ok(later)
    }

    /// The digest of all bytes before the footer, wherever the batches ended.
    pub(crate) fn digest(&mut self, source: &mut impl Source) -> io::Result<Digest> {
        self.hash_to(source, self.footer_at)?;
        Ok(self.chain_digest())
    }

    /// The hash of the bytes before the next batch, to go on with while writing.
    pub(crate) fn into_hasher(mut self, source: &mut impl Source) -> io::Result<blake3::Hasher> {
        assert!(self.hashed <= self.offset, "S6: the chain covers what was accepted and nothing else");
        self.hash_to(source, self.offset)?;
        Ok(self.hasher)
    }
}
