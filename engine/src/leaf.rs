//! The audit leaf: one line of canonical JSON (RFC 8785) for everything an auditor must be able to count.
//!
//! The bytes are at once a line of the WORM file, a leaf of the RFC 6962 tree and an entry of a C2SP bundle.
//! They hold integers, hex, names from fixed sets and validated ids; no text of a client stands in them, so a
//! body can be erased while every proof still holds. Members are in the order of RFC 8785, which for ASCII
//! names is the order of their bytes. A parsed line is accepted only if building it again gives the same
//! bytes: one leaf has one line.

mod line;
pub mod overview;

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use line::{Fields, Line};

use crate::ids::{KeyId, TenantId};
use crate::ledger::RefusedReason;
use crate::limits::LEAF_MAX;
use crate::log::{Digest, Lsn};
use crate::summary::decimal::Decimal;
use crate::summary::fingerprint::{FIELD_NAMES, UNNAMED, field_names};
use crate::summary::{PcsId, ReasonCode, Regime, SignatureForm};

/// Version of the leaf's form, its member `v`.
pub const VERSION: u64 = 1;

/// One leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf<'a> {
    /// The record it comes from.
    pub lsn: Lsn,
    /// The event's place in the record.
    pub nth: u32,
    /// Log time, milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The log's region.
    pub region: Cow<'a, str>,
    /// What happened.
    pub what: What<'a>,
}

/// What a leaf is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// `pcs`: the first submission of its name.
    Pcs(Pcs<'a>),
    /// `conflict`: another content under a taken name.
    Conflict(Conflict<'a>),
    /// `refused`: a submission, or a setting, that changed nothing.
    Refused {
        /// Whose.
        tenant: Option<TenantId>,
        /// Why.
        reason: RefusedReason,
        /// For a submission SHA-256(salt || body), for a setting SHA-256 of the event's bytes.
        commitment: Digest,
    },
    /// `tenant`: a tenant was set.
    Tenant {
        /// Its name.
        tenant: TenantId,
        /// Whether the door admits it.
        active: bool,
        /// SHA-256 of the event's bytes, which hold the rest.
        commitment: Digest,
    },
    /// `key`: a key was set.
    Key {
        /// Whose.
        tenant: TenantId,
        /// Its name.
        key_id: KeyId,
        /// `hmac`, `ed25519` or `unsigned`.
        kind: KeyName,
        /// From when it counts, milliseconds.
        not_before_ms: u64,
        /// Until when; `u64::MAX` is open.
        not_after_ms: u64,
        /// SHA-256 of the event's bytes, which hold the rest.
        commitment: Digest,
    },
    /// `policy`: a policy took effect.
    Policy {
        /// Its version.
        policy: Cow<'a, str>,
        /// Hash of version and numbers.
        hash: Digest,
        /// Hash of everything a verdict depends on.
        params_hash: Digest,
    },
    /// `log-key`: from this entry on other keys sign what the log publishes.
    LogKey {
        /// Which set of keys it is; the one a log begins with is 1.
        number: u64,
        /// The keys that signed before, between spaces.
        follows: Cow<'a, str>,
        /// The keys from here on, between spaces.
        keys: Cow<'a, str>,
        /// Until which log time those before sign, too, milliseconds.
        both_until_ms: u64,
        /// SHA-256 of the event's bytes, which hold the rest.
        commitment: Digest,
    },
}

/// The first submission of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pcs<'a> {
    /// Whose.
    pub tenant: TenantId,
    /// Its name, derived from the body.
    pub pcs_id: PcsId,
    /// SHA-256(salt || body).
    pub commitment: Digest,
    /// Whether the numbers agree.
    pub accepted: bool,
    /// Whether somebody should look.
    pub escalated: bool,
    /// Why.
    pub code: ReasonCode,
    /// Claimed slope.
    pub d_hat: Decimal,
    /// Recomputed slope, if it could be.
    pub d_hat_recomputed: Option<Decimal>,
    /// Claimed coherence.
    pub coh_star: Decimal,
    /// Claimed compressibility.
    pub r: Decimal,
    /// Claimed budget.
    pub budget: Decimal,
    /// Recomputed budget, if it was.
    pub budget_recomputed: Option<Decimal>,
    /// The regime that the claimed numbers mean.
    pub regime: Regime,
    /// Version of the policy that judged it.
    pub policy: Cow<'a, str>,
    /// Hash of the policy's version and numbers.
    pub policy_hash: Digest,
    /// Hash of everything the verdict depends on.
    pub params_hash: Digest,
    /// Which form of signature matched.
    pub form: SignatureForm,
    /// Which key.
    pub key_id: KeyId,
}

