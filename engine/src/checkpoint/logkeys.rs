//! The public keys that a reader holds a log to, and how they follow each other.
//!
//! A log begins with one set of keys, Ed25519 and ML-DSA-44, and may go over to others. The entry that says so is the
//! border: trees up to it are signed by the set before, trees that hold it by the new one. The **statement** that one set
//! follows the other is the receipt of that entry under the first checkpoint over it, which both have signed. So who holds any
//! set of the chain comes to all others, forwards and backwards, and whoever stole an old key cannot sign a tree that
//! holds its successor.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::{NoteError, Receipt, Signed, Verifier};
use crate::leaf::{Leaf, What};
use crate::tree::{leaf_hash, verify_inclusion};

/// Most keys in one text.
const KEYS_MAX: usize = 16;

/// Most statements that are followed: a log changes its keys less often.
pub const STEPS_MAX: usize = 64;

/// The public keys of one log, a line each where they stand in a file: each Ed25519 key begins a set. The first key of the set that
/// a tree belongs to must have signed; a line of any key must verify where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogKeys {
    /// In the order in which they follow each other.
    sets: Vec<Set>,
    /// The borders between them are known.
    followed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Set {
    /// Number of the entry that introduced it, where that is known.
    from: Option<u64>,
    keys: Vec<Verifier>,
}

/// Which keys stand behind a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held<'a> {
    /// Those whose line verifies.
    pub spoke: Vec<&'a Verifier>,
    /// Those of the set that had to sign that have no line.
    pub silent: Vec<&'a Verifier>,
}

/// A statement that a set of keys follows another one, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStep {
    /// Number of the set that it introduces; the one a log begins with is 1.
    pub number: u64,
    /// The receipt of the entry.
    pub receipt: Receipt,
    /// The entry, without a newline.
    pub entry: Vec<u8>,
}

/// A chain of keys that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenStep {
    /// Number of the set whose statement is wrong.
    pub number: u64,
    /// What is wrong, as a sentence.
    pub why: String,
}

impl fmt::Display for BrokenStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the statement for set {} of the log's keys: {}", self.number, self.why)
    }
}

impl core::error::Error for BrokenStep {}

impl LogKeys {
    /// Reads verifier keys, one a line.
    ///
    /// # Errors
    /// [`NoteError::Key`] if there is none or one is not a key of a log, or if they are of different logs.
    pub fn parse(text: &str) -> Result<LogKeys, NoteError> {
        let lines = text.trim().split('\n').take(KEYS_MAX + 1);
        let keys: Vec<Verifier> =
            lines.map(|line| Verifier::parse(line.trim_end())).collect::<Result<_, _>>()?;
        let name = keys.first().ok_or(NoteError::Key)?.name().to_string();
        if keys.len() > KEYS_MAX || keys.iter().any(|key| key.name() != name) {
            return Err(NoteError::Key);
        }
        let mut sets = Vec::<Set>::new();
        for key in keys {
            match sets.last_mut().filter(|_| !key.is_first()) {
                Some(set) => set.keys.push(key),
                None => sets.push(Set { from: None, keys: alloc::vec![key] }),
            }
        }
        Ok(LogKeys { sets, followed: false })
    }

    /// Reads one whole set as a log writes it: an Ed25519 key, then an ML-DSA-44 key, in printable ASCII.
    ///
    /// # Errors
    /// [`NoteError::Key`] for anything else.
    pub fn parse_set(text: &str) -> Result<LogKeys, NoteError> {
        let keys = LogKeys::parse(text)?;
        let whole = matches!(&keys.sets[..], [set] if set.keys.len() == 2 && set.keys[0].is_first());
        let plain = text.bytes().all(|byte| byte == b'\n' || byte.is_ascii_graphic());
        if whole && plain && keys.text() == text { Ok(keys) } else { Err(NoteError::Key) }
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &Verifier> {
        self.sets.iter().flat_map(|set| &set.keys)
    }

    /// The newest key that must have signed, as text.
    #[must_use]
    pub fn vkey(&self) -> String {
        self.newest().keys[0].vkey()
    }

    fn newest(&self) -> &Set {
        self.sets.last().expect("there is a set")
    }

    /// All keys as text, a line each.
    #[must_use]
    pub fn text(&self) -> String {
        self.keys().fold(String::new(), |text, key| text + &key.vkey() + "\n")
    }

    /// The log's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.sets[0].keys[0].name()
    }

