//! The second signature under what a log publishes: ML-DSA-44 (FIPS 204), laid out as C2SP tlog-cosignature does for
//! signature type 0x06, so that a checkpoint stays good evidence when Ed25519 no longer is.
//!
//! ```text
//! key        its seed is HMAC-SHA256(key = seed of the log, "flk ml-dsa-44" || 0x01), which is HKDF-Expand
//! signed     "subtree/v1\n\0", name (u8), time u64, origin (u8), 0 u64, size u64, root 32      big-endian
//! signature  time u64, ML-DSA-44 signature 2420
//! ```
//! The log signs with time 0, which states nothing about when, and without randomness: one checkpoint has one signature.
//! Who can compute an Ed25519 secret out of its public key gets the scalar that a hash of the seed gives, and from
//! that neither the seed nor this key.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use hmac::{Hmac, KeyInit as _, Mac as _};
use ml_dsa::{EncodedSignature, EncodedVerifyingKey, MlDsa44, Signature, SigningKey, VerifyingKey};
use sha2::Sha256;

use super::note::{MLDSA44, key_id};
use super::{Checkpoint, NoteError, NoteSignature};

/// Bytes of a public key.
pub(super) const KEY: usize = 1312;
/// Bytes of a signature, without its time.
const SIGNATURE: usize = 2420;

/// The ML-DSA-44 half of a log's signing key.
pub(super) struct SecondSigner {
    name: String,
    key: Box<SigningKey<MlDsa44>>,
    public: Vec<u8>,
    key_id: u32,
}

impl SecondSigner {
    /// The key that goes with a log's seed. The name was looked at before.
    pub(super) fn beside(name: &str, seed: &[u8; 32]) -> SecondSigner {
        let mut mac = Hmac::<Sha256>::new_from_slice(seed).expect("HMAC takes any key");
        mac.update(b"flk ml-dsa-44\x01");
        let derived: [u8; 32] = mac.finalize().into_bytes().into();
        let key = Box::new(SigningKey::<MlDsa44>::from_seed(&derived.into()));
        let public = key.expanded_key().verifying_key().encode().to_vec();
        assert_eq!(public.len(), KEY, "the size of a public key is fixed");
        let key_id = key_id(name, MLDSA44, &public);
        SecondSigner { name: name.to_string(), key, public, key_id }
    }

    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    pub(super) fn sign(&self, checkpoint: &Checkpoint) -> NoteSignature {
        let message = message(&self.name, 0, checkpoint);
        let made = self.key.expanded_key().sign_deterministic(&message, &[]);
        let made = made.expect("no context is never too long").encode();
        let signature = [&[0; 8][..], made.as_slice()].concat();
        NoteSignature { name: self.name.clone(), key_id: self.key_id, signature }
    }
}

/// Checks a signature of `name`'s key over the checkpoint that is written in `text`.
pub(super) fn verify(name: &str, public: &[u8; KEY], text: &[u8], signature: &[u8]) -> Result<(), NoteError> {
    holds(name, public, text, signature).filter(|holds| *holds).map(|_| ()).ok_or(NoteError::BadSignature)
}

fn holds(name: &str, public: &[u8; KEY], text: &[u8], signature: &[u8]) -> Option<bool> {
    let checkpoint = Checkpoint::parse(core::str::from_utf8(text).ok()?).ok()?;
    let (time, signature) = signature.split_first_chunk::<8>()?;
    let time = u64::from_be_bytes(*time);
    let signature: &[u8; SIGNATURE] = signature.try_into().ok()?;
    i64::try_from(time).ok()?;
    let signature = Signature::<MlDsa44>::decode(&EncodedSignature::<MlDsa44>::from(*signature))?;
    let key = VerifyingKey::<MlDsa44>::decode(&EncodedVerifyingKey::<MlDsa44>::from(*public));
    Some(key.verify_with_context(&message(name, time, &checkpoint), &[], &signature))
}

