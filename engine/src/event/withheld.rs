//! A submission of another region's log that stays there: what comes in its place.
//!
//! ```text
//! withheld  tag u8 = 4, signature u8, at_ms u64, tenant (u8), bytes u32, became u8, then by that
//!           1 first      key 32, content 16, verdict u8 (1 accepted, 2 escalated), leaf 32
//!           2 duplicate  key 32, content 16
//!           3 conflict   key 32, content 16, leaf 32
//!           4 refused    reason u8 (1 to 4), leaf 32
//! ```
//! It is what a ledger needs to come to the same tree, the same index, the same counts and the same order, and nothing from
//! which a body could be made: no id, no number of a summary, no salt. Leaves hold a commitment under the record's salt, so a
//! leaf's hash tells nothing to somebody who guesses the body. Key and content are hashes without a salt, because another region
//! must find the same in its own log: whoever guesses an id can learn that it was sent, and whoever guesses a whole summary, that
//! it was this one.

use alloc::vec::Vec;

use super::{Envelope, time};
use crate::codec::{DecodeError, Reader, put8};
use crate::ids::TenantId;
use crate::leaf::{Leaf, What};
use crate::ledger::{First, RefusedReason};
use crate::limits::BODY_MAX;
use crate::log::Digest;
use crate::summary::{fingerprint, parse, verdict};
use crate::tree::leaf_hash;

/// A submission that is withheld.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// What the log's `Attested` says of its signature.
    pub signature: u8,
    /// When it arrived, [`Envelope::received_at_ms`].
    pub at_ms: u64,
    /// Whose it is.
    pub tenant: TenantId,
    /// Bytes of its body, at most [`BODY_MAX`].
    pub bytes: u32,
    /// What became of it, as its region says.
    pub became: Became,
}

/// What a sound summary is found by and compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// The deduplication key, see [`First::key`].
    pub key: [u8; 32],
    /// Digest of its fingerprint: the same for the same content.
    pub content: [u8; 16],
}

/// What became of a withheld submission. For sound ones the receiver works it out again, from its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// The first of its name.
    First {
        /// Its name.
        name: Name,
        /// Whether it was accepted.
        accepted: bool,
        /// Whether it was escalated.
        escalated: bool,
        /// Hash of its leaf.
        leaf: Digest,
    },
    /// The same again. It has no leaf.
    Duplicate {
        /// Its name.
        name: Name,
    },
    /// Another content under a taken name.
    Conflict {
        /// Its name.
        name: Name,
        /// Hash of its leaf.
        leaf: Digest,
    },
    /// It changed nothing but the audit log.
    Refused {
        /// Why: one of the four that are said of submissions.
        reason: RefusedReason,
        /// Hash of its leaf.
        leaf: Digest,
    },
}

impl Became {
    /// By what it is found and compared, if it was a summary.
    #[must_use]
    pub fn name(&self) -> Option<&Name> {
        match self {
            Became::First { name, .. } | Became::Duplicate { name } | Became::Conflict { name, .. } => {
                Some(name)
            }
            Became::Refused { .. } => None,
        }
    }

    /// Hash of its leaf, if it has one.
    #[must_use]
    pub fn leaf(&self) -> Option<Digest> {
        match self {
            Became::First { leaf, .. } | Became::Conflict { leaf, .. } | Became::Refused { leaf, .. } => {
                Some(*leaf)
            }
            Became::Duplicate { .. } => None,
        }
    }
}

