//! Why the log does not open, and why it does not append.

use std::io;

use engine::log::Lsn;

use crate::damage::Damage;
use crate::segment::BlockFlaw;

/// Why a log does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk refused.
    #[error("cannot {doing}: {error}")]
    Disk {
        /// What was tried, as `verb noun`.
        doing: String,
        /// The disk's answer.
        error: io::Error,
    },
    /// The disk refuses to give some of a segment: a latent error of the medium, as a rule.
    #[error("segment {segment} cannot be read: {error}")]
    Unreadable {
        /// Number of the segment.
        segment: u64,
        /// The disk's answer.
        error: io::Error,
    },
    /// Something durable is missing or changed. Restore the
    /// segment from a copy, or this node from its peers.
    #[error("the log is corrupt: {0}")]
    Corrupt(Damage),
    /// A segment the manifest speaks of is not there.
    #[error("segment {number} ({name}) is missing; the manifest says segments 1 to {last} exist", name = crate::segment::segment_name(*number))]
    MissingSegment {
        /// Which.
        number: u64,
        /// How many there should be.
        last: u64,
    },
    /// There are segments, and no manifest.
    #[error("there are segments but no manifest: restore it from a copy, or start with an empty directory")]
    MissingManifest,
    /// The files belong to another log.
    #[error("this is the log of cluster {cluster}, region {region}, not ours: check the data directory")]
    Foreign {
        /// Cluster found, hex.
        cluster: String,
        /// Region found.
        region: String,
    },
    /// Written under other limits.
    #[error("written under other limits ({found:016x}, ours are {ours:016x}): use the program that wrote it")]
    Limits {
        /// Fingerprint found.
        found: u64,
        /// Fingerprint of this program.
        ours: u64,
    },
    /// Written in another version of the format.
    #[error("written in format {found}, this program reads {ours}: use a newer program")]
    Version {
        /// Version found.
        found: u32,
        /// Version of this program.
        ours: u32,
    },
    /// The options cannot be.
    #[error("options: {0}")]
    Options(&'static str),
    /// The visitor of the frames refused one.
    #[error("the log was refused at segment {segment}, offset {offset}: {reason}")]
    Refused {
        /// Number of the segment.
        segment: u64,
        /// Offset of the frame in it, bytes.
        offset: u64,
        /// What the visitor said.
        reason: String,
    },
}

impl OpenError {
    pub(crate) fn disk(doing: impl Into<String>) -> impl FnOnce(io::Error) -> OpenError {
        let doing = doing.into();
        move |error| OpenError::Disk { doing, error }
    }

    pub(crate) fn unreadable(segment: u64) -> impl Fn(io::Error) -> OpenError {
        move |error| OpenError::Unreadable { segment, error }
    }

    /// The segment that is damaged, missing or unreadable, if that is what is wrong; 0 is the manifest.
    #[must_use]
    pub fn damaged(&self) -> Option<u64> {
        match self {
            OpenError::Corrupt(damage) => Some(damage.segment),
            OpenError::MissingSegment { number, .. } => Some(*number),
            OpenError::Unreadable { segment, .. } => Some(*segment),
            _ => None,
        }
    }

    pub(crate) fn block(flaw: BlockFlaw, segment: u64, offset: u64, lsn: Lsn) -> OpenError {
        match flaw {
            BlockFlaw::Bad(flaw) => OpenError::Corrupt(flaw.within(offset).in_segment(segment, lsn)),
            BlockFlaw::Version(found) => OpenError::Version { found, ours: crate::segment::FORMAT_VERSION },
            BlockFlaw::Limits(found) => OpenError::Limits { found, ours: engine::limits::fingerprint() },
        }
    }
}

/// Why the log did not append.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// No further segment could be prepared, as a rule because the disk is full (ENOSPC, EDQUOT). Nothing of the
    /// frame was appended, everything before it is untouched, reads go on, and the same append may succeed
    /// once there is room.
    #[error("no room for another segment: {0}")]
    Full(io::Error),
    /// A write or sync failed earlier. Nothing more is accepted until the log has been reopened (S3).
    #[error("the log stopped after a failed write; restart to recover what is durable")]
    Failed,
    /// The frame is larger than a batch can be.
    #[error("a frame of {bytes} bytes is larger than {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The largest possible here.
        max: usize,
    },
    /// The frame does not follow what was appended, or would void something committed.
    #[error("position {found} does not follow: expected {expected}")]
    OutOfOrder {
        /// The position that would have been right; for a truncation the lowest that would.
        expected: Lsn,
        /// The frame's.
        found: Lsn,
    },
    /// A write, sync or read failed now. After a failed write or sync the log has stopped (S3).
    #[error("disk: {0}")]
    Disk(#[from] io::Error),
    /// Stored bytes are not what was written.
    #[error("{0}")]
    Corrupt(Damage),
}
