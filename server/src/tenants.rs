//! The tenants an operator configured against the tenants the log knows: the difference, as events.
//!
//! The log is the truth: what is configured takes effect by being logged. A key that is no longer configured
//! is given an end, a tenant that is no longer configured is switched off; nothing is forgotten.

use crate::config::{Config, HmacMode, KeyConfig, TenantConfig};
use crate::keys::{Kek, KeyError};
use engine::event::{Declaration, Declared, Event, KeyKind, KeySpec, PolicySet, Position, Tenant};
use engine::ids::{KeyId, TenantId};
use engine::ledger::{Ledger, Table, TenantState};
use engine::summary::{KeyRing, Policy, Secrets, SignatureForm};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Why the configured tenants cannot take effect.
#[derive(Debug, thiserror::Error)]
pub enum TenantError {
    /// A key is not usable.
    #[error("tenant '{tenant}': {why}")]
    Key {
        /// The tenant.
        tenant: String,
        /// What is wrong.
        why: String,
    },
    /// A key file is not the one it was.
    #[error(transparent)]
    Sealed(#[from] KeyError),
}

/// Opens the sealed secrets that stand in the log.
pub struct KekSecrets<'a>(pub &'a Kek);

impl Secrets for KekSecrets<'_> {
    fn hmac(&self, spec: &KeySpec) -> Option<Zeroizing<Vec<u8>>> {
        match &spec.kind {
            KeyKind::HmacSealed(sealed) => self.0.open(&spec.tenant, &spec.key_id, sealed).ok(),
            KeyKind::Ed25519(_) | KeyKind::Unsigned => None,
        }
    }
}

/// The events that bring the log's tenants, keys and policy to what is configured, stamped `now_ms`.
///
/// # Errors
/// When a key cannot be used or sealed: the start is refused then, so that no tenant is left without a key.
pub fn reconcile<T: Table>(
    config: &Config,
    ledger: &Ledger<T>,
    kek: &Kek,
    now_ms: u64,
) -> Result<Vec<Event>, TenantError> {
    let mut events = Vec::new();
    let wanted = policy(config);
    if ledger.current_policy().1.policy != wanted {
        events.push(Event::PolicySet(PolicySet { at_ms: now_ms, policy: wanted }));
    }
    for tenant in &config.tenants {
        let id = name(&tenant.id)?;
        let state = ledger.tenant(&id);
        let set = Tenant {
            at_ms: now_ms,
            id,
            display: tenant.display.clone(),
            active: tenant.active,
            rate_per_s: tenant.rate_per_s,
            burst: tenant.burst,
            daily_quota: tenant.daily_quota,
            region: config.region.clone(),
        };
        if !state.is_some_and(|state| Tenant { at_ms: now_ms, ..state.tenant.clone() } == set) {
            events.push(Event::TenantSet(set));
        }
        keys(tenant, id, state, kek, now_ms, &mut events)?;
    }
    for state in ledger.tenants() {
        let known = config.tenants.iter().any(|tenant| tenant.id == state.tenant.id.as_str());
        if !known && state.tenant.active {
            events.push(Event::TenantSet(Tenant { at_ms: now_ms, active: false, ..state.tenant.clone() }));
        }
    }
    withhold(config, ledger, now_ms, &mut events)?;
    Ok(events)
}

/// What is withheld from here on, see [`Declaration::Withheld`]. A tenant that is no longer named stays withheld.
fn withhold<T: Table>(
    config: &Config,
    ledger: &Ledger<T>,
    now_ms: u64,
    events: &mut Vec<Event>,
) -> Result<(), TenantError> {
    for tenant in &config.regions_withhold {
        let tenant = name(tenant)?;
        if ledger.withheld_tenants().any(|withheld| *withheld == tenant) {
            continue;
        }
        let before = ledger.tenant(&tenant).map_or(0, |state| state.tally.received);
        if before > 0 {
            tracing::warn!(
                tenant = tenant.as_str(),
                before,
                "what this tenant sent before now is shipped to other regions; only what comes from now on is withheld"
            );
        }
        events.push(Event::Declared(Declared {
            at_ms: now_ms,
            region: config.region.clone(),
            at: Position::of(ledger.applied().next()),
            why: "regions.withhold".into(),
            what: Declaration::Withheld { tenant },
        }));
    }
    for tenant in ledger.withheld_tenants() {
        if !config.regions_withhold.iter().any(|named| named == tenant.as_str()) {
            tracing::warn!(
                tenant = tenant.as_str(),
                "regions.withhold does not name this tenant any more; it stays withheld, as the log says"
            );
        }
    }
    Ok(())
}

