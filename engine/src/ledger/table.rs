//! Where first rows and old keys live: the port `Table` and its in-memory side.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use sha2::{Digest as _, Sha256};

use crate::codec::{DecodeError, Reader};
use crate::ids::TenantId;
use crate::limits::{ORIGINS_MAX, RECORD_EVENTS_MAX};
use crate::log::{Digest, Lsn};
use crate::summary::Fingerprint;

/// The first submission of its name: all that later ones are compared with and answered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First {
    /// SHA-256(length of tenant u8 || tenant || pcs id): the whole deduplication key.
    pub key: [u8; 32],
    /// Fingerprint of the content that must agree.
    pub digest: [u8; 16],
    /// Sixteen bits of a hash of each of those fields: names the ones that differ. All zero if it stays in its region.
    pub lanes: [u16; 13],
    /// The record it stands in.
    pub lsn: Lsn,
    /// Its place in the record.
    pub nth: u32,
    /// Index of its audit leaf.
    pub seq: u64,
    /// Its log time, milliseconds.
    pub time_ms: u64,
    /// Which policy judged it, as a number in the order of the log.
    pub policy: u16,
    /// Why it was accepted or not: the code of the verdict's reason; 0 if it stays in its region.
    pub code: u8,
    /// Bit 0: accepted. Bit 1: escalated. The other six: the number of the region it came from, see [`First::origin`].
    pub flags: u8,
}

impl First {
    /// Encoded size, bytes.
    pub const SIZE: usize = 104;

    /// The deduplication key of a summary.
    #[must_use]
    pub fn key_of(tenant: &TenantId, pcs_id: &[u8; 32]) -> [u8; 32] {
        let (head, length) = First::key_head(tenant);
        Sha256::new().chain_update(&head[..length]).chain_update(pcs_id).finalize().into()
    }

    /// What the key hashes before the id, and how many bytes of it count.
    pub(crate) fn key_head(tenant: &TenantId) -> ([u8; 65], usize) {
        let name = tenant.as_bytes();
        let mut head = [0; 65];
        head[0] = name.len() as u8;
        head[1..=name.len()].copy_from_slice(name);
        (head, 1 + name.len())
    }

