//! Summaries as clients in the field make them. The signing here is written again from the published form and
//! shares nothing with the product: a mistake in one of the two shows.

use base64::Engine;
use sha2::{Digest, Sha256};

/// The HMAC key that every server of these tests is started with.
pub const SECRET: &str = "testsecret";

/// One submission.
#[derive(Clone)]
pub struct Submission {
    /// Its derived id, lower-case hex.
    pub id: String,
    /// The body as it is sent.
    pub body: Vec<u8>,
}

/// Fields that tests vary; the numbers are written as Python writes them.
#[derive(Clone)]
pub struct Draft {
    pub merkle_root: String,
    pub epoch: u64,
    pub shard_id: String,
    pub d_hat: &'static str,
    pub coh_star: &'static str,
    pub r: &'static str,
    pub budget: &'static str,
    pub regime: &'static str,
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// HMAC-SHA256 by RFC 2104.
pub fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0u8; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    let outer = Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize();
    outer.into()
}

impl Draft {
    /// A summary that is accepted: slope exactly 1, coherent, so `sticky`; 0.10 + 0.30 * 0.5 + 0.20 * 0.75 = 0.40.
    pub fn accepted(number: u64) -> Draft {
        Draft {
            merkle_root: hex(&Sha256::digest(number.to_le_bytes())),
            epoch: number,
            shard_id: "it-shard".to_owned(),
            d_hat: "1.0",
            coh_star: "0.75",
            r: "0.5",
            budget: "0.4",
            regime: "sticky",
        }
    }

    /// The derived id.
    pub fn id(&self) -> String {
        hex(&Sha256::digest(format!("{}|{}|{}", self.merkle_root, self.epoch, self.shard_id)))
    }

    /// What the original agent signs: eight fields, sorted, compact.
    pub fn canonical(&self) -> String {
        let Draft { merkle_root, epoch, shard_id, d_hat, coh_star, r, budget, .. } = self;
        let id = self.id();
        format!(
            r#"{{"D_hat":{d_hat},"budget":{budget},"coh_star":{coh_star},"epoch":{epoch},"merkle_root":"{merkle_root}","pcs_id":"{id}","r":{r},"shard_id":"{shard_id}"}}"#
        )
    }

    /// The body with this signature, spaced as Python's `json` module spaces it.
    pub fn body(&self, signature: &str) -> Vec<u8> {
        let Draft { merkle_root, epoch, shard_id, d_hat, coh_star, r, budget, regime } = self;
        let id = self.id();
        format!(
            r#"{{"pcs_id": "{id}", "schema": "fractal-lba-kakeya", "version": "0.1", "shard_id": "{shard_id}", "epoch": {epoch}, "attempt": 1, "sent_at": "2026-01-01T00:00:00Z", "seed": 42, "scales": [2, 4, 8, 16], "N_j": {{"2": 3, "4": 6, "8": 12, "16": 24}}, "coh_star": {coh_star}, "v_star": [0.6, 0.8, 0.0], "D_hat": {d_hat}, "r": {r}, "regime": "{regime}", "budget": {budget}, "merkle_root": "{merkle_root}", "sig": "{signature}", "ft": {{"outbox_seq": 0, "degraded": false, "fallbacks": [], "clock_skew_ms": 0}}}}"#
        )
        .into_bytes()
    }

    /// Signed as the original agent signs: HMAC over the canonical text.
    pub fn signed(&self) -> Submission {
        self.signed_with(SECRET)
    }

    /// The same with another key.
    pub fn signed_with(&self, secret: &str) -> Submission {
        let tag = hmac(secret.as_bytes(), self.canonical().as_bytes());
        Submission { id: self.id(), body: self.body(&base64::engine::general_purpose::STANDARD.encode(tag)) }
    }

    /// Signed as the original Python SDK signs: HMAC over the SHA-256 of the canonical text.
    pub fn signed_like_sdk(&self) -> Submission {
        let tag = hmac(SECRET.as_bytes(), &Sha256::digest(self.canonical()));
        Submission { id: self.id(), body: self.body(&base64::engine::general_purpose::STANDARD.encode(tag)) }
    }
}

/// The n-th submission of a run.
pub fn submission(number: u64) -> Submission {
    Draft::accepted(number).signed()
}

#[test]
fn hmac_matches_rfc_4231() {
    let tag = hmac(b"Jefe", b"what do ya want for nothing?");
    assert_eq!(hex(&tag), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}
