//! I2 first-write-wins: one first per tenant and name until it expires by log time; everybody after it is
//! pointed to it and gets its answer. The rule is read here a second time, on the clients' own words.
//!
//! Mutants: last write wins, TTL by wall clock, cross-tenant key, forgets at restart.

use std::collections::BTreeMap;

use engine::event::Event;

use crate::sim::history::{Answer, History, Place, Sight};
use crate::sim::workload::{Flaw, TTL_MS, known};

struct First {
    place: Place,
    variant: u8,
    at_ms: u64,
    accepted: bool,
}

/// The first answer, told or read, that is not the rule's.
pub fn check(history: &History, sight: &Sight) -> Result<(), String> {
    let right = rule(sight);
    for (place, _, answer) in sight.events() {
        one(&right, place, answer, "reads")?;
    }
    for told in &history.told {
        one(&right, told.place, &told.answer, "was told")?;
    }
    Ok(())
}

fn one(right: &BTreeMap<Place, Answer>, place: Place, answer: &Answer, who: &str) -> Result<(), String> {
    match right.get(&place) {
        Some(right) if right != answer => {
            Err(format!("I2: {place:?} {who} {answer:?}, the rule says {right:?}"))
        }
        _ => Ok(()),
    }
}

/// What the rule says of every sound submission in the log.
fn rule(sight: &Sight) -> BTreeMap<Place, Answer> {
    let (mut firsts, mut answers, mut now_ms) = (BTreeMap::<_, First>::new(), BTreeMap::new(), 0);
    for (place, event, answer) in sight.events() {
        // Log time: settings are stamped, too, and a leader's clock may be behind what the log says.
        now_ms = now_ms.max(match event {
            Event::Received(envelope) => envelope.received_at_ms,
            Event::TenantSet(tenant) => tenant.at_ms,
            Event::KeySet(key) => key.at_ms,
            Event::PolicySet(set) => set.at_ms,
            Event::LogKeySet(set) => set.at_ms,
            Event::Attested(_)
            | Event::Checkpoint(_)
            | Event::Anchored(_)
            | Event::Witnessed(_)
            | Event::Imported(_)
            | Event::Declared(_)
            | Event::Reconciled(_) => 0,
        });
        let Event::Received(envelope) = event else { continue };
        let Some(sent) = known(envelope.tenant, &envelope.body).filter(|sent| sent.flaw == Flaw::None) else {
            continue;
        };
        let live = firsts.get(&(sent.tenant, sent.name)).filter(|first| now_ms < first.at_ms + TTL_MS);
        let right = match live {
            Some(&First { place: first, variant, accepted, .. }) if variant == sent.variant => {
                Answer::Duplicate { first, accepted }
            }
            Some(&First { place: first, accepted, .. }) => Answer::Conflict { first, accepted },
            None => {
                // Whether its numbers are accepted is the engine's to say; that it stays so is the rule.
                let accepted = matches!(answer, Answer::First { accepted: true });
                let first = First { place, variant: sent.variant, at_ms: now_ms, accepted };
                firsts.insert((sent.tenant, sent.name), first);
                Answer::First { accepted }
            }
        };
        answers.insert(place, right);
    }
    answers
}
