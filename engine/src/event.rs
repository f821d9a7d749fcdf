//! The vocabulary of the log and its bytes.
//!
//! A tag, once released, keeps its number and its meaning for ever; a decoder consumes every byte or
//! refuses. All integers are little-endian. The whole format is drawn in `docs/FORMAT.md` and guarded by a
//! pinned hash over thousands of encodings (`engine/tests/format.rs`) and golden vectors (`tests/golden/`).
//!
//! ```text
//! record  0 blank       tag u8, leader u64
//!         1 events      tag u8, leader u64, count u16, count x (length u32, event)
//!         2 membership  tag u8, leader u64, bytes to the end
//! event   1 Received    tag u8, at_ms u64, salt 16, tenant (u8), body (u32)
//!         2 TenantSet   tag u8, at_ms u64, id (u8), display (u16), active u8, rate_per_s u32, burst u32,
//!                       daily_quota u64, region (u16)
//!         3 KeySet      tag u8, at_ms u64, tenant (u8), key_id (u8), not_before_ms u64, not_after_ms u64,
//!                       kind u8: 1 sealed HMAC secret (u16), 2 Ed25519 32 bytes, 3 unsigned
//!         4 PolicySet   tag u8, at_ms u64, policy (u16)
//!         5 Attested    tag u8, upto u64, outcomes 32, ledger 32, signatures (u32)
//!         6 Checkpoint  tag u8, signed note (u32)
//!         7 Anchored    tag u8, at_ms u64, kind u8, target (u8), signed note (u32), evidence (u32)
//!         8 Witnessed   tag u8, at_ms u64, old size u64, signed note of another log (u32)
//!         9 LogKeySet   tag u8, at_ms u64, both until u64, keys before (u16), keys (u16), sealed seed (u16)
//!        10 Imported    tag u8, origin (u8), position, count u32, count x item (see [`Imported`])
//!        12 Declared    tag u8, at_ms u64, kind u8, region (u8), position, why (u16), by kind: 1 count u32, 2 signed note (u32),
//!                       3 tenant (u8)
//!        11 Reconciled  tag u8, at_ms u64, case 8, by a person u8, reason (u8), step u8: 2 approved, 3 refused, 4 effected,
//!                       1 proposed: remedy u8, score u16, subject (u16)
//! ```
//! `(u8)`, `(u16)`, `(u32)`: a length of that width and that many bytes.

mod anchored;
mod declared;
mod imported;
mod logkey;
mod reconciled;
mod record;
mod withheld;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use sha2::{Digest as _, Sha256};

use crate::codec::{Reader, put8, put16, put32};
use crate::ids::{KeyId, TenantId};
use crate::limits::{
    ATTESTED_MAX, BODY_MAX, DISPLAY_MAX, EVENT_MAX, NOTE_MAX, POLICY_BYTES_MAX, REGION_MAX, SEALED_KEY_MAX,
    TIME_MAX_MS,
};
use crate::log::{Digest, Lsn};
use crate::summary::Policy;

pub use crate::codec::DecodeError;
pub use anchored::{AnchorKind, Anchored, EVIDENCE_MAX, TARGET_MAX, Witnessed};
pub use declared::{Declaration, Declared, WHY_MAX};
pub use imported::{IMPORT_BYTES_MAX, ITEMS_MAX, Imported, Item, Position, positioned, ship, ship_but};
pub use logkey::{LOG_KEYS_TEXT_MAX, LogKeySet};
pub use reconciled::{CaseId, REASON_MAX, Reconciled, Remedy, SCORE_MAX, SUBJECT_MAX, Step};
pub use record::{Payload, Record, attestations, checkpoint_notes, encode_events, membership};
pub use withheld::{Became, Name, Withheld};

/// Something that happened. The log holds these and nothing else.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A submission reached the door. Nothing has been parsed or believed yet.
    Received(Envelope),
    /// A tenant was added or changed.
    TenantSet(Tenant),
    /// A signing key was added or changed.
    KeySet(KeySpec),
    /// A policy takes effect.
    PolicySet(PolicySet),
    /// The leader says what all nodes must have computed.
    Attested(Attested),
    /// A signed tree head was published: the signed note.
    Checkpoint(Vec<u8>),
    /// Somebody else attested one of our checkpoints.
    Anchored(Anchored),
    /// We cosign a checkpoint of another log.
    Witnessed(Witnessed),
    /// Another key signs what the log publishes.
    LogKeySet(LogKeySet),
    /// A range of another region's log.
    Imported(Imported),
    /// An operator says something of a region's log.
    Declared(Declared),
    /// What is proposed, decided or done where regions differ.
    Reconciled(Reconciled),
}

