//! Cosignatures: C2SP tlog-cosignature v1.0.1, the Ed25519 kind (`cosignature/v1`, key type 0x04).
//!
//! A cosignature says more than a signature of the log: at that time this was the largest tree of that log that the
//! witness had seen, and it continued every smaller one. Its key type keeps it apart from a log's: the same 32 bytes
//! under another type have another id, and what is signed begins with another line.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::note::{
    COSIGNATURE, NoteError, NoteSignature, ed25519_key, is_name, key_id, read_vkey, write_vkey,
};

/// Latest time a cosignature may carry, seconds: the format's own bound.
const TIME_MAX: u64 = i64::MAX as u64;

/// A witness's signing key. Debug shows its name only.
#[derive(Clone)]
pub struct Cosigner {
    name: String,
    key: SigningKey,
    key_id: u32,
}

impl fmt::Debug for Cosigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cosigner").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Cosigner {
    /// A cosigner of this name from a 32-byte Ed25519 seed.
    ///
    /// # Errors
    /// [`NoteError::Key`] if the name is empty or holds a space, a plus or a control character.
    pub fn new(name: &str, seed: &[u8; 32]) -> Result<Cosigner, NoteError> {
        if !is_name(name) {
            return Err(NoteError::Key);
        }
        let key = SigningKey::from_bytes(seed);
        let key_id = key_id(name, COSIGNATURE, key.verifying_key().as_bytes());
        Ok(Cosigner { name: name.to_string(), key, key_id })
    }

    /// Cosigns the text of a checkpoint as of `time`, seconds since the Unix epoch.
    #[must_use]
    pub fn cosign(&self, text: &str, time: u64) -> NoteSignature {
        let time = time.min(TIME_MAX);
        let mut signature = time.to_be_bytes().to_vec();
        signature.extend_from_slice(&self.key.sign(&message(text, time)).to_bytes());
        NoteSignature { name: self.name.clone(), key_id: self.key_id, signature }
    }

    /// The public half.
    #[must_use]
    pub fn witness(&self) -> Witness {
        Witness { name: self.name.clone(), key: self.key.verifying_key(), key_id: self.key_id }
    }
}

/// A witness's public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    name: String,
    key: VerifyingKey,
    key_id: u32,
}

impl Witness {
    /// Reads a verifier key: `<name>+<key id, 8 hex>+<base64(0x04 || key)>`.
    ///
    /// # Errors
    /// [`NoteError::Key`] if malformed, of another type, if the id is not that of name and key, or if the key is weak.
    pub fn parse(vkey: &str) -> Result<Witness, NoteError> {
        let (name, kind, key) = read_vkey(vkey)?;
        if kind != COSIGNATURE {
            return Err(NoteError::Key);
        }
        Ok(Witness { name: name.to_string(), key: ed25519_key(&key)?, key_id: key_id(name, kind, &key) })
    }

    /// The verifier key as text, without a newline.
    #[must_use]
    pub fn vkey(&self) -> String {
        write_vkey(&self.name, COSIGNATURE, self.key.as_bytes())
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The 32 bytes of the key: two names with the same bytes are one witness.
    #[must_use]
    pub fn key(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Whether a line claims to be of this key.
    #[must_use]
    pub fn is_of(&self, signature: &NoteSignature) -> bool {
        self.name == signature.name && self.key_id == signature.key_id
    }

    /// Checks a cosignature of this key over a checkpoint's text, strictly; gives its time, seconds since the Unix epoch.
    ///
    /// # Errors
    /// [`NoteError::NotSigned`] if it is another key's, [`NoteError::BadSignature`] if it does not verify.
    pub fn verify(&self, text: &str, signature: &NoteSignature) -> Result<u64, NoteError> {
        if !self.is_of(signature) {
            return Err(NoteError::NotSigned);
        }
        let (time, bytes) = signature.signature.split_first_chunk::<8>().ok_or(NoteError::BadSignature)?;
        let time = u64::from_be_bytes(*time);
        let bytes: &[u8; 64] = bytes.try_into().map_err(|_| NoteError::BadSignature)?;
        if time > TIME_MAX {
            return Err(NoteError::BadSignature);
        }
        self.key
            .verify_strict(&message(text, time), &Signature::from_bytes(bytes))
            .map_err(|_| NoteError::BadSignature)?;
        Ok(time)
    }
}

fn message(text: &str, time: u64) -> Vec<u8> {
    alloc::format!("cosignature/v1\ntime {time}\n{text}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Signer, Verifier};

    const TEXT: &str = "example.com/log\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

    #[test]
    fn a_cosignature_verifies_over_its_text_and_its_time_only() {
        let cosigner = Cosigner::new("witness.example/w1", &[5; 32]).unwrap();
        let witness = Witness::parse(&cosigner.witness().vkey()).unwrap();
        assert_eq!(witness, cosigner.witness());
        let good = cosigner.cosign(TEXT, 1_679_315_147);
        assert_eq!(witness.verify(TEXT, &good), Ok(1_679_315_147));
        assert_eq!(witness.verify(&TEXT.replace('7', "8"), &good), Err(NoteError::BadSignature));
        for at in 0..good.signature.len() {
            let mut bent = good.clone();
            bent.signature[at] ^= 1;
            assert_eq!(witness.verify(TEXT, &bent), Err(NoteError::BadSignature), "byte {at}");
        }
        let mut short = good.clone();
        short.signature.pop();
        assert_eq!(witness.verify(TEXT, &short), Err(NoteError::BadSignature));
        let other = Cosigner::new("witness.example/w2", &[5; 32]).unwrap().witness();
        assert_eq!(other.verify(TEXT, &good), Err(NoteError::NotSigned));
    }

    /// One seed in two roles: neither key takes what the other signed, and neither reads the other's text.
    #[test]
    fn a_log_key_is_no_witness_key() {
        let signer = Signer::new("a", &[5; 32]).unwrap();
        let cosigner = Cosigner::new("a", &[5; 32]).unwrap();
        assert_eq!(cosigner.witness().verify(TEXT, &signer.sign(TEXT.as_bytes())), Err(NoteError::NotSigned));
        assert!(signer.verifier().verify(TEXT.as_bytes(), &cosigner.cosign(TEXT, 1)).is_err());
        assert_eq!(Witness::parse(&signer.verifier().vkey()), Err(NoteError::Key));
        assert!(Verifier::parse(&cosigner.witness().vkey()).is_err());
    }

    #[test]
    fn debug_shows_no_seed() {
        assert_eq!(
            alloc::format!("{:?}", Cosigner::new("a", &[7; 32]).unwrap()),
            "Cosigner { name: \"a\", .. }"
        );
    }
}
