//! What the ledger promises, tried with random logs.

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec;

use proptest::prelude::*;

use super::*;

mod ahead;
use crate::event::{Envelope, KeyKind, KeySpec, PolicySet, Tenant};
use crate::ids::KeyId;
use crate::leaf::{Leaf, What};
use crate::summary::{
    Fingerprint, ParseError, Policy, ReasonCode, Regime, Signals, SignatureForm, Signed, Sound, Verdict,
};
use crate::tree::{MemHashes, leaf_hash, root_at};

/// One step of a random log.
#[derive(Clone, Debug)]
enum Step {
    /// A sound submission: (tenant, id, content, milliseconds since the step before).
    Submit(u8, u8, u8, u16),
    /// Hours pass.
    Wait(u8),
    /// A body that is refused.
    Refused(u8, bool),
    Tenant(u8),
    Key(u8, u8, u16),
    /// A policy with this time to live in seconds.
    Policy(u8),
    Attested,
}

fn steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let step = prop_oneof![
        12 => (0..3_u8, 0..6_u8, 0..3_u8, any::<u16>()).prop_map(|(t, i, c, d)| Step::Submit(t, i, c, d)),
        1 => any::<u8>().prop_map(Step::Wait),
        2 => (0..3_u8, any::<bool>()).prop_map(|(t, b)| Step::Refused(t, b)),
        1 => (0..3_u8).prop_map(Step::Tenant),
        1 => (0..4_u8, 0..12_u8, any::<u16>()).prop_map(|(t, k, e)| Step::Key(t, k, e)),
        1 => (1..4_u8).prop_map(Step::Policy),
        1 => Just(Step::Attested),
    ];
    proptest::collection::vec(proptest::collection::vec(step, 0..6), 1..40)
}

type Input = (Event, Option<Judged>);

fn tenant_id(tenant: u8) -> TenantId {
    TenantId::new(&alloc::format!("t{tenant}")).unwrap()
}

fn sound(event: &Event, id: u8, content: u8) -> Judged {
    let Event::Received(envelope) = event else { panic!("only a submission is sound") };
    Judged::Sound(Sound {
        // Two tenants may well use one id.
        id: PcsId([id; 32]),
        key: First::key_of(&envelope.tenant, &[id; 32]),
        commitment: envelope.commitment(),
        signed: Signed { form: SignatureForm::ALL[0], key_id: KeyId::new("k").unwrap(), key: 0 },
        fingerprint: Fingerprint {
            digest: [content; 16],
            lanes: core::array::from_fn(|i| if i == 4 { content.into() } else { 1 }),
        },
        verdict: Verdict {
            accepted: content != 2,
            escalated: content != 0,
            code: if content == 0 { ReasonCode::Accepted } else { ReasonCode::BudgetDeviation },
            reason: String::new(),
            recomputed_d_hat: Some(1.25),
            recomputed_budget: None,
        },
        signals: Signals { d_hat: 1.25, coh_star: 0.5, r: 1.0, budget: -0.0, regime: Regime::Mixed },
        written: None,
    })
}

