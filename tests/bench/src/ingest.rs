//! P5, P7, P8, P9 and P15: durable ingest over HTTP against the echo on the same stack.

use crate::bodies::Bodies;
use crate::context::{Context, remove};
use crate::flkd::{Flkd, Tenant};
use crate::honest;
use crate::load::http::Pool;
use crate::load::{self, Outcome, Plan};
use crate::process::{Server, free_port};
use crate::rows::{Bound, Row, at_least, command, figure};
use crate::stats::{Pair, Sample, alternate, micros};
use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

/// Records of one NDJSON request.
const BATCH: u32 = 64;
/// Connections that send batches: 1024 records in flight, as in the loop they are compared with.
const BATCH_CONNECTIONS: usize = 16;
const WARM: Duration = Duration::from_millis(500);
/// A pool that is not taken within this many seconds never will be.
const LONGEST: f64 = 600.0;

/// Numbers the runs of this process, so that no two have a submission in common.
#[derive(Default)]
pub struct Runs(Cell<u64>);

impl Runs {
    fn shard(&self) -> String {
        self.0.set(self.0.get() + 1);
        format!("bench-{}-{}", std::process::id(), self.0.get())
    }
}

/// One kind of HTTP workload.
#[derive(Clone, Copy)]
pub struct Workload {
    pub tenant: Tenant,
    pub connections: usize,
    /// Records a request: 1 is the submit route, more the batch route.
    pub batch: u32,
    pub rate: Option<f64>,
    /// Every answer is to carry a receipt.
    pub receipt: bool,
}

impl Workload {
    pub fn single(tenant: Tenant, connections: usize) -> Workload {
        Workload { tenant, connections, batch: 1, rate: None, receipt: false }
    }

    pub fn batches(tenant: Tenant) -> Workload {
        Workload { tenant, connections: BATCH_CONNECTIONS, batch: BATCH, rate: None, receipt: false }
    }

    /// Requests for `records` records, none of which was sent before.
    pub fn pool(self, runs: &Runs, records: usize, expect: &'static str) -> Pool {
        let wish = if self.receipt { "prefer: receipt\r\n" } else { "" };
        let headers = self.tenant.headers() + wish;
        let expect = if self.receipt { "\"tlog_proof\":\"c2sp.org/tlog-proof@v1" } else { expect };
        let mut bodies = Bodies::new(self.tenant.signer(), runs.shard());
        if self.batch == 1 {
            let mut pool = Pool::new(expect);
            (0..records).for_each(|_| pool.post("/v1/pcs/submit", &headers, &bodies.body().json));
            return pool;
        }
        let mut pool = Pool::batches(self.batch, expect);
        let mut lines = Vec::new();
        for _ in 0..records.div_ceil(self.batch as usize) {
            lines.clear();
            for _ in 0..self.batch {
                lines.extend_from_slice(&bodies.body().json);
                lines.push(b'\n');
            }
            pool.post("/v1/pcs/batch", &headers, &lines);
        }
        pool
    }

    /// Sends `pool` to `addr`.
    pub fn drive(self, addr: SocketAddr, pool: &mut Pool, seconds: f64) -> io::Result<Outcome> {
        let measure = Duration::from_secs_f64(seconds);
        let plan = Plan { addr, connections: self.connections, warm: WARM, measure, rate: self.rate };
        load::drive(&plan, pool)
    }

    /// Sends all of `pool`, every answer as expected.
    pub fn drive_all(self, addr: SocketAddr, pool: &mut Pool) -> io::Result<Outcome> {
        let outcome = self.drive(addr, pool, LONGEST)?;
        if outcome.bad == 0 && outcome.exhausted {
            return Ok(outcome);
        }
        let first = outcome.first_bad.unwrap_or_else(|| "too slow".into());
        Err(io::Error::other(format!("{} unexpected answers of {}: {first}", outcome.bad, outcome.answers)))
    }
}

