//! The numbers verdicts depend on, as data: an old record is judged by the policy of its time.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use sha2::{Digest as _, Sha256};

use super::decimal::{Decimal, Style, write_integer};
use super::sanity::Sanity;
use super::signature::Forms;
use crate::codec::{DecodeError, Reader, put8};
use crate::log::Digest;

/// Longest version name, bytes.
pub const VERSION_MAX: usize = 64;

/// A version of the rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its name, 1 to 64 bytes of printable ASCII, such as `1.0.0`.
    pub version: String,
    /// How far the claimed D_hat may be from the recomputed one, in `[0, 1]`.
    pub tol_d: f64,
    /// How far above 1 coh_star may be, in `[0, 0.2]`.
    pub tol_coh: f64,
    /// Weight of incompressibility in the budget, at least 0.
    pub alpha: f64,
    /// Weight of dimension above `d0` in the budget, at least 0.
    pub beta: f64,
    /// Weight of coherence in the budget, at least 0.
    pub gamma: f64,
    /// What every budget starts from, in `[0, 1]`.
    pub base: f64,
    /// The dimension from which the budget grows, in `[0, 3]`.
    pub d0: f64,
    /// Largest D_hat of the sticky regime.
    pub sticky_d_hat_max: f64,
    /// Smallest coh_star of the sticky regime, in `[0, 1 + tol_coh]`.
    pub sticky_coherence_min: f64,
    /// Smallest D_hat of the non-sticky regime.
    pub non_sticky_d_hat_min: f64,
    /// How long a repeated id is answered with the first answer, milliseconds of log time.
    pub dedup_ttl_ms: u64,
    /// Which sanity checks escalate.
    pub sanity: Sanity,
    /// Which signature forms are accepted. It stands here and not in a process's settings because
    /// outcomes depend on it: a form is switched off from one record on, for every replay.
    pub forms: Forms,
}

/// A policy breaks one of the static checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// The field, by its name in policy documents.
    pub field: &'static str,
    /// What is wrong with it.
    pub message: &'static str,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "policy validation error [{}]: {}", self.field, self.message)
    }
}

impl core::error::Error for PolicyError {}

/// Ten years: longer than any client keeps an unacknowledged summary.
pub const DEDUP_TTL_MAX_MS: u64 = 3653 * 24 * 3600 * 1000;

/// Fourteen days.
const DEDUP_TTL_MS: u64 = 14 * 24 * 3600 * 1000;

impl Policy {
    /// The constants clients in the field were built against.
    #[must_use]
    pub fn default_1_0_0() -> Policy {
        Policy {
            version: "1.0.0".into(),
            tol_d: 0.15,
            tol_coh: 0.05,
            alpha: 0.30,
            beta: 0.50,
            gamma: 0.20,
            base: 0.10,
            d0: 2.2,
            sticky_d_hat_max: 1.5,
            sticky_coherence_min: 0.70,
            non_sticky_d_hat_min: 2.6,
            dedup_ttl_ms: DEDUP_TTL_MS,
            sanity: Sanity::FIELD_SAFE,
            forms: Forms::ALL,
        }
    }

