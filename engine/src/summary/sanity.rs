//! Plausibility checks beyond the verdict's own, each a named switch of the policy.
//!
//! A breach escalates a submission that would otherwise have passed; it never rescues or hides another
//! reason. Two checks are off by default because honest clients break them: box counts of real event
//! streams often decrease at some scale (different scales quantise differently), and then the slope, and
//! with it D_hat, may be negative.

use alloc::format;
use alloc::string::String;

use super::Pcs;
use super::verdict::ReasonCode;

/// Which checks are on: one bit each, numbers pinned, because policies are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sanity(u8);

/// Smallest and largest scale a summary is expected to use.
const SCALES: (i64, i64) = (1, 1024);
/// Bounds of coh_star.
const COH_STAR: (f64, f64) = (0.0, 1.05);
/// Bounds of r and of the budget.
const UNIT: (f64, f64) = (0.0, 1.0);
/// Bounds of D_hat.
const D_HAT: (f64, f64) = (0.0, 3.5);

impl Sanity {
    /// No check.
    pub const NONE: Sanity = Sanity(0);
    /// `sanity_n_j_non_decreasing`: the counts do not decrease along `scales`.
    pub const N_J_NON_DECREASING: Sanity = Sanity(1);
    /// `sanity_scales_in_range`: every scale is in 1 to 1024.
    pub const SCALES_IN_RANGE: Sanity = Sanity(2);
    /// `sanity_coh_star_in_range`: coh_star is in 0 to 1.05, whatever the policy's tolerance.
    pub const COH_STAR_IN_RANGE: Sanity = Sanity(4);
    /// `sanity_r_in_range`: r is in 0 to 1.
    pub const R_IN_RANGE: Sanity = Sanity(8);
    /// `sanity_d_hat_in_range`: D_hat is in 0 to 3.5.
    pub const D_HAT_IN_RANGE: Sanity = Sanity(16);
    /// `sanity_budget_in_range`: the budget is in 0 to 1.
    pub const BUDGET_IN_RANGE: Sanity = Sanity(32);
    /// `sanity_merkle_root_hex`: the Merkle root is 64 hex digits.
    pub const MERKLE_ROOT_HEX: Sanity = Sanity(64);
    /// Every check.
    pub const ALL: Sanity = Sanity(127);
    /// What every client in the field keeps.
    pub const FIELD_SAFE: Sanity = Sanity(127 & !1 & !16);

    /// The switches and their names in policy documents, in the order in which they are asked.
    pub const NAMED: [(&'static str, Sanity); 7] = [
        ("sanity_n_j_non_decreasing", Sanity::N_J_NON_DECREASING),
        ("sanity_scales_in_range", Sanity::SCALES_IN_RANGE),
        ("sanity_coh_star_in_range", Sanity::COH_STAR_IN_RANGE),
        ("sanity_r_in_range", Sanity::R_IN_RANGE),
        ("sanity_d_hat_in_range", Sanity::D_HAT_IN_RANGE),
        ("sanity_budget_in_range", Sanity::BUDGET_IN_RANGE),
        ("sanity_merkle_root_hex", Sanity::MERKLE_ROOT_HEX),
    ];

    /// The pinned bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The switches these bits say; `None` if one is not known.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Sanity> {
        if bits & !Sanity::ALL.0 == 0 { Some(Sanity(bits)) } else { None }
    }

    /// Whether all of `other` are on.
    #[must_use]
    pub const fn has(self, other: Sanity) -> bool {
        self.0 & other.0 == other.0
    }

    /// These switches and `other`.
    #[must_use]
    pub const fn with(self, other: Sanity) -> Sanity {
        Sanity(self.0 | other.0)
    }

    /// These switches without `other`.
    #[must_use]
    pub const fn without(self, other: Sanity) -> Sanity {
        Sanity(self.0 & !other.0)
    }

    /// The first check that is on and fails, with its text.
    #[must_use]
    pub fn breach(self, pcs: &Pcs<'_>) -> Option<(ReasonCode, String)> {
        Sanity::NAMED.iter().filter(|(_, check)| self.has(*check)).find_map(|(_, check)| match *check {
            Sanity::N_J_NON_DECREASING => n_j_non_decreasing(pcs),
            Sanity::SCALES_IN_RANGE => scales_in_range(pcs),
            Sanity::COH_STAR_IN_RANGE => range("coh_star", pcs.coh_star, COH_STAR, ReasonCode::SanityCohStar),
            Sanity::R_IN_RANGE => range("r", pcs.r, UNIT, ReasonCode::SanityR),
            Sanity::D_HAT_IN_RANGE => range("D_hat", pcs.d_hat, D_HAT, ReasonCode::SanityDHat),
            Sanity::BUDGET_IN_RANGE => range("budget", pcs.budget, UNIT, ReasonCode::SanityBudget),
            Sanity::MERKLE_ROOT_HEX => merkle_root_hex(pcs),
            _ => None,
        })
    }
}

