//! Summaries as clients send them: rivals for one id that differ in what is signed, and what an answer says about
//! which of them won. The signing is written from the published form and shares nothing with the product.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Rivals that one tenant can have for one id.
pub const RIVALS: u64 = 30;
/// The tenants: two that compete for the same ids, and one with a small quota.
pub const TENANTS: [&str; 3] = ["t1", "t2", "t3"];

/// The HMAC key of a tenant in a run.
pub fn secret(tenant: usize) -> String {
    format!("jepsen secret of {}", TENANTS[tenant])
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0u8; 64];
    assert!(key.len() <= block.len(), "keys of this program are short");
    block[..key.len()].copy_from_slice(key);
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}

/// One of the rivals for an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rival {
    /// Whose it is, as a place in [`TENANTS`].
    pub tenant: usize,
    /// Which id: the same number is the same id for every tenant.
    pub number: u64,
    /// Which of the bodies under that id, below [`RIVALS`].
    pub rival: u64,
}

/// The id of the n-th summary.
pub fn id(number: u64) -> String {
    hex(&Sha256::digest(format!("{}|{number}|jepsen", root(number))))
}

fn root(number: u64) -> String {
    hex(&Sha256::digest(number.to_le_bytes()))
}

/// The key of a summary in a history.
pub fn key(tenant: usize, number: u64) -> String {
    format!("{}/{}", TENANTS[tenant], id(number))
}

/// Thousandths: a decimal that Python, Go and Rust print in the same way.
fn thousandths(value: u64) -> String {
    let text = format!("{}.{:03}", value / 1000, value % 1000);
    let short = text.trim_end_matches('0');
    if short.ends_with('.') { format!("{short}0") } else { short.to_owned() }
}

impl Rival {
    /// Name of this body: what a history holds in its place.
    pub fn label(&self) -> String {
        format!("{}.{}", TENANTS[self.tenant], self.rival)
    }

    /// The fraction r, in thousandths: a different one for each tenant and rival.
    fn r(&self) -> u64 {
        assert!(self.rival < RIVALS, "rivals have numbers below {RIVALS}");
        10 * (self.tenant as u64 * RIVALS + self.rival + 5)
    }

    /// The body as it is sent. Slope exactly 1 and coherent, so `sticky`; the budget is 0.10 + 0.30 (1 - r) + 0.20 * 0.75.
    pub fn body(&self) -> Vec<u8> {
        let (r, budget) = (self.r(), 550 - 3 * self.r() / 10);
        let (r, budget) = (thousandths(r), thousandths(budget));
        let (id, root, number) = (id(self.number), root(self.number), self.number);
        let canonical = format!(
            r#"{{"D_hat":1.0,"budget":{budget},"coh_star":0.75,"epoch":{number},"merkle_root":"{root}","pcs_id":"{id}","r":{r},"shard_id":"jepsen"}}"#
        );
        let signature = STANDARD.encode(hmac(secret(self.tenant).as_bytes(), canonical.as_bytes()));
        format!(
            r#"{{"pcs_id": "{id}", "schema": "fractal-lba-kakeya", "version": "0.1", "shard_id": "jepsen", "epoch": {number}, "attempt": 1, "sent_at": "2026-01-01T00:00:00Z", "seed": 42, "scales": [2, 4, 8, 16], "N_j": {{"2": 3, "4": 6, "8": 12, "16": 24}}, "coh_star": 0.75, "v_star": [0.6, 0.8, 0.0], "D_hat": 1.0, "r": {r}, "regime": "sticky", "budget": {budget}, "merkle_root": "{root}", "sig": "{signature}", "ft": {{"outbox_seq": 0, "degraded": false, "fallbacks": [], "clock_skew_ms": 0}}}}"#
        )
        .into_bytes()
    }
}

/// Which body an answer speaks of, and the place of its entry in the audit log: `t1.3@40`.
///
/// # Errors
/// What is wrong with the answer, if it is none to a summary of [`Rival::body`].
pub fn winner(answer: &[u8], id: &str) -> Result<String, String> {
    let answer: Value = serde_json::from_slice(answer).map_err(|error| format!("no JSON: {error}"))?;
    if answer["pcs_id"] != *id {
        return Err(format!("an answer about {} to a question about {id}", answer["pcs_id"]));
    }
    let budget = answer["budget"].as_f64().ok_or("an answer without a budget")?;
    let steps = 550.0 - budget * 1000.0;
    let r = (steps / 3.0).round();
    if (steps - 3.0 * r).abs() > 1e-6 || !(5.0..5.0 + (3 * RIVALS) as f64).contains(&r) {
        return Err(format!("nobody sent a budget of {budget}"));
    }
    let place = r as u64 - 5;
    let seq = answer["seq"].as_u64().ok_or("an answer without its place")?;
    Ok(format!("{}.{}@{seq}", TENANTS[(place / RIVALS) as usize], place % RIVALS))
}

/// The label in a value such as `t1.3@40`.
pub fn label(value: &str) -> &str {
    value.split_once('@').map_or(value, |(label, _)| label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_matches_rfc_4231() {
        let tag = hmac(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(hex(&tag), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn an_answer_names_its_winner() {
        for tenant in 0..TENANTS.len() {
            for rival in 0..RIVALS {
                let rival = Rival { tenant, number: 7, rival };
                let body: Value = serde_json::from_slice(&rival.body()).unwrap();
                let answer =
                    format!(r#"{{"pcs_id":{},"budget":{},"seq":40}}"#, body["pcs_id"], body["budget"]);
                assert_eq!(winner(answer.as_bytes(), &id(7)), Ok(format!("{}@40", rival.label())));
                assert_eq!(label(&format!("{}@40", rival.label())), rival.label());
            }
        }
    }

    #[test]
    fn a_stranger_is_no_winner() {
        let say = |id: &str, budget: &str| format!(r#"{{"pcs_id":"{id}","budget":{budget},"seq":1}}"#);
        for budget in ["0.55", "0.534", "0.2", "1.0"] {
            assert!(winner(say("a", budget).as_bytes(), "a").is_err(), "{budget}");
        }
        assert!(winner(say("b", "0.532").as_bytes(), "a").is_err());
        assert!(winner(b"{}", "a").is_err() && winner(b"", "a").is_err());
    }
}
