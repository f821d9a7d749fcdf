//! The log's own keys as they followed each other.
//!
//! A change counts from its entry on ([`crate::checkpoint::LogKeys`]). It is whole when a checkpoint over that entry is logged that
//! both sets have signed; until then there is no next one.

use alloc::string::String;
use alloc::vec::Vec;

use super::outcome::RefusedReason;
use crate::checkpoint::{LogKeys, STEPS_MAX, Signed};
use crate::codec::{DecodeError, Reader, put16, put32};
use crate::event::{LOG_KEYS_TEXT_MAX, LogKeySet};
use crate::leaf::{Leaf, What};
use crate::limits::{LEAF_MAX, NOTE_MAX, SEALED_KEY_MAX};
use crate::log::Digest;

/// The log went over to other keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// Number of the set; the one a log begins with is 1.
    pub number: u64,
    /// Number of the entry that says so: trees that hold it are signed by the new set.
    pub seq: u64,
    /// That entry, without a newline.
    pub entry: Vec<u8>,
    /// Until which log time the set before signs, too, milliseconds.
    pub both_until_ms: u64,
    /// The keys before, as text.
    pub follows: String,
    /// The keys from here on, as text.
    pub keys: String,
    /// Their seed, sealed under the key-encryption key.
    pub sealed: Vec<u8>,
    /// The first logged checkpoint over the entry that both sets have signed; empty until there is one.
    pub note: Vec<u8>,
}

/// All changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LogKeyChanges {
    all: Vec<KeyChange>,
    /// Over the encoding, kept as it changes: every record's digest needs it.
    digest: Option<Digest>,
}

impl LogKeyChanges {
    pub(super) fn all(&self) -> &[KeyChange] {
        &self.all
    }

    /// `None` for a log that has the keys it began with.
    pub(super) fn digest(&self) -> Option<Digest> {
        self.digest
    }

    pub(super) fn next_number(&self) -> u64 {
        self.all.len() as u64 + 2
    }

    /// Whether these keys may follow.
    pub(super) fn check(&self, set: &LogKeySet) -> Result<(), RefusedReason> {
        let parse = |text: &str| LogKeys::parse_set(text).map_err(|_| RefusedReason::LogKeyNotNext);
        let (before, after) = (parse(&set.follows)?, parse(&set.keys)?);
        let taken = |key: &_| before.keys().any(|old| old == key);
        let again = self.all.iter().any(|change| change.follows == set.keys);
        let follows = match self.all.last() {
            Some(last) => last.keys == set.follows && !last.note.is_empty(),
            None => true,
        };
        if before.name() != after.name() || after.keys().any(taken) || again || !follows {
            return Err(RefusedReason::LogKeyNotNext);
        }
        if self.all.len() >= STEPS_MAX { Err(RefusedReason::TooManyLogKeys) } else { Ok(()) }
    }

    /// Takes up keys that [`LogKeyChanges::check`] let pass.
    pub(super) fn set(&mut self, set: &LogKeySet, seq: u64, entry: Vec<u8>) {
        self.all.push(KeyChange {
            number: self.next_number(),
            seq,
            entry,
            both_until_ms: set.both_until_ms,
            follows: set.follows.clone(),
            keys: set.keys.clone(),
            sealed: set.sealed.clone(),
            note: Vec::new(),
        });
        self.digest = self.hash();
    }

    /// Whether a checkpoint would make the last change whole: asked for each that is logged, and cheap for almost all.
    pub(super) fn lacks_note(&self) -> bool {
        self.all.last().is_some_and(|last| last.note.is_empty())
    }

    /// Takes up a logged checkpoint if it makes the last change whole. `size` leaves are in the tree.
    pub(super) fn noted(&mut self, note: &[u8], size: u64) {
        let Some(last) = self.all.last_mut().filter(|last| last.note.is_empty()) else { return };
        let Ok(signed) = Signed::parse(note) else { return };
        let within = (last.seq + 1..=size).contains(&signed.checkpoint.size);
        let by = |text: &str| {
            LogKeys::parse_set(text).is_ok_and(|keys| keys.keys().all(|key| signed.verify(key).is_ok()))
        };
        if within && by(&last.follows) && by(&last.keys) {
            last.note = note.to_vec();
            self.digest = self.hash();
        }
    }

