//! Receipts: fetched from a server, and held against what was sent, the entry they prove and the log's public key.
//!
//! A receipt holds if its entry leads to the root of its checkpoint, the checkpoint is signed by the log's key, and the
//! entry is about the summary that was sent: its id, its tenant, its bytes (by the salted hash in the entry) and the
//! outcome that the server answered. Without a key the signature is not looked at, and nothing is called proved.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use engine::checkpoint::{Held as Keys, LogKeys, Receipt, Signed};
use engine::leaf::{Leaf, Pcs, What, outcome_name};
use engine::tree::{leaf_hash, verify_inclusion};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::agent::send::retry_after;
use crate::http::Client;
use crate::report::Fault;

/// How long a receipt is waited for: it exists when the next checkpoint is signed.
const WAIT: Duration = Duration::from_secs(10);

/// What was sent, and what the server answered.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// For which tenant.
    pub tenant: &'a str,
    /// The summary's id, 64 hex digits.
    pub pcs_id: &'a str,
    /// The body, byte for byte, if it is at hand.
    pub body: Option<&'a [u8]>,
    /// `accepted`, `escalated` or `rejected`, if the server's answer is at hand.
    pub outcome: Option<&'a str>,
    /// Whether the server said that these bytes were the first under their id.
    pub first: bool,
}

/// A receipt that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Number of the entry.
    pub index: u64,
    /// Entries under the checkpoint.
    pub size: u64,
    /// Whether the entry holds exactly the bytes that were sent; if not, others under the same id were first.
    pub same_bytes: bool,
}

/// Checks a receipt as a server gives it; without `verifier` everything but the checkpoint's signature.
///
/// # Errors
/// What does not hold, as a sentence.
pub fn check(bytes: &[u8], verifier: Option<&LogKeys>, sent: Sent<'_>) -> Result<Held, String> {
    let receipt = Receipt::parse(bytes).map_err(|error| format!("what came is no receipt: {error}"))?;
    let extra: Value = serde_json::from_slice(receipt.extra.as_deref().unwrap_or_default())
        .map_err(|_| "the receipt does not carry its entry".to_owned())?;
    let line = extra["leaf"].as_str().ok_or("the receipt does not carry its entry")?;
    let signed = proves(&receipt, line.as_bytes(), verifier)?;
    let leaf = Leaf::parse(line.as_bytes()).map_err(|_| "the entry is no audit leaf".to_owned())?;
    let What::Pcs(pcs) = &leaf.what else { return Err("the entry is not a summary's".into()) };
    let same_bytes = about(pcs, &extra, sent)?;
    Ok(Held { index: receipt.index, size: signed.checkpoint.size, same_bytes })
}

/// That the entry stands under the receipt's checkpoint, and the checkpoint is the log's.
///
/// # Errors
/// What does not hold, as a sentence.
pub fn proves(receipt: &Receipt, entry: &[u8], verifier: Option<&LogKeys>) -> Result<Signed, String> {
    let signed = Signed::parse(&receipt.checkpoint)
        .map_err(|error| format!("the receipt's checkpoint is malformed: {error}"))?;
    if let Some(verifier) = verifier {
        verifier.verify(&signed).map_err(|error| {
            format!("the checkpoint of {} is not signed by the given key: {error}", signed.checkpoint.origin)
        })?;
    }
    let (size, root) = (signed.checkpoint.size, &signed.checkpoint.root);
    verify_inclusion(&leaf_hash(entry), receipt.index, size, &receipt.path, root).map_err(|_| {
        format!("entry {} does not lead to the root of the checkpoint over {size}", receipt.index)
    })?;
    Ok(signed)
}

/// The keys whose lines verified, for people: `5aac1b84 (Ed25519) and 0a1b2c3d (ML-DSA-44)`.
#[must_use]
pub fn signers(keys: &Keys<'_>) -> String {
    let names = keys.spoke.iter().map(|key| format!("{:08x} ({})", key.key_id(), key.algorithm()));
    let names: Vec<String> = names.collect();
    names.join(" and ")
}

fn about(pcs: &Pcs<'_>, extra: &Value, sent: Sent<'_>) -> Result<bool, String> {
    if pcs.pcs_id.to_string() != sent.pcs_id || pcs.tenant.as_str() != sent.tenant {
        return Err(format!("it proves summary {} of tenant {}, not the one sent", pcs.pcs_id, pcs.tenant));
    }
    let entry = outcome_name(pcs.accepted, pcs.escalated);
    if let Some(answer) = sent.outcome.filter(|answer| *answer != entry) {
        return Err(format!("the answer said {answer}, the entry says {entry}"));
    }
    let Some(body) = sent.body else { return Ok(false) };
    let salt = BASE64.decode(extra["salt"].as_str().unwrap_or_default()).unwrap_or_default();
    let commitment: [u8; 32] = Sha256::new().chain_update(&salt).chain_update(body).finalize().into();
    let same = commitment == pcs.commitment.0;
    if sent.first && !same {
        return Err("the entry does not hold the bytes that were sent".into());
    }
    Ok(same)
}

