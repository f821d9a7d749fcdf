//! Receipts: the proof that a submission stands in the log, within the answer to it or later.
//!
//! What stands in an answer is made of what its own record added to the tree and the edge of the tree before it, under a
//! checkpoint over exactly the tree with that record. The first request of a record that wants one has the signature
//! made, all others of that record use the same; where nobody wants one, nothing is kept, hashed or signed.
//!
//! - I3 (replay-identical): all nodes of a group sign with one key, so a signature is only given to a tree that a quorum
//!   computed. [`Notary`] holds back what they have not confirmed yet.
//! - T1 (tree-append-only): the size of a tree at the end of a committed record determines its root. There are no other
//!   checkpoints, so no two of one size with different roots.

use crate::decision::{Settled, Stands};
use crate::fold::{Shared, Terms};
use crate::http::refusal::{Problem, Refusal};
use crate::node::Node;
use crate::projections::tiles::Published;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::checkpoint::{Checkpoint, Receipt, Signed, cose_receipt};
use engine::codec::json_text;
use engine::event::Event;
use engine::ledger::First;
use engine::log::{Digest, Lsn};
use engine::summary::PcsId;
use engine::tree::tiles::TileHashes;
use engine::tree::{Tree, Window, inclusion_proof};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// How long an answer may wait for its receipts: for other nodes to confirm what is to be signed, or for a checkpoint
/// over the first of its name.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How often the answer to a duplicate looks for that checkpoint.
const PAUSE: Duration = Duration::from_millis(5);

/// A leaf of the audit tree.
#[derive(Debug)]
pub struct Leaf {
    /// Its line, without a newline.
    pub line: Vec<u8>,
    /// Its hash.
    pub hash: Digest,
}

/// What one record added to the tree, kept as long as a request may want a receipt out of it.
pub struct Round {
    lsn: Lsn,
    events: Arc<Vec<Event>>,
    before: Tree,
    leaves: Vec<Leaf>,
    /// `None` where the seed of the key that has to sign cannot be had.
    signed: OnceLock<Option<(Window, Vec<u8>)>>,
}

impl std::fmt::Debug for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Bodies and salts are nobody's business.
        f.debug_struct("Round").field("lsn", &self.lsn).field("leaves", &self.leaves.len()).finish()
    }
}

impl Round {
    /// What the record `lsn` of these events added to the tree `before`.
    pub fn new(lsn: Lsn, events: Arc<Vec<Event>>, before: Tree, leaves: Vec<Leaf>) -> Round {
        Round { lsn, events, before, leaves, signed: OnceLock::new() }
    }

    /// The receipt of the submission at place `nth` of the record, whose leaf is number `seq`.
    /// `witnesses` is what it says of them: of a checkpoint that was signed just now nobody else knows.
    fn receipt(&self, fold: &Shared, witnesses: &str, nth: u32, seq: u64) -> Option<Receipt> {
        let Some(Event::Received(envelope)) = self.events.get(nth as usize) else { return None };
        let at = usize::try_from(seq.checked_sub(self.before.size())?).ok()?;
        let extra = extra(&self.leaves.get(at)?.line, &envelope.salt, witnesses);
        // Whoever else wants it waits for these microseconds: signing twice would take as long.
        let signed = self.signed.get_or_init(|| {
            let window = Window::new(&self.before, self.leaves.iter().map(|leaf| leaf.hash));
            let (size, root) = (window.tree().size(), window.tree().root());
            let now_ms = fold.core().ledger.log_time_ms();
            let signers = fold.signers.load();
            let head = Checkpoint { origin: fold.terms.origin.clone(), size, root };
            Some((window, head.sign_by(&signers.of(size, now_ms).ok()?)))
        });
        let (window, note) = signed.as_ref()?;
        let path = window.path(seq).ok()?;
        Some(Receipt { extra: Some(extra), index: seq, path, checkpoint: note.clone() })
    }
}

/// What opens a leaf for its owner: the line, and the salt of its commitment; beside it how many of the known witnesses
/// stand under the checkpoint, as `k/n`. No signature covers it.
fn extra(line: &[u8], salt: &[u8; 16], witnesses: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len() + line.len() / 8 + 64);
    out.extend_from_slice(b"{\"leaf\":\"");
    json_text(&mut out, line);
    out.extend_from_slice(b"\",\"salt\":\"");
    out.extend_from_slice(STANDARD.encode(salt).as_bytes());
    out.extend_from_slice(b"\",\"witnesses\":\"");
    out.extend_from_slice(witnesses.as_bytes());
    out.extend_from_slice(b"\"}");
    out
}

