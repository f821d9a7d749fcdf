//! The fold: committed records in, in log order; outcomes, answers and projections out.
//!
//! - I1 verify-before-dedup: an event is decided with its judgement, never before it.
//! - I3 replay-identical: nothing but the log reaches the ledger; the time of day, the waiting requests and
//!   the settings do not. Each `Attested` is compared with what was computed here.
//! - I6 answer-after-durable: a request is told in `apply`, which raft calls for what is durable and agreed.
//!
//! The fold is the only writer of the ledger. Requests read it under the same lock, briefly and rarely.

mod divergence;
mod known;
mod machine;
mod settings;

use divergence::Confirmation;
pub use divergence::Diverged;
pub use known::{Known, KnownLog};
pub use machine::Fold;
use settings::{admittable, key_table, statement};

use crate::anchor::Feed;
use crate::decision::{Decided, Kept, decided};
use crate::door::Door;
use crate::keys::Kek;
use crate::logkeys::LogSigners;
use crate::metrics::Metrics;
use crate::projections::projector::Projector;
use crate::projections::tiles::Published;
use crate::projections::work::{Leaves, Work};
use crate::queue::Queue;
use crate::receipts::{Leaf, Notary};
use crate::scrub::Damages;
use crate::seed::Unconfirmed;
use crate::ship::tail::Tail;
use crate::tally::Tally;
use crate::verdicts::{Judging, KeyTable};
use arc_swap::ArcSwap;
use engine::checkpoint::{Checkpoint, Signed, Signer};
use engine::event::{Attested, Event};
use engine::ledger::{Ledger, Outcome};
use engine::log::Lsn;
use engine::summary::Judged;
use raft::Standing;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use tokio::sync::Notify;

/// Where first rows and old keys live.
pub type Index = crate::index::Index;

/// What the fold is told about this node.
pub struct Terms {
    /// Name of the log in its checkpoints.
    pub origin: String,
    /// Signs checkpoints, until the log goes over to another one.
    pub signer: Signer,
    /// Where the public keys go.
    pub vkey_path: PathBuf,
    /// Opens sealed secrets.
    pub kek: Kek,
    /// Submissions between two attestations, at most.
    pub attest_records: u64,
    /// Submissions between two snapshots.
    pub snapshot_records: u64,
}

/// Where a fold begins.
pub struct Outset {
    /// The ledger there.
    pub ledger: Ledger<Index>,
    /// Its place in the log.
    pub standing: Standing,
    /// Leaves under the newest checkpoint.
    pub noted: u64,
}

/// The ledger and what goes with it, behind one lock.
pub struct Core {
    /// The ledger.
    pub ledger: Ledger<Index>,
    standing: Standing,
    live: bool,
    /// Some events of a record are applied and not all: there is no digest here, and so no snapshot.
    inside: bool,
    /// This node leads: it attests, for all.
    leading: bool,
    /// An `Attested` of ours is on its way.
    attesting: bool,
    /// Leaves under the newest checkpoint in the log.
    noted: u64,
    since_snapshot: u64,
    leaves: Leaves,
}

/// What the fold shares with the requests.
pub struct Shared {
    core: Mutex<Core>,
    /// Keys and policy in force.
    pub keys: Arc<ArcSwap<KeyTable>>,
    /// The projections.
    pub projector: Projector,
    /// The log's first key and the like.
    pub terms: Terms,
    /// Who signs what.
    pub signers: ArcSwap<LogSigners>,
    /// The public keys as they were last written.
    vkeys: Mutex<String>,
    door: Arc<Door>,
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
    /// A ledger that came from a member.
    fetched: Unconfirmed,
    /// What the scrubber has found.
    pub damages: Arc<Damages>,
    /// Points at records about anchors.
    pub anchored: Arc<Feed>,
    /// The last records, for shipping.
    pub tail: Tail,
    /// Rows of the index wait for room on the disk.
    index_waits: AtomicBool,
    fatal: OnceLock<String>,
    /// Where this node computed something else than was attested.
    diverged: OnceLock<Diverged>,
    /// What is to be attested, for the others to confirm first.
    confirmation: Confirmation,
    /// What may be signed for receipts.
    pub notary: Notary,
    attest_due: Notify,
    died: Notify,
}