    /// The static checks, in the order in which policy authors see them fail.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn validate(&self) -> Result<(), PolicyError> {
        let version = self.version.as_bytes();
        let printable = version.iter().all(|byte| (b' '..=b'~').contains(byte));
        // No float is accepted by its absence from a range: NaN fails every comparison below.
        check(!version.is_empty(), "version", "version is required")?;
        check(
            version.len() <= VERSION_MAX && printable,
            "version",
            "must be at most 64 printable ASCII bytes",
        )?;
        check((0.0..=1.0).contains(&self.tol_d), "tol_D", "must be in [0, 1]")?;
        check((0.0..=0.2).contains(&self.tol_coh), "tol_coh", "must be in [0, 0.2]")?;
        check(
            (0.0..=1.0 + self.tol_coh).contains(&self.sticky_coherence_min),
            "sticky_coherence_min",
            "must be in [0, 1+tol_coh]",
        )?;
        check(self.alpha + self.beta + self.gamma <= 1.0, "weights", "alpha + beta + gamma must be <= 1.0")?;
        check(self.alpha >= 0.0, "alpha", "must be >= 0")?;
        check(self.beta >= 0.0, "beta", "must be >= 0")?;
        check(self.gamma >= 0.0, "gamma", "must be >= 0")?;
        check((0.0..=1.0).contains(&self.base), "base", "must be in [0, 1]")?;
        check((0.0..=3.0).contains(&self.d0), "D0", "must be in [0, 3]")?;
        check(
            self.sticky_d_hat_max < self.non_sticky_d_hat_min
                && self.sticky_d_hat_max.is_finite()
                && self.non_sticky_d_hat_min.is_finite(),
            "sticky_D_hat_max",
            "must be < non_sticky_D_hat_min",
        )?;
        check((1..=DEDUP_TTL_MAX_MS).contains(&self.dedup_ttl_ms), "dedup_ttl_ms", "must be 1 ms to 10 years")
    }

    /// Judges one flag of a policy document: durability and signatures are not a policy's to switch off.
    ///
    /// # Errors
    /// If the flag is one that must not be true.
    pub fn check_flag(name: &str, on: bool) -> Result<(), PolicyError> {
        check(!(on && name == "disable_wal"), "flags", "disable_wal must not be true")?;
        check(!(on && name == "skip_signature"), "flags", "skip_signature must not be true")
    }

    /// SHA-256 over the numbers clients know and the version, as compact JSON with sorted keys: the same
    /// value the original system's policy library computes.
    #[must_use]
    pub fn hash(&self) -> Digest {
        let mut text = Vec::with_capacity(256);
        self.write_known(&mut text);
        text.push(b'}');
        Digest(Sha256::digest(&text).into())
    }

    /// SHA-256 over everything a verdict depends on: the text of [`Policy::hash`] with `dedup_ttl_ms`,
    /// `sanity` and `forms` after it. This is what leaves name.
    #[must_use]
    pub fn params_hash(&self) -> Digest {
        let mut text = Vec::with_capacity(300);
        self.write_known(&mut text);
        text.extend_from_slice(b",\"dedup_ttl_ms\":");
        write_integer(&mut text, self.dedup_ttl_ms as i64);
        text.extend_from_slice(b",\"sanity\":");
        write_integer(&mut text, i64::from(self.sanity.bits()));
        text.extend_from_slice(b",\"forms\":");
        write_integer(&mut text, i64::from(self.forms.bits()));
        text.push(b'}');
        Digest(Sha256::digest(&text).into())
    }

    fn write_known(&self, text: &mut Vec<u8>) {
        let fields = [
            ("D0", self.d0),
            ("alpha", self.alpha),
            ("base", self.base),
            ("beta", self.beta),
            ("gamma", self.gamma),
            ("non_sticky_D_hat_min", self.non_sticky_d_hat_min),
            ("sticky_D_hat_max", self.sticky_d_hat_max),
            ("sticky_coherence_min", self.sticky_coherence_min),
            ("tol_D", self.tol_d),
            ("tol_coh", self.tol_coh),
        ];
        let mut open = b'{';
        for (name, value) in fields {
            text.push(open);
            open = b',';
            super::canonical::write_string(text, name, super::canonical::Escapes::Html);
            text.push(b':');
            Decimal::shortest(value).write(text, Style::Go);
        }
        text.extend_from_slice(b",\"version\":");
        super::canonical::write_string(text, &self.version, super::canonical::Escapes::Html);
    }

    /// Appends the policy's bytes, for a `PolicySet` event.
    ///
    /// ```text
    /// version (u8), tol_d tol_coh alpha beta gamma base d0 sticky_d_hat_max sticky_coherence_min
    /// non_sticky_d_hat_min f64 each, dedup_ttl_ms u64, sanity u8, forms u32
    /// ```
    ///
    /// # Panics
    /// If the version is longer than its bound: [`Policy::validate`] was not asked.
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.version.len() <= VERSION_MAX, "a version is within its bound");
        put8(out, self.version.as_bytes());
        for number in self.numbers() {
            out.extend_from_slice(&number.to_bits().to_le_bytes());
        }
        out.extend_from_slice(&self.dedup_ttl_ms.to_le_bytes());
        out.push(self.sanity.bits());
        out.extend_from_slice(&self.forms.bits().to_le_bytes());
    }

    /// Reads a policy from exactly these bytes.
    ///
    /// # Errors
    /// [`DecodeError`] if they are anything but one policy that [`Policy::validate`] accepts.
    pub fn decode(bytes: &[u8]) -> Result<Policy, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.bytes8(VERSION_MAX, "policy version")?;
        let version =
            core::str::from_utf8(version).map_err(|_| DecodeError::OutOfBounds("policy version"))?;
        let policy = Policy {
            version: version.into(),
            tol_d: reader.f64("tol_d")?,
            tol_coh: reader.f64("tol_coh")?,
            alpha: reader.f64("alpha")?,
            beta: reader.f64("beta")?,
            gamma: reader.f64("gamma")?,
            base: reader.f64("base")?,
            d0: reader.f64("d0")?,
            sticky_d_hat_max: reader.f64("sticky_d_hat_max")?,
            sticky_coherence_min: reader.f64("sticky_coherence_min")?,
            non_sticky_d_hat_min: reader.f64("non_sticky_d_hat_min")?,
            dedup_ttl_ms: reader.u64("dedup_ttl_ms")?,
            sanity: Sanity::from_bits(reader.u8("sanity")?).ok_or(DecodeError::OutOfBounds("sanity"))?,
            forms: Forms::from_bits(reader.u32("forms")?).ok_or(DecodeError::OutOfBounds("forms"))?,
        };
        reader.end()?;
        policy.validate().map_err(|error| DecodeError::OutOfBounds(error.field))?;
        Ok(policy)
    }

    fn numbers(&self) -> [f64; 10] {
        [
            self.tol_d,
            self.tol_coh,
            self.alpha,
            self.beta,
            self.gamma,
            self.base,
            self.d0,
            self.sticky_d_hat_max,
            self.sticky_coherence_min,
            self.non_sticky_d_hat_min,
        ]
    }
}

