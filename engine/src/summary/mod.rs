//! One submission judged alone: the same bytes, keys and policy give the same judgement on every machine,
//! in every region, for ever.
//!
//! The order is fixed: the body is read ([`parse`]), its signature is checked ([`KeyRing`]), its structure
//! and id are checked ([`verdict::structure`]), and only then do its numbers get a verdict
//! ([`verdict::numbers`]). A [`Sound`] summary has an id we derived ourselves, which is half of invariant I1
//! (verify-before-dedup): the ledger indexes nothing else.
//!
//! - [`canonical`], [`decimal`]: what is signed, byte for byte (I4).
//! - [`judge()`], [`judge_many`]: all of it, for one submission and for many at once.
//! - [`signature`], [`keyring`]: which form and key a signature belongs to. [`sign`]: making one.
//! - [`signals`], [`sanity`], [`policy`], [`verdict`]: what the numbers are worth.
//! - [`fingerprint`](fingerprint()): replay or conflict. [`answer`]: what the client reads.
//! - [`boxes`], [`coherence`], [`mt19937`], [`merkle`]: what a producer computes before it signs.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use sha2::{Digest as _, Sha256};

use crate::ledger::Written;
use crate::log::Digest;

pub mod answer;
pub mod boxes;
pub mod canonical;
pub mod coherence;
pub mod decimal;
mod ed25519;
pub mod fingerprint;
mod json;
mod judge;
pub mod keyring;
mod keys;
pub mod merkle;
pub mod mt19937;
mod parse;
pub mod policy;
pub mod sanity;
pub mod sign;
pub mod signals;
pub mod signature;
mod time;
pub mod verdict;

pub use answer::{Answer, answer_json};
pub use canonical::SignedFields;
pub use fingerprint::{Fingerprint, fingerprint};
pub use json::Fault;
pub use judge::{Case, judge, judge_many, judge_presigned};
pub use keyring::{KeyError, KeyRing, Secrets};
pub use parse::{ParseError, parse};
pub use policy::{Policy, PolicyError};
pub use sanity::Sanity;
pub use signals::Regime;
pub use signature::{Forms, SignatureForm, Signed, Unsigned};
pub use verdict::{ReasonCode, Verdict};

/// The identity of a summary: SHA-256 over `merkle_root|epoch|shard_id`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PcsId(pub [u8; 32]);

impl PcsId {
    /// Derives the id; nothing is ever stored under an id that was only claimed.
    #[must_use]
    pub fn derive(merkle_root: &str, epoch: i64, shard_id: &str) -> PcsId {
        let mut number = Vec::with_capacity(22);
        number.push(b'|');
        decimal::write_integer(&mut number, epoch);
        number.push(b'|');
        let hash = Sha256::new().chain_update(merkle_root).chain_update(&number).chain_update(shard_id);
        PcsId(hash.finalize().into())
    }

    /// Reads 64 lower-case hex digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<PcsId> {
        crate::codec::unhex(text).map(PcsId)
    }

    /// Whether `text` is this id, written as [`fmt::Display`] writes it.
    #[must_use]
    pub fn is_written(&self, text: &str) -> bool {
        PcsId::from_hex(text) == Some(*self)
    }
}

impl fmt::Display for PcsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hex = [0; 64];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            for (digit, nibble) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
                *digit = b"0123456789abcdef"[usize::from(nibble)];
            }
        }
        f.write_str(core::str::from_utf8(&hex).expect("hex is ASCII"))
    }
}

impl fmt::Debug for PcsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key of `N_j`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Count<'a> {
    /// The decimal text of an integer: a scale.
    Scale(i64),
    /// Any other text, which no scale can ask for.
    Other(Cow<'a, str>),
}