/// Another content under a taken name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict<'a> {
    /// Whose.
    pub tenant: TenantId,
    /// The name.
    pub pcs_id: PcsId,
    /// SHA-256(salt || body) of the later one.
    pub commitment: Digest,
    /// The region whose log holds the first one, if it is another.
    pub first_region: Option<Cow<'a, str>>,
    /// Leaf of the first one.
    pub first_seq: u64,
    /// Which fields differ, see [`crate::ledger::Outcome::Conflict`].
    pub fields: u16,
    /// Which form of signature matched.
    pub form: SignatureForm,
    /// Which key.
    pub key_id: KeyId,
}

/// Kind of a key, as leaves name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyName {
    /// An HMAC-SHA256 secret.
    Hmac,
    /// An Ed25519 public key.
    Ed25519,
    /// No signature needed.
    Unsigned,
}

impl KeyName {
    const ALL: [(KeyName, &'static str); 3] =
        [(KeyName::Hmac, "hmac"), (KeyName::Ed25519, "ed25519"), (KeyName::Unsigned, "unsigned")];

    /// Its name in leaves.
    #[must_use]
    pub fn name(self) -> &'static str {
        KeyName::ALL.iter().find(|(kind, _)| *kind == self).expect("all kinds are listed").1
    }
}

/// The line is not a leaf in its one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafError {
    /// What is missing, unknown or malformed.
    pub member: &'static str,
}

impl fmt::Display for LeafError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an audit leaf in its one form: {}", self.member)
    }
}

impl core::error::Error for LeafError {}

