//! Append engines of others, run by the `peers` binary of the workspace beside this crate.

use crate::context::Context;
use crate::process::tied;
use serde_json::Value;
use std::ffi::OsStr;
use std::io;
use std::process::Command;

/// Runs `peers` and reads its line of JSON.
pub fn run<S: AsRef<OsStr>>(context: &Context, args: &[S]) -> io::Result<Value> {
    let mut child = Command::new(&context.peers);
    let out = tied(child.args(args)).output().map_err(|e| {
        io::Error::new(e.kind(), format!("{}: {e} (tests/bench/run.sh builds it)", context.peers.display()))
    })?;
    if !out.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&out.stderr).trim().to_owned()));
    }
    serde_json::from_slice(&out.stdout).map_err(io::Error::other)
}
