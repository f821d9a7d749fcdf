//! What an operator says of a region's log, for good: it stands in the log, and so with every node, region and auditor.
//!
//! ```text
//! Declared    tag u8 = 12, at_ms u64, kind u8, region (u8), position, why (u16), then by kind
//!             1 readmitted   count u32 (1 and up)
//!             2 restored     signed note (u32), empty if none is known
//!             3 withheld     tenant (u8)
//! ```

use alloc::string::String;
use alloc::vec::Vec;

use super::imported::region;
use super::{Position, tag, time};
use crate::codec::{DecodeError, Reader, put8, put16, put32};
use crate::ids::TenantId;
use crate::limits::{NOTE_MAX, REGION_MAX};

/// Longest reason, bytes.
pub const WHY_MAX: usize = 1024;

/// What an operator says of a region's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// When, by the clock of whoever wrote it, milliseconds since the Unix epoch. It is no part of log time.
    pub at_ms: u64,
    /// Whose log.
    pub region: String,
    /// Where in that log.
    pub at: Position,
    /// Why, in the operator's words, at most [`WHY_MAX`] bytes.
    pub why: String,
    /// What.
    pub what: Declaration,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declaration {
    /// Another region's log that contradicted itself is taken in again, from that place on.
    Readmitted {
        /// How often this region was, with this time. A second one of the same number changes nothing.
        count: u32,
    },
    /// This log was lost and made again from what others held of it. What it had from that place on is gone.
    Restored {
        /// The newest checkpoint of it that was known then, if it is over more than was found; else empty.
        note: Vec<u8>,
    },
    /// What this tenant sends to this log from here on stays in its region: other regions get what their ledgers need of it.
    /// It has no end.
    Withheld {
        /// Whose submissions.
        tenant: TenantId,
    },
}

impl Declared {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.region.len() <= REGION_MAX, "a region name is within its bound");
        assert!(self.why.len() <= WHY_MAX, "a reason is within its bound");
        out.push(tag::DECLARED);
        out.extend_from_slice(&self.at_ms.to_le_bytes());
        out.push(match &self.what {
            Declaration::Readmitted { .. } => 1,
            Declaration::Restored { .. } => 2,
            Declaration::Withheld { .. } => 3,
        });
        put8(out, self.region.as_bytes());
        self.at.encode(out);
        put16(out, self.why.as_bytes());
        match &self.what {
            Declaration::Readmitted { count } => out.extend_from_slice(&count.to_le_bytes()),
            Declaration::Restored { note } => {
                assert!(note.len() <= NOTE_MAX, "a note is within its bound");
                put32(out, note);
            }
            Declaration::Withheld { tenant } => put8(out, tenant.as_bytes()),
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Declared, DecodeError> {
        let at_ms = time(reader)?;
        let kind = reader.u8("kind of declaration")?;
        let (region, at, why) = (region(reader)?, Position::read(reader)?, reader.text16(WHY_MAX, "why")?);
        let what = match kind {
            1 => match reader.u32("count")? {
                0 => return Err(DecodeError::OutOfBounds("count")),
                count => Declaration::Readmitted { count },
            },
            2 => Declaration::Restored { note: reader.bytes32(NOTE_MAX, "signed note")?.to_vec() },
            3 => Declaration::Withheld { tenant: TenantId::read(reader)? },
            unknown => return Err(DecodeError::UnknownTag(unknown)),
        };
        Ok(Declared { at_ms, region, at, why, what })
    }
}
