//! What became of an event, judged in order, and the chain over all outcomes.

use alloc::vec::Vec;

use super::table::First;
use crate::codec::put8;
use crate::log::{Digest, Lsn};

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A sound submission, the first of its name.
    First {
        /// Index of its leaf.
        seq: u64,
        /// Number of its row.
        row: u64,
    },
    /// The same again: the answer is the first one's.
    Duplicate {
        /// The first one.
        first: First,
    },
    /// Another content under a name that is taken: the answer is the first one's, and a leaf says so.
    Conflict {
        /// The first one.
        first: First,
        /// Index of the leaf.
        seq: u64,
        /// Which fields differ: the mask that [`crate::summary::Fingerprint::differs`] gives.
        fields: u16,
    },
    /// It changed nothing but the audit log.
    Refused {
        /// Index of the leaf.
        seq: u64,
        /// Why.
        reason: RefusedReason,
    },
    /// A tenant, key or policy took effect.
    Configured {
        /// Index of the leaf.
        seq: u64,
    },
    /// It is about the log itself and has no leaf.
    Noted,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// Why an event was refused. The numbers and names stand in the log's digests and in leaves: they
        /// are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum RefusedReason {
            $($(#[$doc])* $name = $code,)*
        }

        impl RefusedReason {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [RefusedReason] = &[$(RefusedReason::$name),*];

            /// Its name in leaves, metrics and reports.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(RefusedReason::$name => $text,)*
                }
            }
        }
    };
}

reasons! {
    /// The body is not JSON or has wrong types.
    Malformed = 1, "malformed";
    /// The tenant is not known or has no key that counts at this time.
    NoKey = 2, "no-key";
    /// No signature, or none that any key of the tenant verifies.
    BadSignature = 3, "bad-signature";
    /// Well signed, but a required member is missing or the id is not the derived one.
    Structure = 4, "structure";
    /// A key for a tenant that does not exist.
    UnknownTenant = 16, "unknown-tenant";
    /// The region has as many tenants as it may have.
    TooManyTenants = 17, "too-many-tenants";
    /// The tenant has as many keys as it may have, and none has run out.
    TooManyKeys = 18, "too-many-keys";
    /// The policy breaks a static check.
    InvalidPolicy = 19, "invalid-policy";
    /// The policy's version exists with other numbers.
    PolicyVersionTaken = 20, "policy-version-taken";
    /// The region has as many policies as it may have.
    TooManyPolicies = 21, "too-many-policies";
    /// The keys are none of a log, or do not follow those that sign now.
    LogKeyNotNext = 22, "log-key-not-next";
    /// The log's keys changed as often as they may.
    TooManyLogKeys = 23, "too-many-log-keys";
}

impl RefusedReason {
    /// Those that are said of submissions.
    pub const OF_SUBMISSIONS: [RefusedReason; 4] = [
        RefusedReason::Malformed,
        RefusedReason::NoKey,
        RefusedReason::BadSignature,
        RefusedReason::Structure,
    ];

    /// Reads a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<RefusedReason> {
        RefusedReason::ALL.iter().copied().find(|reason| reason.name() == name)
    }
}

impl Outcome {
    /// Index of the leaf it gives, if it gives one.
    #[must_use]
    pub fn seq(&self) -> Option<u64> {
        match self {
            Outcome::First { seq, .. }
            | Outcome::Conflict { seq, .. }
            | Outcome::Refused { seq, .. }
            | Outcome::Configured { seq } => Some(*seq),
            Outcome::Duplicate { .. } | Outcome::Noted => None,
        }
    }

    /// The first one it speaks of, if that came before.
    #[must_use]
    pub fn earlier(&self) -> Option<&First> {
        match self {
            Outcome::Duplicate { first } | Outcome::Conflict { first, .. } => Some(first),
            Outcome::First { .. } | Outcome::Refused { .. } | Outcome::Configured { .. } | Outcome::Noted => {
                None
            }
        }
    }

