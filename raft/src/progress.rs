//! How far this node has come, readable from any thread without a lock.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use engine::log::Lsn;

/// Upper edges of the sync histogram in microseconds; the last bucket is open.
pub const SYNC_EDGES_US: [u64; 16] =
    [25, 50, 75, 100, 150, 200, 300, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000];

/// Counters written by the log actor and the state machine, one writer each.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    durable: AtomicU64,
    applied: AtomicU64,
    committed: AtomicU64,
    failed: AtomicBool,
    sealed: AtomicU64,
    batches: AtomicU64,
    frames: AtomicU64,
    bytes: AtomicU64,
    last_sync_us: AtomicU64,
    sync_us_total: AtomicU64,
    sync_buckets: [AtomicU64; SYNC_EDGES_US.len() + 1],
}

/// How long writes took from hand-over to durable, by bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncHistogram {
    /// Number of batches in each bucket of [`SYNC_EDGES_US`], then those above the last edge.
    pub buckets: [u64; SYNC_EDGES_US.len() + 1],
    /// The sum of all, in microseconds.
    pub total_us: u64,
    /// The newest, in microseconds.
    pub last_us: u64,
}

impl Progress {
    pub(crate) fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    pub(crate) fn set_durable(&self, lsn: Lsn) {
        self.durable.store(lsn.0, Ordering::Release);
    }

    pub(crate) fn applied(&self) -> Lsn {
        Lsn(self.applied.load(Ordering::Acquire))
    }

    pub(crate) fn set_applied(&self, lsn: Lsn) {
        self.applied.store(lsn.0, Ordering::Release);
    }

    pub(crate) fn committed(&self) -> Lsn {
        Lsn(self.committed.load(Ordering::Acquire))
    }

    pub(crate) fn set_committed(&self, lsn: Lsn) {
        self.committed.store(lsn.0, Ordering::Release);
    }

    pub(crate) fn sealed(&self) -> u64 {
        self.sealed.load(Ordering::Relaxed)
    }

    pub(crate) fn set_sealed(&self, segment: u64) {
        self.sealed.store(segment, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub(crate) fn set_failed(&self) {
        self.failed.store(true, Ordering::Release);
    }

    /// One batch of `frames` frames and `bytes` payload became durable after `took`.
    pub(crate) fn batch(&self, frames: u64, bytes: u64, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = SYNC_EDGES_US.partition_point(|edge| *edge < us);
        self.sync_buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.last_sync_us.store(us, Ordering::Relaxed);
        self.sync_us_total.fetch_add(us, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.frames.fetch_add(frames, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    pub(crate) fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn sync_histogram(&self) -> SyncHistogram {
        SyncHistogram {
            buckets: std::array::from_fn(|n| self.sync_buckets[n].load(Ordering::Relaxed)),
            total_us: self.sync_us_total.load(Ordering::Relaxed),
            last_us: self.last_sync_us.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_falls_into_the_bucket_of_its_edge() {
        let progress = Progress::default();
        for us in [0, 25, 26, 1_000_000, 1_000_001] {
            progress.batch(1, 10, Duration::from_micros(us));
        }
        let histogram = progress.sync_histogram();
        assert_eq!((histogram.buckets[0], histogram.buckets[1]), (2, 1));
        assert_eq!((histogram.buckets[15], histogram.buckets[16]), (1, 1));
        assert_eq!(histogram.last_us, 1_000_001);
        assert_eq!((progress.batches(), progress.frames(), progress.bytes()), (5, 5, 50));
    }
}
