//! What clients and nemeses did and saw, in the order in which it was seen.
//!
//! An operation is written down before its first byte is sent and again after its last byte has been read, so that
//! the place in the history is a clock on which "ended before" is never wrong. An operation whose answer never came
//! is `info`: it may have happened and may still happen; whoever asked goes on under another process number.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What an entry says about its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It begins.
    Invoke,
    /// It happened, with this value.
    Ok,
    /// It did not happen and will not.
    Fail,
    /// Nobody knows.
    Info,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds since the run began.
    pub time: u64,
    /// What this entry says.
    pub kind: Kind,
    /// Who did it; `None` is the nemesis.
    pub process: Option<u64>,
    /// Name of the operation.
    pub f: String,
    /// The host that was asked, or that the nemesis is about; 0 is none in particular.
    pub node: u64,
    /// What it is about: `tenant/id` of a summary.
    pub key: Option<String>,
    /// What was asked for or seen; `None` of a read is "nothing there".
    pub value: Option<String>,
    /// Why it failed, or why nobody knows.
    pub error: Option<String>,
}

/// The history of a run, while it is made.
pub struct Recorder {
    start: Instant,
    events: Mutex<Vec<Event>>,
}

impl Recorder {
    /// Begins now.
    pub fn new() -> Recorder {
        Recorder { start: Instant::now(), events: Mutex::new(Vec::new()) }
    }

    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes an entry down; the time is filled in here.
    pub fn note(&self, event: Event) {
        let mut events = self.events();
        let time = self.nanos();
        events.push(Event { time, ..event });
    }

    /// Nanoseconds since the run began.
    pub fn nanos(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// The whole history.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events())
    }
}

/// An operation with both its ends.
#[derive(Clone, Copy, Debug)]
pub struct Op<'a> {
    /// Where it began.
    pub call: &'a Event,
    /// Place of the beginning in the history.
    pub from: usize,
    /// Where it ended; `None` if the history ends first.
    pub end: Option<&'a Event>,
    /// Place of the end; past every place for one that is not known to have ended.
    pub until: usize,
}

impl Op<'_> {
    /// What became of it.
    pub fn kind(&self) -> Kind {
        self.end.map_or(Kind::Info, |end| end.kind)
    }
}

/// Beginnings and ends of clients' operations, put together.
///
/// # Errors
/// When the history is none: an end without a beginning, or a process that does two things at a time.
pub fn operations(history: &[Event]) -> Result<Vec<Op<'_>>, String> {
    let mut ops: Vec<Op<'_>> = Vec::new();
    let mut open = std::collections::BTreeMap::new();
    for (place, event) in history.iter().enumerate() {
        let Some(process) = event.process else { continue };
        if event.kind == Kind::Invoke {
            if open.insert(process, ops.len()).is_some() {
                return Err(format!("entry {place}: process {process} begins before it has ended"));
            }
            ops.push(Op { call: event, from: place, end: None, until: usize::MAX });
            continue;
        }
        let at = open.remove(&process);
        let at = at.ok_or_else(|| format!("entry {place}: process {process} ends what it did not begin"))?;
        if ops[at].call.f != event.f || ops[at].call.key != event.key {
            return Err(format!("entry {place}: process {process} ends something else than it began"));
        }
        ops[at].end = Some(event);
        if event.kind != Kind::Info {
            ops[at].until = place;
        }
    }
    Ok(ops)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// An entry for planted histories.
    pub fn event(kind: Kind, process: u64, f: &str, key: &str, value: Option<&str>) -> Event {
        Event {
            time: 0,
            kind,
            process: Some(process),
            f: f.to_owned(),
            node: 1,
            key: Some(key.to_owned()),
            value: value.map(str::to_owned),
            error: None,
        }
    }

    #[test]
    fn ends_find_their_beginnings() {
        let history = [
            event(Kind::Invoke, 1, "submit", "k", Some("a")),
            event(Kind::Invoke, 2, "read", "k", None),
            event(Kind::Ok, 2, "read", "k", Some("a")),
            event(Kind::Info, 1, "submit", "k", Some("a")),
            event(Kind::Invoke, 3, "read", "k", None),
        ];
        let ops = operations(&history).unwrap();
        let seen: Vec<_> = ops.iter().map(|op| (op.from, op.until, op.kind())).collect();
        let never = usize::MAX;
        assert_eq!(seen, [(0, never, Kind::Info), (1, 2, Kind::Ok), (4, never, Kind::Info)]);
    }

    #[test]
    fn what_is_no_history_is_refused() {
        let begin = event(Kind::Invoke, 1, "submit", "k", Some("a"));
        assert!(operations(&[begin.clone(), begin.clone()]).is_err());
        assert!(operations(&[event(Kind::Ok, 1, "submit", "k", Some("a"))]).is_err());
        assert!(operations(&[begin.clone(), event(Kind::Ok, 1, "read", "k", Some("a"))]).is_err());
        assert!(operations(&[begin, event(Kind::Ok, 1, "submit", "other", Some("a"))]).is_err());
    }
}
