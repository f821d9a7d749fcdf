//! What the log says of anchors: a fold of its `Anchored` and `Witnessed` events, and nothing else.
//!
//! A target's cursor is the largest checkpoint of ours that it attested; what is left to do for it follows from the cursor
//! and the newest checkpoint, so a crash loses no task. An event that repeats or is behind what is known changes nothing.
//! A `Witnessed` counts only if the size it begins at is the one that stands: the first of two that begin at the same
//! size wins, on every node alike, and the other is never signed.
//!
//! L1: cursors and logs are as many as were ever configured, at most [`NAMES_MAX`] each; cosigned checkpoints are the
//! newest [`KEPT`], records with stamps the newest [`STAMPS`], promises
//! the newest [`PROMISES`] of each target.

use super::calendar;
use super::copy::Copied;
use engine::checkpoint::{NoteSignature, Signed};
use engine::event::{AnchorKind, Anchored, Event, Witnessed};
use engine::limits::NOTE_MAX;
use engine::log::{Digest, Lsn};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, VecDeque};

/// Checkpoints whose cosignatures are kept at hand.
const KEPT: usize = 8;
/// Records with time stamps that are remembered for places that copies go to: months of hourly stamps. What a place lacks
/// beyond that lies in the log and beside the checkpoint all the same.
const STAMPS: usize = 4096;
/// Promises of calendars that are remembered for each target; a calendar keeps them within hours.
const PROMISES: usize = 256;
/// Most targets, and most logs of others, that are remembered.
const NAMES_MAX: usize = 1024;
/// Largest file read, bytes: far above what these bounds allow in practice.
const FILE_MAX: usize = 64 << 20;

/// The newest attestation of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Leaves under the checkpoint.
    pub size: u64,
    /// When the leader got it, milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// A checkpoint of ours with the cosignatures it got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cosigned {
    /// Leaves under it.
    pub size: u64,
    /// The note as the log published it.
    pub note: String,
    /// Lines by the names of the witnesses' keys, each with its newline.
    pub lines: BTreeMap<String, String>,
}

impl Cosigned {
    /// The note with its cosignature lines, as many as a note may hold.
    pub fn text(&self) -> String {
        let mut out = self.note.clone();
        for line in self.lines.values() {
            if out.len() + line.len() <= NOTE_MAX {
                out.push_str(line);
            }
        }
        out
    }
}

/// The newest checkpoint of another log that we agreed to cosign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Leaves under it.
    pub size: u64,
    /// Its root, hex.
    pub root: String,
    /// The record that says so.
    pub lsn: u64,
}

/// A block of Bitcoin that a checkpoint is under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Leaves under the checkpoint.
    pub size: u64,
    /// The block's height.
    pub height: u64,
    /// Its Merkle root, as block explorers show it: whoever looks it up knows that the checkpoint is older.
    pub root: String,
}

/// The fold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Everything up to this record is folded in.
    pub upto: u64,
    done: BTreeMap<String, Done>,
    cosigned: Vec<Cosigned>,
    /// How far the places for copies have come, by the names of their targets.
    copied: BTreeMap<String, Copied>,
    /// Checkpoints for which calendars promised a stamp, and the record of the promise, by the names of the targets.
    promised: BTreeMap<String, BTreeMap<u64, u64>>,
    /// The newest checkpoint that a block attests, by the names of the targets.
    blocks: BTreeMap<String, Block>,
    /// Records with time stamps, the newest [`STAMPS`] of them.
    stamps: VecDeque<u64>,
    logs: BTreeMap<String, Seen>,
}

fn key(kind: AnchorKind, target: &str) -> String {
    format!("{} {target}", kind.name())
}

