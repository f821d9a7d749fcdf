//! What is wrong with stored bytes, and exactly where.

use std::fmt;

use engine::log::Lsn;

/// Bytes that are not what the log wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Number of the segment; 0 for the manifest.
    pub segment: u64,
    /// Offset in its file, bytes.
    pub offset: u64,
    /// The last position known good before the damage.
    pub lsn: Lsn,
    /// What should stand there.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { segment, offset, lsn, expected, found } = self;
        match segment {
            0 => write!(f, "manifest, offset {offset}: expected {expected}, found {found}"),
            _ => write!(
                f,
                "segment {segment} ({}), offset {offset}, after lsn {lsn}: expected {expected}, found {found}",
                crate::segment::segment_name(*segment)
            ),
        }
    }
}

impl std::error::Error for Damage {}

/// The same before its place is known: an offset relative to the thing being decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    at: u64,
    expected: String,
    found: String,
}

impl Flaw {
    pub(crate) fn new(at: u64, expected: impl ToString, found: impl ToString) -> Flaw {
        Flaw { at, expected: expected.to_string(), found: found.to_string() }
    }

    /// Moved by `base` bytes, into the coordinates of what surrounds it.
    pub(crate) fn within(mut self, base: u64) -> Flaw {
        self.at += base;
        self
    }

    pub(crate) fn in_segment(self, segment: u64, lsn: Lsn) -> Damage {
        Damage { segment, offset: self.at, lsn, expected: self.expected, found: self.found }
    }
}
