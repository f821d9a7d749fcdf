//! P16: what agreement among three nodes costs, against one node and against etcd with three members; P17: how long
//! clients wait when the leader is killed.

use crate::context::{Context, remove};
use crate::failover;
use crate::flkd::Tenant;
use crate::ingest::{self, Runs, Workload, with_node};
use crate::rows::{Bound, Row, at_least, command, figure};
use crate::stats::{Pair, Sample, alternate, median};
use crate::stores::{self, Store};
use crate::trio::Trio;
use std::io;

/// Latencies are the first figures beside a rate.
const P50: usize = 0;

fn with_trio<T>(context: &Context, work: impl FnOnce(&mut Trio<'_>) -> io::Result<T>) -> io::Result<T> {
    let dir = context.fresh("trio")?;
    let mut trio = Trio::start(context, &dir)?;
    let (done, _) = context.device.flushed(|| work(&mut trio))?;
    trio.stop()?;
    remove(&dir)?;
    Ok(done)
}

/// One run of three nodes, with the bytes they wrote for each submission.
fn three(context: &Context, runs: &Runs, trio: &Trio<'_>, workload: Workload) -> io::Result<Sample> {
    let before = trio.written()?;
    let sample = ingest::run(context, runs, trio, workload)?;
    let bytes = (trio.written()? - before) as f64;
    // What the warm-up wrote counts among the bytes, so this is an upper bound.
    let per = bytes / (sample.value * context.seconds);
    Ok(sample.with("bytes/submission", per))
}

fn row(what: String, pair: &Pair, reference: &str, bound: Bound) -> Row {
    Row {
        id: "P16",
        what,
        ours: format!("{} submissions/s", figure(pair.ours())),
        reference: format!("{reference}: {}", figure(pair.reference())),
        value: pair.ratio(),
        bound,
        command: command("P16"),
        notes: pair.notes(),
        refused: None,
    }
}

fn p50(what: String, pair: &Pair) -> Row {
    let of = |samples: &[Sample]| median(samples.iter().map(|s| s.extra[P50].1));
    let (ours, one) = (of(&pair.ours), of(&pair.reference));
    Row {
        id: "P16",
        what,
        ours: format!("{} us", figure(ours)),
        reference: format!("one node: {} us", figure(one)),
        value: ours / one,
        bound: Bound::AtMost { floor: 2.5, moonshot: None },
        command: command("P16"),
        notes: Vec::new(),
        refused: None,
    }
}

/// P16.
pub fn rows(context: &Context) -> Vec<Row> {
    let mut rows = Vec::new();
    for connections in [64, 256] {
        let name = |what: &str| format!("three nodes, HMAC, {connections} connections, {what}");
        let runs = Runs::default();
        let workload = Workload::single(Tenant::Hmac, connections);
        let against_one = with_trio(context, |trio| {
            with_node(context, |node| {
                alternate(
                    context.runs,
                    || three(context, &runs, trio, workload),
                    || ingest::run(context, &runs, node, workload),
                )
            })
        });
        match against_one {
            Err(why) => rows.push(Row::refused("P16", name("one node"), why)),
            Ok(pair) => {
                rows.push(row(name("acknowledged"), &pair, "one node", at_least(0.30, 0.50)));
                rows.push(p50(name("p50"), &pair));
            }
        }
        let against_etcd = with_trio(context, |trio| {
            let mut etcd = stores::start(context, Store::EtcdOfThree)?;
            let pair = alternate(
                context.runs,
                || three(context, &runs, trio, workload),
                || etcd.run(connections, context.seconds),
            )?;
            etcd.finish()?;
            Ok(pair)
        });
        let ten = Bound::AtLeast { floor: 10.0, moonshot: None };
        rows.push(match against_etcd {
            Err(why) => Row::refused("P16", name("etcd"), why),
            Ok(pair) => row(name("acknowledged"), &pair, Store::EtcdOfThree.name(), ten),
        });
    }
    rows
}

/// P17.
pub fn failover(context: &Context) -> Vec<Row> {
    let trials = context.size(50, 10);
    let what =
        format!("gap seen by the worst of the clients after SIGKILL of the leader, {trials} trials, p99, s");
    let measured = with_trio(context, |trio| failover::trials(trio, trials));
    vec![match measured {
        Err(why) => Row::refused("P17", what, why),
        Ok(mut found) => {
            found.gaps.sort_by(f64::total_cmp);
            let at = |part: f64| found.gaps[((found.gaps.len() - 1) as f64 * part).round() as usize];
            let p99 = at(0.99);
            Row {
                id: "P17",
                what,
                ours: format!("{p99:.2} s, p50 {:.2} s", at(0.5)),
                reference: format!("none of {} acknowledged lost", figure(found.acked as f64)),
                value: p99,
                bound: Bound::AtMost { floor: 1.5, moonshot: None },
                command: command("P17"),
                notes: vec![format!("gaps {:.2?}", found.gaps)],
                refused: None,
            }
        }
    }]
}
