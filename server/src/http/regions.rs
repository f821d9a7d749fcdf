//! What operators say of other regions' logs. The leader does it, and it becomes an event of the log.

use super::refusal::{Problem, Refusal};
use crate::node::Node;
use engine::event::{Declaration, Declared, Event, WHY_MAX};
use engine::limits::TIME_MAX_MS;
use raft::Batch;
use std::sync::Arc;

/// Takes another region's log in again, from the place on where it contradicted itself.
pub(super) async fn readmit(node: &Arc<Node>, region: &str, why: String) -> Result<(), Problem> {
    let wrong = |why: String| Err(Problem::from(Refusal::BadRequest).detail(why));
    if why.trim().is_empty() || why.len() > WHY_MAX || why.chars().any(char::is_control) {
        return wrong(format!("why is 1 to {WHY_MAX} bytes in one line"));
    }
    let (at, count) = {
        let core = node.fold.core();
        let Some(origin) = core.ledger.origin(region) else {
            return wrong(format!("nothing came of a region '{region}' yet"));
        };
        if origin.quarantine().is_none() {
            return wrong(format!("region {region} is not in quarantine"));
        }
        (origin.position(), core.ledger.readmitted(region))
    };
    let Some(count) = count.checked_add(1) else {
        return wrong(format!("region {region} was readmitted too often"));
    };
    let declared = Declared {
        at_ms: node.clock.wall_ms().min(TIME_MAX_MS),
        region: region.to_owned(),
        at,
        why,
        what: Declaration::Readmitted { count },
    };
    let event = Event::Declared(declared);
    let proposed = node.group.propose(Batch { events: Arc::new(vec![event]), local: None }).await;
    proposed.map_err(|error| {
        Problem::from(Refusal::LogUnavailable).detail(format!("it is not agreed: {error}")).retry_after(1)
    })?;
    Ok(())
}
