//! Other programs, run to their end or to a deadline.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Said {
    /// Its exit code; `None` if it was ended by a signal or by the deadline.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Said {
    /// What it said on one line, for messages.
    pub fn brief(&self) -> String {
        self.first(300)
    }

    /// The first so many letters of it.
    pub fn first(&self, letters: usize) -> String {
        let words: Vec<&str> = self.err.split_whitespace().chain(self.out.split_whitespace()).collect();
        let text: String = words.join(" ").chars().take(letters).collect();
        format!("exit {:?}: {text}", self.code)
    }
}

/// Runs a program.
///
/// # Errors
/// When it cannot be started.
pub fn run(program: &Path, arguments: &[&str], patience: Duration) -> Result<Said, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let read = |from: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = from.map(|mut from| from.read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let out = read(child.stdout.take().map(|out| Box::new(out) as Box<dyn Read + Send>));
    let err = read(child.stderr.take().map(|err| Box::new(err) as Box<dyn Read + Send>));
    let end = Instant::now() + patience;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            break Some(status);
        }
        if Instant::now() >= end {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = |thread: std::thread::JoinHandle<String>| thread.join().unwrap_or_default();
    Ok(Said { code: status.and_then(|status| status.code()), out: text(out), err: text(err) })
}
