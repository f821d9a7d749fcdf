//! OpenTimestamps calendars: a digest is posted and comes back with a promise; hours later the calendar gives the way from
//! it to a block of Bitcoin.
//!
//! ```text
//! POST /digest              32 bytes                    a stamp over them (docs of python-opentimestamps)
//! GET /timestamp/HEX        the message of a promise    200 the stamp on from there, 404 not yet
//! ```
//! What is posted is SHA-256(digest of the note || 16 random bytes), as other clients do, so that calendars learn nothing.
//! Calendars are asked at the addresses of the settings and at no others, whatever an answer names. A block is believed by
//! whoever looks it up: here is only checked that what is kept leads from our digest to it.

use super::lane::Failure;
use super::targets::{Target, Way};
use super::{follow, work};
use crate::node::Node;
use crate::outbound::{Ask, Outbound, Told, Url};
use engine::checkpoint::Signed;
use engine::event::{Anchored, Event};
use engine::log::{Digest, Lsn};
use engine::ots::{Attestation, Item, Op, Proof, Stamp};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::time::Duration;

/// Longest answer of a calendar, bytes: what other clients take.
const ANSWER_MAX: usize = 10_000;
/// How long a calendar may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Promises that are asked about in one round.
const ROUND: usize = 16;

/// Calendars of one target.
#[derive(Clone, Debug)]
pub struct Calendars {
    /// Their addresses as they stand in promises, and where they are asked.
    pub list: Vec<(String, Url)>,
    /// How many have to answer.
    pub need: usize,
    /// How often promises are asked about.
    pub upgrade: Duration,
}

fn failure(told: &Told) -> Failure {
    match told.status {
        429 | 500..=599 => {
            let wait = told.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
            Failure::Later(told.line(), wait)
        }
        _ => Failure::Refused(told.line()),
    }
}

/// Posts the digest of a note to all calendars; gives the file.
///
/// # Errors
/// [`Failure`] of a calendar, if too few of them answer.
pub async fn stamp(
    out: &Outbound,
    calendars: &Calendars,
    note: &[u8],
    nonce: [u8; 16],
) -> Result<Vec<u8>, Failure> {
    let digest: [u8; 32] = Sha256::digest(note).into();
    let posted: [u8; 32] = Sha256::digest([&digest[..], &nonce].concat()).into();
    let mut merged = Stamp::default();
    let (mut promised, mut last) = (0, None);
    for (_, url) in &calendars.list {
        match post(out, url, posted).await {
            Ok(stamp) => {
                promised += 1;
                merged.merge(stamp);
            }
            Err(failure) => last = Some(failure),
        }
    }
    if promised < calendars.need.max(1) {
        return Err(last.unwrap_or(Failure::Refused("there is no calendar".into())));
    }
    let hashed = Stamp(vec![Item::Leads(Op::Sha256, merged)]);
    let stamp = Stamp(vec![Item::Leads(Op::Append(nonce.to_vec()), hashed)]);
    whole(&Proof { digest, stamp })
}

/// The bytes of a proof, if it is one that everybody reads.
fn whole(proof: &Proof) -> Result<Vec<u8>, Failure> {
    let bytes = proof.encode();
    match Proof::parse(&bytes) {
        Ok(read) if read == *proof => Ok(bytes),
        Ok(_) => Err(Failure::Refused("the answers of the calendars make no proof".into())),
        Err(error) => Err(Failure::Refused(format!("the answers of the calendars make no proof: {error}"))),
    }
}

async fn post(out: &Outbound, url: &Url, digest: [u8; 32]) -> Result<Stamp, Failure> {
    let ask = Ask {
        path: "/digest".into(),
        media: "application/octet-stream",
        accept: "application/vnd.opentimestamps.v1",
        body: digest.to_vec(),
        max: ANSWER_MAX,
    };
    let told = out.post(url, ask, PATIENCE).await.map_err(|why| Failure::Later(why, None))?;
    match told.status {
        200 => answer(&told.body, &digest),
        _ => Err(failure(&told)),
    }
}

