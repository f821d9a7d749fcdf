//! The fold against logs a leader made, whole and with one lie in them.

use engine::event::Event;
use engine::ledger::MemTable;

use super::*;
use crate::audit::home::Kek;
use crate::world::{REGION, World};

#[derive(Default)]
struct Seen(Vec<Vec<u8>>, u64);

impl Watch for Seen {
    fn leaf(&mut self, leaf: &Appended<'_>) -> Result<(), Wrong> {
        assert_eq!(leaf.seq, self.0.len() as u64);
        self.0.push(leaf.line.to_vec());
        Ok(())
    }

    fn checkpoint(&mut self, _: Lsn, _: &Signed) -> Result<(), Wrong> {
        self.1 += 1;
        Ok(())
    }
}

fn fold(records: &[(Lsn, Vec<u8>)], source: &Source<'_>) -> Result<(Counts, Digest, Seen), Wrong> {
    let mut fold = Fold::new(Ledger::new(REGION, MemTable::default()), source, 2).in_chunks_of(9000);
    let mut seen = Seen::default();
    for (lsn, payload) in records {
        fold.push(*lsn, Place { segment: 1, offset: lsn.0 }, payload, &mut seen)?;
    }
    fold.finish(&mut seen)?;
    Ok((fold.counts(), fold.ledger().digest(), seen))
}

#[test]
fn with_and_without_secrets_the_same_log_means_the_same() {
    let world = World::busy(200);
    let kek = Kek::read(&world.kek()).unwrap();
    let leaves: Vec<_> = world.leaves.iter().map(|(_, leaf)| leaf.clone()).collect();
    for source in [Source::Attested, Source::Secrets(&kek)] {
        let (counts, digest, seen) = fold(&world.records, &source).unwrap();
        assert_eq!(digest, world.ledger.digest());
        assert_eq!((seen.0, seen.1), (leaves.clone(), counts.checkpoints));
        assert_eq!((counts.submissions, counts.uncovered), (600, 0));
        assert!(counts.attested > 20);
        match source {
            Source::Attested => assert!(counts.hmac_taken > 100 && counts.signatures_checked > 100),
            Source::Secrets(_) => assert_eq!((counts.hmac_taken, counts.signatures_checked), (0, 600)),
        }
    }
}

#[test]
fn what_no_attested_covers_is_counted_and_not_guessed() {
    let mut world = World::busy(20);
    world.submit(3);
    world.submit(1);
    let (counts, ..) = fold(&world.records, &Source::Attested).unwrap();
    assert_eq!(counts.uncovered, 2);
    let kek = Kek::read(&world.kek()).unwrap();
    let (counts, digest, _) = fold(&world.records, &Source::Secrets(&kek)).unwrap();
    assert_eq!((counts.uncovered, digest), (0, world.ledger.digest()));
}

/// A log that was written anew with one thing changed, all sums made again: only folding finds that.
#[test]
fn every_kind_of_lie_is_found_at_its_record() {
    let world = World::busy(60);
    type Lie = fn(&mut Event) -> bool;
    let lies: [(&str, Lie); 5] = [
        ("outcomes", |event| match event {
            Event::Attested(attested) if attested.upto > Lsn(5) => {
                attested.outcomes = Digest::ZERO;
                true
            }
            _ => false,
        }),
        ("ledger", |event| match event {
            Event::Attested(attested) if attested.upto > Lsn(5) => {
                attested.ledger = Digest::ZERO;
                true
            }
            _ => false,
        }),
        ("signatures", |event| match event {
            Event::Attested(attested) => attested.signatures.pop().is_some(),
            _ => false,
        }),
        ("checkpoint", |event| match event {
            Event::Checkpoint(note) => {
                let at = note.iter().position(|byte| *byte == b'\n').unwrap() + 1;
                note[at] = if note[at] == b'1' { b'2' } else { b'1' };
                true
            }
            _ => false,
        }),
        ("outcomes", |event| match event {
            Event::Received(envelope) => {
                envelope.salt[0] ^= 1;
                true
            }
            _ => false,
        }),
    ];
    for (part, lie) in lies {
        let mut records = world.records.clone();
        let changed = records.iter_mut().find_map(|(lsn, bytes)| {
            let mut record = Record::decode(bytes).unwrap();
            let Payload::Events(events) = &mut record.payload else { return None };
            if !events.iter_mut().any(lie) {
                return None;
            }
            bytes.clear();
            record.encode(bytes);
            Some(*lsn)
        });
        let wrong = fold(&records, &Source::Attested).err().expect("a lie is found");
        assert_eq!(wrong.part, part, "{wrong}");
        assert!(wrong.lsn >= changed.unwrap() && wrong.lsn.0 <= changed.unwrap().0 + 20, "{wrong}");
    }
    let mut records = world.records.clone();
    records.remove(10);
    let wrong = fold(&records, &Source::Attested).err().unwrap();
    assert_eq!((wrong.part, wrong.lsn), ("log", Lsn(12)));
}