    /// How many sets there are.
    #[must_use]
    pub fn sets(&self) -> usize {
        self.sets.len()
    }

    /// Checks the lines of all these keys, and that the set that the tree belongs to has signed; where the borders are not
    /// known, that any has.
    ///
    /// # Errors
    /// [`NoteError::NotSigned`] if the first key of that set has no line, [`NoteError::BadSignature`] if a line of any does
    /// not verify.
    pub fn verify(&self, signed: &Signed) -> Result<Held<'_>, NoteError> {
        let mut spoke = Vec::new();
        for key in self.keys() {
            match signed.verify(key) {
                Ok(_) => spoke.push(key),
                Err(NoteError::NotSigned) => {}
                Err(error) => return Err(error),
            }
        }
        let size = signed.checkpoint.size;
        let mut owed = self.sets.iter().rev().filter(|set| set.from.is_none_or(|from| from < size));
        let set = if self.followed {
            owed.next().filter(|set| spoke.contains(&&set.keys[0]))
        } else {
            owed.find(|set| spoke.contains(&&set.keys[0]))
        };
        let set = set.ok_or(NoteError::NotSigned)?;
        let silent = set.keys.iter().filter(|key| !spoke.contains(key)).collect();
        Ok(Held { spoke, silent })
    }

    /// These keys and all that follow them or went before, out of the log's statements, in order. Each statement must be
    /// signed by all keys on both of its sides, and every key here must be among them.
    ///
    /// # Errors
    /// [`BrokenStep`], naming the first statement that does not hold.
    pub fn follow(&self, steps: &[KeyStep]) -> Result<LogKeys, BrokenStep> {
        let Some(first) = steps.first() else { return Ok(self.clone()) };
        let mut sets = Vec::<Set>::new();
        for (nth, step) in steps.iter().enumerate() {
            let broken = |why: String| BrokenStep { number: step.number, why };
            if nth >= STEPS_MAX || step.number != nth as u64 + 2 {
                return Err(broken("there is none for the set before it".into()));
            }
            let (follows, keys) = step.check(self.name()).map_err(broken)?;
            if sets.is_empty() {
                sets.push(Set { from: None, keys: follows.sets[0].keys.clone() });
            }
            let last = sets.last().expect("there is one");
            if last.keys != follows.sets[0].keys || last.from.is_some_and(|from| from >= step.receipt.index) {
                return Err(broken("it does not follow the statement before it".into()));
            }
            sets.push(Set { from: Some(step.receipt.index), keys: keys.sets[0].keys.clone() });
        }
        let all = LogKeys { sets, followed: true };
        match self.keys().find(|key| !all.keys().any(|known| known == *key)) {
            None => Ok(all),
            Some(key) => Err(BrokenStep {
                number: first.number,
                why: alloc::format!("key {:08x}, which was given, is none of this chain", key.key_id()),
            }),
        }
    }
}

impl KeyStep {
    /// Checks it by itself: the keys before and after.
    fn check(&self, name: &str) -> Result<(LogKeys, LogKeys), String> {
        let leaf = Leaf::parse(&self.entry).map_err(|error| error.to_string())?;
        let What::LogKey { number, follows, keys, .. } = &leaf.what else {
            return Err("its entry is about something else".into());
        };
        if *number != self.number {
            return Err(alloc::format!("its entry introduces set {number}"));
        }
        let lines = |text: &str| {
            let keys = LogKeys::parse_set(&(text.replace(' ', "\n") + "\n"));
            keys.ok().filter(|keys| keys.name() == name).ok_or("its entry holds no keys of this log")
        };
        let (follows, keys) = (lines(follows)?, lines(keys)?);
        let signed = Signed::parse(&self.receipt.checkpoint).map_err(|error| error.to_string())?;
        let head = &signed.checkpoint;
        verify_inclusion(
            &leaf_hash(&self.entry),
            self.receipt.index,
            head.size,
            &self.receipt.path,
            &head.root,
        )
        .map_err(|_| "its entry does not lead to the root of its checkpoint".to_string())?;
        for key in follows.keys().chain(keys.keys()) {
            signed
                .verify(key)
                .map_err(|error| alloc::format!("{error} ({}, {:08x})", key.algorithm(), key.key_id()))?;
        }
        Ok((follows, keys))
    }
}

