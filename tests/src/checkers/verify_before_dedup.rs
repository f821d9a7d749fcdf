//! I1 verify-before-dedup: what is not well signed and well formed is refused for that reason, whatever
//! stands in the index. Judged from what the client knows it sent, not from what the engine found.
//!
//! Mutant: dedup before verify.

use engine::event::Event;
use engine::ledger::RefusedReason;

use crate::sim::history::{Answer, History, Sight};
use crate::sim::workload::{Flaw, Submission, known};

/// The first answer that does not fit what was sent.
pub fn check(history: &History, sight: &Sight) -> Result<(), String> {
    for told in &history.told {
        one(&told.sent, &told.answer).map_err(|broken| format!("{broken}, told at {:?}", told.place))?;
    }
    for (place, event, answer) in sight.events() {
        let Event::Received(envelope) = event else { continue };
        // What no client has sent is for I5 to find.
        let Some(sent) = known(envelope.tenant, &envelope.body) else { continue };
        one(sent, answer).map_err(|broken| format!("{broken}, read at {place:?}"))?;
    }
    Ok(())
}

fn one(sent: &Submission, answer: &Answer) -> Result<(), String> {
    let reason = match sent.flaw {
        Flaw::None => None,
        Flaw::Malformed => Some(RefusedReason::Malformed),
        Flaw::BadSignature | Flaw::ForeignKey => Some(RefusedReason::BadSignature),
        Flaw::Structure => Some(RefusedReason::Structure),
        Flaw::Stranger => Some(RefusedReason::NoKey),
    };
    let right = match (reason, answer) {
        (Some(reason), Answer::Refused(code)) => *code == reason as u8,
        (Some(_), _) | (None, Answer::Refused(_)) => false,
        (None, _) => true,
    };
    if right { Ok(()) } else { Err(format!("I1: {sent:?} was answered {answer:?}")) }
}
