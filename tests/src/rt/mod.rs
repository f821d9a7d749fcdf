//! A runtime that does the same thing twice.
//!
//! One thread, virtual time in nanoseconds, and a seeded choice among the tasks that could run: the
//! same seed gives the same schedule, and [`hash`] folds every step of it into one number to prove it.
//! openraft reaches time, tasks, channels and randomness only through `AsyncRuntime`, which
//! [`SimRt`] implements, so the production code of `raft` runs here unchanged.
//!
//! Every task belongs to an [`Owner`], one life of one simulated process. [`kill`] drops all tasks of
//! an owner between two polls, which is what SIGKILL looks like from inside.

mod runtime;
mod time;
mod watch;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

pub use runtime::{JoinHandle, SimRt};
pub use time::{SimInstant, Sleep, Timeout, sleep, timeout};

/// One life of one simulated process; 0 is the world outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner(pub u64);

/// SplitMix64: small, seeded, and the same on every machine.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    /// True in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
type Ready = Arc<Mutex<VecDeque<u64>>>;

struct Slot {
    owner: Owner,
    task: Task,
    waker: Waker,
    queued: Arc<Queued>,
}

/// What a task's waker does: put it among the ready, once.
struct Queued {
    id: u64,
    ready: Ready,
    already: AtomicBool,
}

impl Wake for Queued {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.already.swap(true, Ordering::Relaxed) {
            self.ready.lock().expect("one thread").push_back(self.id);
        }
    }
}

struct Executor {
    now: u64,
    rng: Rng,
    tasks: BTreeMap<u64, Slot>,
    next_task: u64,
    ready: Ready,
    timers: BinaryHeap<Reverse<(u64, u64)>>,
    sleepers: BTreeMap<u64, Waker>,
    next_timer: u64,
    current: Owner,
    dead: BTreeSet<Owner>,
    paused: BTreeSet<Owner>,
    /// Ready tasks of paused owners.
    held: Vec<u64>,
    polls: u64,
    hash: u64,
}

impl Executor {
    fn new(seed: u64) -> Executor {
        Executor {
            now: 0,
            rng: Rng(seed),
            tasks: BTreeMap::new(),
            next_task: 1,
            ready: Ready::default(),
            timers: BinaryHeap::new(),
            sleepers: BTreeMap::new(),
            next_timer: 1,
            current: Owner::default(),
            dead: BTreeSet::new(),
            paused: BTreeSet::new(),
            held: Vec::new(),
            polls: 0,
            hash: seed,
        }
    }
}

thread_local! {
    static EXECUTOR: RefCell<Executor> = RefCell::new(Executor::new(0));
}

fn with<T>(f: impl FnOnce(&mut Executor) -> T) -> T {
    EXECUTOR.with(|executor| f(&mut executor.borrow_mut()))
}

/// Forget everything and begin at time 0 with `seed`.
pub fn reset(seed: u64) {
    // Tasks may touch the executor while they are dropped, so they are dropped outside of it.
    let old = with(|executor| std::mem::take(&mut executor.tasks));
    drop(old);
    with(|executor| *executor = Executor::new(seed));
}

/// Virtual time since [`reset`], nanoseconds.
pub fn now() -> u64 {
    with(|executor| executor.now)
}

/// What a panic said, for a report.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("of unknown kind"))
}

/// A draw from the seeded generator.
pub fn rand() -> u64 {
    with(|executor| executor.rng.draw())
}

/// A draw below `bound`, which is not 0.
pub fn below(bound: u64) -> u64 {
    rand() % bound
}

/// True in `percent` of a hundred cases.
pub fn chance(percent: u64) -> bool {
    below(100) < percent
}

/// The whole schedule so far, as one number.
pub fn hash() -> u64 {
    with(|executor| executor.hash)
}

/// How often a task has been polled.
pub fn polls() -> u64 {
    with(|executor| executor.polls)
}

/// The owner of the task that runs now.
pub fn current() -> Owner {
    with(|executor| executor.current)
}

/// Fold `value` into the schedule hash: what a task saw, not only when it ran.
pub fn note(value: u64) {
    with(|executor| {
        executor.hash = (executor.hash ^ value).rotate_left(7).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    });
}

/// Run `future` as a task of `owner`. On a dead owner it never runs.
pub fn spawn(owner: Owner, future: impl Future<Output = ()> + Send + 'static) {
    let unused = with(|executor| {
        if executor.dead.contains(&owner) {
            return Some(future);
        }
        let id = executor.next_task;
        executor.next_task += 1;
        let queued = Arc::new(Queued { id, ready: executor.ready.clone(), already: AtomicBool::new(true) });
        executor.ready.lock().expect("one thread").push_back(id);
        let waker = Waker::from(queued.clone());
        executor.tasks.insert(id, Slot { owner, task: Box::pin(future), waker, queued });
        None
    });
    drop(unused);
}

/// Drop every task of `owner`, now and for ever. The task that runs now ends with its poll.
pub fn kill(owner: Owner) {
    let gone: Vec<Slot> = with(|executor| {
        executor.dead.insert(owner);
        let ids: Vec<u64> =
            executor.tasks.iter().filter(|(_, slot)| slot.owner == owner).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| executor.tasks.remove(&id)).collect()
    });
    drop(gone);
}

