//! Judging submissions alone, on threads of their own, while the log writes and syncs them.
//!
//! A batch is judged in chunks. Whoever comes first claims a chunk: the task that proposed the batch, a thread
//! of the pool when signatures are costly, or the fold when it gets there before them, so that the fold never
//! waits for somebody who has not begun. I1: what the fold
//! decides with is a judgement under the keys that count at that place in the log; one made under others is
//! made again.

use crate::metrics::Metrics;
use engine::event::{Envelope, Event};
use engine::ids::TenantId;
use engine::summary::{Case, Judged, KeyRing, Policy, judge, judge_many};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::thread::JoinHandle;
use std::time::Instant;

/// The keys of all tenants and the policy, as they stand at one place in the log.
#[derive(Clone)]
pub struct KeyTable {
    /// Changes with every tenant, key and policy that takes effect.
    pub version: u64,
    /// Prepared keys; a tenant without good keys is absent, and nothing falls back to another key.
    pub rings: HashMap<TenantId, Arc<KeyRing>>,
    /// Tenants whose signatures are worth a thread even one by one.
    pub costly: HashMap<TenantId, bool>,
    /// The policy in force.
    pub policy: Arc<Policy>,
}

impl KeyTable {
    /// Judges one submission alone.
    pub fn judge(&self, envelope: &Envelope) -> Judged {
        judge(envelope, self.rings.get(&envelope.tenant).map(Arc::as_ref), &self.policy)
    }

    fn case<'a>(&'a self, envelope: &'a Envelope) -> Case<'a> {
        Case { envelope, keys: self.rings.get(&envelope.tenant).map(Arc::as_ref), attested: None }
    }
}

/// Estimated cost of one judgement, ns: with an HMAC and with an Ed25519 signature.
const HMAC_NS: usize = 4_000;
const ED25519_NS: usize = 55_000;
/// Work in one chunk, ns: long against the cost of claiming it, short against a sync.
const CHUNK_NS: usize = 60_000;
/// From here on a batch is worth waking threads for. Below, the task that proposed it judges it between handing
/// it to the log and hearing back, which costs no wake-up at all.
const WAKE_NS: usize = 400_000;

/// The judgements of one batch, as far as they are made.
pub struct Judging {
    events: Arc<Vec<Event>>,
    keys: Arc<KeyTable>,
    chunk: usize,
    chunks: Vec<OnceLock<Vec<Option<Judged>>>>,
    next: AtomicUsize,
    cost_ns: usize,
}

impl Judging {
    /// Prepares a batch. Nothing is judged yet.
    pub fn new(events: Arc<Vec<Event>>, keys: Arc<KeyTable>) -> Judging {
        let cost_ns = events.iter().map(|event| cost(event, &keys)).sum::<usize>();
        let each = cost_ns / events.len().max(1);
        let chunk = (CHUNK_NS / each.max(1)).clamp(1, 256);
        let chunks = (0..events.len().div_ceil(chunk)).map(|_| OnceLock::new()).collect();
        Judging { events, keys, chunk, chunks, next: AtomicUsize::new(0), cost_ns }
    }

    /// The events of the batch.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Version of the keys it is judged with.
    pub fn version(&self) -> u64 {
        self.keys.version
    }

    /// The policy it is judged with.
    pub fn policy(&self) -> &Policy {
        &self.keys.policy
    }

    /// The judgement of one submission; made here and now if nobody has begun its chunk.
    pub fn judged(&self, nth: usize) -> Option<&Judged> {
        self.fill(nth / self.chunk)[nth % self.chunk].as_ref()
    }

    fn fill(&self, at: usize) -> &Vec<Option<Judged>> {
        self.chunks[at].get_or_init(|| {
            let from = at * self.chunk;
            let to = (from + self.chunk).min(self.events.len());
            let events = &self.events[from..to];
            let envelopes = events.iter().filter_map(|event| match event {
                Event::Received(envelope) => Some(envelope),
                _ => None,
            });
            let cases: Vec<Case<'_>> = envelopes.map(|envelope| self.keys.case(envelope)).collect();
            let mut judged = judge_many(&cases, &self.keys.policy).into_iter();
            let of = |event: &Event| matches!(event, Event::Received(_)).then(|| judged.next()).flatten();
            events.iter().map(of).collect()
        })
    }

