//! Which segment and which batch hold the living copy of a position, in bounded memory.
//!
//! A position may stand in the log more than once: voided by a truncation and written again. Only the last copy
//! lives. For each segment the index keeps the range that lives there; for a few segments it also keeps marks,
//! one for about every [`STRIDE`] bytes and one for every batch that truncates.

use std::collections::BTreeMap;

use engine::log::Lsn;

use crate::batch::{Header, KEPT_ALL};

/// Bytes of log between two marks: what a read may have to walk over to find its batch.
const STRIDE: u64 = 64 << 10;

/// Segments whose marks are kept besides the last one's.
const MARKED_MAX: usize = 8;

/// The range that lives in one segment: `first..=last`, empty when `last` is before `first`. A purge that moved
/// the tip forward leaves positions inside it that never were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub first: u64,
    pub last: u64,
}

/// From `offset` on live positions from `first` on, up to the next mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    first: u64,
    offset: u64,
}

/// The marks of one segment: `first` grows, `offset` does not shrink.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks(Vec<Mark>);

impl Marks {
    /// Notes one durable batch, in order.
    pub(crate) fn note(&mut self, header: &Header) {
        self.0.retain(|mark| mark.first <= header.kept);
        let far = self.0.last().is_none_or(|mark| header.offset - mark.offset >= STRIDE);
        if header.first != 0 && header.first <= header.kept && far {
            self.0.push(Mark { first: header.first, offset: header.offset });
        }
        if header.kept != KEPT_ALL {
            self.0.push(Mark { first: header.kept + 1, offset: header.offset });
        }
    }

    /// Where to begin to look for a position, and the first position to look for elsewhere.
    pub(crate) fn locate(&self, lsn: u64) -> Option<(u64, u64)> {
        let after = self.0.partition_point(|mark| mark.first <= lsn);
        let mark = self.0.get(after.checked_sub(1)?)?;
        Some((mark.offset, self.0.get(after).map_or(u64::MAX, |next| next.first)))
    }
}

/// The whole index.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Segment `n` at `n - 1`.
    spans: Vec<Span>,
    marks: BTreeMap<u64, Marks>,
}

impl Index {
    /// The next segment begins after `tip`.
    pub(crate) fn begin(&mut self, tip: Lsn) {
        self.spans.push(Span { first: tip.0 + 1, last: tip.0 });
        let active = self.spans.len() as u64;
        self.marks.insert(active, Marks::default());
        self.forget_some(active);
    }

    /// A sealed segment nobody walked: what lives there from its beginning on was void in those before it.
    pub(crate) fn skip(&mut self, span: Span) {
        for earlier in self.spans.iter_mut().rev() {
            if earlier.last < span.first {
                break;
            }
            earlier.last = span.first - 1;
            earlier.first = earlier.first.min(span.first);
        }
        self.spans.push(span);
    }

    /// Notes a durable batch of the last segment.
    pub(crate) fn note(&mut self, header: &Header) {
        let active = self.spans.len() as u64;
        if header.kept != KEPT_ALL {
            for (nth, span) in self.spans.iter_mut().enumerate().rev() {
                if span.last <= header.kept {
                    break;
                }
                span.last = header.kept;
                span.first = span.first.min(header.kept + 1);
                if nth as u64 + 1 != active {
                    self.marks.remove(&(nth as u64 + 1));
                }
            }
        }
        let span = self.spans.last_mut().expect("a log has a segment");
        span.last = header.tip.0.max(span.first - 1);
        self.marks.entry(active).or_default().note(header);
    }

    /// The range that lives in a segment.
    pub(crate) fn span(&self, segment: u64) -> Span {
        self.spans[segment as usize - 1]
    }

    /// The segment in which a position lives.
    pub(crate) fn segment_of(&self, lsn: Lsn) -> Option<u64> {
        let after = self.spans.partition_point(|span| span.first <= lsn.0);
        // Empty spans share their beginning with the one that follows; the last that begins at or before holds it.
        let nth = after.checked_sub(1)?;
        (lsn.0 <= self.spans[nth].last).then_some(nth as u64 + 1)
    }