impl From<Verifier> for LogKeys {
    fn from(key: Verifier) -> LogKeys {
        LogKeys { sets: alloc::vec![Set { from: None, keys: alloc::vec![key] }], followed: false }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Checkpoint, Signer};
    use super::*;
    use crate::leaf::Leaf;
    use crate::log::{Digest, Lsn};
    use crate::tree::{MemHashes, inclusion_proof};

    const NAME: &str = "localhost/pcs/default";

    fn signer(seed: u8) -> Signer {
        Signer::new(NAME, &[seed; 32]).unwrap()
    }

    fn keys(seed: u8) -> LogKeys {
        LogKeys::parse(&signer(seed).vkeys()).unwrap()
    }

    fn line(number: u64, follows: &Signer, next: &Signer) -> Vec<u8> {
        let text = |signer: &Signer| signer.vkeys().trim_end().replace('\n', " ");
        let what = What::LogKey {
            number,
            follows: text(follows).into(),
            keys: text(next).into(),
            both_until_ms: 9,
            commitment: Digest([7; 32]),
        };
        Leaf { lsn: Lsn(number), nth: 0, time_ms: 5, region: "default".into(), what }.encode()
    }

    /// Three entries, the second of which says that another key follows; both sign a checkpoint over them.
    fn step(number: u64, seed: u8) -> KeyStep {
        let (old, new) = (signer(seed), signer(seed + 1));
        let entry = line(number, &old, &new);
        let mut hashes = MemHashes::default();
        let filler = alloc::vec![leaf_hash(b"x"); number as usize * 4];
        let mut tree = crate::tree::Tree::new();
        for hash in filler.into_iter().chain([leaf_hash(&entry), leaf_hash(b"y")]) {
            hashes.append(hash);
            tree.append(hash);
        }
        let index = number * 4;
        let head = Checkpoint { origin: NAME.into(), size: tree.size(), root: tree.root() };
        let path = inclusion_proof(index, tree.size(), &mut hashes).unwrap();
        let receipt = Receipt { extra: None, index, path, checkpoint: head.publish_by(&[&old, &new]) };
        KeyStep { number, receipt, entry }
    }

    fn over(size: u64, signers: &[u8]) -> Signed {
        let signers: Vec<Signer> = signers.iter().map(|seed| signer(*seed)).collect();
        let head = Checkpoint { origin: NAME.into(), size, root: Digest([1; 32]) };
        Signed::parse(&head.publish_by(&signers.iter().collect::<Vec<_>>())).unwrap()
    }

    #[test]
    fn the_first_key_must_have_signed_and_no_line_may_be_bad() {
        let signer = signer(1);
        let keys = LogKeys::parse(&signer.vkeys()).unwrap();
        assert_eq!((keys.text(), keys.vkey()), (signer.vkeys(), signer.verifier().vkey()));
        let mut signed = over(3, &[1]);
        let held = keys.verify(&signed).unwrap();
        assert_eq!((held.spoke.len(), held.silent), (2, Vec::new()));
        signed.signatures[1].signature[100] ^= 1;
        assert_eq!(keys.verify(&signed), Err(NoteError::BadSignature));
        signed.signatures.truncate(1);
        assert_eq!(keys.verify(&signed).unwrap().silent, alloc::vec![&signer.second_verifier()]);
        let second_first = LogKeys::from(signer.second_verifier());
        assert_eq!(second_first.verify(&signed), Err(NoteError::NotSigned));
    }

