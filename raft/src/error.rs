//! What can go wrong at the edge of this crate. A variant exists only where a caller branches on it.

use std::io;

/// A proposal was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// The batch is empty or beyond `RECORD_EVENTS_MAX` or `RECORD_BYTES_MAX`. Nothing was written.
    #[error("a batch of {events} events and {bytes} bytes is not within the bounds of one record")]
    OutOfBounds {
        /// Events in it.
        events: usize,
        /// Their encoded size.
        bytes: usize,
    },
    /// This node does not lead. Nothing was written; `leader` does, if known.
    #[error("this node does not lead")]
    NotLeader {
        /// The node to ask instead.
        leader: Option<u64>,
    },
    /// The disk has no room for another batch. Nothing was written (F8); reads go on.
    #[error("the disk is full")]
    NoSpace,
    /// The group has shut down or failed before it took the batch. Nothing was written.
    #[error("the group has stopped")]
    Stopped,
    /// The batch was taken and its fate is not known: it may be in the log, or may yet appear in it.
    /// Retrying is safe, since the first submission wins.
    #[error("the batch may or may not be in the log")]
    Unknown,
}

/// A group could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log could not be opened or recovered.
    #[error("the log cannot be opened: {0}")]
    Log(#[from] segments::OpenError),
    /// The log or the machine hold something that cannot be, or the operating system refused.
    #[error("the group cannot be opened: {0}")]
    Io(#[from] io::Error),
    /// Raft refused what it found.
    #[error("the group cannot be opened: {0}")]
    Raft(String),
}

/// A read cannot be answered here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// This node does not lead.
    #[error("this node does not lead")]
    NotLeader {
        /// The node to ask instead.
        leader: Option<u64>,
    },
    /// The group has shut down or failed, or lost its quorum.
    #[error("the group has stopped")]
    Stopped,
}

/// The membership was not changed, or the lead not handed over.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// This node does not lead.
    #[error("this node does not lead")]
    NotLeader {
        /// The node to ask instead.
        leader: Option<u64>,
    },
    /// No such node.
    #[error("node {0} is not in the group")]
    Unknown(u64),
    /// A learner lacks too much of the log to be given a vote.
    #[error("node {node} lacks {lag} entries; try again when it has caught up")]
    Behind {
        /// The learner.
        node: u64,
        /// Entries it lacks.
        lag: u64,
    },
    /// It cannot be done, for people.
    #[error("{0}")]
    Refused(String),
    /// The group has shut down or failed; whether the change took effect is unknown.
    #[error("the group has stopped")]
    Stopped,
}

/// The group cannot go on. The process must end and recover from disk; nothing in it may be trusted
/// to answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the group has failed: {reason}")]
pub struct Failure {
    /// For people.
    pub reason: String,
}
