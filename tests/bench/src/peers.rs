//! P2: append engines of others, run by the `peers` binary of the workspace beside this crate: raft-engine with its own
//! group commit, and the others, and raft-engine once more, behind the same kind of group commit as ours.

use crate::append::Appends;
use crate::context::{Context, remove};
use crate::process::tied;
use crate::rows::{Bound, Row, command, figure};
use crate::stats::{Sample, alternate};
use serde_json::Value;
use std::ffi::OsStr;
use std::io;
use std::process::Command;

/// Runs `peers` and reads its line of JSON.
pub fn run<S: AsRef<OsStr>>(context: &Context, args: &[S]) -> io::Result<Value> {
    let mut child = Command::new(&context.peers);
    let out = tied(child.args(args)).output().map_err(|e| {
        io::Error::new(e.kind(), format!("{}: {e} (tests/bench/run.sh builds it)", context.peers.display()))
    })?;
    if !out.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&out.stderr).trim().to_owned()));
    }
    serde_json::from_slice(&out.stdout).map_err(io::Error::other)
}

/// Clients of the row.
const CLIENTS: usize = 256;

fn append(context: &Context, engine: &str, seconds: f64) -> io::Result<Sample> {
    let dir = context.fresh("peer")?;
    let args = ["append", engine, &dir.to_string_lossy(), &CLIENTS.to_string(), &seconds.to_string()];
    let line = run(context, &args)?;
    remove(&dir)?;
    let number = |name: &str| line[name].as_f64().unwrap_or(f64::NAN);
    Ok(Sample::new(number("rate")).with("p50 us", number("p50_us")).with("p99 us", number("p99_us")))
}

/// A row for each engine.
pub fn rows(context: &Context) -> Vec<Row> {
    let at_least = |floor| Bound::AtLeast { floor, moonshot: None };
    let engines = [
        ("raft-engine-threads", "raft-engine and its own group commit, a thread a writer", at_least(10.0)),
        ("raft-engine", "raft-engine with a group commit in front", Bound::Told),
        ("fjall", "fjall with a group commit in front", at_least(5.0)),
        ("sqlite", "sqlite with a group commit in front", at_least(5.0)),
    ];
    engines
        .into_iter()
        .map(|(engine, name, bound)| {
            let what = format!("append, C={CLIENTS}, against {name}");
            let measured = context.device.flushed(|| {
                let ours = Appends::new(context);
                alternate(
                    context.runs,
                    || ours.run(CLIENTS, context.seconds),
                    || append(context, engine, context.seconds),
                )
            });
            match measured {
                Err(why) => Row::refused("P2", what, why),
                Ok((pair, _)) => Row {
                    id: "P2",
                    what,
                    ours: format!("{} records/s", figure(pair.ours())),
                    reference: format!("{engine}: {} records/s", figure(pair.reference())),
                    value: pair.ratio(),
                    bound,
                    command: command("P2"),
                    notes: pair.notes(),
                    refused: None,
                },
            }
        })
        .collect()
}