    /// The content that later ones are compared with.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint { digest: self.digest, lanes: self.lanes }
    }

    /// What the index is probed with: the first eight bytes of the key. They are bits of SHA-256, so they
    /// spread evenly whatever clients send.
    #[must_use]
    pub fn tag(&self) -> u64 {
        tag_of(&self.key)
    }

    /// The row's bytes, little-endian, in the order of the fields; `nth` takes two.
    #[must_use]
    pub fn encode(&self) -> [u8; First::SIZE] {
        assert!((self.nth as usize) < RECORD_EVENTS_MAX, "a place in a record fits two bytes");
        let mut row = [0; First::SIZE];
        row[..32].copy_from_slice(&self.key);
        row[32..48].copy_from_slice(&self.digest);
        for (bytes, lane) in row[48..74].chunks_exact_mut(2).zip(self.lanes) {
            bytes.copy_from_slice(&lane.to_le_bytes());
        }
        row[74..76].copy_from_slice(&(self.nth as u16).to_le_bytes());
        row[76..84].copy_from_slice(&self.lsn.0.to_le_bytes());
        row[84..92].copy_from_slice(&self.seq.to_le_bytes());
        row[92..100].copy_from_slice(&self.time_ms.to_le_bytes());
        row[100..102].copy_from_slice(&self.policy.to_le_bytes());
        row[102] = self.code;
        row[103] = self.flags;
        row
    }

    /// Reads a row.
    ///
    /// # Errors
    /// [`DecodeError`] if a field is outside its bounds.
    pub fn decode(row: &[u8; First::SIZE]) -> Result<First, DecodeError> {
        let mut reader = Reader::new(row);
        let key = reader.array("key")?;
        let digest = reader.array("fingerprint")?;
        let mut lanes = [0; 13];
        for lane in &mut lanes {
            *lane = reader.u16("lane")?;
        }
        let nth = u32::from(reader.u16("place")?);
        let lsn = Lsn(reader.u64("lsn")?);
        let seq = reader.u64("seq")?;
        let time_ms = reader.u64("time")?;
        let policy = reader.u16("policy")?;
        let code = reader.u8("code")?;
        let flags = reader.u8("flags")?;
        if nth as usize >= RECORD_EVENTS_MAX || flags >> 2 > ORIGINS_MAX || lsn == Lsn::ZERO {
            return Err(DecodeError::OutOfBounds("row"));
        }
        reader.end()?;
        Ok(First { key, digest, lanes, lsn, nth, seq, time_ms, policy, code, flags })
    }

    /// Whether it stays in its region: others hold what is in this row, and its own keeps no more to compare with.
    #[must_use]
    pub fn is_withheld(&self) -> bool {
        (self.code, self.lanes) == (0, [0; 13])
    }

    /// Whether the verdict accepted it.
    #[must_use]
    pub fn accepted(&self) -> bool {
        self.flags & 1 != 0
    }

    /// Whether the verdict escalated it.
    #[must_use]
    pub fn escalated(&self) -> bool {
        self.flags & 2 != 0
    }

    /// The region in whose log it stands, as this ledger counts them: 0 is its own, then the others in the order in which
    /// their logs first came. Place, leaf and policy are those of that log.
    #[must_use]
    pub fn origin(&self) -> u8 {
        self.flags >> 2
    }

    /// The same row of another region.
    #[must_use]
    pub fn of_origin(mut self, origin: u8) -> First {
        self.flags = self.flags & 3 | origin << 2;
        self
    }
}

/// The tag of a key, see [`First::tag`].
#[must_use]
pub fn tag_of(key: &[u8; 32]) -> u64 {
    u64::from_be_bytes(*key.first_chunk().expect("a key has 32 bytes"))
}

/// A table cannot answer. The ledger that meets one refuses everything from then on; it is rebuilt from the
/// log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableError {
    /// The disk refused.
    Disk {
        /// What was tried, as `verb noun`.
        operation: &'static str,
        /// What the system said.
        error: String,
    },
    /// There is no room on the disk. What was asked for did not happen, and may succeed later.
    Full {
        /// What was tried, as `verb noun`.
        operation: &'static str,
    },
    /// Bytes are not what was written.
    Damaged {
        /// Which part.
        part: &'static str,
        /// Its number: a row, block or run.
        number: u64,
    },
    /// A row that was never pushed was asked for.
    NoSuchRow(u64),
    /// An earlier error; nothing has been tried since.
    Poisoned,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TableError::Disk { operation, error } => write!(f, "{operation}: {error}"),
            TableError::Full { operation } => write!(f, "{operation}: no room on the disk"),
            TableError::Damaged { part, number } => write!(f, "{part} {number} is damaged"),
            TableError::NoSuchRow(row) => write!(f, "row {row} was never written"),
            TableError::Poisoned => f.write_str("the index failed before and must be rebuilt"),
        }
    }
}

impl core::error::Error for TableError {}

/// First rows, numbered from 0 in the order they are pushed, and the keys of old rows in sorted runs.
///
/// Obligations of an implementation, which the suite in `tests` checks for each:
/// - Rows read back as pushed; a row number beyond [`Table::rows`] is [`TableError::NoSuchRow`].
/// - [`Table::find`] gives every demoted, unexpired row with that tag; it may give others (the caller
///   confirms against the whole key), in any order, and never gives a row number at or beyond `rows`.
/// - [`Table::demote`] asks the table to take the rows from [`Table::demoted`] up to `upto`, or a few less; it
///   may do so at any later time. Rows are the table's to find once `demoted` says so.
/// - [`Table::expire`] may forget keys below `row`, at any later time or never; rows stay.
/// - [`Table::rewind`] forgets rows at and beyond `rows`, as after a restart from an older snapshot; pushing
///   the same rows again gives the same table.
/// - Bytes that are not what was written give an error, never another answer.
/// - After an error of `push`, `demote` or `rewind` the table gives only errors until it is opened again; after
///   any other error its user gives it up.
pub trait Table {
    /// Appends a row and returns its number.
    ///
    /// # Errors
    /// [`TableError`]: the row may or may not have been written.
    fn push(&mut self, row: &First) -> Result<u64, TableError>;

