//! What a log has done, counted once.

/// Counters since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes handed to the device: batches, headers, footers, manifest.
    pub bytes_written: u64,
    /// Bytes of zeros written to prepare segments.
    pub bytes_zeroed: u64,
    /// Syncs that returned, of batches and everything else.
    pub syncs: u64,
    /// Batches sent to the disk.
    pub batches: u64,
    /// Frames in them.
    pub frames: u64,
    /// Payload bytes in them.
    pub payload_bytes: u64,
    /// Number of the segment being written.
    pub segments: u64,
    /// Segments sealed.
    pub sealed: u64,
    /// Batches by the time from submission to durable: bucket `k` counts those under `2^k` microseconds and not
    /// under `2^(k-1)`; the last bucket counts the rest.
    pub sync_micros: [u64; SYNC_BUCKETS],
    /// Sum of those times, nanoseconds.
    pub sync_nanos: u64,
}

/// Buckets of [`Stats::sync_micros`]: up to about eight seconds, and more.
pub const SYNC_BUCKETS: usize = 24;

impl Stats {
    pub(crate) fn note_sync(&mut self, nanos: u64) {
        let micros = nanos / 1000;
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        self.sync_micros[bucket.min(SYNC_BUCKETS - 1)] += 1;
        self.sync_nanos = self.sync_nanos.saturating_add(nanos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_the_bucket_named_after_their_bound() {
        let mut stats = Stats::default();
        for (micros, bucket) in
            [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (1000, 10), (u64::MAX / 1000, SYNC_BUCKETS - 1)]
        {
            let before = stats.sync_micros[bucket];
            stats.note_sync(micros * 1000);
            assert_eq!(stats.sync_micros[bucket], before + 1, "{micros}");
        }
    }
}
