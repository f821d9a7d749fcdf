//! The public keys that a reader holds a log to.

use alloc::string::String;
use alloc::vec::Vec;

use super::{NoteError, Signed, Verifier};

/// Most keys of one log.
const KEYS_MAX: usize = 16;

/// The public keys of one log, a line each where they stand in a file. The first of them must have signed; a line of another one
/// must verify where there is one, because only what a log publishes carries them all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogKeys(Vec<Verifier>);

impl LogKeys {
    /// Reads verifier keys, one a line.
    ///
    /// # Errors
    /// [`NoteError::Key`] if there is none or one is not a key of a log, or if they are of different logs.
    pub fn parse(text: &str) -> Result<LogKeys, NoteError> {
        let lines = text.trim().split('\n').take(KEYS_MAX + 1);
        let keys: Vec<Verifier> =
            lines.map(|line| Verifier::parse(line.trim_end())).collect::<Result<_, _>>()?;
        let name = keys.first().ok_or(NoteError::Key)?.name();
        if keys.len() > KEYS_MAX || keys.iter().any(|key| key.name() != name) {
            return Err(NoteError::Key);
        }
        Ok(LogKeys(keys))
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[Verifier] {
        &self.0
    }

    /// The key that must have signed, as text.
    #[must_use]
    pub fn vkey(&self) -> String {
        self.0[0].vkey()
    }

    /// All keys as text, a line each.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.iter().fold(String::new(), |text, key| text + &key.vkey() + "\n")
    }

    /// The log's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0[0].name()
    }

    /// Checks the lines of all these keys; gives the keys that have none.
    ///
    /// # Errors
    /// [`NoteError::NotSigned`] if the first key has no line, [`NoteError::BadSignature`] if a line of any does not verify.
    pub fn verify(&self, signed: &Signed) -> Result<Vec<&Verifier>, NoteError> {
        signed.verify(&self.0[0])?;
        let mut silent = Vec::new();
        for key in &self.0[1..] {
            match signed.verify(key) {
                Ok(_) => {}
                Err(NoteError::NotSigned) => silent.push(key),
                Err(error) => return Err(error),
            }
        }
        Ok(silent)
    }
}

impl From<Verifier> for LogKeys {
    fn from(key: Verifier) -> LogKeys {
        LogKeys(alloc::vec![key])
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Checkpoint, Signer};
    use super::*;
    use crate::log::Digest;

    #[test]
    fn the_first_key_must_have_signed_and_no_line_may_be_bad() {
        let signer = Signer::new("a/b", &[1; 32]).unwrap();
        let keys = LogKeys::parse(&signer.vkeys()).unwrap();
        assert_eq!((keys.text(), keys.vkey()), (signer.vkeys(), signer.verifier().vkey()));
        let head = Checkpoint { origin: "a/b".into(), size: 3, root: Digest([1; 32]) };
        let mut signed = Signed::parse(&head.publish(&signer)).unwrap();
        assert_eq!(keys.verify(&signed), Ok(Vec::new()));
        signed.signatures[1].signature[100] ^= 1;
        assert_eq!(keys.verify(&signed), Err(NoteError::BadSignature));
        signed.signatures.truncate(1);
        assert_eq!(keys.verify(&signed), Ok(alloc::vec![&signer.second_verifier()]));
        let second_first = LogKeys::from(signer.second_verifier());
        assert_eq!(second_first.verify(&signed), Err(NoteError::NotSigned));
    }

    #[test]
    fn keys_are_of_one_log() {
        let (one, other) = (Signer::new("a", &[1; 32]).unwrap(), Signer::new("b", &[1; 32]).unwrap());
        assert!(LogKeys::parse(&(one.vkeys() + &other.vkeys())).is_err());
        for bad in ["", "\n", "a+1+2"] {
            assert!(LogKeys::parse(bad).is_err(), "{bad:?}");
        }
        assert!(LogKeys::parse(&one.vkeys().repeat(9)).is_err());
    }
}
