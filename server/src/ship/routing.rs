//! How much of the world's traffic this region should get, for whoever shares it out.

use super::Regions;
use crate::node::Node;
use serde_json::{Value, json};

/// The weight of a region in which all is well.
const WHOLE: u32 = 100;
/// That of one which takes submissions, and does not know what others took: a retry that comes here may be a first.
const BEHIND: u32 = 10;
/// A region counts as behind when it has not taken in another one's log for so long, milliseconds: the recovery point that is promised.
const BEHIND_MS: u64 = 120_000;

/// What a global load balancer asks each region: 0 means send nothing. Who does not answer has 0.
pub fn routing(node: &Node) -> Value {
    let mut why: Vec<String> =
        node.checks().iter().filter(|check| !check.ok).map(|check| check.name.to_string()).collect();
    let mut weight = if why.is_empty() { WHOLE } else { 0 };
    let regions = node.regions.as_ref().map_or_else(Vec::new, |regions| peers(regions, node, &mut why));
    if weight > 0 && !why.is_empty() {
        weight = BEHIND;
    }
    json!({"region": node.config.region, "ready": weight > 0, "weight": weight, "why": why, "regions": regions})
}

/// How far each other region's log is here, as the node that leads knows it.
fn peers(regions: &Regions, node: &Node, why: &mut Vec<String>) -> Vec<Value> {
    let now_ms = node.clock.wall_ms();
    let core = node.fold.core();
    let inner = regions.lock();
    let rows = regions.peers.iter().zip(&inner.peers).map(|(peer, imports)| {
        let region = &peer.region;
        let lag_ms = if imports.behind_ms == 0 { 0 } else { now_ms.saturating_sub(imports.behind_ms) };
        let quarantined = core.ledger.origin(region).is_some_and(|origin| origin.quarantine().is_some());
        if quarantined {
            why.push(format!("region {region} is in quarantine"));
        } else if lag_ms > BEHIND_MS {
            why.push(format!("region {region} has not been taken in for {} s", lag_ms / 1000));
        }
        json!({"region": region, "lag_ms": lag_ms, "quarantined": quarantined})
    });
    rows.collect()
}