impl<'a> Leaf<'a> {
    /// The line, without a newline.
    ///
    /// # Panics
    /// If it is longer than [`LEAF_MAX`]: everything in it is bounded far below.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut line = Line::with_capacity(704);
        match &self.what {
            What::Pcs(pcs) => self.encode_pcs(pcs, &mut line),
            What::Conflict(conflict) => self.encode_conflict(conflict, &mut line),
            What::Refused { tenant, reason, commitment } => {
                line.hex("commitment", &commitment.0);
                self.place(&mut line);
                line.text("reason", reason.name());
                line.text("region", &self.region);
                if let Some(tenant) = tenant {
                    line.text("tenant", tenant.as_str());
                }
            }
            What::Tenant { tenant, active, commitment } => {
                line.number("active", u64::from(*active));
                line.hex("commitment", &commitment.0);
                self.place(&mut line);
                line.text("region", &self.region);
                line.text("tenant", tenant.as_str());
            }
            What::Key { tenant, key_id, kind, not_before_ms, not_after_ms, commitment } => {
                line.hex("commitment", &commitment.0);
                line.text("key_id", key_id.as_str());
                line.text("kind", kind.name());
                line.number("lsn", self.lsn.0);
                // Open ends are u64::MAX, which is no exact integer in JSON: these two stand as text.
                line.display("not_after", not_after_ms);
                line.display("not_before", not_before_ms);
                line.number("nth", self.nth.into());
                line.text("region", &self.region);
                line.text("tenant", tenant.as_str());
            }
            What::Policy { policy, hash, params_hash } => {
                self.place(&mut line);
                line.hex("params_hash", &params_hash.0);
                line.text("policy", policy);
                line.hex("policy_hash", &hash.0);
                line.text("region", &self.region);
            }
            What::LogKey { number, follows, keys, both_until_ms, commitment } => {
                line.number("both_until", *both_until_ms);
                line.hex("commitment", &commitment.0);
                line.text("follows", follows);
                line.text("keys", keys);
                self.place(&mut line);
                line.number("number", *number);
                line.text("region", &self.region);
            }
        }
        line.number("time", self.time_ms);
        line.text("type", self.what.name());
        line.number("v", VERSION);
        let bytes = line.close();
        assert!(bytes.len() <= LEAF_MAX, "L1: a leaf is within its bound");
        bytes
    }

    fn place(&self, line: &mut Line) {
        line.number("lsn", self.lsn.0);
        line.number("nth", self.nth.into());
    }

    fn encode_pcs(&self, pcs: &Pcs<'_>, line: &mut Line) {
        line.decimal("D_hat", pcs.d_hat);
        if let Some(d_hat) = pcs.d_hat_recomputed {
            line.decimal("D_hat_recomputed", d_hat);
        }
        line.decimal("budget", pcs.budget);
        if let Some(budget) = pcs.budget_recomputed {
            line.decimal("budget_recomputed", budget);
        }
        line.text("code", pcs.code.name());
        line.decimal("coh_star", pcs.coh_star);
        line.hex("commitment", &pcs.commitment.0);
        line.text("form", pcs.form.name());
        line.text("key_id", pcs.key_id.as_str());
        self.place(line);
        line.text("outcome", outcome_name(pcs.accepted, pcs.escalated));
        line.hex("params_hash", &pcs.params_hash.0);
        line.hex("pcs_id", &pcs.pcs_id.0);
        line.text("policy", &pcs.policy);
        line.hex("policy_hash", &pcs.policy_hash.0);
        line.decimal("r", pcs.r);
        line.text("regime", pcs.regime.name());
        line.text("region", &self.region);
        line.text("tenant", pcs.tenant.as_str());
    }

    fn encode_conflict(&self, conflict: &Conflict<'_>, line: &mut Line) {
        line.hex("commitment", &conflict.commitment.0);
        line.text("fields", &join_fields(conflict.fields));
        if let Some(region) = &conflict.first_region {
            line.text("first_region", region);
        }
        line.number("first_seq", conflict.first_seq);
        line.text("form", conflict.form.name());
        line.text("key_id", conflict.key_id.as_str());
        self.place(line);
        line.hex("pcs_id", &conflict.pcs_id.0);
        line.text("region", &self.region);
        line.text("tenant", conflict.tenant.as_str());
    }

    /// Reads a line.
    ///
    /// # Errors
    /// [`LeafError`] unless [`Leaf::encode`] gives exactly this line.
    pub fn parse(line: &'a [u8]) -> Result<Leaf<'a>, LeafError> {
        if line.len() > LEAF_MAX {
            return Err(LeafError { member: "length" });
        }
        let fields = Fields::parse(line).ok_or(LeafError { member: "syntax" })?;
        let leaf = Leaf {
            lsn: Lsn(fields.number("lsn")?),
            nth: u32::try_from(fields.number("nth")?).map_err(|_| LeafError { member: "nth" })?,
            time_ms: fields.number("time")?,
            region: fields.text("region")?,
            what: What::parse(&fields)?,
        };
        if leaf.encode() == line { Ok(leaf) } else { Err(LeafError { member: "form" }) }
    }
}

