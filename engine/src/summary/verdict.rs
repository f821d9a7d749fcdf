//! What a well-signed summary is worth: the checks, their order, and the reasons clients read.

use alloc::format;
use alloc::string::String;

use super::signals::{self, Regime};
use super::{Pcs, PcsId, Policy};

/// The schema every summary names.
pub const SCHEMA: &str = "fractal-lba-kakeya";

/// How far the claimed budget may be from the recomputed one.
const BUDGET_TOLERANCE: f64 = 0.01;

/// Why a verdict is what it is. Numbers are pinned: they stand in the log's digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ReasonCode {
    /// Nothing to object to.
    Accepted = 0,
    /// Structure: no `pcs_id`.
    PcsIdMissing = 1,
    /// Structure: another schema.
    SchemaInvalid = 2,
    /// Structure: no version.
    VersionMissing = 3,
    /// Structure: no `shard_id`.
    ShardIdMissing = 4,
    /// Structure: a negative epoch.
    EpochNegative = 5,
    /// Structure: no scales.
    ScalesEmpty = 6,
    /// Structure: no Merkle root.
    MerkleRootMissing = 7,
    /// Structure: the claimed id is not the derived one.
    PcsIdMismatch = 8,
    /// No dimension follows from the counts.
    DHatUncomputable = 16,
    /// The claimed dimension is too far from the recomputed one.
    DHatOutOfTolerance = 17,
    /// The coherence is outside its bounds.
    CohStarOutOfBounds = 18,
    /// The claimed regime is not that of the claimed signals.
    RegimeMismatch = 19,
    /// The claimed budget is not that of the claimed signals.
    BudgetDeviation = 20,
    /// Sanity: counts decrease along the scales.
    SanityCountsDecrease = 32,
    /// Sanity: a scale outside its range.
    SanityScale = 33,
    /// Sanity: coherence outside its range.
    SanityCohStar = 34,
    /// Sanity: compressibility outside its range.
    SanityR = 35,
    /// Sanity: dimension outside its range.
    SanityDHat = 36,
    /// Sanity: budget outside its range.
    SanityBudget = 37,
    /// Sanity: the Merkle root is not hex.
    SanityMerkleRoot = 38,
}

impl ReasonCode {
    /// Every code.
    pub const ALL: [ReasonCode; 21] = [
        ReasonCode::Accepted,
        ReasonCode::PcsIdMissing,
        ReasonCode::SchemaInvalid,
        ReasonCode::VersionMissing,
        ReasonCode::ShardIdMissing,
        ReasonCode::EpochNegative,
        ReasonCode::ScalesEmpty,
        ReasonCode::MerkleRootMissing,
        ReasonCode::PcsIdMismatch,
        ReasonCode::DHatUncomputable,
        ReasonCode::DHatOutOfTolerance,
        ReasonCode::CohStarOutOfBounds,
        ReasonCode::RegimeMismatch,
        ReasonCode::BudgetDeviation,
        ReasonCode::SanityCountsDecrease,
        ReasonCode::SanityScale,
        ReasonCode::SanityCohStar,
        ReasonCode::SanityR,
        ReasonCode::SanityDHat,
        ReasonCode::SanityBudget,
        ReasonCode::SanityMerkleRoot,
    ];

    /// The pinned number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The code of a pinned number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<ReasonCode> {
        ReasonCode::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// The stable name in leaves and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ReasonCode::Accepted => "accepted",
            ReasonCode::PcsIdMissing => "pcs-id-missing",
            ReasonCode::SchemaInvalid => "schema-invalid",
            ReasonCode::VersionMissing => "version-missing",
            ReasonCode::ShardIdMissing => "shard-id-missing",
            ReasonCode::EpochNegative => "epoch-negative",
            ReasonCode::ScalesEmpty => "scales-empty",
            ReasonCode::MerkleRootMissing => "merkle-root-missing",
            ReasonCode::PcsIdMismatch => "pcs-id-mismatch",
            ReasonCode::DHatUncomputable => "d-hat-uncomputable",
            ReasonCode::DHatOutOfTolerance => "d-hat-out-of-tolerance",
            ReasonCode::CohStarOutOfBounds => "coh-star-out-of-bounds",
            ReasonCode::RegimeMismatch => "regime-mismatch",
            ReasonCode::BudgetDeviation => "budget-deviation",
            ReasonCode::SanityCountsDecrease => "sanity-n-j-decreases",
            ReasonCode::SanityScale => "sanity-scale",
            ReasonCode::SanityCohStar => "sanity-coh-star",
            ReasonCode::SanityR => "sanity-r",
            ReasonCode::SanityDHat => "sanity-d-hat",
            ReasonCode::SanityBudget => "sanity-budget",
            ReasonCode::SanityMerkleRoot => "sanity-merkle-root",
        }
    }
}

