//! Is this the same content again? What tells a replay from a conflict.
//!
//! Covered are the eight signed fields, the numbers as signed (nine places), and `scales`, `N_j`, `v_star`,
//! `regime`, `seed`. `attempt`, `sent_at`, `ft` and `sig` may change from one delivery to the next. Each
//! field also has a 16-bit lane, so that a conflict can name the fields that differ without either body.

use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use super::canonical::SignedFields;
use super::decimal::nine;
use super::{Count, Pcs};
use crate::log::Digest;

/// The fields in lane order: bit `n` of a mask is `FIELD_NAMES[n]`.
pub const FIELD_NAMES: [&str; FIELDS] = [
    "pcs_id",
    "merkle_root",
    "epoch",
    "shard_id",
    "D_hat",
    "coh_star",
    "r",
    "budget",
    "scales",
    "N_j",
    "v_star",
    "regime",
    "seed",
];

/// How many fields a fingerprint covers.
pub const FIELDS: usize = 13;

/// The mask bit of a difference that no lane shows: two fields of the same 16-bit lane, one chance in 65,536, or a side without
/// lanes.
pub const UNNAMED: u16 = 1 << 15;

/// What two submissions under one id are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// First 16 bytes of SHA-256 over the covered fields.
    pub digest: [u8; 16],
    /// One short hash for each of [`FIELD_NAMES`]; it names, it does not decide.
    pub lanes: [u16; FIELDS],
}

impl Fingerprint {
    /// The same without lanes: all of them are zero. Of a submission that stays in its region no more is kept, because a lane of
    /// a field that can have few values says which one it has.
    #[must_use]
    pub fn unnamed(self) -> Fingerprint {
        Fingerprint { lanes: [0; FIELDS], ..self }
    }

    /// The mask of fields that differ; 0 if and only if the contents are the same.
    #[must_use]
    pub fn differs(&self, other: &Fingerprint) -> u16 {
        if self.digest == other.digest {
            return 0;
        }
        if [self, other].iter().any(|side| side.lanes == [0; FIELDS]) {
            return UNNAMED;
        }
        let lanes = self.lanes.iter().zip(&other.lanes).enumerate();
        let mask = lanes.fold(0, |mask, (at, (mine, theirs))| mask | u16::from(mine != theirs) << at);
        if mask == 0 { UNNAMED } else { mask }
    }
}

/// The names of a mask's fields, in lane order; [`UNNAMED`] has none.
pub fn field_names(mask: u16) -> impl Iterator<Item = &'static str> {
    FIELD_NAMES.into_iter().enumerate().filter(move |(at, _)| mask & 1 << at != 0).map(|(_, name)| name)
}

/// Takes a summary's fingerprint.
#[must_use]
pub fn fingerprint(pcs: &Pcs<'_>) -> Fingerprint {
    let mut covered = Vec::with_capacity(640);
    let lanes = draft(pcs, &mut covered).lanes;
    Fingerprint { digest: digest(&covered), lanes }
}

/// The digest of a fingerprint over these bytes.
pub(super) fn digest(covered: &[u8]) -> [u8; 16] {
    short(&Digest(Sha256::digest(covered).into()))
}

/// The digest of a fingerprint whose bytes have this hash.
pub(super) fn short(hash: &Digest) -> [u8; 16] {
    *hash.0.first_chunk().expect("a hash has 32 bytes")
}

/// Takes a fingerprint but for its digest, and appends what that is over to `bytes`.
pub(super) fn draft(pcs: &Pcs<'_>, bytes: &mut Vec<u8>) -> Fingerprint {
    let mut lanes = [0; FIELDS];
    let mut at = 0;
    let mut lane = |write: &dyn Fn(&mut Vec<u8>)| {
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        write(bytes);
        let length = (bytes.len() - start - 4) as u32;
        bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
        lanes[at] = short_hash(&bytes[start..]);
        at += 1;
    };
    let SignedFields { pcs_id, merkle_root, epoch, shard_id, numbers } = pcs.signed_fields();
    lane(&|out| out.extend_from_slice(pcs_id.as_bytes()));
    lane(&|out| out.extend_from_slice(merkle_root.as_bytes()));
    lane(&|out| out.extend_from_slice(&epoch.to_le_bytes()));
    lane(&|out| out.extend_from_slice(shard_id.as_bytes()));
    for x in [numbers.d_hat, numbers.coh_star, numbers.r, numbers.budget] {
        lane(&|out| out.extend_from_slice(&nine(x).to_bytes()));
    }
    lane(&|out| {
        for scale in &pcs.scales {
            out.extend_from_slice(&scale.to_le_bytes());
        }
    });
    lane(&|out| {
        for (key, count) in &pcs.n_j {
            match key {
                Count::Scale(scale) => {
                    out.push(0);
                    out.extend_from_slice(&scale.to_le_bytes());
                }
                Count::Other(text) => {
                    out.push(1);
                    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
                    out.extend_from_slice(text.as_bytes());
                }
            }
            out.extend_from_slice(&count.to_le_bytes());
        }
    });
    lane(&|out| {
        for component in &pcs.v_star {
            // Adding zero makes negative zero positive: they are one direction.
            out.extend_from_slice(&(component + 0.0).to_bits().to_le_bytes());
        }
    });
    lane(&|out| out.extend_from_slice(pcs.regime.as_bytes()));
    lane(&|out| out.extend_from_slice(&pcs.seed.to_le_bytes()));
    assert_eq!(at, FIELDS, "every field has its lane");
    Fingerprint { digest: [0; 16], lanes }
}