fn check(holds: bool, field: &'static str, message: &'static str) -> Result<(), PolicyError> {
    if holds { Ok(()) } else { Err(PolicyError { field, message }) }
}

const _: () =
    assert!(1 + VERSION_MAX + 10 * 8 + 8 + 1 + 4 <= crate::limits::POLICY_BYTES_MAX, "a policy fits");

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn the_default_policy_has_the_hash_that_dashboards_know() {
        let policy = Policy::default_1_0_0();
        assert_eq!(policy.validate(), Ok(()));
        assert_eq!(
            policy.hash().to_string(),
            "1da582b2669baf2cc47baca56194881a3bf44bb0bd2c43d52c225cf663d68a59"
        );
    }

    #[test]
    fn every_static_check_refuses_in_its_turn() {
        type Break = fn(&mut Policy);
        let table: [(Break, &str); 23] = [
            (|p| p.version.clear(), "version"),
            (|p| p.version = "x".repeat(65), "version"),
            (|p| p.version = "1\n".into(), "version"),
            (|p| p.tol_d = 1.01, "tol_D"),
            (|p| p.tol_d = f64::NAN, "tol_D"),
            (|p| p.tol_coh = 0.21, "tol_coh"),
            (|p| p.sticky_coherence_min = 1.06, "sticky_coherence_min"),
            (|p| p.alpha = 0.31, "weights"),
            (|p| p.alpha = f64::NAN, "weights"),
            (|p| p.alpha = -0.1, "alpha"),
            (|p| p.beta = -0.1, "beta"),
            (|p| p.gamma = -0.1, "gamma"),
            (|p| p.base = -0.1, "base"),
            (|p| p.base = 1.1, "base"),
            (|p| p.d0 = 3.1, "D0"),
            (|p| p.d0 = -0.1, "D0"),
            (|p| p.sticky_d_hat_max = 2.6, "sticky_D_hat_max"),
            (|p| p.sticky_d_hat_max = f64::NAN, "sticky_D_hat_max"),
            (|p| p.sticky_d_hat_max = f64::NEG_INFINITY, "sticky_D_hat_max"),
            (|p| p.non_sticky_d_hat_min = f64::INFINITY, "sticky_D_hat_max"),
            (|p| p.dedup_ttl_ms = 0, "dedup_ttl_ms"),
            (|p| p.dedup_ttl_ms = u64::MAX, "dedup_ttl_ms"),
            (|p| (p.tol_d, p.base) = (-1.0, -1.0), "tol_D"),
        ];
        for (breaks, field) in table {
            let mut policy = Policy::default_1_0_0();
            breaks(&mut policy);
            assert_eq!(policy.validate().unwrap_err().field, field);
        }
        assert_eq!(Policy::check_flag("disable_wal", false), Ok(()));
        assert_eq!(Policy::check_flag("enable_ensemble", true), Ok(()));
        assert_eq!(Policy::check_flag("disable_wal", true).unwrap_err().field, "flags");
        assert_eq!(
            Policy::check_flag("skip_signature", true).unwrap_err().to_string(),
            "policy validation error [flags]: skip_signature must not be true"
        );
    }

    #[test]
    fn a_policy_survives_its_bytes_and_nothing_else_does() {
        let mut policy = Policy::default_1_0_0();
        policy.version = "2024-1".into();
        policy.tol_d = 0.2;
        let mut bytes = Vec::new();
        policy.encode(&mut bytes);
        assert_eq!(Policy::decode(&bytes), Ok(policy.clone()));
        for cut in 0..bytes.len() {
            assert!(Policy::decode(&bytes[..cut]).is_err());
        }
        bytes.push(0);
        assert_eq!(Policy::decode(&bytes), Err(DecodeError::Trailing));
        let mut broken = Vec::new();
        policy.base = 7.0;
        policy.encode(&mut broken);
        assert_eq!(Policy::decode(&broken), Err(DecodeError::OutOfBounds("base")));
    }

    #[test]
    fn everything_a_verdict_depends_on_changes_the_parameters_hash() {
        let policy = Policy::default_1_0_0();
        let mut other = policy.clone();
        other.sanity = Sanity::NONE;
        assert_eq!(other.hash(), policy.hash());
        assert_ne!(other.params_hash(), policy.params_hash());
        let mut other = policy.clone();
        other.forms = Forms::CANONICAL;
        assert_ne!(other.params_hash(), policy.params_hash());
        let mut other = policy.clone();
        other.dedup_ttl_ms += 1;
        assert_ne!(other.params_hash(), policy.params_hash());
        let mut other = policy.clone();
        other.gamma = 0.1;
        assert_ne!(other.hash(), policy.hash());
    }
}
