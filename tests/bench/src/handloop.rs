//! The physical limit of a durable append on this machine: a loop written by hand.
//!
//! One thread plays `clients` closed-loop clients with one record of 1 KiB each: it frames all of them (length,
//! CRC32, number), writes the batch with `pwrite` (O_DIRECT) into a file that was zeroed before, calls `fdatasync` and
//! counts them as answered. Nothing is handed to another thread. Everything else is measured as a share of this.

use crate::stats::{Sample, histogram, micros};
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes of one record.
pub const RECORD: usize = 1024;
/// Bytes of a frame's head in the loop.
const HEAD: usize = 24;
/// Alignment of O_DIRECT buffers, offsets and lengths.
const ALIGN: usize = 4096;
/// A batch never exceeds this, whatever the number of clients.
const BATCH_MAX: usize = 4 << 20;

/// A zeroed buffer whose address and length O_DIRECT accepts.
pub struct AlignedBuf {
    start: usize,
    len: usize,
    bytes: Vec<u8>,
}

impl AlignedBuf {
    /// `len` is rounded up to the alignment.
    pub fn new(len: usize) -> AlignedBuf {
        let len = len.next_multiple_of(ALIGN);
        let bytes = vec![0u8; len + ALIGN];
        let start = bytes.as_ptr().align_offset(ALIGN);
        AlignedBuf { start, len, bytes }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

/// The loop and its zeroed file, which is reused from run to run.
pub struct HandLoop {
    path: PathBuf,
    size: u64,
}

impl HandLoop {
    /// Writes `size` zero bytes to a file in `dir` and syncs them.
    pub fn new(dir: &Path, size: u64) -> io::Result<HandLoop> {
        let path = dir.join("handloop");
        let file = std::fs::File::create(&path)?;
        let zeros = vec![0u8; 4 << 20];
        let mut at = 0;
        while at < size {
            file.write_all_at(&zeros, at)?;
            at += zeros.len() as u64;
        }
        file.sync_all()?;
        Ok(HandLoop { path, size: at })
    }

    /// Records a second that `clients` get over `seconds`, after 0.3 s of warm-up.
    pub fn run(&self, clients: usize, seconds: f64) -> io::Result<Sample> {
        let file = std::fs::OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(&self.path)?;
        let mut batch = AlignedBuf::new((clients * (RECORD + HEAD)).min(BATCH_MAX));
        let per_batch = (batch.len() / (RECORD + HEAD)).min(clients);
        let payloads: Vec<u8> = (0..clients).flat_map(|c| record(c as u64 + 1)).collect();
        let mut since = vec![Instant::now(); clients];
        let mut latency = histogram();
        let (mut offset, mut number, mut next) = (0u64, 0u64, 0usize);
        let (mut acks, mut batches) = (0u64, 0u64);
        let warm = Duration::from_millis(300);
        let mut start = Instant::now();
        let mut measuring = false;
        loop {
            let mut filled = 0;
            for i in 0..per_batch {
                let client = (next + i) % clients;
                let payload = &payloads[client * RECORD..(client + 1) * RECORD];
                let frame = &mut batch[filled..filled + HEAD + RECORD];
                frame[..4].copy_from_slice(&(RECORD as u32).to_le_bytes());
                frame[4..8].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
                frame[8..16].copy_from_slice(&number.to_le_bytes());
                frame[HEAD..].copy_from_slice(payload);
                number += 1;
                filled += HEAD + RECORD;
            }
            let len = filled.next_multiple_of(ALIGN);
            batch[filled..len].fill(0);
            if offset + len as u64 > self.size {
                offset = 0;
            }
            file.write_all_at(&batch[..len], offset)?;
            // SAFETY: the descriptor is open for the lifetime of `file`.
            if unsafe { libc::fdatasync(file.as_raw_fd()) } != 0 {
                return Err(io::Error::last_os_error());
            }
            offset += len as u64;
            let now = Instant::now();
            for i in 0..per_batch {
                let client = (next + i) % clients;
                let _ = latency.record((now - since[client]).as_nanos() as u64);
                since[client] = now;
            }
            next = (next + per_batch) % clients;
            acks += per_batch as u64;
            batches += 1;
            let elapsed = now - start;
            if !measuring && elapsed > warm {
                measuring = true;
                (acks, batches, start) = (0, 0, now);
                latency.reset();
            } else if measuring && elapsed.as_secs_f64() >= seconds {
                return Ok(Sample::new(acks as f64 / elapsed.as_secs_f64())
                    .with("syncs/s", batches as f64 / elapsed.as_secs_f64())
                    .with("p50 us", micros(&latency, 0.5))
                    .with("p99 us", micros(&latency, 0.99))
                    .with("p99.9 us", micros(&latency, 0.999)));
            }
        }
    }
}

/// Bytes that nothing can compress; the same for the same `seed`.
pub fn record(seed: u64) -> [u8; RECORD] {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = [0u8; RECORD];
    for word in bytes.chunks_exact_mut(8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        word.copy_from_slice(&x.to_le_bytes());
    }
    bytes
}
