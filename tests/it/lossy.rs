//! A mounted lossyfs, or the reason why there is none.

use crate::bins;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

/// A mount that disappears with its test.
pub struct Lossy {
    daemon: Child,
    // Closing it tells the daemon to unmount.
    alive: Option<ChildStdin>,
    mountpoint: tempfile::TempDir,
}

/// Mounts, or says why the test does not run.
pub fn mount() -> Option<Lossy> {
    try_mount().map_err(|reason| skip(&reason)).ok()
}

/// The test harness knows passed and failed only, so a skipped test is written where it cannot be overlooked: past
/// the harness to standard error, and into a file that the test command counts.
pub fn skip(reason: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("SKIPPED {name} (counts as not run): {reason}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    let list = bins::root().join("target/skipped.txt");
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(list);
    opened.and_then(|mut list| list.write_all(line.as_bytes())).expect("the list of skipped tests");
}

fn try_mount() -> Result<Lossy, String> {
    if !Path::new("/dev/fuse").exists() {
        return Err("/dev/fuse is missing".to_owned());
    }
    let mountpoint = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut daemon = Command::new(bins::path("lossyfs"))
        .arg(mountpoint.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut line = String::new();
    let output = daemon.stdout.take().expect("piped");
    BufReader::new(output).read_line(&mut line).map_err(|error| error.to_string())?;
    if line.trim() != "mounted" {
        let said = daemon.wait_with_output().map_err(|error| error.to_string())?;
        return Err(format!("lossyfs cannot mount here: {}", String::from_utf8_lossy(&said.stderr).trim()));
    }
    let alive = daemon.stdin.take();
    Ok(Lossy { daemon, alive, mountpoint })
}

impl Lossy {
    /// A path below the mount.
    pub fn path(&self, name: &str) -> PathBuf {
        self.mountpoint.path().join(name)
    }

    /// Gives a command to the file system.
    pub fn order(&self, command: &str) {
        let written = std::fs::OpenOptions::new()
            .write(true)
            .open(self.path(".ctl"))
            .and_then(|mut control| control.write_all(command.as_bytes()));
        written.unwrap_or_else(|error| panic!("lossyfs refused {command:?}: {error}"));
    }

    /// One number of its tally.
    pub fn tally(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(self.path(".ctl")).expect("the tally");
        let value = text.split_whitespace().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        drop(self.alive.take());
        let _ = self.daemon.wait();
    }
}