    fn hash(&self) -> Option<Digest> {
        if self.all.is_empty() {
            return None;
        }
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        Some(Digest(*blake3::hash(&bytes).as_bytes()))
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.all.len() as u8);
        for change in &self.all {
            out.extend_from_slice(&change.seq.to_le_bytes());
            put32(out, &change.entry);
            put16(out, change.follows.as_bytes());
            put16(out, change.keys.as_bytes());
            put16(out, &change.sealed);
            put32(out, &change.note);
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<LogKeyChanges, DecodeError> {
        let count = reader.u8("changes of log keys")?;
        if count == 0 || usize::from(count) > STEPS_MAX {
            return Err(DecodeError::OutOfBounds("changes of log keys"));
        }
        let mut changes = LogKeyChanges::default();
        for _ in 0..count {
            let seq = reader.u64("entry of log keys")?;
            let entry = reader.bytes32(LEAF_MAX, "entry of log keys")?.to_vec();
            let Ok(Leaf { what: What::LogKey { number, both_until_ms, .. }, .. }) = Leaf::parse(&entry)
            else {
                return Err(DecodeError::OutOfBounds("entry of log keys"));
            };
            let follows = reader.text16(LOG_KEYS_TEXT_MAX, "keys before")?;
            let keys = reader.text16(LOG_KEYS_TEXT_MAX, "keys")?;
            let sealed = reader.bytes16(SEALED_KEY_MAX, "sealed seed")?.to_vec();
            let note = reader.bytes32(NOTE_MAX, "signed note")?.to_vec();
            changes.all.push(KeyChange { number, seq, entry, both_until_ms, follows, keys, sealed, note });
        }
        changes.digest = changes.hash();
        Ok(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Ledger, MemTable, Outcome};
    use super::*;
    use crate::checkpoint::{Checkpoint, KeyStep, Receipt, Signer};
    use crate::event::Event;
    use crate::log::Lsn;
    use crate::tree::{MemHashes, inclusion_proof, leaf_hash};

    const NAME: &str = "localhost/pcs/default";

    fn signer(seed: u8) -> Signer {
        Signer::new(NAME, &[seed; 32]).unwrap()
    }

    fn set(old: u8, new: u8) -> LogKeySet {
        LogKeySet {
            at_ms: 5,
            both_until_ms: 9,
            follows: signer(old).vkeys(),
            keys: signer(new).vkeys(),
            sealed: alloc::vec![new; 72],
        }
    }

    struct Log {
        ledger: Ledger<MemTable>,
        leaves: Vec<Vec<u8>>,
    }

    impl Log {
        fn new() -> Log {
            Log { ledger: Ledger::new("default", MemTable::new()), leaves: Vec::new() }
        }

        fn record(&mut self, event: Event) -> Outcome {
            let lsn = Lsn(self.ledger.applied().0 + 1);
            let outcome = self.ledger.decide(lsn, 0, &event, None).unwrap();
            let applied = self.ledger.apply(lsn, 0, &event, None, &outcome);
            self.leaves.extend(applied.leaf);
            self.ledger.end_record(lsn);
            outcome
        }

        fn note(&self, signers: &[u8]) -> Vec<u8> {
            let signers: Vec<Signer> = signers.iter().map(|seed| signer(*seed)).collect();
            let tree = self.ledger.tree();
            let head = Checkpoint { origin: NAME.into(), size: tree.size(), root: tree.root() };
            head.publish_by(&signers.iter().collect::<Vec<_>>())
        }
    }

    fn configured(outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Configured { .. })
    }

    #[test]
    fn keys_follow_each_other_and_what_the_ledger_keeps_convinces_an_auditor() {
        let mut log = Log::new();
        let before = log.ledger.projections().len();
        assert_eq!(log.ledger.snapshot().unwrap()[0], VERSION_OF_BEFORE);
        assert!(configured(&log.record(Event::LogKeySet(set(1, 2)))));
        assert_eq!(log.ledger.projections().len(), before + 1);
        // Neither key alone makes the change whole, and without that there is no next one.
        for signers in [&[1][..], &[2], &[2, 3]] {
            log.record(Event::Checkpoint(log.note(signers)));
        }
        assert!(log.ledger.log_keys()[0].note.is_empty());
        assert_eq!(
            log.record(Event::LogKeySet(set(2, 3))),
            Outcome::Refused { seq: 1, reason: RefusedReason::LogKeyNotNext }
        );
        let note = log.note(&[1, 2]);
        log.record(Event::Checkpoint(note.clone()));
        assert_eq!(log.ledger.log_keys()[0].note, note);
        for (old, new) in [(1, 3), (2, 2), (2, 1), (3, 4)] {
            let refused = log.record(Event::LogKeySet(set(old, new)));
            assert!(!configured(&refused), "{new} after {old}");
        }
        assert!(configured(&log.record(Event::LogKeySet(set(2, 3)))));
        log.record(Event::Checkpoint(log.note(&[2, 3])));

        let mut hashes = MemHashes::default();
        for leaf in &log.leaves {
            hashes.append(leaf_hash(leaf));
        }
        let step = |change: &KeyChange| {
            let size = Signed::parse(&change.note).unwrap().checkpoint.size;
            let path = inclusion_proof(change.seq, size, &mut hashes.clone()).unwrap();
            let receipt = Receipt { extra: None, index: change.seq, path, checkpoint: change.note.clone() };
            KeyStep { number: change.number, receipt, entry: change.entry.clone() }
        };
        let steps: Vec<KeyStep> = log.ledger.log_keys().iter().map(step).collect();
        let founding = LogKeys::parse(&signer(1).vkeys()).unwrap();
        let all = founding.follow(&steps).unwrap();
        assert_eq!((all.sets(), all.vkey()), (3, signer(3).verifier().vkey()));

        let bytes = log.ledger.snapshot().unwrap();
        let restored = Ledger::restore(&bytes, MemTable::new()).unwrap();
        assert_eq!(restored.log_keys(), log.ledger.log_keys());
        assert_eq!((restored.digest(), restored.snapshot().unwrap()), (log.ledger.digest(), bytes));
    }

    const VERSION_OF_BEFORE: u8 = 1;

    #[test]
    fn what_is_no_set_of_keys_never_follows() {
        let mut log = Log::new();
        let good = set(1, 2);
        let half = signer(2).verifier().vkey() + "\n";
        let elsewhere = Signer::new("elsewhere/pcs/default", &[2; 32]).unwrap().vkeys();
        for keys in [String::new(), half, elsewhere, signer(2).vkeys().repeat(2), "x\n".into()] {
            let refused = log.record(Event::LogKeySet(LogKeySet { keys, ..good.clone() }));
            assert!(!configured(&refused));
        }
        assert!(log.ledger.log_keys().is_empty());
    }
}
