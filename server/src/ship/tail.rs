//! The records that were folded last, for shipping: what this node has just written need not be read from the disk, checked and
//! taken apart again, by the thread that writes the log.
//!
//! L1: [`KEPT_MAX`] bytes, or one record; what is older is read from the log. A node without regions keeps nothing.

use super::ports::Stored;
use engine::event::{Event, Payload, Record};
use engine::log::Lsn;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that are kept: what a node takes in a few tenths of a second.
const KEPT_MAX: usize = 8 << 20;
/// Bytes that are handed out at once, or one record.
const READ_MAX: usize = 1 << 20;

/// See the module.
#[derive(Default)]
pub struct Tail {
    wanted: AtomicBool,
    records: Mutex<Records>,
}

/// One after the other, without a gap.
#[derive(Default)]
struct Records {
    kept: VecDeque<Kept>,
    bytes: usize,
}

#[derive(Clone)]
struct Kept {
    lsn: Lsn,
    /// None for a record without events.
    events: Option<Arc<Vec<Event>>>,
    bytes: usize,
}

impl Kept {
    /// Bytes that it takes here: a record without events is not nothing.
    fn held(&self) -> usize {
        size_of::<Kept>() + self.bytes
    }
}

impl Tail {
    /// From now on records are kept.
    pub fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This record is folded.
    pub fn folded(&self, lsn: Lsn, events: &Arc<Vec<Event>>) {
        if self.wanted.load(Ordering::Relaxed) {
            let bytes = events.iter().map(raft::weight).sum();
            self.records().push(Kept { lsn, events: Some(events.clone()), bytes });
        }
    }

    /// Everything up to this record is folded. It was not told of if it holds no events.
    pub fn passed(&self, lsn: Lsn) {
        if self.wanted.load(Ordering::Relaxed) {
            let mut records = self.records();
            if records.kept.back().is_none_or(|last| last.lsn < lsn) {
                records.push(Kept { lsn, events: None, bytes: 0 });
            }
        }
    }

    /// Records from `from` to `to`, as many as are handed out at once; none if the first is not kept.
    pub fn read(&self, from: Lsn, to: Lsn) -> Vec<Stored> {
        let shared: Vec<Kept> = {
            let records = self.records();
            let Some(first) = records.kept.front().filter(|first| first.lsn <= from) else {
                return Vec::new();
            };
            let skip = usize::try_from(from.0 - first.lsn.0).unwrap_or(usize::MAX);
            let mut bytes = 0;
            let fits = |kept: &&Kept| {
                let before = bytes;
                bytes += kept.bytes;
                kept.lsn <= to && (before == 0 || bytes <= READ_MAX)
            };
            records.kept.iter().skip(skip).take_while(fits).cloned().collect()
        };
        let record = |Kept { lsn, events, bytes }: Kept| {
            let payload = events.map_or(Payload::Blank, |events| Payload::Events(events.to_vec()));
            // Who proposed it is not shipped.
            (lsn, Record { leader: 0, payload }, bytes)
        };
        shared.into_iter().map(record).collect()
    }
}

impl Records {
    fn push(&mut self, record: Kept) {
        if self.kept.back().is_some_and(|last| last.lsn.next() != record.lsn) {
            *self = Records::default();
        }
        self.bytes += record.held();
        self.kept.push_back(record);
        while self.bytes > KEPT_MAX && self.kept.len() > 1 {
            self.bytes -= self.kept.pop_front().map_or(0, |oldest| oldest.held());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(bytes: usize) -> Arc<Vec<Event>> {
        Arc::new(vec![Event::Checkpoint(vec![7; bytes])])
    }

    fn read(tail: &Tail, from: u64, to: u64) -> Vec<u64> {
        tail.read(Lsn(from), Lsn(to)).iter().map(|(lsn, ..)| lsn.0).collect()
    }

    #[test]
    fn what_was_folded_last_is_read_in_order_and_nothing_behind_a_gap() {
        let tail = Tail::default();
        tail.folded(Lsn(1), &events(10));
        assert_eq!(read(&tail, 1, 9), [0; 0], "nobody wants it");
        tail.want();
        for lsn in [5, 6, 8] {
            if lsn < 8 {
                tail.folded(Lsn(lsn), &events(10));
            }
            tail.passed(Lsn(lsn));
        }
        assert_eq!(read(&tail, 8, 9), [8], "what was between is not known");
        tail.folded(Lsn(9), &events(10));
        tail.passed(Lsn(9));
        assert_eq!(
            (read(&tail, 8, 9), read(&tail, 9, 20), read(&tail, 8, 8)),
            (vec![8, 9], vec![9], vec![8])
        );
        assert_eq!((read(&tail, 7, 9), read(&tail, 10, 12)), (vec![], vec![]));
        let found = tail.read(Lsn(8), Lsn(9));
        assert_eq!(found[0].1.payload, Payload::Blank);
        assert_eq!(found[1].1.payload, Payload::Events(events(10).to_vec()));
    }

    #[test]
    fn it_keeps_and_hands_out_so_much_and_one_record_at_least() {
        let tail = Tail::default();
        tail.want();
        for lsn in 1..=100 {
            tail.folded(Lsn(lsn), &events(KEPT_MAX / 16));
        }
        let kept = tail.records().kept.len();
        assert!((15..=16).contains(&kept), "{kept}");
        assert_eq!(read(&tail, 84, 100), [0; 0]);
        assert_eq!(read(&tail, 95, 100).len(), READ_MAX / (KEPT_MAX / 16) - 1);
        tail.folded(Lsn(101), &events(2 * KEPT_MAX));
        assert_eq!((read(&tail, 101, 200), tail.records().kept.len()), (vec![101], 1));
        let most = KEPT_MAX / size_of::<Kept>();
        (102..102 + 2 * most as u64).for_each(|lsn| tail.passed(Lsn(lsn)));
        assert_eq!(tail.records().kept.len(), most, "records without events count, too");
    }
}
