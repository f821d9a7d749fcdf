//! The log's bytes, pinned.
//!
//! `tests/golden/log.json` shows one encoding of each kind for readers of other languages; the hash over
//! thousands of generated ones notices what an example would not. If one of these fails, old logs read
//! differently: make a new tag or version instead.

use engine::checkpoint::{Checkpoint, Receipt, Signer};
use engine::event::{
    AnchorKind, Anchored, Attested, Became, CaseId, Declaration, Declared, Envelope, Event, Imported, Item,
    KeyKind, KeySpec, LogKeySet, Name, Payload, PolicySet, Position, Reconciled, Record, Remedy, Step,
    Tenant, Withheld, Witnessed, encode_events,
};
use engine::ids::{KeyId, TenantId};
use engine::ledger::{First, Ledger, MemTable};
use engine::log::{Digest, Lsn};
use engine::summary::{
    Fingerprint, Judged, PcsId, Policy, ReasonCode, Regime, Signals, SignatureForm, Signed, Sound, Verdict,
};
use engine::tree::{MemHashes, inclusion_proof, leaf_hash};
use serde_json::{Value, json};

const GOLDEN: &str = include_str!("../../tests/golden/log.json");

/// BLAKE3 over every generated encoding, each after its length.
const PINNED: &str = "55298da492830b351fd4b35af07b256d8049693b239a941abf0c9f78d7cc6453";

/// The same over generated ranges of other regions' logs.
const PINNED_IMPORTS: &str = "770029f2877ac953249b511ba96b5c8dbeef376ac43ac9bdf907db0a0d904008";

/// The same over generated steps of cases.
const PINNED_CASES: &str = "8067d6b808c3bc3beaf34e78df20fd316a84accddd98b6007cac95a69746031b";

/// The same over generated attestations.
const PINNED_ATTESTATIONS: &str = "1b4d5a11c3b4b0f26bcebf0a5f532417970b62fbaddc858c9b8c3dc6ba442cb3";

/// A generator that will never change: splitmix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next() as u8).collect()
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }

    fn name(&mut self) -> String {
        const ALPHABET: &[u8] = b"ABCXYZabcxyz0189._-";
        (0..=self.below(64)).take(64).map(|_| char::from(ALPHABET[self.below(19) as usize])).collect()
    }

    fn time(&mut self) -> u64 {
        self.below(1 << 53)
    }

    fn event(&mut self) -> Event {
        match self.below(6) {
            0 => Event::Received(Envelope {
                tenant: TenantId::new(&self.name()).unwrap(),
                received_at_ms: self.time(),
                salt: self.array(),
                body: self.bytes(300),
            }),
            1 => Event::TenantSet(Tenant {
                at_ms: self.time(),
                id: TenantId::new(&self.name()).unwrap(),
                display: self.name(),
                active: self.below(2) == 0,
                rate_per_s: self.next() as u32,
                burst: self.next() as u32,
                daily_quota: self.next(),
                region: self.name(),
            }),
            2 => Event::KeySet(KeySpec {
                at_ms: self.time(),
                tenant: TenantId::new(&self.name()).unwrap(),
                key_id: KeyId::new(&self.name()).unwrap(),
                kind: match self.below(3) {
                    0 => KeyKind::HmacSealed(self.bytes(100)),
                    1 => KeyKind::Ed25519(self.array()),
                    _ => KeyKind::Unsigned,
                },
                not_before_ms: self.next(),
                not_after_ms: self.next(),
            }),
            3 => {
                let at_ms = self.time();
                let version = self.name();
                let tol_d = self.below(1000) as f64 / 1000.0;
                Event::PolicySet(PolicySet {
                    at_ms,
                    policy: Policy { version, tol_d, ..Policy::default_1_0_0() },
                })
            }
            4 => Event::Attested(Attested {
                upto: Lsn(self.next()),
                outcomes: Digest(self.array()),
                ledger: Digest(self.array()),
                signatures: self.bytes(200),
            }),
            _ => Event::Checkpoint(self.bytes(300)),
        }
    }

    /// What came later, by itself: the hash over the others stays what it was.
    fn attestation(&mut self) -> Event {
        if self.below(2) == 0 {
            let at_ms = self.time();
            return Event::Witnessed(Witnessed { at_ms, old: self.next(), note: self.bytes(300) });
        }
        let kind = AnchorKind::ALL[self.below(4) as usize];
        let (at_ms, target) = (self.time(), self.name());
        let (note, evidence) = (self.bytes(300), self.bytes(300));
        Event::Anchored(Anchored { at_ms, kind, target, note, evidence })
    }

    fn position(&mut self) -> Position {
        Position { lsn: Lsn(1 + self.below(1 << 40)), nth: self.below(4096) as u32 }
    }

    fn import(&mut self) -> Event {
        let (origin, from) = (self.name(), self.position());
        let item = |numbers: &mut Numbers| match numbers.below(4) {
            0 => Item::End,
            1 => Item::Seen { origin: numbers.name(), from: numbers.position(), to: numbers.position() },
            2 => Item::Event { signature: 0, event: numbers.attestation() },
            _ => Item::Event { signature: numbers.next() as u8, event: numbers.event() },
        };
        let items = (0..=self.below(5)).map(|_| item(self)).collect();
        Event::Imported(Imported { origin, from, items })
    }

    fn step(&mut self) -> Event {
        let (at_ms, case, by_person) = (self.time(), CaseId(self.array()), self.below(2) == 0);
        let reason = self.name();
        let step = match self.below(4) {
            0 => Step::Approved,
            1 => Step::Refused,
            2 => Step::Effected,
            _ => Step::Proposed {
                remedy: Remedy::ALL[self.below(3) as usize],
                score: self.below(1001) as u16,
                subject: self.name(),
            },
        };
        Event::Reconciled(Reconciled { at_ms, case, by_person, reason, step })
    }

    fn record(&mut self) -> Record {
        let leader = self.next();
        let payload = match self.below(8) {
            0 => Payload::Blank,
            1 => Payload::Membership(self.bytes(300)),
            _ => Payload::Events((0..=self.below(5)).map(|_| self.event()).collect()),
        };
        Record { leader, payload }
    }

    fn row(&mut self) -> First {
        First {
            key: self.array(),
            digest: self.array(),
            lanes: std::array::from_fn(|_| self.next() as u16),
            lsn: Lsn(1 + self.below(u64::MAX)),
            nth: self.below(4096) as u32,
            seq: self.next(),
            time_ms: self.next(),
            policy: self.next() as u16,
            code: self.next() as u8,
            flags: self.below(4) as u8,
        }
    }
}

