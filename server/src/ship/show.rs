//! What operators and scrapes see of other regions.

use super::Regions;
use crate::node::Node;
use engine::ids::TenantId;
use engine::ledger::CaseState;
use engine::log::Lsn;
use serde_json::{Value, json};
use std::fmt::Write as _;

impl Regions {
    /// Every other region: what is held of it here, and what it is proven to hold of ours.
    pub fn show(&self, node: &Node) -> Value {
        let newest = node.fold.projector.tiles().published().map_or(0, |published| published.size);
        let now_ms = node.clock.wall_ms();
        let merged = node.fold.merged();
        let core = node.fold.core();
        let inner = self.lock();
        let rows = self.peers.iter().zip(&inner.peers).map(|(peer, imports)| {
            let origin = core.ledger.origin(&peer.region);
            let proven = node.anchors.cosigned_by(peer.mirror.name());
            json!({
                "region": peer.region,
                "records": origin.map_or(0, |origin| origin.position().lsn.0 - 1),
                "leaves": origin.map_or(0, |origin| origin.leaves()),
                "agreed": origin.and_then(|origin| origin.agreed()).map_or(0, |(size, _)| size),
                "attested": origin.map_or(0, |origin| origin.attested().0),
                "quarantine": origin.and_then(|origin| origin.quarantine()).map(|why| {
                    json!({"record": why.at.lsn.0, "part": why.part})
                }),
                "withheld": origin.map_or(0, |origin| origin.withheld()),
                "digest": origin.map(|origin| origin.digest().to_string()),
                "waits": imports.why,
                "lag_ms": since(imports.behind_ms, now_ms),
                "proven": proven.map_or(0, |(size, _)| size),
                "proven_ms": proven.map(|(_, at_ms)| at_ms),
                "unproven_ms": since(imports.unproven_ms, now_ms),
                "silent_ms": since(imports.heard_ms, now_ms),
                "differs": imports.compared.differs.as_ref().map(ToString::to_string),
                "not_compared": imports.compared.not_yet,
            })
        });
        let rows: Vec<Value> = rows.collect();
        let conflicts: Vec<Value> = core
            .ledger
            .region_conflicts()
            .map(|(a, b, count)| json!({"regions": [a, b], "count": count}))
            .collect();
        json!({
            "own": self.own,
            "cases_waiting": core.ledger.cases().filter(|case| case.waits()).count(),
            "newest": newest,
            "withheld": core.ledger.withheld(),
            "withheld_tenants": core.ledger.withheld_tenants().map(TenantId::as_str).collect::<Vec<_>>(),
            "shipped": inner.shipped,
            "shipping_waits": inner.why,
            "merged": merged.map(|digest| digest.to_string()),
            "peers": rows,
            "conflicts": conflicts,
        })
    }