/// Turns steps into records of events, with their judgements. `Attested` events carry what `ledger` says when
/// their record begins.
fn record(steps: &[Step], now_ms: &mut u64, ledger: &Ledger<MemTable>) -> Vec<Input> {
    let envelope = |tenant: u8, at_ms: u64, body: &[u8]| {
        Event::Received(Envelope {
            tenant: tenant_id(tenant),
            received_at_ms: at_ms,
            salt: [tenant; 16],
            body: body.to_vec(),
        })
    };
    let mut inputs = Vec::new();
    for step in steps {
        inputs.push(match *step {
            Step::Wait(hours) => {
                *now_ms += u64::from(hours) * 3_600_000;
                continue;
            }
            Step::Submit(tenant, id, content, wait) => {
                *now_ms += u64::from(wait);
                let event = envelope(tenant, *now_ms, &[id, content]);
                let judged = sound(&event, id, content);
                (event, Some(judged))
            }
            Step::Refused(tenant, malformed) => {
                let judged = if malformed { Judged::Malformed(ParseError::TooLarge) } else { Judged::NoKey };
                (envelope(tenant, *now_ms, b"?"), Some(judged))
            }
            Step::Tenant(tenant) => (
                Event::TenantSet(Tenant {
                    at_ms: *now_ms,
                    id: tenant_id(tenant),
                    display: "T".into(),
                    active: now_ms.is_multiple_of(2),
                    rate_per_s: 100,
                    burst: 200,
                    daily_quota: 0,
                    region: "default".into(),
                }),
                None,
            ),
            Step::Key(tenant, key, end) => (
                Event::KeySet(KeySpec {
                    at_ms: *now_ms,
                    tenant: tenant_id(tenant),
                    key_id: KeyId::new(&alloc::format!("k{key}")).unwrap(),
                    kind: KeyKind::Ed25519([key; 32]),
                    not_before_ms: 0,
                    not_after_ms: if end % 3 == 0 { u64::MAX } else { *now_ms + u64::from(end) },
                }),
                None,
            ),
            Step::Policy(seconds) => {
                let version = alloc::format!("ttl-{seconds}");
                let dedup_ttl_ms = u64::from(seconds) * 60_000;
                let policy = Policy { version, dedup_ttl_ms, ..Policy::default_1_0_0() };
                (Event::PolicySet(PolicySet { at_ms: *now_ms, policy }), None)
            }
            Step::Attested => (Event::Attested(ledger.attest()), None),
        });
    }
    inputs
}

/// Folds a record whole and returns what became of its events.
fn fold<T: Table>(ledger: &mut Ledger<T>, inputs: &[Input]) -> Vec<(Outcome, Applied)> {
    let lsn = ledger.applied().next();
    let mut results = Vec::new();
    for (nth, (event, judged)) in inputs.iter().enumerate() {
        if let Event::Attested(attested) = event {
            ledger.check_attested(attested).unwrap();
        }
        let outcome = ledger.decide(lsn, nth as u32, event, judged.as_ref()).unwrap();
        let applied = ledger.apply(lsn, nth as u32, event, judged.as_ref(), &outcome);
        results.push((outcome, applied));
    }
    ledger.end_record(lsn);
    results
}

