//! One target's queue: a task is "bring this target to the newest checkpoint", so the queue holds one at most.
//!
//! At least once: what was not seen to succeed is tried again, with a pause that doubles, shortened by a random part so
//! that targets that failed together do not come back together. After too many tries, or a refusal that trying again
//! does not change, the task becomes a dead letter: it is shown, counted and alerted on until a later checkpoint gets
//! through, which covers every leaf of the dead one, or an operator drops it. A dead letter holds up nobody: tries for
//! newer checkpoints go on, seldom.
//!
//! Everything here is a function of what it is told; nothing reads a clock.

use serde::{Deserialize, Serialize};

/// First pause after a failure, milliseconds.
const PAUSE_MS: u64 = 1000;
/// Longest pause between tries, milliseconds.
const PAUSE_MAX_MS: u64 = 300_000;
/// Pause after a refusal for good, milliseconds.
const REFUSED_MS: u64 = 3_600_000;

/// Why a try failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// No answer, or one that says later; perhaps with the time to wait, milliseconds.
    Later(String, Option<u64>),
    /// Trying the same again does not help.
    Refused(String),
    /// A witness holds another history than this log: somebody must be woken.
    Contradicted(String),
}

impl Failure {
    /// The reason, for people.
    pub fn why(&self) -> &str {
        match self {
            Failure::Later(why, _) | Failure::Refused(why) | Failure::Contradicted(why) => why,
        }
    }
}

/// A task that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Leaves under the checkpoint that did not get through.
    pub size: u64,
    /// When the first try failed, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// When the last one did.
    pub last_ms: u64,
    /// Tries.
    pub tries: u32,
    /// What the last one said.
    pub failure: Failure,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing until there is a newer checkpoint.
    Idle,
    /// Nothing for these milliseconds.
    Wait(u64),
    /// Try.
    Go,
}

/// How often and how long a target is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Between two successes, milliseconds.
    pub every_ms: u64,
    /// Tries before a task is a dead letter.
    pub tries: u32,
}

/// The queue of one target. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    failed: u32,
    since_ms: u64,
    not_before_ms: u64,
    dropped: u64,
    letter: Option<Letter>,
}

impl Lane {
    /// What to do now: `newest` leaves stand under the newest checkpoint, `done` under the one that got through, at `at_ms`.
    pub fn next(&self, now_ms: u64, newest: u64, done: u64, at_ms: u64, terms: Terms) -> Next {
        if newest <= done.max(self.dropped) {
            return Next::Idle;
        }
        // A clock that was set back must not silence a target for longer than one period.
        let period = if done == 0 { 0 } else { at_ms.saturating_add(terms.every_ms).saturating_sub(now_ms) };
        let pause = self.not_before_ms.saturating_sub(now_ms).min(REFUSED_MS);
        match period.min(terms.every_ms).max(pause) {
            0 => Next::Go,
            wait => Next::Wait(wait),
        }
    }

    /// It got through with a checkpoint over `size` leaves.
    pub fn succeeded(&mut self, size: u64) {
        self.failed = 0;
        self.not_before_ms = 0;
        if self.letter.as_ref().is_some_and(|letter| letter.size <= size) {
            self.letter = None;
        }
    }

    /// A try for the checkpoint over `size` leaves failed. `draw` is a random number. Whether the task is now a dead letter
    /// that was none.
    pub fn failed(&mut self, now_ms: u64, size: u64, failure: Failure, draw: u64, terms: Terms) -> bool {
        self.failed = self.failed.saturating_add(1);
        if self.failed == 1 {
            self.since_ms = now_ms;
        }
        let doubled = PAUSE_MS.saturating_mul(1 << (self.failed - 1).min(20)).min(PAUSE_MAX_MS);
        let pause = match &failure {
            Failure::Later(_, asked) => (doubled - draw % (doubled / 2 + 1)).max(asked.unwrap_or(0)),
            Failure::Refused(_) => REFUSED_MS - draw % (REFUSED_MS / 2),
            Failure::Contradicted(_) => PAUSE_MAX_MS - draw % (PAUSE_MAX_MS / 2),
        };
        self.not_before_ms = now_ms.saturating_add(pause.min(REFUSED_MS));
        if self.failed < terms.tries && matches!(failure, Failure::Later(..)) && self.letter.is_none() {
            return false;
        }
        let new = self.letter.is_none();
        let (since_ms, tries) = (self.since_ms, self.failed);
        self.letter = Some(Letter { size, since_ms, last_ms: now_ms, tries, failure });
        new
    }

