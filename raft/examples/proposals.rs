//! Target P4: proposals through a one-voter group against the same records through the log alone.
//!
//! `cargo run --release -p raft --example proposals -- [clients] [seconds] [rounds] [in flight] [dir]`
//!
//! Closed loop: every client is a task that waits for its record to be durable before it sends the
//! next. Both sides get the same records from the same queue, alternate, and are measured in one run;
//! only the ratio of the medians means something. Prints nothing when the disk does not sync.

// A benchmark measures real time with real threads.
#![allow(clippy::disallowed_methods)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use engine::event::{Envelope, Event, encode_events};
use engine::ids::TenantId;
use engine::log::Lsn;
use futures_util::task::AtomicWaker;
use raft::{Batch, Group, GroupConfig, Machine, Standing};
use segments::{AnyDisk, Frame, Identity, Log, Options, Prefer};

const BODY: usize = 1024;

/// One client's place to wait.
#[derive(Default)]
struct Seat {
    served: AtomicU64,
    waker: AtomicWaker,
}

impl Seat {
    fn serve(&self) {
        self.served.fetch_add(1, Ordering::Release);
        self.waker.wake();
    }
}

type Request = (Event, Arc<Seat>);

/// What clients put in and one consumer takes out, all of it at a time.
#[derive(Default)]
struct Queue {
    requests: Mutex<(Vec<Request>, Option<Waker>)>,
    closed: AtomicBool,
}

impl Queue {
    fn put(&self, request: Request) {
        let mut inner = self.requests.lock().unwrap();
        inner.0.push(request);
        let waker = inner.1.take();
        drop(inner);
        waker.into_iter().for_each(Waker::wake);
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        let waker = self.requests.lock().unwrap().1.take();
        waker.into_iter().for_each(Waker::wake);
    }

    /// Everything that waits; nothing once the queue is closed.
    async fn take(&self) -> Vec<Request> {
        std::future::poll_fn(|cx| {
            let mut inner = self.requests.lock().unwrap();
            if inner.0.is_empty() && !self.closed.load(Ordering::Relaxed) {
                inner.1 = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(std::mem::take(&mut inner.0))
        })
        .await
    }
}

/// Serves everybody who waits in a batch.
struct Answers;

impl Machine for Answers {
    fn standing(&self) -> Standing {
        Standing::default()
    }

    fn apply(&mut self, _lsn: Lsn, _term: u64, batch: &Batch) {
        if let Some(seats) = batch.local::<Vec<Arc<Seat>>>() {
            seats.iter().for_each(|seat| seat.serve());
        }
    }
}

/// Records served, by `clients` tasks in `time`.
async fn drive(queue: &Arc<Queue>, clients: usize, time: Duration) -> u64 {
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let (queue, stop, seat) = (queue.clone(), stop.clone(), Arc::new(Seat::default()));
            tokio::spawn(async move {
                let tenant = TenantId::new("bench").unwrap();
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    let envelope =
                        Envelope { tenant, received_at_ms: 1, salt: [0; 16], body: vec![b'x'; BODY] };
                    queue.put((Event::Received(envelope), seat.clone()));
                    sent += 1;
                    std::future::poll_fn(|cx| {
                        seat.waker.register(cx.waker());
                        if seat.served.load(Ordering::Acquire) == sent {
                            Poll::Ready(())
                        } else {
                            Poll::Pending
                        }
                    })
                    .await;
                }
                sent
            })
        })
        .collect();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut served = 0;
    for task in tasks {
        served += task.await.unwrap();
    }
    served
}

fn disk(dir: &Path) -> AnyDisk {
    AnyDisk::open(dir, Prefer::Auto).expect("the directory opens").0
}

fn options() -> Options {
    Options::new(Identity { cluster: [1; 16], region: "default".into() })
}

