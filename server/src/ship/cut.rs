//! The next range of our log, as other regions get it.
//!
//! Nothing here knows where a range goes. It is cut from what is agreed and applied here, so whichever node cuts it, and wherever,
//! it says what the log says.

use super::bill::Bill;
use super::chunk::{self, ITEMS_MAX, TARGET};
use super::ports::{Home, Stored};
use super::withhold::Stays;
use bytes::Bytes;
use engine::checkpoint::Signed;
use engine::event::{Event, Item, Record};
use engine::log::{Digest, Lsn};
use segments::shipment::known::{Known, says_something};
use sha2::{Digest as _, Sha256};
use std::collections::VecDeque;

/// A range, and what is said of it.
pub struct Range {
    /// Not signed yet.
    pub bill: Bill,
    /// The object that it names.
    pub packed: Bytes,
    /// It has as much as a range may have, so there may be more to say.
    pub full: bool,
}

/// Bytes of records that are kept between looking at them and cutting; the others are read again.
const KEPT_MAX: usize = 4 << 20;

/// Where the next range begins, and what is known of what comes after.
pub struct Cut {
    after: Lsn,
    known: Known,
    kept: Kept,
    /// Up to here there was nothing to say when it was looked at.
    quiet: Lsn,
    /// Up to here the leaves can be read that say what became of what is withheld.
    readable: Lsn,
    /// When there are so many leaves, that is so up to this record.
    awaited: Option<(u64, Lsn)>,
}

impl Cut {
    /// The range after this record is the next one.
    pub fn after(lsn: Lsn) -> Cut {
        Cut {
            after: lsn,
            known: Known::after(lsn),
            kept: Kept::default(),
            quiet: lsn,
            readable: Lsn::ZERO,
            awaited: None,
        }
    }

    /// The last record before the next range.
    pub fn end(&self) -> Lsn {
        self.after
    }

    /// Reads on, as far as the log goes.
    ///
    /// # Errors
    /// When the log cannot be read, or is not what it should be.
    pub async fn look<H: Home>(&mut self, home: &H) -> Result<(), String> {
        let (withheld, now) = home.ledger(|ledger| {
            (ledger.withheld_tenants().next().is_some(), (ledger.tree().size(), ledger.applied()))
        });
        let applied = now.1;
        if !withheld {
            self.readable = applied;
        } else {
            let (leaves, lsn) = *self.awaited.get_or_insert(now);
            if leaves <= home.written() {
                (self.readable, self.awaited) = (lsn, None);
            }
        }
        while self.known.read < applied && !self.known.is_full() {
            for (lsn, record, bytes) in read(home, self.known.read.next(), applied).await? {
                self.known.look(lsn, &record)?;
                self.kept.put(lsn, record, bytes);
            }
        }
        Ok(())
    }

    /// How far it may be cut.
    fn upto(&self) -> Lsn {
        self.known.upto().min(self.readable)
    }

    /// Whether there is something that others have to hear of.
    pub fn waits(&self) -> bool {
        self.known.substance > self.after
    }

    /// Whether some of it may go.
    pub fn is_ready(&self) -> bool {
        self.waits() && self.upto() > self.quiet
    }

    /// The next range of this region's log, if there is one. The one after it is next once it [went](Cut::went).
    ///
    /// # Errors
    /// When the log cannot be read, or packing fails; what was read ahead is of no use then.
    pub async fn next<H: Home>(&mut self, home: &H, region: &str) -> Result<Option<Range>, String> {
        let upto = self.upto();
        let (items, to, full) = self.gather(home, upto).await?;
        let says = items.iter().any(|item| match item {
            Item::Event { event, .. } => says_something(event),
            Item::Withheld(_) => true,
            Item::Seen { .. } | Item::End => false,
        });
        if !says && !full {
            self.quiet = upto;
            return Ok(None);
        }
        let range = pack(home, region, self.after.next(), to, items).await?;
        Ok(Some(Range { full, ..range }))
    }

    /// The range that ends here is where it has to be.
    pub fn went(&mut self, to: Lsn) {
        self.after = to;
        self.quiet = self.quiet.max(to);
    }

