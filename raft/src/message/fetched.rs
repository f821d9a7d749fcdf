//! What a node gives another one that repairs its log.
//!
//! ```text
//! request  9 fetch      first lsn u64, last lsn u64
//! answer   9 fetched    vote 17, committed lsn u64, lsn of the membership u64, membership (u16), count u16, count x (lsn u64, term u64, record (u32))
//!         10 fetched    the same, from a node that is itself in repair
//! ```
//! Who does not know the tag 10 takes it for no answer, and waits.

use engine::codec::{DecodeError, Reader, put16, put32};
use engine::limits::RECORD_BYTES_MAX;
use engine::log::Lsn;

use super::{ENTRIES_MAX, ENTRY_OVERHEAD, read_vote, vote};
use crate::types::Vote;

/// Entries as they stand in a log, and how far that node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// It is in repair at its start: its process takes no part in Raft yet, and may have lost votes that were given before it.
    pub(crate) in_repair: bool,
    /// The last vote it gave, as far as it knows.
    pub(crate) vote: Vote,
    /// What it knows to be committed.
    pub(crate) committed: Lsn,
    /// Where the newest membership in its log stands.
    pub(crate) members_at: Lsn,
    /// That membership, as bytes.
    pub(crate) members: Vec<u8>,
    /// Those it has of what was asked for, from the first on, as many as fit into a message.
    pub(crate) entries: Vec<(Lsn, u64, Vec<u8>)>,
}

pub(super) fn put_range(from: Lsn, to: Lsn, out: &mut Vec<u8>) {
    out.push(9);
    out.extend_from_slice(&from.0.to_le_bytes());
    out.extend_from_slice(&to.0.to_le_bytes());
}

impl Fetched {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.push(if self.in_repair { 10 } else { 9 });
        vote(out, &self.vote);
        out.extend_from_slice(&self.committed.0.to_le_bytes());
        out.extend_from_slice(&self.members_at.0.to_le_bytes());
        put16(out, &self.members);
        assert!(self.entries.len() <= ENTRIES_MAX, "L1: {} entries", self.entries.len());
        out.extend_from_slice(&(self.entries.len() as u16).to_le_bytes());
        for (lsn, term, record) in &self.entries {
            out.extend_from_slice(&lsn.0.to_le_bytes());
            out.extend_from_slice(&term.to_le_bytes());
            put32(out, record);
        }
    }

    pub(super) fn read(in_repair: bool, reader: &mut Reader<'_>) -> Result<Fetched, DecodeError> {
        let vote = read_vote(reader)?;
        let committed = Lsn(reader.u64("committed")?);
        let members_at = Lsn(reader.u64("place of the members")?);
        let members = reader.bytes16(usize::from(u16::MAX), "members")?.to_vec();
        let count = usize::from(reader.u16("entries")?);
        if count > ENTRIES_MAX || count * ENTRY_OVERHEAD > reader.left() {
            return Err(DecodeError::OutOfBounds("entries"));
        }
        let mut entries: Vec<(Lsn, u64, Vec<u8>)> = Vec::with_capacity(count);
        for _ in 0..count {
            let (lsn, term) = (Lsn(reader.u64("lsn")?), reader.u64("term")?);
            let follows = entries.last().is_none_or(|(last, _, _)| last.0.checked_add(1) == Some(lsn.0));
            if lsn == Lsn::ZERO || lsn.0 == u64::MAX || !follows {
                return Err(DecodeError::OutOfBounds("order of entries"));
            }
            entries.push((lsn, term, reader.bytes32(RECORD_BYTES_MAX, "record")?.to_vec()));
        }
        Ok(Fetched { in_repair, vote, committed, members_at, members, entries })
    }
}