/// A server to send to, with the processor time it takes.
pub trait Target {
    fn addr(&self) -> SocketAddr;
    fn cpu(&self) -> io::Result<f64>;
    /// What a good answer holds.
    fn expect(&self) -> &'static str;
}

impl Target for Flkd {
    fn addr(&self) -> SocketAddr {
        Flkd::addr(self)
    }
    fn cpu(&self) -> io::Result<f64> {
        Ok(self.usage()?.cpu)
    }
    fn expect(&self) -> &'static str {
        "\"accepted\":true"
    }
}

/// The echo as a child process.
pub struct Echo(Server);

impl Echo {
    pub fn start(context: &Context) -> io::Result<Echo> {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("echo").arg(addr.to_string());
        Ok(Echo(Server::start("echo", &mut command, addr, &context.dir.join("echo.log"))?))
    }
}

impl Target for Echo {
    fn addr(&self) -> SocketAddr {
        self.0.addr
    }
    fn cpu(&self) -> io::Result<f64> {
        Ok(self.0.usage()?.cpu)
    }
    fn expect(&self) -> &'static str {
        "\"pcs_id\""
    }
}

/// One run of `workload` against `target`; the pool grows until it outlasts the run.
pub fn run(context: &Context, runs: &Runs, target: &impl Target, workload: Workload) -> io::Result<Sample> {
    let window = context.seconds + WARM.as_secs_f64();
    let mut per_second = match (workload.rate, workload.batch, workload.tenant) {
        (Some(rate), ..) => rate * 1.1,
        (None, 1, Tenant::Ed25519) => 40_000.0,
        (None, 1, _) => 120_000.0,
        (None, _, Tenant::Ed25519) => 60_000.0,
        (None, ..) => 500_000.0,
    };
    loop {
        let mut pool = workload.pool(runs, (per_second * window) as usize, target.expect());
        let before = target.cpu()?;
        let begin = Instant::now();
        let outcome = workload.drive(target.addr(), &mut pool, context.seconds)?;
        let wall = begin.elapsed().as_secs_f64();
        let cores = (target.cpu()? - before) / wall;
        if outcome.exhausted && outcome.bad == 0 {
            per_second *= 2.0;
            continue;
        }
        let sample = outcome.sample()?;
        let cost = cores / sample.value * 1e6;
        return Ok(sample.with("server cores", cores).with("server us/record", cost));
    }
}

fn row(id: &'static str, what: String, pair: &Pair, unit: &str, reference: &str, bound: Bound) -> Row {
    Row {
        id,
        what,
        ours: format!("{} {unit}", figure(pair.ours())),
        reference: format!("{reference}: {}", figure(pair.reference())),
        value: pair.ratio(),
        bound,
        command: command(id),
        notes: pair.notes(),
        refused: None,
    }
}

/// Starts a node on an empty directory, measures, and cleans up.
pub fn with_node<T>(context: &Context, work: impl FnOnce(&Flkd) -> io::Result<T>) -> io::Result<T> {
    let dir = context.fresh("flkd")?;
    let node = Flkd::start(context, &dir)?;
    let (done, _) = context.device.flushed(|| work(&node))?;
    node.stop()?;
    remove(&dir)?;
    Ok(done)
}

/// P5: one submission a request.
pub fn single(context: &Context) -> Vec<Row> {
    let bounds = [(64, at_least(0.70, 0.85)), (256, at_least(0.85, 0.95))];
    let rows = bounds.map(|(connections, bound)| {
        let what = format!("HTTP durable ingest, HMAC, {connections} connections");
        let runs = Runs::default();
        let workload = Workload::single(Tenant::Hmac, connections);
        let measured = with_node(context, |node| {
            let echo = Echo::start(context)?;
            alternate(
                context.runs,
                || run(context, &runs, node, workload),
                || run(context, &runs, &echo, workload),
            )
        });
        match measured {
            Err(why) => Row::refused("P5", what, why),
            Ok(pair) => row("P5", what, &pair, "submissions/s", "echo that parses", bound),
        }
    });
    rows.into()
}

