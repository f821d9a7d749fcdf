//! The scrubber: reads sealed segments again and again, slowly, and compares them with their own sums.
//!
//! In a group, what is damaged is repaired from the other nodes at once, while the node runs (`raft`). A node that is
//! alone names it.
//!
//! Rot in a record that nobody asks for would otherwise be met when it is needed: at a replay, by an auditor, or when
//! the last good copy is gone. What is damaged is named, and while anything is, this node takes no submissions: a
//! history with a hole must not grow. Reads go on. A segment that has been restored is found whole by the next pass, and
//! submissions go on; no restart is needed.

use crate::metrics::Metrics;
use engine::log::Lsn;
use segments::{CheckError, Damage, check_sealed_paced};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a log without a sealed segment is looked at.
const EMPTY_PAUSE: Duration = Duration::from_secs(1);

/// Between two passes while something is damaged: somebody may be able to help now.
const DAMAGED_PAUSE: Duration = Duration::from_secs(5);
/// Between two looks whether a repair has ended.
const REPAIR_LOOK: Duration = Duration::from_millis(20);

/// What is known to be damaged. Empty until a scrubber has found something.
#[derive(Debug, Default)]
pub struct Damages {
    found: Mutex<BTreeMap<u64, Damage>>,
    any: AtomicBool,
}

impl Damages {
    /// Whether anything is damaged.
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// The oldest damaged segment, and how many there are.
    pub fn first(&self) -> Option<(Damage, usize)> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.values().next().map(|first| (first.clone(), found.len()))
    }

    /// Notes what a check of segment `number` came to, and says so in the log when it is news.
    fn note(&self, number: u64, damage: Option<Damage>) -> usize {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match damage {
            None => {
                if found.remove(&number).is_some() {
                    tracing::info!(segment = number, "a damaged segment is whole again");
                }
            }
            Some(damage) => {
                if found.get(&number) != Some(&damage) {
                    let Damage { segment, offset, lsn, expected, found } = &damage;
                    tracing::error!(
                        segment,
                        offset,
                        lsn = lsn.0,
                        expected,
                        found,
                        "a sealed segment is damaged: submissions are refused until it is whole again"
                    );
                }
                found.insert(number, damage);
            }
        }
        self.any.store(!found.is_empty(), Ordering::Relaxed);
        found.len()
    }
}

/// How a scrubber works.
pub struct Terms {
    /// Where the segments are.
    pub dir: PathBuf,
    /// Bytes read a second, at most; more than 0.
    pub bytes_per_s: u64,
    /// A pass begins at most this often.
    pub every: Duration,
}

/// Begins to repair a segment; says at its end whether it has been.
pub type Mend = Box<dyn Fn(&Damage) -> tokio::task::JoinHandle<bool> + Send>;

#[derive(Default)]
struct Bell {
    stop: Mutex<bool>,
    rung: Condvar,
}

