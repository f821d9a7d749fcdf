//! Why a range of another region's log is not taken in.

use alloc::string::String;
use core::fmt;

use crate::event::Position;
use crate::limits::ORIGINS_MAX;

/// Why a region's log is believed no further: it contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// Where in its log.
    pub at: Position,
    /// What differs: a projection as [`Divergence`] names it, or `checkpoint`.
    pub part: String,
}

/// Why a range would change nothing now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotYet {
    /// It is of our own log.
    Own,
    /// It does not begin where what we have ends.
    Elsewhere {
        /// There.
        expected: Position,
    },
    /// Its region knew this much of another log, and we do not.
    Unknown {
        /// Whose log.
        origin: String,
        /// Up to where.
        to: Position,
    },
    /// Its region's log contradicts itself.
    Quarantined(Quarantine),
    /// There are as many other regions as there may be.
    TooMany,
}

impl fmt::Display for NotYet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotYet::Own => f.write_str("that is our own log"),
            NotYet::Elsewhere { expected } => {
                write!(f, "what is known ends before event {} of record {}", expected.nth, expected.lsn)
            }
            NotYet::Unknown { origin, to } => {
                write!(f, "it speaks of record {} of region {origin}, which is not known here yet", to.lsn)
            }
            NotYet::Quarantined(why) => {
                write!(f, "its log contradicts itself at record {} ({})", why.at.lsn, why.part)
            }
            NotYet::TooMany => write!(f, "there are {ORIGINS_MAX} other regions already"),
        }
    }
}

impl core::error::Error for NotYet {}
