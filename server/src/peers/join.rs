//! How a new data directory learns which cluster it belongs to.

use super::{Hello, PeerError, Wire};
use raft::Peer;
use std::time::Duration;
use tokio::time::Instant;

/// How long the seeds are asked.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one of them may take.
const ONE: Duration = Duration::from_secs(5);
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(250);

/// Asks `seeds`, in order and again, until one says which cluster it belongs to.
///
/// # Errors
/// [`PeerError::Join`] with the last reason, after a minute.
pub async fn cluster(wire: &Wire, me: &Hello, seeds: &[(u64, String)]) -> Result<[u8; 16], PeerError> {
    let end = Instant::now() + PATIENCE;
    let mut last = String::from("no member is named");
    loop {
        for (node, address) in seeds.iter().filter(|(node, _)| *node != me.node) {
            let peer = Peer { node: *node, address: address.clone(), incarnation: 0 };
            match wire.greet(me, &peer, ONE).await {
                Ok(hello) if hello.is_born() => return Ok(hello.cluster),
                Ok(_) => last = format!("node {node} at {address} has no cluster itself"),
                Err(error) => last = error.to_string(),
            }
        }
        if Instant::now() >= end {
            return Err(PeerError::Join { seconds: PATIENCE.as_secs(), last });
        }
        tracing::info!(last, "waiting for a member of the group");
        tokio::time::sleep(PAUSE).await;
    }
}
