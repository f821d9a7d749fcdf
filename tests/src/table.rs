//! The contract of `engine::ledger::Table`, as checks that every implementation passes.

use engine::ledger::{First, Table, TableError};
use engine::log::Lsn;
use proptest::prelude::*;

/// A row whose tag is one of few, so that tags repeat, spread over all values.
pub fn row(number: u64, tag: u8) -> First {
    let mut key = [tag; 32];
    key[..8].copy_from_slice(&(u64::from(tag) * (u64::MAX / 255)).to_be_bytes());
    key[8..16].copy_from_slice(&number.to_le_bytes());
    First {
        key,
        digest: [tag; 16],
        lanes: [number as u16; 13],
        lsn: Lsn(number + 1),
        nth: (number % 4096) as u32,
        seq: number * 2,
        time_ms: number * 10,
        policy: 0,
        code: 0,
        flags: 1,
    }
}

/// One thing done to a table.
#[derive(Clone, Debug)]
pub enum Step {
    /// Push this many rows.
    Push(u8),
    /// Demote up to this share of the rows that are not, in 255ths.
    Demote(u8),
    /// Expire up to this share of all rows, in 255ths.
    Expire(u8),
    /// Forget this share of all rows, in 255ths, and push the same again.
    Rewind(u8),
    /// Let work in the background finish.
    Settle,
}

/// Random histories of a table.
pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => any::<u8>().prop_map(Step::Push),
        3 => any::<u8>().prop_map(Step::Demote),
        1 => any::<u8>().prop_map(Step::Expire),
        1 => (0..64_u8).prop_map(Step::Rewind),
        2 => Just(Step::Settle),
    ];
    proptest::collection::vec(step, 1..30)
}

fn tag_at(number: u64) -> u8 {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57) as u8
}

fn share(of: u64, part: u8) -> u64 {
    of * u64::from(part) / 255
}

/// Goes through a history and checks every obligation after each step.
///
/// # Panics
/// At the first obligation that does not hold.
pub fn check<T: Table>(mut table: T, steps: &[Step], mut settle: impl FnMut(&mut T)) {
    let (mut model, mut expired) = (Vec::new(), 0);
    for step in steps {
        match *step {
            Step::Push(count) => push(&mut table, &mut model, u64::from(count)),
            Step::Demote(part) => {
                let (rows, demoted) = (table.rows(), table.demoted());
                // What is still being taken may pass what is asked for now.
                settle(&mut table);
                let upto = table.demoted().max(demoted + share(rows - demoted, part));
                table.demote(upto).expect("demote");
            }
            Step::Expire(part) => {
                expired = expired.max(share(table.rows(), part));
                table.expire(expired);
                assert!(table.expired() >= expired);
            }
            Step::Rewind(part) => {
                let rows = table.rows();
                let kept = rows - share(rows, part);
                table.rewind(kept).expect("rewind");
                model.truncate(kept as usize);
                assert_eq!(table.rows(), kept);
                assert_eq!(table.rewind(kept + 1), Err(TableError::NoSuchRow(kept + 1)));
                push(&mut table, &mut model, rows - kept);
            }
            Step::Settle => settle(&mut table),
        }
        check_all(&table, &model, expired);
    }
}

fn push<T: Table>(table: &mut T, model: &mut Vec<First>, count: u64) {
    for _ in 0..count {
        let number = model.len() as u64;
        let row = row(number, tag_at(number));
        assert_eq!(table.push(&row), Ok(number), "rows are numbered from 0");
        model.push(row);
    }
}

