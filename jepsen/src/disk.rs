//! A node's disk: a mounted lossyfs, which loses, tears, refuses, rots and dawdles when it is told to.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A mount; it ends with this process, whose mount namespace nobody else sees.
pub struct Disk {
    _daemon: Child,
    root: PathBuf,
}

impl Disk {
    /// Mounts.
    ///
    /// # Errors
    /// Why there is no such mount here.
    pub fn mount(program: &Path, root: &Path) -> Result<Disk, String> {
        std::fs::create_dir_all(root).map_err(|error| format!("{}: {error}", root.display()))?;
        let mut daemon = Command::new(program)
            .arg(root)
            // The daemon unmounts when this end closes.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let mut line = String::new();
        let output = daemon.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).map_err(|error| error.to_string())?;
        if line.trim() != "mounted" {
            return Err("lossyfs cannot mount here".to_owned());
        }
        Ok(Disk { _daemon: daemon, root: root.to_owned() })
    }

    /// A path on this disk.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Gives a command to the file system.
    ///
    /// # Errors
    /// When it is refused.
    pub fn order(&self, command: &str) -> Result<(), String> {
        let control = std::fs::OpenOptions::new().write(true).open(self.path(".ctl"));
        let written = control.and_then(|mut control| control.write_all(command.as_bytes()));
        written.map_err(|error| format!("lossyfs refused {command:?}: {error}"))
    }

    /// One number of its tally; 0 for a name it does not know.
    pub fn tally(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(self.path(".ctl")).unwrap_or_default();
        let value = text.split_whitespace().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}
