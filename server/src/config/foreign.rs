//! Variables of the original system that ask for something this build does not do.
//!
//! A variable that asks for a protection or a copy of the data is refused: starting without it would promise
//! what does not happen. A variable that only tunes a mechanism we do not have is named in a warning.

use super::ConfigError;

enum Reaction {
    /// The value states what we do anyway, so it is taken silently; any other value is refused.
    OnlyOk(&'static [&'static str]),
    /// Named in a warning and otherwise ignored.
    Warn,
}

struct Foreign {
    /// Exact name, or a prefix when it ends in `*`.
    name: &'static str,
    reaction: Reaction,
    why: &'static str,
}

use Reaction::{OnlyOk, Warn};

#[rustfmt::skip]
static FOREIGN: &[Foreign] = &[
    Foreign { name: "DEDUP_BACKEND", reaction: OnlyOk(&["memory"]), why: "the index is a fold of the log itself, not an outside store" },
    Foreign { name: "DEDUP_SNAPSHOT", reaction: Warn, why: "snapshots are kept under data.dir/proj" },
    Foreign { name: "DEDUP_REQUIRED", reaction: OnlyOk(&["true", "1"]), why: "the index cannot be switched off" },
    Foreign { name: "DEDUP_DUAL_WRITE", reaction: OnlyOk(&["false", "0"]), why: "there is no second index to write to" },
    Foreign { name: "DEDUP_NEW_RING", reaction: Warn, why: "there is no ring to change" },
    Foreign { name: "DEDUP_SHARDS", reaction: Warn, why: "the index has no outside shards" },
    Foreign { name: "DEDUP_VNODES", reaction: Warn, why: "the index has no outside shards" },
    Foreign { name: "REDIS_ADDR", reaction: Warn, why: "no outside store is used" },
    Foreign { name: "POSTGRES_CONN", reaction: Warn, why: "no outside store is used" },
    Foreign { name: "DEGRADED_MODE", reaction: OnlyOk(&["false", "0"]), why: "a node never answers without its log" },
    Foreign { name: "PII_SCAN_MODE", reaction: OnlyOk(&["detect", "off"]), why: "submissions are not scanned for personal data" },
    Foreign { name: "TIER_*", reaction: Warn, why: "old keys move to sorted runs by age without settings" },
    Foreign { name: "WAL_REPLICATION_ENABLED", reaction: OnlyOk(&["false", "0"]), why: "shipping is asked for with regions.place and regions.peers (docs/REGIONS.md)" },
    Foreign { name: "WAL_REMOTE_BUCKET", reaction: OnlyOk(&[]), why: "a bucket is named by regions.place and found by regions.stores_file (docs/REGIONS.md)" },
    Foreign { name: "VRF_ENABLED", reaction: OnlyOk(&["false", "0"]), why: "VRF proofs are not checked" },
    Foreign { name: "VRF_MODE", reaction: OnlyOk(&["shadow"]), why: "VRF proofs are not checked" },
    Foreign { name: "VRF_PUBKEY", reaction: Warn, why: "VRF proofs are not checked" },
    Foreign { name: "JWT_ENABLED", reaction: OnlyOk(&["false", "0"]), why: "bearer tokens are not checked on submissions" },
    Foreign { name: "JWT_*", reaction: Warn, why: "bearer tokens are not checked on submissions" },
    Foreign { name: "RAG_*", reaction: Warn, why: "there is no retrieval check" },
    Foreign { name: "RISK_*", reaction: Warn, why: "there is no risk routing" },
];

/// Refuses or lists the variables that ask for what is not built.
pub(super) fn check(name: &str, value: &str) -> Result<Option<String>, ConfigError> {
    let hit = FOREIGN.iter().find(|f| match f.name.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => f.name == name,
    });
    let Some(foreign) = hit else { return Ok(None) };
    match foreign.reaction {
        OnlyOk(ok) if ok.contains(&value.to_ascii_lowercase().as_str()) => Ok(None),
        OnlyOk(_) => Err(ConfigError::NotBuilt { name: name.to_owned(), why: foreign.why }),
        Warn => Ok(Some(format!("{name} has no effect: {}", foreign.why))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_we_do_not_keep_is_refused_and_a_knob_we_do_not_have_is_named() {
        assert!(check("WAL_REMOTE_BUCKET", "s3://x").is_err());
        assert!(check("DEDUP_BACKEND", "redis").is_err());
        assert!(check("PII_SCAN_MODE", "block").is_err());
        assert!(check("VRF_ENABLED", "true").is_err());
        assert!(matches!(check("DEDUP_BACKEND", "memory"), Ok(None)));
        assert!(matches!(check("TIER_HOT_TTL", "3600"), Ok(Some(text)) if text.contains("TIER_HOT_TTL")));
        assert!(matches!(check("JWT_ISSUER", "x"), Ok(Some(_))));
        assert!(matches!(check("HOME", "/root"), Ok(None)));
    }
}