/// P7: 64 records a request.
pub fn batches(context: &Context) -> Vec<Row> {
    let runs = Runs::default();
    let what = format!("NDJSON batches of {BATCH}, {BATCH_CONNECTIONS} connections");
    let unsigned = with_node(context, |node| {
        let ours = || run(context, &runs, node, Workload::batches(Tenant::Unsigned));
        alternate(context.runs, ours, || context.handloop()?.run(1024, context.seconds))
    });
    let hmac = with_node(context, |node| {
        let ours = || run(context, &runs, node, Workload::batches(Tenant::Hmac));
        let single = Workload::single(Tenant::Hmac, 64);
        alternate(context.runs, ours, || run(context, &runs, node, single))
    });
    let unsigned_what = format!("{what}, no signatures");
    let hmac_what = format!("{what}, HMAC");
    let five = Bound::AtLeast { floor: 5.0, moonshot: None };
    vec![
        unsigned.map_or_else(
            |why| Row::refused("P7", &unsigned_what, why),
            |p| row("P7", unsigned_what.clone(), &p, "records/s", "loop C=1024", at_least(0.7, 0.9)),
        ),
        hmac.map_or_else(
            |why| Row::refused("P7", &hmac_what, why),
            |p| row("P7", hmac_what.clone(), &p, "records/s", "P5, 64 connections", five),
        ),
    ]
}

/// Verifications a second that all cores together could do, from one core's rate.
fn verify_ceiling(seconds: f64) -> io::Result<Sample> {
    use ed25519_dalek::{Signer as _, SigningKey};
    let key = SigningKey::from_bytes(&crate::flkd::SEED);
    let public = key.verifying_key();
    let messages: Vec<_> = (0..512u64).map(|i| crate::handloop::record(i + 1)).collect();
    let signed: Vec<_> = messages.iter().map(|m| (&m[..32], key.sign(&m[..32]))).collect();
    let begin = Instant::now();
    let mut n = 0u64;
    while begin.elapsed().as_secs_f64() < seconds {
        for (message, signature) in &signed[..64] {
            public.verify_strict(message, signature).map_err(io::Error::other)?;
            n += 1;
        }
    }
    let cost = begin.elapsed().as_secs_f64() / n as f64;
    let cores = std::thread::available_parallelism()?.get() as f64;
    Ok(Sample::new(cores / cost).with("verify us", cost * 1e6))
}

/// P8: Ed25519.
pub fn ed25519(context: &Context) -> Vec<Row> {
    let kinds = [
        ("64 connections", Workload::single(Tenant::Ed25519, 64)),
        ("256 connections", Workload::single(Tenant::Ed25519, 256)),
        ("NDJSON batches of 64", Workload::batches(Tenant::Ed25519)),
    ];
    let rows = kinds.map(|(name, workload)| {
        let what = format!("HTTP durable ingest, Ed25519, {name}");
        let runs = Runs::default();
        let measured = with_node(context, |node| {
            alternate(
                context.runs,
                || run(context, &runs, node, workload),
                || verify_ceiling(context.seconds / 4.0),
            )
        });
        match measured {
            Err(why) => Row::refused("P8", what, why),
            Ok(pair) => {
                row("P8", what, &pair, "submissions/s", "cores / one verify_strict", at_least(0.8, 0.95))
            }
        }
    });
    rows.into()
}

/// p99 and p50 of `workload`, which has to be paced.
fn paced(context: &Context, runs: &Runs, target: &impl Target, workload: Workload) -> io::Result<Sample> {
    let records = workload.rate.unwrap_or(0.0) * 1.1 * (context.seconds + WARM.as_secs_f64());
    let mut pool = workload.pool(runs, records as usize, target.expect());
    let outcome = workload.drive(target.addr(), &mut pool, context.seconds)?;
    outcome.sample()?;
    let (p99, p50) = (micros(&outcome.latency, 0.99), micros(&outcome.latency, 0.5));
    Ok(Sample::new(p99).with("p99 us", p99).with("p50 us", p50))
}