impl Bell {
    /// Waits so long, or until the end. Returns whether the end has come.
    fn wait(&self, time: Duration) -> bool {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.rung.wait_timeout_while(stop, time, |stop| !*stop);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The thread. Dropping it ends it.
pub struct Scrubber {
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

impl Scrubber {
    /// Starts to scrub; `sealed` says how many segments are sealed.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn start(
        terms: Terms,
        sealed: impl Fn() -> u64 + Send + 'static,
        damages: impl AsRef<Damages> + Send + 'static,
        mend: Mend,
        metrics: Arc<Metrics>,
    ) -> io::Result<Scrubber> {
        let bell = Arc::new(Bell::default());
        let theirs = bell.clone();
        let thread = std::thread::Builder::new().name("flk-scrub".into()).spawn(move || {
            crate::background::give_way(19);
            loop {
                let begun = Instant::now();
                let last = sealed();
                let note = |number, damage| {
                    let damaged = damages.as_ref().note(number, damage);
                    metrics.scrub_damage.set(i64::try_from(damaged).unwrap_or(i64::MAX));
                };
                for number in 1..=last {
                    let mut pace = |bytes| pace(&theirs, terms.bytes_per_s, bytes, &metrics);
                    let Ok(mut damage) = check(&terms.dir, number, &mut pace) else { return };
                    if let Some(found) = &damage {
                        note(number, damage.clone());
                        match repaired(&theirs, mend(found)) {
                            Ok(false) => {}
                            Ok(true) => match check(&terms.dir, number, &mut pace) {
                                Ok(checked) => damage = checked,
                                Err(Ended) => return,
                            },
                            Err(Ended) => return,
                        }
                    }
                    note(number, damage);
                }
                let rest = if last == 0 {
                    EMPTY_PAUSE
                } else {
                    metrics.scrub_passes.inc();
                    let rest = terms.every.saturating_sub(begun.elapsed());
                    if damages.as_ref().any() { rest.min(DAMAGED_PAUSE) } else { rest }
                };
                if theirs.wait(rest) {
                    return;
                }
            }
        })?;
        Ok(Scrubber { bell, thread: Some(thread) })
    }
}

impl Drop for Scrubber {
    fn drop(&mut self) {
        *self.bell.stop.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.rung.notify_all();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

/// The end has come in the middle of a check.
struct Ended;

/// Waits for a repair. Whether the segment has been repaired.
fn repaired(bell: &Bell, mending: tokio::task::JoinHandle<bool>) -> Result<bool, Ended> {
    while !mending.is_finished() {
        if bell.wait(REPAIR_LOOK) {
            return Err(Ended);
        }
    }
    // It has ended, so this does not wait; one that panicked has repaired nothing.
    Ok(futures_util::FutureExt::now_or_never(mending).is_some_and(|ended| ended.unwrap_or(false)))
}

/// Waits until so many more bytes may be read.
fn pace(bell: &Bell, bytes_per_s: u64, bytes: usize, metrics: &Metrics) -> io::Result<()> {
    metrics.scrub_bytes.inc_by(bytes as u64);
    let wait = Duration::from_secs_f64(bytes as f64 / bytes_per_s.max(1) as f64);
    if bell.wait(wait) { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
}

/// What is wrong with a segment that should be sealed.
fn check(
    dir: &Path,
    number: u64,
    pace: &mut dyn FnMut(usize) -> io::Result<()>,
) -> Result<Option<Damage>, Ended> {
    let flaw = |expected: &str, found: String| Damage {
        segment: number,
        offset: 0,
        lsn: Lsn::ZERO,
        expected: expected.into(),
        found,
    };
    match check_sealed_paced(dir, number, pace) {
        Ok(_) => Ok(None),
        Err(CheckError::Damaged(damage)) => Ok(Some(damage)),
        Err(CheckError::NotSealed) => Ok(Some(flaw("a sealed segment", "no footer".into()))),
        Err(CheckError::Io(error)) if error.kind() == io::ErrorKind::Interrupted => Err(Ended),
        Err(CheckError::Io(error)) => Ok(Some(flaw("a file that can be read", error.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_segment_is_damage_and_the_end_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let Ok(Some(damage)) = check(dir.path(), 3, &mut |_| Ok(())) else {
            panic!("segment 3 is not there")
        };
        assert_eq!(damage.segment, 3);
        std::fs::write(dir.path().join(segments::segment_name(3)), [0; 1 << 16]).unwrap();
        assert!(check(dir.path(), 3, &mut |_| Err(io::ErrorKind::Interrupted.into())).is_err());
        let Ok(Some(damage)) = check(dir.path(), 3, &mut |_| Ok(())) else { panic!("zeros are no segment") };
        assert_eq!((damage.segment, damage.offset), (3, 0));
    }

    #[test]
    fn damage_is_known_until_its_segment_is_whole() {
        let damages = Damages::default();
        let damage = |segment| Damage {
            segment,
            offset: 1,
            lsn: Lsn(2),
            expected: "this".into(),
            found: "that".into(),
        };
        assert!(!damages.any() && damages.first().is_none());
        assert_eq!(damages.note(7, Some(damage(7))), 1);
        assert_eq!(damages.note(5, Some(damage(5))), 2);
        assert_eq!(damages.first(), Some((damage(5), 2)));
        assert_eq!(damages.note(5, None), 1);
        assert!(damages.any());
        assert_eq!(damages.note(7, None), 0);
        assert!(!damages.any());
    }
}