    #[test]
    fn keys_are_of_one_log() {
        let (one, other) = (Signer::new("a", &[1; 32]).unwrap(), Signer::new("b", &[1; 32]).unwrap());
        assert!(LogKeys::parse(&(one.vkeys() + &other.vkeys())).is_err());
        for bad in ["", "\n", "a+1+2"] {
            assert!(LogKeys::parse(bad).is_err(), "{bad:?}");
        }
        assert!(LogKeys::parse(&one.vkeys().repeat(9)).is_err());
        assert!(LogKeys::parse_set(&one.vkeys()).is_ok());
        assert!(LogKeys::parse_set(&one.vkeys().repeat(2)).is_err(), "two sets");
        assert!(LogKeys::parse_set(one.vkeys().trim_end()).is_err(), "another spelling");
        assert!(LogKeys::parse_set(&(one.verifier().vkey() + "\n")).is_err(), "half a set");
        assert!(
            LogKeys::parse_set(&Signer::new("\u{e9}", &[1; 32]).unwrap().vkeys()).is_err(),
            "no leaf holds it"
        );
    }

    #[test]
    fn of_two_sets_in_a_file_either_may_have_signed() {
        let both = LogKeys::parse(&(signer(1).vkeys() + &signer(2).vkeys())).unwrap();
        assert_eq!(both.sets(), 2);
        for signers in [&[1][..], &[2], &[1, 2]] {
            let signed = over(3, signers);
            let held = both.verify(&signed).unwrap();
            assert_eq!((held.spoke.len(), held.silent.len()), (2 * signers.len(), 0));
        }
        assert_eq!(both.verify(&over(3, &[3])), Err(NoteError::NotSigned));
    }

    #[test]
    fn whoever_holds_a_key_of_the_chain_comes_to_all_others() {
        let steps = [step(2, 1), step(3, 2)];
        for seed in 1..=3 {
            let all = keys(seed).follow(&steps).unwrap();
            assert_eq!((all.sets(), all.vkey()), (3, signer(3).verifier().vkey()));
            // The second set signs from entry 8 on, the third from entry 12 on.
            for (size, by) in [(1, 1), (8, 1), (9, 2), (12, 2), (13, 3), (99, 3)] {
                for other in 1..=3 {
                    let held = all.verify(&over(size, &[other]));
                    assert_eq!(held.is_ok(), other == by, "{size} entries, signed by {other}");
                }
                assert!(all.verify(&over(size, &[1, 2, 3])).is_ok());
            }
        }
        let alone = LogKeys::from(signer(1).verifier()).follow(&steps).unwrap();
        assert_eq!(alone.sets(), 3, "one line of a set is enough to know it by");
        assert_eq!(keys(1).follow(&[]), Ok(keys(1)));
    }

    #[test]
    fn a_statement_that_was_not_made_by_both_keys_is_named() {
        let steps = [step(2, 1), step(3, 2)];
        let broken = |steps: &[KeyStep]| keys(1).follow(steps).unwrap_err();
        assert_eq!(keys(4).follow(&steps).unwrap_err().number, 2, "a key that is none of the chain");
        assert_eq!(broken(&steps[1..]).number, 3, "one is missing");
        assert_eq!(broken(&[step(2, 1), step(3, 5)]).number, 3, "it follows another key");
        assert_eq!(broken(&[step(2, 1), step(2, 1)]).number, 2);
        for line in 0..4 {
            let mut one = step(2, 1);
            let mut signed = Signed::parse(&one.receipt.checkpoint).unwrap();
            signed.signatures.remove(line);
            one.receipt.checkpoint = signed.encode();
            let why = broken(&[one]).why;
            assert!(why.starts_with("no signature of this key ("), "{why}");
        }
        // A thief of the old key introduces one of his own: the new key has not signed.
        let mut forged = step(2, 1);
        forged.entry = line(2, &signer(1), &signer(9));
        assert!(broken(&[forged]).why.contains("does not lead to the root"));
        let mut moved = step(2, 1);
        moved.receipt.index -= 1;
        assert!(broken(&[moved]).why.contains("does not lead to the root"));
        let mut other = step(2, 1);
        other.entry = b"x".to_vec();
        assert!(broken(&[other]).why.contains("not an audit leaf"));
    }
}
