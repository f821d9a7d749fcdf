//! One group commit for all engines: closed-loop tokio tasks put records into a queue, one thread drains
//! everything that waits, hands it to the engine as one batch with one sync, and answers all of them.
//!
//! It is the strongest front we know how to write for an engine that blocks, so that what differs between
//! the rows is the engine and not the way it is called.

use crate::engines::Engine;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Bytes of one record, as everywhere in the append rows.
pub const RECORD: usize = 1024;

struct Item {
    record: Arc<[u8]>,
    answer: oneshot::Sender<()>,
}

#[derive(Default)]
struct Queue {
    items: Mutex<Vec<Item>>,
    ready: Condvar,
}

/// What one measured run gave.
pub struct Run {
    pub acks: u64,
    pub seconds: f64,
    pub latency: hdrhistogram::Histogram<u64>,
}

/// Drives `clients` closed-loop writers against `engine` for `seconds` after a warm-up of 0.3 s.
pub fn run(mut engine: impl Engine + Send + 'static, clients: usize, seconds: f64) -> Run {
    let queue = Arc::new(Queue::default());
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (queue, stop) = (queue.clone(), stop.clone());
        std::thread::spawn(move || {
            let mut batch = Vec::new();
            let mut records = Vec::new();
            loop {
                {
                    let mut items = queue.items.lock().expect("no writer panics");
                    while items.is_empty() {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let waited = queue.ready.wait_timeout(items, Duration::from_millis(20));
                        items = waited.expect("no writer panics").0;
                    }
                    std::mem::swap(&mut *items, &mut batch);
                }
                records.extend(batch.iter().map(|i| i.record.clone()));
                engine.append(&records);
                records.clear();
                for item in batch.drain(..) {
                    let _ = item.answer.send(());
                }
            }
        })
    };

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime");
    let measuring = Arc::new(AtomicBool::new(false));
    let (latency, seconds) = runtime.block_on(async {
        let mut tasks = Vec::new();
        for client in 0..clients {
            let (queue, stop, measuring) = (queue.clone(), stop.clone(), measuring.clone());
            tasks.push(tokio::spawn(async move {
                let record = random_record(client as u64 + 1);
                let mut latency = histogram();
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    let (answer, done) = oneshot::channel();
                    {
                        let mut items = queue.items.lock().expect("no writer panics");
                        let first = items.is_empty();
                        items.push(Item { record: record.clone(), answer });
                        if first {
                            queue.ready.notify_one();
                        }
                    }
                    if done.await.is_err() {
                        break;
                    }
                    if measuring.load(Ordering::Relaxed) {
                        let _ = latency.record(start.elapsed().as_nanos() as u64);
                    }
                }
                latency
            }));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        measuring.store(true, Ordering::Relaxed);
        let start = Instant::now();
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        measuring.store(false, Ordering::Relaxed);
        let seconds = start.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        let mut all = histogram();
        for task in tasks {
            all.add(task.await.expect("a client does not panic")).expect("same bounds");
        }
        (all, seconds)
    });
    writer.join().expect("the engine does not panic");
    Run { acks: latency.len(), seconds, latency }
}

/// For latencies in nanoseconds.
pub fn histogram() -> hdrhistogram::Histogram<u64> {
    hdrhistogram::Histogram::new_with_bounds(1_000, 60_000_000_000, 2).expect("bounds are constant")
}

/// Bytes that no engine can compress; the same for the same `seed`.
pub fn random_record(seed: u64) -> Arc<[u8]> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut record = [0u8; RECORD];
    for word in record.chunks_exact_mut(8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        word.copy_from_slice(&x.to_le_bytes());
    }
    Arc::from(record)
}
