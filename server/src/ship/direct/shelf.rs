//! What other regions may ask this node for: the next range of our log, and what we say of theirs and of where we stand.
//!
//! Nothing is stored: a range is cut when it is asked for, from the log that every node has, and kept until the next one is asked for. So
//! a bill is asked for by the record at which it is to begin, and there is always one from there, if there is anything. Two
//! nodes may cut a range in two ways; both say what the log says, and who asks takes one of them.
//!
//! Only a node that leads gives anything. L1: one range for each region that may ask, and one note for each name.

use super::super::cut::{Cut, Range};
use super::super::ports::Home;
use super::super::{Regions, TICK};
use crate::ship::bill::Bill;
use bytes::Bytes;
use engine::limits::ORIGINS_MAX;
use engine::log::Lsn;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A region that has not asked for this long is away.
const AWAY_AFTER: Duration = Duration::from_secs(5);

/// The last range that a region asked for.
struct Given {
    from: Lsn,
    /// When there is another: at once only after a full one, because each is a record of the log that takes it in.
    next: Duration,
    note: Bytes,
    chunk: String,
    packed: Bytes,
}

/// How far one region is.
#[derive(Default)]
struct Course {
    cut: Option<Cut>,
    given: Option<Given>,
}

/// When a region asked last, and since when there has been something it does not have; milliseconds since the Unix epoch.
#[derive(Clone, Copy, Default)]
struct Times {
    asked_ms: u64,
    waits_ms: u64,
}

/// What lies ready.
pub struct Shelf {
    said: Mutex<BTreeMap<String, Bytes>>,
    courses: Vec<tokio::sync::Mutex<Course>>,
    times: Mutex<Vec<Times>>,
}

