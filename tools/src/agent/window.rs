//! Cutting a stream into windows, which become one summary each.
//!
//! Windows are consecutive and share no event; equal streams give equal windows, so an agent that starts again
//! finds the summaries it had made. A window that the stream ends in is left open: were it sent, the same stretch
//! would be summarised twice once the stream has grown.

use super::events::Event;

/// Most events of one window: they are held in memory until it closes.
pub const WINDOW_MAX: usize = 1 << 20;

/// What closes a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cut {
    /// So many events.
    Count(usize),
    /// So many seconds of event time, aligned to 1970; events that go back in time stay in the open window.
    Seconds(f64),
}

/// A closed window.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// 0-based number in the stream; it becomes the summary's epoch.
    pub index: u64,
    /// Its events, at least one.
    pub events: Vec<Event>,
}

/// Cuts events into windows as they come.
#[derive(Debug)]
pub struct Cutter {
    cut: Cut,
    index: u64,
    slot: f64,
    open: Vec<Event>,
}

impl Cutter {
    /// A cutter at the start of a stream.
    #[must_use]
    pub fn new(cut: Cut) -> Cutter {
        Cutter { cut, index: 0, slot: f64::NEG_INFINITY, open: Vec::new() }
    }

    /// Takes one event; gives the window that it closed.
    pub fn push(&mut self, event: Event) -> Option<Window> {
        match self.cut {
            Cut::Count(count) => {
                self.open.push(event);
                (self.open.len() >= count.clamp(1, WINDOW_MAX)).then(|| self.close())
            }
            Cut::Seconds(length) => {
                let slot = (event.seconds / length).floor();
                let full = self.open.len() >= WINDOW_MAX;
                let closed = ((slot > self.slot || full) && !self.open.is_empty()).then(|| self.close());
                self.slot = self.slot.max(slot);
                self.open.push(event);
                closed
            }
        }
    }

    /// The window that the stream ended in, if it holds anything.
    pub fn rest(&mut self) -> Option<Window> {
        (!self.open.is_empty()).then(|| self.close())
    }

    /// Events in the window that is open.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.open.len()
    }

    fn close(&mut self) -> Window {
        let window = Window { index: self.index, events: std::mem::take(&mut self.open) };
        self.index += 1;
        window
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(seconds: f64) -> Event {
        Event { seconds, values: vec![seconds], texts: vec![seconds.to_string()] }
    }

    fn cut(times: &[f64], by: Cut) -> (Vec<Window>, Option<Window>) {
        let mut cutter = Cutter::new(by);
        let closed = times.iter().filter_map(|&at| cutter.push(event(at))).collect();
        (closed, cutter.rest())
    }

    fn cuts() -> impl Strategy<Value = Cut> {
        prop_oneof![(1usize..20).prop_map(Cut::Count), (0.5f64..50.0).prop_map(Cut::Seconds)]
    }

    proptest! {
        /// Nothing is lost, doubled or reordered, and windows are numbered without a gap.
        #[test]
        fn windows_are_the_stream(times in prop::collection::vec(-100.0f64..1000.0, 0..200), by in cuts()) {
            let (closed, rest) = cut(&times, by);
            let all: Vec<&Window> = closed.iter().chain(&rest).collect();
            let joined: Vec<f64> = all.iter().flat_map(|window| window.events.iter().map(|event| event.seconds)).collect();
            prop_assert_eq!(joined, times);
            for (index, window) in all.iter().enumerate() {
                prop_assert_eq!(window.index, index as u64);
                prop_assert!(!window.events.is_empty());
            }
            if let Cut::Count(count) = by {
                prop_assert!(closed.iter().all(|window| window.events.len() == count));
                prop_assert!(rest.is_none_or(|window| window.events.len() < count));
            }
        }

        /// A stream that grows keeps the windows it had: what an agent sent before a restart stays valid.
        #[test]
        fn a_longer_stream_begins_with_the_same_windows(
            times in prop::collection::vec(0.0f64..1000.0, 0..200), by in cuts(), cutoff in 0usize..200,
        ) {
            let shorter = cut(&times[..cutoff.min(times.len())], by).0;
            let longer = cut(&times, by).0;
            prop_assert!(longer.len() >= shorter.len());
            prop_assert_eq!(&longer[..shorter.len()], &shorter[..]);
        }

        /// In ordered time, two events share a window of time exactly if they share its slot.
        #[test]
        fn time_windows_are_slots(mut times in prop::collection::vec(0.0f64..1000.0, 1..200), length in 0.5f64..50.0) {
            times.sort_by(f64::total_cmp);
            let (closed, rest) = cut(&times, Cut::Seconds(length));
            let mut last = f64::NEG_INFINITY;
            for window in closed.iter().chain(&rest) {
                let slot = (window.events[0].seconds / length).floor();
                prop_assert!(slot > last);
                last = slot;
                prop_assert!(window.events.iter().all(|event| (event.seconds / length).floor() == slot));
            }
        }
    }
}