    /// First position that lives anywhere, 0 for none.
    pub(crate) fn first(&self) -> Lsn {
        self.spans.iter().find(|span| span.first <= span.last).map_or(Lsn::ZERO, |span| Lsn(span.first))
    }

    pub(crate) fn marks(&self, segment: u64) -> Option<&Marks> {
        self.marks.get(&segment)
    }

    /// Keeps the marks of a segment that was walked to be read.
    pub(crate) fn remember(&mut self, segment: u64, marks: Marks) {
        self.marks.insert(segment, marks);
        self.forget_some(segment);
    }

    /// Drops the marks of a finished segment: its batches may stand elsewhere now.
    pub(crate) fn forget(&mut self, segment: u64) {
        self.marks.remove(&segment);
    }

    /// Bounds memory: drops the marks of the oldest segments but one.
    fn forget_some(&mut self, but: u64) {
        while self.marks.len() > MARKED_MAX + 1 {
            let active = self.spans.len() as u64;
            let oldest = self.marks.keys().copied().find(|segment| *segment != but && *segment != active);
            match oldest {
                Some(segment) => self.marks.remove(&segment),
                None => return,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::log::Digest;

    use super::*;

    fn header(offset: u64, first: u64, tip: u64, kept: u64) -> Header {
        let (tip, chain) = (Lsn(tip), Digest::ZERO);
        let (durable_lsn, committed) = (Lsn::ZERO, Lsn::ZERO);
        Header {
            bytes: 4096,
            used: 200,
            frames: 1,
            offset,
            number: 1,
            durable: 0,
            durable_lsn,
            committed,
            first,
            tip,
            kept,
            chain,
        }
    }

    #[test]
    fn a_truncation_hides_what_it_voids() {
        let mut index = Index::default();
        index.begin(Lsn::ZERO);
        index.note(&header(4096, 1, 10, KEPT_ALL));
        index.begin(Lsn(10));
        index.note(&header(4096, 11, 20, KEPT_ALL));
        index.begin(Lsn(20));
        assert_eq!(index.segment_of(Lsn(15)), Some(2));
        assert_eq!(index.segment_of(Lsn(21)), None);
        index.note(&header(4096, 0, 7, 7));
        assert_eq!(index.segment_of(Lsn(7)), Some(1));
        assert_eq!(index.segment_of(Lsn(8)), None);
        index.note(&header(8192, 8, 9, KEPT_ALL));
        assert_eq!(index.segment_of(Lsn(8)), Some(3));
        assert_eq!(index.segment_of(Lsn(10)), None);
        assert_eq!(index.span(2), Span { first: 8, last: 7 });
        assert_eq!(index.first(), Lsn(1));
    }

    #[test]
    fn a_segment_that_nobody_walked_hides_what_it_voided() {
        let mut index = Index::default();
        for (first, last) in [(1, 10), (11, 20), (8, 7), (8, 30)] {
            index.skip(Span { first, last });
        }
        assert_eq!((1..=4).map(|n| index.span(n).last).collect::<Vec<_>>(), [7, 7, 7, 30]);
        let segments: Vec<_> = [7, 8, 15, 30, 31].map(|lsn| index.segment_of(Lsn(lsn))).into();
        assert_eq!(segments, [Some(1), Some(4), Some(4), Some(4), None]);
    }

    #[test]
    fn a_batch_that_writes_voids_and_writes_again_is_found_for_both() {
        let mut marks = Marks::default();
        marks.note(&header(4096, 5, 6, 5));
        assert_eq!(marks.locate(5), Some((4096, 6)));
        assert_eq!(marks.locate(6), Some((4096, u64::MAX)));
        assert_eq!(marks.locate(4), None);
    }

    #[test]
    fn marks_stay_bounded() {
        let mut index = Index::default();
        for segment in 0..100 {
            index.begin(Lsn(segment));
            index.note(&header(4096, segment + 1, segment + 1, KEPT_ALL));
        }
        assert!(index.marks.len() <= MARKED_MAX + 1);
        assert!(index.marks(100).is_some());
    }
}