/// P9: latency at half of the peak rate.
pub fn latency(context: &Context) -> Vec<Row> {
    let rows = [64, 256].map(|connections| {
        let what = format!("p99 at half of the peak rate, {connections} connections, us");
        let runs = Runs::default();
        let closed = Workload::single(Tenant::Hmac, connections);
        let measured = with_node(context, |node| {
            let echo = Echo::start(context)?;
            let peak = run(context, &runs, node, closed)?.value;
            let workload = Workload { rate: Some(peak / 2.0), ..closed };
            let reference = || {
                let sync = honest::sync_cost(&context.dir, 400)?.p99.as_secs_f64() * 1e6;
                let mut sample = paced(context, &runs, &echo, workload)?.with("sync p99 us", sync);
                sample.value += 2.0 * sync;
                Ok(sample)
            };
            let pair = alternate(context.runs, || paced(context, &runs, node, workload), reference)?;
            Ok((peak, pair))
        });
        match measured {
            Err(why) => Row::refused("P9", what, why),
            Ok((peak, pair)) => {
                let bound = Bound::AtMost { floor: 1.0, moonshot: None };
                let mut row = row("P9", what, &pair, "us", "echo's p99 + 2 x p99 of a sync", bound);
                row.notes.push(format!("offered {} a second, half of {}", figure(peak / 2.0), figure(peak)));
                row
            }
        }
    });
    rows.into()
}

/// Bytes of the log that are not zeros, in whole blocks. A block of the log is written once, so this is what was
/// written to it; the zeros that were laid down before it count only for the whole process.
fn log_blocks(node: &Flkd) -> io::Result<u64> {
    const BLOCK: usize = 4096;
    let mut bytes = 0;
    for entry in std::fs::read_dir(node.dir.join("log"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "seg") {
            let content = std::fs::read(&path)?;
            let written = content.chunks(BLOCK).filter(|block| block.iter().any(|&b| b != 0)).count();
            bytes += (written * BLOCK) as u64;
        }
    }
    Ok(bytes)
}

/// P15: what the disk is given for each byte of submission.
pub fn amplification(context: &Context) -> Vec<Row> {
    let runs = Runs::default();
    let workload = Workload::single(Tenant::Hmac, 256);
    let measured = with_node(context, |node| {
        let mut pool = workload.pool(&runs, context.size(600_000, 150_000), node.expect());
        let bytes = pool.body_bytes();
        let before = (log_blocks(node)?, node.usage()?.written, context.device.counters()?.written);
        workload.drive_all(node.addr(), &mut pool)?;
        let after = (log_blocks(node)?, node.usage()?.written, context.device.counters()?.written);
        let ratio = |written: u64| written as f64 / bytes as f64;
        Ok([
            ("log only", 1.15, ratio(after.0 - before.0)),
            ("everything the process writes", 2.0, ratio(after.1 - before.1)),
            ("everything the device is given", f64::NAN, ratio(after.2 - before.2)),
        ])
    });
    match measured {
        Err(why) => vec![Row::refused("P15", "bytes written a byte of submission", why)],
        Ok(ratios) => ratios
            .into_iter()
            .map(|(what, floor, value)| Row {
                id: "P15",
                what: format!("bytes written a byte of submission, 256 connections, {what}"),
                ours: figure(value),
                reference: "body bytes sent".into(),
                value,
                bound: if floor.is_nan() { Bound::Told } else { Bound::AtMost { floor, moonshot: None } },
                command: command("P15"),
                notes: Vec::new(),
                refused: None,
            })
            .collect(),
    }
}
