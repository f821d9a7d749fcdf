//! Is the log's disk slow, full or damaged, and who should lead if it is.
//!
//! Every submission waits for the leader's disk, and only for the faster half of the others: a slow disk costs least
//! under a node that follows. So a leader whose syncs stay slow asks the voters how theirs are and hands over to one
//! that is well. Nothing moves on a single slow sync, between disks that are all slow, or back and forth: a disk is
//! slow after some seconds above the limit, well again after a minute under half of it, and a node hands over at
//! most once a minute for its disk. A full or damaged disk refuses submissions at once, so it moves the lead at once.

use crate::checkup;
use crate::node::Node;
use raft::{SYNC_EDGES_US, SyncHistogram};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks.
const TICK: Duration = Duration::from_secs(1);
/// Looks that one judgement covers: ten seconds.
const WINDOW: usize = 10;
/// Fewer slow syncs than this in a window are an accident.
const SLOW_MIN: u64 = 5;
/// Looks in a row above the limit until the disk is slow.
const SLOW_AFTER: u32 = 3;
/// Looks in a row well below it until it is well again: longer than a window, so that none of the slow ones counts.
const WELL_AFTER: u32 = 60;
/// Between two hand-overs by one node.
const REST: Duration = Duration::from_secs(60);
/// Between two looks for a better node when there was none.
const AGAIN: Duration = Duration::from_secs(10);
/// How long another node may take to take over.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(5);

/// What others may know of this node's disk.
#[derive(Debug, Default)]
pub struct Disk {
    slow: AtomicBool,
    well: AtomicBool,
    p99_under_us: AtomicU64,
    syncs: AtomicU64,
}

/// The same at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// It has been slow and is not well again.
    pub slow: bool,
    /// It is fast enough to be handed the lead.
    pub well: bool,
    /// 99 of 100 syncs of the last ten seconds took less, microseconds; 0 when there were none.
    pub p99_under_us: u64,
    /// Syncs in the last ten seconds.
    pub syncs: u64,
}

impl Disk {
    /// What is known now.
    pub fn seen(&self) -> Seen {
        Seen {
            slow: self.slow.load(Ordering::Relaxed),
            well: self.well.load(Ordering::Relaxed),
            p99_under_us: self.p99_under_us.load(Ordering::Relaxed),
            syncs: self.syncs.load(Ordering::Relaxed),
        }
    }

    /// The line of `/readyz?verbose`.
    pub fn line(&self) -> String {
        let Seen { slow, p99_under_us, syncs, .. } = self.seen();
        let took = match (syncs, p99_under_us) {
            (0, _) => "no syncs in the last 10 s".to_owned(),
            (_, u64::MAX) => format!("{syncs} syncs in the last 10 s, p99 over 1 s"),
            (_, us) => format!("{syncs} syncs in the last 10 s, p99 under {} ms", us as f64 / 1000.0),
        };
        if slow { format!("SLOW, leads only if nobody else can: {took}") } else { took }
    }
}

/// Of a window of syncs, how it compares with a limit. Both limits are edges of the histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Window {
    /// Too few syncs to say anything.
    Quiet,
    /// More than one in a hundred took longer than the limit, and some did.
    Above,
    /// At most one in a hundred took longer than the edge below the limit.
    Below,
    /// Neither.
    Between,
}

/// Judges the windows. Pure: what it is told is all it knows.
#[derive(Debug)]
struct Judge {
    /// Buckets from this one on are above the limit.
    limit: usize,
    looks: VecDeque<[u64; SYNC_EDGES_US.len() + 1]>,
    above: u32,
    below: u32,
    slow: bool,
}

impl Judge {
    /// The limit counts as the next edge of the histogram that is not below it.
    fn new(limit: Duration) -> Judge {
        let us = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        let edge = SYNC_EDGES_US.partition_point(|edge| *edge < us).min(SYNC_EDGES_US.len() - 1);
        Judge { limit: edge + 1, looks: VecDeque::new(), above: 0, below: 0, slow: false }
    }

    /// Syncs of the last window by bucket.
    fn window(&mut self, now: &SyncHistogram) -> [u64; SYNC_EDGES_US.len() + 1] {
        let before = self.looks.front().copied().unwrap_or(now.buckets);
        self.looks.push_back(now.buckets);
        if self.looks.len() > WINDOW {
            self.looks.pop_front();
        }
        std::array::from_fn(|n| now.buckets[n].saturating_sub(before[n]))
    }