/// Why something is not given.
#[derive(Debug, PartialEq, Eq)]
pub enum NotGiven {
    /// There is none, or none yet.
    Nothing,
    /// No such name.
    Name,
    /// It failed; asking again is right.
    Failed(String),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shelf {
    /// One that so many regions may ask.
    pub fn new(regions: usize) -> Shelf {
        Shelf {
            said: Mutex::default(),
            courses: (0..regions).map(|_| tokio::sync::Mutex::default()).collect(),
            times: Mutex::new(vec![Times::default(); regions]),
        }
    }

    /// Says something under this name, in the place of what was said before.
    ///
    /// # Errors
    /// When more is said than there can be.
    pub fn say(&self, name: &str, bytes: Bytes) -> Result<(), String> {
        let mut said = lock(&self.said);
        if said.len() > usize::from(ORIGINS_MAX) && !said.contains_key(name) {
            return Err(format!("there is no room for {name}"));
        }
        said.insert(name.to_owned(), bytes);
        Ok(())
    }

    /// What was said under this name.
    pub fn said(&self, name: &str) -> Option<Bytes> {
        lock(&self.said).get(name).cloned()
    }

    /// What the `nth` region gets under this name.
    ///
    /// # Errors
    /// [`NotGiven`].
    pub async fn give<H: Home, P>(
        &self,
        home: &H,
        regions: &Regions<P>,
        nth: usize,
        name: &str,
    ) -> Result<Bytes, NotGiven> {
        let Some((kind, rest)) = name.split_once('/') else {
            return if name == "standing" {
                self.said(name).ok_or(NotGiven::Nothing)
            } else {
                Err(NotGiven::Name)
            };
        };
        match kind {
            "mirrors" => self.said(name).ok_or(NotGiven::Nothing),
            "bills" => {
                let from = rest.parse().ok().map(Lsn).filter(|from| Bill::name(*from) == name);
                self.bill(home, regions, nth, from.ok_or(NotGiven::Name)?).await
            }
            "chunks" => {
                let course = self.courses[nth].lock().await;
                let given = course.given.as_ref().filter(|given| given.chunk == name);
                let packed = given.ok_or(NotGiven::Nothing)?.packed.clone();
                drop(course);
                home.sleep(regions.pace(packed.len())).await;
                regions.lock().bytes += packed.len() as u64;
                Ok(packed)
            }
            _ => Err(NotGiven::Name),
        }
    }

    async fn bill<H: Home, P>(
        &self,
        home: &H,
        regions: &Regions<P>,
        nth: usize,
        from: Lsn,
    ) -> Result<Bytes, NotGiven> {
        let mut course = self.courses[nth].lock().await;
        if let Some(given) = course.given.as_ref().filter(|given| given.from == from) {
            return Ok(given.note.clone());
        }
        let applied = home.ledger(|ledger| ledger.applied());
        let early = course.given.as_ref().is_some_and(|given| home.up() < given.next);
        if early || from == Lsn::ZERO || from > applied.next() {
            return Err(NotGiven::Nothing);
        }
        let before = Lsn(from.0 - 1);
        if course.cut.as_ref().is_none_or(|cut| cut.end() != before) {
            course.cut = Some(Cut::after(before));
        }
        // Who asks may go away at any time, and then this ends at whichever `await` it is. Reading on can be taken up there;
        // a range that was half gathered cannot, so what it is gathered from is not put back then.
        let looked = course.cut.as_mut().expect("it was put there").look(home).await;
        let mut cut = course.cut.take().expect("it was put there");
        looked.map_err(NotGiven::Failed)?;
        let found = next(home, regions, &mut cut).await.map_err(NotGiven::Failed)?;
        regions.lock().why = None;
        let now_ms = home.wall_ms();
        {
            let times = &mut lock(&self.times)[nth];
            let since = if times.waits_ms == 0 { now_ms } else { times.waits_ms };
            // With the range it gets what waited; what has come since is new.
            times.waits_ms = match (cut.waits(), found.is_some()) {
                (false, _) => 0,
                (true, true) => now_ms,
                (true, false) => since,
            };
            times.asked_ms = now_ms;
        }
        course.cut = Some(cut);
        let Some((Range { bill, packed, full }, note)) = found else { return Err(NotGiven::Nothing) };
        {
            let mut inner = regions.lock();
            inner.shipped = inner.shipped.max(bill.to.0);
            inner.bills += 1;
        }
        let note = Bytes::from(note);
        let next = home.up() + if full { Duration::ZERO } else { TICK };
        course.given = Some(Given { from, next, note: note.clone(), chunk: bill.chunk(), packed });
        Ok(note)
    }

    /// Keeps what is told of shipping true while nobody asks, until it is dropped.
    pub async fn watch<H: Home, P>(&self, home: &H, regions: &Regions<P>) {
        let mut led_ms = 0;
        loop {
            home.sleep(TICK).await;
            if !home.leads() {
                (led_ms, regions.lock().behind_ms) = (0, 0);
                lock(&self.times).fill(Times::default());
                continue;
            }
            let now_ms = home.wall_ms();
            led_ms = if led_ms == 0 { now_ms } else { led_ms };
            let behind = lock(&self.times)
                .iter()
                .map(|times| behind(*times, led_ms, now_ms))
                .filter(|ms| *ms > 0)
                .min();
            regions.lock().behind_ms = behind.unwrap_or(0);
        }
    }
}

/// Since when a region has lacked something: it says so by asking, or does not ask at all.
fn behind(times: Times, led_ms: u64, now_ms: u64) -> u64 {
    let asked_ms = times.asked_ms.max(led_ms);
    if now_ms.saturating_sub(asked_ms) > AWAY_AFTER.as_millis() as u64 { asked_ms } else { times.waits_ms }
}

async fn next<H: Home, P>(
    home: &H,
    regions: &Regions<P>,
    cut: &mut Cut,
) -> Result<Option<(Range, Vec<u8>)>, String> {
    if !cut.is_ready() {
        return Ok(None);
    }
    let Some(range) = cut.next(home, regions.own()).await? else { return Ok(None) };
    let note = home.sign(&range.bill)?;
    cut.went(range.bill.to);
    Ok(Some((range, note)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_takes_the_place_of_what_was_said_and_has_a_bound() {
        let shelf = Shelf::new(1);
        for nth in 0..=u16::from(ORIGINS_MAX) {
            shelf.say(&format!("mirrors/{nth}"), Bytes::from_static(b"a")).unwrap();
        }
        shelf.say("mirrors/0", Bytes::from_static(b"b")).unwrap();
        assert_eq!(shelf.said("mirrors/0"), Some(Bytes::from_static(b"b")));
        assert_eq!(shelf.said("standing"), None);
        assert!(shelf.say("one more", Bytes::new()).is_err());
    }

    #[test]
    fn a_region_that_does_not_ask_lacks_what_there_is() {
        let asked = Times { asked_ms: 1000, waits_ms: 0 };
        assert_eq!(behind(asked, 500, 1000 + 5000), 0);
        assert_eq!(behind(asked, 500, 1000 + 5001), 1000);
        assert_eq!(behind(Times { asked_ms: 1000, waits_ms: 900 }, 500, 1100), 900);
        assert_eq!(behind(Times::default(), 2000, 2001), 0, "a new leader was not asked yet");
        assert_eq!(behind(Times::default(), 2000, 9000), 2000);
    }
}
