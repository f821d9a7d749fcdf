//! How the keys of a log follow each other, as it is found beside its checkpoint: one statement for each set after the first.
//!
//! ```text
//! keys/2.tlog-proof, keys/3.tlog-proof, ..      C2SP tlog-proof, the entry in `extra`
//! ```
//! What a statement has to hold stands in `engine/src/checkpoint/logkeys.rs`. Nothing but the auditor's own key is believed: a
//! chain that does not come to it is refused.

use std::path::Path;

use engine::checkpoint::{KeyStep, LogKeys, Receipt, STEPS_MAX};
use engine::limits::NOTE_MAX;
use serde_json::Value;

use crate::http::Client;
use crate::pack::tiles::read_file;
use crate::report::{Exit, Fault};

/// Longest statement read, bytes: some 13 KB are usual.
pub const STATEMENT_MAX: u64 = 2 * NOTE_MAX as u64;

/// Name of the statement for a set of keys, below the checkpoint's place.
#[must_use]
pub fn name(number: u64) -> String {
    format!("keys/{number}.tlog-proof")
}

fn broken(place: String, why: impl std::fmt::Display) -> Fault {
    let next = "compare with another copy of the log; keep this one as evidence";
    Fault::new("the log's keys do not follow each other", place, why, next).exit(Exit::Tampered)
}

/// Reads statements by their names until there is none; gives their bytes, too.
///
/// # Errors
/// What `get` says; one of them is no receipt with an entry (exit code 2).
pub fn collect(
    mut get: impl FnMut(&str) -> Result<Option<Vec<u8>>, Fault>,
) -> Result<Vec<(KeyStep, Vec<u8>)>, Fault> {
    let mut found = Vec::new();
    for number in 2..STEPS_MAX as u64 + 2 {
        let name = name(number);
        let Some(bytes) = get(&name)? else { break };
        let receipt = Receipt::parse(&bytes).map_err(|error| broken(name.clone(), error))?;
        let extra = receipt.extra.as_deref().unwrap_or_default();
        let extra: Value = serde_json::from_slice(extra).unwrap_or_default();
        let Some(entry) = extra["leaf"].as_str() else { return Err(broken(name, "it carries no entry")) };
        let entry = entry.as_bytes().to_vec();
        found.push((KeyStep { number, receipt, entry }, bytes));
    }
    Ok(found)
}

/// The keys that follow these, or went before, as statements say.
///
/// # Errors
/// Exit code 2, naming the statement that does not hold.
pub fn follow(keys: &LogKeys, steps: &[(KeyStep, Vec<u8>)]) -> Result<LogKeys, Fault> {
    let steps: Vec<KeyStep> = steps.iter().map(|(step, _)| step.clone()).collect();
    keys.follow(&steps).map_err(|step| broken(name(step.number), step.why))
}

/// The same with the statements that the log's server gives.
///
/// # Errors
/// As [`collect`] and [`follow`]; the server cannot be asked.
pub fn follow_at(keys: &LogKeys, client: &mut Client) -> Result<LogKeys, Fault> {
    let region = keys.name().rsplit_once("/pcs/").map_or("default", |(_, region)| region);
    let get = |name: &str| {
        let path = format!("/tlog/{region}/{name}");
        let answer = client.request("GET", &path, &[], &[]);
        let unasked = |why: String| {
            Fault::new("cannot ask how the log's keys follow each other", &path, why, "try again later")
        };
        let answer = answer.map_err(|error| unasked(error.to_string()))?;
        match answer.status {
            200 if answer.body.len() as u64 <= STATEMENT_MAX => Ok(Some(answer.body)),
            200 => Err(unasked("the answer is larger than any statement".into())),
            404 => Ok(None),
            status => Err(unasked(format!("the server answered {status}"))),
        }
    };
    follow(keys, &collect(get)?)
}

/// The same with the statements of a folder.
///
/// # Errors
/// As [`collect`] and [`follow`]; the folder cannot be read.
pub fn follow_in(keys: &LogKeys, dir: &Path) -> Result<LogKeys, Fault> {
    follow(keys, &collect(|name| read_file(&dir.join(name), STATEMENT_MAX))?)
}
