//! Submissions as a client would send them: unique, signed in our canonical form, about 900 bytes, and such that the
//! server accepts each with 200.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// How the submissions are signed.
#[derive(Clone)]
pub enum Signer {
    Hmac(Box<Hmac<Sha256>>),
    Ed25519(Box<SigningKey>),
    /// No signature, for the tenant whose key says that none is asked for.
    None,
}

impl Signer {
    pub fn hmac(secret: &[u8]) -> Signer {
        Signer::Hmac(Box::new(Hmac::new_from_slice(secret).expect("HMAC takes keys of any length")))
    }

    pub fn ed25519(seed: &[u8; 32]) -> Signer {
        Signer::Ed25519(Box::new(SigningKey::from_bytes(seed)))
    }

    fn sign(&self, canonical: &str) -> String {
        match self {
            Signer::Hmac(key) => {
                let mut mac = key.clone();
                mac.update(canonical.as_bytes());
                STANDARD.encode(mac.finalize().into_bytes())
            }
            Signer::Ed25519(key) => STANDARD.encode(key.sign(&Sha256::digest(canonical)).to_bytes()),
            Signer::None => String::new(),
        }
    }
}

/// Billionths, the unit of every signed float here, so that its text is exact.
type Nano = u64;

/// D_hat of the box counts below: the upper median slope.
const D_HAT: Nano = 866_733_469;
/// Body length that the fallbacks list is padded to.
const TARGET: usize = 900;

/// An endless supply of submissions, no two with the same id in one process tree: `shard` names the run.
pub struct Bodies {
    signer: Signer,
    shard: String,
    epoch: u64,
    merkle_root: String,
}

/// One submission.
pub struct Body {
    /// The derived id, 64 hex digits.
    pub id: String,
    pub json: Vec<u8>,
}

impl Bodies {
    /// `shard` has to be unique among the runs against one server.
    pub fn new(signer: Signer, shard: impl Into<String>) -> Bodies {
        let shard = shard.into();
        let merkle_root = hex(&Sha256::digest(shard.as_bytes()));
        Bodies { signer, shard, epoch: 0, merkle_root }
    }

    /// The next submission.
    pub fn body(&mut self) -> Body {
        self.epoch += 1;
        let Bodies { signer, shard, epoch, merkle_root } = self;
        let id = hex(&Sha256::digest(format!("{merkle_root}|{epoch}|{shard}")));
        // Vary what may vary: coherence in the sticky band, r below one, the budget that follows from both.
        let spread = epoch.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let coh_star: Nano = 700_000_000 + (spread >> 20) % 300_000_000;
        let r: Nano = 10_000_000 + (spread >> 30) % 980_000_000;
        let budget: Nano = 100_000_000 + (1_000_000_000 - r) * 3 / 10 + coh_star / 5;
        let nine = |v: Nano| format!("{}.{:09}", v / 1_000_000_000, v % 1_000_000_000);
        let canonical = format!(
            "{{\"D_hat\":{},\"budget\":{},\"coh_star\":{},\"epoch\":{epoch},\"merkle_root\":\"{merkle_root}\",\
             \"pcs_id\":\"{id}\",\"r\":{},\"shard_id\":\"{shard}\"}}",
            nine(D_HAT),
            nine(budget),
            nine(coh_star),
            nine(r)
        );
        let shortest = |v: Nano| v as f64 / 1e9;
        let mut json = format!(
            "{{\"pcs_id\":\"{id}\",\"schema\":\"fractal-lba-kakeya\",\"version\":\"0.1\",\"shard_id\":\"{shard}\",\
             \"epoch\":{epoch},\"attempt\":1,\"sent_at\":\"2026-01-01T00:00:00Z\",\"seed\":42,\
             \"scales\":[2,4,8,16,32],\"N_j\":{{\"2\":3,\"4\":5,\"8\":9,\"16\":17,\"32\":31}},\"coh_star\":{},\
             \"v_star\":[0.12024514865349823,0.9812470023218832,-0.011739960602344248],\"D_hat\":{},\"r\":{},\
             \"regime\":\"sticky\",\"budget\":{},\"merkle_root\":\"{merkle_root}\",\"sig\":\"{}\",\
             \"ft\":{{\"outbox_seq\":{epoch},\"degraded\":false,\"clock_skew_ms\":0,\"fallbacks\":[\"",
            shortest(coh_star),
            shortest(D_HAT),
            shortest(r),
            shortest(budget),
            signer.sign(&canonical)
        );
        let padding = TARGET.saturating_sub(json.len() + 4);
        let _ = write!(json, "{:x<padding$}\"]}}}}", "");
        Body { id, json: json.into_bytes() }
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]])
        .map(char::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_json_of_the_wanted_size_and_unique() {
        let mut bodies = Bodies::new(Signer::hmac(b"testsecret"), "bench-1");
        let mut ids = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            let body = bodies.body();
            let value: serde_json::Value = serde_json::from_slice(&body.json).unwrap();
            assert_eq!(value["pcs_id"], body.id);
            assert!((890..=910).contains(&body.json.len()), "{}", body.json.len());
            assert!(ids.insert(body.id));
        }
    }

    #[test]
    fn floats_read_back_as_signed() {
        let mut bodies = Bodies::new(Signer::None, "bench-2");
        for _ in 0..1000 {
            let value: serde_json::Value = serde_json::from_slice(&bodies.body().json).unwrap();
            for name in ["coh_star", "r", "budget", "D_hat"] {
                let v = value[name].as_f64().unwrap();
                assert_eq!(format!("{v:.9}").parse::<f64>().unwrap(), v, "{name}");
            }
        }
    }
}