/// A submission as it stood at the door.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Who says they sent it.
    pub tenant: TenantId,
    /// When it arrived by the door's clock: milliseconds since the Unix epoch, never decreasing in one log.
    pub received_at_ms: u64,
    /// Drawn at the door; opens the commitment SHA-256(salt || body).
    pub salt: [u8; 16],
    /// The body, untouched, at most [`BODY_MAX`] bytes.
    pub body: Vec<u8>,
}

impl Envelope {
    /// SHA-256(salt || body): what a leaf says of a body, and what its tenant can open.
    #[must_use]
    pub fn commitment(&self) -> Digest {
        Digest(Sha256::new().chain_update(self.salt).chain_update(&self.body).finalize().into())
    }
}

impl fmt::Debug for Envelope {
    /// Shows neither salt nor body: both are secrets of the tenant.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("tenant", &self.tenant)
            .field("received_at_ms", &self.received_at_ms)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A tenant as an operator set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// When it was set by the door's clock, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Its name.
    pub id: TenantId,
    /// For people, at most [`DISPLAY_MAX`] bytes.
    pub display: String,
    /// Whether the door admits its submissions.
    pub active: bool,
    /// Submissions a second it may send in the long run.
    pub rate_per_s: u32,
    /// Submissions it may send at once.
    pub burst: u32,
    /// Submissions a day; 0 is unlimited.
    pub daily_quota: u64,
    /// Its home region, at most [`REGION_MAX`] bytes.
    pub region: String,
}

/// A tenant's signing key and when it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// When it was set by the door's clock, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Whose key.
    pub tenant: TenantId,
    /// Its name.
    pub key_id: KeyId,
    /// What it checks with.
    pub kind: KeyKind,
    /// Log time from which it counts, milliseconds, inclusive.
    pub not_before_ms: u64,
    /// Log time until which it counts, milliseconds, inclusive; `u64::MAX` is open.
    pub not_after_ms: u64,
}

/// How a key checks a signature.
#[derive(Clone, PartialEq, Eq)]
pub enum KeyKind {
    /// An HMAC-SHA256 secret, sealed under the key-encryption key: nonce 24 || ciphertext.
    HmacSealed(Vec<u8>),
    /// An Ed25519 public key.
    Ed25519([u8; 32]),
    /// Submissions need no signature; set only under the development flag.
    Unsigned,
}

impl fmt::Debug for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyKind::HmacSealed(_) => "HmacSealed(..)",
            KeyKind::Ed25519(_) => "Ed25519(..)",
            KeyKind::Unsigned => "Unsigned",
        })
    }
}

/// A policy, and when it takes effect: at its place in the log, for all tenants.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicySet {
    /// When it was set by the door's clock, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The policy.
    pub policy: Policy,
}

/// What the leader computed up to a record. Every replica, region and auditor compares with its own.
#[derive(Clone, PartialEq, Eq)]
pub struct Attested {
    /// The last record it covers.
    pub upto: Lsn,
    /// One byte for each `Received` after the record that the previous `Attested` covered: 0 for bad,
    /// unsigned or unreadable, else the form that matched and, in the upper three bits, the key's place
    /// ([`crate::summary::Signed::byte`]).
    pub signatures: Vec<u8>,
    /// Chain over all outcomes up to `upto`.
    pub outcomes: Digest,
    /// Digest over all projections as they stood after `upto`.
    pub ledger: Digest,
}

impl fmt::Debug for Attested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attested")
            .field("upto", &self.upto)
            .field("signatures", &self.signatures.len())
            .field("outcomes", &self.outcomes)
            .field("ledger", &self.ledger)
            .finish()
    }
}

mod tag {
    pub const RECEIVED: u8 = 1;
    pub const TENANT_SET: u8 = 2;
    pub const KEY_SET: u8 = 3;
    pub const POLICY_SET: u8 = 4;
    pub const ATTESTED: u8 = 5;
    pub const CHECKPOINT: u8 = 6;
    pub const ANCHORED: u8 = 7;
    pub const WITNESSED: u8 = 8;
    pub const LOG_KEY_SET: u8 = 9;
    pub const IMPORTED: u8 = 10;
    pub const DECLARED: u8 = 12;
    pub const RECONCILED: u8 = 11;

