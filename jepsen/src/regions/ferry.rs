//! What carries shipments from the place where a region puts them to the place where the other one finds them: a store with two
//! ends, as object stores that copy between continents are. Each way can be cut, slow, out of order, and bring again what was.

use crate::rng::Rng;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Between two looks at the near end.
const EVERY: Duration = Duration::from_millis(20);
/// Where objects lie; what a region says of where it stands lies beside.
const KINDS: [&str; 4] = ["chunks", BILLS, "mirrors", ""];
const BILLS: &str = "bills";
/// Most objects that may come again.
const OLD_MAX: usize = 256;

/// What happens to objects on a way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// None arrives.
    pub cut: bool,
    /// Every object takes up to this long, each its own, so that they overtake each other.
    pub late_ms: u64,
    /// So many of a hundred looks bring something once more that arrived before, as it was then.
    pub again: u64,
    /// So many of a hundred objects arrive with a bit flipped. They come again, as they are, under another rule.
    pub garbled: u64,
}

/// What a way did so far.
#[derive(Debug, Default)]
pub struct Tally {
    /// Objects that arrived.
    pub carried: AtomicU64,
    /// Objects that came while the way was cut.
    pub held: AtomicU64,
    /// Objects that arrived after others that had been put later.
    pub overtaken: AtomicU64,
    /// Objects that arrived again.
    pub again: AtomicU64,
    /// Objects that arrived with a flipped bit.
    pub garbled: AtomicU64,
}

/// An object that is on its way.
struct Parcel {
    due: Instant,
    nth: u64,
    name: String,
}

/// A way of one region's shipments to the other one.
pub struct Way {
    /// Where they are put: the place of the region that makes them.
    pub near: PathBuf,
    /// Where the other one finds them.
    pub far: PathBuf,
    rule: Mutex<Rule>,
    stop: AtomicBool,
    /// What it did so far.
    pub tally: Tally,
}

impl Way {
    /// Begins to carry `region`'s shipments from the place `near` to the place `far`.
    pub fn start(near: &Path, far: &Path, region: &str, seed: u64) -> Arc<Way> {
        let way = Arc::new(Way {
            near: near.join(region),
            far: far.join(region),
            rule: Mutex::default(),
            stop: AtomicBool::new(false),
            tally: Tally::default(),
        });
        let (own, rng) = (Arc::clone(&way), Rng::new(seed, &format!("ferry of {region}")));
        std::thread::spawn(move || own.carry(rng));
        way
    }

    /// Changes what happens to objects.
    pub fn rule(&self, rule: Rule) {
        *self.rule.lock().unwrap_or_else(PoisonError::into_inner) = rule;
    }

    /// Carries nothing more.
    pub fn end(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    fn carry(&self, mut rng: Rng) {
        let mut known: BTreeMap<String, (u64, SystemTime)> = BTreeMap::new();
        let mut under_way: Vec<Parcel> = Vec::new();
        let mut old: Vec<(String, Vec<u8>)> = Vec::new();
        let mut garbled: Vec<String> = Vec::new();
        let (mut nth, mut newest) = (0, 0);
        while !self.stop.load(Ordering::SeqCst) {
            std::thread::sleep(EVERY);
            let rule = *self.rule.lock().unwrap_or_else(PoisonError::into_inner);
            if rule.garbled == 0 {
                for name in garbled.drain(..) {
                    known.remove(&name);
                }
            }
            for (name, stamp) in self.look() {
                if known.insert(name.clone(), stamp) != Some(stamp) {
                    let due = Instant::now() + Duration::from_millis(rng.below(rule.late_ms + 1));
                    nth += 1;
                    under_way.push(Parcel { due, nth, name });
                    count(&self.tally.held, u64::from(rule.cut));
                }
            }
            if rule.cut {
                continue;
            }
            if rng.chance(rule.again, 100) && !old.is_empty() {
                let (name, bytes) = &old[rng.below(old.len() as u64) as usize];
                if self.put(name, bytes).is_ok() {
                    count(&self.tally.again, 1);
                }
                // What is newer comes once more behind it.
                known.remove(name);
            }
            let now = Instant::now();
            let (mut due, later): (Vec<_>, Vec<_>) = under_way.into_iter().partition(|next| next.due <= now);
            under_way = later;
            due.sort_by_key(|next| next.due);
            for Parcel { nth, name, .. } in due {
                let Ok(mut bytes) = std::fs::read(self.near.join(&name)) else {
                    // It was taken away, or its place was: if it is seen again, it is carried.
                    known.remove(&name);
                    continue;
                };
                let flip = !bytes.is_empty() && rng.chance(rule.garbled, 100);
                if flip {
                    let at = rng.below(bytes.len() as u64) as usize;
                    bytes[at] ^= 1 << rng.below(8);
                    garbled.push(name.clone());
                }
                if self.put(&name, &bytes).is_err() {
                    known.remove(&name);
                    continue;
                }
                count(&self.tally.carried, 1);
                count(&self.tally.garbled, u64::from(flip));
                count(&self.tally.overtaken, u64::from(nth < newest));
                newest = newest.max(nth);
                if flip {
                    continue;
                }
                if old.len() < OLD_MAX {
                    old.push((name, bytes));
                } else {
                    let at = rng.below(OLD_MAX as u64) as usize;
                    old[at] = (name, bytes);
                }
            }
        }
    }

    fn put(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let (path, beside) = (self.far.join(name), self.far.join(".ferry"));
        path.parent().into_iter().try_for_each(std::fs::create_dir_all)?;
        std::fs::write(&beside, bytes)?;
        std::fs::rename(beside, path)
    }

    /// Objects at the near end; those that are being written have a `#` in their names.
    fn look(&self) -> Vec<(String, (u64, SystemTime))> {
        let mut found = Vec::new();
        for kind in KINDS {
            let Ok(entries) = std::fs::read_dir(self.near.join(kind)) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let Some(meta) = entry.metadata().ok().filter(|meta| meta.is_file() && !name.contains('#'))
                else {
                    continue;
                };
                let Ok(changed) = meta.modified() else { continue };
                let name = if kind.is_empty() { name } else { format!("{kind}/{name}") };
                found.push((name, (meta.len(), changed)));
            }
        }
        found
    }

