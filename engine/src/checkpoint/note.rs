//! Signature lines, keys and their names.
//!
//! A log has two keys out of one seed: Ed25519, which every signature of it is made with, and ML-DSA-44, which signs
//! what it publishes ([`super::mldsa`]). Their lines stand beside each other and are checked one by one.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use super::Checkpoint;
use super::mldsa::{self, SecondSigner};
use crate::log::Digest;

/// Signature type of the signed-note format: Ed25519 over the text.
const ED25519: u8 = 1;

/// Signature type of a witness's Ed25519 cosignature.
pub(super) const COSIGNATURE: u8 = 4;

/// Signature type of an ML-DSA-44 signature over a tree head.
pub(super) const MLDSA44: u8 = 6;

/// Most signature lines read: the format's own bound.
const SIGNATURES_MAX: usize = 100;

/// Longest signature read, bytes: ML-DSA-44 needs 2,420.
const SIGNATURE_MAX: usize = 4096;

/// Why a note, a key or a receipt was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteError {
    /// Longer than any note we write.
    TooLong,
    /// The signed text is not three lines of origin, size and root in their one spelling.
    Text,
    /// The signature lines are malformed.
    Lines,
    /// The key text is malformed, of an unknown type, or a weak point.
    Key,
    /// The head of a receipt is malformed.
    Receipt,
    /// No line of this key.
    NotSigned,
    /// A line of this key that does not verify.
    BadSignature,
}

impl fmt::Display for NoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoteError::TooLong => "the note is longer than any we write",
            NoteError::Text => "the signed text is not origin, size and root in their one spelling",
            NoteError::Lines => "the signature lines are malformed",
            NoteError::Key => "the key is malformed, of an unknown type, or weak",
            NoteError::Receipt => "the head of the receipt is malformed",
            NoteError::NotSigned => "no signature of this key",
            NoteError::BadSignature => "a signature of this key does not verify",
        })
    }
}

impl core::error::Error for NoteError {}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    /// The key's name; for a log its origin.
    pub name: String,
    /// First four bytes of SHA-256(name || "\n" || type || key), big-endian. Ids collide by design of their
    /// length: name, id and key count together.
    pub key_id: u32,
    /// What follows the id: for Ed25519 64 bytes, for a timestamped cosignature 8 more before them.
    pub signature: Vec<u8>,
}

impl NoteSignature {
    /// The line, with its newline.
    #[must_use]
    pub fn line(&self) -> String {
        let mut bytes = self.key_id.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.signature);
        alloc::format!("\u{2014} {} {}\n", self.name, BASE64.encode(bytes))
    }

    /// Reads a line, without its newline; `None` if it is not one, or longer than any that is read.
    #[must_use]
    pub fn parse(line: &str) -> Option<NoteSignature> {
        let (name, text) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
        if !is_name(name) || text.len() > SIGNATURE_MAX.div_ceil(3) * 4 {
            return None;
        }
        let bytes = BASE64.decode(text).ok()?;
        let (key_id, signature) = bytes.split_first_chunk::<4>()?;
        if signature.is_empty() {
            return None;
        }
        let key_id = u32::from_be_bytes(*key_id);
        Some(NoteSignature { name: name.to_string(), key_id, signature: signature.to_vec() })
    }
}