/// The same for a leaf that everybody may see and that nothing opens.
pub fn entry_extra(line: &[u8]) -> Vec<u8> {
    let mut out = b"{\"leaf\":\"".to_vec();
    json_text(&mut out, line);
    out.extend_from_slice(b"\"}");
    out
}

/// What may be signed: everything, for a group of one; for others what a quorum computed, too.
#[derive(Debug)]
pub struct Notary {
    quorum: AtomicBool,
    /// The newest record that somebody waits for.
    wanted: AtomicU64,
    due: Notify,
    /// The newest record after which a quorum computed the same tree. Committed records never change, so this stays
    /// true whoever leads.
    confirmed: watch::Sender<Lsn>,
}

impl Default for Notary {
    fn default() -> Notary {
        Notary {
            quorum: AtomicBool::new(false),
            wanted: AtomicU64::new(0),
            due: Notify::new(),
            confirmed: watch::Sender::new(Lsn::ZERO),
        }
    }
}

impl Notary {
    /// From now on nothing is signed that a quorum has not confirmed; whoever calls [`Notary::to_confirm`] asks them.
    pub fn want_quorum(&self) {
        self.quorum.store(true, Ordering::Release);
    }

    /// Waits until the tree after a record may be signed; `false` if the others have not said so by `end`.
    async fn may_sign(&self, lsn: Lsn, end: Instant) -> bool {
        if !self.quorum.load(Ordering::Acquire) {
            return true;
        }
        let mut confirmed = self.confirmed.subscribe();
        if self.wanted.fetch_max(lsn.0, Ordering::Relaxed) < lsn.0 {
            self.due.notify_one();
        }
        let enough = confirmed.wait_for(|upto| *upto >= lsn);
        matches!(tokio::time::timeout_at(end, enough).await, Ok(Ok(_)))
    }

    /// Waits until somebody wants a record confirmed that is not.
    pub async fn to_confirm(&self) -> Lsn {
        loop {
            let wanted = Lsn(self.wanted.load(Ordering::Relaxed));
            if wanted > *self.confirmed.borrow() {
                return wanted;
            }
            self.due.notified().await;
        }
    }

    /// A quorum computed the same as this node after this record, and so after all before it.
    pub fn confirmed(&self, upto: Lsn) {
        self.confirmed.send_if_modified(|known| {
            let newer = upto > *known;
            *known = upto.max(*known);
            newer
        });
    }
}

/// Puts the receipt into an answer, as its last member `tlog_proof`. The submission is recorded with or without one: if
/// there is none by `end`, the member `tlog_proof_missing` says why, and the address in `receipt` has it later. Says
/// whether it is there.
pub async fn attach(node: &Arc<Node>, settled: &mut Settled, end: Instant) -> bool {
    let made = match &settled.stands {
        Stands::Now { round: Some(round), nth, seq } => match node.fold.notary.may_sign(round.lsn, end).await
        {
            true => {
                let witnesses = node.anchors.none();
                let made = round.receipt(&node.fold, &witnesses, *nth, *seq);
                made.ok_or("the server could not make it")
            }
            false => Err("the other nodes have not confirmed it in time"),
        },
        Stands::Now { round: None, .. } => Err("the server could not make it"),
        Stands::Before(first) => earlier(node, first, end).await,
    };
    add(node, settled, made)
}

/// Says in an answer why it has no receipt.
pub fn decline(node: &Node, settled: &mut Settled, why: &'static str) {
    add(node, settled, Err(why));
}

fn add(node: &Node, settled: &mut Settled, made: Result<Receipt, &'static str>) -> bool {
    let answer = settled.body.trim_ascii_end().strip_suffix(b"}").unwrap_or_default();
    // An ordinary receipt needs some three thousand bytes.
    let mut body = Vec::with_capacity(answer.len() + 4096);
    body.extend_from_slice(answer);
    match &made {
        Ok(receipt) => {
            node.metrics.receipts.inc();
            body.extend_from_slice(b",\"tlog_proof\":\"");
            receipt.encode_json(&mut body);
        }
        Err(why) => {
            node.metrics.receipts_missing.inc();
            body.extend_from_slice(b",\"tlog_proof_missing\":\"");
            json_text(&mut body, why.as_bytes());
        }
    }
    body.extend_from_slice(b"\"}\n");
    settled.body = body.into();
    made.is_ok()
}

/// The receipt of the first submission of a name, under the published checkpoint: there is one soon.
async fn earlier(node: &Arc<Node>, first: &First, end: Instant) -> Result<Receipt, &'static str> {
    if first.origin() != 0 {
        return Err("the first submission stands in the log of another region");
    }
    while published_over(node, first).is_none() {
        if Instant::now() >= end {
            return Err("no checkpoint covers the record yet");
        }
        tokio::time::sleep(PAUSE).await;
    }
    of_first(node, first).await.map_err(|_| "the server could not make it")
}