/// Multiply and fold, eight bytes at a time. Pinned: lanes are stored with the first of every id.
fn short_hash(bytes: &[u8]) -> u16 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = bytes.len() as u64;
    let mut take = |word: u64| {
        hash = (hash ^ word).wrapping_mul(MULTIPLIER);
        hash ^= hash >> 32;
    };
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().for_each(|word| take(u64::from_le_bytes(*word)));
    if !rest.is_empty() {
        // The last bytes, as if zeros followed.
        take(rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    }
    (hash.wrapping_mul(MULTIPLIER) >> 48) as u16
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;

    use super::*;
    use crate::summary::parse;

    const FULL: [(&str, &str, &str); 13] = [
        ("pcs_id", "\"i\"", "\"j\""),
        ("merkle_root", "\"m\"", "\"n\""),
        ("epoch", "1", "2"),
        ("shard_id", "\"s\"", "\"t\""),
        ("D_hat", "1.5", "1.500000001"),
        ("coh_star", "0.5", "0.6"),
        ("r", "0.5", "0.7"),
        ("budget", "0.5", "0.25"),
        ("scales", "[2,4]", "[4,2]"),
        ("N_j", "{\"2\":3,\"4\":5}", "{\"2\":3,\"4\":6}"),
        ("v_star", "[1,0,0]", "[1,0,1e-300]"),
        ("regime", "\"mixed\"", "\"sticky\""),
        ("seed", "42", "43"),
    ];

    fn body(change: Option<usize>, more: &str) -> String {
        let fields = FULL.iter().enumerate().map(|(at, (name, value, other))| {
            format!("\"{name}\":{}", if change == Some(at) { other } else { value })
        });
        format!("{{{}{more}}}", fields.collect::<Vec<_>>().join(","))
    }

    fn of(body: &str) -> Fingerprint {
        fingerprint(&parse(body.as_bytes()).unwrap())
    }

    #[test]
    fn a_conflict_names_exactly_the_field_that_differs() {
        let first = of(&body(None, ""));
        for (at, (name, ..)) in FULL.iter().enumerate() {
            let mask = first.differs(&of(&body(Some(at), "")));
            assert_eq!(field_names(mask).collect::<Vec<_>>(), [*name]);
        }
    }

    #[test]
    fn what_changes_between_deliveries_is_not_covered() {
        let first = of(&body(None, ""));
        let again = of(&body(
            None,
            r#","attempt":3,"sent_at":"2024-01-01T00:00:00Z","ft":{"degraded":true},"sig":"x","z":1"#,
        ));
        assert_eq!(first, again);
        assert_eq!(first.differs(&again), 0);
        let rewritten = of(&body(None, "").replace("\"D_hat\":1.5", "\"D_hat\":1.50000000000001e0"));
        assert_eq!(first, rewritten);
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let a = of(r#"{"merkle_root":"ab","shard_id":"c"}"#);
        let b = of(r#"{"merkle_root":"a","shard_id":"bc"}"#);
        assert_eq!(field_names(a.differs(&b)).collect::<Vec<_>>(), ["merkle_root", "shard_id"]);
        let a = of(r#"{"N_j":{"2":1}}"#);
        let b = of(r#"{"N_j":{"02":1}}"#);
        assert_ne!(a.digest, b.digest);
    }

    #[test]
    fn a_difference_without_a_lane_is_still_a_difference() {
        let a = of(&body(None, ""));
        let b = Fingerprint { digest: [0; 16], ..a };
        assert_eq!(a.differs(&b), UNNAMED);
        assert_eq!(field_names(UNNAMED).count(), 0);
    }

    #[test]
    fn without_lanes_no_field_is_named() {
        let (a, b) = (of(&body(None, "")), of(&body(Some(4), "")));
        for (one, other) in [(a.unnamed(), b), (a, b.unnamed()), (a.unnamed(), b.unnamed())] {
            assert_eq!(one.differs(&other), UNNAMED);
        }
        assert_eq!(a.unnamed().differs(&a), 0);
    }

    #[test]
    fn the_fingerprint_is_pinned() {
        let Fingerprint { digest, lanes } = of(&body(None, ""));
        let mut hex = Vec::new();
        crate::codec::hex_into(&mut hex, &digest);
        assert_eq!((core::str::from_utf8(&hex).unwrap(), lanes), PINNED);
    }

    const PINNED: (&str, [u16; FIELDS]) = (
        "8f9dd91f7cee0ffc9bf762bc4f2afc5e",
        [26152, 23446, 45430, 54996, 29983, 65052, 65052, 65052, 19375, 8189, 64393, 29470, 35017],
    );
}