impl Withheld {
    /// What stands for this submission, whose leaf is `line` if it has one.
    ///
    /// # Errors
    /// Why that is not the leaf of this submission.
    pub fn of(envelope: &Envelope, signature: u8, line: Option<&[u8]>) -> Result<Withheld, &'static str> {
        let name = || {
            let pcs = parse(&envelope.body).map_err(|_| "it is no summary, and its leaf says otherwise")?;
            let id = verdict::structure(&pcs).map_err(|_| "it is not sound, and its leaf says otherwise")?;
            let key = First::key_of(&envelope.tenant, &id.0);
            Ok::<_, &'static str>(Name { key, content: fingerprint(&pcs).digest })
        };
        let became = match line {
            None => Became::Duplicate { name: name()? },
            Some(line) => {
                let leaf = leaf_hash(line);
                let parsed = Leaf::parse(line).map_err(|_| "its leaf cannot be read")?;
                let (became, commitment) = match parsed.what {
                    What::Pcs(pcs) => {
                        let (accepted, escalated) = (pcs.accepted, pcs.escalated);
                        (Became::First { name: name()?, accepted, escalated, leaf }, pcs.commitment)
                    }
                    What::Conflict(conflict) => {
                        (Became::Conflict { name: name()?, leaf }, conflict.commitment)
                    }
                    What::Refused { reason, commitment, .. } => {
                        (Became::Refused { reason, leaf }, commitment)
                    }
                    _ => return Err("its leaf is of a setting"),
                };
                if commitment != envelope.commitment() {
                    return Err("its leaf is of another submission");
                }
                became
            }
        };
        let Envelope { tenant, received_at_ms: at_ms, body, .. } = envelope;
        Ok(Withheld { signature, at_ms: *at_ms, tenant: *tenant, bytes: body.len() as u32, became })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.bytes as usize <= BODY_MAX, "a body is within its bound");
        out.push(self.signature);
        out.extend_from_slice(&self.at_ms.to_le_bytes());
        put8(out, self.tenant.as_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.push(match self.became {
            Became::First { .. } => 1,
            Became::Duplicate { .. } => 2,
            Became::Conflict { .. } => 3,
            Became::Refused { .. } => 4,
        });
        if let Some(Name { key, content }) = self.became.name() {
            out.extend_from_slice(key);
            out.extend_from_slice(content);
        }
        match self.became {
            Became::First { accepted, escalated, .. } => {
                out.push(u8::from(accepted) | u8::from(escalated) << 1);
            }
            Became::Refused { reason, .. } => out.push(reason as u8),
            Became::Duplicate { .. } | Became::Conflict { .. } => {}
        }
        self.became.leaf().iter().for_each(|leaf| out.extend_from_slice(&leaf.0));
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Withheld, DecodeError> {
        let signature = reader.u8("signature")?;
        let (at_ms, tenant) = (time(reader)?, TenantId::read(reader)?);
        let bytes = reader.u32("bytes of a body")?;
        if bytes as usize > BODY_MAX {
            return Err(DecodeError::OutOfBounds("bytes of a body"));
        }
        let became = reader.u8("what became of it")?;
        let name = |reader: &mut Reader<'_>| {
            Ok::<_, DecodeError>(Name { key: reader.array("key")?, content: reader.array("content")? })
        };
        let leaf = |reader: &mut Reader<'_>| reader.array("leaf").map(Digest);
        let became = match became {
            1 => {
                let name = name(reader)?;
                let verdict = reader.u8("verdict")?;
                if verdict > 3 {
                    return Err(DecodeError::OutOfBounds("verdict"));
                }
                let (accepted, escalated) = (verdict & 1 != 0, verdict & 2 != 0);
                Became::First { name, accepted, escalated, leaf: leaf(reader)? }
            }
            2 => Became::Duplicate { name: name(reader)? },
            3 => Became::Conflict { name: name(reader)?, leaf: leaf(reader)? },
            4 => {
                let reason = reader.u8("reason")?;
                let known = RefusedReason::OF_SUBMISSIONS.into_iter().find(|known| *known as u8 == reason);
                let reason = known.ok_or(DecodeError::OutOfBounds("reason"))?;
                Became::Refused { reason, leaf: leaf(reader)? }
            }
            unknown => return Err(DecodeError::UnknownTag(unknown)),
        };
        Ok(Withheld { signature, at_ms, tenant, bytes, became })
    }
}
