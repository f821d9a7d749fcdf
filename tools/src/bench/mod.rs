//! `flk bench`: how fast a server takes submissions, and the parts that a benchmark suite builds on.
//!
//! Bodies are made and signed before the clock starts. The load is closed-loop over keep-alive connections: each
//! sends the next request when the last is answered. How fast the same machine could be at all is not said here; a
//! suite that compares is in `tests/bench`.

pub mod answer;
pub mod bodies;
pub mod epoll;
pub mod html;
pub mod load;

use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use self::bodies::{Bodies, Plan};
use self::load::{Load, Outcome};
use crate::cli::Server;
use crate::http::{Base, Client};
use crate::keys::KeyArgs;
use crate::report::{Exit, Fault, Report, Table};
use crate::ui::{Ui, Unit, thousands};

/// Measures how fast a server takes submissions
///
/// The tenant's rate limit applies: give a tenant that may be loaded. What is submitted stays in the log.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    /// The server.
    pub server: Server,
    #[command(flatten)]
    /// The key.
    pub key: KeyArgs,
    /// Seconds to measure
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Seconds before the measuring begins
    #[arg(long, default_value_t = 1.0)]
    pub warm_up: f64,
    /// Keep-alive connections
    #[arg(short, long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub connections: u32,
    /// Threads that drive them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub threads: u32,
    /// Records of one request; above 1 they go to the batch route, one a line
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub batch: u64,
    /// Bodies to make ahead; the run ends when they are used up
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u64).range(1..=50_000_000))]
    pub bodies: u64,
    /// Of a hundred records, how many repeat an earlier one
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=99))]
    pub repeats: u64,
    /// Requests per second over all connections, instead of as many as are answered
    #[arg(long)]
    pub rate: Option<f64>,
    /// Write a report with histogram and timeline to this file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Runs the load.
///
/// # Errors
/// No key, no server, or a report that cannot be written.
pub fn run(args: &Args, ui: Ui) -> Result<Report, Fault> {
    let key = args.key.need()?;
    let base = Base::parse(&args.server.url)?;
    let unreachable = |why: String| {
        Fault::new("cannot reach the server", &args.server.url, why, "is it running? `flkd dev` starts one")
    };
    let address = base.authority.to_socket_addrs().ok().and_then(|mut all| all.next());
    let address = address.ok_or_else(|| unreachable("the name has no address".into()))?;
    let mut client = Client::new(&args.server.url, Duration::from_secs(args.server.timeout))?;
    client.get("/health").map_err(|error| unreachable(error.to_string()))?;
    let plan = Plan {
        bodies: args.bodies,
        batch: args.batch,
        repeats: args.repeats,
        tenant: args.server.tenant.clone(),
        host: base.authority.clone(),
        path: format!("{}/v1/pcs/{}", base.prefix, if args.batch > 1 { "batch" } else { "submit" }),
        run: u64::from_le_bytes(*crate::keys::random32()?.first_chunk().unwrap_or(&[0; 8])),
    };
    ui.say(&format!("signing {} bodies ({})", thousands(args.bodies), key.algorithm()));
    let bodies = Bodies::make(plan, &key);
    let load = Load {
        to: address,
        connections: args.connections as usize,
        threads: args.threads as usize,
        time: Duration::from_secs_f64((args.seconds + args.warm_up).clamp(0.001, 86_400.0)),
        warm_up: Duration::from_secs_f64(args.warm_up.clamp(0.0, 3600.0)),
        rate: args.rate,
    };
    let before = syncs(&mut client);
    let mut progress = ui.progress("bench", 0, Unit::Items("records"));
    let mut seen = 0;
    let outcome = load::run(&load, &bodies, &mut |answered| {
        progress.add(answered.saturating_sub(seen));
        seen = answered;
    })
    .map_err(|error| unreachable(error.to_string()))?;
    progress.finish();
    let after = syncs(&mut client);
    report(args, &outcome, before.zip(after))
}

/// Syncs of the server's log so far and the seconds spent in them, from its metrics.
fn syncs(client: &mut Client) -> Option<(u64, f64)> {
    let page = client.get("/metrics").ok().filter(|answer| answer.status == 200)?;
    let text = String::from_utf8(page.body).ok()?;
    let of = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse::<f64>().ok())
    };
    Some((of("flk_log_sync_seconds_count")? as u64, of("flk_log_sync_seconds_sum")?))
}

type Syncs = (u64, f64);

