//! The keys that sign what this log publishes: the one it began with, and those it went over to.
//!
//! Which of them sign a tree follows from the ledger ([`engine::ledger::Ledger::log_keys`]): the newest whose entry the tree
//! holds, and for a while the one before it, too. The seed of the first stands in a file, those of the others sealed in the
//! log; a node whose key-encryption key does not open one signs nothing that needs it, and says so.

use crate::keys::Kek;
use engine::checkpoint::Signer;
use engine::ledger::KeyChange;

/// The keys of one log with their seeds.
pub struct LogSigners {
    founding: Signer,
    later: Vec<Later>,
}

struct Later {
    change: KeyChange,
    signer: Result<Signer, String>,
}

impl Later {
    /// Whether the set before signs, too.
    fn both(&self, now_ms: u64) -> bool {
        // The first checkpoint over the entry is what convinces whoever has the old key: it is always signed by both.
        now_ms <= self.change.both_until_ms || self.change.note.is_empty()
    }
}

impl LogSigners {
    /// Opens the seeds of all sets. What cannot be had is told when it is asked for.
    #[must_use]
    pub fn new(founding: &Signer, changes: &[KeyChange], kek: &Kek) -> LogSigners {
        let mut follows = Ok(founding.vkeys());
        let mut later = Vec::with_capacity(changes.len());
        for change in changes {
            let signer = match follows.as_ref() {
                Ok(text) if *text != change.follows => {
                    Err("keys.log_key_file is not the key that this log began with".to_owned())
                }
                _ => open(founding, change, kek),
            };
            if let Err(why) = &signer {
                tracing::error!(number = change.number, why, "the log's keys cannot be used");
            }
            follows = signer.as_ref().map(Signer::vkeys).map_err(|_| ());
            later.push(Later { change: change.clone(), signer });
        }
        LogSigners { founding: founding.clone(), later }
    }

    /// Who signs a tree of `size` leaves at log time `now_ms`: one, or two while an old key goes, the old one first.
    ///
    /// # Errors
    /// Why the seed of one of them cannot be had.
    pub fn of(&self, size: u64, now_ms: u64) -> Result<Vec<&Signer>, &str> {
        let at = self.later.partition_point(|later| later.change.seq < size);
        let mut signers = Vec::with_capacity(2);
        if let Some(newest) = at.checked_sub(1).map(|newest| &self.later[newest])
            && newest.both(now_ms)
        {
            signers.push(self.nth(at - 1)?);
        }
        signers.push(self.nth(at)?);
        Ok(signers)
    }

    /// The one that must have signed a tree of `size` leaves.
    ///
    /// # Errors
    /// Why its seed cannot be had.
    pub fn main(&self, size: u64) -> Result<&Signer, &str> {
        self.nth(self.later.partition_point(|later| later.change.seq < size))
    }

    /// All sets that there have been, in order.
    ///
    /// # Errors
    /// Why the seed of one of them cannot be had.
    pub fn all(&self) -> Result<Vec<&Signer>, &str> {
        (0..=self.later.len()).map(|nth| self.nth(nth)).collect()
    }

    fn nth(&self, nth: usize) -> Result<&Signer, &str> {
        match nth.checked_sub(1) {
            None => Ok(&self.founding),
            Some(later) => self.later[later].signer.as_ref().map_err(String::as_str),
        }
    }

    /// The public keys that sign what is published at log time `now_ms`, a line each, those of an old set first.
    #[must_use]
    pub fn vkeys(&self, now_ms: u64) -> String {
        match self.later.last() {
            None => self.founding.vkeys(),
            Some(last) if last.both(now_ms) => last.change.follows.clone() + &last.change.keys,
            Some(last) => last.change.keys.clone(),
        }
    }

    /// Whether nothing was signed by both of the last two sets yet, as far as this knows.
    #[must_use]
    pub fn lacks_statement(&self) -> bool {
        self.later.last().is_some_and(|last| last.change.note.is_empty())
    }

    /// The text of the newest set.
    #[must_use]
    pub fn newest(&self) -> String {
        self.later.last().map_or_else(|| self.founding.vkeys(), |last| last.change.keys.clone())
    }

    /// Number of the set that signs, and until which log time in milliseconds the one before does, too; 0 if it does not.
    #[must_use]
    pub fn standing(&self, now_ms: u64) -> (u64, u64) {
        match self.later.last() {
            None => (1, 0),
            Some(last) => (last.change.number, if last.both(now_ms) { last.change.both_until_ms } else { 0 }),
        }
    }

