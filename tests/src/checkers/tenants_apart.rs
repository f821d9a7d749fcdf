//! I7 tenants-apart: deleting all other tenants' events changes no answer of mine, but for its place.
//!
//! Mutant: cross-tenant key, an index without the tenant in its key.

use std::collections::BTreeMap;

use engine::event::Event;
use engine::ids::TenantId;
use engine::log::Lsn;

use crate::sim::fold::Fold;
use crate::sim::history::{Answer, Place, Sight};
use crate::sim::mutants::Mutant;
use crate::sim::workload::{TENANTS, tenant_id};

/// The first answer that depends on another tenant.
pub fn check(sight: &Sight) -> Result<(), String> {
    for tenant in (0..TENANTS).map(tenant_id) {
        let mut alone = Fold::new(Default::default(), 0, Mutant::None, None, u64::MAX);
        let mut places: BTreeMap<Place, Place> = BTreeMap::new();
        let mine = sight.events().filter(|(_, event, _)| concerns(event, &tenant));
        for (lsn, (place, event, answer)) in (1..).map(Lsn).zip(mine) {
            places.insert((lsn, 0), place);
            let found = moved(alone.fold(lsn, 0, event), &places);
            alone.end(lsn);
            if found != *answer {
                return Err(format!(
                    "I7: {place:?} of {tenant:?} is {answer:?} among others and {found:?} alone"
                ));
            }
        }
    }
    Ok(())
}

fn concerns(event: &Event, tenant: &TenantId) -> bool {
    match event {
        Event::Received(envelope) => envelope.tenant == *tenant,
        Event::TenantSet(set) => set.id == *tenant,
        Event::KeySet(key) => key.tenant == *tenant,
        Event::PolicySet(_) => true,
        Event::Attested(_)
        | Event::Checkpoint(_)
        | Event::Anchored(_)
        | Event::Witnessed(_)
        | Event::LogKeySet(_)
        | Event::Imported(_)
        | Event::Declared(_)
        | Event::Reconciled(_) => false,
    }
}

/// The answer with its first named by the place in the whole log.
fn moved(answer: Answer, places: &BTreeMap<Place, Place>) -> Answer {
    let place = |first: &Place| places.get(first).copied().unwrap_or(*first);
    match &answer {
        Answer::Duplicate { first, accepted } => {
            Answer::Duplicate { first: place(first), accepted: *accepted }
        }
        Answer::Conflict { first, accepted } => Answer::Conflict { first: place(first), accepted: *accepted },
        _ => answer,
    }
}

#[cfg(test)]
mod tests {
    use engine::event::Envelope;

    use super::*;
    use crate::sim::history::Record;
    use crate::sim::workload::{Flaw, Submission, settings};

    #[test]
    fn the_mutant_whose_index_forgets_the_tenant_is_seen() {
        let mut events = settings(1);
        for tenant in [0, 1] {
            let sent = Submission { tenant, name: 3, variant: 0, attempt: 0, flaw: Flaw::None };
            let envelope =
                Envelope { tenant: sent.tenant_id(), received_at_ms: 2, salt: [0; 16], body: sent.body() };
            events.push(Event::Received(envelope));
        }
        let mut fold = Fold::new(Default::default(), 0, Mutant::None, None, u64::MAX);
        let answers: Vec<_> = (0..).zip(&events).map(|(nth, event)| fold.fold(Lsn(1), nth, event)).collect();
        let (digest, head) = Default::default();
        let mut sight = Sight {
            records: vec![(Lsn(1), Record { term: 1, events, answers, digest, head })],
            leaves: vec![],
        };
        assert_eq!(check(&sight), Ok(()));
        let answers = &mut sight.records[0].1.answers;
        let (first, last) = ((Lsn(1), answers.len() as u32 - 2), answers.len() - 1);
        answers[last] = Answer::Duplicate { first, accepted: true };
        assert!(check(&sight).is_err_and(|broken| broken.starts_with("I7")));
    }
}
