//! First answers kept for duplicates: a fixed number of slots, the newer one wins a slot (L1).
//!
//! An answer that is not here is made again from the log, so what is kept changes speed and nothing else.

use bytes::Bytes;
use engine::log::Lsn;
use std::sync::{Mutex, MutexGuard};

/// Where a submission stands: number of its region ([`engine::ledger::First::origin`]), record, place in it.
pub type Where = (u8, Lsn, u32);

struct Slot {
    place: Where,
    status: u16,
    body: Bytes,
}

/// The slots.
pub struct Answers(Vec<Mutex<Option<Slot>>>);

impl Answers {
    /// Room for `n` answers.
    pub fn new(n: usize) -> Answers {
        Answers((0..n.max(1)).map(|_| Mutex::new(None)).collect())
    }

    fn slot(&self, (_, lsn, nth): Where) -> MutexGuard<'_, Option<Slot>> {
        // Neighbours in a record go to neighbouring slots; records follow each other at a stride that is odd.
        let at = lsn.0.wrapping_mul(509).wrapping_add(u64::from(nth)) % self.0.len() as u64;
        self.0[at as usize].lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The first answer of the submission at this place.
    pub fn get(&self, place: Where) -> Option<(u16, Bytes)> {
        let slot = self.slot(place);
        slot.as_ref().filter(|slot| slot.place == place).map(|slot| (slot.status, slot.body.clone()))
    }

    /// Keeps one.
    pub fn put(&self, place: Where, status: u16, body: Bytes) {
        *self.slot(place) = Some(Slot { place, status, body });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_the_right_one_or_none() {
        let answers = Answers::new(64);
        for n in 0..1000 {
            let place = (0, Lsn(n), (n % 7) as u32);
            answers.put(place, 200, Bytes::from(format!("{n}")));
            let (_, body) = answers.get(place).unwrap();
            assert_eq!(body, format!("{n}"));
            assert!(answers.get((1, Lsn(n), (n % 7) as u32)).is_none());
        }
        let found: Vec<u64> =
            (0..1000).filter(|n| answers.get((0, Lsn(*n), (*n % 7) as u32)).is_some()).collect();
        assert!(found.len() <= 64 && found.iter().all(|n| answers.get((0, Lsn(*n), 9)).is_none()));
    }
}