impl State {
    /// Folds in the events of a record; records that were folded in before are passed over. `origin` is our log's name.
    pub fn apply<'a>(&mut self, lsn: Lsn, events: impl IntoIterator<Item = &'a Event>, origin: &str) {
        if lsn.0 <= self.upto {
            return;
        }
        for event in events {
            match event {
                Event::Anchored(anchored) => self.anchored(lsn, anchored, origin),
                Event::Witnessed(witnessed) => self.witnessed(lsn, witnessed),
                _ => {}
            }
        }
        self.upto = lsn.0;
    }

    fn anchored(&mut self, lsn: Lsn, anchored: &Anchored, origin: &str) {
        // What is not about a checkpoint of ours is a fact of the log and means nothing here.
        let Ok(signed) = Signed::parse(&anchored.note) else { return };
        if signed.checkpoint.origin != origin {
            return;
        }
        let size = signed.checkpoint.size;
        let key = key(anchored.kind, &anchored.target);
        let before = self.done.get(&key).map(|done| done.size);
        if before.map_or(self.done.len() < NAMES_MAX, |before| before < size) {
            self.done.insert(key, Done { size, at_ms: anchored.at_ms });
        }
        match anchored.kind {
            AnchorKind::Cosignature => self.cosigned(size, anchored),
            AnchorKind::TimeStamp | AnchorKind::OpenTimestamps => {
                if self.stamps.back() != Some(&lsn.0) {
                    self.stamps.push_back(lsn.0);
                }
                if self.stamps.len() > STAMPS {
                    self.stamps.pop_front();
                }
                if anchored.kind == AnchorKind::OpenTimestamps {
                    self.calendars(lsn, size, anchored);
                }
            }
            AnchorKind::Copy => {
                if self.copied.contains_key(&anchored.target) || self.copied.len() < NAMES_MAX {
                    let copied = self.copied.entry(anchored.target.clone()).or_default();
                    *copied = copied.max(Copied::parse(&anchored.evidence));
                }
            }
        }
    }

    /// A promise, or that it was kept.
    fn calendars(&mut self, lsn: Lsn, size: u64, anchored: &Anchored) {
        let Some(proof) = calendar::sound(anchored) else { return };
        if !self.promised.contains_key(&anchored.target) && self.promised.len() == NAMES_MAX {
            return;
        }
        let promised = self.promised.entry(anchored.target.clone()).or_default();
        if proof.is_complete() {
            promised.remove(&size);
            let newer = self.blocks.get(&anchored.target).is_none_or(|block| block.size < size);
            if let Some((height, root)) = calendar::block(&proof).filter(|_| newer) {
                self.blocks.insert(anchored.target.clone(), Block { size, height, root });
            }
        } else {
            promised.insert(size, lsn.0);
        }
        if promised.len() > PROMISES {
            promised.pop_first();
        }
    }

    fn cosigned(&mut self, size: u64, anchored: &Anchored) {
        let (Ok(note), Ok(line)) =
            (String::from_utf8(anchored.note.clone()), String::from_utf8(anchored.evidence.clone()))
        else {
            return;
        };
        if line.strip_suffix('\n').and_then(NoteSignature::parse).is_none() {
            return;
        }
        let at = self.cosigned.partition_point(|one| one.size < size);
        match self.cosigned.get_mut(at).filter(|one| one.size == size) {
            Some(one) => drop(one.lines.insert(anchored.target.clone(), line)),
            None => {
                let lines = BTreeMap::from([(anchored.target.clone(), line)]);
                self.cosigned.insert(at, Cosigned { size, note, lines });
            }
        }
        if self.cosigned.len() > KEPT {
            self.cosigned.remove(0);
        }
    }

    fn witnessed(&mut self, lsn: Lsn, witnessed: &Witnessed) {
        let Ok(signed) = Signed::parse(&witnessed.note) else { return };
        let checkpoint = signed.checkpoint;
        let stands = self.logs.get(&checkpoint.origin).map_or(0, |seen| seen.size);
        let known = self.logs.contains_key(&checkpoint.origin) || self.logs.len() < NAMES_MAX;
        if stands != witnessed.old || checkpoint.size < stands || !known {
            return;
        }
        let seen = Seen { size: checkpoint.size, root: checkpoint.root.to_string(), lsn: lsn.0 };
        self.logs.insert(checkpoint.origin, seen);
    }

    /// The newest attestation of a target.
    pub fn done(&self, kind: AnchorKind, target: &str) -> Option<&Done> {
        self.done.get(&key(kind, target))
    }

    /// How far a place for copies has come.
    pub fn copied(&self, target: &str) -> Copied {
        self.copied.get(target).copied().unwrap_or_default()
    }

    /// Records after `after` with time stamps, in order.
    pub fn stamps_after(&self, after: u64) -> Vec<Lsn> {
        self.stamps.iter().filter(|lsn| **lsn > after).map(|lsn| Lsn(*lsn)).collect()
    }

    /// The block that attests the newest checkpoint of this target that one does.
    pub fn block(&self, target: &str) -> Option<&Block> {
        self.blocks.get(target)
    }

    /// Records with promises to this target that have not been kept, the oldest first.
    pub fn promised(&self, target: &str) -> impl Iterator<Item = Lsn> {
        self.promised.get(target).into_iter().flatten().map(|(_, lsn)| Lsn(*lsn))
    }

    /// The checkpoint over more than `above` leaves that has most cosignatures, the newest of those that have as many.
    pub fn witnessed_above(&self, above: u64) -> Option<&Cosigned> {
        self.cosigned.iter().filter(|one| one.size > above).max_by_key(|one| (one.lines.len(), one.size))
    }

    /// The cosigned checkpoint over exactly these leaves.
    pub fn witnessed_at(&self, size: u64) -> Option<&Cosigned> {
        self.cosigned.iter().find(|one| one.size == size)
    }

    /// What we cosigned of another log.
    pub fn seen(&self, origin: &str) -> Option<&Seen> {
        self.logs.get(origin)
    }

    /// The state as a file.
    ///
    /// # Errors
    /// What JSON cannot hold; nothing of this kind is in a state.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let body = serde_json::to_vec(self)?;
        let mut out = format!("{}\n", Digest(Sha256::digest(&body).into())).into_bytes();
        out.extend_from_slice(&body);
        Ok(out)
    }

    /// Reads a file; `None` for anything but a whole one, and then the log is read again from its beginning.
    pub fn decode(bytes: &[u8]) -> Option<State> {
        if bytes.len() > FILE_MAX {
            return None;
        }
        let (digest, body) = bytes.split_at_checked(64)?;
        let body = body.strip_prefix(b"\n")?;
        if Digest(Sha256::digest(body).into()).to_string().as_bytes() != digest {
            return None;
        }
        serde_json::from_slice(body).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::checkpoint::{Checkpoint, Cosigner, Signer};
    use engine::ots::{Attestation, Item, Proof, Stamp};
    use engine::tree::EMPTY_ROOT;

    const ORIGIN: &str = "localhost/pcs/default";

    fn note(origin: &str, size: u64) -> (String, Vec<u8>) {
        let head = Checkpoint { origin: origin.into(), size, root: EMPTY_ROOT };
        (head.text(), head.sign(&Signer::new(origin, &[1; 32]).unwrap()))
    }

    fn cosigned(by: u8, size: u64) -> Event {
        let (text, note) = note(ORIGIN, size);
        let target = format!("w{by}");
        let evidence = Cosigner::new(&target, &[by; 32]).unwrap().cosign(&text, 7).line().into_bytes();
        Event::Anchored(Anchored { at_ms: size, kind: AnchorKind::Cosignature, target, note, evidence })
    }

    fn witnessed(origin: &str, old: u64, size: u64) -> Event {
        Event::Witnessed(Witnessed { at_ms: 1, old, note: note(origin, size).1 })
    }

    #[test]
    fn a_promise_stands_until_it_is_kept() {
        let proof = |note: &[u8], attestation| {
            let stamp = Stamp(vec![Item::Attests(attestation)]);
            Proof { digest: Sha256::digest(note).into(), stamp }.encode()
        };
        let event = |size, attestation| {
            let (_, note) = note(ORIGIN, size);
            let evidence = proof(&note, attestation);
            let kind = AnchorKind::OpenTimestamps;
            Event::Anchored(Anchored { at_ms: 1, kind, target: "ots".into(), note, evidence })
        };
        let promise = |size| event(size, Attestation::Pending("http://c".into()));
        let mut state = State::default();
        state.apply(Lsn(3), &[promise(10)], ORIGIN);
        state.apply(Lsn(4), &[promise(20)], ORIGIN);
        let open = |state: &State| state.promised("ots").map(|lsn| lsn.0).collect::<Vec<_>>();
        assert_eq!(open(&state), [3, 4]);
        state.apply(Lsn(5), &[event(10, Attestation::Bitcoin(7))], ORIGIN);
        assert_eq!((open(&state), state.stamps_after(3)), (vec![4], vec![Lsn(4), Lsn(5)]));
        for n in 0..2 * PROMISES as u64 {
            state.apply(Lsn(6 + n), &[promise(100 + n)], ORIGIN);
        }
        assert_eq!(open(&state).len(), PROMISES);
        let Event::Anchored(mut stranger) = promise(30) else { unreachable!() };
        stranger.evidence = proof(b"another note", Attestation::Pending("http://c".into()));
        let before = open(&state);
        state.apply(Lsn(9000), &[Event::Anchored(stranger)], ORIGIN);
        assert_eq!(open(&state), before, "a proof of something else is no promise");
        assert_eq!(State::decode(&state.encode().unwrap()), Some(state));
    }

    #[test]
    fn how_far_a_copy_has_come_goes_forward_only() {
        let copy = |size, evidence: &str| {
            let (target, note, evidence) =
                ("vault".into(), note(ORIGIN, size).1, evidence.as_bytes().to_vec());
            Event::Anchored(Anchored { at_ms: 1, kind: AnchorKind::Copy, target, note, evidence })
        };
        let mut state = State::default();
        state.apply(Lsn(1), &[copy(9, "flk copy 1\ntokens 5\nleaves 9\nworm 4\n")], ORIGIN);
        state.apply(Lsn(2), &[copy(12, "flk copy 1\ntokens 7\n")], ORIGIN);
        assert_eq!(state.copied("vault"), Copied { tokens: 7, leaves: 9, worm: 4 });
        assert_eq!(state.copied("other"), Copied::default());
    }

    #[test]
    fn cursors_go_forward_only_and_repeats_change_nothing() {
        let mut state = State::default();
        state.apply(Lsn(1), &[cosigned(1, 10), cosigned(2, 10), cosigned(1, 20)], ORIGIN);
        let done =
            |state: &State, target: &str| state.done(AnchorKind::Cosignature, target).map(|done| done.size);
        assert_eq!((done(&state, "w1"), done(&state, "w2"), done(&state, "w3")), (Some(20), Some(10), None));
        let before = state.clone();
        state.apply(Lsn(1), &[cosigned(3, 30)], ORIGIN);
        assert_eq!(state, before, "a record is folded in once");
        state.apply(Lsn(2), &[cosigned(1, 10), cosigned(1, 20)], ORIGIN);
        assert_eq!(State { upto: 1, ..state.clone() }, before, "late and repeated ones change nothing");
        state.apply(Lsn(3), &[cosigned(9, 99)], "another/log");
        assert_eq!(done(&state, "w9"), None);
        assert_eq!(State::decode(&state.encode().unwrap()), Some(state));
    }

    #[test]
    fn a_receipt_takes_the_checkpoint_with_most_cosignatures_that_covers_it() {
        let mut state = State::default();
        let events = [cosigned(1, 10), cosigned(2, 10), cosigned(1, 20), cosigned(2, 20), cosigned(1, 30)];
        state.apply(Lsn(1), &events, ORIGIN);
        let at = |above| state.witnessed_above(above).map(|one| (one.size, one.lines.len()));
        assert_eq!((at(5), at(19), at(20), at(30)), (Some((20, 2)), Some((20, 2)), Some((30, 1)), None));
        let signed = Signed::parse(state.witnessed_at(10).unwrap().text().as_bytes()).unwrap();
        assert_eq!(signed.signatures.len(), 3);
        assert_eq!(state.witnessed_at(11), None);
        for size in 31..31 + 2 * KEPT as u64 {
            state.apply(Lsn(size), &[cosigned(1, size)], ORIGIN);
        }
        assert_eq!(state.cosigned.len(), KEPT);
    }

    #[test]
    fn of_two_that_begin_at_the_same_size_the_first_wins() {
        let mut state = State::default();
        let size = |state: &State, origin: &str| state.seen(origin).map(|seen| (seen.size, seen.lsn));
        state.apply(Lsn(5), &[witnessed("a/log", 0, 10)], ORIGIN);
        state.apply(Lsn(6), &[witnessed("a/log", 0, 11)], ORIGIN);
        assert_eq!(size(&state, "a/log"), Some((10, 5)));
        state.apply(Lsn(7), &[witnessed("a/log", 10, 12), witnessed("b/log", 0, 3)], ORIGIN);
        state.apply(Lsn(8), &[witnessed("a/log", 10, 20), witnessed("a/log", 12, 11)], ORIGIN);
        assert_eq!((size(&state, "a/log"), size(&state, "b/log")), (Some((12, 7)), Some((3, 7))));
    }

    #[test]
    fn a_file_with_any_bit_changed_is_not_read() {
        let mut state = State::default();
        state.apply(Lsn(5), &[witnessed("a/log", 0, 10), cosigned(1, 10)], ORIGIN);
        let whole = state.encode().unwrap();
        for at in 0..whole.len() {
            let mut bent = whole.clone();
            bent[at] ^= 1;
            assert_eq!(State::decode(&bent), None, "byte {at}");
            assert_eq!(State::decode(&whole[..at]), None, "cut at {at}");
        }
    }
}