/// What a calendar says of a message.
fn answer(body: &[u8], message: &[u8]) -> Result<Stamp, Failure> {
    Stamp::parse(body, message).map_err(|error| Failure::Refused(format!("its answer is no stamp: {error}")))
}

/// Asks the calendars about the promises in a proof. The proof with what they gave, if it now leads to a block.
async fn upgrade(
    out: &Outbound,
    calendars: &Calendars,
    mut proof: Proof,
) -> Result<Option<Vec<u8>>, Failure> {
    let mut last = None;
    for (message, attestation) in proof.attestations() {
        let Attestation::Pending(uri) = attestation else { continue };
        let Some((_, url)) = calendars.list.iter().find(|(known, _)| *known == uri.trim_end_matches('/'))
        else {
            continue;
        };
        let hex: String = message.iter().map(|byte| format!("{byte:02x}")).collect();
        match out.get(url, &format!("/timestamp/{hex}"), ANSWER_MAX, PATIENCE).await {
            Ok(told) if told.status == 200 => {
                let stamp = answer(&told.body, &message)?;
                let digest = proof.digest;
                proof.stamp.merge_at(&digest, &message, &stamp);
                if proof.is_complete() {
                    return whole(&proof).map(Some);
                }
            }
            Ok(told) if told.status == 404 => {}
            Ok(told) => last = Some(failure(&told)),
            Err(why) => last = Some(Failure::Later(why, None)),
        }
    }
    last.map_or(Ok(None), Err)
}

/// Asks about what was promised to this target, again and again, while this node leads.
pub async fn run(node: Arc<Node>, nth: usize) {
    let target = &node.anchors.targets[nth];
    let Way::Calendars(calendars) = &target.way else { return };
    loop {
        tokio::time::sleep(calendars.upgrade).await;
        if !node.leads() || !node.anchors.is_ready() {
            continue;
        }
        for lsn in node.anchors.promised(&target.name, ROUND) {
            if let Err(failure) = one(&node, target, calendars, lsn).await {
                tracing::info!(
                    target = target.name,
                    why = failure.why(),
                    "a promised stamp is not there yet"
                );
            }
        }
    }
}

/// The promise in this record.
async fn one(node: &Arc<Node>, target: &Target, calendars: &Calendars, lsn: Lsn) -> Result<(), Failure> {
    let later = |error: std::io::Error| Failure::Later(error.to_string(), None);
    for (_, _, record) in node.group.read_range(lsn, lsn.next()).await.map_err(later)? {
        for event in follow::said(&record).map_err(later)? {
            let Event::Anchored(anchored) = event else { continue };
            if anchored.kind != target.kind() || anchored.target != target.name {
                continue;
            }
            let Some(proof) = sound(&anchored).filter(|proof| !proof.is_complete()) else { continue };
            if let Some(evidence) = upgrade(&node.anchors.outbound, calendars, proof).await? {
                work::log(node, target, anchored.note, evidence).await?;
            }
        }
    }
    Ok(())
}

/// The proof in an event, if it is about the event's checkpoint.
pub fn sound(anchored: &Anchored) -> Option<Proof> {
    let proof = Proof::parse(&anchored.evidence).ok()?;
    let digest: [u8; 32] = Sha256::digest(&anchored.note).into();
    (proof.digest == digest && Signed::parse(&anchored.note).is_ok()).then_some(proof)
}

/// The first block that a proof names: its height, and its Merkle root as block explorers show it.
pub fn block(proof: &Proof) -> Option<(u64, String)> {
    let blocks = proof.attestations().into_iter().filter_map(|(message, one)| match one {
        Attestation::Bitcoin(height) => {
            let mut root: [u8; 32] = message.try_into().ok()?;
            root.reverse();
            Some((height, Digest(root).to_string()))
        }
        _ => None,
    });
    blocks.min()
}
