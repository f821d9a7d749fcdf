//! P21: figures of durable work are worth nothing if the disk never flushed.
//!
//! Before anything is measured, one small write and sync is timed; under 5 us nothing can have reached a device.
//! Around every durable run the device's own flush counter is read; if it did not move, the run is refused.

use crate::handloop::AlignedBuf;
use crate::rows::{Bound, Row, command};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A sync that returns faster than this did not wait for a device.
pub const SYNC_MIN: Duration = Duration::from_micros(5);

/// Counts what the block device under a directory has flushed.
pub struct Device {
    stat: PathBuf,
    /// Name as in `/sys/block`, for the machine's facts.
    pub name: String,
}

/// The device's counters at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    /// Flush requests completed.
    pub flushes: u64,
    /// Bytes written.
    pub written: u64,
}

impl Device {
    /// Finds the device that holds `dir`.
    ///
    /// # Errors
    /// If the file system has no block device of its own (tmpfs, overlay): then nothing there is durable in a way
    /// that could be checked.
    pub fn of(dir: &Path) -> io::Result<Device> {
        let dev = std::fs::metadata(dir)?.dev();
        let (major, minor) = (libc::major(dev), libc::minor(dev));
        let link = std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).map_err(|e| {
            io::Error::other(format!(
                "{} is on device {major}:{minor}, which is no block device: {e}",
                dir.display()
            ))
        })?;
        // A partition's own `stat` has no flushes of its own on some kernels; its parent's has.
        let whole = if link.join("partition").exists() { link.parent().unwrap_or(&link) } else { &link };
        let name = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Device { stat: whole.join("stat"), name })
    }

    /// Reads the counters.
    ///
    /// # Errors
    /// If the kernel does not count flushes (older than 5.5).
    pub fn counters(&self) -> io::Result<Counters> {
        parse_stat(&std::fs::read_to_string(&self.stat)?)
            .ok_or_else(|| io::Error::other(format!("{} has no flush counter", self.stat.display())))
    }

    /// Runs `work` and tells how many flushes the device did meanwhile.
    ///
    /// # Errors
    /// If there were none: the figures of `work` are then refused.
    pub fn flushed<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<(T, Counters)> {
        let before = self.counters()?;
        let done = work()?;
        let after = self.counters()?;
        let delta =
            Counters { flushes: after.flushes - before.flushes, written: after.written - before.written };
        if delta.flushes == 0 {
            return Err(io::Error::other(format!(
                "device {} did not flush once: figures refused",
                self.name
            )));
        }
        Ok((done, delta))
    }
}

/// Fields of `/sys/block/*/stat`: the 7th counts sectors of 512 bytes written, the 16th flushes.
fn parse_stat(text: &str) -> Option<Counters> {
    let fields: Vec<u64> = text.split_whitespace().map_while(|f| f.parse().ok()).collect();
    Some(Counters { written: fields.get(6)? * 512, flushes: *fields.get(15)? })
}

/// What one write of a block and its sync cost here.
pub struct SyncCost {
    pub p50: Duration,
    pub p99: Duration,
}

/// Times `n` writes of 4 KiB, each followed by fdatasync, over a zeroed file in `dir`.
///
/// # Errors
/// I/O errors, and a median under [`SYNC_MIN`].
pub fn sync_cost(dir: &Path, n: usize) -> io::Result<SyncCost> {
    const BLOCK: usize = 4096;
    let path = dir.join("sync-probe");
    std::fs::write(&path, vec![0u8; BLOCK * n])?;
    let file = std::fs::OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(&path)?;
    file.sync_all()?;
    let block = AlignedBuf::new(BLOCK);
    let mut times = Vec::with_capacity(n);
    for i in 0..n {
        let start = Instant::now();
        file.write_all_at(&block, (i * BLOCK) as u64)?;
        // SAFETY: the descriptor is open for the lifetime of `file`.
        if unsafe { libc::fdatasync(file.as_raw_fd()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        times.push(start.elapsed());
    }
    std::fs::remove_file(&path)?;
    times.sort_unstable();
    let cost = SyncCost { p50: times[n / 2], p99: times[n * 99 / 100] };
    if cost.p50 < SYNC_MIN {
        return Err(io::Error::other(format!(
            "a write and its sync take {:?} in {}: that is no disk, nothing is printed",
            cost.p50,
            dir.display()
        )));
    }
    Ok(cost)
}

/// P21 itself. Printing it at all means that the probe passed; a row whose runs flushed nothing was refused on its own.
pub fn row(sync: &SyncCost, probe: &Counters, flushes: u64) -> Row {
    Row {
        id: "P21",
        what: "median write + fdatasync of 4 KiB, us (refused under 5 us or without flushes)".into(),
        ours: format!("{} us", sync.p50.as_micros()),
        reference: format!(
            "{} flushes of the device during the probe, {flushes} during the rows",
            probe.flushes
        ),
        value: sync.p50.as_secs_f64() * 1e6,
        bound: Bound::AtLeast { floor: SYNC_MIN.as_secs_f64() * 1e6, moonshot: None },
        command: command("P21"),
        notes: Vec::new(),
        refused: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_fields() {
        let line =
            "108198 29226 8277658 26235 20220 54334 14989800 44005 0 17248 71086 8665 40 1793488 799 1290 46";
        let c = parse_stat(line).unwrap();
        assert_eq!((c.flushes, c.written), (1290, 14_989_800 * 512));
        assert!(parse_stat("1 2 3 4 5 6 7 8 9 10 11").is_none());
    }
}
