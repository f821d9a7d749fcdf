//! The hand-off between many async writers and the one thread that owns a log.
//!
//! Writers put a record into a queue and wait. The log thread drains the queue, hands everything to the log as one
//! batch, and answers all writers of a batch when it is durable. Waking a task from outside its runtime takes a lock
//! and often a system call, so the thread wakes one task inside the runtime, which then wakes the writers from there:
//! one outside wake-up a batch instead of one a record.

use crate::handloop::record;
use crate::stats::{Sample, histogram, micros};
use engine::log::Lsn;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Batches in flight at which the thread waits for the oldest.
const FLIGHTS: usize = 2;

/// One record on its way.
pub struct Item {
    pub record: Arc<[u8]>,
    pub done: oneshot::Sender<()>,
}

/// The log behind the front. Called by the log thread only.
pub trait Sink: Send + 'static {
    /// Takes a batch and begins to make it durable, waiting only if too much is in flight.
    fn begin(&mut self, batch: &[Item]) -> io::Result<()>;
    /// Up to where everything is durable, counting records from 1. With `wait`, blocks until that has grown, if
    /// anything is in flight.
    fn durable(&mut self, wait: bool) -> io::Result<Lsn>;
}

#[derive(Default)]
struct Queue {
    items: Mutex<Vec<Item>>,
    sleeping: AtomicBool,
    closed: AtomicBool,
}

/// A running front. [`Front::close`] ends its thread.
pub struct Front {
    queue: Arc<Queue>,
    thread: Thread,
    handle: JoinHandle<io::Result<()>>,
}

impl Front {
    /// Starts the log thread and the answering task; has to be called inside a runtime.
    pub fn start(sink: impl Sink) -> io::Result<Front> {
        let queue = Arc::new(Queue::default());
        let (answers, mut answer) = mpsc::unbounded_channel::<Vec<Item>>();
        tokio::spawn(async move {
            while let Some(batch) = answer.recv().await {
                for item in batch {
                    // A writer that has stopped no longer waits.
                    let _ = item.done.send(());
                }
            }
        });
        let shared = queue.clone();
        let handle = std::thread::Builder::new()
            .name("bench-log".into())
            .spawn(move || serve(&shared, sink, &answers))?;
        let thread = handle.thread().clone();
        Ok(Front { queue, thread, handle })
    }

    /// Durable when the future resolves; an error means that the log thread has stopped.
    pub fn append(
        &self,
        record: Arc<[u8]>,
    ) -> impl Future<Output = Result<(), oneshot::error::RecvError>> + use<> {
        let (done, durable) = oneshot::channel();
        self.queue.items.lock().expect("nobody panics inside").push(Item { record, done });
        if self.queue.sleeping.load(Ordering::SeqCst) && self.queue.sleeping.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
        durable
    }

    /// Ends the thread after what is queued.
    pub fn close(self) -> io::Result<()> {
        self.queue.closed.store(true, Ordering::SeqCst);
        self.queue.sleeping.store(false, Ordering::SeqCst);
        self.thread.unpark();
        self.handle.join().expect("the log thread does not panic")
    }
}

fn serve(queue: &Queue, mut sink: impl Sink, answers: &mpsc::UnboundedSender<Vec<Item>>) -> io::Result<()> {
    // Every answer waits for this thread. Where the priority is refused it runs as it is.
    // SAFETY: plain system call on the calling thread, no memory is passed.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -10) };
    let mut flying: VecDeque<(Lsn, Vec<Item>)> = VecDeque::new();
    let mut end = Lsn::ZERO;
    loop {
        let batch = std::mem::take(&mut *queue.items.lock().expect("nobody panics inside"));
        let idle = batch.is_empty();
        if !idle {
            sink.begin(&batch)?;
            end.0 += batch.len() as u64;
            flying.push_back((end, batch));
        }
        let durable = sink.durable(idle || flying.len() >= FLIGHTS)?;
        while flying.front().is_some_and(|(end, _)| *end <= durable) {
            let (_, batch) = flying.pop_front().expect("just seen");
            // The receiver lives as long as the runtime.
            let _ = answers.send(batch);
        }
        if !idle || !flying.is_empty() {
            continue;
        }
        queue.sleeping.store(true, Ordering::SeqCst);
        let empty = queue.items.lock().expect("nobody panics inside").is_empty();
        if !empty {
            queue.sleeping.store(false, Ordering::SeqCst);
        } else if queue.closed.load(Ordering::SeqCst) {
            return Ok(());
        } else {
            std::thread::park();
        }
    }
}

/// The runtime of all rows that measure tasks: one thread, as the server has for whatever goes to the log.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Drives `clients` closed-loop tasks, each of which calls `one` with its record again and again, and counts what
/// they get in `seconds` after 0.3 s of warm-up.
pub async fn closed_loop<F, Fut, E>(clients: usize, seconds: f64, one: F) -> io::Result<Sample>
where
    F: Fn(Arc<[u8]>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), E>> + Send,
    E: std::fmt::Display + Send + 'static,
{
    let (stop, measuring) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let mut tasks = Vec::with_capacity(clients);
    for client in 0..clients {
        let (stop, measuring, one) = (stop.clone(), measuring.clone(), one.clone());
        tasks.push(tokio::spawn(async move {
            let record: Arc<[u8]> = Arc::from(record(client as u64 + 1));
            let mut latency = histogram();
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                one(record.clone()).await.map_err(|e| io::Error::other(e.to_string()))?;
                if measuring.load(Ordering::Relaxed) {
                    let _ = latency.record(start.elapsed().as_nanos() as u64);
                }
            }
            Ok::<_, io::Error>(latency)
        }));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    measuring.store(true, Ordering::Relaxed);
    let start = Instant::now();
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    measuring.store(false, Ordering::Relaxed);
    let window = start.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let mut all = histogram();
    for task in tasks {
        all.add(task.await.map_err(io::Error::other)??).map_err(io::Error::other)?;
    }
    Ok(Sample::new(all.len() as f64 / window)
        .with("p50 us", micros(&all, 0.5))
        .with("p99 us", micros(&all, 0.99))
        .with("p99.9 us", micros(&all, 0.999)))
}
