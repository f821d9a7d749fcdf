//! What is proposed: events, and the handle of those who wait for their outcome.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use engine::event::{Declaration, Event, Item};

/// Whatever the proposer wants back when its batch is applied: waiters, verdict slots.
///
/// It lives in the memory of the proposing node only. It is never written, never sent, and absent
/// when the same entry is applied by replay or on another node.
pub type Local = Arc<dyn Any + Send + Sync>;

/// One or more events that become one log entry, so one [`engine::log::Lsn`], one frame.
///
/// At most [`RECORD_EVENTS_MAX`](engine::limits::RECORD_EVENTS_MAX) events of a [`weight`](Batch::weight)
/// of at most [`RECORD_BYTES_MAX`](engine::limits::RECORD_BYTES_MAX); `Group::submit` refuses others.
#[derive(Clone, Default)]
pub struct Batch {
    /// The events, in the order in which they will be applied. Never empty in a log. Shared, because
    /// the proposer judges them while the log writes them, and entries are cloned on their way.
    pub events: Arc<Vec<Event>>,
    /// The handle of those who wait, on the proposing node.
    pub local: Option<Local>,
}

/// Bytes of a record beside its events.
const RECORD_OVERHEAD: usize = 16;

/// The most bytes that `event` takes in a record, close to what it does take.
pub fn weight(event: &Event) -> usize {
    // Length, tag, time, salt, name and the like.
    let rest = 64;
    match event {
        Event::Received(envelope) => rest + envelope.tenant.as_bytes().len() + envelope.body.len(),
        Event::Attested(attested) => 2 * rest + attested.signatures.len(),
        Event::Checkpoint(note) => rest + note.len(),
        Event::Anchored(anchored) => {
            2 * rest + anchored.target.len() + anchored.note.len() + anchored.evidence.len()
        }
        Event::Witnessed(witnessed) => rest + witnessed.note.len(),
        Event::LogKeySet(set) => rest + set.follows.len() + set.keys.len() + set.sealed.len(),
        Event::Declared(declared) => {
            let note = match &declared.what {
                Declaration::Readmitted { .. } | Declaration::Withheld { .. } => 0,
                Declaration::Restored { note } => note.len(),
            };
            2 * rest + declared.why.len() + note
        }
        Event::Imported(imported) => 2 * rest + imported.items.iter().map(weight_of_item).sum::<usize>(),
        // Set by hand, rare and short.
        _ => SETTING_MAX,
    }
}

/// The most bytes that an item of an import takes.
pub fn weight_of_item(item: &Item) -> usize {
    match item {
        Item::Event { event, .. } => 8 + weight(event),
        // A region's or a tenant's name, and numbers or hashes.
        Item::Seen { .. } | Item::Withheld(_) => 192,
        Item::End => 1,
    }
}

/// The longest encoding of a tenant, a key or a policy, with its length.
const SETTING_MAX: usize = 2048;

impl Batch {
    /// The most bytes this batch takes as a record: the sum of the weights of its events and a little.
    pub fn weight(&self) -> usize {
        RECORD_OVERHEAD + self.events.iter().map(weight).sum::<usize>()
    }

    /// The handle as the type its proposer gave it, `None` on replay or for another type.
    pub fn local<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.local.as_deref().and_then(|local| local.downcast_ref())
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Events hold client bodies; they have no place in a log line.
        f.debug_struct("Batch")
            .field("events", &self.events.len())
            .field("local", &self.local.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use engine::event::{
        AnchorKind, Anchored, Attested, Envelope, KeyKind, KeySpec, TARGET_MAX, Tenant, Witnessed,
        encode_events,
    };
    use engine::ids::{KeyId, TenantId};
    use engine::limits::{DISPLAY_MAX, KEY_ID_MAX, REGION_MAX, SEALED_KEY_MAX, TENANT_ID_MAX};
    use engine::log::{Digest, Lsn};

    use super::*;

    #[test]
    fn no_event_outweighs_its_weight() {
        let tenant = TenantId::new(&"t".repeat(TENANT_ID_MAX)).unwrap();
        let display = "d".repeat(DISPLAY_MAX);
        let region = "r".repeat(REGION_MAX);
        let key_id = KeyId::new(&"k".repeat(KEY_ID_MAX)).unwrap();
        let sealed = KeyKind::HmacSealed(vec![0; SEALED_KEY_MAX]);
        let events = vec![
            Event::Received(Envelope { tenant, received_at_ms: 1, salt: [0; 16], body: vec![0; 900] }),
            Event::Attested(Attested {
                upto: Lsn(1),
                signatures: vec![0; 77],
                outcomes: Digest::ZERO,
                ledger: Digest::ZERO,
            }),
            Event::Checkpoint(vec![0; 99]),
            Event::Anchored(Anchored {
                at_ms: 1,
                kind: AnchorKind::TimeStamp,
                target: "t".repeat(TARGET_MAX),
                note: vec![0; 98],
                evidence: vec![0; 97],
            }),
            Event::Witnessed(Witnessed { at_ms: 1, old: 2, note: vec![0; 96] }),
            Event::TenantSet(Tenant {
                at_ms: 1,
                id: tenant,
                display,
                active: true,
                rate_per_s: 1,
                burst: 1,
                daily_quota: 1,
                region,
            }),
            Event::KeySet(KeySpec {
                at_ms: 1,
                tenant,
                key_id,
                kind: sealed,
                not_before_ms: 0,
                not_after_ms: 1,
            }),
        ];
        for event in &events {
            let mut record = Vec::new();
            encode_events(1, std::slice::from_ref(event), &mut record);
            let batch = Batch { events: Arc::new(vec![event.clone()]), local: None };
            assert!(record.len() <= batch.weight(), "{event:?} takes {}", record.len());
        }
    }

    #[test]
    fn the_local_handle_comes_back_as_what_it_was() {
        let batch = Batch { events: Arc::default(), local: Some(Arc::new(7u32)) };
        assert_eq!((batch.local::<u32>(), batch.local::<u64>()), (Some(&7), None));
        assert_eq!(Batch::default().local::<u32>(), None);
    }
}
