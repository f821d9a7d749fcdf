//! From the frames of a log back to everything it means: what `worm verify` and `flk replay` share.
//!
//! ```text
//! frames -> records (truncations resolved) -> judged -> ledger -> leaves, roots, digests -> compared
//! ```
//! No stored hash is believed: leaves, roots and digests are computed from the events, and what the log says of
//! itself (`Attested`, `Checkpoint`) is compared with them. Only which HMAC signatures were good is taken from
//! `Attested` when no secret is at hand, and counted.

pub mod anchors;
pub mod fold;
pub mod home;
pub mod judges;
pub mod keychain;
pub mod notes;
pub mod quiet;
pub mod resolve;
pub mod scratch;
pub mod snapshot;
pub mod source;

use std::fmt;

use engine::log::Lsn;

/// Where a record stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Number of the segment.
    pub segment: u64,
    /// Offset of the frame in its file, bytes.
    pub offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {}, offset {:#x}", self.segment, self.offset)
    }
}

/// The first thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The record.
    pub lsn: Lsn,
    /// Where it stands, if it stands anywhere.
    pub place: Option<Place>,
    /// Which part: `log`, `record`, `index`, `tree`, or a projection's name.
    pub part: &'static str,
    /// What should be.
    pub expected: String,
    /// What is.
    pub found: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {}", self.lsn)?;
        if let Some(place) = &self.place {
            write!(f, ", {place}")?;
        }
        write!(f, ": {}: expected {}, found {}", self.part, self.expected, self.found)
    }
}