    /// Reads a row.
    ///
    /// # Errors
    /// [`TableError`].
    fn row(&self, number: u64) -> Result<First, TableError>;

    /// Reads all rows from `from` on, in order.
    ///
    /// # Errors
    /// [`TableError`].
    fn each(&self, from: u64, take: &mut dyn FnMut(u64, &First)) -> Result<(), TableError> {
        for number in from..self.rows() {
            take(number, &self.row(number)?);
        }
        Ok(())
    }

    /// How many rows were pushed.
    fn rows(&self) -> u64;

    /// Rows below this number are found through [`Table::find`]; the caller knows the others.
    fn demoted(&self) -> u64;

    /// Appends the demoted rows that may have this tag to `out`.
    ///
    /// # Errors
    /// [`TableError`].
    fn find(&self, tag: u64, out: &mut Vec<u64>) -> Result<(), TableError>;

    /// Asks the table to find the rows below `upto` from some time on, which [`Table::demoted`] then says.
    ///
    /// # Errors
    /// [`TableError`].
    ///
    /// # Panics
    /// If `upto` is below [`Table::demoted`] or beyond [`Table::rows`].
    fn demote(&mut self, upto: u64) -> Result<(), TableError>;

    /// Keys of rows below `row` will never be asked for again.
    fn expire(&mut self, row: u64);

    /// Keys of rows below this may have been forgotten. Not even [`Table::rewind`] brings them back.
    fn expired(&self) -> u64;

    /// Forgets the rows at and beyond `rows`.
    ///
    /// # Errors
    /// [`TableError::NoSuchRow`] if there are fewer.
    fn rewind(&mut self, rows: u64) -> Result<(), TableError>;
}

/// A table in memory: for auditors of short logs, for tests, and as the model of the one on disk.
#[derive(Clone, Debug, Default)]
pub struct MemTable {
    rows: Vec<First>,
    demoted: u64,
    expired: u64,
    keys: BTreeMap<(u64, u64), ()>,
}

impl MemTable {
    /// A table without rows.
    #[must_use]
    pub fn new() -> MemTable {
        MemTable::default()
    }
}

impl Table for MemTable {
    fn push(&mut self, row: &First) -> Result<u64, TableError> {
        self.rows.push(*row);
        Ok(self.rows() - 1)
    }

    fn row(&self, number: u64) -> Result<First, TableError> {
        let index = usize::try_from(number).map_err(|_| TableError::NoSuchRow(number))?;
        self.rows.get(index).copied().ok_or(TableError::NoSuchRow(number))
    }

    fn rows(&self) -> u64 {
        self.rows.len() as u64
    }

    fn demoted(&self) -> u64 {
        self.demoted
    }

    fn find(&self, tag: u64, out: &mut Vec<u64>) -> Result<(), TableError> {
        out.extend(self.keys.range((tag, 0)..=(tag, u64::MAX)).map(|((_, row), ())| *row));
        Ok(())
    }

    fn demote(&mut self, upto: u64) -> Result<(), TableError> {
        assert!(self.demoted <= upto && upto <= self.rows(), "demotion goes forward over existing rows");
        for number in self.demoted.max(self.expired)..upto {
            self.keys.insert((self.rows[number as usize].tag(), number), ());
        }
        self.demoted = upto;
        Ok(())
    }

