//! G1 ship-in-order: what a region took in of another's log is a prefix of that log, item by item, and each item once.
//!
//! Mutants: an importer that leaves out a record, and one that takes a record in twice.

use engine::event::{Event, Item, Position, positioned};

use crate::regions::Sight;

/// The first item that is not the next of its log.
pub fn check(sight: &Sight) -> Result<(), String> {
    for region in &sight.0 {
        for other in sight.0.iter().filter(|other| other.name != region.name) {
            let mut taken: Vec<&Item> = Vec::new();
            let mut at = Position::FIRST;
            for event in region.log.iter().flatten() {
                let Event::Imported(imported) = event else { continue };
                if imported.origin != other.name || imported.from != at {
                    continue;
                }
                taken.extend(&imported.items);
                at = imported.end();
            }
            let known = region.known.iter().find(|(name, _)| *name == other.name).map(|(_, known)| *known);
            if known != Some(at) {
                return Err(format!(
                    "G1: {} says it knows {} to {known:?}, its log to {at:?}",
                    region.name, other.name
                ));
            }
            let log = positioned(Position::FIRST, &other.shipped);
            for (nth, (found, (place, item))) in taken.iter().zip(log).enumerate() {
                if *found != item {
                    return Err(format!(
                        "G1: item {nth} that {} has of {} is not that of {place:?}",
                        region.name, other.name
                    ));
                }
            }
            if taken.len() > other.shipped.len() {
                return Err(format!("G1: {} has more of {} than there is", region.name, other.name));
            }
        }
    }
    Ok(())
}
