//! The time that a leader stamps: no voter's clock alone moves it forward.
//!
//! Names are forgotten by log time, which never goes back. So a leader's clock that runs ahead, or is set wrongly, must not reach the
//! log: every voter asks the others for their clocks, takes the lower median of a quorum, and lets that go on by its
//! monotonic clock until the next answers. Its own clock counts as long as it is not [`TOLERANCE_MS`] ahead of this. A
//! clock that is behind needs nothing: stamps do not go back. A node that is alone has only its own clock.

use crate::checkup;
use crate::clock::Clock;
use crate::node::Node;
use futures_util::stream::{FuturesUnordered, StreamExt};
use raft::MemberStanding;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// How far ahead of the others a clock may be and still be believed, ms.
const TOLERANCE_MS: i64 = 60_000;
/// Between two times that the others are asked.
const EVERY: Duration = Duration::from_secs(2);
/// Nobody has been asked yet.
const UNKNOWN: i64 = i64::MIN;

/// A clock that is held back where it is ahead of the group.
pub struct GroupTime {
    own: Arc<dyn Clock>,
    /// The group's time less this node's monotonic time, ms.
    offset: AtomicI64,
}

impl GroupTime {
    /// The node's own clock, until somebody has been asked.
    pub fn new(own: Arc<dyn Clock>) -> GroupTime {
        GroupTime { own, offset: AtomicI64::new(UNKNOWN) }
    }

    fn monotonic_ms(&self) -> i64 {
        (self.own.monotonic_ns() / 1_000_000).cast_signed()
    }

    /// Takes up what a quorum's clocks say, this node's among them.
    fn agree(&self, mut clocks: Vec<u64>) {
        clocks.sort_unstable();
        if let Some(median) = clocks.get(clocks.len().saturating_sub(1) / 2) {
            self.offset.store(median.cast_signed().saturating_sub(self.monotonic_ms()), Ordering::Relaxed);
        }
    }

    /// How far the own clock is ahead of the group's time, ms; 0 while it is believed.
    pub fn ahead_ms(&self) -> u64 {
        self.own.wall_ms().saturating_sub(self.wall_ms())
    }
}

impl Clock for GroupTime {
    fn wall_ms(&self) -> u64 {
        let wall = self.own.wall_ms();
        let offset = self.offset.load(Ordering::Relaxed);
        if offset == UNKNOWN {
            return wall;
        }
        let agreed = self.monotonic_ms().saturating_add(offset).max(0);
        if wall.cast_signed().saturating_sub(agreed) > TOLERANCE_MS { agreed.cast_unsigned() } else { wall }
    }

    fn monotonic_ns(&self) -> u64 {
        self.own.monotonic_ns()
    }
}

/// Asks the voters for their clocks until a quorum has answered; whether one has.
pub async fn ask(node: &Node) -> bool {
    let voters: Vec<MemberStanding> =
        node.group.members().into_iter().filter(|member| member.voter).collect();
    let mut clocks = vec![node.clock.wall_ms()];
    let others = voters.iter().filter(|voter| voter.node != node.config.node_id);
    let mut answers: FuturesUnordered<_> = others.map(|voter| checkup::peer(node, voter)).collect();
    while clocks.len() <= voters.len() / 2 {
        match answers.next().await {
            Some(Ok(found)) => clocks.extend(found["wall_ms"].as_u64()),
            Some(Err(_)) => {}
            None => return false,
        }
    }
    node.time.agree(clocks);
    true
}

/// Keeps the group's time, until the task is dropped.
pub async fn watch(node: Arc<Node>) {
    let mut ahead = false;
    loop {
        ask(&node).await;
        let by = node.time.ahead_ms();
        node.metrics.clock_ahead.set(i64::try_from(by / 1000).unwrap_or(i64::MAX));
        match (ahead, by > 0) {
            (false, true) => {
                tracing::error!(
                    ahead_ms = by,
                    "this node's clock is ahead of its group's and is not believed"
                )
            }
            (true, false) => tracing::info!("this node's clock is believed again"),
            _ => {}
        }
        ahead = by > 0;
        tokio::time::sleep(EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const DAY_MS: u64 = 86_400_000;

    #[test]
    fn a_clock_that_is_ahead_of_a_quorum_is_held_back_and_time_goes_on() {
        let own = Arc::new(ManualClock::default());
        let time = GroupTime::new(own.clone());
        let set = |wall: u64, monotonic_ms: u64| {
            own.wall.store(wall, Ordering::Relaxed);
            own.monotonic.store(monotonic_ms * 1_000_000, Ordering::Relaxed);
            time.wall_ms()
        };
        let now = 20_000 * DAY_MS;
        // Nobody has been asked: there is no other clock.
        assert_eq!(set(now + 30 * DAY_MS, 5), now + 30 * DAY_MS);
        time.agree(vec![now + 30 * DAY_MS, now]);
        assert_eq!(set(now + 30 * DAY_MS, 5), now);
        assert_eq!(set(now + 30 * DAY_MS + 700, 705), now + 700);
        assert_eq!(time.ahead_ms(), 30 * DAY_MS);
        // A jump between two questions is not believed either.
        time.agree(vec![now + 1000; 3]);
        assert_eq!(set(now + 1400, 1105), now + 1400);
        assert_eq!(set(now + DAY_MS, 1205), now + 1500);
        // A little is a matter of NTP; and who is behind is not pulled forward.
        assert_eq!(set(now + 1500 + 60_000, 1205), now + 1500 + 60_000);
        assert_eq!(set(now - DAY_MS, 1205), now - DAY_MS);
    }

    #[test]
    fn of_many_clocks_the_lower_median_counts() {
        let own = Arc::new(ManualClock::default());
        own.wall.store(u64::MAX >> 1, Ordering::Relaxed);
        for (clocks, agreed) in [
            (vec![7], 7),
            (vec![9, 3], 3),
            (vec![9, 1, 4], 4),
            (vec![5, 1, 9, 7], 5),
            (vec![1, 9, 9, 9, 2], 9),
        ] {
            let time = GroupTime::new(own.clone());
            time.agree(clocks.clone());
            assert_eq!(time.wall_ms(), agreed, "{clocks:?}");
        }
    }
}
