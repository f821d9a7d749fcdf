//! The auditor's commands: everything they say follows from the bytes of a log and public keys.

pub mod check;
pub mod compare;
pub mod evidence;
pub mod export;
pub mod fetch;
pub mod find;
pub mod lineage;
pub mod lines;
pub mod overview;
pub mod papers;
pub mod population;
pub mod prove;
pub mod reconcile;
pub mod roots;
pub mod tamper;
pub mod tree;
pub mod verify;
pub mod witnesses;

/// A time as auditors write it: UTC with milliseconds.
#[must_use]
pub fn when(ms: u64) -> String {
    jiff::Timestamp::from_millisecond(ms.cast_signed())
        .map_or_else(|_| ms.to_string(), |stamp| stamp.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}
