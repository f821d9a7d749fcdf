//! What an operator sees of a group.

use engine::log::Lsn;

pub use crate::progress::{SYNC_EDGES_US, SyncHistogram};

/// What a node is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Receives entries and has no vote.
    Learner,
    /// Receives entries and votes.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Proposes entries.
    Leader,
    /// Does nothing any more.
    Stopped,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Role::Learner => "learner",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
            Role::Stopped => "stopped",
        })
    }
}

/// How long a quorum may be silent before its leader counts as alone: a follower would have stood for election by then.
pub const ALONE_AFTER: std::time::Duration = std::time::Duration::from_secs(2);

/// A view of one node, taken at one moment. Positions are [`Lsn::ZERO`] where there is none yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// This node.
    pub node: u64,
    /// What it is.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// It is the leader of several, and no quorum has answered it for [`ALONE_AFTER`]: another one may lead, and what it is
    /// given is not agreed.
    pub alone: bool,
    /// Who leads, if known.
    pub leader: Option<u64>,
    /// The last entry in its log, durable or not.
    pub last: Lsn,
    /// The last entry that its disk holds for good.
    pub durable: Lsn,
    /// The last entry that is agreed.
    pub committed: Lsn,
    /// The last entry that its machine has applied.
    pub applied: Lsn,
    /// Segments 1 to this are sealed and never change again.
    pub sealed: u64,
    /// Batches written and synced since the process started.
    pub syncs: u64,
    /// Frames in them.
    pub frames: u64,
    /// Payload bytes in them.
    pub bytes: u64,
    /// How long each took.
    pub sync: SyncHistogram,
    /// The disk in use, for example `io_uring`.
    pub backend: &'static str,
    /// Why the disk has no room for the last batch that asked, until it has: submissions are refused meanwhile.
    pub full: Option<String>,
    /// Bytes of entries that are certain to fit without another segment.
    pub room: u64,
    /// Why no further segment could be prepared, until one is.
    pub refused: Option<String>,
    /// A write or sync has failed; nothing more will be written.
    pub failed: bool,
    /// Repairs of this node's log from its peers.
    pub repairs: crate::repair::Repairs,
}