/// A log's signing key. Debug shows its name only.
#[derive(Clone)]
pub struct Signer {
    name: String,
    key: SigningKey,
    key_id: u32,
    second: Arc<SecondSigner>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Signer {
    /// A signer of this name from a 32-byte seed: the Ed25519 key has it as its own, the ML-DSA-44 key one that is
    /// derived from it.
    ///
    /// # Errors
    /// [`NoteError::Key`] if the name is empty or holds a space, a plus or a control character.
    pub fn new(name: &str, seed: &[u8; 32]) -> Result<Signer, NoteError> {
        if !is_name(name) {
            return Err(NoteError::Key);
        }
        let key = SigningKey::from_bytes(seed);
        let key_id = key_id(name, ED25519, key.verifying_key().as_bytes());
        let second = Arc::new(SecondSigner::beside(name, seed));
        Ok(Signer { name: name.to_string(), key, key_id, second })
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Signs a text.
    #[must_use]
    pub fn sign(&self, text: &[u8]) -> NoteSignature {
        let signature = self.key.sign(text).to_bytes().to_vec();
        NoteSignature { name: self.name.clone(), key_id: self.key_id, signature }
    }

    /// Signs a checkpoint with the second key.
    #[must_use]
    pub fn sign_second(&self, checkpoint: &Checkpoint) -> NoteSignature {
        self.second.sign(checkpoint)
    }

    /// The public half of the Ed25519 key.
    #[must_use]
    pub fn verifier(&self) -> Verifier {
        let key = Public::Ed25519(self.key.verifying_key());
        Verifier { name: self.name.clone(), key, key_id: self.key_id }
    }

    /// The public half of the ML-DSA-44 key.
    #[must_use]
    pub fn second_verifier(&self) -> Verifier {
        Verifier::of(&self.name, MLDSA44, self.second.public()).expect("the name and the key were made here")
    }

    /// Both public keys as text, a line each: what an auditor keeps.
    #[must_use]
    pub fn vkeys(&self) -> String {
        alloc::format!("{}\n{}\n", self.verifier().vkey(), self.second_verifier().vkey())
    }
}

/// A public key that can check signature lines of a log: Ed25519 or ML-DSA-44.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    key: Public,
    key_id: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Public {
    Ed25519(VerifyingKey),
    MlDsa44(Arc<[u8; mldsa::KEY]>),
}

impl Verifier {
    /// Reads a verifier key: `<name>+<key id, 8 hex>+<base64(type || key)>`, of type 0x01 or 0x06.
    ///
    /// # Errors
    /// [`NoteError::Key`] if malformed, of another type, if the id is not that of name and key, or if the key is weak.
    pub fn parse(vkey: &str) -> Result<Verifier, NoteError> {
        let (name, kind, key) = read_vkey(vkey)?;
        Verifier::of(name, kind, &key)
    }

    /// A verifier from a name and an Ed25519 public key.
    ///
    /// # Errors
    /// [`NoteError::Key`] if the name is not one or the key is not a point or a weak one.
    pub fn new(name: &str, key: &[u8; 32]) -> Result<Verifier, NoteError> {
        Verifier::of(name, ED25519, key)
    }

    fn of(name: &str, kind: u8, key: &[u8]) -> Result<Verifier, NoteError> {
        if !is_name(name) {
            return Err(NoteError::Key);
        }
        let public = match kind {
            ED25519 => Public::Ed25519(ed25519_key(key)?),
            MLDSA44 => Public::MlDsa44(Arc::new(key.try_into().map_err(|_| NoteError::Key)?)),
            _ => return Err(NoteError::Key),
        };
        Ok(Verifier { name: name.to_string(), key: public, key_id: key_id(name, kind, key) })
    }

    /// Type and bytes of the key, as they stand in its text and its id.
    fn parts(&self) -> (u8, &[u8]) {
        match &self.key {
            Public::Ed25519(key) => (ED25519, key.as_bytes()),
            Public::MlDsa44(key) => (MLDSA44, &key[..]),
        }
    }

    /// Name of the algorithm, for people.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self.key {
            Public::Ed25519(_) => "Ed25519",
            Public::MlDsa44(_) => "ML-DSA-44",
        }
    }

    /// Whether it is of the kind that every signature of a log is made with: Ed25519.
    #[must_use]
    pub fn is_first(&self) -> bool {
        matches!(self.key, Public::Ed25519(_))
    }

    /// The verifier key as text, without a newline.
    #[must_use]
    pub fn vkey(&self) -> String {
        let (kind, key) = self.parts();
        write_vkey(&self.name, kind, key)
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key's id.
    #[must_use]
    pub fn key_id(&self) -> u32 {
        self.key_id
    }

    /// The key's name within COSE: the whole hash whose first four bytes are the id.
    #[must_use]
    pub fn kid(&self) -> [u8; 32] {
        let (kind, key) = self.parts();
        key_hash(&self.name, kind, key)
    }

    /// Whether a line claims to be of this key.
    #[must_use]
    pub fn is_of(&self, signature: &NoteSignature) -> bool {
        self.name == signature.name && self.key_id == signature.key_id
    }

    /// Checks a line of this key, strictly.
    ///
    /// # Errors
    /// [`NoteError::NotSigned`] if it is another key's, [`NoteError::BadSignature`] if it does not verify.
    pub fn verify(&self, text: &[u8], signature: &NoteSignature) -> Result<(), NoteError> {
        if !self.is_of(signature) {
            return Err(NoteError::NotSigned);
        }
        match &self.key {
            Public::Ed25519(key) => {
                let bytes = signature.signature.as_slice().try_into().map_err(|_| NoteError::BadSignature)?;
                key.verify_strict(text, &Signature::from_bytes(bytes)).map_err(|_| NoteError::BadSignature)
            }
            Public::MlDsa44(key) => mldsa::verify(&self.name, key, text, &signature.signature),
        }
    }
}

/// A verifier key as text: the name, the id that follows from all of it, type and key in base64.
pub(super) fn write_vkey(name: &str, kind: u8, key: &[u8]) -> String {
    let mut bytes = alloc::vec![kind];
    bytes.extend_from_slice(key);
    alloc::format!("{name}+{:08x}+{}", key_id(name, kind, key), BASE64.encode(bytes))
}

/// Reads what [`write_vkey`] writes: name, type and key. What kind of key it is, and whether a good one, is for others
/// to say.
pub(super) fn read_vkey(vkey: &str) -> Result<(&str, u8, Vec<u8>), NoteError> {
    let mut parts = vkey.splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(NoteError::Key);
    };
    let id = crate::codec::unhex(id).map(u32::from_be_bytes).ok_or(NoteError::Key)?;
    let bytes = BASE64.decode(key).map_err(|_| NoteError::Key)?;
    let (kind, key) = bytes.split_first().ok_or(NoteError::Key)?;
    if !is_name(name) || key_id(name, *kind, key) != id {
        return Err(NoteError::Key);
    }
    Ok((name, *kind, key.to_vec()))
}