fn n_j_non_decreasing(pcs: &Pcs<'_>) -> Option<(ReasonCode, String)> {
    let mut last = i64::MIN;
    for &scale in &pcs.scales {
        let count = pcs.count(scale)?;
        if count < last {
            let text = format!("N_j decreases at scale {scale}: {count} < {last}");
            return Some((ReasonCode::SanityCountsDecrease, text));
        }
        last = count;
    }
    None
}

fn scales_in_range(pcs: &Pcs<'_>) -> Option<(ReasonCode, String)> {
    let (low, high) = SCALES;
    let scale = pcs.scales.iter().find(|scale| !(low..=high).contains(*scale))?;
    Some((ReasonCode::SanityScale, format!("scale {scale} not in [{low}, {high}]")))
}

fn range(name: &str, value: f64, (low, high): (f64, f64), code: ReasonCode) -> Option<(ReasonCode, String)> {
    let inside = (low..=high).contains(&value);
    (!inside).then(|| (code, format!("{name} {value:.4} not in [{low:.4}, {high:.4}]")))
}

fn merkle_root_hex(pcs: &Pcs<'_>) -> Option<(ReasonCode, String)> {
    let root = pcs.merkle_root.as_bytes();
    let hex = root.len() == 64 && root.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    (!hex).then(|| (ReasonCode::SanityMerkleRoot, "merkle_root is not 64 lower-case hex digits".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::parse;

    fn breach(sanity: Sanity, body: &str) -> Option<ReasonCode> {
        sanity.breach(&parse(body.as_bytes()).unwrap()).map(|(code, _)| code)
    }

    #[test]
    fn each_switch_finds_its_own_breach_and_only_when_on() {
        let root = "a".repeat(64);
        let body = |change: (&str, &str)| {
            let mut fields = [
                ("scales", "[2,4]"),
                ("N_j", r#"{"2":3,"4":5}"#),
                ("coh_star", "0.5"),
                ("r", "0.5"),
                ("D_hat", "1"),
                ("budget", "0.5"),
                ("merkle_root", &format!("\"{root}\"")),
            ];
            for field in &mut fields {
                if field.0 == change.0 {
                    field.1 = change.1;
                }
            }
            let fields: alloc::vec::Vec<_> =
                fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}", fields.join(","))
        };
        let table = [
            (Sanity::N_J_NON_DECREASING, ("N_j", r#"{"2":6,"4":5}"#), ReasonCode::SanityCountsDecrease),
            (Sanity::SCALES_IN_RANGE, ("scales", "[2,4,2048]"), ReasonCode::SanityScale),
            (Sanity::COH_STAR_IN_RANGE, ("coh_star", "1.06"), ReasonCode::SanityCohStar),
            (Sanity::R_IN_RANGE, ("r", "-0.1"), ReasonCode::SanityR),
            (Sanity::D_HAT_IN_RANGE, ("D_hat", "3.6"), ReasonCode::SanityDHat),
            (Sanity::BUDGET_IN_RANGE, ("budget", "1.1"), ReasonCode::SanityBudget),
            (Sanity::MERKLE_ROOT_HEX, ("merkle_root", "\"abc123\""), ReasonCode::SanityMerkleRoot),
        ];
        for (check, change, code) in table {
            assert_eq!(breach(check, &body(change)), Some(code));
            assert_eq!(breach(Sanity::ALL, &body(change)), Some(code));
            assert_eq!(breach(Sanity::ALL.without(check), &body(change)), None);
            assert_eq!(breach(Sanity::ALL, &body(("", ""))), None);
        }
    }

    #[test]
    fn real_counts_may_decrease_under_the_default() {
        let body = format!(
            r#"{{"scales":[2,4],"N_j":{{"2":9,"4":5}},"D_hat":-0.8,"merkle_root":"{}"}}"#,
            "0".repeat(64)
        );
        assert_eq!(breach(Sanity::FIELD_SAFE, &body), None);
    }

    #[test]
    fn the_bits_are_pinned_and_unknown_ones_refused() {
        let all = Sanity::NAMED.iter().fold(Sanity::NONE, |sum, (_, check)| sum.with(*check));
        assert_eq!((all, Sanity::FIELD_SAFE.bits()), (Sanity::ALL, 0b110_1110));
        assert_eq!(Sanity::from_bits(128), None);
        assert_eq!(Sanity::from_bits(5), Some(Sanity::N_J_NON_DECREASING.with(Sanity::COH_STAR_IN_RANGE)));
    }
}