/// Fetches the receipt at `path`, waiting for the checkpoint that covers its entry.
///
/// # Errors
/// Why there is none, as a sentence.
pub fn fetch(client: &mut Client, tenant: &str, path: &str) -> Result<Vec<u8>, String> {
    let path = path.find("/v1/").map_or(path, |at| &path[at..]);
    let start = Instant::now();
    loop {
        let answer = client
            .request("GET", path, &[("x-tenant-id", tenant)], &[])
            .map_err(|error| error.to_string())?;
        match answer.status {
            200 => return Ok(answer.body),
            503 if start.elapsed() < WAIT => {
                let wait = retry_after(&answer).unwrap_or(Duration::from_secs(1));
                std::thread::sleep(wait.clamp(Duration::from_millis(100), Duration::from_secs(2)));
            }
            status => return Err(format!("the server answered {status} for {path}")),
        }
    }
}

/// Writes a receipt into `folder`, which is made if need be, and gives the file's name.
///
/// # Errors
/// The file system refuses.
pub fn save(folder: &Path, pcs_id: &str, bytes: &[u8]) -> Result<PathBuf, Fault> {
    let file = folder.join(format!("{pcs_id}.tlog-proof"));
    std::fs::create_dir_all(folder).map_err(|error| Fault::write(folder, error))?;
    std::fs::write(&file, bytes).map_err(|error| Fault::write(&file, error))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use engine::tree::{MemHashes, inclusion_proof};
    use serde_json::json;

    use super::*;
    use crate::world::World;

    /// A receipt of submission 1 as a server gives it, its id and its body.
    fn receipt(world: &World) -> (Receipt, String, Vec<u8>) {
        let body = world.body(1);
        let id = engine::summary::parse(&body).unwrap().pcs_id.to_string();
        let needle = format!("\"pcs_id\":\"{id}\"");
        let text = |leaf: &[u8]| String::from_utf8(leaf.to_vec()).unwrap();
        let index = world.leaves.iter().position(|(_, leaf)| text(leaf).contains(&needle)).unwrap();
        let mut hashes = MemHashes::default();
        let signed = Signed::parse(&world.checkpoint).unwrap();
        for (_, leaf) in &world.leaves[..signed.checkpoint.size as usize] {
            hashes.append(leaf_hash(leaf));
        }
        let path = inclusion_proof(index as u64, signed.checkpoint.size, &mut hashes).unwrap();
        let extra = json!({"leaf": text(&world.leaves[index].1), "salt": BASE64.encode([2; 16])});
        let extra = Some(extra.to_string().into_bytes());
        (Receipt { extra, index: index as u64, path, checkpoint: world.checkpoint.clone() }, id, body)
    }

    #[test]
    fn a_receipt_holds_for_what_was_sent_and_for_nothing_else() {
        let world = World::busy(20);
        let (good, id, body) = receipt(&world);
        let key = LogKeys::parse(&world.signer.vkeys()).unwrap();
        let sent =
            Sent { tenant: "demo", pcs_id: &id, body: Some(&body), outcome: Some("accepted"), first: true };
        let held = check(&good.encode(), Some(&key), sent).unwrap();
        assert!(held.same_bytes && held.index == good.index && held.size > 20, "{held:?}");
        let other_bytes = Sent { body: Some(b"{}"), first: false, ..sent };
        assert!(!check(&good.encode(), Some(&key), other_bytes).unwrap().same_bytes);

        let other = "0".repeat(64);
        let why = |receipt: &Receipt, sent| check(&receipt.encode(), Some(&key), sent).unwrap_err();
        assert!(why(&good, Sent { first: true, ..other_bytes }).contains("does not hold the bytes"));
        assert!(why(&good, Sent { outcome: Some("rejected"), ..sent }).contains("said rejected"));
        assert!(why(&good, Sent { tenant: "other", ..sent }).contains("not the one sent"));
        assert!(why(&good, Sent { pcs_id: &other, ..sent }).contains("not the one sent"));
        assert!(why(&Receipt { extra: None, ..good.clone() }, sent).contains("does not carry"));
        let mut bent = good.clone();
        bent.path[0].0[5] ^= 1;
        assert!(why(&bent, sent).contains("does not lead to the root"));
        assert!(why(&Receipt { index: good.index ^ 1, ..good.clone() }, sent).contains("does not lead"));
        let text = String::from_utf8(good.extra.clone().unwrap()).unwrap().replace("accepted", "rejected");
        assert!(
            why(&Receipt { extra: Some(text.into_bytes()), ..good.clone() }, sent).contains("does not lead")
        );
        assert!(check(b"x", Some(&key), sent).unwrap_err().contains("no receipt"));

        let stranger =
            engine::checkpoint::Signer::new(world.signer.name(), &[1; 32]).unwrap().verifier().into();
        let unknown = check(&good.encode(), Some(&stranger), sent).unwrap_err();
        assert!(unknown.contains("not signed by the given key"), "{unknown}");
        assert!(check(&good.encode(), None, sent).is_ok(), "without a key the signature is not looked at");
    }
}