impl<'a> Count<'a> {
    fn of(key: Cow<'a, str>) -> Count<'a> {
        let digits = key.strip_prefix('-').unwrap_or(&key);
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let leading = digits.starts_with('0') && (digits.len() > 1 || key.starts_with('-'));
        match key.parse() {
            Ok(scale) if plain && !leading => Count::Scale(scale),
            _ => Count::Other(key),
        }
    }
}

/// A summary as its body states it. Nothing in it is believed yet. `attempt`, `sent_at` and `ft` were
/// checked for their types and dropped: nothing depends on them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pcs<'a> {
    /// The claimed id.
    pub pcs_id: Cow<'a, str>,
    /// The schema's name.
    pub schema: Cow<'a, str>,
    /// The schema's version.
    pub version: Cow<'a, str>,
    /// The producer's shard.
    pub shard_id: Cow<'a, str>,
    /// The producer's epoch.
    pub epoch: i64,
    /// Seed of the directions tried for `coh_star`.
    pub seed: i64,
    /// The scales at which boxes were counted, in the producer's order.
    pub scales: Vec<i64>,
    /// Boxes per scale, sorted by key.
    pub n_j: Vec<(Count<'a>, i64)>,
    /// Directional coherence.
    pub coh_star: f64,
    /// The direction that reached `coh_star`.
    pub v_star: Vec<f64>,
    /// Fractal dimension.
    pub d_hat: f64,
    /// Compressibility.
    pub r: f64,
    /// The claimed regime.
    pub regime: Cow<'a, str>,
    /// Trust budget.
    pub budget: f64,
    /// Root of the Merkle tree over the data.
    pub merkle_root: Cow<'a, str>,
    /// The signature, base64.
    pub sig: Cow<'a, str>,
    /// Which of `d_hat`, `coh_star`, `r`, `budget` the body wrote as integers.
    pub whole: [bool; 4],
}

impl Pcs<'_> {
    /// The count at a scale.
    #[must_use]
    pub fn count(&self, scale: i64) -> Option<i64> {
        let at = self.n_j.binary_search_by(|(key, _)| key.cmp(&Count::Scale(scale))).ok()?;
        Some(self.n_j[at].1)
    }

    /// What its signature covers.
    #[must_use]
    pub fn signed_fields(&self) -> SignedFields<'_> {
        SignedFields {
            pcs_id: &self.pcs_id,
            merkle_root: &self.merkle_root,
            epoch: self.epoch,
            shard_id: &self.shard_id,
            numbers: canonical::Numbers {
                d_hat: self.d_hat,
                coh_star: self.coh_star,
                r: self.r,
                budget: self.budget,
                whole: self.whole,
            },
        }
    }
}

/// The claimed numbers that leaves and answers show.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Signals {
    /// Fractal dimension, as claimed.
    pub d_hat: f64,
    /// Directional coherence, as claimed.
    pub coh_star: f64,
    /// Compressibility, as claimed.
    pub r: f64,
    /// Trust budget, as claimed.
    pub budget: f64,
    /// The regime that these numbers mean. What the body claimed may be any text; if it differs, the
    /// verdict says so.
    pub regime: Regime,
}

/// What one submission is, judged alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Judged {
    /// No summary: HTTP 400.
    Malformed(ParseError),
    /// The tenant has no key that counts at this time: HTTP 401.
    NoKey,
    /// Nobody we know signed it: HTTP 401.
    BadSignature(Unsigned),
    /// Signed, but without the structure of a summary: HTTP 202, and no id.
    Structure(Unsound),
    /// A summary under an id we derived.
    Sound(Sound),
}

/// A signed body that is no summary.
#[derive(Clone, Debug, PartialEq)]
pub struct Unsound {
    /// Which form and key signed it.
    pub signed: Signed,
    /// Never accepted; the reason starts with `validation failed: `.
    pub verdict: Verdict,
}

/// A signed summary under a derived id.
#[derive(Clone, Debug, PartialEq)]
pub struct Sound {
    /// The derived id.
    pub id: PcsId,
    /// What it is indexed by: [`First::key_of`](crate::ledger::First::key_of) its tenant and id.
    pub key: [u8; 32],
    /// [`Envelope::commitment`](crate::event::Envelope::commitment). Here, and not when it is folded, because judging is spread over all cores.
    pub commitment: Digest,
    /// Which form and key signed it.
    pub signed: Signed,
    /// What tells its replay from a conflict.
    pub fingerprint: Fingerprint,
    /// What it is worth.
    pub verdict: Verdict,
    /// What it claims.
    pub signals: Signals,
    /// Its leaf, if somebody wrote it before its turn.
    pub written: Option<Box<Written>>,
}

impl Judged {
    /// The byte an `Attested` event carries for this submission: 0 unless the signature is good.
    #[must_use]
    pub fn signature_byte(&self) -> u8 {
        match self {
            Judged::Malformed(_) | Judged::NoKey | Judged::BadSignature(_) => 0,
            Judged::Structure(Unsound { signed, .. }) | Judged::Sound(Sound { signed, .. }) => signed.byte(),
        }
    }

    /// The verdict, if the signature is good.
    #[must_use]
    pub fn verdict(&self) -> Option<&Verdict> {
        match self {
            Judged::Malformed(_) | Judged::NoKey | Judged::BadSignature(_) => None,
            Judged::Structure(Unsound { verdict, .. }) | Judged::Sound(Sound { verdict, .. }) => {
                Some(verdict)
            }
        }
    }
}
