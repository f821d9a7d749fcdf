//! A tenant's keys, prepared: keyed HMAC states and decompressed Ed25519 points, so that one check costs one
//! hash or one verification.
//!
//! A check tries the enabled forms until one matches. The form that matched last is tried first; that hint
//! changes how long a check takes and never what it says, because equal bytes are always reported as the
//! lowest enabled form that gives them.

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};

use ed25519_dalek::VerifyingKey;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::canonical::{LAYOUTS, Layout, SignedFields};
use super::ed25519::PreparedKey;
use super::signature::{Algorithm, Bytes, Forms, SignatureForm, Signed, Unsigned, decode};
use crate::event::{KeyKind, KeySpec};
use crate::ids::KeyId;
use crate::limits::KEYS_PER_TENANT_MAX;

/// Opens sealed HMAC secrets; the engine holds no key-encryption key.
pub trait Secrets {
    /// The raw secret of a key of kind [`KeyKind::HmacSealed`]; `None` if it cannot be opened.
    fn hmac(&self, spec: &KeySpec) -> Option<Zeroizing<Vec<u8>>>;
}

/// Why a tenant's keys are refused as a whole. A tenant without a good key ring has none: there is no
/// fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// More keys than a tenant may have.
    TooMany,
    /// Two keys under one id.
    Duplicate(KeyId),
    /// The sealed secret cannot be opened.
    Sealed(KeyId),
    /// An HMAC secret without bytes.
    Empty(KeyId),
    /// Not an Ed25519 public key.
    NotAPoint(KeyId),
    /// An Ed25519 key of small order, under which anybody could sign.
    Weak(KeyId),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::TooMany => write!(f, "a tenant has at most {KEYS_PER_TENANT_MAX} keys"),
            KeyError::Duplicate(id) => write!(f, "key id {id} stands twice"),
            KeyError::Sealed(id) => write!(f, "the secret of key {id} cannot be opened"),
            KeyError::Empty(id) => write!(f, "the secret of key {id} is empty"),
            KeyError::NotAPoint(id) => write!(f, "key {id} is not an Ed25519 public key"),
            KeyError::Weak(id) => write!(f, "key {id} is a weak Ed25519 public key"),
        }
    }
}

impl core::error::Error for KeyError {}

struct Key {
    id: KeyId,
    not_before_ms: u64,
    not_after_ms: u64,
    check: Check,
}

enum Check {
    /// The state after the key block, cloned for each check.
    Hmac(Hmac<Sha256>),
    /// An HMAC key whose secret we do not have.
    Opaque,
    Ed25519(PreparedKey),
    Unsigned,
}

/// The keys of one tenant.
pub struct KeyRing {
    /// Sorted by id: a key's index is its place in an `Attested` byte.
    keys: Vec<Key>,
    /// The number of the form that matched last.
    hint: AtomicU8,
}

impl fmt::Debug for KeyRing {
    /// Shows the ids only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys.iter().map(|key| key.id)).finish()
    }
}

impl KeyRing {
    /// Prepares a tenant's keys.
    ///
    /// # Errors
    /// [`KeyError`] if any of them cannot be used.
    pub fn new(specs: &[KeySpec], secrets: &dyn Secrets) -> Result<KeyRing, KeyError> {
        KeyRing::build(specs, |spec| {
            let secret = secrets.hmac(spec).ok_or(KeyError::Sealed(spec.key_id))?;
            if secret.is_empty() {
                return Err(KeyError::Empty(spec.key_id));
            }
            Ok(Check::Hmac(Hmac::new_from_slice(&secret).expect("HMAC takes a key of any length")))
        })
    }

    /// Prepares what an auditor has: ids, windows and public keys.
    ///
    /// # Errors
    /// [`KeyError`] if any of the public keys cannot be used.
    pub fn public(specs: &[KeySpec]) -> Result<KeyRing, KeyError> {
        KeyRing::build(specs, |_| Ok(Check::Opaque))
    }

