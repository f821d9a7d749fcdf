//! Measures how fast the system is, as ratios against references that run on the same machine in the same minutes,
//! and prints one table.
//!
//! `bench run [P1 P5 ..] [--quick] [--long] [--only TEXT] [--runs N] [--seconds S] [--dir DIR] [--json FILE] [--bin DIR]
//! [--peers FILE]`; `tests/bench/run.sh` builds everything first and passes the paths. `bench echo ADDR` is the HTTP
//! ceiling and `bench burn SECONDS` a processor burner; both are started by `run`.
//!
//! Read in this order: `rows` (what is printed), `stats` (medians of alternating runs), `honest` (the guard of P21),
//! `handloop` and `echo` (the two ceilings), `load` (the generator), then one file per group of rows.

mod against;
mod append;
mod bodies;
mod context;
mod drain;
mod echo;
mod failover;
mod flkd;
mod front;
mod growth;
mod handloop;
mod honest;
mod hour;
mod index;
mod ingest;
mod load;
mod machine;
mod peers;
mod process;
mod propose;
mod quorum;
mod receipts;
mod regions;
mod replay;
mod rows;
mod stats;
mod stores;
mod trio;
mod verify;

use context::Context;
use rows::Row;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A group of rows: the ids it prints and the function that measures them.
type Group = (&'static [&'static str], fn(&Context) -> Vec<Row>);

/// All groups, in the order in which they run.
const GROUPS: &[Group] = &[
    (&["P1"], append::rows),
    (&["P2"], peers::rows),
    (&["P3"], append::burnt),
    (&["P4"], propose::rows),
    (&["P5"], ingest::single),
    (&["P6"], against::rows),
    (&["P7"], ingest::batches),
    (&["P8"], ingest::ed25519),
    (&["P9"], ingest::latency),
    (&["P10"], replay::signed),
    (&["P11"], replay::attested),
    (&["P12"], verify::rows),
    (&["P13"], index::rows),
    (&["P14"], growth::restart),
    (&["P15"], ingest::amplification),
    (&["P16"], quorum::rows),
    (&["P17"], quorum::failover),
    (&["P18"], receipts::rows),
    (&["P19"], regions::rows),
    (&["P20"], growth::growth),
    (&["P22"], hour::rows),
    (&["P23"], drain::rows),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["run", ref rest @ ..] => run(rest),
        ["echo", addr] => addr.parse().map_err(io::Error::other).and_then(echo::serve),
        ["burn", seconds] => seconds.parse().map(burn).map_err(io::Error::other),
        _ => Err(io::Error::other("bench run [IDS] | bench echo ADDR | bench burn SECONDS")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Burns one processor for `seconds`, 10 minutes at most.
fn burn(seconds: f64) {
    let end = Instant::now() + Duration::from_secs_f64(seconds.clamp(0.0, 600.0));
    let mut x = 1u64;
    while Instant::now() < end {
        for _ in 0..10_000 {
            x = std::hint::black_box(x.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (x >> 7));
        }
    }
}

fn run(args: &[&str]) -> io::Result<()> {
    let mut wanted: Vec<String> = Vec::new();
    let (mut quick, mut long) = (false, false);
    let (mut runs, mut seconds, mut json, mut only) = (None, None, None, None);
    let mut dir = PathBuf::from("target/bench-data");
    let mut binaries = PathBuf::from("target/release");
    let mut peers = PathBuf::from("tests/bench/peers/target/release/peers");
    let mut args = args.iter();
    while let Some(&arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| io::Error::other(format!("{arg} needs a value")));
        match arg {
            "--quick" => quick = true,
            "--long" => long = true,
            "--runs" => runs = Some(value()?.parse::<usize>().map_err(io::Error::other)?.max(1)),
            "--seconds" => seconds = Some(value()?.parse::<f64>().map_err(io::Error::other)?),
            "--only" => only = Some(value()?.to_string()),
            "--json" => json = Some(PathBuf::from(value()?)),
            "--dir" => dir = PathBuf::from(value()?),
            "--bin" => binaries = PathBuf::from(value()?),
            "--peers" => peers = PathBuf::from(value()?),
            id if GROUPS.iter().any(|(ids, _)| ids.contains(&id)) || id == "P21" => wanted.push(id.into()),
            other => return Err(io::Error::other(format!("{other} is neither a row nor a flag"))),
        }
    }
    std::fs::create_dir_all(&dir)?;
    let dir = dir.canonicalize()?;
    let device = honest::Device::of(&dir)?;
    let (sync, probe) = device.flushed(|| honest::sync_cost(&dir, 400))?;
    let facts = machine::facts(&dir, &device, &sync);
    let mut context = Context::new(dir, device, binaries, peers);
    (context.quick, context.long, context.only) = (quick, long, only);
    context.runs = runs.unwrap_or(3);
    context.seconds = seconds.unwrap_or(if quick { 1.0 } else { 4.0 });

    let before = context.device.counters()?;
    let mut rows = Vec::new();
    for (ids, measure) in GROUPS {
        if !wanted.is_empty() && !wanted.iter().any(|w| ids.contains(&w.as_str())) {
            continue;
        }
        eprintln!("measuring {}", ids.join(", "));
        let group = measure(&context);
        rows.extend(group.into_iter().filter(|r| wanted.is_empty() || wanted.iter().any(|w| w == r.id)));
    }
    let after = context.device.counters()?;
    rows.push(honest::row(&sync, &probe, after.flushes - before.flushes));
    print(&rows, &facts, json)
}

fn print(rows: &[Row], facts: &[(&str, String)], json: Option<PathBuf>) -> io::Result<()> {
    for (name, value) in facts {
        println!("{name}: {value}");
    }
    println!("\n{}", rows::table(rows));
    let Some(path) = json else { return Ok(()) };
    let facts: serde_json::Map<String, serde_json::Value> =
        facts.iter().map(|(n, v)| ((*n).to_owned(), serde_json::Value::from(v.as_str()))).collect();
    let rows: Vec<_> = rows.iter().map(Row::json).collect();
    let document = serde_json::json!({ "machine": facts, "rows": rows });
    std::fs::write(path, serde_json::to_vec_pretty(&document).map_err(io::Error::other)?)
}