    pub const KEY_HMAC_SEALED: u8 = 1;
    pub const KEY_ED25519: u8 = 2;
    pub const KEY_UNSIGNED: u8 = 3;
}

impl Event {
    /// The log time it carries, milliseconds since the Unix epoch; what is about the log itself carries none.
    #[must_use]
    pub fn at_ms(&self) -> Option<u64> {
        match self {
            Event::Received(envelope) => Some(envelope.received_at_ms),
            Event::TenantSet(tenant) => Some(tenant.at_ms),
            Event::KeySet(key) => Some(key.at_ms),
            Event::PolicySet(set) => Some(set.at_ms),
            Event::LogKeySet(set) => Some(set.at_ms),
            Event::Attested(_)
            | Event::Checkpoint(_)
            | Event::Anchored(_)
            | Event::Witnessed(_)
            | Event::Imported(_)
            | Event::Declared(_)
            | Event::Reconciled(_) => None,
        }
    }

    /// Appends the event's bytes.
    ///
    /// # Panics
    /// If a field is beyond its bound: whoever made the event checked it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Event::Received(envelope) => envelope.encode(out),
            Event::TenantSet(tenant) => tenant.encode(out),
            Event::KeySet(key) => key.encode(out),
            Event::PolicySet(policy) => policy.encode(out),
            Event::Attested(attested) => attested.encode(out),
            Event::Checkpoint(note) => {
                assert!(note.len() <= NOTE_MAX, "a note is within its bound");
                out.push(tag::CHECKPOINT);
                put32(out, note);
            }
            Event::Anchored(anchored) => anchored.encode(out),
            Event::Witnessed(witnessed) => witnessed.encode(out),
            Event::LogKeySet(set) => set.encode(out),
            Event::Imported(imported) => imported.encode(out),
            Event::Declared(declared) => declared.encode(out),
            Event::Reconciled(step) => step.encode(out),
        }
    }

    /// Reads an event from exactly these bytes.
    ///
    /// # Errors
    /// [`DecodeError`] if they are anything but one whole event within its bounds.
    pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
        if bytes.len() > EVENT_MAX {
            return Err(DecodeError::OutOfBounds("event"));
        }
        let mut reader = Reader::new(bytes);
        let event = match reader.u8("event tag")? {
            tag::RECEIVED => Event::Received(Envelope::read(&mut reader)?),
            tag::TENANT_SET => Event::TenantSet(Tenant::read(&mut reader)?),
            tag::KEY_SET => Event::KeySet(KeySpec::read(&mut reader)?),
            tag::POLICY_SET => Event::PolicySet(PolicySet::read(&mut reader)?),
            tag::ATTESTED => Event::Attested(Attested::read(&mut reader)?),
            tag::CHECKPOINT => Event::Checkpoint(reader.bytes32(NOTE_MAX, "signed note")?.to_vec()),
            tag::ANCHORED => Event::Anchored(Anchored::read(&mut reader)?),
            tag::WITNESSED => Event::Witnessed(Witnessed::read(&mut reader)?),
            tag::LOG_KEY_SET => Event::LogKeySet(LogKeySet::read(&mut reader)?),
            tag::IMPORTED => Event::Imported(Imported::read(&mut reader)?),
            tag::DECLARED => Event::Declared(Declared::read(&mut reader)?),
            tag::RECONCILED => Event::Reconciled(Reconciled::read(&mut reader)?),
            unknown => return Err(DecodeError::UnknownTag(unknown)),
        };
        reader.end()?;
        Ok(event)
    }
}

impl Envelope {
    fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.body.len() <= BODY_MAX, "a body is within its bound");
        out.reserve(64 + self.body.len());
        out.push(tag::RECEIVED);
        out.extend_from_slice(&self.received_at_ms.to_le_bytes());
        out.extend_from_slice(&self.salt);
        put8(out, self.tenant.as_bytes());
        put32(out, &self.body);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Envelope, DecodeError> {
        let received_at_ms = time(reader)?;
        let salt = reader.array("salt")?;
        let tenant = TenantId::read(reader)?;
        let body = reader.bytes32(BODY_MAX, "body")?.to_vec();
        Ok(Envelope { tenant, received_at_ms, salt, body })
    }
}

