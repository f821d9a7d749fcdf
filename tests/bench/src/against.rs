//! P6: our durable ingest against the stores that others would use for it.

use crate::context::Context;
use crate::flkd::Tenant;
use crate::ingest::{self, Runs, Workload, with_node};
use crate::rows::{Bound, Row, command, figure};
use crate::stats::{Pair, alternate};
use crate::stores::{self, Store};
use std::io;

fn measure(context: &Context, store: Store, connections: usize) -> io::Result<Pair> {
    let runs = Runs::default();
    let workload = Workload::single(Tenant::Hmac, connections);
    with_node(context, |node| {
        let mut reference = stores::start(context, store)?;
        let pair = alternate(
            context.runs,
            || ingest::run(context, &runs, node, workload),
            || reference.run(connections, context.seconds),
        )?;
        reference.finish()?;
        Ok(pair)
    })
}

/// The rows: three stores at 64 and 256 connections.
pub fn rows(context: &Context) -> Vec<Row> {
    let mut rows = Vec::new();
    for (store, floor) in [(Store::Redis, 1.0), (Store::Postgres, 4.0), (Store::Etcd, 10.0)] {
        for connections in [64, 256] {
            let what =
                format!("HTTP durable ingest, HMAC, {connections} connections, against {}", store.name());
            rows.push(match measure(context, store, connections) {
                Err(why) => Row::refused("P6", what, why),
                Ok(pair) => Row {
                    id: "P6",
                    what,
                    ours: format!("{} submissions/s", figure(pair.ours())),
                    reference: format!("{store:?}: {}", figure(pair.reference())),
                    value: pair.ratio(),
                    bound: Bound::AtLeast { floor, moonshot: None },
                    command: command("P6"),
                    notes: pair.notes(),
                    refused: None,
                },
            });
        }
    }
    rows
}
