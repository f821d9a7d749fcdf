//! P14 and P20: what a long log costs: restart after a crash, rate, latency and memory.

use crate::context::{Context, remove};
use crate::flkd::{Flkd, Tenant};
use crate::ingest::{self, Runs, Workload};
use crate::rows::{Bound, Row, command, figure};
use crate::stats::{Sample, line, median};
use std::io;

/// Records of one pool while a log is filled, so that memory stays bounded.
const CHUNK: usize = 200_000;

/// Sends `records` accepted submissions in NDJSON batches, as fast as they are taken.
pub fn feed(node: &Flkd, runs: &Runs, records: usize) -> io::Result<()> {
    let workload = Workload::batches(Tenant::Hmac);
    let mut left = records;
    while left > 0 {
        let n = left.min(CHUNK);
        let mut pool = workload.pool(runs, n, "\"accepted\":true");
        workload.drive_all(node.addr(), &mut pool)?;
        left -= n;
    }
    Ok(())
}

/// P14: SIGKILL, start, and the time until `/readyz` says yes, at growing sizes of the log.
pub fn restart(context: &Context) -> Vec<Row> {
    let what = "restart to ready after kill -9, s, worst over all sizes";
    let mut sizes = context.size(vec![10_000, 300_000, 1_000_000, 3_000_000], vec![10_000, 100_000, 300_000]);
    if context.long {
        sizes.push(10_000_000);
    }
    let measured = || -> io::Result<(f64, Vec<String>)> {
        let dir = context.fresh("restart")?;
        let runs = Runs::default();
        let mut node = Flkd::start(context, &dir)?;
        let (mut worst, mut notes, mut held) = (0.0f64, Vec::new(), 0);
        for size in sizes {
            feed(&node, &runs, size - held)?;
            held = size;
            let mut times = Vec::new();
            for _ in 0..context.runs {
                // A little more load each time, so that the kill finds work in flight behind the last snapshot.
                feed(&node, &runs, 2_000)?;
                held += 2_000;
                node.kill()?;
                let (again, took) = Flkd::start_timed(context, &dir)?;
                node = again;
                times.push(Sample::new(took.as_secs_f64()));
            }
            let typical = median(times.iter().map(|s| s.value));
            worst = worst.max(typical);
            notes.push(format!("{} records: {typical:.2} s {}", figure(held as f64), line(&times)));
        }
        node.stop()?;
        remove(&dir)?;
        Ok((worst, notes))
    };
    match measured() {
        Err(why) => vec![Row::refused("P14", what, why)],
        Ok((worst, notes)) => vec![Row {
            id: "P14",
            what: what.into(),
            ours: format!("{worst:.2} s"),
            reference: "a second".into(),
            value: worst,
            bound: Bound::AtMost { floor: 1.0, moonshot: None },
            command: command("P14"),
            notes,
            refused: None,
        }],
    }
}

/// P20: the same load on an empty log and on a long one.
pub fn growth(context: &Context) -> Vec<Row> {
    let mut sizes: Vec<usize> = context.size(vec![1_000_000, 10_000_000], vec![100_000, 500_000]);
    if context.long {
        sizes.push(50_000_000);
    }
    let at = |size: usize| format!("rate at {} records, 64 connections", figure(size as f64));
    let measured = || -> io::Result<Vec<Row>> {
        let dir = context.fresh("growth")?;
        let runs = Runs::default();
        let node = Flkd::start(context, &dir)?;
        let workload = Workload::single(Tenant::Hmac, 64);
        let measure = || -> io::Result<(Vec<Sample>, u64)> {
            let samples = (0..context.runs).map(|_| ingest::run(context, &runs, &node, workload));
            Ok((samples.collect::<io::Result<_>>()?, node.usage()?.resident))
        };
        let rate = |samples: &[Sample]| median(samples.iter().map(|s| s.value));
        let p99 = |samples: &[Sample]| median(samples.iter().map(|s| s.extra[1].1));
        let (first, resident) = measure()?;
        let mut rows = Vec::new();
        let mut held = node.metric("flk_ingest_total")? as usize;
        let empty = resident;
        for size in sizes {
            feed(&node, &runs, size.saturating_sub(held))?;
            held = size.max(held);
            let (now, resident) = measure()?;
            let bytes = resident.saturating_sub(empty) as f64 / size as f64;
            rows.push(Row {
                id: "P20",
                what: at(size),
                ours: format!("{}, p99 {} us", figure(rate(&now)), figure(p99(&now))),
                reference: format!(
                    "on an empty log: {}, p99 {} us",
                    figure(rate(&first)),
                    figure(p99(&first))
                ),
                value: rate(&now) / rate(&first),
                bound: Bound::AtLeast { floor: 0.9, moonshot: None },
                command: command("P20"),
                notes: vec![
                    format!("ours {}", line(&now)),
                    format!("first {}", line(&first)),
                    format!(
                        "resident {} B, {} B more a record than at the start",
                        figure(resident as f64),
                        figure(bytes)
                    ),
                ],
                refused: None,
            });
        }
        node.stop()?;
        remove(&dir)?;
        Ok(rows)
    };
    measured().unwrap_or_else(|why| vec![Row::refused("P20", at(0), why)])
}
