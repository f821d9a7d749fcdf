//! P22: a backlog of anchors with a slow authority, by log time and without waiting for it.
//!
//! The engine's own queue ([`server::anchor::Lane`]) decides when the authority is asked; the authority and the clock are
//! simulated, so hours pass in milliseconds and every run is the same. An entry is done when a checkpoint over it is
//! attested. Because a task is "the newest checkpoint", the load changes how many entries wait and not how many requests
//! there are; that the share stays the same under twice the load is what the second column shows.

use crate::context::Context;
use crate::rows::{Bound, Row, command, figure};
use server::anchor::{Failure, Lane, Next, Terms};

/// Log time that is simulated, ms: two days.
const SPAN_MS: u64 = 48 * HOUR_MS;
const HOUR_MS: u64 = 3_600_000;
/// A checkpoint is made this often, ms.
const CHECKPOINT_MS: u64 = 500;
/// Entries an hour in normal load: the steady ten a second of a fleet of agents.
const NORMAL: u64 = 36_000;

/// An authority that is slow, fails and goes away.
struct Slow {
    what: &'static str,
    /// Time until it answers, ms, up to twice this.
    delay_ms: u64,
    /// Of ten requests so many fail.
    fails: u64,
    /// It is away for the first so many ms of every sixth hour.
    away_ms: u64,
}

const AUTHORITIES: [Slow; 4] = [
    Slow { what: "answers within 2 to 4 min", delay_ms: 120_000, fails: 0, away_ms: 0 },
    Slow { what: "answers within 2 to 4 min, 3 of 10 tries fail", delay_ms: 120_000, fails: 3, away_ms: 0 },
    Slow {
        what: "answers within 1 to 2 min, away 20 min every 6 h",
        delay_ms: 60_000,
        fails: 1,
        away_ms: 1_200_000,
    },
    Slow {
        what: "answers within 10 to 20 s, away 5 h of 6",
        delay_ms: 10_000,
        fails: 0,
        away_ms: 5 * HOUR_MS,
    },
];

/// A drawing that is the same in every run (SplitMix64).
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }
}

/// What a run says.
struct Told {
    /// Share of the entries that were attested within an hour of their log time.
    share: f64,
    /// The longest an entry waited, ms.
    longest_ms: u64,
    letters: u32,
}

/// Simulates an authority with `per_hour` entries coming in.
fn simulate(slow: &Slow, per_hour: u64, every_ms: u64) -> Told {
    let terms = Terms { every_ms, tries: 8 };
    let (mut lane, mut draws) = (Lane::default(), Draws(22));
    let (mut now, mut done, mut done_at, mut letters) = (0_u64, 0_u64, 0_u64, 0_u32);
    // Entry n (from 1) has log time n / per_hour hours; under a checkpoint stand all entries before it.
    let time_of = |entry: u64| entry * HOUR_MS / per_hour;
    let under = |now: u64| (now / CHECKPOINT_MS * CHECKPOINT_MS) * per_hour / HOUR_MS;
    let (mut within, mut longest) = (0_u64, 0_u64);
    while now < SPAN_MS {
        let newest = under(now);
        let wait = match lane.next(now, newest, done, done_at, terms) {
            Next::Go => 0,
            Next::Wait(wait) => wait.clamp(1, 250),
            Next::Idle => 250,
        };
        if wait > 0 {
            now += wait;
            continue;
        }
        let away = now % (6 * HOUR_MS) < slow.away_ms;
        now += slow.delay_ms + draws.next() % slow.delay_ms.max(1);
        if away || draws.next() % 10 < slow.fails {
            letters += u32::from(lane.failed(
                now,
                newest,
                Failure::Later("no answer".into(), None),
                draws.next(),
                terms,
            ));
            continue;
        }
        lane.succeeded(newest);
        longest = longest.max(now - time_of(done + 1));
        // Entries come evenly: those younger than an hour are the last ones.
        let young = (done + 1..=newest).rev().take_while(|entry| now - time_of(*entry) <= HOUR_MS).count();
        within += young as u64;
        (done, done_at) = (newest, now);
    }
    // What came in the last hour may still be in time.
    let judged = under(SPAN_MS - HOUR_MS).max(1);
    Told { share: within.min(judged) as f64 / judged as f64, longest_ms: longest, letters }
}

/// P22: the share done within an hour, under normal load and twice that.
pub fn rows(_context: &Context) -> Vec<Row> {
    let mut rows = Vec::new();
    for slow in &AUTHORITIES {
        for every_s in [600, 1800] {
            let [normal, twice] = [NORMAL, 2 * NORMAL].map(|load| simulate(slow, load, every_s * 1000));
            let told = |told: &Told| format!("{:.4} of the entries", told.share);
            // An authority that is away for hours cannot attest within one; how it ends is told.
            let possible = slow.away_ms < HOUR_MS;
            rows.push(Row {
                id: "P22",
                what: format!(
                    "attested within an hour by log time, twice the load, every {every_s} s; {}",
                    slow.what
                ),
                ours: told(&twice),
                reference: format!("normal load: {}", told(&normal)),
                value: twice.share,
                bound: if possible { Bound::AtLeast { floor: 0.99, moonshot: None } } else { Bound::Told },
                command: command("P22"),
                notes: vec![format!(
                    "the longest wait of an entry {} min, dead letters {}; normal load {} min, {}",
                    figure(twice.longest_ms as f64 / 60_000.0),
                    twice.letters,
                    figure(normal.longest_ms as f64 / 60_000.0),
                    normal.letters
                )],
                refused: None,
            });
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_authority_attests_everything_and_one_that_is_away_does_not() {
        let quick = Slow { what: "", delay_ms: 1, fails: 0, away_ms: 0 };
        let told = simulate(&quick, NORMAL, 600_000);
        assert!(told.share == 1.0 && told.longest_ms < HOUR_MS / 2 && told.letters == 0, "{}", told.share);
        let away = Slow { away_ms: 5 * HOUR_MS, ..quick };
        let told = simulate(&away, NORMAL, 600_000);
        assert!(told.share < 0.5 && told.letters > 0 && told.longest_ms > 4 * HOUR_MS, "{}", told.share);
        assert_eq!(simulate(&away, NORMAL, 600_000).share, told.share, "every run is the same");
    }
}
