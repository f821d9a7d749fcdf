//! Judging submissions outside the ledger, on all cores: the part of a replay that scales.

use std::collections::HashMap;

use engine::event::{Envelope, Event, KeySpec};
use engine::ids::TenantId;
use engine::ledger::{Ledger, Table};
use engine::summary::{Judged, KeyRing, Policy, Secrets, judge, judge_presigned};

/// Where the results of HMAC checks come from.
pub enum Source<'a> {
    /// Nobody's secrets: `Attested` says which were good. Ed25519 is checked here.
    Attested,
    /// Secrets can be opened: everything is checked here.
    Secrets(&'a (dyn Secrets + Sync)),
}

/// All tenants' keys and the policy as of one version of the ledger.
pub struct Judges<'a> {
    source: &'a Source<'a>,
    version: u64,
    rings: HashMap<TenantId, KeyRing>,
    policy: Policy,
}

impl<'a> Judges<'a> {
    /// As the ledger stands now.
    pub fn of<T: Table>(ledger: &Ledger<T>, source: &'a Source<'a>) -> Judges<'a> {
        let mut rings = HashMap::new();
        for state in ledger.tenants() {
            // Keys that cannot be used as a whole are no keys: the door and the fold of a node say the same.
            if let Ok(ring) = ring(&state.keys, source) {
                rings.insert(state.tenant.id, ring);
            }
        }
        Judges {
            source,
            version: ledger.keys_version(),
            rings,
            policy: ledger.current_policy().1.policy.clone(),
        }
    }

    /// Which version of keys and policy this is.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Judges one submission; `byte` is what `Attested` says of its signature.
    #[must_use]
    pub fn judge(&self, envelope: &Envelope, byte: u8) -> Judged {
        let ring = self.rings.get(&envelope.tenant);
        match self.source {
            Source::Attested => judge_presigned(envelope, byte, ring, &self.policy),
            Source::Secrets(_) => judge(envelope, ring, &self.policy),
        }
    }

    /// Judges the submissions among the events of a run of records, on `threads` threads; other events get `None`.
    #[must_use]
    pub fn judge_all(&self, events: &[(&Event, u8)], threads: usize) -> Vec<Option<Judged>> {
        let one = |(event, byte): &(&Event, u8)| match event {
            Event::Received(envelope) => Some(self.judge(envelope, *byte)),
            _ => None,
        };
        // Below this a thread costs more than it saves.
        let share = events.len().div_ceil(threads.max(1)).max(64);
        if share >= events.len() {
            return events.iter().map(one).collect();
        }
        std::thread::scope(|scope| {
            let workers: Vec<_> = events
                .chunks(share)
                .map(|chunk| scope.spawn(move || chunk.iter().map(one).collect::<Vec<_>>()))
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("judging does not panic")).collect()
        })
    }
}

fn ring(keys: &[KeySpec], source: &Source<'_>) -> Result<KeyRing, engine::summary::KeyError> {
    match source {
        Source::Attested => KeyRing::public(keys),
        Source::Secrets(secrets) => KeyRing::new(keys, *secrets),
    }
}
