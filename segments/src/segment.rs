//! A segment: one file, a header block, batches, zeros, and a footer block once it is sealed.
//!
//! Keeps S5 (sealed is final): nothing here writes to a segment after its footer.
//!
//! ```text
//!  0             4096                                        end           bytes-4096      bytes
//! +-------------+-----------+-----------+-- - - - --+-------+-------------+-----------------+
//! | header      | batch     | batch     |           | batch | zeros       | footer or zeros |
//! +-------------+-----------+-----------+-- - - - --+-------+-------------+-----------------+
//!
//! header, 4096 bytes                               footer, 4096 bytes
//!   0 "FLKSEGMT"                                      0 "FLKSEAL\0"
//!   8 crc      CRC-32 of the block's other bytes      8 crc
//!  12 version  u32, 1                                12 version
//!  16 fingerprint of the limits, u64                 16 number
//!  24 cluster, 16 bytes                              24 first_batch   its first batch
//!  40 number   1 for the log's first segment         32 last_batch    its last batch
//!  48 first_batch  number its first batch will have  40 first         first lsn that lives here
//!  56 tip      last position before this segment     48 last          last lsn that lives here
//!  64 bytes    length of the file                    56 end           where the batches end
//!  72 previous BLAKE3 digest of the one before       64 frames        how many it holds
//! 104 length of the region's name, u8                72 digest  BLAKE3 of bytes 0..bytes-4096
//! 105 region, then zeros                            104 zeros
//! 4064 stands_for  32 bytes, zeros but in a segment that was repaired
//! ```
//! A segment that was repaired from what other nodes hold, and is not the same bytes again, says in `stands_for` which
//! digest it had before: that is the name by which the next segment and the manifest go on to call it.
//! A segment's digest is known as soon as it is full; it stands in its footer, in the header of the next
//! segment and, while that one is the last, in the manifest.

use engine::limits::{BLOCK, REGION_MAX, fingerprint};
use engine::log::{Digest, Lsn};

use crate::bytes::{array, block_holds, close_block, is_zero, put, u32_at, u64_at};
use crate::damage::Flaw;
use crate::place::{Identity, Stamp};

/// Version of the format this code writes. It reads this one only.
pub const FORMAT_VERSION: u32 = 1;

const HEADER_MAGIC: [u8; 8] = *b"FLKSEGMT";
const FOOTER_MAGIC: [u8; 8] = *b"FLKSEAL\0";

/// The file name of a segment: its number in 20 digits, so that names sort as numbers do.
#[must_use]
pub fn segment_name(number: u64) -> String {
    format!("{number:020}.seg")
}

/// The number in a segment's file name, if it is one.
#[must_use]
pub fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Why a block is not a header, footer or manifest slot of this log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BlockFlaw {
    /// Not written by any version of this log, or changed since.
    Bad(Flaw),
    /// Whole, but of another version.
    Version(u32),
    /// Whole, but made under other limits.
    Limits(u64),
}

/// What every block begins with: magic, checksum, version.
pub(crate) fn open_block(block: &[u8; BLOCK], magic: [u8; 8], what: &str) -> Result<(), BlockFlaw> {
    if array(block, 0) != magic {
        let found = if is_zero(block) { "zeros".into() } else { format!("{:02x?}", &block[..8]) };
        return Err(BlockFlaw::Bad(Flaw::new(0, format!("the magic of a {what}"), found)));
    }
    if !block_holds(block) {
        let found = format!("{:08x}, which does not match", u32_at(block, 8));
        return Err(BlockFlaw::Bad(Flaw::new(8, format!("the checksum of a {what}"), found)));
    }
    match u32_at(block, 12) {
        FORMAT_VERSION => Ok(()),
        version => Err(BlockFlaw::Version(version)),
    }
}

/// Reads a region's name of the form length, bytes, zeros up to `end`.
pub(crate) fn region_at(block: &[u8; BLOCK], at: usize, end: usize) -> Result<String, Flaw> {
    let length = usize::from(block[at]);
    let flaw = |expected: &str| Flaw::new(at as u64, expected, length);
    if !(1..=REGION_MAX).contains(&length) {
        return Err(flaw("the length of a region's name"));
    }
    let (name, rest) = block[at + 1..end].split_at(length);
    if !is_zero(rest) {
        return Err(flaw("zeros after the region's name"));
    }
    std::str::from_utf8(name).map(str::to_owned).map_err(|_| flaw("a region's name in UTF-8"))
}

pub(crate) fn put_region(block: &mut [u8; BLOCK], at: usize, region: &str) {
    let length = u8::try_from(region.len()).expect("an identity's region is at most REGION_MAX");
    put(block, at, &[length]);
    put(block, at + 1, region.as_bytes());
}

/// The first block of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose log it is.
    pub identity: Identity,
    /// 1 for the log's first segment.
    pub number: u64,
    /// Number of its first batch, counted over the whole log.
    pub first_batch: u64,
    /// Last position before this segment.
    pub tip: Lsn,
    /// Length of the file.
    pub bytes: u64,
    /// What the segment before is called by, zero for the first: see [`SegmentHeader::name`].
    pub previous: Digest,
    /// The digest that the segment had before it was repaired, zero where its bytes are those that were written.
    pub stands_for: Digest,
}

