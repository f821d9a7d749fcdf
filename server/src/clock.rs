//! The edge where time and randomness enter. Nothing behind the door reads a clock or draws a random byte.

use std::cell::RefCell;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Source of time for admission and deadlines; tests bring their own.
pub trait Clock: Send + Sync + 'static {
    /// Wall time, ms since the epoch. May step backwards; the door makes it monotonic.
    fn wall_ms(&self) -> u64;
    /// Time that never steps, ns since an arbitrary start.
    fn monotonic_ns(&self) -> u64;
}

/// The machine's clocks.
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Starts counting now.
    pub fn new() -> SystemClock {
        SystemClock { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn wall_ms(&self) -> u64 {
        #[allow(clippy::disallowed_methods)] // this is where wall time enters
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Milliseconds since the machine started, exact to one tick of its timer (1 to 10 ms): for deadlines that are
/// asked several times a request.
pub fn coarse_ms() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, which lives here; this clock always exists on Linux.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut time) } != 0;
    if failed { 0 } else { time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000 }
}

const POOL: usize = 4096;

thread_local! {
    static SALTS: RefCell<(Box<[u8; POOL]>, usize)> = RefCell::new((Box::new([0; POOL]), POOL));
}

/// Sixteen random bytes from the operating system, fetched in pages so that a submission does not pay a
/// system call of its own. Used bytes are wiped.
///
/// # Errors
/// When the operating system gives no randomness; the caller then refuses the submission.
pub fn salt() -> Result<[u8; 16], getrandom::Error> {
    SALTS.with(|cell| {
        let (pool, used) = &mut *cell.borrow_mut();
        if *used + 16 > POOL {
            getrandom::fill(&mut pool[..])?;
            *used = 0;
        }
        let mut out = [0; 16];
        out.copy_from_slice(&pool[*used..*used + 16]);
        pool[*used..*used + 16].fill(0);
        *used += 16;
        Ok(out)
    })
}

/// A clock that tests set by hand.
#[derive(Default)]
pub struct ManualClock {
    /// Wall time, ms.
    pub wall: std::sync::atomic::AtomicU64,
    /// Monotonic time, ns.
    pub monotonic: std::sync::atomic::AtomicU64,
}

impl Clock for ManualClock {
    fn wall_ms(&self) -> u64 {
        self.wall.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn monotonic_ns(&self) -> u64 {
        self.monotonic.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn salts_do_not_repeat() {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            assert!(seen.insert(salt().unwrap()));
        }
    }
}