fn check_all<T: Table>(table: &T, model: &[First], expired: u64) {
    assert_eq!(table.rows(), model.len() as u64);
    assert_eq!(table.row(table.rows()), Err(TableError::NoSuchRow(table.rows())));
    let mut all = Vec::new();
    table.each(0, &mut |number, row| all.push((number, *row))).expect("each");
    let expected: Vec<_> = model.iter().enumerate().map(|(number, row)| (number as u64, *row)).collect();
    assert_eq!(all, expected);
    if let Some(last) = model.last() {
        assert_eq!(table.row(table.rows() - 1).as_ref(), Ok(last));
        assert_eq!(table.row(0).as_ref(), Ok(&model[0]));
    }
    let demoted = table.demoted();
    for tag in (0..=u8::MAX).step_by(1) {
        let mut found = Vec::new();
        table.find(row(0, tag).tag(), &mut found).expect("find");
        assert!(found.iter().all(|&number| number < table.rows()), "no row that is not there: {found:?}");
        for number in expired..demoted {
            if tag_at(number) == tag {
                assert!(
                    found.contains(&number),
                    "row {number} of {demoted} is not found under its tag {tag}"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::event::{Envelope, Event};
    use engine::ids::{KeyId, TenantId};
    use engine::ledger::{Ledger, MemTable, Outcome, SnapshotError};
    use engine::summary::{
        Fingerprint, Judged, PcsId, ReasonCode, Regime, Signals, SignatureForm, Signed, Sound, Verdict,
    };
    use segments::runs::{DiskTable, Syncing, TableOptions};

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn the_table_in_memory_keeps_the_contract(steps in steps()) {
            check(MemTable::new(), &steps, |_| {});
        }

        #[test]
        fn the_table_on_disk_keeps_the_contract(steps in steps(), background in any::<bool>()) {
            let dir = tempfile::tempdir().unwrap();
            let options = TableOptions { id: 7, piece_groups: 3, background };
            let table = DiskTable::open(dir.path(), &options).unwrap();
            check(table, &steps, |table| table.settle().unwrap());
        }
    }

    /// What one record does to the ledger, or what happens to the process after it.
    #[derive(Clone, Debug)]
    enum Life {
        /// This many submissions under one of 200 names, one of two contents each.
        Record(u8, u64),
        /// A snapshot that is kept.
        Snapshot,
        /// The process ends and starts again from the last snapshot; what came after it comes again.
        Restart,
    }

    fn life() -> impl Strategy<Value = Vec<Life>> {
        let one = prop_oneof![
            6 => (1..60_u8, any::<u64>()).prop_map(|(count, seed)| Life::Record(count, seed)),
            1 => Just(Life::Snapshot),
            1 => Just(Life::Restart),
        ];
        proptest::collection::vec(one, 1..40)
    }

    fn record(count: u8, seed: u64, received_at_ms: u64) -> Vec<(Event, Judged)> {
        let tenant = TenantId::new("t").unwrap();
        let submission = |n: u8| {
            let id = (seed.rotate_left(n.into()) % 200) as u8;
            let content = (seed >> (n % 64) & 1) as u8;
            let body = vec![id, content];
            let envelope = Envelope { tenant, received_at_ms, salt: [0; 16], body };
            let sound = Sound {
                id: PcsId([id; 32]),
                key: First::key_of(&tenant, &[id; 32]),
                commitment: envelope.commitment(),
                signed: Signed { form: SignatureForm::ALL[0], key_id: KeyId::new("k").unwrap(), key: 0 },
                fingerprint: Fingerprint { digest: [content; 16], lanes: [content.into(); 13] },
                verdict: Verdict {
                    accepted: true,
                    escalated: false,
                    code: ReasonCode::Accepted,
                    reason: String::new(),
                    recomputed_d_hat: None,
                    recomputed_budget: None,
                },
                signals: Signals { d_hat: 1.0, coh_star: 0.5, r: 0.5, budget: 0.5, regime: Regime::Mixed },
                written: None,
            };
            (Event::Received(envelope), Judged::Sound(sound))
        };
        (0..count).map(submission).collect()
    }

    fn fold<T: Table>(ledger: &mut Ledger<T>, inputs: &[(Event, Judged)]) -> Vec<Outcome> {
        let lsn = ledger.applied().next();
        let mut outcomes = Vec::new();
        for (nth, (event, judged)) in inputs.iter().enumerate() {
            let outcome = ledger.decide(lsn, nth as u32, event, Some(judged)).unwrap();
            ledger.apply(lsn, nth as u32, event, Some(judged), &outcome);
            outcomes.push(outcome);
        }
        ledger.end_record(lsn);
        outcomes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// A ledger over the table on disk, restarted wherever it may be, is the ledger over the table in memory.
        #[test]
        fn the_ledger_does_not_feel_its_table(
            lives in life(), recent_max in 1_u64..80, background in any::<bool>()
        ) {
            let dir = tempfile::tempdir().unwrap();
            let options = TableOptions { id: 7, piece_groups: 2, background };
            let open = || DiskTable::open(dir.path(), &options).unwrap();
            let mut model = Ledger::new("default", MemTable::new());
            let mut ledger = Ledger::new("default", open());
            ledger.set_recent_max(recent_max);
            let mut snapshot: Option<Vec<u8>> = None;
            let (mut all, mut kept, mut now_ms) = (Vec::new(), 0, 0);
            for life in lives {
                match life {
                    Life::Record(count, seed) => {
                        now_ms += seed % 100 * 3_600_000;
                        let inputs = record(count, seed, now_ms);
                        prop_assert_eq!(fold(&mut ledger, &inputs), fold(&mut model, &inputs));
                        all.push(inputs);
                    }
                    Life::Snapshot => {
                        let bytes = ledger.snapshot().unwrap();
                        ledger.table().sync().and_then(Syncing::wait).unwrap();
                        snapshot = Some(bytes);
                        kept = all.len();
                    }
                    Life::Restart => {
                        drop(ledger);
                        let restored = snapshot.as_ref().map(|bytes| Ledger::restore(bytes, open()));
                        (ledger, kept) = match restored {
                            Some(Ok(ledger)) => (ledger, kept),
                            // No snapshot, or one so old that keys have expired since which it still needs.
                            None | Some(Err(SnapshotError::Table(_))) => {
                                std::fs::remove_dir_all(dir.path()).unwrap();
                                snapshot = None;
                                (Ledger::new("default", open()), 0)
                            }
                            Some(Err(error)) => panic!("{error}"),
                        };
                        ledger.set_recent_max(recent_max);
                        all[kept..].iter().for_each(|inputs| drop(fold(&mut ledger, inputs)));
                    }
                }
                prop_assert_eq!(ledger.digest(), model.digest());
            }
            ledger.settle(DiskTable::settle).unwrap();
            prop_assert!(ledger.check_rows().is_ok());
        }
    }
}
