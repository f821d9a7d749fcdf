//! Tenants, keys and policies as they take effect: what the door and the judges are told.

use super::{Core, Index, Shared};
use crate::door::Admittable;
use crate::keys::Kek;
use crate::quota::Limits;
use crate::tenants::KekSecrets;
use crate::verdicts::KeyTable;
use engine::event::{Event, KeyKind};
use engine::ledger::{Ledger, TenantState};
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