/// The log alone: one thread, one frame a record, one write and one sync for all that wait.
async fn log_alone(dir: &Path, clients: usize, time: Duration) -> (f64, u64) {
    let queue = Arc::new(Queue::default());
    let (mut log, _) = Log::open(disk(dir), &options(), |_| Ok::<(), String>(())).expect("the log opens");
    let taken = queue.clone();
    let thread = std::thread::spawn(move || {
        let (mut lsn, mut syncs, mut record) = (Lsn::ZERO, 0, Vec::new());
        loop {
            let requests = block_on(taken.take());
            if requests.is_empty() {
                return syncs;
            }
            for (event, _) in &requests {
                lsn = lsn.next();
                record.clear();
                encode_events(1, std::slice::from_ref(event), &mut record);
                log.append(Frame::entry(lsn, 1, &record)).expect("the disk has room");
            }
            log.flush().expect("the disk works");
            log.set_committed(lsn);
            syncs += 1;
            requests.iter().for_each(|(_, seat)| seat.serve());
        }
    });
    let began = Instant::now();
    let served = drive(&queue, clients, time).await;
    let rate = served as f64 / began.elapsed().as_secs_f64();
    queue.close();
    (rate, thread.join().unwrap())
}

/// Runs a future on this thread, which parks while it waits.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// The same through the group: many records an entry, `in_flight` entries at a time.
async fn through_the_group(
    dir: &Path,
    clients: usize,
    time: Duration,
    in_flight: usize,
) -> (f64, raft::Metrics) {
    let queue = Arc::new(Queue::default());
    let group =
        Group::open(GroupConfig::new(1, options()), disk(dir), Answers).await.expect("the group opens");
    let group = Arc::new(group);
    let (taken, proposing) = (queue.clone(), group.clone());
    let proposer = tokio::spawn(async move {
        let mut pending = std::collections::VecDeque::new();
        loop {
            let requests = taken.take().await;
            let (events, seats): (Vec<Event>, Vec<Arc<Seat>>) = requests.into_iter().unzip();
            let batch = Batch { events: events.into(), local: Some(Arc::new(seats)) };
            pending.push_back(proposing.submit(batch).await.expect("it leads"));
            while pending.len() >= in_flight {
                pending.pop_front().expect("there is one").await.expect("it is applied");
            }
        }
    });
    let began = Instant::now();
    let served = drive(&queue, clients, time).await;
    let rate = served as f64 / began.elapsed().as_secs_f64();
    proposer.abort();
    let metrics = group.metrics();
    group.shutdown().await;
    (rate, metrics)
}

/// CPU time of this process so far, all threads, in microseconds: what a busy machine cannot blur.
fn cpu_us() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills the struct it is given; zeros are a valid one, too.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let us = |time: libc::timeval| time.tv_sec as f64 * 1e6 + time.tv_usec as f64;
    us(usage.ru_utime) + us(usage.ru_stime)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |n: usize, default: usize| args.get(n).map_or(default, |arg| arg.parse().expect("a number"));
    let (clients, seconds, rounds, in_flight) = (number(1, 256), number(2, 3), number(3, 3), number(4, 2));
    let base = args.get(5).map_or_else(std::env::temp_dir, PathBuf::from);
    let time = Duration::from_secs(seconds as u64);
    let (mut alone, mut grouped) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let dir = |side: &str| base.join(format!("flk-p4-{}-{round}-{side}", std::process::id()));
        let before = cpu_us();
        let (rate, syncs) = log_alone(&dir("log"), clients, time).await;
        let cpu = (cpu_us() - before) / (rate * time.as_secs_f64());
        println!("round {round}: log alone {rate:9.0}/s, {syncs} syncs, {cpu:.2} CPU us a record");
        alone.push(rate);
        let before = cpu_us();
        let (rate, metrics) = through_the_group(&dir("group"), clients, time, in_flight).await;
        let cpu = (cpu_us() - before) / (rate * time.as_secs_f64());
        let mean = metrics.sync.total_us / metrics.syncs.max(1);
        println!(
            "round {round}: group     {rate:9.0}/s, {} syncs of {mean} us, {} frames, {cpu:.2} CPU us a record",
            metrics.syncs, metrics.frames
        );
        assert!(syncs > 0 && metrics.syncs > 0 && mean >= 5, "a disk that does not sync measures nothing");
        grouped.push(rate);
        for side in ["log", "group"] {
            std::fs::remove_dir_all(dir(side)).expect("we made it");
        }
    }
    let (alone, grouped) = (median(alone), median(grouped));
    println!("C={clients}, in flight {in_flight}: {grouped:.0} / {alone:.0} = {:.2}", grouped / alone);
}