/// The answer to a well-signed submission.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Whether the summary may be used.
    pub accepted: bool,
    /// Whether somebody should look at it. Status 200 means accepted and not escalated; all else is 202.
    pub escalated: bool,
    /// Why, for machines.
    pub code: ReasonCode,
    /// Why, for clients: the original's text, empty when there is nothing to object to.
    pub reason: String,
    /// The dimension as recomputed, if the checks came that far and this verdict shows it.
    pub recomputed_d_hat: Option<f64>,
    /// The budget as recomputed, if the checks came that far and this verdict shows it.
    pub recomputed_budget: Option<f64>,
}

impl Verdict {
    /// Accepted and nothing to look at: HTTP 200.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.accepted && !self.escalated
    }

    fn objection(accepted: bool, code: ReasonCode, reason: String) -> Verdict {
        Verdict { accepted, escalated: true, code, reason, recomputed_d_hat: None, recomputed_budget: None }
    }
}

/// The structure every summary must have before it counts as one: its id, derived, or the verdict that
/// refuses it.
///
/// # Errors
/// The verdict with the first missing thing.
pub fn structure(pcs: &Pcs<'_>) -> Result<PcsId, Verdict> {
    let refuse =
        |code, text: &str| Err(Verdict::objection(false, code, format!("validation failed: {text}")));
    if pcs.pcs_id.is_empty() {
        return refuse(ReasonCode::PcsIdMissing, "pcs_id is required");
    }
    if pcs.schema != SCHEMA {
        let text = format!("invalid schema: expected {SCHEMA}, got {}", pcs.schema);
        return refuse(ReasonCode::SchemaInvalid, &text);
    }
    if pcs.version.is_empty() {
        return refuse(ReasonCode::VersionMissing, "version is required");
    }
    if pcs.shard_id.is_empty() {
        return refuse(ReasonCode::ShardIdMissing, "shard_id is required");
    }
    if pcs.epoch < 0 {
        return refuse(ReasonCode::EpochNegative, "epoch must be non-negative");
    }
    if pcs.scales.is_empty() {
        return refuse(ReasonCode::ScalesEmpty, "scales cannot be empty");
    }
    if pcs.merkle_root.is_empty() {
        return refuse(ReasonCode::MerkleRootMissing, "merkle_root is required");
    }
    let id = PcsId::derive(&pcs.merkle_root, pcs.epoch, &pcs.shard_id);
    if !id.is_written(&pcs.pcs_id) {
        let text = format!("pcs_id mismatch: expected {id}, got {}", pcs.pcs_id);
        return refuse(ReasonCode::PcsIdMismatch, &text);
    }
    Ok(id)
}

/// Judges the numbers of a summary whose structure holds.
#[must_use]
pub fn numbers(pcs: &Pcs<'_>, policy: &Policy) -> Verdict {
    let recomputed = match signals::d_hat(&pcs.scales, |scale| pcs.count(scale)) {
        Ok(recomputed) => recomputed,
        Err(error) => {
            let reason = format!("D_hat recomputation failed: {error}");
            return Verdict::objection(false, ReasonCode::DHatUncomputable, reason);
        }
    };
    let claimed = pcs.d_hat;
    let difference = (claimed - recomputed).abs();
    if difference > policy.tol_d {
        let reason = format!(
            "D_hat out of tolerance: claimed={claimed:.4}, recomputed={recomputed:.4}, diff={difference:.4} > tol={:.4}",
            policy.tol_d
        );
        let verdict = Verdict::objection(false, ReasonCode::DHatOutOfTolerance, reason);
        return Verdict { recomputed_d_hat: Some(recomputed), ..verdict };
    }
    let highest = 1.0 + policy.tol_coh;
    if pcs.coh_star < 0.0 || pcs.coh_star > highest {
        let reason = format!("coh_star out of bounds: {:.4} not in [0, {highest:.4}]", pcs.coh_star);
        return Verdict::objection(false, ReasonCode::CohStarOutOfBounds, reason);
    }
    let budget = signals::budget(claimed, pcs.coh_star, pcs.r, policy);
    let verdict = consistency(pcs, budget, policy);
    Verdict { recomputed_d_hat: Some(recomputed), recomputed_budget: Some(budget), ..verdict }
}

