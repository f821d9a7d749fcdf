//! What carries a region's shipments to where the other one reads them: as a bucket that is copied to another continent does. It
//! can be cut, and it can take its time.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Valve {
    cut: AtomicBool,
    ended: AtomicBool,
    delay_ms: AtomicU64,
}

/// A link from one directory to another. It ends when it is dropped.
pub struct Link {
    valve: Arc<Valve>,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    /// One that is open.
    pub fn open(from: PathBuf, to: PathBuf) -> Link {
        let valve = Arc::new(Valve::default());
        let theirs = valve.clone();
        let thread = std::thread::spawn(move || {
            while !theirs.ended.load(Ordering::SeqCst) {
                if !theirs.cut.load(Ordering::SeqCst) {
                    let delay = Duration::from_millis(theirs.delay_ms.load(Ordering::SeqCst));
                    // What failed is tried again: a file may go away while it is looked at.
                    let _ = carry(&from, &to, delay, &theirs);
                }
                std::thread::sleep(PAUSE);
            }
        });
        Link { valve, thread: Some(thread) }
    }

    /// Nothing passes, or everything does again.
    pub fn cut(&self, cut: bool) {
        self.valve.cut.store(cut, Ordering::SeqCst);
    }

    /// How long everything takes from now on.
    pub fn delay(&self, delay: Duration) {
        self.valve.delay_ms.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.valve.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Carries what lies there and does not lie here. Bills are looked for first and carried last, so that none is here before its range.
fn carry(from: &Path, to: &Path, delay: Duration, valve: &Valve) -> io::Result<()> {
    for region in names(from)? {
        let (from, to) = (from.join(&region), to.join(&region));
        let old = |path: &Path| {
            let age = std::fs::metadata(path).and_then(|meta| meta.modified());
            age.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age >= delay))
        };
        let missing = |kind: &str| -> io::Result<Vec<PathBuf>> {
            let mut list = names(&from.join(kind))?;
            list.sort();
            let paths = list.into_iter().map(|name| PathBuf::from(kind).join(name));
            Ok(paths.filter(|path| !to.join(path).exists() && old(&from.join(path))).collect())
        };
        let bills = missing("bills")?;
        for path in missing("chunks")?.into_iter().chain(bills) {
            if valve.cut.load(Ordering::SeqCst) {
                return Ok(());
            }
            copy(&from.join(&path), &to.join(&path))?;
        }
        for name in names(&from.join("mirrors"))? {
            let path = PathBuf::from("mirrors").join(name);
            let (from, to) = (from.join(&path), to.join(&path));
            if old(&from) && std::fs::read(&from).ok() != std::fs::read(&to).ok() {
                copy(&from, &to)?;
            }
        }
    }
    Ok(())
}

/// Copies a file so that it is there whole or not at all.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let folder = to.parent().unwrap_or(to);
    std::fs::create_dir_all(folder)?;
    let part = folder.with_extension("part");
    std::fs::copy(from, &part)?;
    std::fs::rename(part, to)
}

/// Names in a directory; none, if it is not there. What `object_store` has not finished has a `#` in its name.
pub fn names(dir: &Path) -> io::Result<Vec<String>> {
    let list = match std::fs::read_dir(dir) {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let names = list.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| !name.contains('#')).collect())
}