fn report(args: &Args, outcome: &Outcome, syncs: Option<(Syncs, Syncs)>) -> Result<Report, Fault> {
    let mut report = Report::new("flk bench");
    let mut rows: Vec<Vec<String>> =
        html::numbers(outcome).into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    let synced = syncs.map(|((count, time), (later, longer))| (later.saturating_sub(count), longer - time));
    if let Some((count, time)) = synced {
        let mean = if count > 0 { html::nanos((time / count as f64 * 1e9) as u64) } else { "-".into() };
        rows.push(vec!["syncs of the server's log".into(), format!("{}, {mean} each", thousands(count))]);
    }
    report.table = Some(Table { headings: vec!["WHAT", "HOW MUCH"], rows: rows.clone() });
    let quantile = |q| outcome.latency.value_at_quantile(q);
    report.data = json!({
        "records_per_second": outcome.rate(),
        "records": outcome.records,
        "requests": outcome.requests,
        "seconds": outcome.elapsed.as_secs_f64(),
        "p50_ns": quantile(0.5), "p99_ns": quantile(0.99), "p999_ns": quantile(0.999), "max_ns": outcome.latency.max(),
        "refused": outcome.refused, "replayed": outcome.replayed, "broken": outcome.broken,
        "statuses": outcome.statuses.iter().map(|(status, count)| (status.to_string(), json!(count))).collect::<serde_json::Map<_, _>>(),
        "syncs": synced.map(|(count, _)| count),
        "connections": args.connections, "threads": args.threads, "batch": args.batch, "ran_out": outcome.ran_out,
    });
    report.verdict = format!(
        "{} records/s, p50 {}, p99 {}, p99.9 {}",
        thousands(outcome.rate() as u64),
        html::nanos(quantile(0.5)),
        html::nanos(quantile(0.99)),
        html::nanos(quantile(0.999))
    );
    if outcome.ran_out {
        report.lines.push("the bodies were used up before the time: give more with --bodies".into());
    }
    let doubt = doubts(outcome, synced);
    if !doubt.is_empty() {
        report.exit = Exit::Failed;
        report.verdict = format!("no result: {}", doubt.join("; "));
    }
    if let Some(path) = &args.html {
        let facts = [
            ("server", args.server.url.clone()),
            ("connections", args.connections.to_string()),
            ("threads of the generator", args.threads.to_string()),
            ("records of a request", args.batch.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        std::fs::write(path, html::page("flk bench", &facts, outcome))
            .map_err(|error| Fault::write(path, error))?;
        report.lines.push(format!("report  {}", path.display()));
    }
    Ok(report)
}

/// Why the numbers would mislead.
fn doubts(outcome: &Outcome, synced: Option<Syncs>) -> Vec<String> {
    let mut doubts = Vec::new();
    if outcome.records == 0 {
        doubts.push("nothing was recorded".to_owned());
    }
    if outcome.refused > 0 {
        let of = |status: u16| outcome.statuses.iter().any(|(have, _)| *have == status);
        let why = if of(401) {
            " (401: wrong key or tenant)"
        } else if of(429) {
            " (429: the tenant's rate limit)"
        } else {
            ""
        };
        doubts.push(format!("{} records were refused{why}", thousands(outcome.refused)));
    }
    if outcome.broken > 0 {
        doubts.push(format!("{} connections broke", thousands(outcome.broken)));
    }
    match synced {
        Some((0, _)) if outcome.records > 0 => doubts.push("the server's log made no sync".into()),
        // No disk that keeps what it promises syncs in less.
        Some((count, time)) if time / (count.max(1) as f64) < 5e-6 && count > 0 => {
            doubts.push("a sync took under 5 us, so nothing was made durable".into());
        }
        _ => {}
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_promises_nothing_has_no_result() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let answering = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let (mut stream, _) = listener.accept().unwrap();
            let mut chunk = [0; 4096];
            while stream.read(&mut chunk).unwrap_or(0) > 0 {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            }
        });
        let load = Load {
            to,
            connections: 1,
            threads: 1,
            time: Duration::from_secs(20),
            warm_up: Duration::ZERO,
            rate: None,
        };
        let requests = std::sync::Arc::new(vec![(b"GET / HTTP/1.1\r\n\r\n".to_vec(), 1); 20]);
        let outcome = load::run(&load, &load::Prepared { requests }, &mut |_| {}).unwrap();
        answering.join().unwrap();
        assert_eq!((outcome.records, outcome.refused), (20, 0));
        assert_eq!(doubts(&outcome, Some((20, 0.002))), Vec::<String>::new());
        assert_eq!(doubts(&outcome, Some((0, 0.0))), ["the server's log made no sync"]);
        assert!(doubts(&outcome, Some((20, 0.000_02)))[0].contains("5 us"));
        let page = html::page("a <b>", &[("x".into(), "&".into())], &outcome);
        assert!(page.contains("a &lt;b&gt;") && page.contains("<svg") && !page.contains("http"), "{page}");
    }
}