/// Where `stands_for` is.
const STANDS_FOR: usize = BLOCK - 32;

impl SegmentHeader {
    /// What the next segment and the manifest call the segment by: the digest of its bytes, or, of one that was
    /// repaired, the digest of those it had before.
    #[must_use]
    pub fn name(&self, digest: Digest) -> Digest {
        if self.stands_for == Digest::ZERO { digest } else { self.stands_for }
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp::new(&self.identity, self.number, &self.previous)
    }

    /// Where the footer stands, and the batches must end.
    pub(crate) fn footer_at(&self) -> u64 {
        self.bytes - BLOCK as u64
    }

    pub(crate) fn encode(&self) -> Box<[u8; BLOCK]> {
        let mut block = Box::new([0; BLOCK]);
        put(&mut block[..], 0, &HEADER_MAGIC);
        put(&mut block[..], 12, &FORMAT_VERSION.to_le_bytes());
        put(&mut block[..], 16, &fingerprint().to_le_bytes());
        put(&mut block[..], 24, &self.identity.cluster);
        put(&mut block[..], 40, &self.number.to_le_bytes());
        put(&mut block[..], 48, &self.first_batch.to_le_bytes());
        put(&mut block[..], 56, &self.tip.0.to_le_bytes());
        put(&mut block[..], 64, &self.bytes.to_le_bytes());
        put(&mut block[..], 72, &self.previous.0);
        put_region(&mut block, 104, &self.identity.region);
        put(&mut block[..], STANDS_FOR, &self.stands_for.0);
        close_block(&mut block);
        block
    }

    pub(crate) fn decode(block: &[u8; BLOCK]) -> Result<SegmentHeader, BlockFlaw> {
        open_block(block, HEADER_MAGIC, "segment header")?;
        if u64_at(block, 16) != fingerprint() {
            return Err(BlockFlaw::Limits(u64_at(block, 16)));
        }
        let region = region_at(block, 104, STANDS_FOR).map_err(BlockFlaw::Bad)?;
        let bytes = u64_at(block, 64);
        if bytes < 4 * BLOCK as u64 || !bytes.is_multiple_of(BLOCK as u64) {
            return Err(BlockFlaw::Bad(Flaw::new(64, "a length of four blocks or more", bytes)));
        }
        Ok(SegmentHeader {
            identity: Identity { cluster: array(block, 24), region },
            number: u64_at(block, 40),
            first_batch: u64_at(block, 48),
            tip: Lsn(u64_at(block, 56)),
            bytes,
            previous: Digest(array(block, 72)),
            stands_for: Digest(array(block, STANDS_FOR)),
        })
    }
}

/// The last block of a sealed segment. All of it follows from the bytes before it, so a lost one can be made
/// again and a wrong one is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Its segment.
    pub number: u64,
    /// Number of the segment's first batch.
    pub first_batch: u64,
    /// Number of its last batch; one less than `first_batch` when it holds none.
    pub last_batch: u64,
    /// First position that lived here when the segment was full.
    pub first: Lsn,
    /// Last position that did, also if a later segment begins by voiding it; one less than `first` when none did.
    pub last: Lsn,
    /// Where the batches end.
    pub end: u64,
    /// How many frames it holds.
    pub frames: u64,
    /// BLAKE3 of all bytes before the footer.
    pub digest: Digest,
}

impl Footer {
    pub(crate) fn encode(&self) -> Box<[u8; BLOCK]> {
        let mut block = Box::new([0; BLOCK]);
        put(&mut block[..], 0, &FOOTER_MAGIC);
        put(&mut block[..], 12, &FORMAT_VERSION.to_le_bytes());
        let fields = [
            self.number,
            self.first_batch,
            self.last_batch,
            self.first.0,
            self.last.0,
            self.end,
            self.frames,
        ];
        for (nth, field) in fields.into_iter().enumerate() {
            put(&mut block[..], 16 + 8 * nth, &field.to_le_bytes());
        }
        put(&mut block[..], 72, &self.digest.0);
        close_block(&mut block);
        block
    }

    pub(crate) fn decode(block: &[u8; BLOCK]) -> Result<Footer, BlockFlaw> {
        open_block(block, FOOTER_MAGIC, "segment footer")?;
        if !is_zero(&block[104..]) {
            return Err(BlockFlaw::Bad(Flaw::new(
                112,
                "zeros up to the end of the footer",
                "something else",
            )));
        }
        Ok(Footer {
            number: u64_at(block, 16),
            first_batch: u64_at(block, 24),
            last_batch: u64_at(block, 32),
            first: Lsn(u64_at(block, 40)),
            last: Lsn(u64_at(block, 48)),
            end: u64_at(block, 56),
            frames: u64_at(block, 64),
            digest: Digest(array(block, 72)),
        })
    }
}
