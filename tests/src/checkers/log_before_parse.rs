//! I5 log-before-parse: for everything that was answered, the log holds the very bytes that were sent.
//!
//! Mutant: logs what it parsed.

use std::collections::BTreeMap;

use engine::event::Event;

use crate::sim::history::{History, Sight};

/// The first answered submission whose bytes are not in the log.
pub fn check(history: &History, sight: &Sight) -> Result<(), String> {
    let there: BTreeMap<_, _> = sight.events().map(|(place, event, _)| (place, event)).collect();
    for told in &history.told {
        let Some(Event::Received(envelope)) = there.get(&told.place) else { continue };
        if envelope.body != told.sent.body() || envelope.tenant != told.sent.tenant_id() {
            return Err(format!(
                "I5: the log holds other bytes at {:?} than {:?} sent",
                told.place, told.sent
            ));
        }
    }
    Ok(())
}
