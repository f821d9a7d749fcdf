//! The auditor's and operator's programs, run as a user runs them.

use crate::bins;
use std::path::Path;
use std::process::{Command, Output};

/// What a program said and how it ended.
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Everything, for messages.
    pub fn all(&self) -> String {
        format!("exit {:?}\n{}{}", self.code, self.out, self.err)
    }
}

fn run(program: &str, arguments: &[&str]) -> Said {
    let Output { status, stdout, stderr } =
        Command::new(bins::path(program)).args(arguments).output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// `worm` with arguments.
pub fn worm(arguments: &[&str]) -> Said {
    run("worm", arguments)
}

/// `flk` with arguments.
pub fn flk(arguments: &[&str]) -> Said {
    run("flk", arguments)
}

/// `worm verify` of a data directory, without any secret.
pub fn verify(data: &Path) -> Said {
    worm(&["verify", data.to_str().expect("a text path")])
}

/// The directory verifies, and a replay of its log from nothing equals what the node attested.
pub fn insist_sound(data: &Path) {
    let said = verify(data);
    assert_eq!(said.code, Some(0), "worm verify: {}", said.all());
    let said = flk(&["replay", data.to_str().expect("a text path")]);
    assert_eq!(said.code, Some(0), "flk replay: {}", said.all());
}
