//! Every check: its place, its outcome, its text.

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
    let edge = |d_hat: &str| verdict(&body().replace("\"D_hat\":0.87", &format!("\"D_hat\":{d_hat}"))).code;
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
