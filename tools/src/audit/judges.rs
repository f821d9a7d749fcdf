//! Judging submissions outside the ledger, on all cores: the part of a replay that scales.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use engine::event::{Envelope, Event, KeySpec};
use engine::ids::TenantId;
use engine::ledger::{Ahead, Ledger, Place, Table};
use engine::summary::{Case, Judged, KeyRing, Policy, Secrets, judge_many};

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
    ahead: Ahead,
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
            ahead: ledger.ahead(),
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
        let judged = judge_many(&[self.case(envelope, byte)], &self.policy).pop();
        judged.expect("one submission has one judgement")
    }

    fn case<'c>(&'c self, envelope: &'c Envelope, byte: u8) -> Case<'c> {
        let attested = match self.source {
            Source::Attested => Some(byte),
            Source::Secrets(_) => None,
        };
        Case { envelope, keys: self.rings.get(&envelope.tenant), attested }
    }

    /// Judges the submissions among some events, and writes the leaves that they have if each is the first of its name.
    fn share(&self, events: &[Due<'_>]) -> Vec<Option<Judged>> {
        let submissions = || {
            events.iter().filter_map(|due| match due.event {
                Event::Received(envelope) => Some((due, envelope)),
                _ => None,
            })
        };
        let cases: Vec<Case<'_>> =
            submissions().map(|(due, envelope)| self.case(envelope, due.signature)).collect();
        let mut judged = judge_many(&cases, &self.policy);
        let mut leaves: Vec<_> = submissions()
            .zip(&mut judged)
            .map(|((due, envelope), judged)| (due.place, envelope, judged))
            .collect();
        self.ahead.write(&mut leaves);
        let mut judged = judged.into_iter();
        events
            .iter()
            .map(|due| matches!(due.event, Event::Received(_)).then(|| judged.next()).flatten())
            .collect()
    }
}

/// An event that waits to be folded.
pub struct Due<'a> {
    /// It.
    pub event: &'a Event,
    /// Of a submission, what `Attested` says of its signature.
    pub signature: u8,
    /// Where and when it will be folded.
    pub place: Place,
}

/// Events judged in one go: enough to be worth the asking, few enough that all threads end together.
const SHARE: usize = 64;

/// A run of events that several threads judge, each taking the next share when it has time.
pub struct Shares<'a> {
    judges: &'a Judges<'a>,
    events: &'a [Due<'a>],
    next: AtomicUsize,
}

/// What one thread judged: each share's number with its results.
pub type Done = Vec<(usize, Vec<Option<Judged>>)>;

impl<'a> Shares<'a> {
    /// Nothing is judged yet.
    #[must_use]
    pub fn new(judges: &'a Judges<'a>, events: &'a [Due<'a>]) -> Shares<'a> {
        Shares { judges, events, next: AtomicUsize::new(0) }
    }

    /// How many shares there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.events.len().div_ceil(SHARE)
    }

    /// Judges share after share until none is left. Submissions get a judgement, other events `None`.
    #[must_use]
    pub fn work(&self) -> Done {
        let mut done = Vec::new();
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(share) = self.events.chunks(SHARE).nth(number) else { return done };
            done.push((number, self.judges.share(share)));
        }
    }

    /// All results in the order of the events.
    #[must_use]
    pub fn collect(mut done: Done) -> Vec<Option<Judged>> {
        done.sort_unstable_by_key(|(number, _)| *number);
        done.into_iter().flat_map(|(_, results)| results).collect()
    }
}

fn ring(keys: &[KeySpec], source: &Source<'_>) -> Result<KeyRing, engine::summary::KeyError> {
    match source {
        Source::Attested => KeyRing::public(keys),
        Source::Secrets(secrets) => KeyRing::new(keys, *secrets),
    }
}
