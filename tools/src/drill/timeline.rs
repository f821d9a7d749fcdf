//! What is seen of two regions from outside, ten times a second.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::site::regions;
use crate::http::Client;

const EVERY: Duration = Duration::from_millis(100);
/// Most looks that are kept: an hour and a half.
const LOOKS_MAX: usize = 54_000;

/// One look at one region.
#[derive(Clone, Copy, Debug, Default)]
pub struct Side {
    /// Whether it answered.
    pub up: bool,
    /// Summaries that it acknowledged.
    pub acked: u64,
    /// Entries of its log.
    pub entries: u64,
    /// Of these, how many the other one is proven to hold.
    pub proven: u64,
    /// Entries of the other one that it holds.
    pub held: u64,
}

/// One look at both.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// Since the drill began.
    pub at: Duration,
    /// The regions.
    pub sides: [Side; 2],
}

/// Everything that was seen and done.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// In order.
    pub looks: Vec<Look>,
    /// What was done, and when.
    pub events: Vec<(Duration, String)>,
}

impl Timeline {
    /// For each look at which the region answered: how old the oldest of its entries was that the other one was not proven to hold.
    pub fn lags(&self, region: usize) -> Vec<(Duration, Duration)> {
        let (mut lags, mut oldest) = (Vec::new(), 0);
        for (nth, look) in self.looks.iter().enumerate() {
            let side = look.sides[region];
            if !side.up {
                continue;
            }
            while oldest < nth && self.looks[oldest].sides[region].entries <= side.proven {
                oldest += 1;
            }
            let lacks = self.looks[oldest].sides[region].entries > side.proven;
            lags.push((look.at, if lacks { look.at - self.looks[oldest].at } else { Duration::ZERO }));
        }
        lags
    }

    /// For machines: times in milliseconds.
    pub fn json(&self) -> Value {
        let side = |side: &Side| {
            json!({
                "up": side.up, "acked": side.acked, "entries": side.entries, "proven": side.proven,
                "held": side.held,
            })
        };
        let looks: Vec<Value> = self
            .looks
            .iter()
            .map(
                |look| json!({"ms": ms(look.at), "east": side(&look.sides[0]), "west": side(&look.sides[1])}),
            )
            .collect();
        let events: Vec<Value> =
            self.events.iter().map(|(at, what)| json!({"ms": ms(*at), "what": what})).collect();
        json!({"looks": looks, "events": events})
    }
}

/// A time in milliseconds.
pub fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Watches until it is ended.
pub struct Watcher {
    began: Instant,
    timeline: Arc<Mutex<Timeline>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Begins; `acked` counts acknowledgements by region.
    pub fn start(
        urls: [String; 2],
        began: Instant,
        acked: impl Fn() -> [u64; 2] + Send + 'static,
    ) -> Watcher {
        let (timeline, ended) = (Arc::new(Mutex::new(Timeline::default())), Arc::new(AtomicBool::new(false)));
        let (theirs, over) = (timeline.clone(), ended.clone());
        let thread = std::thread::spawn(move || {
            let clients: Result<Vec<Client>, _> =
                urls.iter().map(|url| Client::new(url, EVERY * 5)).collect();
            let Ok(mut clients) = clients else { return };
            while !over.load(Ordering::SeqCst) {
                let counts = acked();
                let mut look = Look { at: began.elapsed(), ..Look::default() };
                for ((side, client), acked) in look.sides.iter_mut().zip(&mut clients).zip(counts) {
                    *side = see(&regions(client), acked);
                }
                let mut timeline = theirs.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                if timeline.looks.len() < LOOKS_MAX {
                    timeline.looks.push(look);
                }
                drop(timeline);
                std::thread::sleep(EVERY);
            }
        });
        Watcher { began, timeline, ended, thread: Some(thread) }
    }

    /// Notes that something was done; gives when.
    pub fn note(&self, what: impl Into<String>) -> Duration {
        let at = self.began.elapsed();
        self.look(|timeline| timeline.events.push((at, what.into())));
        at
    }

    /// Looks at what was seen so far.
    pub fn look<T>(&self, look: impl FnOnce(&mut Timeline) -> T) -> T {
        look(&mut self.timeline.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Ends; gives everything.
    pub fn end(&mut self) -> Timeline {
        self.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.look(|timeline| timeline.clone())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.end();
    }
}

fn see(said: &Value, acked: u64) -> Side {
    let peer = &said["peers"][0];
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    Side {
        up: said.is_object(),
        acked,
        entries: number(&said["newest"]),
        proven: number(&peer["proven"]),
        held: number(&peer["leaves"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_is_the_age_of_the_oldest_entry_that_is_not_proven() {
        let mut timeline = Timeline::default();
        for (second, entries, proven) in [(0, 5, 5), (1, 7, 5), (2, 9, 7), (3, 11, 7), (4, 11, 11)] {
            let mut look = Look { at: Duration::from_secs(second), ..Look::default() };
            look.sides[1] = Side { up: true, entries, proven, ..Side::default() };
            timeline.looks.push(look);
        }
        let lags: Vec<u64> = timeline.lags(1).iter().map(|(_, lag)| lag.as_secs()).collect();
        assert_eq!(lags, [0, 0, 0, 1, 0]);
        assert!(timeline.lags(0).is_empty());
    }
}