/// Whether the claims agree with each other, and then whether they are plausible.
fn consistency(pcs: &Pcs<'_>, budget: f64, policy: &Policy) -> Verdict {
    let expected = Regime::of(pcs.d_hat, pcs.coh_star, policy).name();
    if pcs.regime != expected {
        let reason = format!("regime mismatch: claimed={}, expected={expected}", pcs.regime);
        return Verdict::objection(true, ReasonCode::RegimeMismatch, reason);
    }
    if (pcs.budget - budget).abs() > BUDGET_TOLERANCE {
        let reason = format!("budget deviation: claimed={:.4}, recomputed={budget:.4}", pcs.budget);
        return Verdict::objection(true, ReasonCode::BudgetDeviation, reason);
    }
    if let Some((code, text)) = policy.sanity.breach(pcs) {
        return Verdict::objection(false, code, format!("sanity breach: {text}"));
    }
    Verdict {
        accepted: true,
        escalated: false,
        code: ReasonCode::Accepted,
        reason: String::new(),
        recomputed_d_hat: None,
        recomputed_budget: None,
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::string::ToString;

    use super::*;
    use crate::summary::parse;

    fn body() -> String {
        let root = "a".repeat(64);
        let id = PcsId::derive(&root, 1, "test-shard");
        format!(
            r#"{{"pcs_id":"{id}","schema":"fractal-lba-kakeya","version":"0.1","shard_id":"test-shard","epoch":1,"scales":[2,4,8,16,32],"N_j":{{"2":3,"4":5,"8":9,"16":17,"32":31}},"coh_star":0.73,"D_hat":0.87,"r":0.87,"regime":"sticky","budget":0.285,"merkle_root":"{root}"}}"#
        )
    }

    fn verdict(body: &str) -> Verdict {
        let pcs = parse(body.as_bytes()).unwrap();
        match structure(&pcs) {
            Ok(_) => numbers(&pcs, &Policy::default_1_0_0()),
            Err(verdict) => verdict,
        }
    }

    /// Every row changes one thing of a clean body; the text is the original's.
    #[test]
    fn every_check_has_its_place_outcome_and_text() {
        let mismatch = format!(
            "validation failed: pcs_id mismatch: expected {}, got ",
            PcsId::derive(&"a".repeat(64), 1, "test-shard")
        );
        let mismatch_epoch = mismatch.replace(
            &PcsId::derive(&"a".repeat(64), 1, "test-shard").to_string(),
            &PcsId::derive(&"a".repeat(64), 2, "test-shard").to_string(),
        ) + &PcsId::derive(&"a".repeat(64), 1, "test-shard").to_string();
        type Row<'a> = (&'a str, &'a str, bool, ReasonCode, &'a str, bool, bool);
        let table: [Row<'_>; 18] = [
            ("", "", true, ReasonCode::Accepted, "", true, true),
            (
                "\"pcs_id\":",
                "\"x\":",
                false,
                ReasonCode::PcsIdMissing,
                "validation failed: pcs_id is required",
                false,
                false,
            ),
            (
                "kakeya",
                "x",
                false,
                ReasonCode::SchemaInvalid,
                "validation failed: invalid schema: expected fractal-lba-kakeya, got fractal-lba-x",
                false,
                false,
            ),
            (
                "\"0.1\"",
                "\"\"",
                false,
                ReasonCode::VersionMissing,
                "validation failed: version is required",
                false,
                false,
            ),
            (
                "\"test-shard\"",
                "null",
                false,
                ReasonCode::ShardIdMissing,
                "validation failed: shard_id is required",
                false,
                false,
            ),
            (
                "\"epoch\":1",
                "\"epoch\":-1",
                false,
                ReasonCode::EpochNegative,
                "validation failed: epoch must be non-negative",
                false,
                false,
            ),
            (
                "[2,4,8,16,32]",
                "[]",
                false,
                ReasonCode::ScalesEmpty,
                "validation failed: scales cannot be empty",
                false,
                false,
            ),
            (
                "\"merkle_root\":",
                "\"x\":",
                false,
                ReasonCode::MerkleRootMissing,
                "validation failed: merkle_root is required",
                false,
                false,
            ),
            ("\"epoch\":1", "\"epoch\":2", false, ReasonCode::PcsIdMismatch, &mismatch_epoch, false, false),
            (
                "[2,4,8,16,32]",
                "[2]",
                false,
                ReasonCode::DHatUncomputable,
                "D_hat recomputation failed: need at least 2 scales for regression",
                false,
                false,
            ),
            (
                "\"4\":5,",
                "",
                false,
                ReasonCode::DHatUncomputable,
                "D_hat recomputation failed: missing N_j entry for scale 4",
                false,
                false,
            ),
            (
                "\"4\":5,",
                "\"4\":0,",
                false,
                ReasonCode::DHatUncomputable,
                "D_hat recomputation failed: N_j must be positive for scale 4",
                false,
                false,
            ),
            (
                "[2,4,8,16,32]",
                "[2,2]",
                false,
                ReasonCode::DHatUncomputable,
                "D_hat recomputation failed: no valid slopes computed",
                false,
                false,
            ),
            (
                "\"D_hat\":0.87",
                "\"D_hat\":1.41",
                false,
                ReasonCode::DHatOutOfTolerance,
                "D_hat out of tolerance: claimed=1.4100, recomputed=0.8667, diff=0.5433 > tol=0.1500",
                true,
                false,
            ),
            (
                "\"coh_star\":0.73",
                "\"coh_star\":1.0500001",
                false,
                ReasonCode::CohStarOutOfBounds,
                "coh_star out of bounds: 1.0500 not in [0, 1.0500]",
                false,
                false,
            ),
            (
                "\"sticky\"",
                "\"mixed\"",
                true,
                ReasonCode::RegimeMismatch,
                "regime mismatch: claimed=mixed, expected=sticky",
                true,
                true,
            ),
            (
                "\"budget\":0.285",
                "\"budget\":0.42",
                true,
                ReasonCode::BudgetDeviation,
                "budget deviation: claimed=0.4200, recomputed=0.2850",
                true,
                true,
            ),
            (
                "\"r\":0.87",
                "\"r\":1.03",
                true,
                ReasonCode::BudgetDeviation,
                "budget deviation: claimed=0.2850, recomputed=0.2370",
                true,
                true,
            ),
        ];
        for (from, to, accepted, code, reason, shows_d_hat, shows_budget) in table {
            let found = verdict(&body().replace(from, to));
            let shown = (found.recomputed_d_hat.is_some(), found.recomputed_budget.is_some());
            assert_eq!(found.reason, reason);
            assert_eq!((found.accepted, found.code, shown), (accepted, code, (shows_d_hat, shows_budget)));
            assert_eq!(found.escalated, code != ReasonCode::Accepted);
        }
        assert_eq!(verdict("{}").reason, "validation failed: pcs_id is required");
        let sane = body().replace("\"r\":0.87", "\"r\":1.01").replace("0.285", "0.243");
        assert_eq!(verdict(&sane).reason, "sanity breach: r 1.0100 not in [0.0000, 1.0000]");
        let both = body().replace("0.87", "-0.5").replace("\"coh_star\":0.73", "\"coh_star\":-1");
        assert_eq!(verdict(&both).code, ReasonCode::DHatOutOfTolerance);
    }

    #[test]
    fn tolerances_include_their_edge() {
        let edge =
            |d_hat: &str| verdict(&body().replace("\"D_hat\":0.87", &format!("\"D_hat\":{d_hat}"))).code;
        assert_eq!(edge("1.016733468"), ReasonCode::Accepted);
        assert_eq!(edge("1.01673347"), ReasonCode::DHatOutOfTolerance);
        let coh = body().replace("\"coh_star\":0.73", "\"coh_star\":1.05").replace("0.285", "0.349");
        assert_eq!(verdict(&coh).code, ReasonCode::Accepted);
    }

    #[test]
    fn codes_and_names_are_unique_and_read_back() {
        let names: BTreeSet<_> = ReasonCode::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), ReasonCode::ALL.len());
        for code in ReasonCode::ALL {
            assert_eq!(ReasonCode::from_code(code.code()), Some(code));
        }
        assert_eq!(ReasonCode::from_code(255), None);
    }
}
