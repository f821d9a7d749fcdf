//! What another region says of our log: how much of it is stored there. It becomes an event of ours, and so part of the log:
//! the proven recovery point is on every node, and an auditor finds it.

use super::ports::{Home, Place};
use super::{Peer, Regions, TICK, Told};
use bytes::Bytes;
use engine::checkpoint::Signed;
use engine::event::{AnchorKind, Anchored, Event};
use engine::limits::{NOTE_MAX, TIME_MAX_MS};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks at a place that failed.
const PAUSE: Duration = Duration::from_secs(2);

/// Most sizes of our tree whose age is kept.
const WAITING_MAX: usize = 4096;

/// Sizes of our tree that another region has not proved to hold yet, and since when there are entries up to there.
#[derive(Default)]
struct Waiting(VecDeque<(u64, u64)>);

impl Waiting {
    /// Since when there has been an entry that is not proven, milliseconds since the Unix epoch; 0 when there is none. The age of the oldest
    /// one counts: under load there is always a newer one.
    fn since(&mut self, newest: u64, proven: u64, now_ms: u64) -> u64 {
        while self.0.front().is_some_and(|(size, _)| *size <= proven) {
            self.0.pop_front();
        }
        let known = self.0.back().map_or(proven, |(size, _)| *size);
        if newest > known {
            match (self.0.len() == WAITING_MAX, self.0.back_mut()) {
                // What comes now counts as old as the last before it: nothing looks younger than it is.
                (true, Some(last)) => last.0 = newest,
                _ => self.0.push_back((newest, now_ms)),
            }
        }
        self.0.front().map_or(0, |(_, since_ms)| *since_ms)
    }
}

pub async fn run<H: Home, P: Place>(home: Arc<H>, regions: Arc<Regions<P>>, nth: usize) {
    let (home, regions) = (&*home, &*regions);
    let peer = &regions.peers[nth];
    let (mut last, mut waiting, mut told) = (Bytes::new(), Waiting::default(), Told::default());
    loop {
        home.sleep(TICK).await;
        let now_ms = home.wall_ms();
        let since_ms = waiting.since(home.newest(), home.proven(peer.mirror.name()), now_ms);
        regions.imports(nth, |imports| imports.unproven_ms = since_ms);
        if !home.leads() || !home.knows_proven() {
            last = Bytes::new();
            continue;
        }
        if let Err(why) = look(home, peer, &regions.own, &mut last).await {
            if told.anew(home, &why) {
                tracing::warn!(
                    why,
                    region = peer.region,
                    "what another region holds of this log is not known"
                );
            }
            home.sleep(PAUSE).await;
        }
    }
}

async fn look<H: Home, P: Place>(
    home: &H,
    peer: &Peer<P>,
    own: &str,
    last: &mut Bytes,
) -> Result<(), String> {
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
    let own_key = home.key_of(signed.checkpoint.size)?;
    signed.verify(&own_key).map_err(|error| format!("that is no checkpoint of this log: {error}"))?;
    let size = signed.checkpoint.size;
    let proven = home.proven(peer.mirror.name());
    if size > proven {
        let event = Event::Anchored(Anchored {
            at_ms: home.wall_ms().min(TIME_MAX_MS),
            kind: AnchorKind::Cosignature,
            target: peer.mirror.name().to_owned(),
            note: signed.encode(),
            evidence: line.line().into_bytes(),
        });
        home.note_proven(event).await?;
    }
    *last = found;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn under_load_only_the_oldest_unproven_entry_counts() {
        let mut waiting = Waiting::default();
        assert_eq!(waiting.since(5, 5, 100), 0);
        assert_eq!(waiting.since(7, 5, 200), 200);
        assert_eq!(waiting.since(9, 5, 300), 200);
        assert_eq!(waiting.since(11, 7, 400), 300);
        assert_eq!(waiting.since(11, 11, 500), 0);
        for tick in 0..3 * WAITING_MAX as u64 {
            assert_eq!(waiting.since(12 + tick, 11, 1000 + tick), 1000);
        }
        assert_eq!(waiting.0.len(), WAITING_MAX);
        assert_eq!(waiting.since(1 << 20, 1 << 20, 1 << 20), 0);
    }
}
