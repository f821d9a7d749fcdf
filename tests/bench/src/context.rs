//! What every row gets: where to work, how long, how often, and the guard against a disk that does not sync.

use crate::honest::Device;
use std::cell::OnceCell;
use std::io;
use std::path::{Path, PathBuf};

use crate::handloop::HandLoop;

/// Shared by all rows of one invocation.
pub struct Context {
    /// Scratch directory on the device that is measured.
    pub dir: PathBuf,
    pub device: Device,
    /// Alternating runs of each side.
    pub runs: usize,
    /// Length of one measured window, s.
    pub seconds: f64,
    /// Smaller sizes everywhere.
    pub quick: bool,
    /// Also the sizes that take very long.
    pub long: bool,
    /// Of P1, only the rows whose description holds this.
    pub only: Option<String>,
    /// Where `flkd`, `flk` and `worm` are.
    pub binaries: PathBuf,
    /// The `peers` binary.
    pub peers: PathBuf,
    handloop: OnceCell<HandLoop>,
}

impl Context {
    pub fn new(dir: PathBuf, device: Device, binaries: PathBuf, peers: PathBuf) -> Context {
        Context {
            dir,
            device,
            runs: 3,
            seconds: 4.0,
            quick: false,
            long: false,
            only: None,
            binaries,
            peers,
            handloop: OnceCell::new(),
        }
    }

    /// The hand-written loop over its zeroed file, which is made on first use.
    pub fn handloop(&self) -> io::Result<&HandLoop> {
        if self.handloop.get().is_none() {
            let size = if self.quick { 1 << 30 } else { 2 << 30 };
            let made = HandLoop::new(&self.dir, size)?;
            let _ = self.handloop.set(made);
        }
        Ok(self.handloop.get().expect("set above"))
    }

    /// An empty directory of this name; whatever was there is removed.
    pub fn fresh(&self, name: &str) -> io::Result<PathBuf> {
        let dir = self.dir.join(name);
        remove(&dir)?;
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// `full` or, with `--quick`, `quick`.
    pub fn size<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// Removes a directory tree that may not exist.
pub fn remove(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