    /// The next records as items, up to `upto` or until there are enough.
    async fn gather<H: Home>(&mut self, home: &H, upto: Lsn) -> Result<(Vec<Item>, Lsn, bool), String> {
        let (mut items, mut at, mut bytes) = (Vec::new(), self.after, 0);
        while at < upto {
            let mut records = self.kept.take(at.next(), upto);
            if records.is_empty() {
                let read = read(home, at.next(), upto).await?;
                records = read.into_iter().map(|(lsn, record, _)| (lsn, record)).collect();
                records.retain(|(lsn, _)| *lsn <= upto);
            }
            let stays = Stays::of(home, &records).await?;
            for (lsn, record) in records {
                let more = stays.ship(lsn, record, &mut self.known.take())?;
                bytes += more.iter().map(raft::weight_of_item).sum::<usize>();
                items.extend(more);
                at = lsn;
                if bytes >= TARGET || items.len() >= ITEMS_MAX / 2 {
                    return Ok((items, at, true));
                }
            }
        }
        Ok((items, at, false))
    }
}

/// Records one after the other, with their bytes.
#[derive(Default)]
struct Kept {
    records: VecDeque<(Lsn, Record, usize)>,
    bytes: usize,
}

impl Kept {
    fn put(&mut self, lsn: Lsn, record: Record, bytes: usize) {
        let follows = self.records.back().is_none_or(|(last, ..)| last.next() == lsn);
        if follows && self.bytes + bytes <= KEPT_MAX {
            self.records.push_back((lsn, record, bytes));
            self.bytes += bytes;
        }
    }

    /// Those from one to another, about as many as a range has; none if the first is not here. What lies before it goes.
    fn take(&mut self, from: Lsn, to: Lsn) -> Vec<(Lsn, Record)> {
        while self.pop(|lsn| lsn < from).is_some() {}
        let (mut taken, mut next, mut size) = (Vec::new(), from, 0);
        while let Some((lsn, record, bytes)) = self.pop(|lsn| lsn == next && lsn <= to && size < TARGET) {
            size += bytes;
            next = lsn.next();
            taken.push((lsn, record));
        }
        taken
    }

    fn pop(&mut self, wanted: impl Fn(Lsn) -> bool) -> Option<(Lsn, Record, usize)> {
        let popped = self.records.pop_front_if(|(lsn, ..)| wanted(*lsn))?;
        self.bytes -= popped.2;
        Some(popped)
    }
}

async fn read<H: Home>(home: &H, from: Lsn, to: Lsn) -> Result<Vec<Stored>, String> {
    let records = home.read(from, to).await?;
    if records.is_empty() {
        return Err(format!("record {from} is not there"));
    }
    Ok(records)
}

async fn pack<H: Home>(
    home: &H,
    region: &str,
    from: Lsn,
    to: Lsn,
    items: Vec<Item>,
) -> Result<Range, String> {
    let head = items.iter().rev().find_map(|item| match item {
        Item::Event { event: Event::Checkpoint(note), .. } => {
            Signed::parse(note).ok().map(|signed| (signed.checkpoint.size, signed.checkpoint.root))
        }
        _ => None,
    });
    let withheld = chunk::count_withheld(&items);
    let work = move || {
        let raw = chunk::encode(from, &items);
        chunk::pack(&raw).map(|packed| (raw.len() as u64, packed))
    };
    let (raw, packed) = home.aside(work).await?.map_err(|error| error.to_string())?;
    let bill = Bill {
        region: region.to_owned(),
        from,
        to,
        digest: Digest(Sha256::digest(&packed).into()),
        bytes: packed.len() as u64,
        raw,
        at_ms: home.wall_ms(),
        head,
        withheld,
    };
    Ok(Range { bill, packed: packed.into(), full: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::event::Payload;

    #[test]
    fn what_is_kept_is_taken_in_order_and_only_from_where_it_is_wanted() {
        let record = || Record { leader: 1, payload: Payload::Blank };
        let mut kept = Kept::default();
        for lsn in [5, 6, 7, 9, 8] {
            kept.put(Lsn(lsn), record(), TARGET / 2);
        }
        let mut take =
            |from, to| kept.take(Lsn(from), Lsn(to)).iter().map(|(lsn, _)| lsn.0).collect::<Vec<_>>();
        assert_eq!(take(4, 9), [0; 0], "the first is not here, and nothing goes");
        assert_eq!(take(5, 5), [5]);
        assert_eq!(take(6, 9), [6, 7], "as much as a range has");
        assert_eq!(take(8, 9), [8], "what did not follow was not kept");
        assert_eq!((take(9, 9), kept.bytes), (vec![], 0));
        for lsn in 1..100 {
            kept.put(Lsn(lsn), record(), KEPT_MAX / 8);
        }
        assert_eq!((kept.records.len(), kept.bytes), (8, KEPT_MAX));
        kept.take(Lsn(50), Lsn(60));
        assert_eq!((kept.records.len(), kept.bytes), (0, 0), "what lies before goes");
    }
}
