//! P23: ingest while a backlog of copies drains, against ingest without one.
//!
//! A log is filled once. Then one node after the other runs on it: with a new, empty place for copies, to which everything
//! goes while it takes submissions, and without one. The place is a directory on the same device, which is the hardest: each
//! object that is copied costs syncs that the log waits for, too.

use crate::context::{Context, remove};
use crate::flkd::{Flkd, Tenant};
use crate::ingest::{Runs, Workload, run};
use crate::process::free_port;
use crate::rows::{Bound, Row, command, figure};
use crate::stats::{Sample, alternate};
use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// Submissions a second: a load that a node carries with ease, so that latency speaks of what is in the way.
const RATE: f64 = 1000.0;
const BACKLOG: &str = "flk_anchor_backlog_leaves";

/// A node on `dir`, with these targets for copies.
fn node(context: &Context, dir: &Path, targets: Option<&Path>) -> io::Result<Flkd> {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let mut command = Flkd::command(context, dir, addr);
    if let Some(path) = targets {
        command.env("FLK_ANCHOR_TARGETS_FILE", path);
    }
    let node = Flkd::launch(context, &mut command, dir, addr)?;
    node.wait_ready()?;
    Ok(node)
}

/// The 95th percentile of a run, which is what is compared.
fn p95(sample: Sample) -> io::Result<Sample> {
    let value = sample.extra.iter().find(|(name, _)| *name == "p95 us").map(|(_, value)| *value);
    let value = value.ok_or_else(|| io::Error::other("a run says nothing of its 95th percentile"))?;
    Ok(Sample { value, ..sample })
}

/// P23: the 95th percentile with and without.
pub fn rows(context: &Context) -> Vec<Row> {
    let what = format!("ingest p95 while a backlog of copies drains, {RATE} submissions/s");
    vec![measure(context, &what).unwrap_or_else(|why| Row::refused("P23", what, why))]
}

fn measure(context: &Context, what: &str) -> io::Result<Row> {
    let (dir, places) = (context.fresh("drain")?, context.fresh("drain-places")?);
    let records = context.size(400_000, 60_000);
    let runs = Runs::default();
    let first = Flkd::start(context, &dir)?;
    let mut pool = Workload::batches(Tenant::Hmac).pool(&runs, records, "\"accepted\":true");
    Workload::batches(Tenant::Hmac).drive_all(first.addr(), &mut pool)?;
    first.stop()?;

    let workload = Workload { rate: Some(RATE), ..Workload::single(Tenant::Hmac, 64) };
    let (count, left, copied) = (Cell::new(0), Cell::new(f64::INFINITY), Cell::new(0.0));
    let (pair, _) = context.device.flushed(|| {
        alternate(
            context.runs,
            || {
                count.set(count.get() + 1);
                // A target that the log has never heard of has everything to do.
                let (list, place) = (places.join("targets.toml"), places.join(format!("place-{}", count.get())));
                std::fs::create_dir(&place)?;
                let text = format!(
                    "[[target]]\nname = \"place-{}\"\nkind = \"directory\"\npath = \"{}\"\nevery_s = 1\nexport = true\n",
                    count.get(),
                    place.display()
                );
                std::fs::write(&list, text)?;
                let node = node(context, &dir, Some(&list))?;
                let sample = run(context, &runs, &node, workload)?;
                left.set(left.get().min(node.metric(BACKLOG)?));
                copied.set(files(&place)? as f64 / context.seconds);
                node.stop()?;
                remove(&place)?;
                p95(sample)
            },
            || {
                let node = node(context, &dir, None)?;
                let sample = run(context, &runs, &node, workload)?;
                node.stop()?;
                p95(sample)
            },
        )
    })?;
    remove(&dir)?;
    remove(&places)?;
    let mut notes = pair.notes();
    notes.push(format!(
        "about {} objects/s were copied; at the end of a window at least {} leaves were not under a copied checkpoint",
        figure(copied.get()),
        figure(left.get())
    ));
    Ok(Row {
        id: "P23",
        what: what.into(),
        ours: format!("{} us", figure(pair.ours())),
        reference: format!("without: {} us", figure(pair.reference())),
        value: pair.ratio(),
        bound: Bound::AtMost { floor: 1.1, moonshot: None },
        command: command("P23"),
        notes,
        refused: None,
    })
}

/// Files below a directory.
fn files(dir: &Path) -> io::Result<u64> {
    let mut count = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { files(&entry.path())? } else { 1 };
    }
    Ok(count)
}