#[test]
fn generated_encodings_hash_to_the_pinned_value_and_come_back() {
    let mut numbers = Numbers(1);
    let mut hasher = blake3::Hasher::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for _ in 0..4000 {
        let record = numbers.record();
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        assert_eq!(Record::decode(&bytes).as_ref(), Ok(&record));
        add(&bytes);
        let row = numbers.row();
        assert_eq!(First::decode(&row.encode()), Ok(row));
        add(&row.encode());
    }
    assert_eq!(hasher.finalize().to_hex().as_str(), PINNED);
}

#[test]
fn generated_imports_hash_to_the_pinned_value_and_come_back() {
    let mut numbers = Numbers(3);
    let mut hasher = blake3::Hasher::new();
    for _ in 0..2000 {
        let event = numbers.import();
        let mut bytes = Vec::new();
        event.encode(&mut bytes);
        assert_eq!(Event::decode(&bytes).as_ref(), Ok(&event));
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    assert_eq!(hasher.finalize().to_hex().as_str(), PINNED_IMPORTS);
}

#[test]
fn generated_cases_hash_to_the_pinned_value_and_come_back() {
    let mut numbers = Numbers(5);
    let mut hasher = blake3::Hasher::new();
    for _ in 0..2000 {
        let event = numbers.step();
        let mut bytes = Vec::new();
        event.encode(&mut bytes);
        assert_eq!(Event::decode(&bytes).as_ref(), Ok(&event));
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    assert_eq!(hasher.finalize().to_hex().as_str(), PINNED_CASES);
}

#[test]
fn an_import_holds_no_import() {
    let inner =
        Event::Imported(Imported { origin: "b".into(), from: Position::FIRST, items: vec![Item::End] });
    let mut bytes = Vec::new();
    inner.encode(&mut bytes);
    let mut outer = vec![9, 1, b'a', 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0];
    outer.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    outer.extend_from_slice(&bytes);
    assert!(Event::decode(&outer).is_err());
    assert_eq!(Event::decode(&bytes), Ok(inner));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn encoded(event: &Event) -> String {
    let mut bytes = Vec::new();
    event.encode(&mut bytes);
    assert_eq!(Event::decode(&bytes).as_ref(), Ok(event));
    hex(&bytes)
}

fn envelope(body: &str) -> Event {
    Event::Received(Envelope {
        tenant: TenantId::new("demo").unwrap(),
        received_at_ms: 1_760_000_000_000,
        salt: *b"0123456789abcdef",
        body: body.into(),
    })
}

fn submission(body: &str, content: u8) -> (Event, Option<Judged>) {
    let event = envelope(body);
    let judged = sound(&event, content);
    (event, Some(judged))
}

fn sound(event: &Event, content: u8) -> Judged {
    let Event::Received(envelope) = event else { panic!("only a submission is sound") };
    Judged::Sound(Sound {
        id: PcsId([0xab; 32]),
        key: First::key_of(&envelope.tenant, &[0xab; 32]),
        commitment: envelope.commitment(),
        signed: Signed { form: SignatureForm::ALL[0], key_id: KeyId::new("k1").unwrap(), key: 0 },
        fingerprint: Fingerprint { digest: [content; 16], lanes: [content.into(); 13] },
        verdict: Verdict {
            accepted: true,
            escalated: true,
            code: ReasonCode::BudgetDeviation,
            reason: "budget deviation: claimed=0.4180, recomputed=0.4600".into(),
            recomputed_d_hat: Some(1.405),
            recomputed_budget: Some(0.46),
        },
        signals: Signals { d_hat: 1.41, coh_star: 0.73, r: 0.52, budget: 0.418, regime: Regime::Sticky },
        written: None,
    })
}

fn settings() -> [Event; 3] {
    let tenant = TenantId::new("demo").unwrap();
    [
        Event::TenantSet(Tenant {
            at_ms: 1_760_000_000_000,
            id: tenant,
            display: "Demo".into(),
            active: true,
            rate_per_s: 100,
            burst: 200,
            daily_quota: 0,
            region: "default".into(),
        }),
        Event::KeySet(KeySpec {
            at_ms: 1_760_000_000_000,
            tenant,
            key_id: KeyId::new("k1").unwrap(),
            kind: KeyKind::Ed25519([7; 32]),
            not_before_ms: 0,
            not_after_ms: u64::MAX,
        }),
        Event::PolicySet(PolicySet { at_ms: 1_760_000_000_000, policy: Policy::default_1_0_0() }),
    ]
}

/// A ledger of one record of everything, and the leaves it gave.
fn folded() -> (Ledger<MemTable>, Vec<Vec<u8>>) {
    let mut ledger = Ledger::new("default", MemTable::new());
    let [tenant, key, policy] = settings();
    let inputs = [
        (tenant, None),
        (key, None),
        (policy, None),
        submission("{}", 1),
        submission("{ }", 2),
        (envelope("?"), Some(Judged::NoKey)),
    ];
    let mut leaves = Vec::new();
    for (nth, (event, judged)) in inputs.iter().enumerate() {
        let outcome = ledger.decide(Lsn(1), nth as u32, event, judged.as_ref()).unwrap();
        leaves.extend(ledger.apply(Lsn(1), nth as u32, event, judged.as_ref(), &outcome).leaf);
    }
    ledger.end_record(Lsn(1));
    (ledger, leaves)
}

/// Everything the golden file shows, as it is today.
fn today() -> Value {
    let [tenant, key, policy] = settings();
    let attested = Attested {
        upto: Lsn(41),
        signatures: vec![0, 1, 17],
        outcomes: Digest([0x11; 32]),
        ledger: Digest([0x22; 32]),
    };
    let sealed = KeySpec {
        at_ms: 5,
        tenant: TenantId::new("demo").unwrap(),
        key_id: KeyId::new("0badcafe").unwrap(),
        kind: KeyKind::HmacSealed(b"nonce and ciphertext".to_vec()),
        not_before_ms: 1,
        not_after_ms: 2,
    };
    let mut record = Vec::new();
    let tenant_id = TenantId::new("t").unwrap();
    let name = Name { key: [1; 32], content: [2; 16] };
    let became = Became::First { name, accepted: true, escalated: false, leaf: Digest([3; 32]) };
    let withheld = Withheld { signature: 33, at_ms: 9, tenant: tenant_id, bytes: 512, became };
    encode_events(3, &[envelope("{}"), Event::Checkpoint(b"note".to_vec())], &mut record);
    let mut blank = Vec::new();
    Record { leader: 3, payload: Payload::Blank }.encode(&mut blank);

    let (ledger, leaves) = folded();
    let signer = Signer::new("localhost/pcs/default", &[1; 32]).unwrap();
    let tree = ledger.tree();
    let head = Checkpoint { origin: signer.name().into(), size: tree.size(), root: tree.root() };
    let note = head.sign(&signer);
    let mut hashes = MemHashes::default();
    for leaf in &leaves {
        hashes.append(leaf_hash(leaf));
    }
    let path = inclusion_proof(3, tree.size(), &mut hashes).unwrap();
    let receipt = Receipt { extra: Some(b"{}".to_vec()), index: 3, path, checkpoint: note.clone() };
    receipt.verify(&leaves[3], &signer.verifier()).unwrap();
    json!({
        "events": {
            "received": encoded(&envelope("{}")),
            "tenant": encoded(&tenant),
            "key-ed25519": encoded(&key),
            "key-hmac": encoded(&Event::KeySet(sealed)),
            "policy": encoded(&policy),
            "attested": encoded(&Event::Attested(attested)),
            "checkpoint": encoded(&Event::Checkpoint(b"note".to_vec())),
            "anchored": encoded(&Event::Anchored(Anchored {
                at_ms: 9,
                kind: AnchorKind::TimeStamp,
                target: "tsa".into(),
                note: b"note".to_vec(),
                evidence: b"token".to_vec(),
            })),
            "declared-readmitted": encoded(&declared(Declaration::Readmitted { count: 1 })),
            "declared-withheld": encoded(&declared(Declaration::Withheld { tenant: tenant_id })),
            "declared-restored": encoded(&declared(Declaration::Restored { note: b"note".to_vec() })),
            "imported": encoded(&Event::Imported(Imported {
                origin: "eu".into(),
                from: Position::FIRST,
                items: vec![
                    Item::Event { signature: 33, event: envelope("{}") },
                    Item::Seen {
                        origin: "us".into(),
                        from: Position::FIRST,
                        to: Position { lsn: Lsn(7), nth: 2 },
                    },
                    Item::End,
                ],
            })),
            "imported-withheld": encoded(&Event::Imported(Imported {
                origin: "eu".into(),
                from: Position::FIRST,
                items: vec![Item::Withheld(withheld)],
            })),
            "reconciled": encoded(&Event::Reconciled(Reconciled {
                at_ms: 9,
                case: CaseId(*b"conflict"),
                by_person: true,
                reason: "known".into(),
                step: Step::Proposed { remedy: Remedy::ChooseFirst, score: 900, subject: "a b".into() },
            })),
            "witnessed": encoded(&Event::Witnessed(Witnessed { at_ms: 9, old: 3, note: b"note".to_vec() })),
            "log-key": encoded(&Event::LogKeySet(LogKeySet {
                at_ms: 9,
                both_until_ms: 10,
                follows: "old\n".into(),
                keys: "new\n".into(),
                sealed: b"seed".to_vec(),
            })),
        },
        "records": { "blank": hex(&blank), "events": hex(&record) },
        "leaves": leaves.iter().map(|leaf| text(leaf)).collect::<Vec<_>>(),
        "row": hex(&ledger.table().row_bytes(0)),
        "digests": ledger.projections().iter().map(|(name, digest)| json!([name, digest.to_string()])).collect::<Vec<_>>(),
        "ledger": ledger.digest().to_string(),
        "snapshot": hex(&ledger.snapshot().unwrap()),
        "vkey": signer.verifier().vkey(),
        "checkpoint": text(&note),
        "receipt": text(&receipt.encode()),
    })
}

fn declared(what: Declaration) -> Event {
    let at = Position::of(Lsn(7));
    Event::Declared(Declared { at_ms: 9, region: "eu".into(), at, why: "why".into(), what })
}

trait RowBytes {
    fn row_bytes(&self, number: u64) -> [u8; First::SIZE];
}

impl<T: engine::ledger::Table> RowBytes for T {
    fn row_bytes(&self, number: u64) -> [u8; First::SIZE] {
        self.row(number).unwrap().encode()
    }
}

#[test]
fn the_golden_file_is_what_is_written_today() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let today = today();
    for (name, value) in today.as_object().unwrap() {
        assert_eq!(Some(value), golden.get(name), "{name} has changed; today it is\n{today:#}");
    }
    assert_eq!(golden.as_object().unwrap().len(), today.as_object().unwrap().len());
}

#[test]
fn generated_attestations_hash_to_the_pinned_value_and_come_back() {
    let mut numbers = Numbers(1);
    let mut hasher = blake3::Hasher::new();
    for _ in 0..4000 {
        let event = numbers.attestation();
        let mut bytes = Vec::new();
        event.encode(&mut bytes);
        assert_eq!(Event::decode(&bytes).as_ref(), Ok(&event));
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    assert_eq!(hasher.finalize().to_hex().as_str(), PINNED_ATTESTATIONS);
}