fn published_over(node: &Node, first: &First) -> Option<Published> {
    node.fold.projector.tiles().published().filter(|published| published.size > first.seq)
}

/// The receipt of a submission under the published checkpoint, or under the one over it that has most cosignatures.
///
/// # Errors
/// 503 while no checkpoint covers it, 500 when files or the log cannot be read.
pub async fn of_first(node: &Arc<Node>, first: &First) -> Result<Receipt, Problem> {
    let Some(published) = published_over(node, first) else {
        let soon = "no checkpoint covers the record yet";
        return Err(Problem::from(Refusal::LogUnavailable).detail(soon).retry_after(1));
    };
    let (published, witnesses) = node.anchors.best(published, first.seq);
    let envelope = node.envelope(first).await.map_err(|problem| *problem)?;
    let (reader, seq) = (node.clone(), first.seq);
    let made = tokio::task::spawn_blocking(move || build(&reader, seq, published)).await;
    let made = made.unwrap_or_else(|error| Err(error.to_string()));
    let (line, mut receipt) = made.map_err(|error| {
        tracing::error!(error, seq, "a receipt cannot be made");
        Problem::from(Refusal::Internal)
    })?;
    receipt.extra = Some(extra(&line, &envelope.salt, &witnesses));
    Ok(receipt)
}

/// The same receipt as RFC 9942 writes it, without what opens the leaf.
///
/// # Errors
/// 500 when the published checkpoint is not this log's.
pub fn cose(receipt: &Receipt, id: &PcsId, fold: &Shared) -> Result<Vec<u8>, Problem> {
    let terms: &Terms = &fold.terms;
    let signed = Signed::parse(&receipt.checkpoint).ok();
    let Some(signed) = signed.filter(|signed| signed.checkpoint.origin == terms.origin) else {
        return Err(Refusal::Internal.into());
    };
    let subject = id.to_string();
    let signers = fold.signers.load();
    // There is one signature in it, so it is that of the key which must have signed.
    let signer = signers.main(signed.checkpoint.size).map_err(|why| {
        tracing::error!(why, "a receipt cannot be signed");
        Problem::from(Refusal::Internal)
    })?;
    Ok(cose_receipt(&signed.checkpoint, receipt.index, &receipt.path, &subject, signer))
}

/// The leaf, and its receipt without what opens it.
fn build(node: &Node, seq: u64, published: Published) -> Result<(Vec<u8>, Receipt), String> {
    let tiles = node.fold.projector.tiles();
    let mut hashes = TileHashes::new(published.size, |tile| tiles.bytes(tile));
    let path = inclusion_proof(seq, published.size, &mut hashes).map_err(|error| error.to_string())?;
    let leaves = node.fold.projector.leaves(seq, seq + 1).map_err(|error| error.to_string())?;
    let leaf = leaves.into_iter().next().ok_or("the leaf is not there")?;
    Ok((leaf, Receipt { extra: None, index: seq, path, checkpoint: published.note }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_opens_a_leaf_is_json_that_gives_it_back() {
        let line = br#"{"a":"b\\c","d":1}"#;
        let made: serde_json::Value = serde_json::from_slice(&extra(line, &[7; 16], "0/3")).unwrap();
        assert_eq!(made["witnesses"], "0/3");
        assert_eq!(made["leaf"].as_str().unwrap().as_bytes(), line);
        assert_eq!(STANDARD.decode(made["salt"].as_str().unwrap()).unwrap(), [7; 16]);
    }

    #[tokio::test]
    async fn nothing_is_signed_before_a_quorum_confirmed_it() {
        let notary = Notary::default();
        let may_sign = async |lsn| notary.may_sign(Lsn(lsn), Instant::now() + PAUSE).await;
        assert!(may_sign(9).await, "a group of one has nobody to ask");
        notary.want_quorum();
        assert!(!may_sign(9).await, "nobody answered");
        assert_eq!(notary.to_confirm().await, Lsn(9));
        notary.confirmed(Lsn(8));
        assert!(!may_sign(9).await);
        let patient = notary.may_sign(Lsn(9), Instant::now() + 100 * PATIENCE);
        let (may, ()) = tokio::join!(patient, async { notary.confirmed(Lsn(12)) });
        assert!(may && may_sign(12).await);
        notary.confirmed(Lsn(3));
        assert!(may_sign(12).await, "what was confirmed stays so");
    }
}
