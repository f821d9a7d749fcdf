//! The next range of our log, as other regions get it.
//!
//! Nothing here knows where a range goes. It is cut from what is agreed and applied here, so whichever node cuts it, and wherever,
//! it says what the log says.

use super::bill::Bill;
use super::chunk::{self, ITEMS_MAX, TARGET};
use super::ports::Home;
use super::withhold::Stays;
use bytes::Bytes;
use engine::checkpoint::Signed;
use engine::event::{Event, Item, Record};
use engine::log::{Digest, Lsn};
use segments::shipment::known::{Known, says_something};
use sha2::{Digest as _, Sha256};

/// A range, and what is said of it.
pub struct Range {
    /// Not signed yet.
    pub bill: Bill,
    /// The object that it names.
    pub packed: Bytes,
    /// It has as much as a range may have, so there may be more to say.
    pub full: bool,
}

/// Where the next range begins, and what is known of what comes after.
pub struct Cut {
    after: Lsn,
    known: Known,
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
        Cut { after: lsn, known: Known::after(lsn), quiet: lsn, readable: Lsn::ZERO, awaited: None }
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
            for (lsn, record) in read(home, self.known.read.next(), applied).await? {
                self.known.look(lsn, &record)?;
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
            let mut records = read(home, at.next(), upto).await?;
            records.retain(|(lsn, _)| *lsn <= upto);
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

async fn read<H: Home>(home: &H, from: Lsn, to: Lsn) -> Result<Vec<(Lsn, Record)>, String> {
    let records = home.read(from, to).await?;
    if records.is_empty() {
        return Err(format!("record {from} is not there"));
    }
    let decode = |(lsn, bytes): (Lsn, Vec<u8>)| match Record::decode(&bytes) {
        Ok(record) => Ok((lsn, record)),
        Err(error) => Err(format!("record {lsn}: {error}")),
    };
    records.into_iter().map(decode).collect()
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