    fn build(
        specs: &[KeySpec],
        hmac: impl Fn(&KeySpec) -> Result<Check, KeyError>,
    ) -> Result<KeyRing, KeyError> {
        if specs.len() > KEYS_PER_TENANT_MAX {
            return Err(KeyError::TooMany);
        }
        let mut keys = Vec::with_capacity(specs.len());
        for spec in specs {
            let check = match &spec.kind {
                KeyKind::HmacSealed(_) => hmac(spec)?,
                KeyKind::Ed25519(bytes) => Check::Ed25519(PreparedKey::new(strong_key(bytes, spec.key_id)?)),
                KeyKind::Unsigned => Check::Unsigned,
            };
            let KeySpec { key_id: id, not_before_ms, not_after_ms, .. } = *spec;
            keys.push(Key { id, not_before_ms, not_after_ms, check });
        }
        keys.sort_by_key(|key| key.id);
        if let Some(pair) = keys.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(KeyError::Duplicate(pair[0].id));
        }
        Ok(KeyRing { keys, hint: AtomicU8::new(SignatureForm::Canonical.code()) })
    }

    /// Finds the form and key of a signature.
    ///
    /// Good means that the signed bytes belong to these fields, except for what lossy layouts blur: only
    /// together with a derived id ([`super::verdict::structure`]) is it a whole summary's signature.
    ///
    /// # Errors
    /// [`Unsigned`], and which one never depends on a secret except [`Unsigned::NoMatch`].
    pub fn check(
        &self,
        fields: &SignedFields<'_>,
        sig: &str,
        now_ms: u64,
        forms: Forms,
    ) -> Result<Signed, Unsigned> {
        if !self.active(now_ms).any(|_| true) {
            return Err(Unsigned::NoKey);
        }
        let matched = decode(sig).and_then(|bytes| self.search(fields, &bytes, now_ms, forms));
        matched.or_else(|unsigned| self.unsigned(now_ms, forms).ok_or(unsigned))
    }

    /// As [`KeyRing::check`], but what needs an HMAC secret is taken from an `Attested` byte.
    ///
    /// # Errors
    /// As [`KeyRing::check`]; a byte that no check could have given is [`Unsigned::NoMatch`].
    pub fn check_presigned(
        &self,
        fields: &SignedFields<'_>,
        sig: &str,
        now_ms: u64,
        forms: Forms,
        byte: u8,
    ) -> Result<Signed, Unsigned> {
        match decode(sig) {
            Ok(Bytes::Hmac(_)) => {}
            _ => return self.check(fields, sig, now_ms, forms),
        }
        if !self.active(now_ms).any(|_| true) {
            return Err(Unsigned::NoKey);
        }
        let said = SignatureForm::from_code(byte & 31).and_then(|form| {
            let place = usize::from(byte >> 5);
            let (_, key) = self.active(now_ms).find(|(at, _)| *at == place)?;
            let hmac = matches!(key.check, Check::Hmac(_) | Check::Opaque);
            let possible = hmac && form.algorithm() == Algorithm::Hmac && forms.has(form);
            possible.then_some(Signed { form, key_id: key.id, key: place as u8 })
        });
        said.or_else(|| self.unsigned(now_ms, forms)).ok_or(Unsigned::NoMatch)
    }

    fn active(&self, now_ms: u64) -> impl Iterator<Item = (usize, &Key)> {
        let counts = move |key: &Key| (key.not_before_ms..=key.not_after_ms).contains(&now_ms);
        self.keys.iter().enumerate().filter(move |(_, key)| counts(key))
    }

    fn unsigned(&self, now_ms: u64, forms: Forms) -> Option<Signed> {
        let form = SignatureForm::Unsigned;
        let (at, key) = self.active(now_ms).find(|(_, key)| matches!(key.check, Check::Unsigned))?;
        forms.has(form).then_some(Signed { form, key_id: key.id, key: at as u8 })
    }

    fn search(
        &self,
        fields: &SignedFields<'_>,
        sig: &Bytes,
        now_ms: u64,
        forms: Forms,
    ) -> Result<Signed, Unsigned> {
        let algorithm = match sig {
            Bytes::Hmac(_) => Algorithm::Hmac,
            Bytes::Ed25519(_) => Algorithm::Ed25519,
        };
        let wanted = |form: &SignatureForm| form.algorithm() == algorithm && forms.has(*form);
        let hint = SignatureForm::from_code(self.hint.load(Ordering::Relaxed));
        let order = hint.into_iter().chain(SignatureForm::ALL).filter(wanted);
        let mut texts = Texts { fields, made: Default::default() };
        let mut tried: Vec<SignatureForm> = Vec::new();
        for form in order {
            if texts.of(form.layout()).is_none() || tried.iter().any(|before| texts.same(*before, form)) {
                continue;
            }
            tried.push(form);
            let text = texts.of(form.layout()).expect("just looked at");
            let digest = form.signs_digest().then(|| Sha256::digest(text));
            let message = digest.as_ref().map_or(text, |digest| digest.as_slice());
            let found = self.active(now_ms).find(|(_, key)| key.check.matches(message, sig));
            if let Some((at, key)) = found {
                self.hint.store(form.code(), Ordering::Relaxed);
                let lower = SignatureForm::ALL.into_iter().filter(wanted).take_while(|lower| *lower < form);
                let form = lower.into_iter().find(|lower| texts.same(*lower, form)).unwrap_or(form);
                return Ok(Signed { form, key_id: key.id, key: at as u8 });
            }
        }
        Err(Unsigned::NoMatch)
    }
}

impl Check {
    fn matches(&self, message: &[u8], sig: &Bytes) -> bool {
        match (self, sig) {
            (Check::Hmac(keyed), Bytes::Hmac(tag)) => {
                keyed.clone().chain_update(message).verify_slice(tag).is_ok()
            }
            (Check::Ed25519(key), Bytes::Ed25519(sig)) => key.verify_strict(message, sig),
            _ => false,
        }
    }
}

/// Takes a public key unless it is one under which anybody could sign.
///
/// # Errors
/// [`KeyError::NotAPoint`] or [`KeyError::Weak`].
pub fn strong_key(bytes: &[u8; 32], id: KeyId) -> Result<VerifyingKey, KeyError> {
    let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotAPoint(id))?;
    if key.is_weak() { Err(KeyError::Weak(id)) } else { Ok(key) }
}

/// The layouts of one summary, each made when first asked for.
struct Texts<'a> {
    fields: &'a SignedFields<'a>,
    made: [Option<Option<Vec<u8>>>; LAYOUTS],
}

impl Texts<'_> {
    fn of(&mut self, layout: Layout) -> Option<&[u8]> {
        self.made[layout as usize].get_or_insert_with(|| layout.bytes(self.fields)).as_deref()
    }

    /// Whether two forms sign the same bytes.
    fn same(&mut self, one: SignatureForm, other: SignatureForm) -> bool {
        if one.signs_digest() != other.signs_digest() {
            return false;
        }
        if one.layout() == other.layout() {
            return true;
        }
        self.of(one.layout());
        self.of(other.layout());
        let made = |form: SignatureForm| self.made[form.layout() as usize].as_ref().and_then(Option::as_ref);
        made(one).is_some() && made(one) == made(other)
    }
}

const _: () = assert!(KEYS_PER_TENANT_MAX <= 8, "a key's place has three bits in an Attested byte");
