//! What the fold hands to the thread that writes the projections.

use super::tiles::{Published, Statement};
use engine::log::Digest;
use raft::Standing;
use segments::runs::Syncing;
use std::path::PathBuf;

/// Leaves in log order.
#[derive(Default)]
pub struct Leaves {
    /// Index of the first.
    pub(super) first: u64,
    pub(super) lines: Vec<u8>,
    /// End of each line, its event time, its hash.
    pub(super) marks: Vec<(usize, u64, Digest)>,
}

impl Leaves {
    /// None yet, with room for as much as these hold: the next batch of a busy log is much like the last.
    pub fn as_large_as(other: &Leaves) -> Leaves {
        let (lines, marks) = (other.lines.len(), other.marks.len());
        Leaves { first: 0, lines: Vec::with_capacity(lines), marks: Vec::with_capacity(marks) }
    }

    /// Adds the next leaf.
    pub fn push(&mut self, seq: u64, time_ms: u64, leaf: &[u8], hash: Digest) {
        if self.marks.is_empty() {
            self.first = seq;
        }
        assert_eq!(seq, self.first + self.marks.len() as u64, "T1: leaves are handed over in order");
        self.lines.extend_from_slice(leaf);
        self.marks.push((self.lines.len(), time_ms, hash));
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }
}

/// Something to write.
pub enum Work {
    /// Leaves.
    Leaves(Leaves),
    /// A checkpoint, after the leaves under it.
    Publish(Published),
    /// Why a set of the log's keys is believed, after the leaves under its checkpoint.
    Statement(Statement),
    /// The log's public keys, and where they go.
    Keys(PathBuf, String),
    /// The ledger as it stands after everything before, once its rows are durable.
    Snapshot(Standing, Vec<u8>, Syncing),
}

impl Work {
    /// What it holds in memory, bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Work::Leaves(leaves) => leaves.lines.len() + leaves.marks.len() * 48,
            Work::Publish(_) => 4096,
            Work::Statement(statement) => statement.entry.len() + statement.note.len(),
            Work::Keys(_, text) => text.len(),
            Work::Snapshot(_, bytes, _) => bytes.len(),
        }
    }
}