impl Shared {
    /// A fold that begins where `outset` says.
    pub fn new(
        outset: Outset,
        terms: Terms,
        projector: Projector,
        fetched: Unconfirmed,
        door: Arc<Door>,
        queue: Arc<Queue>,
        metrics: Arc<Metrics>,
    ) -> Arc<Shared> {
        let Outset { ledger, standing, noted } = outset;
        let keys = key_table(&ledger, &terms.kek);
        let signers = LogSigners::new(&terms.signer, ledger.log_keys(), &terms.kek);
        ledger.log_keys().iter().filter_map(statement).for_each(|work| projector.hand(work));
        let anchored = Arc::new(Feed::new(standing.lsn));
        let core = Core {
            ledger,
            standing,
            live: false,
            inside: false,
            leading: false,
            attesting: false,
            noted,
            since_snapshot: 0,
            leaves: Leaves::default(),
        };
        Arc::new(Shared {
            core: Mutex::new(core),
            keys: Arc::new(ArcSwap::from_pointee(keys)),
            projector,
            signers: ArcSwap::from_pointee(signers),
            vkeys: Mutex::default(),
            terms,
            door,
            queue,
            metrics,
            fetched,
            damages: Arc::default(),
            anchored,
            tail: Tail::default(),
            index_waits: AtomicBool::new(false),
            fatal: OnceLock::new(),
            diverged: OnceLock::new(),
            confirmation: Confirmation::default(),
            notary: Notary::default(),
            attest_due: Notify::new(),
            died: Notify::new(),
        })
    }

    /// The ledger, for a short look.
    pub fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The last record folded in whole and the ledger's digest after it, which `flk replay --live` reads and compares.
    #[must_use]
    pub fn where_it_is(&self) -> String {
        // Kept from the end of that record: between its events a ledger has no digest.
        let said = self.core().ledger.attest();
        let fetched = self
            .fetched
            .lsn()
            .map_or_else(String::new, |lsn| format!(", from a member's at {lsn}, not attested yet"));
        format!("applied {} digest {}{fetched}", said.upto, said.ledger)
    }

    /// Replay is over and requests may come: the door learns the tenants.
    pub fn go_live(&self) {
        let mut core = self.core();
        core.live = true;
        self.door.set_tenants(core.ledger.tenants().map(admittable));
        self.metrics.tree_size.set(i64::try_from(core.ledger.tree().size()).unwrap_or(i64::MAX));
    }

    /// Why the fold cannot go on, if so.
    pub fn fatal(&self) -> Option<&str> {
        self.fatal.get().map(String::as_str)
    }

    /// Resolves when the fold cannot go on; the node must then take no part any more.
    pub async fn died(&self) -> String {
        loop {
            let told = self.died.notified();
            if let Some(why) = self.fatal() {
                return why.to_owned();
            }
            told.await;
        }
    }

    fn die(&self, why: String) {
        tracing::error!(why, "the fold stops");
        // Only the first reason counts.
        let _ = self.fatal.set(why);
        self.died.notify_waiters();
    }

    /// From now on this node attests, or does no longer. What was on its way before may never arrive.
    pub fn lead(&self, leading: bool) {
        let mut core = self.core();
        core.leading = leading;
        core.attesting = false;
    }

    /// Attests and checkpoints what is there, unless there is nothing new or one is on its way. The second signature
    /// takes milliseconds, so none is made while the ledger is locked, and whoever has others to serve calls this aside.
    pub fn attest(&self) {
        let (due, now_ms) = {
            let mut core = self.core();
            (self.to_attest(&mut core), core.ledger.log_time_ms())
        };
        let Some((attested, head)) = due else { return };
        let mut events = vec![Event::Attested(attested)];
        events.extend(head.and_then(|head| self.publishable(&head, now_ms)).map(Event::Checkpoint));
        self.confirm_or_log(events);
    }

    /// Waits until so much is there to attest that it should not wait for the next tick.
    pub async fn much_to_attest(&self) {
        self.attest_due.notified().await;
    }

    /// These events of ours, if any, are not on their way after all.
    pub fn not_logged(&self, events: &[Event]) {
        if events.iter().any(|event| matches!(event, Event::Attested(_))) {
            self.core().attesting = false;
        }
    }

    /// Whether so much waits for room on the disk that nothing may be added: the log could take it, and what is made
    /// from the log would have to be kept in memory.
    pub fn stalled(&self) -> bool {
        self.index_waits.load(Ordering::Relaxed) || self.projector.stalled()
    }

    /// Looks whether the index has room again, if it had none. To be called now and then.
    pub fn look_for_room(&self) {
        if self.index_waits.load(Ordering::Relaxed) {
            self.note_room(&mut self.core());
        }
    }

    fn note_room(&self, core: &mut Core) {
        self.index_waits.store(core.ledger.table_mut().waits_for_room(), Ordering::Relaxed);
    }

    /// What there is to attest, and the tree head that goes with it, if this node leads and there is anything.
    fn to_attest(&self, core: &mut Core) -> Option<(Attested, Option<Checkpoint>)> {
        let size = core.ledger.tree().size();
        if !core.live
            || !core.leading
            || core.attesting
            || (core.ledger.unattested() == 0 && size == core.noted)
        {
            return None;
        }
        core.attesting = true;
        let head = (size > core.noted).then(|| {
            let root = core.ledger.tree().root();
            Checkpoint { origin: self.terms.origin.clone(), size, root }
        });
        Some((core.ledger.attest(), head))
    }

