//! What a node says of itself to doctors and to its peers, and how it asks all of them.
//!
//! One document a node: place in the group, log, disk, clock, certificate, format, and every check of `/readyz`.
//! L1: a membership names few nodes, each answer is bounded, and all are asked at the same time.

use crate::node::Node;
use crate::peers::CHECKUP;
use bytes::Bytes;
use engine::codec::hex;
use futures_util::future::join_all;
use raft::{MemberStanding, Peer};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Largest answer of a peer, bytes: some kilobytes.
const ANSWER_MAX: usize = 256 << 10;
/// How long a peer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How this node stands.
pub fn own(node: &Node) -> Value {
    let log = node.log_metrics();
    let checks = node.checks();
    let disk = node.disk.seen();
    let me = &node.hello;
    json!({
        "node": log.node,
        "cluster": hex(&me.cluster),
        "region": me.region,
        "incarnation": format!("{:016x}", me.incarnation),
        "version": env!("CARGO_PKG_VERSION"),
        "format": format!("{:016x}", me.limits),
        "role": log.role.to_string(),
        "alone": log.alone,
        "term": log.term,
        "leader": log.leader,
        "last": log.last.0,
        "durable": log.durable.0,
        "committed": log.committed.0,
        "applied": log.applied.0,
        "wall_ms": node.clock.wall_ms(),
        "disk": {
            "backend": log.backend,
            "syncs": disk.syncs,
            "p99_under_us": disk.p99_under_us,
            "slow": disk.slow,
            "well": disk.well,
            "failed": log.failed,
            "full": node.full(&log),
        },
        "certificate": node.peers.as_ref().map(|peers| {
            let (ends, refused) = peers.certificates.state();
            json!({"ends_s": ends, "refused": refused})
        }),
        "repairs": {"begun": log.repairs.begun, "done": log.repairs.done, "failed": log.repairs.failed},
        "damaged_segments": node.fold.damages.first().map_or(0, |(_, count)| count),
        "diverged": node.fold.diverged().is_some(),
        "draining": node.draining.load(Ordering::Relaxed),
        "ready": checks.iter().all(|check| check.ok),
        "checks": checks.iter().map(|check| json!({"name": check.name, "ok": check.ok, "detail": check.detail})).collect::<Vec<_>>(),
    })
}

/// All nodes of the group, each as it sees itself, by this node's clock.
pub async fn all(node: &Arc<Node>) -> Value {
    let members = node.group.members();
    let ask = |member: MemberStanding| async move {
        let mut line = json!({
            "node": member.node, "address": member.member.address, "voter": member.voter, "asked": member.node == node.config.node_id,
        });
        if member.node == node.config.node_id {
            line["checkup"] = own(node);
            line["clock_ms"] = json!(0);
            return line;
        }
        let before = node.clock.wall_ms();
        match peer(node, &member).await {
            Ok(found) => {
                let after = node.clock.wall_ms();
                let middle = before.midpoint(after);
                let theirs = found["wall_ms"].as_u64().unwrap_or(middle);
                line["clock_ms"] = json!(theirs.cast_signed().saturating_sub(middle.cast_signed()));
                line["round_trip_ms"] = json!(after.saturating_sub(before));
                line["checkup"] = found;
            }
            Err(why) => line["unreached"] = json!(why),
        }
        line
    };
    let nodes = join_all(members.into_iter().map(ask)).await;
    json!({"asked": node.config.node_id, "cluster": hex(&node.hello.cluster), "nodes": nodes})
}

/// One peer, as it sees itself.
///
/// # Errors
/// Why it could not be asked, in words.
pub async fn peer(node: &Node, member: &MemberStanding) -> Result<Value, String> {
    let peers = node.peers.as_ref().ok_or("this node listens to no peers")?;
    let to = Peer {
        node: member.node,
        address: member.member.address.clone(),
        incarnation: member.member.incarnation,
    };
    let answer = peers.wire.post(&to, CHECKUP, Bytes::new(), ANSWER_MAX, PATIENCE).await;
    let bytes = answer.map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| format!("its answer cannot be read: {error}"))
}

/// What the scrubber knows, for people.
pub(crate) fn segments_line(log: &raft::Metrics, damage: Option<(segments::Damage, usize)>) -> String {
    match damage {
        None if log.repairs.done > 0 => {
            format!("{} sealed, none known to be damaged, {} repaired", log.sealed, log.repairs.done)
        }
        None => format!("{} sealed, none known to be damaged", log.sealed),
        Some((first, 1)) => format!("no submissions, reads go on: {first}"),
        Some((first, n)) => format!("no submissions, reads go on: {n} are damaged, the first: {first}"),
    }
}

/// How much room there is, for people.
pub(crate) fn room(log: &raft::Metrics, stalled: bool) -> String {
    match (&log.full, &log.refused) {
        (Some(why), _) => format!("no room for submissions, reads go on: {why}"),
        _ if stalled => "no room for submissions, reads go on: files beside the log wait for room".into(),
        (None, Some(why)) => format!("{} bytes left and no next segment: {why}", log.room),
        (None, None) => format!("{} bytes before the next segment", log.room),
    }
}
