//! `flk bench`: how fast a server takes submissions, and the parts that a benchmark suite builds on.
//!
//! Bodies are made and signed before the clock starts. The load is closed-loop over keep-alive connections: each
//! sends the next request when the last is answered. Then the same load goes to an echo on the same machine, because
//! only the ratio of the two says something about the server. The server's syncs are counted: without them, or with
//! syncs faster than any disk, there is no result. A suite that compares with other systems is in `tests/bench`.

pub mod answer;
pub mod bodies;
pub mod echo;
pub mod epoll;
pub mod html;
pub mod load;

use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use self::bodies::{Again, Bodies, Plan};
use self::echo::Echo;
use self::load::{Load, Outcome, Requests};
use crate::agent::send::{self, Patience, Sent};
use crate::cli::Server;
use crate::http::{Base, Client};
use crate::keys::{Key, KeyArgs};
use crate::report::{Exit, Fault, Report, Table};
use crate::ui::{Ui, Unit, thousands};

/// Measures how fast a server takes submissions
///
/// The tenant's rate limit applies: give a tenant that may be loaded. What is submitted stays in the log. The server's
/// syncs are read from /metrics, with FLK_METRICS_USER and FLK_METRICS_PASS where it asks for them. Exit codes: 0 a result,
/// 1 none: nothing was made durable, records were refused, or the server was not reached.
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
    /// Do not measure the echo on this machine that the result is compared with
    #[arg(long)]
    pub no_echo: bool,
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
    let mut client = Client::trusting(
        &args.server.url,
        Duration::from_secs(args.server.timeout),
        args.server.ca.as_deref(),
    )?;
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
    let before = syncs(&mut client)?;
    probe(&mut client, args, &plan, &key)?;
    ui.say(&format!("signing {} bodies ({})", thousands(args.bodies), key.algorithm()));
    let bodies = Bodies::make(plan, &key);
    let mut load = Load {
        to: address,
        connections: args.connections as usize,
        threads: args.threads as usize,
        time: Duration::from_secs_f64((args.seconds + args.warm_up).clamp(0.001, 86_400.0)),
        warm_up: Duration::from_secs_f64(args.warm_up.clamp(0.0, 3600.0)),
        rate: args.rate,
    };
    let outcome = measure("bench", &load, &bodies, ui).map_err(|error| unreachable(error.to_string()))?;
    let after = syncs(&mut client)?;
    // A remote server has other cores: an echo here would be no measure for it.
    let echo = if args.no_echo || !address.ip().is_loopback() {
        None
    } else {
        let cannot =
            |error: std::io::Error| Fault::new("cannot measure the echo", "127.0.0.1", error, "--no-echo");
        let echo = Echo::start().map_err(cannot)?;
        load.to = echo.address();
        load.time = load.time.min(load.warm_up + ECHO_TIME);
        Some(measure("echo", &load, &Again(&bodies), ui).map_err(cannot)?)
    };
    report(args, &outcome, echo.as_ref(), (after.0.saturating_sub(before.0), after.1 - before.1))
}

fn measure(what: &'static str, load: &Load, bodies: &dyn Requests, ui: Ui) -> std::io::Result<Outcome> {
    let mut progress = ui.progress(what, 0, Unit::Items("records"));
    let mut seen = 0;
    let outcome = load::run(load, bodies, &mut |answered| {
        progress.add(answered.saturating_sub(seen));
        seen = answered;
    });
    progress.finish();
    outcome
}

/// Submits one record, so that a wrong key, tenant or route is told in words instead of measured.
fn probe(client: &mut Client, args: &Args, plan: &Plan, key: &Key) -> Result<(), Fault> {
    let one = Plan { bodies: 1, batch: 1, run: !plan.run, ..plan.clone() };
    let mut body = Vec::new();
    Bodies::make(one, key).body(0, &mut body);
    let tenant = args.server.tenant.as_str();
    let patience = Patience { tries: 1, ..Patience::default() };
    let why = match send::send(client, tenant, false, &body, patience, &mut |_, _| {}) {
        Sent::Answered(_) => return Ok(()),
        Sent::Refused(answer) => {
            let said = answer.json();
            let text = |name: &str| said[name].as_str().map(|text| format!(": {text}")).unwrap_or_default();
            format!("{}{}{}", answer.status, text("title"), text("detail"))
        }
        Sent::Unanswered(why) => why,
    };
    let next = "check --tenant and the key: flk submit says more about a refusal";
    Err(Fault::new(
        "the server does not take what would be sent",
        format!("{}, tenant {tenant}", args.server.url),
        why,
        next,
    ))
}

/// Seconds an echo is measured at most: it has no disk whose mood could change.
const ECHO_TIME: Duration = Duration::from_secs(5);

/// Syncs of the server's log so far and the seconds spent in them, from its metrics.
fn syncs(client: &mut Client) -> Result<Syncs, Fault> {
    let of = |name: &str| std::env::var(name).unwrap_or_default();
    let basic = BASE64.encode(format!("{}:{}", of("FLK_METRICS_USER"), of("FLK_METRICS_PASS")));
    let headers = [("authorization", format!("Basic {basic}"))];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let none = of("FLK_METRICS_USER").is_empty();
    let page = client.request("GET", "/metrics", if none { &[] } else { &headers }, &[]);
    let cannot = |why: String| {
        let next = "set FLK_METRICS_USER and FLK_METRICS_PASS if the server asks for them";
        Fault::new("cannot count the syncs of the server's log", "/metrics", why, next)
    };
    let page = page.map_err(|error| cannot(error.to_string()))?;
    if page.status != 200 {
        return Err(cannot(format!("the server answered {}", page.status)));
    }
    let text = String::from_utf8_lossy(&page.body);
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse::<f64>().ok())
            .ok_or_else(|| cannot(format!("no {name} in it")))
    };
    Ok((of("flk_log_sync_seconds_count")? as u64, of("flk_log_sync_seconds_sum")?))
}

