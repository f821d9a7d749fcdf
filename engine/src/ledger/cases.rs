//! Cases: where regions differ, what is proposed about it, and what was decided.
//!
//! A function of the log's own events alone: a case is opened once, decided once and done once, whatever comes later or twice.
//! Closed cases are forgotten when there are too many; open ones are not, so there is a bound on how many are opened.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use crate::codec::{DecodeError, Reader, put8, put16};
use crate::event::{CaseId, REASON_MAX, Reconciled, Remedy, SCORE_MAX, SUBJECT_MAX, Step};
use crate::limits::CASES_MAX;
use crate::log::Digest;

/// Where a case stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaseState {
    /// Somebody has to decide.
    Open,
    /// It may be done; where there is nothing to do, that is the end.
    Approved,
    /// It is not to be done.
    Refused,
    /// It was done.
    Effected,
}

impl CaseState {
    const ALL: [CaseState; 4] =
        [CaseState::Open, CaseState::Approved, CaseState::Refused, CaseState::Effected];

    /// Its name in tables and documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CaseState::Open => "open",
            CaseState::Approved => "approved",
            CaseState::Refused => "refused",
            CaseState::Effected => "effected",
        }
    }
}

/// One case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its name.
    pub id: CaseId,
    /// What is proposed.
    pub remedy: Remedy,
    /// How safe that is, 0 to [`SCORE_MAX`].
    pub score: u16,
    /// What it is about.
    pub subject: String,
    /// Why that is proposed, and how safe it is.
    pub reason: String,
    /// When, milliseconds since the Unix epoch.
    pub proposed_ms: u64,
    /// Where it stands.
    pub state: CaseState,
    /// When that was decided; 0 while it is open.
    pub decided_ms: u64,
    /// Whether an administrator decided.
    pub by_person: bool,
    /// Why, in the words of whoever decided.
    pub decision: String,
}

impl Case {
    /// Whether something is still to come.
    #[must_use]
    pub fn waits(&self) -> bool {
        match self.state {
            CaseState::Open => true,
            CaseState::Approved => self.remedy == Remedy::ReplayMissing,
            CaseState::Refused | CaseState::Effected => false,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.0);
        out.push(self.remedy.number());
        out.extend_from_slice(&self.score.to_le_bytes());
        put16(out, self.subject.as_bytes());
        put8(out, self.reason.as_bytes());
        out.extend_from_slice(&self.proposed_ms.to_le_bytes());
        out.push(self.state as u8);
        out.extend_from_slice(&self.decided_ms.to_le_bytes());
        out.push(u8::from(self.by_person));
        put8(out, self.decision.as_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Case, DecodeError> {
        let id = CaseId(reader.array("case")?);
        let remedy = Remedy::read(reader)?;
        let score = reader.u16("score")?;
        if score > SCORE_MAX {
            return Err(DecodeError::OutOfBounds("score"));
        }
        let subject = reader.text16(SUBJECT_MAX, "subject")?;
        let reason = reason(reader)?;
        let proposed_ms = reader.u64("proposed")?;
        let state = usize::from(reader.u8("state of a case")?);
        let state = *CaseState::ALL.get(state).ok_or(DecodeError::OutOfBounds("state of a case"))?;
        let decided_ms = reader.u64("decided")?;
        let by_person = reader.bool("by a person")?;
        let decision = self::reason(reader)?;
        Ok(Case { id, remedy, score, subject, reason, proposed_ms, state, decided_ms, by_person, decision })
    }
}

fn reason(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    let text = core::str::from_utf8(reader.bytes8(REASON_MAX, "reason")?);
    Ok(text.map_err(|_| DecodeError::OutOfBounds("reason"))?.into())
}

/// All cases that are remembered, in the order in which they were opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cases {
    list: VecDeque<Case>,
    /// Conflicts between regions that were settled.
    settled: u64,
    /// Over the encoding, kept as it changes: every record's digest needs it.
    digest: Option<Digest>,
}

impl Cases {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Case> {
        self.list.iter()
    }

    pub(super) fn settled(&self) -> u64 {
        self.settled
    }

