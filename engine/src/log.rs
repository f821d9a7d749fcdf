//! The words every room shares: a position in the log and a digest.

use core::fmt;

/// Log sequence number: the position of one record in one region's log. The first record is 1; zero means
/// "before the first". It equals the index of the Raft entry that carries the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before the first record.
    pub const ZERO: Lsn = Lsn(0);

    /// The position right after this one.
    ///
    /// # Panics
    /// At `u64::MAX`, which a log that grows by a million records a second reaches after 584,000 years.
    #[must_use]
    pub fn next(self) -> Lsn {
        Lsn(self.0.checked_add(1).expect("the log has room for another record"))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A 32-byte digest. Which function made it (SHA-256 or BLAKE3) is said where it stands.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// All zero: the digest of nothing, where a chain starts.
    pub const ZERO: Digest = Digest([0; 32]);

    /// Reads 64 lower-case hex digits, the form [`fmt::Display`] writes. Upper case is refused: one digest
    /// has one text.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Digest> {
        crate::codec::unhex(text).map(Digest)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn a_digest_has_one_text() {
        let digest = Digest(core::array::from_fn(|i| i as u8 * 7));
        let text = digest.to_string();
        assert_eq!(Digest::from_hex(&text), Some(digest));
        assert_eq!(Digest::from_hex(&text.to_uppercase()), None);
        assert_eq!(Digest::from_hex(&text[1..]), None);
    }

    #[test]
    fn positions_follow_each_other() {
        assert_eq!(Lsn::ZERO.next(), Lsn(1));
        assert!(Lsn(1) < Lsn(1).next());
    }
}
