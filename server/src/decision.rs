//! What was decided about one submission, on its way from the fold to the request that waits for it.
//!
//! The fold decides in log order and is one thread; the bytes of an answer are made by the request that gets
//! them, which are many.

use crate::http::refusal::{Problem, Refusal};
use crate::receipts::Round;
use crate::verdicts::Judging;
use bytes::Bytes;
use engine::ledger::{First, Outcome};
use engine::log::Lsn;
use engine::summary::{Answer, Judged, PcsId, Policy, Signals, Sound, Unsound, Verdict, answer_json};
use std::sync::Arc;

/// Whether an answer is the first one for its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// It is.
    First,
    /// The same submission came before; this is its first answer.
    Same,
    /// The id came before with other content; this is the first answer. Bits name the fields that differ.
    Different(u16),
}

impl Replay {
    /// Value of the header `Idempotent-Replayed`.
    pub fn header(self) -> Option<&'static str> {
        match self {
            Replay::First => None,
            Replay::Same => Some("true"),
            Replay::Different(_) => Some("conflict"),
        }
    }
}

/// A judgement that outlives the fold's step.
pub enum Kept {
    /// One of a batch.
    InBatch(Arc<Judging>, usize),
    /// Made again under newer keys.
    Own(Box<Judged>, Arc<Policy>),
}

impl Kept {
    fn pair(&self) -> Option<(&Judged, &Policy)> {
        match self {
            Kept::InBatch(judging, nth) => Some((judging.judged(*nth)?, judging.policy())),
            Kept::Own(judged, policy) => Some((judged, policy)),
        }
    }
}

/// Where the bytes of an answer come from.
pub enum Source {
    /// This submission's own judgement, at its place in log and tree.
    Judged {
        /// The judgement.
        kept: Kept,
        /// Its record.
        lsn: Lsn,
        /// Its place in the record.
        nth: u32,
        /// Index of its leaf.
        seq: u64,
    },
    /// The first submission of this id.
    First(Box<First>),
}

/// A decision whose record is durable (I6).
pub struct Decision {
    /// Whether it is the first.
    pub replay: Replay,
    /// Where its answer comes from.
    pub source: Source,
    /// What its record added to the tree, if anyone in its batch asked for a receipt.
    pub round: Option<Arc<Round>>,
}

impl Decision {
    fn new(replay: Replay, source: Source) -> Decision {
        Decision { replay, source, round: None }
    }
}

/// A decision, or why there is none.
pub type Decided = Result<Decision, Box<Problem>>;

/// An answer as bytes.
#[derive(Clone, Debug)]
pub struct Settled {
    /// 200 or 202.
    pub status: u16,
    /// The answer's JSON with its newline.
    pub body: Bytes,
    /// Whether it is the first.
    pub replay: Replay,
    /// What it speaks of.
    pub stands: Stands,
}

/// Where the submission stands that an answer speaks of.
#[derive(Clone, Debug)]
pub enum Stands {
    /// In the record that was just folded.
    Now {
        /// That record's leaves, if anyone asked for a receipt.
        round: Option<Arc<Round>>,
        /// Its place in the record.
        nth: u32,
        /// Index of its leaf.
        seq: u64,
    },
    /// In an earlier record.
    Before(Box<First>),
}

/// Status of a verdict: 200 only when there is nothing to look at.
pub fn status(accepted: bool, escalated: bool) -> u16 {
    if accepted && !escalated { 200 } else { 202 }
}

/// The answer's bytes for a verdict; the only place that makes them.
pub fn make(
    verdict: &Verdict,
    summary: Option<(PcsId, Signals)>,
    policy: &Policy,
    lsn: Lsn,
    seq: u64,
) -> (u16, Bytes) {
    let receipt = summary.map(|(id, _)| format!("/v1/receipts/{id}")).unwrap_or_default();
    let answer = Answer { verdict, summary, seq, lsn, policy_version: &policy.version, receipt: &receipt };
    (status(verdict.accepted, verdict.escalated), Bytes::from(answer_json(&answer)))
}

impl Kept {
    /// The judgement.
    pub fn judged(&self) -> Option<&Judged> {
        self.pair().map(|(judged, _)| judged)
    }

    /// The answer this judgement gives at its place.
    ///
    /// # Errors
    /// 500 for a judgement that has no verdict: the fold refuses those and never keeps them.
    pub fn answer(&self, lsn: Lsn, seq: u64) -> Result<(u16, Bytes), Box<Problem>> {
        match self.pair() {
            Some((Judged::Sound(Sound { id, verdict, signals, .. }), policy)) => {
                Ok(make(verdict, Some((*id, *signals)), policy, lsn, seq))
            }
            Some((Judged::Structure(Unsound { verdict, .. }), policy)) => {
                Ok(make(verdict, None, policy, lsn, seq))
            }
            _ => Err(Refusal::Internal.into()),
        }
    }
}

impl From<Refusal> for Box<Problem> {
    fn from(refusal: Refusal) -> Box<Problem> {
        Box::new(Problem::from(refusal))
    }
}

/// Outcome to decision: one match.
pub fn decided(outcome: &Outcome, kept: Kept, lsn: Lsn, nth: u32) -> Decided {
    match outcome {
        Outcome::First { seq, .. } => {
            Ok(Decision::new(Replay::First, Source::Judged { kept, lsn, nth, seq: *seq }))
        }
        Outcome::Duplicate { first } => Ok(Decision::new(Replay::Same, Source::First(Box::new(*first)))),
        Outcome::Conflict { first, fields, .. } => {
            Ok(Decision::new(Replay::Different(*fields), Source::First(Box::new(*first))))
        }
        Outcome::Refused { seq, .. } => match kept.judged() {
            Some(Judged::Malformed(error)) => {
                Err(Box::new(Problem::from(Refusal::InvalidJson).detail(error.to_string())))
            }
            Some(Judged::NoKey) => {
                let detail = "the tenant has no key that is valid now";
                Err(Box::new(Problem::from(Refusal::SignatureInvalid).detail(detail)))
            }
            Some(Judged::BadSignature(why)) => {
                Err(Box::new(Problem::from(Refusal::SignatureInvalid).detail(why.to_string())))
            }
            // Well signed without the structure of a summary: an answer, but nothing under any id.
            _ => Ok(Decision::new(Replay::First, Source::Judged { kept, lsn, nth, seq: *seq })),
        },
        Outcome::Configured { .. } | Outcome::Noted => Err(Refusal::Internal.into()),
    }
}