    /// `None` for a log in which no case was ever opened.
    pub(super) fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Folds a step in. One that does not fit changes nothing.
    pub(super) fn step(&mut self, event: &Reconciled) {
        let at = self.list.iter().position(|case| case.id == event.case);
        match (&event.step, at) {
            (Step::Proposed { remedy, score, subject }, None) => {
                if self.list.len() == CASES_MAX {
                    let Some(closed) = self.list.iter().position(|case| !case.waits()) else { return };
                    self.list.remove(closed);
                }
                self.list.push_back(Case {
                    id: event.case,
                    remedy: *remedy,
                    score: *score,
                    subject: subject.clone(),
                    reason: event.reason.clone(),
                    proposed_ms: event.at_ms,
                    state: CaseState::Open,
                    decided_ms: 0,
                    by_person: false,
                    decision: String::new(),
                });
            }
            (Step::Approved | Step::Refused, Some(at)) if self.list[at].state == CaseState::Open => {
                let case = &mut self.list[at];
                let approved = event.step == Step::Approved;
                case.state = if approved { CaseState::Approved } else { CaseState::Refused };
                case.decided_ms = event.at_ms;
                case.by_person = event.by_person;
                case.decision = event.reason.clone();
                self.settled += u64::from(approved && case.remedy == Remedy::ChooseFirst);
            }
            (Step::Effected, Some(at)) if self.list[at].state == CaseState::Approved => {
                self.list[at].state = CaseState::Effected;
            }
            _ => return,
        }
        assert!(self.list.len() <= CASES_MAX, "L1: no more cases than there may be");
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        self.digest = Some(Digest(*blake3::hash(&bytes).as_bytes()));
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.settled.to_le_bytes());
        out.extend_from_slice(&(self.list.len() as u16).to_le_bytes());
        self.list.iter().for_each(|case| case.encode(out));
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Cases, DecodeError> {
        let mut cases = Cases { settled: reader.u64("settled")?, ..Cases::default() };
        let count = usize::from(reader.u16("cases")?);
        if count > CASES_MAX {
            return Err(DecodeError::OutOfBounds("cases"));
        }
        for _ in 0..count {
            cases.list.push_back(Case::read(reader)?);
        }
        let mut bytes = Vec::new();
        cases.encode(&mut bytes);
        cases.digest = Some(Digest(*blake3::hash(&bytes).as_bytes()));
        Ok(cases)
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::super::{Ledger, MemTable, Outcome};
    use super::*;
    use crate::event::Event;

    fn event(nth: u32, remedy: Remedy, step: Option<Step>) -> Event {
        let subject = format!("subject {nth}");
        let case = CaseId::of(remedy, &subject);
        let step = step.unwrap_or(Step::Proposed { remedy, score: 500, subject });
        Event::Reconciled(Reconciled { at_ms: 7, case, by_person: true, reason: "it is".into(), step })
    }

    fn record(ledger: &mut Ledger<MemTable>, event: &Event) {
        let lsn = ledger.applied().next();
        let outcome = ledger.decide(lsn, 0, event, None).unwrap();
        assert_eq!(outcome, Outcome::Noted);
        assert_eq!(ledger.apply(lsn, 0, event, None, &outcome).leaf, None);
        ledger.end_record(lsn);
        let bytes = ledger.snapshot().unwrap();
        let again = Ledger::restore(&bytes, ledger.table().clone()).unwrap();
        assert_eq!((again.digest(), again.snapshot().unwrap()), (ledger.digest(), bytes));
        assert!(again.cases().eq(ledger.cases()));
    }

    #[test]
    fn a_case_is_opened_once_decided_once_and_done_once() {
        let mut ledger = Ledger::new("a", MemTable::new());
        let first = ledger.projections().len();
        let open = event(1, Remedy::ChooseFirst, None);
        // Nothing can be decided that was not proposed.
        record(&mut ledger, &event(1, Remedy::ChooseFirst, Some(Step::Approved)));
        assert_eq!((ledger.cases().count(), ledger.projections().len()), (0, first));
        record(&mut ledger, &open);
        let digest = ledger.projections()[first];
        record(&mut ledger, &open);
        record(&mut ledger, &event(1, Remedy::ChooseFirst, Some(Step::Effected)));
        assert_eq!(ledger.projections()[first], digest);
        let state = |ledger: &Ledger<MemTable>| ledger.cases().next().unwrap().state;
        assert_eq!(state(&ledger), CaseState::Open);
        record(&mut ledger, &event(1, Remedy::ChooseFirst, Some(Step::Approved)));
        assert_eq!((state(&ledger), ledger.settled_conflicts()), (CaseState::Approved, 1));
        for late in [Step::Refused, Step::Approved] {
            record(&mut ledger, &event(1, Remedy::ChooseFirst, Some(late)));
            assert_eq!((state(&ledger), ledger.settled_conflicts()), (CaseState::Approved, 1));
        }
        record(&mut ledger, &event(1, Remedy::ChooseFirst, Some(Step::Effected)));
        assert_eq!(state(&ledger), CaseState::Effected);
    }

    #[test]
    fn open_cases_stay_and_closed_ones_make_room() {
        let mut cases = Cases::default();
        let mut take = |event: &Event| match event {
            Event::Reconciled(step) => {
                cases.step(step);
                cases.list.len()
            }
            _ => 0,
        };
        for nth in 0..CASES_MAX as u32 {
            assert_eq!(take(&event(nth, Remedy::ManualReview, None)), nth as usize + 1);
        }
        assert_eq!(take(&event(9999, Remedy::ManualReview, None)), CASES_MAX);
        take(&event(3, Remedy::ManualReview, Some(Step::Refused)));
        take(&event(9999, Remedy::ManualReview, None));
        let named = |nth: u32| {
            let id = CaseId::of(Remedy::ManualReview, &format!("subject {nth}"));
            cases.iter().any(|case| case.id == id)
        };
        assert!(named(9999) && named(0) && !named(3));
    }
}