fn name(id: &str) -> Result<TenantId, TenantError> {
    TenantId::new(id).map_err(|error| TenantError::Key { tenant: id.to_owned(), why: error.to_string() })
}

fn keys(
    tenant: &TenantConfig,
    id: TenantId,
    state: Option<&TenantState>,
    kek: &Kek,
    now_ms: u64,
    events: &mut Vec<Event>,
) -> Result<(), TenantError> {
    let old = state.map(|state| state.keys.as_slice()).unwrap_or_default();
    let mut wanted = Vec::new();
    for key in &tenant.keys {
        let spec = spec(key, id, old, kek, now_ms)?;
        if !old.iter().any(|old| KeySpec { at_ms: spec.at_ms, ..old.clone() } == spec) {
            events.push(Event::KeySet(spec.clone()));
        }
        wanted.push(spec);
    }
    KeyRing::new(&wanted, &KekSecrets(kek))
        .map_err(|error| TenantError::Key { tenant: tenant.id.clone(), why: error.to_string() })?;
    for key in old.iter().filter(|old| !wanted.iter().any(|new| new.key_id == old.key_id)) {
        if key.not_after_ms >= now_ms {
            let end = KeySpec { at_ms: now_ms, not_after_ms: now_ms.saturating_sub(1), ..key.clone() };
            events.push(Event::KeySet(end));
        }
    }
    Ok(())
}

fn spec(
    key: &KeyConfig,
    tenant: TenantId,
    old: &[KeySpec],
    kek: &Kek,
    now_ms: u64,
) -> Result<KeySpec, TenantError> {
    let (key_id, kind) = match (&key.hmac, &key.ed25519) {
        (Some(secret), _) => {
            let key_id = kek.key_id(&tenant, secret.bytes());
            // Sealing is randomised: what is sealed already stays as it is. A seal that does not open means
            // another key-encryption key, and everything sealed under the old one would be lost.
            let sealed = old.iter().find_map(|old| match &old.kind {
                KeyKind::HmacSealed(sealed) if old.key_id == key_id => Some(sealed.clone()),
                _ => None,
            });
            let sealed = match sealed {
                Some(sealed) => {
                    kek.open(&tenant, &key_id, &sealed)?;
                    sealed
                }
                None => kek.seal(&tenant, &key_id, secret.bytes())?,
            };
            (key_id, KeyKind::HmacSealed(sealed))
        }
        (None, Some(public)) => (public_id(public), KeyKind::Ed25519(*public)),
        (None, None) => (KeyId::new("unsigned").expect("the name is valid"), KeyKind::Unsigned),
    };
    Ok(KeySpec {
        at_ms: now_ms,
        tenant,
        key_id,
        kind,
        not_before_ms: key.not_before_ms,
        not_after_ms: key.not_after_ms,
    })
}

/// Name of a public key: the first eight hex digits of its SHA-256.
fn public_id(public: &[u8; 32]) -> KeyId {
    let text = engine::codec::hex(&Sha256::digest(public)[..4]);
    KeyId::new(&text).expect("hex digits are a name")
}

