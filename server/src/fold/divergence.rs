//! What the leader says of all nodes, compared with what this one computed, and what it says before it says it.
//!
//! I3: an `Attested` is compared before anything of its record is folded. A node that disagrees folds nothing more. A leader
//! with peers has a quorum of voters confirm what it is about to attest: if it is the one that is wrong, nothing
//! wrong gets into the log, where every replay would meet it for ever.

use super::{Core, Shared};
use engine::event::{Attested, Event};
use engine::ledger::Divergence;
use engine::limits::ATTESTED_LAG_MAX;
use engine::log::{Digest, Lsn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// An attestation that waits for others to confirm it. L1: there is one at a time.
#[derive(Default)]
pub(super) struct Confirmation {
    wanted: AtomicBool,
    waits: Mutex<Option<Vec<Event>>>,
    due: Notify,
}

impl Confirmation {
    fn waits(&self) -> MutexGuard<'_, Option<Vec<Event>>> {
        self.waits.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// An `Attested` that this node does not agree with. Nothing is folded after it.
#[derive(Clone, Debug)]
pub struct Diverged {
    /// The record that attests; `None` when it led, and the other voters disagreed before anything was logged.
    pub attested_in: Option<Lsn>,
    /// What differs, and after which record.
    pub divergence: Divergence,
    /// The projections as they stood when it was found, by name.
    pub projections: Vec<(&'static str, Digest)>,
}

impl Shared {
    /// Where this node computed something else than was attested, if it did.
    pub fn diverged(&self) -> Option<&Diverged> {
        self.diverged.get()
    }

    /// How far this node and the leaders agree, for people.
    #[must_use]
    pub fn agreement(&self) -> String {
        if let Some(Diverged { attested_in, divergence, .. }) = self.diverged() {
            return match attested_in {
                Some(record) => format!("record {record} attests otherwise: {divergence}"),
                None => format!("the other voters computed otherwise: {divergence}"),
            };
        }
        match self.metrics.attested_agreed.get() {
            0 => "nothing to compare since the start".to_owned(),
            n => format!(
                "{n} compared, all agree, the newest after record {}",
                self.metrics.attested_lsn.get()
            ),
        }
    }

    /// Compares what the events of record `lsn` attest. The error says what differs, and ends the fold.
    pub(super) fn compare(&self, core: &mut Core, lsn: Lsn, events: &[Event]) -> Result<(), String> {
        for event in events {
            let Event::Attested(attested) = event else { continue };
            let Err(divergence) = core.ledger.check_attested(attested) else {
                self.fetched.agrees(attested.upto);
                self.metrics.attested_agreed.inc();
                self.metrics.attested_lsn.set(i64::try_from(attested.upto.0).unwrap_or(i64::MAX));
                continue;
            };
            self.fetched.differs();
            let why =
                format!("I3: this node computed something else than record {lsn} attests: {divergence}");
            self.note_divergence(core, Some(lsn), divergence);
            return Err(why);
        }
        Ok(())
    }

    fn note_divergence(&self, core: &mut Core, attested_in: Option<Lsn>, divergence: Divergence) {
        // What was made of the log so far is what others will want to compare.
        self.hand_leaves(core);
        self.metrics.divergence_lsn.set(i64::try_from(divergence.upto.0).unwrap_or(i64::MAX));
        // Within a record there are no digests.
        let projections = if core.inside { Vec::new() } else { core.ledger.projections().to_vec() };
        // Only the first counts: nothing is folded after it.
        let _ = self.diverged.set(Diverged { attested_in, divergence, projections });
    }

    /// From now on a quorum confirms what is attested and what receipts are signed over: whoever calls
    /// [`Shared::to_confirm`] and the notary's sees to it.
    pub fn want_confirmation(&self) {
        self.confirmation.wanted.store(true, Ordering::Relaxed);
        self.notary.want_quorum();
    }

    pub(super) fn confirm_or_log(&self, events: Vec<Event>) {
        if self.confirmation.wanted.load(Ordering::Relaxed) {
            *self.confirmation.waits() = Some(events);
            self.confirmation.due.notify_one();
        } else {
            self.queue.push_own(events);
        }
    }

    /// Waits for something to confirm. It ends in [`Shared::confirmed`], [`Shared::not_logged`] or [`Shared::refuted`].
    pub async fn to_confirm(&self) -> Vec<Event> {
        loop {
            let waits = self.confirmation.waits().take();
            match waits {
                Some(events) => return events,
                None => self.confirmation.due.notified().await,
            }
        }
    }

    /// A quorum computed the same: it goes into the log, unless that took so long that the others would no longer
    /// know the digest to compare it with.
    pub fn confirmed(&self, attested: &Attested, events: Vec<Event>) {
        let applied = self.core().ledger.applied().0;
        if applied.saturating_sub(attested.upto.0) < ATTESTED_LAG_MAX as u64 / 2 {
            self.queue.push_own(events);
        } else {
            self.not_logged(&events);
        }
    }

    /// A quorum computed `theirs` after record `upto`: this node, which leads and computed `ours`, is the one that is wrong.
    /// Both are digests of the outcomes and of the ledger.
    pub fn refuted(&self, upto: Lsn, ours: (Digest, Digest), theirs: (Digest, Digest)) {
        let (projection, expected, found) =
            if theirs.0 == ours.0 { ("ledger", theirs.1, ours.1) } else { ("outcomes", theirs.0, ours.0) };
        let divergence = Divergence { projection, upto, expected, found };
        let why = format!("I3: this node computed something else than a quorum of its group: {divergence}");
        self.note_divergence(&mut self.core(), None, divergence);
        self.die(why);
    }
}
