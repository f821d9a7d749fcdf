//! raft-engine by itself: a thread for each writer, each with a region of its own, and the engine's own group commit,
//! which lets one of the threads that wait write for all of them.

use crate::engines::{Indexed, entry, open_raft_engine};
use crate::front::{Run, histogram, random_record};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Drives `clients` closed-loop threads for `seconds` after a warm-up of 0.3 s.
pub fn run(dir: &Path, clients: usize, seconds: f64) -> Run {
    let engine = open_raft_engine(dir);
    let (measuring, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let write = |region: u64| {
        let record = random_record(region);
        let mut latency = histogram();
        for index in 1.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let start = Instant::now();
            let mut batch = raft_engine::LogBatch::with_capacity(1);
            batch
                .add_entries::<Indexed>(region, &[entry(index, &record)])
                .expect("below raft-engine's limit");
            engine.write(&mut batch, true).expect("raft-engine writes");
            if measuring.load(Ordering::Relaxed) {
                let _ = latency.record(start.elapsed().as_nanos() as u64);
            }
        }
        latency
    };
    std::thread::scope(|scope| {
        let writers: Vec<_> = (1..=clients as u64)
            .map(|region| {
                scope.spawn({
                    let write = &write;
                    move || write(region)
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        measuring.store(true, Ordering::Relaxed);
        let start = Instant::now();
        std::thread::sleep(Duration::from_secs_f64(seconds));
        measuring.store(false, Ordering::Relaxed);
        let seconds = start.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        let mut latency = histogram();
        for writer in writers {
            latency.add(writer.join().expect("a writer does not panic")).expect("same bounds");
        }
        Run { acks: latency.len(), seconds, latency }
    })
}
