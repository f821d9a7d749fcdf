//! What others said of our checkpoints, and what we said of theirs.
//!
//! Neither has a leaf: a leaf would make the tree grow, a larger tree needs a checkpoint, and the checkpoint would be
//! anchored again, for ever. What stands in these events carries its own proof.

use alloc::string::String;
use alloc::vec::Vec;

use super::{tag, time};
use crate::codec::{DecodeError, Reader, put8, put32};
use crate::limits::NOTE_MAX;

/// Longest evidence in an [`Anchored`], bytes: a time stamp with its chain of certificates is below 16 KiB.
pub const EVIDENCE_MAX: usize = 64 << 10;

/// Longest name of a target, bytes.
pub const TARGET_MAX: usize = 255;

/// What kind of attestation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnchorKind {
    /// A witness's signature line (C2SP cosignature/v1), with its newline.
    Cosignature,
    /// A time stamp over the SHA-256 of the note (RFC 3161, the whole response in DER).
    TimeStamp,
    /// An OpenTimestamps file over the SHA-256 of the note.
    OpenTimestamps,
    /// Where a copy of the note lies that nobody can delete, as text.
    Copy,
}

impl AnchorKind {
    /// Every kind.
    pub const ALL: [AnchorKind; 4] =
        [AnchorKind::Cosignature, AnchorKind::TimeStamp, AnchorKind::OpenTimestamps, AnchorKind::Copy];

    /// Its name in settings, labels and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            AnchorKind::Cosignature => "witness",
            AnchorKind::TimeStamp => "rfc3161",
            AnchorKind::OpenTimestamps => "opentimestamps",
            AnchorKind::Copy => "copy",
        }
    }

    /// Its number in the log.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            AnchorKind::Cosignature => 1,
            AnchorKind::TimeStamp => 2,
            AnchorKind::OpenTimestamps => 3,
            AnchorKind::Copy => 4,
        }
    }
}

/// An outside attestation of one of our checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchored {
    /// When the leader got it, by its clock, milliseconds since the Unix epoch. Not part of log time.
    pub at_ms: u64,
    /// Of which kind.
    pub kind: AnchorKind,
    /// From whom, as configured; for a witness the name of its key. At most [`TARGET_MAX`] bytes.
    pub target: String,
    /// The signed note that was attested, as the log published it.
    pub note: Vec<u8>,
    /// The attestation, at most [`EVIDENCE_MAX`] bytes.
    pub evidence: Vec<u8>,
}

/// We cosign a checkpoint of another log: it continues the one of `old` leaves that we cosigned before. The cosignature is
/// made when this is agreed and durable, and only if `old` is still what stands for that log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// When it was asked for, by the leader's clock, milliseconds since the Unix epoch. Not part of log time.
    pub at_ms: u64,
    /// Leaves under the checkpoint that we cosigned before; 0 for none.
    pub old: u64,
    /// The other log's checkpoint, with its signature.
    pub note: Vec<u8>,
}

impl Anchored {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.target.len() <= TARGET_MAX, "a target's name is within its bound");
        assert!(self.note.len() <= NOTE_MAX, "a note is within its bound");
        assert!(self.evidence.len() <= EVIDENCE_MAX, "evidence is within its bound");
        out.push(tag::ANCHORED);
        out.extend_from_slice(&self.at_ms.to_le_bytes());
        out.push(self.kind.number());
        put8(out, self.target.as_bytes());
        put32(out, &self.note);
        put32(out, &self.evidence);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Anchored, DecodeError> {
        let at_ms = time(reader)?;
        let number = reader.u8("kind of anchor")?;
        let kind = AnchorKind::ALL.into_iter().find(|kind| kind.number() == number);
        let kind = kind.ok_or(DecodeError::UnknownTag(number))?;
        let target = core::str::from_utf8(reader.bytes8(TARGET_MAX, "target")?);
        let target = String::from(target.map_err(|_| DecodeError::OutOfBounds("target"))?);
        let note = reader.bytes32(NOTE_MAX, "signed note")?.to_vec();
        let evidence = reader.bytes32(EVIDENCE_MAX, "evidence")?.to_vec();
        Ok(Anchored { at_ms, kind, target, note, evidence })
    }
}

impl Witnessed {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.note.len() <= NOTE_MAX, "a note is within its bound");
        out.push(tag::WITNESSED);
        out.extend_from_slice(&self.at_ms.to_le_bytes());
        out.extend_from_slice(&self.old.to_le_bytes());
        put32(out, &self.note);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Witnessed, DecodeError> {
        Ok(Witnessed {
            at_ms: time(reader)?,
            old: reader.u64("old size")?,
            note: reader.bytes32(NOTE_MAX, "signed note")?.to_vec(),
        })
    }
}
