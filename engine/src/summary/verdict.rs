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
mod tests;
