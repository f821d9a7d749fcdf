//! Who may submit and with which keys.
//!
//! I7 tenants-apart: a tenant's state is read and changed by that tenant's own events only.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::outcome::RefusedReason;
use super::table::Content;
use super::tally::Tally;
use crate::codec::{DecodeError, Reader};
use crate::event::{Event, KeySpec, Tenant};
use crate::ids::TenantId;
use crate::limits::{KEYS_PER_TENANT_MAX, TENANTS_MAX};
use crate::log::Digest;

/// A tenant with its keys and counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantState {
    /// As last set.
    pub tenant: Tenant,
    /// Its keys in the order they were first set, those that have run out included until others need their
    /// place. At most [`KEYS_PER_TENANT_MAX`].
    pub keys: Vec<KeySpec>,
    /// What it sent so far.
    pub tally: Tally,
}

impl TenantState {
    /// The keys that count at a log time.
    pub fn keys_at(&self, now_ms: u64) -> impl Iterator<Item = &KeySpec> {
        self.keys.iter().filter(move |key| key.not_before_ms <= now_ms && now_ms <= key.not_after_ms)
    }

    /// Tenant and keys as the events that would set them: the bytes digests and snapshots hold.
    fn encode_settings(&self, out: &mut Vec<u8>) {
        put_event(out, Event::TenantSet(self.tenant.clone()));
        out.push(self.keys.len() as u8);
        self.keys.iter().for_each(|key| put_event(out, Event::KeySet(key.clone())));
    }

    fn encode_tally(&self, out: &mut Vec<u8>) {
        crate::codec::put8(out, self.tenant.id.as_bytes());
        self.tally.encode(out);
    }
}

fn put_event(out: &mut Vec<u8>, event: Event) {
    let mut bytes = Vec::new();
    event.encode(&mut bytes);
    crate::codec::put32(out, &bytes);
}

/// All tenants of the region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tenants {
    states: BTreeMap<TenantId, TenantState>,
    /// Sum over settings, kept as they change.
    settings: Content,
    /// Sum over the tallies of all tenants but those in `counting`.
    tallies: Content,
    /// Tenants whose tally has changed in the record that is being applied.
    counting: Vec<TenantId>,
}

impl Tenants {
    pub(super) fn get(&self, id: &TenantId) -> Option<&TenantState> {
        self.states.get(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &TenantState> {
        self.states.values()
    }

    /// Whether a tenant may be set.
    pub(super) fn check_tenant(&self, tenant: &Tenant) -> Result<(), RefusedReason> {
        if self.states.contains_key(&tenant.id) || self.states.len() < TENANTS_MAX {
            Ok(())
        } else {
            Err(RefusedReason::TooManyTenants)
        }
    }

    /// Whether a key may be set at a log time.
    pub(super) fn check_key(&self, key: &KeySpec, now_ms: u64) -> Result<(), RefusedReason> {
        let state = self.states.get(&key.tenant).ok_or(RefusedReason::UnknownTenant)?;
        let others =
            state.keys.iter().filter(|other| other.key_id != key.key_id && now_ms <= other.not_after_ms);
        if others.count() < KEYS_PER_TENANT_MAX { Ok(()) } else { Err(RefusedReason::TooManyKeys) }
    }

    pub(super) fn set_tenant(&mut self, tenant: &Tenant) {
        if self.states.contains_key(&tenant.id) {
            self.change_settings(&tenant.id, |state| state.tenant = tenant.clone());
        } else {
            let state = TenantState { tenant: tenant.clone(), keys: Vec::new(), tally: Tally::default() };
            add(&mut self.settings, |out| state.encode_settings(out));
            add(&mut self.tallies, |out| state.encode_tally(out));
            self.states.insert(tenant.id, state);
        }
    }

    /// Sets a key that [`Tenants::check_key`] let pass; the one that ran out first gives its place.
    pub(super) fn set_key(&mut self, key: &KeySpec) {
        self.change_settings(&key.tenant, |state| {
            if let Some(same) = state.keys.iter_mut().find(|other| other.key_id == key.key_id) {
                *same = key.clone();
                return;
            }
            if state.keys.len() == KEYS_PER_TENANT_MAX {
                let oldest = (0..state.keys.len()).min_by_key(|&i| state.keys[i].not_after_ms);
                state.keys.remove(oldest.expect("there are keys"));
            }
            state.keys.push(key.clone());
        });
    }

    /// Counts for a tenant; one that does not exist has no tally of its own.
    pub(super) fn count(&mut self, id: &TenantId, count: impl FnOnce(&mut Tally)) {
        let Some(state) = self.states.get_mut(id) else { return };
        if !self.counting.contains(id) {
            remove(&mut self.tallies, |out| state.encode_tally(out));
            self.counting.push(*id);
        }
        count(&mut state.tally);
    }

    /// Brings the sum of tallies up to date.
    pub(super) fn end_record(&mut self) {
        for id in core::mem::take(&mut self.counting) {
            let state = &self.states[&id];
            add(&mut self.tallies, |out| state.encode_tally(out));
        }
    }

    pub(super) fn settings_digest(&self) -> Digest {
        self.settings.digest()
    }

    pub(super) fn tallies_digest(&self) -> Digest {
        assert!(self.counting.is_empty(), "I3: digests are taken between records");
        self.tallies.digest()
    }

    fn change_settings(&mut self, id: &TenantId, change: impl FnOnce(&mut TenantState)) {
        let state = self.states.get_mut(id).expect("I7: decided for a tenant that exists");
        remove(&mut self.settings, |out| state.encode_settings(out));
        change(state);
        add(&mut self.settings, |out| state.encode_settings(out));
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.states.len() as u32).to_le_bytes());
        for state in self.states.values() {
            state.encode_settings(out);
            state.tally.encode(out);
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Tenants, DecodeError> {
        let count = reader.u32("tenants")?;
        if count as usize > TENANTS_MAX {
            return Err(DecodeError::OutOfBounds("tenants"));
        }
        let mut tenants = Tenants::default();
        let mut previous = None;
        for _ in 0..count {
            let Event::TenantSet(tenant) = read_event(reader)? else {
                return Err(DecodeError::OutOfBounds("tenant"));
            };
            let id = tenant.id;
            if previous.is_some_and(|previous| previous >= id) {
                return Err(DecodeError::OutOfBounds("order of tenants"));
            }
            previous = Some(id);
            let keys = reader.u8("keys")?;
            if usize::from(keys) > KEYS_PER_TENANT_MAX {
                return Err(DecodeError::OutOfBounds("keys"));
            }
            let mut state = TenantState { tenant, keys: Vec::new(), tally: Tally::default() };
            for _ in 0..keys {
                match read_event(reader)? {
                    Event::KeySet(key) if key.tenant == id => state.keys.push(key),
                    _ => return Err(DecodeError::OutOfBounds("key")),
                }
            }
            state.tally = Tally::read(reader)?;
            add(&mut tenants.settings, |out| state.encode_settings(out));
            add(&mut tenants.tallies, |out| state.encode_tally(out));
            tenants.states.insert(id, state);
        }
        Ok(tenants)
    }
}

fn read_event(reader: &mut Reader<'_>) -> Result<Event, DecodeError> {
    Event::decode(reader.bytes32(crate::limits::EVENT_MAX, "setting")?)
}

fn add(content: &mut Content, encode: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    content.add(&bytes);
}

fn remove(content: &mut Content, encode: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    content.remove(&bytes);
}
