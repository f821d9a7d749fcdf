//! Making signatures: what `flk sign` and `flk agent` put into `sig`.

use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::canonical::SignedFields;
use super::signature::{Algorithm, SignatureForm};

/// What is signed in a form: the layout, or its SHA-256. `None` if the layout cannot hold the fields or the
/// form signs nothing.
#[must_use]
pub fn message(form: SignatureForm, fields: &SignedFields<'_>) -> Option<Vec<u8>> {
    if form.algorithm() == Algorithm::None {
        return None;
    }
    let text = form.layout().bytes(fields)?;
    Some(if form.signs_digest() { Sha256::digest(&text).to_vec() } else { text })
}

/// Signs with an HMAC secret; `None` if the form is not an HMAC form or cannot hold the fields.
#[must_use]
pub fn sign_hmac(form: SignatureForm, fields: &SignedFields<'_>, secret: &[u8]) -> Option<String> {
    if form.algorithm() != Algorithm::Hmac {
        return None;
    }
    let keyed = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    let tag = keyed.chain_update(message(form, fields)?).finalize().into_bytes();
    Some(STANDARD.encode(tag))
}

/// Signs with an Ed25519 seed; `None` if the form is not an Ed25519 form or cannot hold the fields.
#[must_use]
pub fn sign_ed25519(form: SignatureForm, fields: &SignedFields<'_>, seed: &[u8; 32]) -> Option<String> {
    if form.algorithm() != Algorithm::Ed25519 {
        return None;
    }
    let key = SigningKey::from_bytes(seed);
    Some(STANDARD.encode(key.sign(&message(form, fields)?).to_bytes()))
}

/// The public key of an Ed25519 seed.
#[must_use]
pub fn ed25519_public(seed: &[u8; 32]) -> [u8; 32] {
    SigningKey::from_bytes(seed).verifying_key().to_bytes()
}
