//! What is proposed: events, and the handle of those who wait for their outcome.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use engine::event::Event;

/// Whatever the proposer wants back when its batch is applied: waiters, verdict slots.
///
/// It lives in the memory of the proposing node only. It is never written, never sent, and absent
/// when the same entry is applied by replay or on another node.
pub type Local = Arc<dyn Any + Send + Sync>;

/// One or more events that become one log entry, so one [`engine::log::Lsn`], one frame.
///
/// At most `engine::limits::RECORD_EVENTS_MAX` events and `engine::limits::RECORD_BYTES_MAX` bytes
/// encoded; [`crate::Group::submit`] refuses more.
#[derive(Clone, Default)]
pub struct Batch {
    /// The events, in the order in which they will be applied. Never empty in a log. Shared, because
    /// the proposer judges them while the log writes them, and entries are cloned on their way.
    pub events: Arc<Vec<Event>>,
    /// The handle of those who wait, on the proposing node.
    pub local: Option<Local>,
}

impl Batch {
    /// The handle as the type its proposer gave it, `None` on replay or for another type.
    pub fn local<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.local.as_deref().and_then(|local| local.downcast_ref())
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Events hold client bodies; they have no place in a log line.
        f.debug_struct("Batch").field("events", &self.events.len()).field("local", &self.local.is_some()).finish()
    }
}
