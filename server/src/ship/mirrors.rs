//! What another region says of our log: how much of it is stored there. It becomes an event of ours, and so part of the log:
//! the proven recovery point is on every node, and an auditor finds it.

use super::{Peer, TICK};
use crate::node::Node;
use bytes::Bytes;
use engine::checkpoint::Signed;
use engine::event::{AnchorKind, Anchored, Event};
use engine::limits::{NOTE_MAX, TIME_MAX_MS};
use std::sync::Arc;
use std::time::Duration;

/// Between two looks at a place that failed.
const PAUSE: Duration = Duration::from_secs(2);

pub async fn run(node: Arc<Node>, nth: usize) {
    let Some(regions) = &node.regions else { return };
    let peer = &regions.peers[nth];
    let mut last = Bytes::new();
    loop {
        tokio::time::sleep(TICK).await;
        let newest = node.fold.projector.tiles().published().map_or(0, |published| published.size);
        let proven = node.anchors.cosigned_by(peer.mirror.name()).map_or(0, |(size, _)| size);
        let now_ms = node.clock.wall_ms();
        regions.imports(nth, |imports| {
            imports.unproven_ms = match (newest > proven, imports.unproven_ms) {
                (false, _) => 0,
                (true, 0) => now_ms,
                (true, since) => since,
            };
        });
        if !node.leads() || !node.anchors.is_ready() {
            last = Bytes::new();
            continue;
        }
        if let Err(why) = look(&node, peer, &regions.own, &mut last).await {
            tracing::warn!(why, region = peer.region, "what another region holds of this log is not known");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn look(node: &Arc<Node>, peer: &Peer, own: &str, last: &mut Bytes) -> Result<(), String> {
    let most = 2 * NOTE_MAX as u64;
    let Some(found) = peer.remote.get(&format!("mirrors/{own}"), most).await? else { return Ok(()) };
    if found == *last {
        return Ok(());
    }
    let mut signed = Signed::parse(&found).map_err(|error| error.to_string())?;
    let text = signed.checkpoint.text();
    let line = signed.signatures.iter().find(|signature| peer.mirror.is_of(signature));
    let line = line.ok_or("the region's mirror has not signed it")?.clone();
    peer.mirror.verify(&text, &line).map_err(|error| error.to_string())?;
    signed.signatures.retain(|signature| !peer.mirror.is_of(signature));
    // What we signed is a checkpoint of ours: the region holds no other history of this log.
    let own_key = node.fold.signers.load().main(signed.checkpoint.size)?.verifier();
    signed.verify(&own_key).map_err(|error| format!("that is no checkpoint of this log: {error}"))?;
    let size = signed.checkpoint.size;
    let proven = node.anchors.cosigned_by(peer.mirror.name()).map_or(0, |(size, _)| size);
    if size > proven {
        let event = Event::Anchored(Anchored {
            at_ms: node.clock.wall_ms().min(TIME_MAX_MS),
            kind: AnchorKind::Cosignature,
            target: peer.mirror.name().to_owned(),
            note: signed.encode(),
            evidence: line.line().into_bytes(),
        });
        node.log_anchor(event).await?;
    }
    *last = found;
    Ok(())
}
