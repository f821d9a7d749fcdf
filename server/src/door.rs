//! The door: who may come in, how often, and with how much. Nothing behind it reads a clock.
//!
//! I5 (log-before-parse): the body goes from the socket to the queue as bytes; the door looks at its length alone,
//! and nothing behind it parses a body that is not on its way to the log.
//!
//! I7 (tenants-apart) begins here: a request has one tenant, found from one header, and everything after the
//! door is keyed by it.

use crate::clock::{Clock, salt};
use crate::decision::Decided;
use crate::http::refusal::{Problem, Refusal};
use crate::metrics::{Metrics, TenantMetrics};
use crate::queue::{Full, Lines, Queue, ReplyTo};
use crate::quota::{Limits, Meter, Standing, Which};
use arc_swap::ArcSwap;
use engine::ids::TenantId;
use engine::limits::BODY_MAX;
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

/// One tenant as the door sees it.
pub struct TenantDoor {
    /// Its name.
    pub id: TenantId,
    /// Whether its submissions are taken.
    pub active: bool,
    /// Its limits.
    pub limits: Limits,
    /// Its counters.
    pub metrics: TenantMetrics,
    meter: Mutex<Meter>,
}

/// What admission needs to know about a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admittable {
    /// Its name.
    pub id: TenantId,
    /// Whether its submissions are taken.
    pub active: bool,
    /// Its limits.
    pub limits: Limits,
}

/// Admission of one server.
pub struct Door {
    tenants: ArcSwap<HashMap<TenantId, Arc<TenantDoor>>>,
    single: Option<TenantId>,
    queue: Arc<Queue>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// Name of the tenant when a request names none.
pub const DEFAULT: &str = "default";

impl Door {
    /// A door without tenants. In a single-tenant server every request belongs to `default`.
    pub fn new(multi: bool, queue: Arc<Queue>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Door {
        let single = (!multi).then(|| TenantId::new(DEFAULT).expect("the name is valid"));
        Door { tenants: ArcSwap::default(), single, queue, clock, metrics }
    }

    /// Takes the tenants as they are now. Meters and counters of tenants that stay are kept.
    pub fn set_tenants(&self, list: impl Iterator<Item = Admittable>) {
        let old = self.tenants.load();
        let new = list
            .map(|tenant| {
                let known = old.get(&tenant.id);
                if let Some(same) =
                    known.filter(|known| known.limits == tenant.limits && known.active == tenant.active)
                {
                    return (tenant.id, same.clone());
                }
                let metrics = match known {
                    Some(known) => known.metrics.clone(),
                    None => self.metrics.tenant(tenant.id.as_str()),
                };
                let door = TenantDoor {
                    id: tenant.id,
                    active: tenant.active,
                    limits: tenant.limits,
                    metrics,
                    meter: Mutex::default(),
                };
                (tenant.id, Arc::new(door))
            })
            .collect();
        self.tenants.store(Arc::new(new));
    }

    /// Counters of a tenant, for those who know it by name.
    pub fn tenant(&self, id: &TenantId) -> Option<Arc<TenantDoor>> {
        self.tenants.load().get(id).cloned()
    }

    /// The tenant of a request.
    ///
    /// # Errors
    /// 400 when the header is missing or names no active tenant.
    pub fn identify(&self, header: Option<&[u8]>) -> Result<Arc<TenantDoor>, Problem> {
        let id = match (&self.single, header) {
            (Some(id), _) => Some(*id),
            (None, None) => TenantId::new(DEFAULT).ok(),
            (None, Some(text)) => std::str::from_utf8(text).ok().and_then(|text| TenantId::new(text).ok()),
        };
        let tenants = self.tenants.load();
        match id.and_then(|id| tenants.get(&id)).filter(|tenant| tenant.active) {
            Some(tenant) => Ok(tenant.clone()),
            None => Err(Problem::from(Refusal::UnknownTenant).detail(match header {
                Some(_) => "X-Tenant-Id names no active tenant",
                None => "X-Tenant-Id is missing, and this server has no active tenant 'default'",
            })),
        }
    }

    /// Takes `n` submissions from the tenant's rate and quota.
    ///
    /// # Errors
    /// 429 with the limit that is used up; nothing is taken then.
    pub fn charge(&self, tenant: &TenantDoor, n: u64) -> Result<Option<Standing>, Problem> {
        if tenant.limits.rate_per_s == 0 && tenant.limits.daily == 0 {
            return Ok(None);
        }
        let now = self.clock.monotonic_ns();
        let standing =
            tenant.meter.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take(tenant.limits, n, now);
        let Some(which) = standing.refused else { return Ok(Some(standing)) };
        tenant.metrics.quota_exceeded.inc();
        let policy = if which == Which::Rate { "tenant" } else { "daily" };
        let refusal = if self.single.is_some() { Refusal::TooManyRequests } else { Refusal::QuotaExceeded };
        Err(Problem::from(refusal).retry_after(standing.retry_s).member("violated-policies", json!([policy])))
    }

    /// Counts, salts, stamps and queues one submission, whose answer is to carry a receipt or not.
    ///
    /// # Errors
    /// 503 when the queue is full or the server is stopping.
    pub fn enter(
        &self,
        tenant: &TenantDoor,
        body: Vec<u8>,
        receipt: bool,
    ) -> Result<oneshot::Receiver<Decided>, Problem> {
        let (sender, receiver) = oneshot::channel();
        let salt = salt().map_err(no_randomness)?;
        let bytes = body.len();
        assert!(bytes <= BODY_MAX, "I5: a body was let in that no record can hold");
        self.count(tenant, 1);
        self.queue
            .push(tenant.id, std::iter::once((body, salt, ReplyTo::One(sender))), bytes, receipt)
            .map_err(|full| self.full(full, 1))?;
        Ok(receiver)
    }

    /// The same for the lines of a batch: all of them or none.
    ///
    /// # Errors
    /// As for [`Door::enter`].
    pub fn enter_all(
        &self,
        tenant: &TenantDoor,
        bodies: Vec<Vec<u8>>,
        receipt: bool,
    ) -> Result<Arc<Lines>, Problem> {
        let n = bodies.len();
        let lines = Lines::new(n);
        let bytes = bodies.iter().map(Vec::len).sum();
        let mut items = Vec::with_capacity(n);
        for (nth, body) in bodies.into_iter().enumerate() {
            items.push((body, salt().map_err(no_randomness)?, ReplyTo::Line(lines.clone(), nth)));
        }
        self.count(tenant, n as u64);
        self.queue
            .push(tenant.id, items.into_iter(), bytes, receipt)
            .map_err(|full| self.full(full, n as u64))?;
        Ok(lines)
    }

    fn count(&self, tenant: &TenantDoor, n: u64) {
        self.metrics.ingest.inc_by(n);
        tenant.metrics.ingest.inc_by(n);
    }

    fn full(&self, full: Full, n: u64) -> Problem {
        self.metrics.log_errors.inc_by(n);
        match full {
            Full::Bytes => Problem::from(Refusal::Overloaded),
            Full::Closed => Problem::from(Refusal::Draining).retry_after(2).closing(),
        }
    }
}

fn no_randomness(error: getrandom::Error) -> Problem {
    tracing::error!(%error, "the operating system gives no randomness");
    Problem::from(Refusal::LogUnavailable).detail("no randomness")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn door(multi: bool) -> (Door, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::default());
        let queue = Arc::new(Queue::new(4 << 20, 0, clock.clone()));
        let door = Door::new(multi, queue, clock.clone(), Arc::new(Metrics::new(4, multi)));
        let tenant = |id: &str, active| Admittable {
            id: TenantId::new(id).unwrap(),
            active,
            limits: Limits { rate_per_s: 1, burst: 2, daily: 0 },
        };
        let ids: &[(&str, bool)] = if multi { &[("a", true), ("off", false)] } else { &[("default", true)] };
        door.set_tenants(ids.iter().map(|(id, active)| tenant(id, *active)));
        (door, clock)
    }

