//! P18: a receipt in every answer, against the same submissions without.

use crate::context::Context;
use crate::flkd::Tenant;
use crate::ingest::{Runs, Workload, run, with_node};
use crate::rows::{Bound, Row, command, figure};
use crate::stats::{alternate, median};

/// Where the 99th percentile stands among what a run says beside its rate.
const P99: usize = 1;

/// P18: rate and 99th percentile with a receipt in every answer.
pub fn rows(context: &Context) -> Vec<Row> {
    let mut rows = Vec::new();
    for connections in [64, 256] {
        let what = |what: &str| format!("a receipt in every answer, {connections} connections, {what}");
        let runs = Runs::default();
        let plain = Workload::single(Tenant::Hmac, connections);
        let asking = Workload { receipt: true, ..plain };
        let measured = with_node(context, |node| {
            alternate(context.runs, || run(context, &runs, node, asking), || run(context, &runs, node, plain))
        });
        let pair = match measured {
            Err(why) => {
                rows.push(Row::refused("P18", what("rate"), why));
                continue;
            }
            Ok(pair) => pair,
        };
        rows.push(Row {
            id: "P18",
            what: what("rate"),
            ours: format!("{} submissions/s", figure(pair.ours())),
            reference: format!("P5, without: {}", figure(pair.reference())),
            value: pair.ratio(),
            bound: Bound::AtLeast { floor: 0.9, moonshot: None },
            command: command("P18"),
            notes: pair.notes(),
            refused: None,
        });
        let p99 = |n: usize| (pair.ours[n].extra[P99].1, pair.reference[n].extra[P99].1);
        let all = || (0..pair.ours.len()).map(p99);
        let more = median(all().map(|(ours, plain)| ours - plain));
        rows.push(Row {
            id: "P18",
            what: what("p99 more than without, us"),
            ours: format!("{} us", figure(median(all().map(|(ours, _)| ours)))),
            reference: format!("P5, without: {} us", figure(median(all().map(|(_, plain)| plain)))),
            value: more,
            bound: Bound::AtMost { floor: 1000.0, moonshot: None },
            command: command("P18"),
            notes: Vec::new(),
            refused: None,
        });
    }
    rows
}
