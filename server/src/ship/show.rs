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
        let mut out = String::new();
        family(
            &mut out,
            "wal_crr_lag_seconds",
            "gauge",
            "For how long there has been something to ship that is not shipped.",
        );
        let _ = writeln!(out, "wal_crr_lag_seconds {}", seconds(inner.behind_ms));
        family(&mut out, "wal_ship_errors_total", "counter", "Tries to ship the log that failed.");
        let _ = writeln!(out, "wal_ship_errors_total {}", inner.errors);
        family(&mut out, "flk_region_bills_total", "counter", "Ranges of the log that were shipped.");
        let _ = writeln!(out, "flk_region_bills_total {}", inner.bills);
        family(&mut out, "flk_region_shipped_bytes_total", "counter", "Bytes of them, packed.");
        let _ = writeln!(out, "flk_region_shipped_bytes_total {}", inner.bytes);
        if self.peers.is_empty() {
            return out;
        }
        let name = "wal_replication_lag_seconds";
        family(
            &mut out,
            name,
            "gauge",
            "For how long there have been entries of the source that the target is not proven to hold, or that it has not taken in.",
        );
        for (peer, imports) in self.peers.iter().zip(&inner.peers) {
            let (there, here) = (seconds(imports.unproven_ms), seconds(imports.behind_ms));
            let peer = &peer.region;
            let _ = writeln!(out, "{name}{{source_region=\"{own}\",target_region=\"{peer}\"}} {there}");
            let _ = writeln!(out, "{name}{{source_region=\"{peer}\",target_region=\"{own}\"}} {here}");
        }
        let name = "wal_replay_applied_total";
        family(&mut out, name, "counter", "Records of another region that were taken in.");
        for (peer, imports) in self.peers.iter().zip(&inner.peers) {
            let _ = writeln!(out, "{name}{{source_region=\"{}\"}} {}", peer.region, imports.records);
        }
        let name = "flk_region_refused_total";
        family(
            &mut out,
            name,
            "counter",
            "Tries to take in another region's log that failed: a gap, a wrong range, a place that cannot be read.",
        );
        for (peer, imports) in self.peers.iter().zip(&inner.peers) {
            let _ = writeln!(out, "{name}{{source_region=\"{}\"}} {}", peer.region, imports.refused);
        }
        let name = "flk_region_imported_lsn";
        family(&mut out, name, "gauge", "The last record of another region that is taken in.");
        for (peer, (lsn, _)) in self.peers.iter().zip(&records) {
            let _ = writeln!(out, "{name}{{source_region=\"{}\"}} {lsn}", peer.region);
        }
        let name = "flk_region_quarantined";
        family(&mut out, name, "gauge", "1 when another region's log contradicts itself.");
        for (peer, (_, quarantined)) in self.peers.iter().zip(&records) {
            let _ = writeln!(out, "{name}{{source_region=\"{}\"}} {}", peer.region, u8::from(*quarantined));
        }
        let name = "flk_region_silent_seconds";
        family(&mut out, name, "gauge", "For how long another region has said nothing of where it stands.");
        for (peer, imports) in self.peers.iter().zip(&inner.peers) {
            let _ =
                writeln!(out, "{name}{{source_region=\"{}\"}} {}", peer.region, seconds(imports.heard_ms));
        }
        let name = "flk_region_diverged";
        family(
            &mut out,
            name,
            "gauge",
            "1 when another region computed something else after the same record.",
        );
        for (peer, imports) in self.peers.iter().zip(&inner.peers) {
            let differs = u8::from(imports.compared.differs.is_some());
            let _ = writeln!(out, "{name}{{source_region=\"{}\"}} {differs}", peer.region);
        }
        let name = "flk_region_equal_timestamp_seconds";
        family(
            &mut out,
            name,
            "gauge",
            "When another region was last found to have computed the same; 0 if not yet.",
        );
        for (peer, imports) in self.peers.iter().zip(&inner.peers) {
            let at = imports.equal_ms as f64 / 1000.0;
            let _ = writeln!(out, "{name}{{source_region=\"{}\"}} {at}", peer.region);
        }
        let name = "flk_region_proven_entries";
        family(&mut out, name, "gauge", "Entries of this log that another region is proven to hold.");
        for peer in &self.peers {
            let proven = node.anchors.cosigned_by(peer.mirror.name()).map_or(0, |(size, _)| size);
            let _ = writeln!(out, "{name}{{target_region=\"{}\"}} {proven}", peer.region);
        }
        let name = "flk_reconcile_cases";
        family(
            &mut out,
            name,
            "gauge",
            "Cases about regions that wait: for a decision (open), or for their effect (approved).",
        );
        for (state, count) in cases {
            let _ = writeln!(out, "{name}{{state=\"{state}\"}} {count}");
        }
        let name = "flk_reconcile_settled_total";
        family(&mut out, name, "counter", "Conflicts between regions that somebody settled in this log.");
        let _ = writeln!(out, "{name} {settled}");
        let name = "dedup_divergence";
        family(
            &mut out,
            name,
            "gauge",
            "Ids under which two regions took different contents before they knew of each other.",
        );
        for peer in &self.peers {
            let (a, b) = if *own < peer.region { (own, &peer.region) } else { (&peer.region, own) };
            let count = conflicts.iter().find(|(x, y, _)| x == a && y == b).map_or(0, |(_, _, count)| *count);
            let _ = writeln!(out, "{name}{{region_a=\"{a}\",region_b=\"{b}\"}} {count}");
        }
        out
    }
}

fn since(since_ms: u64, now_ms: u64) -> u64 {
    if since_ms == 0 { 0 } else { now_ms.saturating_sub(since_ms) }
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}