    fn compare(&self, window: &[u64]) -> Window {
        let all: u64 = window.iter().sum();
        let over = |bucket: usize| window[bucket.min(window.len())..].iter().sum::<u64>();
        let (above, near) = (over(self.limit), over(self.limit - 1));
        match () {
            () if all < SLOW_MIN => Window::Quiet,
            () if above >= SLOW_MIN && above * 100 > all => Window::Above,
            () if near * 100 <= all => Window::Below,
            () => Window::Between,
        }
    }

    /// One look. Nothing is learnt from a window without syncs.
    fn look(&mut self, window: &[u64]) {
        match self.compare(window) {
            Window::Quiet => return,
            Window::Above => (self.above, self.below) = (self.above + 1, 0),
            Window::Below => (self.above, self.below) = (0, self.below + 1),
            Window::Between => (self.above, self.below) = (0, 0),
        }
        if self.above >= SLOW_AFTER {
            self.slow = true;
        } else if self.below >= WELL_AFTER {
            self.slow = false;
        }
    }

    /// Fast enough to be handed the lead.
    fn is_well(&self, window: &[u64]) -> bool {
        !self.slow && matches!(self.compare(window), Window::Below | Window::Quiet)
    }
}

/// Upper edge of the bucket in which the 99th of 100 syncs lies, microseconds; `u64::MAX` beyond the last edge.
fn p99(window: &[u64]) -> u64 {
    let all: u64 = window.iter().sum();
    let mut left = all - all / 100;
    for (count, edge) in window.iter().zip(SYNC_EDGES_US.iter().chain([&u64::MAX])) {
        left = left.saturating_sub(*count);
        if left == 0 {
            return if all == 0 { 0 } else { *edge };
        }
    }
    u64::MAX
}

/// Watches the disk until the task is dropped, and hands over when it leads and another disk is better.
pub async fn watch(node: Arc<Node>) {
    let Some(limit) = node.config.slow_sync else { return };
    let mut judge = Judge::new(limit);
    // When the next hand-over may begin, and when it was last said that nobody is better.
    let (mut rests_until, mut said): (Option<Instant>, Option<Instant>) = (None, None);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let log = node.log_metrics();
        let window = judge.window(&log.sync);
        let was = judge.slow;
        judge.look(&window);
        let disk = &node.disk;
        disk.slow.store(judge.slow, Ordering::Relaxed);
        disk.well.store(judge.is_well(&window), Ordering::Relaxed);
        disk.p99_under_us.store(p99(&window), Ordering::Relaxed);
        disk.syncs.store(window.iter().sum(), Ordering::Relaxed);
        node.metrics.disk_slow.set(i64::from(judge.slow));
        match (was, judge.slow) {
            (false, true) => {
                tracing::warn!(limit_ms = limit.as_millis() as u64, "the log's disk is slow: {}", disk.line())
            }
            (true, false) => tracing::info!("the log's disk is well again: {}", disk.line()),
            _ => {}
        }
        let tired = rests_until.is_some_and(|until| Instant::now() < until);
        let unfit = match () {
            () if node.fold.damages.any() => Some("damaged"),
            () if node.full(&log) => Some("full"),
            () if judge.slow => Some("slow"),
            () => None,
        };
        if let Some(why) = unfit
            && node.leads()
            && node.has_peers()
            && !tired
        {
            let tried = hand_over(&node, why).await;
            rests_until = Some(Instant::now() + if tried { REST } else { AGAIN });
            if !tried && said.is_none_or(|at| at.elapsed() >= REST) {
                said = Some(Instant::now());
                tracing::warn!(
                    "the leader's disk is {why}, and no other voter's is better: it goes on to lead"
                );
            }
        }
    }
}