    #[test]
    fn tenants_are_found_by_their_header_or_not_at_all() {
        let (multi, _) = door(true);
        let name = |header: Option<&[u8]>| multi.identify(header).map(|t| t.id.as_str().to_owned()).ok();
        assert_eq!(name(Some(b"a")), Some("a".into()));
        for header in
            [None, Some(b"b".as_slice()), Some(b"off"), Some(b""), Some(b"a b"), Some(b"\xff"), Some(b"A")]
        {
            assert_eq!(name(header), None, "{header:?}");
        }
        let (single, _) = door(false);
        for header in [None, Some(b"anything".as_slice())] {
            assert_eq!(single.identify(header).unwrap().id.as_str(), "default");
        }
    }

    #[test]
    fn limits_survive_a_change_of_other_tenants_and_say_when_to_return() {
        let (door, clock) = door(true);
        let tenant = door.identify(Some(b"a")).unwrap();
        for _ in 0..2 {
            door.charge(&tenant, 1).unwrap();
        }
        door.set_tenants([Admittable { id: tenant.id, active: true, limits: tenant.limits }].into_iter());
        let tenant = door.identify(Some(b"a")).unwrap();
        let refused = door.charge(&tenant, 1).unwrap_err();
        assert_eq!((refused.refusal, refused.retry_after_s), (Refusal::QuotaExceeded, Some(1)));
        clock.monotonic.store(1_000_000_000, std::sync::atomic::Ordering::Relaxed);
        door.charge(&tenant, 1).unwrap();
    }
}
