//! The log's own vocabulary: whoever can write a disk can hand us any of these bytes.

use engine::event::{
    AnchorKind, Anchored, Attested, Became, CaseId, Declaration, Declared, Envelope, Event, Imported, Item,
    KeyKind, KeySpec, LogKeySet, Name, Payload, PolicySet, Position, Reconciled, Record, Remedy, Step,
    Tenant, Withheld, Witnessed,
};
use engine::ids::{KeyId, TenantId};
use engine::ledger::RefusedReason;
use engine::log::{Digest, Lsn};
use engine::summary::Policy;

/// What decodes to an event encodes to the same bytes.
pub fn event(bytes: &[u8]) {
    if let Ok(event) = Event::decode(bytes) {
        let mut again = Vec::new();
        event.encode(&mut again);
        assert_eq!(again, bytes, "an event has one encoding");
    }
}

/// What decodes to a record encodes to the same bytes.
pub fn record(bytes: &[u8]) {
    if let Ok(record) = Record::decode(bytes) {
        let mut again = Vec::new();
        record.encode(&mut again);
        assert_eq!(again, bytes, "a record has one encoding");
    }
}

const NAME: Name = Name { key: [5; 32], content: [6; 16] };
const LEAF: Digest = Digest([7; 32]);

/// A submission that stays where it is.
fn withheld(became: Became) -> Item {
    let tenant = TenantId::new("t").expect("a name");
    Item::Withheld(Withheld { signature: 33, at_ms: 4, tenant, bytes: 512, became })
}

/// One event of each kind.
pub fn event_seeds() -> Vec<Vec<u8>> {
    samples().iter().map(encoded).collect()
}

/// One record of each kind.
pub fn record_seeds() -> Vec<Vec<u8>> {
    let payloads = [Payload::Blank, Payload::Events(samples()), Payload::Membership(vec![1, 2, 3])];
    let encode = |payload| {
        let mut out = Vec::new();
        Record { leader: 1, payload }.encode(&mut out);
        out
    };
    payloads.into_iter().map(encode).collect()
}

fn encoded(event: &Event) -> Vec<u8> {
    let mut out = Vec::new();
    event.encode(&mut out);
    out
}

fn samples() -> Vec<Event> {
    let tenant = TenantId::new("acme").expect("a tenant id");
    let key = |kind| {
        let key_id = KeyId::new("00c0ffee").expect("a key id");
        Event::KeySet(KeySpec { at_ms: 1, tenant, key_id, kind, not_before_ms: 0, not_after_ms: u64::MAX })
    };
    vec![
        Event::Received(Envelope {
            tenant,
            received_at_ms: 1_790_000_000_000,
            salt: [7; 16],
            body: b"{\"pcs_id\":\"x\"}".to_vec(),
        }),
        Event::TenantSet(Tenant {
            at_ms: 1,
            id: tenant,
            display: "Acme".to_owned(),
            active: true,
            rate_per_s: 100,
            burst: 200,
            daily_quota: 0,
            region: "default".to_owned(),
        }),
        key(KeyKind::HmacSealed(vec![9; 72])),
        key(KeyKind::Ed25519([3; 32])),
        key(KeyKind::Unsigned),
        Event::PolicySet(PolicySet {
            at_ms: 2,
            policy: Policy { version: "2".to_owned(), ..Policy::default_1_0_0() },
        }),
        Event::Attested(Attested {
            upto: Lsn(3),
            signatures: vec![0, 1, 1],
            outcomes: Digest([1; 32]),
            ledger: Digest([2; 32]),
        }),
        Event::Checkpoint(b"localhost/pcs/default\n0\n\n".to_vec()),
        Event::Anchored(Anchored {
            at_ms: 4,
            kind: AnchorKind::Cosignature,
            target: "witness.example/w1".to_owned(),
            note: b"localhost/pcs/default\n0\n\n".to_vec(),
            evidence: vec![5; 40],
        }),
        Event::Witnessed(Witnessed { at_ms: 5, old: 6, note: b"other.example/log\n7\n\n".to_vec() }),
        Event::LogKeySet(LogKeySet {
            at_ms: 6,
            both_until_ms: 7,
            follows: "localhost/pcs/default+1f0c9a2b+AR\n".to_owned(),
            keys: "localhost/pcs/default+2f0c9a2b+AR\n".to_owned(),
            sealed: vec![4; 72],
        }),
        Event::Declared(Declared {
            at_ms: 8,
            region: "eu".to_owned(),
            at: Position::of(Lsn(9)),
            why: "the disk was lost".to_owned(),
            what: Declaration::Restored { note: b"localhost/pcs/eu\n9\n\n".to_vec() },
        }),
        Event::Declared(Declared {
            at_ms: 8,
            region: "eu".to_owned(),
            at: Position::of(Lsn(9)),
            why: String::new(),
            what: Declaration::Readmitted { count: 1 },
        }),
        Event::Declared(Declared {
            at_ms: 8,
            region: "eu".to_owned(),
            at: Position::of(Lsn(9)),
            why: "regions.withhold".to_owned(),
            what: Declaration::Withheld { tenant: TenantId::new("t").expect("a name") },
        }),
        Event::Imported(Imported {
            origin: "eu".to_owned(),
            from: Position::FIRST,
            items: vec![
                Item::Event { signature: 33, event: Event::Checkpoint(b"localhost/pcs/eu\n0\n\n".to_vec()) },
                Item::Seen { origin: "us".to_owned(), from: Position::FIRST, to: Position::of(Lsn(9)) },
                withheld(Became::First { name: NAME, accepted: true, escalated: false, leaf: LEAF }),
                withheld(Became::Duplicate { name: NAME }),
                withheld(Became::Conflict { name: NAME, leaf: LEAF }),
                withheld(Became::Refused { reason: RefusedReason::BadSignature, leaf: LEAF }),
                Item::End,
            ],
        }),
        Event::Reconciled(Reconciled {
            at_ms: 8,
            case: CaseId([3; 8]),
            by_person: false,
            reason: "the earlier one by 7 ms".to_owned(),
            step: Step::Proposed {
                remedy: Remedy::ChooseFirst,
                score: 500,
                subject: "conflict 00".to_owned(),
            },
        }),
    ]
}
