//! The rule of one truth, read a second time: what each region must say of every sound submission, from the agreed logs and
//! the clients' own words.
//!
//! A region knows its own log and of another's what it has imported in whole records. Of the live firsts that it knows the
//! earliest by (log time, name) counts; the same content is its duplicate, another one its conflict, and without any the
//! submission is a first. Whatever two clients were told, this must explain it.

use std::collections::BTreeMap;

use engine::event::{Event, Imported, Position};
use engine::log::Lsn;

use super::Told;
use super::machine::{NAMES, Said, Spot, number};
use super::world::Region;
use crate::sim::workload::{Flaw, TTL_MS, known};

struct First {
    spot: Spot,
    name: (u8, u16),
    variant: u8,
    at_ms: u64,
}

#[derive(Default)]
struct Reading {
    /// Records that are read.
    done: usize,
    now_ms: u64,
    /// Of others: up to where.
    known: BTreeMap<usize, Position>,
    firsts: Vec<First>,
    right: BTreeMap<(Lsn, u32), Said>,
}

/// The first answer, told or computed, that is not the rule's.
pub fn check(regions: &[Region], told: &[Told]) -> Result<(), String> {
    let readings = read(regions)?;
    for (region, reading) in regions.iter().zip(&readings) {
        for ((lsn, nth), right) in &reading.right {
            let says = region.says[lsn.0 as usize - 1].get(*nth as usize);
            if says != Some(right) {
                let who = region.observer.ledger.region();
                return Err(format!(
                    "G3: {who} says {says:?} of event {nth} of its record {lsn}, the rule {right:?}"
                ));
            }
        }
    }
    for Told { region, lsn, sent, said } in told {
        let who = NAMES[*region];
        let events = regions[*region].agreed.get(lsn.0 as usize - 1);
        let Some([Event::Received(envelope)]) = events.map(Vec::as_slice) else {
            return Err(format!(
                "I6: a client of {who} was told of record {lsn}, which holds something else"
            ));
        };
        if (envelope.tenant, &envelope.body) != (sent.tenant_id(), &sent.body()) {
            return Err(format!("I6: a client of {who} was told of record {lsn}, which somebody else sent"));
        }
        if let Some(right) = readings[*region].right.get(&(*lsn, 0)).filter(|right| *right != said) {
            return Err(format!(
                "G3: a client of {who} was told {said:?} of record {lsn}, the rule says {right:?}"
            ));
        }
    }
    Ok(())
}

fn read(regions: &[Region]) -> Result<Vec<Reading>, String> {
    let mut readings: Vec<Reading> = regions.iter().map(|_| Reading::default()).collect();
    loop {
        let mut moved = false;
        for region in 0..regions.len() {
            while let Some(events) = regions[region].agreed.get(readings[region].done) {
                // What it imported must have been read where it comes from.
                let waits = |import: &Imported| {
                    (readings[number(&import.origin)].done as u64) < import.end().lsn.0 - 1
                };
                if events.iter().any(|event| matches!(event, Event::Imported(import) if waits(import))) {
                    break;
                }
                for (nth, event) in (0..).zip(events) {
                    one(&mut readings, region, nth, event);
                }
                readings[region].done += 1;
                moved = true;
            }
        }
        if readings.iter().zip(regions).all(|(reading, region)| reading.done == region.agreed.len()) {
            return Ok(readings);
        }
        if !moved {
            return Err("G1: a log holds what was not yet written where it comes from".into());
        }
    }
}

fn one(readings: &mut [Reading], region: usize, nth: u32, event: &Event) {
    let reading = &mut readings[region];
    let lsn = Lsn(reading.done as u64 + 1);
    reading.now_ms = reading.now_ms.max(match event {
        Event::Received(envelope) => envelope.received_at_ms,
        Event::TenantSet(tenant) => tenant.at_ms,
        Event::KeySet(key) => key.at_ms,
        Event::PolicySet(set) => set.at_ms,
        Event::LogKeySet(set) => set.at_ms,
        _ => 0,
    });
    let now_ms = reading.now_ms;
    match event {
        Event::Imported(import) => {
            let known = reading.known.entry(number(&import.origin)).or_insert(Position::FIRST);
            // One that does not fit changes nothing.
            if *known == import.from {
                *known = import.end();
            }
        }
        Event::Received(envelope) => {
            let sent = known(envelope.tenant, &envelope.body).filter(|sent| sent.flaw == Flaw::None);
            let Some(sent) = sent else { return };
            let name = (sent.tenant, sent.name);
            let known = &readings[region].known;
            let seen = |first: &&First| {
                let (whose, at, _) = first.spot;
                whose == region || known.get(&whose).is_some_and(|known| at < known.lsn)
            };
            let live = |first: &&First| first.name == name && now_ms < first.at_ms + TTL_MS;
            let firsts = readings.iter().flat_map(|reading| &reading.firsts);
            let best = firsts.filter(seen).filter(live).min_by_key(|first| (first.at_ms, first.spot.0));
            let said = match best {
                None => Said::First,
                Some(first) if first.variant == sent.variant => Said::Duplicate(first.spot),
                Some(first) => Said::Conflict(first.spot),
            };
            let reading = &mut readings[region];
            if said == Said::First {
                let spot = (region, lsn, nth);
                reading.firsts.push(First { spot, name, variant: sent.variant, at_ms: now_ms });
            }
            reading.right.insert((lsn, nth), said);
        }
        _ => {}
    }
}
