//! Keeps the state at the log: what the fold points at is read again and folded in, in order.
//!
//! The state is a file beside the log that may be missing, old or damaged: then it is made again from the records, in the
//! background, and nothing is sent to anybody before that is done. What the fold applies while the node runs it only
//! points at (L1: at most [`POINTED_MAX`] places; beyond that the follower reads everything up to there).

use super::files;
use super::state::State;
use crate::node::{Node, tile_dir};
use engine::event::Event;
use engine::log::Lsn;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// Most places that wait to be read.
const POINTED_MAX: usize = 65_536;
/// How often the state is brought to where the log is, when nothing points anywhere.
const TICK: Duration = Duration::from_secs(1);
/// How many records the file may be behind before it is written for nothing else.
const BEHIND_MAX: u64 = 65_536;

/// Where records stand that say something of anchors.
#[derive(Default)]
pub struct Feed {
    pointed: Mutex<Pointed>,
    more: Notify,
}

#[derive(Default)]
struct Pointed {
    /// Everything up to here has to be read, because nobody pointed.
    all_to: Lsn,
    at: VecDeque<Lsn>,
}

impl Feed {
    /// A feed of a fold that begins after `standing`.
    pub fn new(standing: Lsn) -> Feed {
        let pointed = Mutex::new(Pointed { all_to: standing, at: VecDeque::new() });
        Feed { pointed, more: Notify::new() }
    }

    /// The record there is folded; called in log order.
    pub fn folded(&self, lsn: Lsn, events: &[Event]) {
        if !events.iter().any(says_something) {
            return;
        }
        let mut pointed = self.pointed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if pointed.at.len() == POINTED_MAX {
            pointed.at.clear();
            pointed.all_to = lsn;
        } else {
            pointed.at.push_back(lsn);
        }
        drop(pointed);
        self.more.notify_one();
    }

    fn take(&self) -> (Lsn, VecDeque<Lsn>) {
        let mut pointed = self.pointed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        (pointed.all_to, std::mem::take(&mut pointed.at))
    }
}

fn says_something(event: &Event) -> bool {
    matches!(event, Event::Anchored(_) | Event::Witnessed(_))
}

/// File of the state.
pub fn path(node: &Node) -> PathBuf {
    node.config.data_dir.join("proj").join("anchors")
}

/// Follows the log until the task is dropped.
pub async fn run(node: Arc<Node>) {
    let origin = node.fold.terms.origin.clone();
    let applied = || node.fold.core().ledger.applied();
    let found = std::fs::read(path(&node)).ok().and_then(|bytes| State::decode(&bytes));
    // A file that knows more than the log was copied from elsewhere.
    let mut state = found.filter(|state| state.upto <= applied().0).unwrap_or_default();
    let mut saved = state.upto;
    let mut waiting: VecDeque<Lsn> = VecDeque::new();
    loop {
        // First where the fold is, then where it pointed: whatever it had folded by then, it has pointed at.
        let here = applied();
        let (all_to, mut more) = node.anchors.feed.take();
        waiting.append(&mut more);
        let before = state.upto;
        match catch_up(&node, &mut state, all_to, &mut waiting, &origin).await {
            Ok(changed) => {
                state.upto = state.upto.max(here.0);
                if changed {
                    files::witnessed(&tile_dir(&node.config), &state);
                }
                if changed || state.upto - saved > BEHIND_MAX {
                    save(&node, &state);
                    saved = state.upto;
                }
                if state.upto != before || !node.anchors.is_ready() {
                    node.anchors.publish(state.clone());
                }
            }
            Err(error) => {
                tracing::warn!(%error, after = state.upto, "the log cannot be read for its anchors; it is tried again");
                tokio::time::sleep(TICK).await;
                continue;
            }
        }
        // A tick that finds nothing new costs two short locks.
        let _ = tokio::time::timeout(TICK, node.anchors.feed.more.notified()).await;
    }
}

/// Reads what has to be read. Whether anything was said there.
async fn catch_up(
    node: &Node,
    state: &mut State,
    all_to: Lsn,
    waiting: &mut VecDeque<Lsn>,
    origin: &str,
) -> io::Result<bool> {
    let mut changed = false;
    while state.upto < all_to.0 {
        let from = Lsn(state.upto).next();
        let records = node.group.read_range(from, all_to.next()).await?;
        if records.is_empty() {
            return Err(io::Error::other(format!("record {from} is not there")));
        }
        for (lsn, _, bytes) in records {
            let events = said(&bytes)?;
            changed |= !events.is_empty();
            files::keep(&tile_dir(&node.config), &events, origin);
            state.apply(lsn, &events, origin);
        }
    }
    while let Some(lsn) = waiting.front().copied() {
        if lsn.0 > state.upto {
            for (lsn, _, bytes) in node.group.read_range(lsn, lsn.next()).await? {
                let events = said(&bytes)?;
                files::keep(&tile_dir(&node.config), &events, origin);
                state.apply(lsn, &events, origin);
            }
            changed = true;
        }
        waiting.pop_front();
    }
    Ok(changed)
}

/// The events of a record that say something, without decoding the others.
///
/// # Errors
/// When the bytes are no record.
pub fn said(record: &[u8]) -> io::Result<Vec<Event>> {
    let mut events = Vec::new();
    engine::event::attestations(record, |event| events.push(event))
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    Ok(events)
}

fn save(node: &Node, state: &State) {
    let written = state
        .encode()
        .map_err(io::Error::other)
        .and_then(|bytes| crate::projections::replace(&path(node), &bytes));
    if let Err(error) = written {
        // It is made again from the log.
        tracing::warn!(%error, "the state of the anchors is not written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::event::Witnessed;

    #[test]
    fn a_feed_points_at_what_matters_and_gives_up_pointing_before_it_grows_without_end() {
        let feed = Feed::new(Lsn(9));
        let one = [Event::Witnessed(Witnessed { at_ms: 1, old: 0, note: Vec::new() })];
        feed.folded(Lsn(10), &[Event::Checkpoint(Vec::new())]);
        feed.folded(Lsn(11), &one);
        assert_eq!(feed.take(), (Lsn(9), VecDeque::from([Lsn(11)])));
        for n in 0..POINTED_MAX as u64 + 3 {
            feed.folded(Lsn(100 + n), &one);
        }
        let (all_to, at) = feed.take();
        let overflow = 100 + POINTED_MAX as u64;
        assert_eq!((all_to, at), (Lsn(overflow), VecDeque::from([Lsn(overflow + 1), Lsn(overflow + 2)])));
    }
}
