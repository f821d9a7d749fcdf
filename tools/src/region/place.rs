//! A region's log as others have it, read from its beginning: its shipments in a directory, or what a survivor took in.
//!
//! Nothing of shipments is believed: each bill is under the key that the log has there, each range is what its bill says, and none is missing between
//! two. What a survivor holds has no bills any more; it checked them when it took it in.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use engine::checkpoint::{Signed, Verifier, Witness};
use engine::event::{Event, Item, Position};
use engine::log::{Digest, Lsn};
use segments::shipment::bill::{BILL_MAX, Bill};
use segments::shipment::chunk::{self, RAW_MAX};
use segments::shipment::keys::{KEYS_MAX, RegionKeys, following};
use sha2::{Digest as _, Sha256};

use super::held::{Held, Items};
use crate::report::{Exit, Fault};

const NEXT: &str = "restore the place from its own copies, or name one that is whole";

/// The shipments of one region, and how far they were read.
pub struct Shipments {
    /// Whose.
    pub region: String,
    /// Every key its log had so far, the newest last.
    pub log_keys: Vec<Verifier>,
    /// Bills read.
    pub bills: u64,
    source: Source,
    at: Position,
    items: VecDeque<Item>,
}

enum Source {
    /// A directory, and what its region cosigns with.
    Place(PathBuf, Witness),
    /// What a survivor holds.
    Held(Items),
}

/// The keys that a region was known by.
///
/// # Errors
/// The file is not that region's `keys/region.vkey`.
pub fn keys(vkeys: &Path, region: &str) -> Result<RegionKeys, Fault> {
    let text = read(vkeys, KEYS_MAX)?.and_then(|bytes| String::from_utf8(bytes).ok());
    let keys = match &text {
        Some(text) => RegionKeys::parse(text, region),
        None => Err("is not there, or no text".into()),
    };
    let next = "give a copy of that region's keys/region.vkey";
    keys.map_err(|why| Fault::new("no keys", vkeys.display(), format!("it {why}"), next))
}

impl Shipments {
    /// The shipments of `region` at a place, with a copy of its `keys/region.vkey`.
    ///
    /// # Errors
    /// There are none, or the keys are not that region's.
    pub fn open(place: &Path, region: &str, vkeys: &Path) -> Result<Shipments, Fault> {
        let RegionKeys { log, mirror } = keys(vkeys, region)?;
        let dir = place.join(region);
        if !dir.join("bills").is_dir() {
            let next = "name the directory that stands in regions.place (a bucket is copied to one first)";
            return Err(
                Fault::new("no shipments", dir.display(), "there are no bills", next).exit(Exit::Missing)
            );
        }
        Ok(Shipments::of(region, vec![log], Source::Place(dir, mirror)))
    }

