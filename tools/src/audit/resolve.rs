//! Which entries of a log count: truncations void what was never committed.
//!
//! An entry is released once the log itself says it was committed, or at the log's end: with one voter everything
//! durable is committed. What waits is bounded by what a leader may have in flight.

use std::collections::VecDeque;

use engine::log::Lsn;
use segments::{Frame, Kind};

use super::{Place, Wrong};

/// Takes a released entry.
pub type Each<'a> = dyn FnMut(Lsn, Place, &[u8]) -> Result<(), Wrong> + 'a;

/// Entries that a later truncation may still void.
#[derive(Debug, Default)]
pub struct Resolver {
    open: VecDeque<(Lsn, Place, Vec<u8>)>,
    released: Lsn,
    /// Entries that were voided.
    pub voided: u64,
}

impl Resolver {
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
    pub fn finish(&mut self, each: &mut Each<'_>) -> Result<(), Wrong> {
        self.release(Lsn(u64::MAX), each)
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

#[cfg(test)]
mod tests {
    use super::*;

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
