//! The log's own key gives way to another one.
//!
//! The keys stand here as their text, as in `log.vkey`: Ed25519 in the first line, ML-DSA-44 in the second. Whether the new
//! key may follow is for the ledger to say; this is only what was asked for.

use alloc::string::String;
use alloc::vec::Vec;

use super::{tag, time};
use crate::codec::{DecodeError, Reader, put16};
use crate::limits::{SEALED_KEY_MAX, TIME_MAX_MS};

/// Longest text of one set of keys, bytes: two lines of a name of 255 bytes, an id and a key in base64 have 2.4 KB.
pub const LOG_KEYS_TEXT_MAX: usize = 4096;

/// A new key signs what the log publishes, from the entry on that says so.
#[derive(Clone, PartialEq, Eq)]
pub struct LogKeySet {
    /// When it was asked for, by the leader's clock, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Until which log time the old key signs beside the new one, milliseconds since the Unix epoch.
    pub both_until_ms: u64,
    /// Public keys that sign up to here, at most [`LOG_KEYS_TEXT_MAX`] bytes.
    pub follows: String,
    /// Public keys that sign from here on, at most [`LOG_KEYS_TEXT_MAX`] bytes.
    pub keys: String,
    /// The new keys' seed, sealed under the key-encryption key: nonce 24 || ciphertext.
    pub sealed: Vec<u8>,
}

impl core::fmt::Debug for LogKeySet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("LogKeySet")
            .field("at_ms", &self.at_ms)
            .field("both_until_ms", &self.both_until_ms)
            .field("follows", &self.follows)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl LogKeySet {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let texts = [&self.follows, &self.keys];
        assert!(texts.iter().all(|text| text.len() <= LOG_KEYS_TEXT_MAX), "keys are within their bound");
        assert!(self.sealed.len() <= SEALED_KEY_MAX, "a sealed secret is within its bound");
        out.push(tag::LOG_KEY_SET);
        out.extend_from_slice(&self.at_ms.to_le_bytes());
        out.extend_from_slice(&self.both_until_ms.to_le_bytes());
        texts.iter().for_each(|text| put16(out, text.as_bytes()));
        put16(out, &self.sealed);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<LogKeySet, DecodeError> {
        let at_ms = time(reader)?;
        let both_until_ms = reader.u64("end of the window")?;
        if both_until_ms > TIME_MAX_MS {
            return Err(DecodeError::OutOfBounds("end of the window"));
        }
        Ok(LogKeySet {
            at_ms,
            both_until_ms,
            follows: reader.text16(LOG_KEYS_TEXT_MAX, "keys before")?,
            keys: reader.text16(LOG_KEYS_TEXT_MAX, "keys")?,
            sealed: reader.bytes16(SEALED_KEY_MAX, "sealed seed")?.to_vec(),
        })
    }
}
