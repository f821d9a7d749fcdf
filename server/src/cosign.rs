//! This node's group as a witness of other logs (C2SP tlog-witness v1.0.0), with a key of its own.
//!
//! What we cosigned of a log is a `Witnessed` event of ours: compare-and-swap on the size is the order of our log. A
//! request is checked against what stands, its event is proposed, and only when the event is agreed, durable on a quorum
//! and folded, and is the one that stands, is the cosignature made. So a crash between the two leaves a size that is
//! known and a signature that nobody has; a node that has lost the lead cannot sign, because its event is not agreed;
//! and of two requests that begin at the same size one is signed.

use crate::config::Config;
use crate::keys::{self, KeyError};
use crate::node::Node;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::checkpoint::{Cosigner, NoteError, Signed, TrustPolicy, Verifier};
use engine::event::{Event, Witnessed};
use engine::limits::{NOTE_MAX, TIME_MAX_MS};
use engine::log::Digest;
use engine::tree::{EMPTY_ROOT, verify_consistency};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::Mutex;

/// Most hashes in a request: the protocol's bound.
const PROOF_MAX: usize = 63;
/// Longest request, bytes.
pub const REQUEST_MAX: usize = 64 + PROOF_MAX * 45 + NOTE_MAX;
/// How long a request may wait for its turn and for the group.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why this node is no witness although it is to be one.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CosignError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("{path}: {why}")]
    Logs { path: PathBuf, why: String },
    #[error("the witness's name: {0}")]
    Name(NoteError),
    #[error(
        "keys.log_key_file and witness.key_file hold the same key: a witness signs with a key of its own"
    )]
    SameKey,
}

/// What a request comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The cosignature's line.
    Cosigned(String),
    /// Not a request.
    Malformed(&'static str),
    /// Not a log of ours to watch.
    Unknown,
    /// Not signed by the log.
    Unsigned,
    /// This size stands.
    Conflict(u64),
    /// It does not continue what stands.
    Inconsistent,
    /// Nothing can be agreed now.
    Later(String),
}

/// The witness.
pub struct Cosigning {
    cosigner: Cosigner,
    logs: Vec<Verifier>,
    /// One request at a time: each waits for a record of the log anyway.
    turn: Mutex<()>,
}

impl Cosigning {
    /// Reads the settings; `None` if this node is nobody's witness. Where a group is joined the key comes from a member.
    ///
    /// # Errors
    /// [`CosignError`], naming the file.
    pub fn open(config: &Config) -> Result<Option<Cosigning>, CosignError> {
        let Some(path) = &config.witness_logs else { return Ok(None) };
        let wrong = |why: String| CosignError::Logs { path: path.clone(), why };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let policy = TrustPolicy::parse(&text).map_err(|error| wrong(error.to_string()))?;
        if policy.logs.is_empty() {
            return Err(wrong("it names no log".into()));
        }
        let may_create = match (config.cluster_join.is_empty(), config.create_keys) {
            (false, _) => Err("all nodes of a group sign with one witness key: copy it from a member"),
            (true, false) => Err("keys.create is false"),
            (true, true) => Ok(()),
        };
        let seed = keys::load_or_create(&config.witness_key_path(), may_create)?;
        let log = keys::load_or_create(&config.log_key_path(), Err("it is made before this"))?;
        if *seed == *log {
            return Err(CosignError::SameKey);
        }
        let cosigner = Cosigner::new(&config.witness_name(), &seed).map_err(CosignError::Name)?;
        let logs = policy.logs.into_iter().map(|known| known.verifier).collect();
        Ok(Some(Cosigning { cosigner, logs, turn: Mutex::new(()) }))
    }

    /// The public key, as other people's policies name it.
    pub fn vkey(&self) -> String {
        self.cosigner.witness().vkey()
    }

    /// Which logs are watched.
    pub fn logs(&self) -> usize {
        self.logs.len()
    }

    /// Answers a request on the node that leads.
    pub async fn answer(&self, node: &Node, request: &[u8]) -> Answer {
        let (old, proof, note) = match parse(request) {
            Ok(parts) => parts,
            Err(why) => return Answer::Malformed(why),
        };
        let Ok(signed) = Signed::parse(note) else {
            return Answer::Malformed("that is no signed checkpoint");
        };
        if let Err(answer) = self.is_of_a_log(&signed) {
            return answer;
        }
        match tokio::time::timeout(PATIENCE, self.in_turn(node, old, &proof, note, &signed)).await {
            Ok(answer) => answer,
            Err(_) => Answer::Later("the group did not agree in time".into()),
        }
    }