/// An Ed25519 public key that is a point, and no weak one.
pub(super) fn ed25519_key(key: &[u8]) -> Result<VerifyingKey, NoteError> {
    let key = key.try_into().map_err(|_| NoteError::Key)?;
    let key = VerifyingKey::from_bytes(key).map_err(|_| NoteError::Key)?;
    if key.is_weak() { Err(NoteError::Key) } else { Ok(key) }
}

pub(super) fn key_id(name: &str, kind: u8, key: &[u8]) -> u32 {
    u32::from_be_bytes(*key_hash(name, kind, key).first_chunk().expect("a digest has 32 bytes"))
}

fn key_hash(name: &str, kind: u8, key: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(name.as_bytes());
    hasher.update([b'\n', kind]);
    hasher.update(key);
    hasher.finalize().into()
}

/// Key names and origins: not empty, no spaces, no plus, nothing a terminal would act on.
pub(super) fn is_name(text: &str) -> bool {
    let refused = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    !text.is_empty() && text.len() <= 255 && !text.contains(refused)
}

/// A decimal number in its one spelling.
pub(super) fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// A base64 hash.
pub(super) fn hash(text: &str) -> Option<Digest> {
    let bytes = BASE64.decode(text).ok()?;
    bytes.try_into().ok().map(Digest)
}

/// Splits a note into its text (with final newline) and its signature lines.
pub(super) fn split(bytes: &[u8]) -> Result<(&str, Vec<NoteSignature>), NoteError> {
    let note = core::str::from_utf8(bytes).map_err(|_| NoteError::Lines)?;
    if note.chars().any(|c| c != '\n' && c.is_control()) {
        return Err(NoteError::Lines);
    }
    let blank = note.rfind("\n\n").ok_or(NoteError::Lines)?;
    let (text, lines) = (&note[..=blank], &note[blank + 2..]);
    let lines = lines.strip_suffix('\n').ok_or(NoteError::Lines)?;
    let mut signatures = Vec::new();
    for line in lines.split('\n') {
        if signatures.len() == SIGNATURES_MAX {
            return Err(NoteError::Lines);
        }
        signatures.push(NoteSignature::parse(line).ok_or(NoteError::Lines)?);
    }
    Ok((text, signatures))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of the signed-note documentation.
    #[test]
    fn a_public_key_of_others_is_read_and_written_again() {
        let text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let verifier = Verifier::parse(text).unwrap();
        assert_eq!(verifier.vkey(), text);
        let message = "If you think cryptography is the answer to your problem,\nthen you don't know what \
                       your problem is.\n";
        let line = "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
        let signature = NoteSignature::parse(line).unwrap();
        assert_eq!(verifier.verify(message.as_bytes(), &signature), Ok(()));
        assert_eq!(verifier.verify(b"other", &signature), Err(NoteError::BadSignature));
    }

    #[test]
    fn malformed_keys_are_refused() {
        let good = Signer::new("a/b", &[1; 32]).unwrap().verifier().vkey();
        assert!(Verifier::parse(&good).is_ok());
        let zero_point = alloc::format!("a/b+00000000+{}", BASE64.encode([1_u8; 33]));
        for bad in
            ["", "a/b", "a/b+00000000", &good.replace("a/b", "a/c"), &good[..good.len() - 4], &zero_point]
        {
            assert_eq!(Verifier::parse(bad).map(|_| ()), Err(NoteError::Key), "{bad}");
        }
        assert!(Signer::new("a b", &[1; 32]).is_err());
        assert!(Signer::new("", &[1; 32]).is_err());
    }

    #[test]
    fn weak_keys_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(Verifier::new("a", &identity), Err(NoteError::Key));
    }

    #[test]
    fn malformed_lines_are_refused() {
        for bad in [
            "",
            "- a AAAAAAA=",
            "\u{2014} a",
            "\u{2014} a AAAAAA==",
            "\u{2014}  AAAAAAA=",
            "\u{2014} a AAAAAAA= ",
        ] {
            assert_eq!(NoteSignature::parse(bad), None, "{bad:?}");
        }
        assert!(NoteSignature::parse("\u{2014} a AAAAAAA=").is_some());
    }

    #[test]
    fn debug_shows_no_seed() {
        let text = alloc::format!("{:?}", Signer::new("a", &[7; 32]).unwrap());
        assert_eq!(text, "Signer { name: \"a\", .. }");
    }
}