    /// The bytes the chain hashes: everything that was decided, in pinned tags. `region` is where the first one stands, if
    /// that is another region: its leaf there names it, in every region alike.
    fn encode(&self, region: Option<&str>, out: &mut Vec<u8>) {
        match (self, region) {
            (Outcome::Duplicate { first }, Some(region)) => {
                out.push(7);
                put8(out, region.as_bytes());
                out.extend_from_slice(&first.seq.to_le_bytes());
                return;
            }
            (Outcome::Conflict { first, seq, fields }, Some(region)) => {
                out.push(8);
                put8(out, region.as_bytes());
                out.extend_from_slice(&first.seq.to_le_bytes());
                out.extend_from_slice(&seq.to_le_bytes());
                out.extend_from_slice(&fields.to_le_bytes());
                return;
            }
            _ => {}
        }
        match self {
            Outcome::First { seq, row } => {
                out.push(1);
                out.extend_from_slice(&seq.to_le_bytes());
                out.extend_from_slice(&row.to_le_bytes());
            }
            Outcome::Duplicate { first } => {
                out.push(2);
                put_place(out, first);
            }
            Outcome::Conflict { first, seq, fields } => {
                out.push(3);
                put_place(out, first);
                out.extend_from_slice(&seq.to_le_bytes());
                out.extend_from_slice(&fields.to_le_bytes());
            }
            Outcome::Refused { seq, reason } => {
                out.push(4);
                out.extend_from_slice(&seq.to_le_bytes());
                out.push(*reason as u8);
            }
            Outcome::Configured { seq } => {
                out.push(5);
                out.extend_from_slice(&seq.to_le_bytes());
            }
            Outcome::Noted => out.push(6),
        }
    }
}

fn put_place(out: &mut Vec<u8>, first: &First) {
    out.extend_from_slice(&first.lsn.0.to_le_bytes());
    out.extend_from_slice(&first.nth.to_le_bytes());
}

/// BLAKE3 chain over the outcomes, one link a record: `link = BLAKE3(previous || lsn || outcomes)`, where each
/// outcome is its bytes and, if it has a leaf, the leaf's hash. Equal chains mean equal outcomes and equal
/// leaves.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    link: Digest,
    /// Outcomes of the record that is being applied.
    open: Vec<u8>,
}

impl Chain {
    pub(super) fn resume(link: Digest) -> Chain {
        Chain { link, open: Vec::new() }
    }

    pub(super) fn link(&self) -> Digest {
        self.link
    }

    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    pub(super) fn add(&mut self, outcome: &Outcome, leaf: Option<&Digest>, region: Option<&str>) {
        outcome.encode(region, &mut self.open);
        if let Some(leaf) = leaf {
            self.open.extend_from_slice(&leaf.0);
        }
    }

    /// Closes the record's link. A record without events closes with nothing in it: it still counts.
    pub(super) fn close(&mut self, lsn: Lsn) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.link.0);
        hasher.update(&lsn.0.to_le_bytes());
        hasher.update(&self.open);
        self.link = Digest(*hasher.finalize().as_bytes());
        self.open.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_keep_their_numbers_and_names() {
        let pinned = [
            (1, "malformed"),
            (2, "no-key"),
            (3, "bad-signature"),
            (4, "structure"),
            (16, "unknown-tenant"),
            (17, "too-many-tenants"),
            (18, "too-many-keys"),
            (19, "invalid-policy"),
            (20, "policy-version-taken"),
            (21, "too-many-policies"),
            (22, "log-key-not-next"),
            (23, "too-many-log-keys"),
        ];
        let now: Vec<_> = RefusedReason::ALL.iter().map(|reason| (*reason as u8, reason.name())).collect();
        assert_eq!(now, pinned);
        for reason in RefusedReason::ALL {
            assert_eq!(RefusedReason::from_name(reason.name()), Some(*reason));
        }
    }

    #[test]
    fn the_chain_tells_orders_and_records_apart() {
        let outcomes = [Outcome::Configured { seq: 0 }, Outcome::Noted];
        let link = |records: &[&[usize]]| {
            let mut chain = Chain::resume(Digest::ZERO);
            for (lsn, record) in records.iter().enumerate() {
                record.iter().for_each(|&i| chain.add(&outcomes[i], None, None));
                chain.close(Lsn(lsn as u64 + 1));
            }
            chain.link()
        };
        assert_eq!(link(&[&[0, 1]]), link(&[&[0, 1]]));
        assert_ne!(link(&[&[0, 1]]), link(&[&[1, 0]]));
        assert_ne!(link(&[&[0, 1]]), link(&[&[0], &[1]]));
        assert_ne!(link(&[&[0, 1]]), link(&[&[0, 1], &[]]));
    }
}