    /// Bills at the near end, by the record that they begin at.
    pub fn bills(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.near.join(BILLS)).into_iter().flatten().flatten();
        let plain = |path: &PathBuf| path.to_str().is_some_and(|path| !path.contains('#'));
        let mut bills: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(plain).collect();
        bills.sort();
        bills
    }

    /// The same bill at the far end.
    pub fn at_far(&self, bill: &Path) -> PathBuf {
        self.far.join(BILLS).join(bill.file_name().unwrap_or_default())
    }
}

fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_arrives_and_nothing_while_it_is_cut() {
        let dir = std::env::temp_dir().join(format!("ferry-{}", std::process::id()));
        let (near, far) = (dir.join("near"), dir.join("far"));
        std::fs::create_dir_all(near.join("a/bills")).unwrap();
        // As a store does: an object is there whole or not at all.
        let put = |name: &str, text: &str| {
            std::fs::write(near.join("a/new#1"), text).unwrap();
            std::fs::rename(near.join("a/new#1"), near.join(name)).unwrap();
        };
        let way = Way::start(&near, &far, "a", 1);
        let arrives = |name: &str, there: bool| {
            let end = Instant::now() + Duration::from_secs(20);
            while far.join(name).exists() != there && Instant::now() < end {
                std::thread::sleep(EVERY);
            }
            assert_eq!(far.join(name).exists(), there, "{name}");
        };
        put("a/bills/1", "one");
        arrives("a/bills/1", true);
        way.rule(Rule { cut: true, ..Rule::default() });
        std::thread::sleep(3 * EVERY);
        put("a/bills/2", "two");
        std::thread::sleep(10 * EVERY);
        arrives("a/bills/2", false);
        way.rule(Rule { again: 100, late_ms: 5, ..Rule::default() });
        arrives("a/bills/2", true);
        assert_eq!(way.bills().len(), 2);
        way.rule(Rule { garbled: 100, ..Rule::default() });
        put("a/standing", "three");
        arrives("a/standing", true);
        assert_ne!(std::fs::read(far.join("a/standing")).unwrap(), b"three");
        way.rule(Rule::default());
        let end = Instant::now() + Duration::from_secs(20);
        while std::fs::read(far.join("a/standing")).unwrap() != b"three" {
            assert!(Instant::now() < end, "it stays as it came");
            std::thread::sleep(EVERY);
        }
        let tally = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert!(tally(&way.tally.held) >= 1 && tally(&way.tally.garbled) >= 1);
        // A place that is away for a moment, as one that is denied, loses nothing.
        std::fs::rename(near.join("a"), near.join("away")).unwrap();
        std::fs::write(near.join("away/bills/3"), "four").unwrap();
        std::thread::sleep(3 * EVERY);
        std::fs::rename(near.join("away"), near.join("a")).unwrap();
        arrives("a/bills/3", true);
        way.end();
        std::fs::remove_dir_all(dir).unwrap();
    }
}
