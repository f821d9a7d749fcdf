//! What the fold of the log reads back, and the fold itself.

use crate::fuzz::summary::unsigned;
use engine::event::{Envelope, Event};
use engine::ids::TenantId;
use engine::leaf::Leaf;
use engine::ledger::{First, Ledger, MemTable};
use engine::log::Lsn;
use engine::summary::{PcsId, judge};
use serde_json::Value;

/// What parses as a leaf is canonical JSON by another reader's and writer's account.
pub fn leaf(bytes: &[u8]) {
    if Leaf::parse(bytes).is_ok() {
        // serde_json keeps members sorted and writes no white space; leaves hold ASCII and integers only, where
        // that is what RFC 8785 asks for.
        let value: Value = serde_json::from_slice(bytes).expect("a leaf is JSON");
        assert_eq!(serde_json::to_vec(&value).expect("JSON"), bytes, "a leaf is canonical");
    }
}

/// What decodes to a row encodes to the same bytes.
pub fn row(bytes: &[u8]) {
    let Some(bytes) = bytes.first_chunk::<{ First::SIZE }>() else { return };
    if let Ok(row) = First::decode(bytes) {
        assert_eq!(row.encode(), *bytes, "a row has one encoding");
    }
}

/// A snapshot with a right checksum and any content: what is restored is what was written.
pub fn snapshot(bytes: &[u8]) {
    let mut summed = bytes.to_vec();
    summed.extend_from_slice(blake3::hash(bytes).as_bytes());
    if let Ok(ledger) = Ledger::restore(&summed, MemTable::new()) {
        let again = ledger.snapshot();
        assert_eq!(again.expect("a table in memory"), summed, "a snapshot has one encoding");
    }
}

/// Any sequence of well-formed events can be folded: events are `length u16, bytes`, three to a record.
pub fn history(bytes: &[u8]) {
    let mut ledger = Ledger::new("default", MemTable::new());
    ledger.set_recent_max(4);
    let keys = unsigned();
    let mut rest = bytes;
    let mut events = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(tail.len());
        events.extend(Event::decode(&tail[..length]));
        rest = &tail[length..];
    }
    for record in events.chunks(3) {
        let lsn = ledger.applied().next();
        for (nth, event) in record.iter().enumerate() {
            fold_one(&mut ledger, lsn, nth as u32, event, &keys);
        }
        ledger.end_record(lsn);
    }
    assert!(ledger.check_rows().is_ok(), "the rows add up");
    let attested = ledger.attest();
    assert!(ledger.check_attested(&attested).is_ok(), "a ledger agrees with itself");
}

fn fold_one(
    ledger: &mut Ledger<MemTable>,
    lsn: Lsn,
    nth: u32,
    event: &Event,
    keys: &engine::summary::KeyRing,
) {
    let judged = match event {
        Event::Received(envelope) => Some(judge(envelope, Some(keys), &ledger.current_policy().1.policy)),
        _ => None,
    };
    let outcome = ledger.decide(lsn, nth, event, judged.as_ref()).expect("a table in memory");
    let applied = ledger.apply(lsn, nth, event, judged.as_ref(), &outcome);
    if let Some(line) = &applied.leaf {
        leaf(line);
        assert!(Leaf::parse(line).is_ok(), "what we write we read");
    }
}

fn body(regime: &str) -> Vec<u8> {
    let root = "ab".repeat(32);
    let id = PcsId::derive(&root, 7, "s");
    format!(
        r#"{{"pcs_id":"{id}","schema":"fractal-lba-kakeya","version":"0.1","shard_id":"s","epoch":7,"scales":[2,4],"N_j":{{"2":3,"4":6}},"coh_star":0.75,"D_hat":1,"r":0.5,"regime":"{regime}","budget":0.4,"merkle_root":"{root}"}}"#
    )
    .into_bytes()
}

/// A first, a duplicate, a conflict and every kind of setting.
pub fn history_seeds() -> Vec<Vec<u8>> {
    let received = |regime: &str| {
        let mut out = Vec::new();
        let envelope = Envelope {
            tenant: TenantId::new("acme").expect("a tenant id"),
            received_at_ms: 1_790_000_000_000,
            salt: [7; 16],
            body: body(regime),
        };
        Event::Received(envelope).encode(&mut out);
        out
    };
    let mut events = crate::fuzz::events::event_seeds();
    events.extend([received("sticky"), received("sticky"), received("mixed")]);
    let mut all = Vec::new();
    for event in &events {
        all.extend_from_slice(&(event.len() as u16).to_le_bytes());
        all.extend_from_slice(event);
    }
    vec![all]
}

/// The leaves and the snapshot of that history.
fn folded() -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut ledger = Ledger::new("default", MemTable::new());
    let mut lines = Vec::new();
    for event in crate::fuzz::events::event_seeds() {
        let event = Event::decode(&event).expect("a seed");
        let lsn = ledger.applied().next();
        let judged = match &event {
            Event::Received(envelope) => {
                Some(judge(envelope, Some(&unsigned()), &ledger.current_policy().1.policy))
            }
            _ => None,
        };
        let outcome = ledger.decide(lsn, 0, &event, judged.as_ref()).expect("a table in memory");
        lines.extend(ledger.apply(lsn, 0, &event, judged.as_ref(), &outcome).leaf);
        ledger.end_record(lsn);
    }
    let snapshot = ledger.snapshot().expect("a table in memory");
    (lines, snapshot)
}

/// A manifest of rows and runs.
pub fn manifest_seeds() -> Vec<Vec<u8>> {
    vec![segments::runs::manifest_seed()]
}

/// The filters of a run.
pub fn filters_seeds() -> Vec<Vec<u8>> {
    vec![segments::runs::filters_seed()]
}

/// Leaves of settings and of a refusal.
pub fn leaf_seeds() -> Vec<Vec<u8>> {
    folded().0
}

/// A snapshot without its checksum.
pub fn snapshot_seeds() -> Vec<Vec<u8>> {
    let mut whole = folded().1;
    whole.truncate(whole.len() - 32);
    vec![whole]
}

/// A row of ones.
pub fn row_seeds() -> Vec<Vec<u8>> {
    vec![vec![1; First::SIZE]]
}
