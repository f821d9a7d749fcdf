//! Which entries of a log count: truncations void what was never committed.
//!
//! An entry is released once the log itself says it was committed, or at the log's end. With one voter everything
//! durable is committed; with several, what stands above the last mark is what this node held and the others may
//! have agreed on or may yet replace, which [`Tail`] says. What waits is bounded by what a leader may have in flight.

use std::collections::VecDeque;

use engine::event::{Payload, Record};
use engine::log::Lsn;
use segments::{Frame, Kind};

use super::{Place, Wrong};

/// Takes a released entry.
pub type Each<'a> = dyn FnMut(Lsn, Place, &[u8]) -> Result<(), Wrong> + 'a;

/// What stands at the end of a log above the last mark of what is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// So many entries.
    pub entries: u64,
    /// Whether others than this node vote, so that these entries may still be replaced.
    pub open: bool,
}

impl Tail {
    /// For people; `None` when there is nothing to say.
    #[must_use]
    pub fn text(self) -> Option<String> {
        (self.open && self.entries > 0).then(|| {
            format!(
                "{} records stand above what this node knew to be agreed; another node may have others in their place",
                self.entries
            )
        })
    }
}

/// Entries that a later truncation may still void.
#[derive(Debug, Default)]
pub struct Resolver {
    /// Whether the newest membership names more than one voter.
    group: bool,
    open: VecDeque<(Lsn, Place, Vec<u8>)>,
    released: Lsn,
    /// Entries that were voided.
    pub voided: u64,
}

impl Resolver {
    /// Begins within the log, behind a membership that names more than one voter, or not.
    #[must_use]
    pub fn within(group: bool) -> Resolver {
        Resolver { group, ..Resolver::default() }
    }

    /// Takes the next frame; `committed` is what its batch knew to be committed.
    ///
    /// # Errors
    /// The frame contradicts what came before, or what `each` says.
    pub fn frame(
        &mut self,
        frame: &Frame<'_>,
        place: Place,
        committed: Lsn,
        each: &mut Each<'_>,
    ) -> Result<(), Wrong> {
        let wrong = |part, expected: String, found: String| {
            Err(Wrong { lsn: frame.lsn, place: Some(place), part, expected, found })
        };
        self.release(committed, each)?;
        match frame.kind {
            Kind::Entry => {
                let tip = self.open.back().map_or(self.released, |(lsn, ..)| *lsn);
                if frame.lsn != tip.next() && tip != Lsn::ZERO {
                    return wrong("log", format!("record {}", tip.next()), format!("record {}", frame.lsn));
                }
                if let Some(group) = names_a_group(frame.payload) {
                    self.group = group;
                }
                self.open.push_back((frame.lsn, place, frame.payload.to_vec()));
            }
            Kind::Truncate => {
                if frame.lsn < self.released {
                    let found = format!("record {} was committed", self.released);
                    return wrong(
                        "truncation",
                        format!("nothing committed after record {}", frame.lsn),
                        found,
                    );
                }
                while self.open.back().is_some_and(|(lsn, ..)| *lsn > frame.lsn) {
                    self.open.pop_back();
                    self.voided += 1;
                }
            }
            Kind::Vote | Kind::Purged => {}
        }
        Ok(())
    }

    /// The log is at its end: everything in it counts.
    ///
    /// # Errors
    /// What `each` says.
    pub fn finish(&mut self, each: &mut Each<'_>) -> Result<Tail, Wrong> {
        let tail = Tail { entries: self.open.len() as u64, open: self.group };
        self.release(Lsn(u64::MAX), each)?;
        Ok(tail)
    }

    fn release(&mut self, committed: Lsn, each: &mut Each<'_>) -> Result<(), Wrong> {
        while self.open.front().is_some_and(|(lsn, ..)| *lsn <= committed) {
            if let Some((lsn, place, payload)) = self.open.pop_front() {
                self.released = lsn;
                each(lsn, place, &payload)?;
            }
        }
        Ok(())
    }
}

/// Of a membership, whether it names more than one voter; `None` for other records. The first byte counts
/// configurations, the second the voters of the first.
fn names_a_group(payload: &[u8]) -> Option<bool> {
    // Only memberships are decoded: their tag is the third, and they are short and rare.
    match payload.first()? {
        2 => match Record::decode(payload).ok()?.payload {
            Payload::Membership(bytes) => Some(is_group(&bytes)),
            _ => None,
        },
        _ => None,
    }
}

/// Whether the bytes of a membership name more than one voter.
#[must_use]
pub fn is_group(membership: &[u8]) -> bool {
    membership.first().is_some_and(|first| first & 0x7f != 1)
        || membership.get(1).is_some_and(|count| *count != 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_above_the_mark_is_said_in_a_group_only() {
        for (membership, open) in
            [(&[1, 1, 7][..], false), (&[0x81, 1, 7], false), (&[1, 3, 7], true), (&[2, 1, 7], true)]
        {
            let mut bytes = Vec::new();
            Record { leader: 1, payload: Payload::Membership(membership.to_vec()) }.encode(&mut bytes);
            let mut blank = Vec::new();
            Record { leader: 1, payload: Payload::Blank }.encode(&mut blank);
            let mut resolver = Resolver::default();
            let mut each = |_: Lsn, _: Place, _: &[u8]| Ok(());
            for (lsn, body, committed) in [(1, &bytes, 0), (2, &blank, 1), (3, &blank, 1)] {
                let frame = Frame { kind: Kind::Entry, lsn: Lsn(lsn), term: 1, payload: body };
                resolver.frame(&frame, Place::default(), Lsn(committed), &mut each).unwrap();
            }
            let tail = resolver.finish(&mut each).unwrap();
            assert_eq!(tail, Tail { entries: 2, open });
            assert_eq!(tail.text().is_some(), open);
        }
    }

    type Played = (Vec<(u64, Vec<u8>)>, u64);

    fn play(frames: &[(Frame<'_>, u64)]) -> Result<Played, Wrong> {
        let mut out = Vec::new();
        let mut each = |lsn: Lsn, _: Place, payload: &[u8]| {
            out.push((lsn.0, payload.to_vec()));
            Ok(())
        };
        let mut resolver = Resolver::default();
        for (frame, committed) in frames {
            resolver.frame(frame, Place::default(), Lsn(*committed), &mut each)?;
        }
        resolver.finish(&mut each)?;
        Ok((out, resolver.voided))
    }

    #[test]
    fn a_truncation_voids_what_was_not_committed_and_nothing_else() {
        let entry = |lsn, payload: &'static [u8]| Frame::entry(Lsn(lsn), 1, payload);
        let (out, voided) = play(&[
            (entry(1, b"a"), 0),
            (Frame::vote(2, b"v"), 0),
            (entry(2, b"b"), 1),
            (entry(3, b"c"), 1),
            (Frame::truncate(Lsn(1)), 1),
            (entry(2, b"B"), 1),
        ])
        .unwrap();
        assert_eq!((out, voided), (vec![(1, b"a".to_vec()), (2, b"B".to_vec())], 2));
        let gap = play(&[(entry(1, b"a"), 0), (entry(3, b"c"), 0)]).unwrap_err();
        assert_eq!((gap.part, gap.expected.as_str()), ("log", "record 2"));
        let void = play(&[
            (entry(1, b"a"), 0),
            (entry(2, b"b"), 2),
            (entry(3, b"c"), 2),
            (Frame::truncate(Lsn(0)), 2),
        ]);
        assert_eq!(void.unwrap_err().part, "truncation");
    }
}