impl<'a> What<'a> {
    /// Its name in the member `type`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            What::Pcs(_) => "pcs",
            What::Conflict(_) => "conflict",
            What::Refused { .. } => "refused",
            What::Tenant { .. } => "tenant",
            What::Key { .. } => "key",
            What::Policy { .. } => "policy",
            What::LogKey { .. } => "log-key",
        }
    }

    fn parse(fields: &Fields<'a>) -> Result<What<'a>, LeafError> {
        Ok(match fields.text("type")?.as_ref() {
            "pcs" => What::Pcs(Pcs::parse(fields)?),
            "conflict" => What::Conflict(Conflict {
                tenant: fields.id("tenant")?,
                pcs_id: PcsId(fields.hex("pcs_id")?),
                commitment: Digest(fields.hex("commitment")?),
                first_region: if fields.has("first_region") {
                    Some(fields.text("first_region")?)
                } else {
                    None
                },
                first_seq: fields.number("first_seq")?,
                fields: fields.named("fields", field_mask)?,
                form: fields.named("form", form)?,
                key_id: fields.id("key_id")?,
            }),
            "refused" => What::Refused {
                tenant: if fields.has("tenant") { Some(fields.id("tenant")?) } else { None },
                reason: fields.named("reason", RefusedReason::from_name)?,
                commitment: Digest(fields.hex("commitment")?),
            },
            "tenant" => What::Tenant {
                tenant: fields.id("tenant")?,
                active: fields.number("active")? == 1,
                commitment: Digest(fields.hex("commitment")?),
            },
            "key" => What::Key {
                tenant: fields.id("tenant")?,
                key_id: fields.id("key_id")?,
                kind: fields.named("kind", |name| {
                    KeyName::ALL.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
                })?,
                not_before_ms: fields.named("not_before", |text| text.parse().ok())?,
                not_after_ms: fields.named("not_after", |text| text.parse().ok())?,
                commitment: Digest(fields.hex("commitment")?),
            },
            "policy" => What::Policy {
                policy: fields.text("policy")?,
                hash: Digest(fields.hex("policy_hash")?),
                params_hash: Digest(fields.hex("params_hash")?),
            },
            "log-key" => What::LogKey {
                number: fields.number("number")?,
                follows: fields.text("follows")?,
                keys: fields.text("keys")?,
                both_until_ms: fields.number("both_until")?,
                commitment: Digest(fields.hex("commitment")?),
            },
            _ => return Err(LeafError { member: "type" }),
        })
    }
}

impl<'a> Pcs<'a> {
    fn parse(fields: &Fields<'a>) -> Result<Pcs<'a>, LeafError> {
        let (accepted, escalated) = fields.named("outcome", outcome_flags)?;
        let optional = |name: &'static str| fields.has(name).then(|| fields.decimal(name)).transpose();
        Ok(Pcs {
            tenant: fields.id("tenant")?,
            pcs_id: PcsId(fields.hex("pcs_id")?),
            commitment: Digest(fields.hex("commitment")?),
            accepted,
            escalated,
            code: fields.named("code", reason)?,
            d_hat: fields.decimal("D_hat")?,
            d_hat_recomputed: optional("D_hat_recomputed")?,
            coh_star: fields.decimal("coh_star")?,
            r: fields.decimal("r")?,
            budget: fields.decimal("budget")?,
            budget_recomputed: optional("budget_recomputed")?,
            regime: fields.named("regime", regime)?,
            policy: fields.text("policy")?,
            policy_hash: Digest(fields.hex("policy_hash")?),
            params_hash: Digest(fields.hex("params_hash")?),
            form: fields.named("form", form)?,
            key_id: fields.id("key_id")?,
        })
    }
}

fn reason(name: &str) -> Option<ReasonCode> {
    ReasonCode::ALL.into_iter().find(|reason| reason.name() == name)
}

fn form(name: &str) -> Option<SignatureForm> {
    SignatureForm::ALL.into_iter().find(|form| form.name() == name)
}

fn regime(name: &str) -> Option<Regime> {
    [Regime::Sticky, Regime::Mixed, Regime::NonSticky].into_iter().find(|regime| regime.name() == name)
}

/// `accepted`, `escalated` or `rejected`: a verdict that does not accept always escalates.
#[must_use]
pub fn outcome_name(accepted: bool, escalated: bool) -> &'static str {
    match (accepted, escalated) {
        (true, false) => "accepted",
        (true, true) => "escalated",
        (false, _) => "rejected",
    }
}

fn outcome_flags(name: &str) -> Option<(bool, bool)> {
    [(true, false), (true, true), (false, true)].into_iter().find(|&(a, e)| outcome_name(a, e) == name)
}

/// The names of differing fields, in their order, between commas; `?` if only the whole fingerprint differs.
fn join_fields(mask: u16) -> String {
    if mask == UNNAMED { "?".into() } else { field_names(mask).collect::<Vec<_>>().join(",") }
}

fn field_mask(names: &str) -> Option<u16> {
    if names == "?" {
        return Some(UNNAMED);
    }
    names.split(',').try_fold(0, |mask, name| {
        let bit = FIELD_NAMES.iter().position(|field| *field == name)?;
        Some(mask | 1 << bit)
    })
}