impl Tenant {
    fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.display.len() <= DISPLAY_MAX, "a display name is within its bound");
        assert!(self.region.len() <= REGION_MAX, "a region name is within its bound");
        out.push(tag::TENANT_SET);
        out.extend_from_slice(&self.at_ms.to_le_bytes());
        self.encode_fields(out);
    }

    /// Everything but tag and time: what a snapshot keeps, too.
    pub(crate) fn encode_fields(&self, out: &mut Vec<u8>) {
        put8(out, self.id.as_bytes());
        put16(out, self.display.as_bytes());
        out.push(u8::from(self.active));
        out.extend_from_slice(&self.rate_per_s.to_le_bytes());
        out.extend_from_slice(&self.burst.to_le_bytes());
        out.extend_from_slice(&self.daily_quota.to_le_bytes());
        put16(out, self.region.as_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Tenant, DecodeError> {
        Ok(Tenant {
            at_ms: time(reader)?,
            id: TenantId::read(reader)?,
            display: reader.text16(DISPLAY_MAX, "display name")?,
            active: reader.bool("active")?,
            rate_per_s: reader.u32("rate")?,
            burst: reader.u32("burst")?,
            daily_quota: reader.u64("daily quota")?,
            region: reader.text16(REGION_MAX, "region")?,
        })
    }
}

impl KeySpec {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(tag::KEY_SET);
        out.extend_from_slice(&self.at_ms.to_le_bytes());
        put8(out, self.tenant.as_bytes());
        put8(out, self.key_id.as_bytes());
        out.extend_from_slice(&self.not_before_ms.to_le_bytes());
        out.extend_from_slice(&self.not_after_ms.to_le_bytes());
        match &self.kind {
            KeyKind::HmacSealed(sealed) => {
                assert!(sealed.len() <= SEALED_KEY_MAX, "a sealed secret is within its bound");
                out.push(tag::KEY_HMAC_SEALED);
                put16(out, sealed);
            }
            KeyKind::Ed25519(public) => {
                out.push(tag::KEY_ED25519);
                out.extend_from_slice(public);
            }
            KeyKind::Unsigned => out.push(tag::KEY_UNSIGNED),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<KeySpec, DecodeError> {
        Ok(KeySpec {
            at_ms: time(reader)?,
            tenant: TenantId::read(reader)?,
            key_id: KeyId::read(reader)?,
            not_before_ms: reader.u64("not before")?,
            not_after_ms: reader.u64("not after")?,
            kind: match reader.u8("key kind")? {
                tag::KEY_HMAC_SEALED => {
                    KeyKind::HmacSealed(reader.bytes16(SEALED_KEY_MAX, "sealed secret")?.to_vec())
                }
                tag::KEY_ED25519 => KeyKind::Ed25519(reader.array("Ed25519 key")?),
                tag::KEY_UNSIGNED => KeyKind::Unsigned,
                unknown => return Err(DecodeError::UnknownTag(unknown)),
            },
        })
    }
}

impl PolicySet {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(tag::POLICY_SET);
        out.extend_from_slice(&self.at_ms.to_le_bytes());
        let mut policy = Vec::new();
        self.policy.encode(&mut policy);
        assert!(policy.len() <= POLICY_BYTES_MAX, "a policy is within its bound");
        put16(out, &policy);
    }

    fn read(reader: &mut Reader<'_>) -> Result<PolicySet, DecodeError> {
        let at_ms = time(reader)?;
        let policy = Policy::decode(reader.bytes16(POLICY_BYTES_MAX, "policy")?)?;
        Ok(PolicySet { at_ms, policy })
    }
}

/// A time within the bound that lets it stand in JSON as an exact integer.
fn time(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    match reader.u64("time")? {
        at_ms if at_ms <= TIME_MAX_MS => Ok(at_ms),
        _ => Err(DecodeError::OutOfBounds("time")),
    }
}

impl Attested {
    fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.signatures.len() <= ATTESTED_MAX, "attested signatures are within their bound");
        out.push(tag::ATTESTED);
        out.extend_from_slice(&self.upto.0.to_le_bytes());
        out.extend_from_slice(&self.outcomes.0);
        out.extend_from_slice(&self.ledger.0);
        put32(out, &self.signatures);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Attested, DecodeError> {
        Ok(Attested {
            upto: Lsn(reader.u64("attested upto")?),
            outcomes: Digest(reader.array("outcomes digest")?),
            ledger: Digest(reader.array("ledger digest")?),
            signatures: reader.bytes32(ATTESTED_MAX, "signatures")?.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests;