fn message(name: &str, time: u64, checkpoint: &Checkpoint) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + 2 * 256 + 24 + 32);
    out.extend_from_slice(b"subtree/v1\n\0");
    let text = |out: &mut Vec<u8>, text: &str| {
        out.push(u8::try_from(text.len()).expect("a name has at most 255 bytes"));
        out.extend_from_slice(text.as_bytes());
    };
    text(&mut out, name);
    out.extend_from_slice(&time.to_be_bytes());
    text(&mut out, &checkpoint.origin);
    out.extend_from_slice(&0_u64.to_be_bytes());
    out.extend_from_slice(&checkpoint.size.to_be_bytes());
    out.extend_from_slice(&checkpoint.root.0);
    out
}

#[cfg(test)]
mod tests {
    use super::super::{Signed, Signer, Verifier};
    use super::*;
    use crate::log::Digest;

    const NAME: &str = "localhost/pcs/default";

    #[test]
    fn both_lines_verify_each_with_its_own_key() {
        let signer = Signer::new(NAME, &[3; 32]).unwrap();
        let (first, second) = (signer.verifier(), signer.second_verifier());
        let checkpoint = Checkpoint { origin: NAME.into(), size: 42, root: Digest([7; 32]) };
        let note = checkpoint.publish(&signer);
        assert_eq!(note, checkpoint.publish(&signer), "one checkpoint, one note");
        let signed = Signed::parse(&note).unwrap();
        assert_eq!((signed.encode(), signed.signatures.len()), (note, 2));
        for key in [first.clone(), second.clone(), Verifier::parse(&second.vkey()).unwrap()] {
            assert_eq!(signed.verify(&key), Ok(&checkpoint));
        }
        let stranger = Signer::new(NAME, &[5; 32]).unwrap().second_verifier();
        assert_eq!(signed.verify(&stranger), Err(NoteError::NotSigned));
        let mut forged = signed.clone();
        forged.checkpoint.size += 1;
        assert_eq!(forged.verify(&second), Err(NoteError::BadSignature));
        for byte in [0, 8, 2000, 2427] {
            let mut bent = signed.clone();
            bent.signatures[1].signature[byte] ^= 1;
            assert_eq!(bent.verify(&second), Err(NoteError::BadSignature), "{byte}");
            assert_eq!(bent.verify(&first), Ok(&checkpoint), "the other line stands for itself");
        }
        let mut short = signed;
        short.signatures[1].signature.pop();
        assert_eq!(short.verify(&second), Err(NoteError::BadSignature));
    }

    /// Test 1 of Wycheproof's mldsa_44_sign_seed: ends of the key and of the signature. The first 32 bytes of a signature are
    /// a hash of all that went into it.
    #[test]
    fn a_published_vector_is_met() {
        let key = SigningKey::<MlDsa44>::from_seed(&[0x2a; 32].into());
        let public = key.expanded_key().verifying_key().encode();
        let made = key.expanded_key().sign_deterministic(b"Hello world", &[]).unwrap().encode();
        let ends = |bytes: &[u8]| [&bytes[..32], &bytes[bytes.len() - 16..]].map(crate::codec::hex);
        let expected = [
            "db9ac67708f2ba0fac1f92bd802f9be89ecab966feef59872a1a9ac90b111117",
            "23e327085f4c9dda41839b7b3357ab9d",
        ];
        assert_eq!((ends(&public), public.len()), (expected.map(Into::into), KEY));
        let expected = [
            "1aa69cb5ed35204534f25f40a17eb0d767f8981f5e7cec46d3bf3252bfc78e09",
            "000000000000000000000000121f323e",
        ];
        assert_eq!((ends(&made), made.len()), (expected.map(Into::into), SIGNATURE));
    }

    #[test]
    fn keys_have_one_spelling() {
        let vkey = Signer::new("a/b", &[7; 32]).unwrap().second_verifier().vkey();
        assert_eq!(Verifier::parse(&vkey).unwrap().vkey(), vkey);
        assert!(Verifier::parse(&vkey[..vkey.len() - 4]).is_err());
        assert!(Verifier::parse(&vkey.replace("a/b", "a/c")).is_err());
    }
}