/// From now on no task of `owner` runs, though time goes on: what SIGSTOP looks like from inside.
pub fn pause(owner: Owner) {
    with(|executor| executor.paused.insert(owner));
}

/// The tasks of `owner` run again.
pub fn resume(owner: Owner) {
    with(|executor| {
        executor.paused.remove(&owner);
        // Those of others that are paused are held again when they are picked.
        let held = std::mem::take(&mut executor.held);
        executor.ready.lock().expect("one thread").extend(held);
    });
}

/// Is nothing of `owner` going to run again?
pub fn is_dead(owner: Owner) -> bool {
    with(|executor| executor.dead.contains(&owner))
}

/// Run until virtual time `until`, or until `done` says so between two polls.
pub fn run(until: u64, mut done: impl FnMut() -> bool) {
    while !done() && step(until) {}
}

/// Poll one ready task, or move time to the next timer; false when there is neither before `until`.
fn step(until: u64) -> bool {
    match pick() {
        Some(id) => poll(id),
        None => return advance(until),
    }
    true
}

/// One of the ready tasks, by the seed.
fn pick() -> Option<u64> {
    with(|executor| {
        let mut ready = executor.ready.lock().expect("one thread");
        loop {
            if ready.is_empty() {
                return None;
            }
            let nth = (executor.rng.draw() % ready.len() as u64) as usize;
            let id = ready.remove(nth)?;
            let is_paused = |slot: &Slot| executor.paused.contains(&slot.owner);
            if !executor.paused.is_empty() && executor.tasks.get(&id).is_some_and(is_paused) {
                executor.held.push(id);
                continue;
            }
            return Some(id);
        }
    })
}

fn poll(id: u64) {
    let Some(mut slot) = with(|executor| executor.tasks.remove(&id)) else { return };
    slot.queued.already.store(false, Ordering::Relaxed);
    let now = with(|executor| {
        executor.current = slot.owner;
        executor.polls += 1;
        executor.now
    });
    note(id.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ now);
    let polled = slot.task.as_mut().poll(&mut Context::from_waker(&slot.waker));
    let over = with(|executor| {
        executor.current = Owner::default();
        if polled == Poll::Pending && !executor.dead.contains(&slot.owner) {
            executor.tasks.insert(id, slot);
            return None;
        }
        Some(slot)
    });
    drop(over);
}

/// Nothing can run: move time to the next timer. False when there is none before `until`.
fn advance(until: u64) -> bool {
    let due = with(|executor| match executor.timers.peek() {
        Some(Reverse((at, _))) if *at <= until => {
            let Reverse((at, timer)) = executor.timers.pop()?;
            executor.now = executor.now.max(at);
            Some(executor.sleepers.remove(&timer))
        }
        _ => {
            executor.now = executor.now.max(until);
            None
        }
    });
    let fired = due.is_some();
    if let Some(Some(waker)) = due {
        waker.wake();
    }
    fired
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(seed: u64) -> (u64, Vec<u64>) {
        reset(seed);
        let seen = Arc::new(Mutex::new(Vec::new()));
        for n in 0..8 {
            let seen = seen.clone();
            spawn(Owner(1), async move {
                for _ in 0..4 {
                    sleep(1 + below(3)).await;
                    seen.lock().unwrap().push(n);
                }
            });
        }
        run(100, || false);
        (hash(), Arc::try_unwrap(seen).unwrap().into_inner().unwrap())
    }

    #[test]
    fn one_seed_gives_one_schedule_and_another_seed_another() {
        assert_eq!(schedule(7), schedule(7));
        assert_ne!(schedule(7).0, schedule(8).0);
        assert_ne!(schedule(7).1, schedule(8).1);
    }

    #[test]
    fn a_killed_owner_does_nothing_more() {
        reset(1);
        let count = Arc::new(Mutex::new(0));
        let counted = count.clone();
        spawn(Owner(1), async move {
            loop {
                sleep(10).await;
                *counted.lock().unwrap() += 1;
            }
        });
        run(55, || false);
        assert_eq!(*count.lock().unwrap(), 5);
        kill(Owner(1));
        run(200, || false);
        assert_eq!(*count.lock().unwrap(), 5);
        assert_eq!(Arc::strong_count(&count), 1);
        spawn(Owner(1), async { unreachable!("its owner is dead") });
        run(300, || false);
    }

    #[test]
    fn a_paused_owner_waits_and_goes_on_late() {
        reset(1);
        let seen = Arc::new(Mutex::new(Vec::new()));
        for owner in [1, 2] {
            let seen = seen.clone();
            spawn(Owner(owner), async move {
                sleep(10).await;
                seen.lock().unwrap().push((owner, now()));
            });
        }
        run(5, || false);
        pause(Owner(1));
        run(50, || false);
        assert_eq!(*seen.lock().unwrap(), [(2, 10)]);
        resume(Owner(1));
        run(60, || false);
        assert_eq!(*seen.lock().unwrap(), [(2, 10), (1, 50)]);
    }
}