fn records(steps: &[Vec<Step>]) -> Vec<Vec<Input>> {
    let mut now_ms = 1_700_000_000_000;
    let mut ledger = Ledger::new("default", MemTable::new());
    steps
        .iter()
        .map(|steps| {
            let inputs = record(steps, &mut now_ms, &ledger);
            fold(&mut ledger, &inputs);
            inputs
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// I2 against a map that never forgets but by time; the point of demotion changes nothing.
    #[test]
    fn the_first_write_wins(steps in steps(), recent_max in 1_u64..12) {
        let mut ledger = Ledger::new("default", MemTable::new());
        ledger.set_recent_max(recent_max);
        let mut model: BTreeMap<(TenantId, u8), (u64, Lsn, u32, u8)> = BTreeMap::new();
        let mut ttl_ms = Policy::default_1_0_0().dedup_ttl_ms;
        for inputs in records(&steps) {
            let lsn = ledger.applied().next();
            for (nth, ((event, _), (outcome, _))) in inputs.iter().zip(fold(&mut ledger, &inputs)).enumerate() {
                match event {
                    Event::PolicySet(set) => ttl_ms = set.policy.dedup_ttl_ms,
                    Event::Received(envelope) if envelope.body != b"?" => {
                        let (id, content) = (envelope.body[0], envelope.body[1]);
                        let held = model.get(&(envelope.tenant, id)).filter(|held| envelope.received_at_ms < held.0);
                        match (held, &outcome) {
                            (None, Outcome::First { .. }) => {
                                let entry = (envelope.received_at_ms + ttl_ms, lsn, nth as u32, content);
                                model.insert((envelope.tenant, id), entry);
                            }
                            (Some(held), Outcome::Duplicate { first }) => {
                                prop_assert_eq!((first.lsn, first.nth, content), (held.1, held.2, held.3));
                            }
                            (Some(held), Outcome::Conflict { first, fields, .. }) => {
                                prop_assert_eq!((first.lsn, first.nth), (held.1, held.2));
                                prop_assert!(content != held.3 && *fields == 1 << 4);
                            }
                            other => prop_assert!(false, "{other:?}"),
                        }
                    }
                    _ => {}
                }
            }
        }
        ledger.check_rows().unwrap();
    }

    /// I3: the same log gives the same digests record by record, wherever keys are demoted, and the tree is
    /// that of the leaves handed out (T1).
    #[test]
    fn equal_logs_give_equal_ledgers(steps in steps(), recent_max in 1_u64..12) {
        let (mut one, mut two) = (Ledger::new("default", MemTable::new()), Ledger::new("default", MemTable::new()));
        two.set_recent_max(recent_max);
        let mut hashes = MemHashes::default();
        for inputs in records(&steps) {
            let (a, b) = (fold(&mut one, &inputs), fold(&mut two, &inputs));
            prop_assert_eq!(&a, &b);
            prop_assert_eq!(one.digest(), two.digest());
            for (outcome, applied) in a {
                prop_assert_eq!(outcome.seq().is_some(), applied.leaf.is_some());
                if let Some(leaf) = applied.leaf {
                    prop_assert_eq!(Some(leaf_hash(&leaf)), applied.leaf_hash);
                    prop_assert_eq!(outcome.seq(), Some(hashes.append(leaf_hash(&leaf))));
                    prop_assert_eq!(Leaf::parse(&leaf).unwrap().encode(), leaf);
                }
            }
            prop_assert_eq!(root_at(hashes.tree().size(), &mut hashes).unwrap(), one.tree().root());
        }
    }

    /// A snapshot anywhere, with the table as it was or as it is later, goes on as if nothing had happened.
    #[test]
    fn a_snapshot_and_the_tail_are_the_whole_log(
        steps in steps(), at in any::<prop::sample::Index>(), late in any::<bool>(), recent_max in 1_u64..12
    ) {
        let records = records(&steps);
        let at = at.index(records.len());
        let mut whole = Ledger::new("default", MemTable::new());
        whole.set_recent_max(recent_max);
        let mut then = None;
        for (i, inputs) in records.iter().enumerate() {
            if i == at {
                then = Some((whole.snapshot().unwrap(), whole.table().clone()));
            }
            fold(&mut whole, inputs);
        }
        let (bytes, table) = then.unwrap();
        let restored = Ledger::restore(&bytes, if late { whole.table().clone() } else { table });
        if late && matches!(restored, Err(SnapshotError::Table(TableError::Damaged { part: "key of row", .. }))) {
            // So late that keys have expired which the snapshot still needs: the log is replayed instead.
            prop_assert!(whole.table().expired() > 0);
            return Ok(());
        }
        let mut restored = restored.unwrap();
        restored.set_recent_max(recent_max);
        prop_assert_eq!(&restored.snapshot().unwrap(), &bytes);
        for inputs in &records[at..] {
            fold(&mut restored, inputs);
        }
        prop_assert_eq!(restored.digest(), whole.digest());
        prop_assert_eq!(restored.projections(), whole.projections());
        prop_assert_eq!(restored.keys_version(), whole.keys_version());
        restored.check_rows().unwrap();
    }

    /// I7: without the other tenants' events, the same things happen to mine.
    #[test]
    fn tenants_do_not_feel_each_other(steps in steps()) {
        let mine = |event: &Event| match event {
            Event::Received(envelope) => envelope.tenant == tenant_id(0),
            Event::TenantSet(tenant) => tenant.id == tenant_id(0),
            Event::KeySet(key) => key.tenant == tenant_id(0),
            Event::PolicySet(_) => true,
            Event::Attested(_)
 | Event::Checkpoint(_)
 | Event::Anchored(_)
 | Event::Witnessed(_)
             | Event::LogKeySet(_)
             | Event::Imported(_)
             | Event::Declared(_)
             | Event::Reconciled(_) => false,
        };
        // What happened, without where it stands in the log.
        let gist = |outcome: &Outcome| match outcome {
            Outcome::First { .. } => (1, None, 0),
            Outcome::Duplicate { first } => (2, Some((first.time_ms, first.digest, first.code)), 0),
            Outcome::Conflict { first, fields, .. } => (3, Some((first.time_ms, first.digest, first.code)), *fields),
            Outcome::Refused { reason, .. } => (4, None, *reason as u16),
            Outcome::Configured { .. } => (5, None, 0),
            Outcome::Noted => (6, None, 0),
        };
        let records = records(&steps);
        let mut together = Ledger::new("default", MemTable::new());
        let mut alone = Ledger::new("default", MemTable::new());
        for inputs in &records {
            let all = fold(&mut together, inputs);
            let expected: Vec<_> =
                inputs.iter().zip(&all).filter(|((event, _), _)| mine(event)).map(|(_, (outcome, _))| gist(outcome)).collect();
            let inputs: Vec<Input> = inputs.iter().filter(|(event, _)| mine(event)).cloned().collect();
            let found: Vec<_> = fold(&mut alone, &inputs).iter().map(|(outcome, _)| gist(outcome)).collect();
            prop_assert_eq!(found, expected);
        }
        let tally = |ledger: &Ledger<MemTable>| ledger.tenant(&tenant_id(0)).map(|state| state.tally);
        prop_assert_eq!(tally(&together), tally(&alone));
    }
}

fn submit(at_ms: u64, id: u8, content: u8) -> Input {
    let body = vec![id, content];
    let envelope = Envelope { tenant: tenant_id(1), received_at_ms: at_ms, salt: [1; 16], body };
    let event = Event::Received(envelope);
    let judged = sound(&event, id, content);
    (event, Some(judged))
}

#[test]
fn a_name_is_free_again_when_its_time_is_up() {
    let mut ledger = Ledger::new("default", MemTable::new());
    let ttl = Policy::default_1_0_0().dedup_ttl_ms;
    let results = fold(
        &mut ledger,
        &[submit(5, 1, 0), submit(4 + ttl, 1, 0), submit(5 + ttl, 1, 1), submit(9 + ttl, 1, 0)],
    );
    assert!(matches!(results[0].0, Outcome::First { row: 0, .. }));
    assert!(matches!(results[1].0, Outcome::Duplicate { .. }));
    assert!(matches!(results[2].0, Outcome::First { row: 1, .. }));
    assert!(matches!(results[3].0, Outcome::Conflict { first, .. } if first.time_ms == 5 + ttl));
}

#[test]
fn what_nobody_can_ask_for_leaves_the_table_a_day_later() {
    let mut ledger = Ledger::new("default", MemTable::new());
    ledger.set_recent_max(1);
    let day = 24 * 3_600_000;
    for today in 0..40_u64 {
        fold(&mut ledger, &[submit(today * day, today as u8, 0)]);
        // Fourteen days to live, and one until it is forgotten.
        assert!(ledger.table().expired() <= today.saturating_sub(14), "day {today}");
    }
    assert_eq!(ledger.table().expired(), 25);
    let results =
        fold(&mut ledger, &[submit(39 * day, 26, 0), submit(39 * day, 25, 0), submit(39 * day, 3, 0)]);
    let firsts: Vec<bool> =
        results.iter().map(|(outcome, _)| matches!(outcome, Outcome::First { .. })).collect();
    assert_eq!(firsts, [false, true, true]);
}

#[test]
fn lineage_names_the_record_and_the_policy() {
    let mut ledger = Ledger::new("default", MemTable::new());
    fold(&mut ledger, &[submit(5, 1, 2)]);
    let lineage = ledger.lineage(&tenant_id(1), &PcsId([1; 32])).unwrap().unwrap();
    assert_eq!((lineage.first.lsn, lineage.first.nth, lineage.first.seq), (Lsn(1), 0, 0));
    assert_eq!((lineage.first.accepted(), lineage.first.escalated()), (false, true));
    assert_eq!(lineage.rule.policy.version, "1.0.0");
    assert_eq!(ledger.lineage(&tenant_id(2), &PcsId([1; 32])).unwrap(), None);
}

#[test]
fn settings_are_refused_by_name() {
    let mut ledger = Ledger::new("default", MemTable::new());
    let mut now_ms = 1000;
    let mut inputs = record(&[Step::Key(1, 0, 0), Step::Tenant(1), Step::Policy(1)], &mut now_ms, &ledger);
    let Event::PolicySet(set) = &inputs[2].0 else { unreachable!() };
    let mut other = set.clone();
    other.policy.tol_d = 0.5;
    inputs.push((Event::PolicySet(other.clone()), None));
    other.policy.tol_d = 2.0;
    inputs.push((Event::PolicySet(other), None));
    inputs.extend(record(&(0..9).map(|key| Step::Key(1, key, 0)).collect::<Vec<_>>(), &mut now_ms, &ledger));
    let reasons: Vec<_> = fold(&mut ledger, &inputs)
        .into_iter()
        .enumerate()
        .filter_map(|(i, (outcome, _))| match outcome {
            Outcome::Refused { reason, .. } => Some((i, reason)),
            _ => None,
        })
        .collect();
    assert_eq!(
        reasons,
        [
            (0, RefusedReason::UnknownTenant),
            (3, RefusedReason::PolicyVersionTaken),
            (4, RefusedReason::InvalidPolicy),
            (13, RefusedReason::TooManyKeys),
        ]
    );
    assert_eq!(ledger.keys_version(), 10);
    assert_eq!(ledger.tenant(&tenant_id(1)).unwrap().keys_at(now_ms).count(), 8);
}

#[test]
fn an_ordinary_leaf_is_small_and_holds_no_body() {
    let mut ledger = Ledger::new("default", MemTable::new());
    let results = fold(&mut ledger, &[submit(1_700_000_000_000, 1, 0)]);
    let leaf = results[0].1.leaf.as_ref().unwrap();
    let text = core::str::from_utf8(leaf).unwrap().to_string();
    assert!(leaf.len() < 640, "{} bytes: {text}", leaf.len());
    let What::Pcs(pcs) = Leaf::parse(leaf).unwrap().what else { panic!("{text}") };
    assert_eq!(pcs.tenant, tenant_id(1));
    assert!(text.contains("\"budget\":\"0.000000000\""), "{text}");
}

#[test]
fn every_bent_or_cut_snapshot_is_refused() {
    let mut ledger = Ledger::new("default", MemTable::new());
    let mut now_ms = 1000;
    let inputs =
        record(&[Step::Tenant(1), Step::Key(1, 1, 3), Step::Submit(1, 1, 1, 5)], &mut now_ms, &ledger);
    fold(&mut ledger, &inputs);
    let bytes = ledger.snapshot().unwrap();
    assert_eq!(inspect(&bytes), Ok((Lsn(1), 1)));
    let restore = |bytes: &[u8], table: &MemTable| Ledger::restore(bytes, table.clone()).map(|_| ());
    assert_eq!(restore(&bytes, ledger.table()), Ok(()));
    for at in 0..bytes.len() {
        let mut bent = bytes.clone();
        bent[at] ^= 0x10;
        assert!(restore(&bent, ledger.table()).is_err(), "byte {at}");
        assert!(restore(&bytes[..at], ledger.table()).is_err(), "cut at {at}");
    }
    assert!(matches!(restore(&bytes, &MemTable::new()), Err(SnapshotError::Table(_))));
    let mut other = MemTable::new();
    other.push(&First { time_ms: 7, ..ledger.table().row(0).unwrap() }).unwrap();
    assert!(matches!(restore(&bytes, &other), Err(SnapshotError::Table(_))));
}

/// A table that fails at one push.
struct Failing(MemTable);

impl Table for Failing {
    fn push(&mut self, _: &First) -> Result<u64, TableError> {
        Err(TableError::Disk { operation: "write row", error: "no space".into() })
    }
    fn row(&self, number: u64) -> Result<First, TableError> {
        self.0.row(number)
    }
    fn rows(&self) -> u64 {
        self.0.rows()
    }
    fn demoted(&self) -> u64 {
        self.0.demoted()
    }
    fn find(&self, tag: u64, out: &mut Vec<u64>) -> Result<(), TableError> {
        self.0.find(tag, out)
    }
    fn demote(&mut self, upto: u64) -> Result<(), TableError> {
        self.0.demote(upto)
    }
    fn expire(&mut self, row: u64) {
        self.0.expire(row);
    }
    fn expired(&self) -> u64 {
        self.0.expired()
    }
    fn rewind(&mut self, rows: u64) -> Result<(), TableError> {
        self.0.rewind(rows)
    }
}

#[test]
fn after_a_failed_push_nothing_is_decided() {
    let mut ledger = Ledger::new("default", Failing(MemTable::new()));
    fold(&mut ledger, &[submit(5, 1, 0)]);
    let (event, judged) = submit(6, 2, 0);
    let error = ledger.decide(Lsn(2), 0, &event, judged.as_ref()).unwrap_err();
    assert_eq!(error.to_string(), "write row: no space");
    assert!(ledger.snapshot().is_err());
}
