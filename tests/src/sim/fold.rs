//! The machine of the simulator: the engine's ledger, folded as the server folds it.
//!
//! A [`Mutant`] may stand between it and the ledger, to be wrong in one chosen way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use engine::event::{Envelope, Event};
use engine::ids::TenantId;
use engine::ledger::{Ledger, MemTable};
use engine::log::Lsn;
use engine::summary::{Judged, KeyRing, PcsId, judge};
use raft::{Batch, Machine, Standing};
use tokio::sync::oneshot;

use super::history::{Answer, History, Place, Record};
use super::mutants::{FoldMutant, Mutant};
use super::workload::OpenSecrets;

/// Those who wait for the events of a batch, by position.
pub type Waiting = Mutex<Vec<Option<oneshot::Sender<(Place, Answer)>>>>;

/// What a machine leaves behind for its next life.
#[derive(Clone)]
pub struct Snapshot {
    standing: Standing,
    ledger: Vec<u8>,
    table: MemTable,
}

impl Snapshot {
    /// The same with an empty index of names, for a mutant.
    pub fn without_names(self) -> Snapshot {
        Snapshot { table: MemTable::new(), ..self }
    }
}

/// What a life's machine shares with the world.
#[derive(Default)]
pub struct Shared {
    /// Everything seen so far.
    pub history: History,
    /// The newest snapshot of any life.
    pub snapshot: Option<Snapshot>,
    /// Log time and whether the settings are in, for the door.
    pub log_time_ms: u64,
    /// The settings are in.
    pub configured: bool,
}

/// The ledger as a [`Machine`].
pub struct Fold {
    ledger: Ledger<MemTable>,
    rings: BTreeMap<TenantId, (u64, Option<KeyRing>)>,
    standing: Standing,
    record: Option<Record>,
    shared: Arc<Mutex<Shared>>,
    life: u64,
    mutant: Mutant,
    /// Leaves of this life, where somebody wants them.
    pub leaves: Vec<Vec<u8>>,
    snapshot_every: u64,
    /// What mutants remember.
    pub(super) seen: BTreeMap<PcsId, Place>,
    pub(super) mine: BTreeSet<Place>,
}

impl Fold {
    /// An empty one, or one that goes on from a snapshot.
    pub fn new(
        shared: Arc<Mutex<Shared>>,
        life: u64,
        mutant: Mutant,
        from: Option<Snapshot>,
        snapshot_every: u64,
    ) -> Fold {
        let (ledger, standing) = match from {
            Some(snapshot) => {
                let ledger = Ledger::restore(&snapshot.ledger, snapshot.table).expect("it was just taken");
                (ledger, snapshot.standing)
            }
            None => (Ledger::new("default", MemTable::new()), Standing::default()),
        };
        Fold {
            ledger,
            rings: BTreeMap::new(),
            standing,
            record: None,
            shared,
            life,
            mutant,
            leaves: Vec::new(),
            snapshot_every,
            seen: BTreeMap::new(),
            mine: BTreeSet::new(),
        }
    }

    pub(super) fn mutant(&self) -> Mutant {
        self.mutant
    }

    /// The ledger, to look at.
    pub fn ledger(&self) -> &Ledger<MemTable> {
        &self.ledger
    }

    fn judge(&mut self, envelope: &Envelope) -> Judged {
        let version = self.ledger.keys_version();
        let (made, ring) = self.rings.entry(envelope.tenant).or_insert((u64::MAX, None));
        if *made != version {
            let keys = self
                .ledger
                .tenant(&envelope.tenant)
                .map(|tenant| tenant.keys_at(0).cloned().collect::<Vec<_>>());
            *ring = keys.and_then(|keys| KeyRing::new(&keys, &OpenSecrets).ok());
            *made = version;
        }
        judge(envelope, ring.as_ref(), &self.ledger.current_policy().1.policy)
    }

    /// Decide and apply one event.
    pub fn fold(&mut self, lsn: Lsn, nth: u32, event: &Event) -> Answer {
        let judged = match event {
            Event::Received(envelope) => Some(self.judge(envelope)),
            _ => None,
        };
        let outcome = self.ledger.decide(lsn, nth, event, judged.as_ref()).expect("a table in memory");
        let applied = self.ledger.apply(lsn, nth, event, judged.as_ref(), &outcome);
        self.leaves.extend(applied.leaf);
        let accepted = judged.as_ref().and_then(Judged::verdict).is_some_and(|verdict| verdict.accepted);
        Answer::of(&outcome, accepted)
    }

    /// Close a record, whether it had events or not.
    pub fn end(&mut self, lsn: Lsn) {
        self.ledger.end_record(lsn);
    }

    /// Size and root of the tree.
    pub fn head(&self) -> (u64, engine::log::Digest) {
        (self.ledger.tree().size(), self.ledger.tree().root())
    }
}

impl Machine for Fold {
    fn standing(&self) -> Standing {
        let mut standing = self.standing.clone();
        if self.mutant == Mutant::Fold(FoldMutant::WatermarkOffByOne) && standing.lsn > Lsn::ZERO {
            standing.lsn = standing.lsn.next();
        }
        standing
    }

    fn apply(&mut self, lsn: Lsn, term: u64, batch: &Batch) {
        let mut answers = Vec::new();
        for (nth, event) in batch.events.iter().enumerate() {
            let answer = self.fold(lsn, nth as u32, event);
            answers.push(self.mutate(lsn, nth as u32, event, answer));
        }
        if let Some(waiting) = batch.local::<Waiting>() {
            for (nth, (waiting, answer)) in waiting.lock().unwrap().iter_mut().zip(&answers).enumerate() {
                // A client that gave up is not there any more.
                let _ = waiting.take().map(|waiting| waiting.send(((lsn, nth as u32), *answer)));
            }
        }
        if batch.local.is_some() {
            let mut shared = self.shared.lock().unwrap();
            shared.history.in_flight = shared.history.in_flight.saturating_sub(1);
        }
        let events = batch.events.to_vec();
        self.record =
            Some(Record { term, events, answers, digest: Default::default(), head: Default::default() });
    }

    fn passed(&mut self, standing: &Standing) {
        self.end(standing.lsn);
        self.standing = standing.clone();
        let none = || Record {
            term: standing.term,
            events: vec![],
            answers: vec![],
            digest: Default::default(),
            head: Default::default(),
        };
        let mut record = self.record.take().unwrap_or_else(none);
        (record.digest, record.head) = (self.ledger.digest(), self.head());
        match self.mutant {
            Mutant::Fold(FoldMutant::RewritesLeaf) => record.head.1.0[0] ^= self.life as u8,
            Mutant::Fold(FoldMutant::DigestOfLife) => record.digest.0[0] ^= self.life as u8,
            _ => {}
        }
        let mut shared = self.shared.lock().unwrap();
        shared.log_time_ms = self.ledger.log_time_ms();
        shared.configured = self.ledger.policy_version("sim").is_some();
        shared.history.note(self.life, standing.lsn, record);
        if standing.lsn.0.is_multiple_of(self.snapshot_every) {
            let ledger = self.ledger.snapshot().expect("a table in memory");
            shared.snapshot =
                Some(Snapshot { standing: standing.clone(), ledger, table: self.ledger.table().clone() });
        }
    }
}