    /// The section of a metrics page.
    pub fn page(&self, node: &Node) -> String {
        let now_ms = node.clock.wall_ms();
        let seconds = |since_ms: u64| since(since_ms, now_ms) as f64 / 1000.0;
        let own = &self.own;
        let (records, conflicts, cases, settled) = {
            let core = node.fold.core();
            let held = |peer: &super::Peer| {
                let origin = core.ledger.origin(&peer.region);
                let last = origin.map_or(Lsn::ZERO, |origin| origin.position().lsn);
                (last.0.saturating_sub(1), origin.is_some_and(|origin| origin.quarantine().is_some()))
            };
            let conflicts = core.ledger.region_conflicts();
            let conflicts: Vec<_> =
                conflicts.map(|(a, b, count)| (a.to_owned(), b.to_owned(), count)).collect();
            let states = [CaseState::Open, CaseState::Approved];
            let waits =
                |state| core.ledger.cases().filter(|case| case.waits() && case.state == state).count();
            let cases = states.map(|state| (state.name(), waits(state)));
            let settled = core.ledger.settled_conflicts();
            (self.peers.iter().map(held).collect::<Vec<_>>(), conflicts, cases, settled)
        };
        let inner = self.lock();
        let mut page = Page::default();
        let one = |value: f64| vec![(String::new(), value)];
        let help = "For how long there has been something to ship that is not shipped.";
        page.put("wal_crr_lag_seconds", "gauge", help, one(seconds(inner.behind_ms)));
        page.put(
            "wal_ship_errors_total",
            "counter",
            "Tries to ship the log that failed.",
            one(inner.errors as f64),
        );
        let help = "Ranges of the log that were shipped.";
        page.put("flk_region_bills_total", "counter", help, one(inner.bills as f64));
        page.put(
            "flk_region_shipped_bytes_total",
            "counter",
            "Bytes of them, packed.",
            one(inner.bytes as f64),
        );
        if self.peers.is_empty() {
            return page.0;
        }
        // A row for each other region.
        let each = |label: &str, value: &dyn Fn(usize) -> f64| {
            let row =
                |(nth, peer): (usize, &super::Peer)| (format!("{label}=\"{}\"", peer.region), value(nth));
            self.peers.iter().enumerate().map(row).collect::<Vec<_>>()
        };
        let from = |value: &dyn Fn(usize) -> f64| each("source_region", value);
        let imports = &inner.peers;
        let mut lags =
            each(&format!("source_region=\"{own}\",target_region"), &|nth| seconds(imports[nth].unproven_ms));
        lags.extend(self.peers.iter().zip(imports).map(|(peer, imports)| {
            let labels = format!("source_region=\"{}\",target_region=\"{own}\"", peer.region);
            (labels, seconds(imports.behind_ms))
        }));
        let help = "For how long there have been entries of the source that the target is not proven to hold, or that it has not taken in.";
        page.put("wal_replication_lag_seconds", "gauge", help, lags);
        let help = "Records of another region that were taken in.";
        page.put("wal_replay_applied_total", "counter", help, from(&|nth| imports[nth].records as f64));
        let help = "Ranges of another region's log that are not what they must be: a gap, a wrong signature, other content than their bill says.";
        page.put("flk_region_refused_total", "counter", help, from(&|nth| imports[nth].refused as f64));
        let help = "The last record of another region that is taken in.";
        page.put("flk_region_imported_lsn", "gauge", help, from(&|nth| records[nth].0 as f64));
        let help = "1 when another region's log contradicts itself.";
        page.put("flk_region_quarantined", "gauge", help, from(&|nth| f64::from(u8::from(records[nth].1))));
        let help = "For how long another region has said nothing of where it stands.";
        page.put("flk_region_silent_seconds", "gauge", help, from(&|nth| seconds(imports[nth].heard_ms)));
        let help = "1 when another region computed something else after the same record.";
        let differs = |nth: usize| imports[nth].compared.differs.is_some();
        page.put("flk_region_diverged", "gauge", help, from(&|nth| f64::from(u8::from(differs(nth)))));
        let help = "When another region was last found to have computed the same; 0 if not yet.";
        let equal = from(&|nth| imports[nth].equal_ms as f64 / 1000.0);
        page.put("flk_region_equal_timestamp_seconds", "gauge", help, equal);
        let help = "Entries of this log that another region is proven to hold.";
        let proven =
            |nth: usize| node.anchors.cosigned_by(self.peers[nth].mirror.name()).map_or(0, |(size, _)| size);
        page.put(
            "flk_region_proven_entries",
            "gauge",
            help,
            each("target_region", &|nth| proven(nth) as f64),
        );
        let help = "Cases about regions that wait: for a decision (open), or for their effect (approved).";
        let cases = cases.map(|(state, count)| (format!("state=\"{state}\""), count as f64));
        page.put("flk_reconcile_cases", "gauge", help, cases);
        let help = "Conflicts between regions that somebody settled in this log.";
        page.put("flk_reconcile_settled_total", "counter", help, one(settled as f64));
        let clashes = self.peers.iter().map(|peer| {
            let (a, b) = if *own < peer.region { (own, &peer.region) } else { (&peer.region, own) };
            let count = conflicts.iter().find(|(x, y, _)| x == a && y == b).map_or(0, |(_, _, count)| *count);
            (format!("region_a=\"{a}\",region_b=\"{b}\""), count as f64)
        });
        let help = "Ids under which two regions took different contents before they knew of each other.";
        page.put("dedup_divergence", "gauge", help, clashes.collect::<Vec<_>>());
        page.0
    }
}

/// A section of a metrics page, in the text format of Prometheus.
#[derive(Default)]
struct Page(String);

impl Page {
    /// A metric, with a row for each of these labels.
    fn put(&mut self, name: &str, kind: &str, help: &str, rows: impl IntoIterator<Item = (String, f64)>) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in rows {
            let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}

fn since(since_ms: u64, now_ms: u64) -> u64 {
    if since_ms == 0 { 0 } else { now_ms.saturating_sub(since_ms) }
}