    fn expire(&mut self, row: u64) {
        self.expired = self.expired.max(row);
        let expired = self.expired;
        self.keys.retain(|(_, number), ()| *number >= expired);
    }

    fn expired(&self) -> u64 {
        self.expired
    }

    fn rewind(&mut self, rows: u64) -> Result<(), TableError> {
        if rows > self.rows() {
            return Err(TableError::NoSuchRow(rows));
        }
        self.rows.truncate(rows as usize);
        self.demoted = self.demoted.min(rows);
        self.keys.retain(|(_, number), ()| *number < rows);
        Ok(())
    }
}

/// An order-independent digest of rows: the sum, modulo 2^256, of their BLAKE3 hashes. It can be recomputed
/// from the rows in any order. It finds accidents and bugs; that nobody rewrote history is for the tree and
/// the chain to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content([u64; 4]);

impl Content {
    /// Takes up where [`Content::digest`] left it.
    #[must_use]
    pub fn resume(digest: Digest) -> Content {
        let mut limbs = [0; 4];
        for (limb, bytes) in limbs.iter_mut().zip(digest.0.chunks_exact(8)) {
            *limb = u64::from_le_bytes(bytes.try_into().expect("chunks of 8"));
        }
        Content(limbs)
    }

    /// Adds an element by its bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        let other = Content::resume(Digest(*blake3::hash(bytes).as_bytes()));
        let mut carry = false;
        for (limb, other) in self.0.iter_mut().zip(other.0) {
            let (sum, first) = limb.overflowing_add(other);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            *limb = sum;
            carry = first || second;
        }
    }

    /// Takes an element out again.
    pub fn remove(&mut self, bytes: &[u8]) {
        let other = Content::resume(Digest(*blake3::hash(bytes).as_bytes()));
        let mut borrow = false;
        for (limb, other) in self.0.iter_mut().zip(other.0) {
            let (rest, first) = limb.overflowing_sub(other);
            let (rest, second) = rest.overflowing_sub(u64::from(borrow));
            *limb = rest;
            borrow = first || second;
        }
    }

    /// The sum, as bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut digest = Digest::ZERO;
        for (bytes, limb) in digest.0.chunks_exact_mut(8).zip(self.0) {
            bytes.copy_from_slice(&limb.to_le_bytes());
        }
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn row(n: u64) -> First {
        First {
            key: Sha256::digest(n.to_le_bytes()).into(),
            digest: [n as u8; 16],
            lanes: core::array::from_fn(|i| i as u16 + n as u16),
            lsn: Lsn(n + 1),
            nth: (n % 4096) as u32,
            seq: n * 3,
            time_ms: n * 1000,
            policy: 7,
            code: 9,
            flags: (n % 4) as u8,
        }
    }

    #[test]
    fn rows_come_back_and_bad_ones_are_refused() {
        for n in [0, 1, 77, 4095, 1 << 40] {
            assert_eq!(First::decode(&row(n).encode()), Ok(row(n)));
        }
        let mut bytes = row(5).encode();
        bytes[103] = 0xff;
        assert!(First::decode(&bytes).is_err());
        assert!(First::decode(&[0; First::SIZE]).is_err());
    }

    #[test]
    fn tenants_with_the_same_id_have_different_keys() {
        let id = [5; 32];
        let keys = ["a", "b", "aa"].map(|name| First::key_of(&TenantId::new(name).unwrap(), &id));
        assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
    }

    #[test]
    fn content_is_a_sum_in_any_order() {
        let mut forward = Content::default();
        let mut backward = Content::default();
        for n in 0..50 {
            forward.add(&row(n).encode());
            backward.add(&row(49 - n).encode());
        }
        assert_eq!(forward, backward);
        assert_eq!(Content::resume(forward.digest()), forward);
        for n in 0..50 {
            forward.remove(&row(n).encode());
        }
        assert_eq!(forward, Content::default());
    }
}
