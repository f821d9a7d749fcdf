//! Tenants, keys and policies as they take effect: what the door and the judges are told; and the log's own keys.

use super::{Core, Index, Shared};
use crate::door::Admittable;
use crate::keys::Kek;
use crate::logkeys::LogSigners;
use crate::projections::tiles::Statement;
use crate::projections::work::Work;
use crate::quota::Limits;
use crate::tenants::KekSecrets;
use crate::verdicts::KeyTable;
use engine::checkpoint::Checkpoint;
use engine::event::{Event, KeyKind};
use engine::ledger::{KeyChange, Ledger, TenantState};
use engine::summary::KeyRing;
use std::sync::Arc;

impl Shared {
    /// What requests are judged and admitted with from here on.
    pub(super) fn configured(&self, core: &Core, keys: &KeyTable, event: &Event) -> Arc<KeyTable> {
        let mut table = KeyTable { version: core.ledger.keys_version(), ..keys.clone() };
        let tenant = match event {
            Event::TenantSet(tenant) => Some(tenant.id),
            Event::KeySet(key) => Some(key.tenant),
            _ => None,
        };
        if let Some(state) = tenant.and_then(|id| core.ledger.tenant(&id)) {
            set_ring(&mut table, state, &self.terms.kek);
        }
        table.policy = Arc::new(core.ledger.current_policy().1.policy.clone());
        let table = Arc::new(table);
        self.keys.store(table.clone());
        if core.live {
            self.door.set_tenants(core.ledger.tenants().map(admittable));
        }
        table
    }

    /// The note over a tree head as it is published, if its keys are at hand.
    pub(super) fn publishable(&self, head: &Checkpoint, now_ms: u64) -> Option<Vec<u8>> {
        match self.signers.load().of(head.size, now_ms) {
            Ok(signers) => Some(head.publish_by(&signers)),
            Err(why) => {
                tracing::error!(why, size = head.size, "no checkpoint is signed");
                None
            }
        }
    }

    /// Other keys sign from here on.
    pub(super) fn log_keys_changed(&self, core: &Core) {
        let signers = LogSigners::new(&self.terms.signer, core.ledger.log_keys(), &self.terms.kek);
        self.signers.store(Arc::new(signers));
        if core.live {
            self.hand_vkeys(core.ledger.log_time_ms());
        }
    }

    /// A checkpoint was folded: if it is the first that both keys signed, that is to be shown.
    pub(super) fn statement_made(&self, core: &Core) {
        let Some(last) = core.ledger.log_keys().last().filter(|last| !last.note.is_empty()) else { return };
        if self.signers.load().lacks_statement() {
            self.log_keys_changed(core);
            statement(last).into_iter().for_each(|work| self.projector.hand(work));
        }
    }

    /// Brings the file of public keys to those that sign now, if they are others than it has.
    pub fn look_at_vkeys(&self) {
        let now_ms = self.core().ledger.log_time_ms();
        self.hand_vkeys(now_ms);
    }

    fn hand_vkeys(&self, now_ms: u64) {
        let text = self.signers.load().vkeys(now_ms);
        let mut written = self.vkeys.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if *written != text {
            self.projector.hand(Work::Keys(self.terms.vkey_path.clone(), text.clone()));
            *written = text;
        }
        let (number, until_ms) = self.signers.load().standing(now_ms);
        self.metrics.log_key_set.set(i64::try_from(number).unwrap_or(i64::MAX));
        self.metrics.log_key_both_until.set(i64::try_from(until_ms / 1000).unwrap_or(i64::MAX));
        self.metrics.log_key_unusable.set(i64::from(!self.signers.load().line(now_ms).0));
    }

    /// The same at the start, when the file has to be there before anybody is answered.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write_vkeys(&self) -> std::io::Result<()> {
        let now_ms = self.core().ledger.log_time_ms();
        let text = self.signers.load().vkeys(now_ms);
        if std::fs::read(&self.terms.vkey_path).ok().as_deref() != Some(text.as_bytes()) {
            crate::projections::replace(&self.terms.vkey_path, text.as_bytes())?;
        }
        *self.vkeys.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = text;
        self.hand_vkeys(now_ms);
        Ok(())
    }
}

/// What shows why a set of keys is believed, once both have signed.
pub(super) fn statement(change: &KeyChange) -> Option<Work> {
    let KeyChange { number, seq, entry, note, .. } = change.clone();
    (!note.is_empty()).then_some(Work::Statement(Statement { number, seq, entry, note }))
}

pub(super) fn admittable(state: &TenantState) -> Admittable {
    let tenant = &state.tenant;
    let limits = Limits { rate_per_s: tenant.rate_per_s, burst: tenant.burst, daily: tenant.daily_quota };
    Admittable { id: tenant.id, active: tenant.active, limits }
}

/// Prepares the keys of all tenants.
pub(super) fn key_table(ledger: &Ledger<Index>, kek: &Kek) -> KeyTable {
    let mut table = KeyTable {
        version: ledger.keys_version(),
        rings: Default::default(),
        costly: Default::default(),
        policy: Arc::new(ledger.current_policy().1.policy.clone()),
    };
    ledger.tenants().for_each(|state| set_ring(&mut table, state, kek));
    table
}

fn set_ring(table: &mut KeyTable, state: &TenantState, kek: &Kek) {
    let id = state.tenant.id;
    match KeyRing::new(&state.keys, &KekSecrets(kek)) {
        Ok(ring) => drop(table.rings.insert(id, Arc::new(ring))),
        Err(error) => {
            tracing::error!(tenant = id.as_str(), %error, "this tenant's keys cannot be used; its submissions are refused");
            table.rings.remove(&id);
        }
    }
    let costly = state.keys.iter().any(|key| matches!(key.kind, KeyKind::Ed25519(_)));
    table.costly.insert(id, costly);
}