    /// The log of `region` as a survivor holds it; `log_keys` is the key it began with, if it is known.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn held(held: &Held, region: &str, log_keys: Vec<Verifier>) -> Result<Shipments, Fault> {
        Ok(Shipments::of(region, log_keys, Source::Held(held.items(region)?)))
    }

    fn of(region: &str, log_keys: Vec<Verifier>, source: Source) -> Shipments {
        let (region, at, items) = (region.to_owned(), Position::FIRST, VecDeque::new());
        Shipments { region, log_keys, bills: 0, source, at, items }
    }

    /// Where what was read ends.
    pub fn position(&self) -> Position {
        self.at
    }

    /// Goes to a place, from the beginning if it lies before this one. Whether there is such a place.
    ///
    /// # Errors
    /// As [`Shipments::next`].
    pub fn seek(&mut self, to: Position) -> Result<bool, Fault> {
        if to < self.at {
            self.at = Position::FIRST;
            self.items.clear();
            self.log_keys.truncate(1);
            if let Source::Held(items) = &mut self.source {
                items.rewind()?;
            }
            self.bills = 0;
        }
        while self.at < to && self.next()?.is_some() {}
        Ok(self.at == to)
    }

    /// The next item; `None` at the end of what was shipped.
    ///
    /// # Errors
    /// What comes next is missing or is not what it must be.
    pub fn next(&mut self) -> Result<Option<Item>, Fault> {
        if self.items.is_empty() {
            self.fetch()?;
        }
        let Some(item) = self.items.pop_front() else { return Ok(None) };
        self.at = self.at.after(&item);
        if let Item::Event { event: Event::LogKeySet(change), .. } = &item {
            let next = self.log_keys.last().map(|newest| following(newest, change));
            self.log_keys.extend(next.filter(|next| self.log_keys.last() != Some(next)));
        }
        Ok(Some(item))
    }

    /// What `mirror` says that it holds of `origin`: the checkpoint, without the mirror's line.
    ///
    /// # Errors
    /// It says something that it has not signed.
    pub fn mirrored(&self, origin: &str) -> Result<Option<Signed>, Fault> {
        let Source::Place(dir, mirror) = &self.source else { return Ok(None) };
        let path = dir.join("mirrors").join(origin);
        let wrong =
            |why: &str| Fault::new("no mirror's word", path.display(), why, NEXT).exit(Exit::Tampered);
        let Some(note) = read(&path, 64 << 10)? else { return Ok(None) };
        let mut signed = Signed::parse(&note).map_err(|error| wrong(&error.to_string()))?;
        let line = signed.signatures.iter().find(|line| mirror.is_of(line));
        let line = line.ok_or_else(|| wrong("the region's mirror has not signed it"))?.clone();
        let checked = mirror.verify(&signed.checkpoint.text(), &line);
        checked.map_err(|error| wrong(&error.to_string()))?;
        signed.signatures.retain(|line| !mirror.is_of(line));
        Ok(Some(signed))
    }

    fn fetch(&mut self) -> Result<(), Fault> {
        let from = self.at.lsn;
        let dir = match &mut self.source {
            Source::Place(dir, _) => dir,
            Source::Held(items) => {
                self.items = items.some()?.into();
                return Ok(());
            }
        };
        let path = dir.join(Bill::name(from));
        let Some(note) = read(&path, BILL_MAX as u64)? else { return insist_end(dir, from, &path) };
        let bad = |why: String| Fault::new("a bad bill", path.display(), why, NEXT).exit(Exit::Tampered);
        let key = self.log_keys.last().expect("it began with one");
        let bill = Bill::open(&note, key).map_err(|why| bad(why.into()))?;
        if bill.region != self.region || bill.from != from {
            return Err(bad(format!("it is of region {} from record {}", bill.region, bill.from)));
        }
        if bill.raw > RAW_MAX as u64 || bill.bytes > 2 * RAW_MAX as u64 {
            return Err(bad("it says that its range is larger than any".into()));
        }
        let path = dir.join(bill.chunk());
        let bad = |why: String| Fault::new("a bad range", path.display(), why, NEXT).exit(Exit::Tampered);
        let Some(packed) = read(&path, bill.bytes)? else {
            return Err(bad("its bill is there and it is not".into()).exit(Exit::Missing));
        };
        if packed.len() as u64 != bill.bytes || Digest(Sha256::digest(&packed).into()) != bill.digest {
            return Err(bad("it is not what its bill says".into()));
        }
        self.items = chunk::open(&packed, &bill).map_err(bad)?.into();
        self.bills += 1;
        Ok(())
    }
}

/// There is no bill from here: then there must be none behind it either.
fn insist_end(dir: &Path, from: Lsn, path: &Path) -> Result<(), Fault> {
    let Some(after) = last_bill(&dir.join("bills"))?.filter(|last| *last > from) else { return Ok(()) };
    let why = format!("it is missing, and there is one from record {after}");
    Err(Fault::new("a gap", path.display(), why, NEXT).exit(Exit::Missing))
}

fn last_bill(dir: &Path) -> Result<Option<Lsn>, Fault> {
    let mut last = None;
    for entry in std::fs::read_dir(dir).map_err(|error| Fault::read(dir, error))? {
        let name = entry.map_err(|error| Fault::read(dir, error))?.file_name();
        let number = name.to_str().filter(|name| name.len() == 20).and_then(|name| name.parse().ok());
        last = last.max(number.map(Lsn));
    }
    Ok(last)
}

/// A file of at most `most` bytes, if it is there.
fn read(path: &Path, most: u64) -> Result<Option<Vec<u8>>, Fault> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Fault::read(path, error)),
    };
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| Fault::read(path, error))?;
    if bytes.len() as u64 > most {
        return Err(Fault::read(path, format!("it has more than {most} bytes")).exit(Exit::Tampered));
    }
    Ok(Some(bytes))
}