    /// Claims and judges one chunk; `false` when all are claimed.
    pub fn help(&self, metrics: &Metrics) -> bool {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        if at >= self.chunks.len() {
            return false;
        }
        if self.chunks[at].get().is_none() {
            let begun = Instant::now();
            let judged = self.fill(at).len();
            metrics.verify_seconds.observe(begun.elapsed().as_secs_f64() / judged.max(1) as f64);
        }
        true
    }
}

fn cost(event: &Event, keys: &KeyTable) -> usize {
    match event {
        Event::Received(envelope) if keys.costly.get(&envelope.tenant).copied().unwrap_or(false) => {
            ED25519_NS
        }
        Event::Received(_) => HMAC_NS,
        _ => 0,
    }
}

struct Shared {
    batches: Mutex<(VecDeque<Arc<Judging>>, bool)>,
    wake: Condvar,
    metrics: Arc<Metrics>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, (VecDeque<Arc<Judging>>, bool)> {
        self.batches.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The oldest batch with work in it, or `None` when the pool ends.
    fn front(&self) -> Option<Arc<Judging>> {
        let mut guard = self.lock();
        loop {
            while guard
                .0
                .front()
                .is_some_and(|judging| judging.next.load(Ordering::Relaxed) >= judging.chunks.len())
            {
                guard.0.pop_front();
            }
            if let Some(judging) = guard.0.front() {
                return Some(judging.clone());
            }
            if guard.1 {
                return None;
            }
            guard = self.wake.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }
}

/// Threads that judge.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn start(threads: usize, metrics: Arc<Metrics>) -> std::io::Result<Pool> {
        let shared = Arc::new(Shared { batches: Mutex::default(), wake: Condvar::new(), metrics });
        let mut pool = Pool { shared: shared.clone(), threads: Vec::new() };
        for n in 0..threads {
            let shared = shared.clone();
            let work = move || {
                while let Some(judging) = shared.front() {
                    while judging.help(&shared.metrics) {}
                }
            };
            pool.threads.push(std::thread::Builder::new().name(format!("flk-verify-{n}")).spawn(work)?);
        }
        Ok(pool)
    }

    /// Offers batches to the threads if together they are worth it. L1: the pool holds no batch longer than the log does,
    /// because the fold takes over.
    pub fn offer<'a>(&self, batches: impl Iterator<Item = &'a Arc<Judging>> + Clone) {
        if batches.clone().map(|judging| judging.cost_ns).sum::<usize>() < WAKE_NS {
            return;
        }
        let chunks: usize = batches.clone().map(|judging| judging.chunks.len()).sum();
        self.shared.lock().0.extend(batches.cloned());
        if chunks > 1 && self.threads.len() > 1 {
            self.shared.wake.notify_all();
        } else {
            self.shared.wake.notify_one();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().1 = true;
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(n: usize) -> Arc<Judging> {
        let tenant = TenantId::new("t").unwrap();
        let event = |n: usize| match n % 5 {
            4 => Event::Checkpoint(Vec::new()),
            _ => Event::Received(Envelope { tenant, received_at_ms: 0, salt: [0; 16], body: vec![b'x'; n] }),
        };
        let keys = KeyTable {
            version: 1,
            rings: HashMap::new(),
            costly: HashMap::from([(tenant, true)]),
            policy: Arc::new(Policy::default_1_0_0()),
        };
        Arc::new(Judging::new(Arc::new((0..n).map(event).collect()), Arc::new(keys)))
    }

    #[test]
    fn every_submission_is_judged_whoever_claims_it() {
        let pool = Pool::start(2, Arc::new(Metrics::new(0, false))).unwrap();
        for n in [1, 3, 64, 500] {
            let judging = batch(n);
            pool.offer([&judging].into_iter());
            for nth in 0..n {
                assert_eq!(judging.judged(nth).is_some(), nth % 5 != 4, "{nth} of {n}");
            }
        }
    }

    #[test]
    fn without_threads_the_fold_judges_all() {
        let judging = batch(100);
        assert!((0..100).all(|nth| judging.judged(nth).is_some() == (nth % 5 != 4)));
    }
}