    /// An operator wants it tried now.
    pub fn retry(&mut self) {
        self.not_before_ms = 0;
        self.dropped = 0;
    }

    /// An operator gives the dead letter up: nothing is tried before there is a checkpoint newer than it. Whether there was one.
    pub fn drop_letter(&mut self) -> bool {
        let Some(letter) = self.letter.take() else { return false };
        self.failed = 0;
        self.not_before_ms = 0;
        self.dropped = letter.size;
        true
    }

    /// The dead letter, if there is one.
    pub fn letter(&self) -> Option<&Letter> {
        self.letter.as_ref()
    }

    /// Tries that failed in a row.
    pub fn tries(&self) -> u32 {
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { every_ms: 10_000, tries: 3 };

    fn later() -> Failure {
        Failure::Later("no answer".into(), None)
    }

    #[test]
    fn a_task_is_due_when_there_is_something_new_and_the_period_is_over() {
        let lane = Lane::default();
        for (now, newest, done, at, want) in [
            (1_000_000, 0, 0, 0, Next::Idle),
            (1_000_000, 5, 0, 0, Next::Go),
            (1_000_000, 5, 5, 1, Next::Idle),
            (1_000_000, 6, 5, 1_000_000, Next::Wait(10_000)),
            (1_009_999, 6, 5, 1_000_000, Next::Wait(1)),
            (1_010_000, 6, 5, 1_000_000, Next::Go),
            // The clock was set back by a day.
            (1_000_000, 6, 5, 87_400_000, Next::Wait(10_000)),
        ] {
            assert_eq!(lane.next(now, newest, done, at, TERMS), want, "{now} {newest} {done} {at}");
        }
    }

    #[test]
    fn pauses_double_within_bounds_and_are_shortened_by_half_at_most() {
        for draw in [0, 1, 499, u64::MAX] {
            let mut lane = Lane::default();
            let mut expected = PAUSE_MS;
            for _ in 0..40 {
                lane.failed(1000, 7, later(), draw, Terms { tries: 100, ..TERMS });
                let Next::Wait(wait) = lane.next(1000, 7, 0, 0, TERMS) else { panic!("it waits") };
                assert!(wait <= expected && wait >= expected / 2, "{wait} of {expected} with {draw}");
                expected = (expected * 2).min(PAUSE_MAX_MS);
            }
        }
        let mut lane = Lane::default();
        lane.failed(1000, 7, Failure::Later("429".into(), Some(70_000)), 0, TERMS);
        assert_eq!(lane.next(1000, 7, 0, 0, TERMS), Next::Wait(70_000), "it waits as long as it is told to");
    }

    #[test]
    fn a_dead_letter_lives_until_something_newer_gets_through_or_it_is_dropped() {
        let mut lane = Lane::default();
        assert!(!lane.failed(1, 7, later(), 0, TERMS) && !lane.failed(2, 7, later(), 0, TERMS));
        assert!(lane.letter().is_none());
        assert!(lane.failed(3, 8, later(), 0, TERMS));
        let letter = lane.letter().unwrap();
        assert_eq!((letter.size, letter.since_ms, letter.last_ms, letter.tries), (8, 1, 3, 3));
        assert!(!lane.failed(4, 9, later(), 0, TERMS), "it is the same letter, about a newer checkpoint");
        lane.succeeded(8);
        assert!(lane.letter().is_some(), "an older checkpoint does not cover it");
        lane.retry();
        assert_eq!(lane.next(20_000, 9, 8, 0, TERMS), Next::Go);
        lane.succeeded(9);
        assert_eq!(lane.letter(), None);

        assert!(lane.failed(10, 12, Failure::Refused("403".into()), 0, TERMS), "a refusal needs one try");
        assert!(lane.drop_letter() && !lane.drop_letter());
        assert_eq!(lane.next(11, 12, 9, 0, TERMS), Next::Idle, "what was dropped is not tried again");
        assert_eq!(lane.next(11_000, 13, 9, 0, TERMS), Next::Go);
        assert!(lane.failed(12, 13, Failure::Contradicted("422".into()), 0, TERMS));
    }
}