    /// Writes a snapshot of the ledger as it stands, for a quick start next time. There is none in the middle of a
    /// record, which nothing is once the group has shut down.
    pub fn snapshot(&self) {
        let mut core = self.core();
        if core.inside {
            return tracing::warn!("no snapshot: the fold stands within a record");
        }
        self.snapshot_locked(&mut core);
    }

    fn snapshot_locked(&self, core: &mut Core) {
        self.hand_leaves(core);
        core.since_snapshot = 0;
        let taken = core.ledger.snapshot().and_then(|bytes| Ok((bytes, core.ledger.table().sync()?)));
        match taken {
            Ok((bytes, rows)) => self.projector.hand(Work::Snapshot(core.standing.clone(), bytes, rows)),
            Err(error) => tracing::error!(%error, "no snapshot: the index cannot be flushed"),
        }
    }

    fn hand_leaves(&self, core: &mut Core) {
        if !core.leaves.is_empty() {
            let next = Leaves::as_large_as(&core.leaves);
            self.projector.hand(Work::Leaves(std::mem::replace(&mut core.leaves, next)));
        }
    }
}

impl Shared {
    /// One event: judged, decided, applied. No decision for events nobody waits for; the leaf, if it gave one.
    fn step(
        &self,
        core: &mut Core,
        keys: &mut Arc<KeyTable>,
        (lsn, nth): (Lsn, usize),
        event: &Event,
        (judging, in_flight): (Option<&Arc<Judging>>, bool),
        tally: &mut Tally,
    ) -> Result<(Option<Decided>, Option<Leaf>), String> {
        let place = u32::try_from(nth).unwrap_or(u32::MAX);
        let ready = judging.filter(|judging| judging.version() == keys.version);
        let own = match (event, ready) {
            (Event::Received(envelope), None) => {
                if judging.is_some() {
                    self.metrics.verify_again.inc();
                }
                Some(Box::new(keys.judge(envelope)))
            }
            _ => None,
        };
        let judged: Option<&Judged> = match (event, ready) {
            (Event::Received(_), Some(judging)) => judging.judged(nth),
            _ => own.as_deref(),
        };
        if matches!(event, Event::Attested(_)) {
            core.attesting = false;
        }
        let outcome = core
            .ledger
            .decide(lsn, place, event, judged)
            .map_err(|error| format!("the index cannot answer: {error}"))?;
        let applied = core.ledger.apply(lsn, place, event, judged, &outcome);
        if let (Some(leaf), Some(hash), Some(seq)) = (&applied.leaf, applied.leaf_hash, outcome.seq()) {
            let time_ms = core.ledger.log_time_ms();
            core.leaves.push(seq, time_ms, leaf, hash);
        }
        let leaf = applied.leaf.zip(applied.leaf_hash).map(|(line, hash)| Leaf { line, hash });
        let decided = match event {
            Event::Received(envelope) => {
                core.since_snapshot += 1;
                if core.live {
                    tally.count(&self.door, &envelope.tenant, &outcome, judged);
                }
                let policy = keys.policy.clone();
                let kept = match (own, judging.filter(|_| in_flight)) {
                    (_, None) => None,
                    (None, Some(judging)) => Some(Kept::InBatch(judging.clone(), nth)),
                    (Some(judged), Some(_)) => Some(Kept::Own(judged, policy)),
                };
                kept.map(|kept| decided(&outcome, kept, lsn, place))
            }
            Event::Checkpoint(note) => {
                self.publish(core, note);
                self.statement_made(core);
                None
            }
            Event::LogKeySet(_) => {
                self.log_keys_changed(core);
                None
            }
            Event::TenantSet(_) | Event::KeySet(_) | Event::PolicySet(_) => {
                if matches!(outcome, Outcome::Configured { .. }) {
                    *keys = self.configured(core, keys, event);
                }
                None
            }
            Event::Imported(imported) => {
                core.since_snapshot += imported.items.len() as u64;
                None
            }
            Event::Attested(_)
            | Event::Anchored(_)
            | Event::Witnessed(_)
            | Event::Declared(_)
            | Event::Reconciled(_) => None,
        };
        Ok((decided, leaf))
    }

    fn publish(&self, core: &mut Core, note: &[u8]) {
        // A note that is not ours to read is a fact of the log, not of this fold; nothing depends on it.
        let Ok(signed) = Signed::parse(note) else { return };
        let size = signed.checkpoint.size;
        if size <= core.ledger.tree().size() && size >= core.noted {
            core.noted = size;
            self.hand_leaves(core);
            self.projector.hand(Work::Publish(Published { size, note: note.to_vec() }));
            if core.live {
                let seconds = core.ledger.log_time_ms() / 1000;
                self.metrics.checkpoint_time.set(i64::try_from(seconds).unwrap_or(i64::MAX));
            }
        }
    }
}
