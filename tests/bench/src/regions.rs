//! P19: what shipping costs a region under full load, how far the other one is behind, and how long both take to agree after they
//! took writes apart.
//!
//! Cost: a node that ships to a directory against the same node that does not; nobody reads the directory, so that this machine
//! does not pay for a second region, too. Convergence: two nodes take submissions for the length of the split, each at a fixed
//! rate and with the other one's shipments out of reach; then they are told of each other and go on taking as many.

use crate::context::{Context, remove};
use crate::flkd::{Flkd, Tenant};
use crate::ingest::{Runs, Workload, run};
use crate::process::free_port;
use crate::rows::{Bound, Row, command, figure};
use crate::stats::{Sample, alternate};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Submissions a second in each region during a split and after it.
const RATE: f64 = 500.0;
/// Connections under full load, as in P5.
const CONNECTIONS: usize = 64;
/// How long a backlog may take to arrive before the row is refused.
const PATIENCE: Duration = Duration::from_secs(1200);
const TOKEN: &str = "bench";

/// A node of `region` below `dir`, which ships to `place`; with a peer, which ships to the same place.
fn node(context: &Context, dir: &Path, region: &str, ships: bool, peer: Option<&str>) -> io::Result<Flkd> {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let data = dir.join(region);
    let mut command = Flkd::command(context, &data, addr);
    command.env("FLK_REGION", region).env("FLK_ADMIN_TOKEN", TOKEN);
    if ships {
        place(&mut command, dir, peer);
    }
    let node = Flkd::launch(context, &mut command, &data, addr)?;
    node.wait_ready()?;
    Ok(node)
}

fn place(command: &mut Command, dir: &Path, peer: Option<&str>) {
    let place = dir.join("place");
    command.env("FLK_REGIONS_PLACE", &place);
    if let Some(peer) = peer {
        let vkey = dir.join(peer).join("keys/region.vkey");
        command.env("FLK_REGIONS_PEERS", format!("{peer} {} {}", place.display(), vkey.display()));
    }
}

/// A new directory with a place in it.
fn world(context: &Context) -> io::Result<std::path::PathBuf> {
    let dir = context.fresh("regions")?;
    std::fs::create_dir(dir.join("place"))?;
    Ok(dir)
}

/// P19: all of it.
pub fn rows(context: &Context) -> Vec<Row> {
    let full = Workload::single(Tenant::Hmac, CONNECTIONS);
    let rate = format!("ingest while the log is shipped, HMAC, {CONNECTIONS} connections");
    let mut rows = match cost(context, full, &rate) {
        Ok(rows) => rows.into(),
        Err(why) => vec![Row::refused("P19", rate, why)],
    };
    let split = context.size(600.0, 20.0);
    let what = format!("convergence after {split} s apart, {RATE} submissions/s in each region");
    match converge(context, split, &what) {
        Ok(more) => rows.extend(more),
        Err(why) => rows.push(Row::refused("P19", what, why)),
    }
    rows
}

/// The largest value that a metric had while something was done, and its 99th percentile.
fn watch<T>(node: &Flkd, name: &str, work: impl FnOnce() -> io::Result<T>) -> io::Result<(T, f64)> {
    let over = AtomicBool::new(false);
    let (done, mut seen) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = Vec::new();
            while !over.load(Ordering::SeqCst) {
                seen.extend(node.metric(name));
                std::thread::sleep(Duration::from_millis(50));
            }
            seen
        });
        let done = work();
        over.store(true, Ordering::SeqCst);
        (done, watcher.join().unwrap_or_default())
    });
    seen.sort_by(f64::total_cmp);
    let last = seen.len().saturating_sub(1);
    let p99 = seen.get(last * 99 / 100).copied();
    let p99 = p99.ok_or_else(|| io::Error::other(format!("nobody could read {name}")))?;
    Ok((done?, p99))
}

fn extra(sample: &Sample, name: &str) -> f64 {
    sample.extra.iter().find(|(known, _)| *known == name).map_or(f64::NAN, |(_, value)| *value)
}

fn cost(context: &Context, workload: Workload, what: &str) -> io::Result<[Row; 3]> {
    let runs = Runs::default();
    let one = |ships| {
        let dir = world(context)?;
        let node = node(context, &dir, "a", ships, None)?;
        let sample = match ships {
            false => run(context, &runs, &node, workload)?,
            true => {
                let (sample, lag) =
                    watch(&node, "wal_crr_lag_seconds", || run(context, &runs, &node, workload))?;
                sample.with("lag p99 s", lag)
            }
        };
        node.stop()?;
        remove(&dir)?;
        Ok(sample)
    };
    let (pair, _) = context.device.flushed(|| alternate(context.runs, || one(true), || one(false)))?;
    let median =
        |samples: &[Sample], name| crate::stats::median(samples.iter().map(|sample| extra(sample, name)));
    let (p99, without) = (median(&pair.ours, "p99 us"), median(&pair.reference, "p99 us"));
    let lag = median(&pair.ours, "lag p99 s");
    let row = |what: String, ours: String, reference: String, value, bound| Row {
        id: "P19",
        what,
        ours,
        reference,
        value,
        bound,
        command: command("P19"),
        notes: Vec::new(),
        refused: None,
    };
    let mut rate = row(
        what.into(),
        format!("{} /s", figure(pair.ours())),
        format!("without: {}", figure(pair.reference())),
        pair.ratio(),
        Bound::AtLeast { floor: 0.9, moonshot: None },
    );
    rate.notes = pair.notes();
    let latency = row(
        "its p99".into(),
        format!("{} us", figure(p99)),
        format!("without: {} us", figure(without)),
        p99 / without,
        Bound::Told,
    );
    let behind = row(
        "99th percentile of wal_crr_lag_seconds meanwhile, s".into(),
        format!("{} s", figure(lag)),
        "2 s".into(),
        lag,
        Bound::AtMost { floor: 2.0, moonshot: None },
    );
    Ok([rate, latency, behind])
}