    /// Whether everything can be signed, and a line about it.
    #[must_use]
    pub fn line(&self, now_ms: u64) -> (bool, String) {
        let (number, until) = self.standing(now_ms);
        if let Some(Later { signer: Err(why), .. }) = self.later.last() {
            return (false, format!("NO CHECKPOINTS ARE SIGNED: set {number}: {why}"));
        }
        let newest = self.newest();
        let name =
            newest.lines().next().and_then(|line| line.split('+').nth(1)).unwrap_or_default().to_owned();
        let beside = match until {
            0 => String::new(),
            until => format!(", beside set {} until log time {until} ms", number - 1),
        };
        (true, format!("set {number}, key {name}, signs{beside}"))
    }
}

fn open(founding: &Signer, change: &KeyChange, kek: &Kek) -> Result<Signer, String> {
    let seed = kek.open_log_key(&change.keys, &change.sealed);
    let seed = seed.ok_or("its seed does not open: is keys.kek_file the one it was sealed with?")?;
    let signer = Signer::new(founding.name(), &seed).map_err(|error| error.to_string())?;
    if signer.vkeys() == change.keys {
        Ok(signer)
    } else {
        Err("its seed gives other keys than the log names".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    const NAME: &str = "localhost/pcs/default";

    fn signer(seed: u8) -> Signer {
        Signer::new(NAME, &[seed; 32]).unwrap()
    }

    fn change(kek: &Kek, number: u64, note: &[u8]) -> KeyChange {
        let (old, new) = (signer(number as u8 - 1), signer(number as u8));
        KeyChange {
            number,
            seq: 10 * number,
            entry: Vec::new(),
            both_until_ms: 1000 * number,
            follows: old.vkeys(),
            keys: new.vkeys(),
            sealed: kek.seal_log_key(&new.vkeys(), &[number as u8; 32]).unwrap(),
            note: note.to_vec(),
        }
    }

    #[test]
    fn the_size_of_a_tree_says_who_signs_and_log_time_for_how_long_two_do() {
        let kek = Kek::new(Zeroizing::new([7; 32]));
        let changes = [change(&kek, 2, b"note"), change(&kek, 3, b"")];
        let signers = LogSigners::new(&signer(1), &changes, &kek);
        let who = |size, now_ms| {
            let signers = signers.of(size, now_ms).unwrap();
            signers.iter().map(|signer| signer.vkeys()).collect::<String>()
        };
        let text = |seeds: &[u8]| seeds.iter().map(|seed| signer(*seed).vkeys()).collect::<String>();
        assert_eq!(who(20, 0), text(&[1]));
        assert_eq!(who(21, 2000), text(&[1, 2]));
        assert_eq!(who(30, 2001), text(&[2]), "the window is over");
        assert_eq!(who(31, 3001), text(&[2, 3]), "over, and nothing is signed by both yet");
        assert_eq!(signers.main(31).unwrap().vkeys(), text(&[3]));
        assert_eq!(signers.vkeys(9000), text(&[2, 3]));
        let whole = LogSigners::new(&signer(1), &[changes[0].clone(), change(&kek, 3, b"note")], &kek);
        assert_eq!((whole.vkeys(3000), whole.vkeys(3001)), (text(&[2, 3]), text(&[3])));
        assert_eq!((whole.standing(3000), whole.standing(3001)), ((3, 3000), (3, 0)));
        assert!(whole.line(9000).0);
    }

    #[test]
    fn without_the_right_secrets_nothing_is_signed_that_needs_them() {
        let kek = Kek::new(Zeroizing::new([7; 32]));
        let changes = [change(&kek, 2, b"note")];
        let other = LogSigners::new(&signer(1), &changes, &Kek::new(Zeroizing::new([8; 32])));
        assert!(other.of(20, 0).is_ok(), "what the first key signs needs no other");
        assert!(other.of(21, 9000).is_err() && !other.line(0).0);
        assert_eq!(other.vkeys(9000), signer(2).vkeys(), "what is public is known all the same");
        let stranger = LogSigners::new(&signer(5), &changes, &kek);
        assert!(stranger.of(21, 9000).is_err());
        let mut swapped = changes[0].clone();
        swapped.sealed = kek.seal_log_key(&swapped.keys, &[6; 32]).unwrap();
        assert!(LogSigners::new(&signer(1), &[swapped], &kek).of(21, 9000).is_err());
    }
}