    fn is_of_a_log(&self, signed: &Signed) -> Result<(), Answer> {
        let mut known = self.logs.iter().filter(|log| log.name() == signed.checkpoint.origin).peekable();
        if known.peek().is_none() {
            return Err(Answer::Unknown);
        }
        if known.any(|log| signed.verify(log).is_ok()) { Ok(()) } else { Err(Answer::Unsigned) }
    }

    async fn in_turn(&self, node: &Node, old: u64, proof: &[Digest], note: &[u8], signed: &Signed) -> Answer {
        let _turn = self.turn.lock().await;
        let checkpoint = &signed.checkpoint;
        if old > checkpoint.size {
            return Answer::Malformed("the old size is above that of the checkpoint");
        }
        if !node.anchors.is_ready() {
            return Answer::Later("the log is read for what was cosigned".into());
        }
        let stands = node.anchors.seen(&checkpoint.origin);
        let (size, root) = match &stands {
            Some(seen) => (seen.size, seen.root.clone()),
            None => (0, EMPTY_ROOT.to_string()),
        };
        if old != size {
            return Answer::Conflict(size);
        }
        if old == checkpoint.size && root != checkpoint.root.to_string() {
            return if stands.is_some() { Answer::Conflict(size) } else { Answer::Inconsistent };
        }
        let Some(old_root) = engine::codec::unhex(&root).map(Digest) else {
            return Answer::Later("what stands for this log cannot be read".into());
        };
        if verify_consistency(old, checkpoint.size, proof, &old_root, &checkpoint.root).is_err() {
            tracing::warn!(
                origin = checkpoint.origin,
                old,
                size = checkpoint.size,
                "a log we watch does not continue its history; its signed checkpoint is in the request"
            );
            return Answer::Inconsistent;
        }
        let at_ms = node.clock.wall_ms().min(TIME_MAX_MS);
        let event = Event::Witnessed(Witnessed { at_ms, old, note: note.to_vec() });
        let lsn = match node.log_anchor(event).await {
            Ok(lsn) => lsn,
            Err(why) => return Answer::Later(why),
        };
        match node.anchors.seen(&checkpoint.origin) {
            // Ours is what stands: it is agreed, and nothing has taken its place.
            Some(seen) if seen.lsn == lsn.0 && seen.root == checkpoint.root.to_string() => {
                assert_eq!(seen.size, checkpoint.size, "T1: a root has one size");
                let now_s = node.clock.wall_ms() / 1000;
                Answer::Cosigned(self.cosigner.cosign(&checkpoint.text(), now_s).line())
            }
            Some(seen) => Answer::Conflict(seen.size),
            None => Answer::Conflict(0),
        }
    }
}

/// Takes a request apart: the old size, the hashes, the checkpoint.
fn parse(request: &[u8]) -> Result<(u64, Vec<Digest>, &[u8]), &'static str> {
    let text = std::str::from_utf8(request).map_err(|_| "that is no text")?;
    let (head, note) = text.split_once("\n\n").ok_or("there is no empty line before the checkpoint")?;
    let mut lines = head.split('\n');
    let old =
        lines.next().and_then(|line| line.strip_prefix("old ")).ok_or("the first line is not: old SIZE")?;
    let size: u64 = old.parse().map_err(|_| "the old size is no number")?;
    if size.to_string() != old {
        return Err("the old size is not in its one spelling");
    }
    let mut proof = Vec::new();
    for line in lines {
        if proof.len() == PROOF_MAX {
            return Err("a proof has at most 63 lines");
        }
        let hash = STANDARD.decode(line).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        proof.push(Digest(hash.ok_or("a line of the proof is no hash")?));
    }
    Ok((size, proof, note.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_in_its_one_form() {
        let hash = "A".repeat(43) + "=";
        let good = format!("old 7\n{hash}\n\nnote\n\nsignatures\n");
        assert_eq!(parse(good.as_bytes()), Ok((7, vec![Digest([0; 32])], &b"note\n\nsignatures\n"[..])));
        assert_eq!(parse(b"old 0\n\nnote").map(|(old, proof, _)| (old, proof.len())), Ok((0, 0)));
        for bad in [
            "old 07\n\nx".to_owned(),
            "old +7\n\nx".into(),
            "old\n\nx".into(),
            "new 7\n\nx".into(),
            "old 7\nx".into(),
            format!("old 7\n{}\n\nx", &hash[1..]),
            format!("old 7\n{}\n\nx", format!("{hash}\n").repeat(64).trim_end()),
            "old 18446744073709551616\n\nx".into(),
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse(&[0xff, b'\n', b'\n']).is_err());
    }
}