/// What a node says of its regions.
fn said(node: &Flkd) -> io::Result<serde_json::Value> {
    let text = node.get_as("/v1/cluster", TOKEN)?;
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let page: serde_json::Value = serde_json::from_str(body).map_err(io::Error::other)?;
    Ok(page["group"]["regions"].clone())
}

/// Waits until each has taken in so many entries of the other's.
fn until(nodes: &[Flkd; 2], entries: [u64; 2]) -> io::Result<Duration> {
    let begin = Instant::now();
    loop {
        let held =
            |at: usize| Ok::<_, io::Error>(said(&nodes[at])?["peers"][0]["leaves"].as_u64().unwrap_or(0));
        if held(0)? >= entries[1] && held(1)? >= entries[0] {
            return Ok(begin.elapsed());
        }
        if begin.elapsed() > PATIENCE {
            return Err(io::Error::other(format!(
                "not within {PATIENCE:?}: {} and {} of {entries:?}",
                held(0)?,
                held(1)?
            )));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Both take submissions at [`RATE`] for so long, beside whatever `work` does.
fn under_load<T>(
    nodes: &[Flkd; 2],
    runs: &Runs,
    seconds: f64,
    work: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let workload = Workload { rate: Some(RATE), ..Workload::single(Tenant::Hmac, 16) };
    let pools = [0, 1].map(|_| workload.pool(runs, (RATE * (seconds + 5.0)) as usize, "\"accepted\":true"));
    std::thread::scope(|scope| {
        let drivers: Vec<_> = nodes
            .iter()
            .map(Flkd::addr)
            .zip(pools)
            .map(|(addr, mut pool)| scope.spawn(move || workload.drive(addr, &mut pool, seconds)))
            .collect();
        let done = work();
        for driver in drivers {
            let outcome = driver.join().map_err(|_| io::Error::other("a driver ended"))??;
            if outcome.bad > 0 {
                return Err(io::Error::other(format!("{} unexpected answers", outcome.bad)));
            }
        }
        done
    })
}

fn converge(context: &Context, split: f64, what: &str) -> io::Result<[Row; 2]> {
    let (dir, runs) = (world(context)?, Runs::default());
    let apart = [node(context, &dir, "a", true, None)?, node(context, &dir, "b", true, None)?];
    under_load(&apart, &runs, split, || Ok(()))?;
    let entries = [0, 1].map(|at: usize| said(&apart[at]).map(|page| page["newest"].as_u64().unwrap_or(0)));
    let [a, b] = entries;
    let entries = [a?, b?];
    apart.into_iter().try_for_each(Flkd::stop)?;
    let begin = Instant::now();
    let nodes = [node(context, &dir, "a", true, Some("b"))?, node(context, &dir, "b", true, Some("a"))?];
    // They go on taking submissions while they catch up. What they take in before they are ready counts, and so does the time.
    let (took, caught_up) = under_load(&nodes, &runs, (split / 2.0).max(10.0), || {
        let caught_up = until(&nodes, entries)?;
        Ok((begin.elapsed(), caught_up))
    })?;
    nodes.into_iter().try_for_each(Flkd::stop)?;
    remove(&dir)?;
    let (seconds, records) = (took.as_secs_f64(), (entries[0] + entries[1]) as f64);
    let row = |what: String, ours: String, reference: String, value, bound, notes| Row {
        id: "P19",
        what,
        ours,
        reference,
        value,
        bound,
        command: command("P19"),
        notes,
        refused: None,
    };
    let note = format!(
        "{} and {} entries were taken in, while each region took {RATE}/s more; from the start of both processes on, and {} s after \
         both were ready",
        entries[1],
        entries[0],
        figure(caught_up.as_secs_f64())
    );
    Ok([
        row(
            what.into(),
            format!("{} s", figure(seconds)),
            format!("the split: {} s", figure(split)),
            seconds / split,
            Bound::AtMost { floor: 1.0, moonshot: None },
            vec![note],
        ),
        row(
            "records taken in from the other region, both together".into(),
            format!("{} /s", figure(records / seconds)),
            format!("taken while apart: {} /s", figure(2.0 * RATE)),
            records / seconds / (2.0 * RATE),
            Bound::Told,
            Vec::new(),
        ),
    ])
}
