//! How regions that differ are brought together again: what is proposed, who decides, and what came of it.
//!
//! Such an event says what somebody decided; it changes no record, no outcome and no leaf.

use alloc::string::String;
use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use super::{tag, time};
use crate::codec::{DecodeError, Reader, put8, put16};

/// Longest reason, bytes.
pub const REASON_MAX: usize = 255;

/// Longest subject, bytes.
pub const SUBJECT_MAX: usize = 512;

/// The highest score: nothing can go wrong.
pub const SCORE_MAX: u16 = 1000;

/// What is proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Remedy {
    /// Fetch again what the place of another region holds, and take it in.
    ReplayMissing,
    /// Two contents were first under one name: the one that the rule gives stands, and the conflict counts as settled.
    ChooseFirst,
    /// A person looks, and says with a reason that it is known.
    ManualReview,
}

impl Remedy {
    /// Every remedy.
    pub const ALL: [Remedy; 3] = [Remedy::ReplayMissing, Remedy::ChooseFirst, Remedy::ManualReview];

    /// Its name in tables and documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Remedy::ReplayMissing => "replay-missing",
            Remedy::ChooseFirst => "choose-first",
            Remedy::ManualReview => "manual-review",
        }
    }

    /// Its number in the log.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Remedy::ReplayMissing => 1,
            Remedy::ChooseFirst => 2,
            Remedy::ManualReview => 3,
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Remedy, DecodeError> {
        let number = reader.u8("remedy")?;
        Remedy::ALL
            .into_iter()
            .find(|remedy| remedy.number() == number)
            .ok_or(DecodeError::UnknownTag(number))
    }
}

/// One step of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is opened.
    Proposed {
        /// What would be done.
        remedy: Remedy,
        /// How safe that is, 0 to [`SCORE_MAX`].
        score: u16,
        /// What it is about, so that whoever finds it again finds the same case; at most [`SUBJECT_MAX`] bytes.
        subject: String,
    },
    /// It may be done.
    Approved,
    /// It is not to be done.
    Refused,
    /// It was done.
    Effected,
}

impl Step {
    /// Its name in tables and documents.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Step::Proposed { .. } => "proposed",
            Step::Approved => "approved",
            Step::Refused => "refused",
            Step::Effected => "effected",
        }
    }

    fn number(&self) -> u8 {
        match self {
            Step::Proposed { .. } => 1,
            Step::Approved => 2,
            Step::Refused => 3,
            Step::Effected => 4,
        }
    }
}

/// The name of a case: the beginning of a hash over what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaseId(pub [u8; 8]);

impl CaseId {
    /// The case of this remedy about this subject.
    #[must_use]
    pub fn of(remedy: Remedy, subject: &str) -> CaseId {
        let mut bytes = Vec::with_capacity(32 + subject.len());
        bytes.extend_from_slice(b"flk case 1\n");
        bytes.push(remedy.number());
        bytes.extend_from_slice(subject.as_bytes());
        let hash = Sha256::digest(&bytes);
        let mut id = [0; 8];
        id.copy_from_slice(&hash[..8]);
        CaseId(id)
    }

    /// From sixteen hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<CaseId> {
        let good = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = good.then(|| u64::from_str_radix(text, 16).ok()).flatten()?;
        Some(CaseId(number.to_be_bytes()))
    }
}

impl core::fmt::Display for CaseId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A step of a case, as it is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconciled {
    /// When, by the leader's clock, milliseconds since the Unix epoch. Not part of log time.
    pub at_ms: u64,
    /// Which case.
    pub case: CaseId,
    /// Whether an administrator decided it; else the node did, by its settings.
    pub by_person: bool,
    /// Why, in words; at most [`REASON_MAX`] bytes.
    pub reason: String,
    /// What happened.
    pub step: Step,
}

impl Reconciled {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.reason.len() <= REASON_MAX, "a reason is within its bound");
        out.push(tag::RECONCILED);
        out.extend_from_slice(&self.at_ms.to_le_bytes());
        out.extend_from_slice(&self.case.0);
        out.push(u8::from(self.by_person));
        put8(out, self.reason.as_bytes());
        out.push(self.step.number());
        if let Step::Proposed { remedy, score, subject } = &self.step {
            assert!(subject.len() <= SUBJECT_MAX, "a subject is within its bound");
            assert!(*score <= SCORE_MAX, "a score is within its bound");
            out.push(remedy.number());
            out.extend_from_slice(&score.to_le_bytes());
            put16(out, subject.as_bytes());
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Reconciled, DecodeError> {
        let at_ms = time(reader)?;
        let case = CaseId(reader.array("case")?);
        let by_person = reader.bool("by a person")?;
        let reason = core::str::from_utf8(reader.bytes8(REASON_MAX, "reason")?);
        let reason = reason.map_err(|_| DecodeError::OutOfBounds("reason"))?.into();
        let step = match reader.u8("step")? {
            1 => {
                let remedy = Remedy::read(reader)?;
                let score = reader.u16("score")?;
                if score > SCORE_MAX {
                    return Err(DecodeError::OutOfBounds("score"));
                }
                Step::Proposed { remedy, score, subject: reader.text16(SUBJECT_MAX, "subject")? }
            }
            2 => Step::Approved,
            3 => Step::Refused,
            4 => Step::Effected,
            unknown => return Err(DecodeError::UnknownTag(unknown)),
        };
        Ok(Reconciled { at_ms, case, by_person, reason, step })
    }
}