/// How many, and seconds in all.
type Syncs = (u64, f64);

fn report(args: &Args, outcome: &Outcome, echo: Option<&Outcome>, synced: Syncs) -> Result<Report, Fault> {
    let mut report = Report::new("flk bench");
    if let Some(why) = undurable(outcome, synced) {
        report.exit = Exit::Failed;
        report.data = json!({"syncs": synced.0, "why_no_result": why});
        report.verdict = format!("no result: {why}");
        return Ok(report);
    }
    let mut rows: Vec<Vec<String>> =
        html::numbers(outcome).into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    let (count, time) = synced;
    rows.push(vec![
        "syncs of the server's log".into(),
        format!("{}, {} each", thousands(count), html::nanos((time / count.max(1) as f64 * 1e9) as u64)),
    ]);
    let quantile = |outcome: &Outcome, q| outcome.latency.value_at_quantile(q);
    let mut compared = String::new();
    if let Some(echo) = echo {
        let ratio = outcome.rate() / echo.rate().max(1e-9);
        rows.push(vec![
            "echo on this machine".into(),
            format!(
                "{}/s, p50 {}, p99 {}",
                thousands(echo.rate() as u64),
                html::nanos(quantile(echo, 0.5)),
                html::nanos(quantile(echo, 0.99))
            ),
        ]);
        rows.push(vec!["of the echo's rate".into(), format!("{ratio:.2}")]);
        compared = format!(" ({ratio:.2} of an echo)");
    }
    report.table = Some(Table { headings: vec!["WHAT", "HOW MUCH"], rows: rows.clone() });
    report.data = json!({
        "records_per_second": outcome.rate(),
        "records": outcome.records,
        "requests": outcome.requests,
        "seconds": outcome.elapsed.as_secs_f64(),
        "p50_ns": quantile(outcome, 0.5), "p99_ns": quantile(outcome, 0.99), "p999_ns": quantile(outcome, 0.999),
        "max_ns": outcome.latency.max(),
        "refused": outcome.refused, "replayed": outcome.replayed, "broken": outcome.broken,
        "statuses": outcome.statuses.iter().map(|(status, count)| (status.to_string(), json!(count))).collect::<serde_json::Map<_, _>>(),
        "syncs": count, "sync_seconds": time,
        "echo_records_per_second": echo.map(Outcome::rate), "echo_p99_ns": echo.map(|echo| quantile(echo, 0.99)),
        "connections": args.connections, "threads": args.threads, "batch": args.batch, "ran_out": outcome.ran_out,
    });
    report.verdict = format!(
        "{} records/s{compared}, p50 {}, p99 {}, p99.9 {}",
        thousands(outcome.rate() as u64),
        html::nanos(quantile(outcome, 0.5)),
        html::nanos(quantile(outcome, 0.99)),
        html::nanos(quantile(outcome, 0.999))
    );
    if outcome.ran_out {
        report.lines.push("the bodies were used up before the time: give more with --bodies".into());
    }
    let doubt = doubts(outcome);
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
        let own =
            rows.into_iter().skip(html::numbers(outcome).len()).map(|mut row| (row.remove(0), row.remove(0)));
        let facts: Vec<(String, String)> = facts.into_iter().chain(own).collect();
        std::fs::write(path, html::page("flk bench", &facts, outcome))
            .map_err(|error| Fault::write(path, error))?;
        report.lines.push(format!("report  {}", path.display()));
    }
    Ok(report)
}

/// Why no number may be printed at all: nothing was made durable.
fn undurable(outcome: &Outcome, (count, time): Syncs) -> Option<String> {
    if count == 0 {
        let recorded = thousands(outcome.records);
        return Some(format!("the server's log made no sync while {recorded} records were answered"));
    }
    // No disk that keeps what it promises syncs in less.
    let fast = time / (count as f64) < 5e-6;
    fast.then(|| format!("{} syncs took under 5 us each, so nothing was made durable", thousands(count)))
}

/// Why the numbers would mislead.
fn doubts(outcome: &Outcome) -> Vec<String> {
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
    doubts
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::report::{Format, render};

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args() -> Args {
        Line::parse_from(["bench"]).args
    }

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
        assert_eq!((undurable(&outcome, (20, 0.002)), doubts(&outcome)), (None, Vec::new()));
        assert!(undurable(&outcome, (0, 0.0)).unwrap().contains("made no sync"));
        assert!(undurable(&outcome, (20, 0.000_02)).unwrap().contains("5 us"));
        let silent = report(&args(), &outcome, None, (0, 0.0)).unwrap();
        let text = render(&silent, Format::Text, false);
        assert_eq!((silent.exit, text.lines().count()), (Exit::Failed, 1), "no number is printed: {text}");
        assert!(silent.data["records_per_second"].is_null());
        let result = report(&args(), &outcome, Some(&outcome), (20, 0.002)).unwrap();
        assert_eq!(result.exit, Exit::Ok);
        assert!(result.verdict.contains("(1.00 of an echo)"), "{}", result.verdict);
        let page = html::page("a <b>", &[("x".into(), "&".into())], &outcome);
        assert!(page.contains("a &lt;b&gt;") && page.contains("<svg") && !page.contains("http"), "{page}");
    }
}