/// The policy the settings ask for. Which signature forms count is part of what the log means, so a setting
/// that switches forms off becomes a policy of its own.
fn policy(config: &Config) -> Policy {
    let mut policy = Policy::default_1_0_0();
    let (suffix, digest) = match config.hmac_mode {
        HmacMode::Any => return policy,
        HmacMode::Standard => ("standard", true),
        HmacMode::Legacy => ("legacy", false),
    };
    policy.version = format!("{}-{suffix}", policy.version);
    for form in SignatureForm::ALL {
        let hmac = form.algorithm() == engine::summary::signature::Algorithm::Hmac;
        if hmac && form.signs_digest() == digest {
            policy.forms = policy.forms.without(form);
        }
    }
    policy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_from;
    use engine::ledger::MemTable;
    use engine::log::Lsn;

    fn config(toml: &str) -> Config {
        let file = Some((std::path::PathBuf::from("flk.toml"), format!("[tenants]\nmulti = true\n{toml}")));
        load_from(&[], file, &[], &[]).unwrap().config
    }

    fn apply(ledger: &mut Ledger<MemTable>, events: &[Event]) {
        let lsn = ledger.applied().next();
        for (nth, event) in events.iter().enumerate() {
            let outcome = ledger.decide(lsn, nth as u32, event, None).unwrap();
            ledger.apply(lsn, nth as u32, event, None, &outcome);
        }
        ledger.end_record(lsn);
    }

    #[test]
    fn what_is_configured_takes_effect_once() {
        let kek = Kek::new(Zeroizing::new([3; 32]));
        let mut ledger = Ledger::new("default", MemTable::default());
        let one =
            config("[[tenant]]\nid='a'\nalg='hmac'\nkey='k1'\n[[tenant]]\nid='b'\nalg='hmac'\nkey='k1'");
        let events = reconcile(&one, &ledger, &kek, 1000).unwrap();
        assert_eq!(events.len(), 4);
        apply(&mut ledger, &events);
        assert_eq!(reconcile(&one, &ledger, &kek, 2000).unwrap(), [], "a restart changes nothing");
        let rotated = config("[[tenant]]\nid='a'\nalg='hmac'\nkeys=[{key='k1'},{key='k2'}]");
        let events = reconcile(&rotated, &ledger, &kek, 3000).unwrap();
        assert!(
            matches!(&events[..], [Event::KeySet(_), Event::TenantSet(Tenant { active: false, .. })]),
            "{events:?}"
        );
        apply(&mut ledger, &events);
        let removed = config("[[tenant]]\nid='a'\nalg='hmac'\nkey='k2'");
        let events = reconcile(&removed, &ledger, &kek, 4000).unwrap();
        assert!(matches!(&events[..], [Event::KeySet(KeySpec { not_after_ms: 3999, .. })]), "{events:?}");
        apply(&mut ledger, &events);
        assert_eq!(reconcile(&removed, &ledger, &kek, 5000).unwrap(), []);
        assert_eq!(ledger.applied(), Lsn(3));
    }

    #[test]
    fn another_kek_and_weak_keys_are_refused() {
        let kek = Kek::new(Zeroizing::new([3; 32]));
        let mut ledger = Ledger::new("default", MemTable::default());
        let one = config("[[tenant]]\nid='a'\nalg='hmac'\nkey='k1'");
        let events = reconcile(&one, &ledger, &kek, 1000).unwrap();
        apply(&mut ledger, &events);
        let weak =
            config("[[tenant]]\nid='a'\nalg='ed25519'\nkey='AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='");
        assert!(matches!(reconcile(&weak, &ledger, &kek, 1), Err(TenantError::Key { .. })));
    }

    #[test]
    fn switching_forms_off_is_a_policy() {
        let mut any = config("[[tenant]]\nid='a'\nalg='hmac'\nkey='k1'");
        let all = policy(&any);
        any.hmac_mode = HmacMode::Standard;
        let standard = policy(&any);
        any.hmac_mode = HmacMode::Legacy;
        let legacy = policy(&any);
        assert_eq!((standard.version.as_str(), legacy.version.as_str()), ("1.0.0-standard", "1.0.0-legacy"));
        let count =
            |policy: &Policy| SignatureForm::ALL.iter().filter(|form| policy.forms.has(**form)).count();
        assert!(count(&standard) < count(&all) && count(&legacy) < count(&all));
    }
}