/// Hands over to the voter with the fastest disk among those that are well; keeps the lead when there is none, and says
/// whether there was one.
async fn hand_over(node: &Arc<Node>, why: &'static str) -> bool {
    let voters =
        node.group.members().into_iter().filter(|member| member.voter && member.node != node.config.node_id);
    let mut well: Vec<(u64, u64)> = Vec::new();
    for voter in voters {
        match checkup::peer(node, &voter).await {
            // A node that is full, draining or halted is not ready.
            Ok(found) if found["disk"]["well"] == true && found["ready"] == true => {
                well.push((found["disk"]["p99_under_us"].as_u64().unwrap_or(u64::MAX), voter.node));
            }
            Ok(_) => {}
            Err(told) => tracing::info!(node = voter.node, why = told, "is not asked to lead"),
        }
    }
    well.sort_unstable();
    let tried = !well.is_empty();
    for (_, to) in well {
        match node.group.hand_over(Some(to), HAND_OVER_PATIENCE).await {
            Ok(()) => {
                node.metrics.disk_hand_overs.with_label_values(&[why]).inc();
                tracing::warn!(to, "the lead was handed over: this node's disk is {why}");
                break;
            }
            Err(error) => tracing::warn!(to, %error, "the lead was not handed over"),
        }
    }
    tried
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window of so many syncs of so many microseconds.
    fn window(counts: &[(u64, u64)]) -> [u64; SYNC_EDGES_US.len() + 1] {
        let mut out = [0; SYNC_EDGES_US.len() + 1];
        for (us, count) in counts {
            out[SYNC_EDGES_US.partition_point(|edge| edge < us)] += count;
        }
        out
    }

    fn judge() -> Judge {
        Judge::new(Duration::from_millis(100))
    }

    #[test]
    fn a_disk_is_slow_only_after_it_stayed_so() {
        let mut judge = judge();
        // One in twenty, but an accident each time.
        for _ in 0..100 {
            judge.look(&window(&[(300, 76), (400_000, 4)]));
        }
        assert!(!judge.slow);
        let slow = window(&[(300, 100), (400_000, 5)]);
        judge.look(&slow);
        judge.look(&window(&[(300, 100)]));
        for _ in 1..SLOW_AFTER {
            judge.look(&slow);
            assert!(!judge.slow, "not in a row");
        }
        judge.look(&slow);
        assert!(judge.slow && !judge.is_well(&window(&[(300, 100)])));
    }

    #[test]
    fn it_is_well_again_only_after_a_minute_well_below() {
        let mut judge = judge();
        (0..SLOW_AFTER).for_each(|_| judge.look(&window(&[(200_000, 30)])));
        // Under the limit and not well below it: neither slow again nor well.
        (0..1000).for_each(|_| judge.look(&window(&[(80_000, 30)])));
        assert!(judge.slow);
        // Nobody asked anything of the disk.
        (0..1000).for_each(|_| judge.look(&window(&[])));
        assert!(judge.slow);
        let fast = window(&[(300, 30)]);
        (1..WELL_AFTER).for_each(|_| judge.look(&fast));
        assert!(judge.slow);
        judge.look(&fast);
        assert!(!judge.slow && judge.is_well(&fast));
    }

    #[test]
    fn a_limit_counts_as_the_next_edge() {
        for (ms, above, between) in
            [(100, 100_001, 100_000), (60, 100_001, 60_000), (10_000, 1_000_001, 1_000_000)]
        {
            let judge = Judge::new(Duration::from_millis(ms));
            assert_eq!(judge.compare(&window(&[(above, 10)])), Window::Above, "{ms}");
            assert_eq!(judge.compare(&window(&[(between, 10)])), Window::Between, "{ms}");
            assert_eq!(judge.compare(&window(&[(100, 10)])), Window::Below, "{ms}");
            assert_eq!(judge.compare(&window(&[(above, 4)])), Window::Quiet, "{ms}");
        }
    }

    #[test]
    fn windows_are_differences_and_p99_is_an_edge() {
        let mut judge = judge();
        let at =
            |counts: &[(u64, u64)]| SyncHistogram { buckets: window(counts), ..SyncHistogram::default() };
        assert_eq!(p99(&judge.window(&at(&[(300, 1000)]))), 0);
        assert_eq!(p99(&judge.window(&at(&[(300, 1099), (2_000, 1)]))), 300);
        assert_eq!(p99(&judge.window(&at(&[(300, 1099), (2_000, 3)]))), 2_000);
        assert_eq!(p99(&judge.window(&at(&[(300, 1099), (9_000_000, 30)]))), u64::MAX);
        for _ in 0..WINDOW {
            judge.window(&at(&[(300, 1099), (9_000_000, 30)]));
        }
        let now = judge.window(&at(&[(300, 1099), (9_000_000, 30)]));
        assert_eq!(now.iter().sum::<u64>(), 0, "what is ten seconds old does not count");
    }
}
