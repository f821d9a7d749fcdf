//! Puts what is agreed where other regions find it.
//!
//! G1 ship-in-order: a bill begins at the record after the last one's end. Where that is, the place says: the last bill that
//! lies there, under our own key. A leader that was cut off may put a range of its own cut beside; the bill, which is put
//! only if there is none of its name, decides which one counts.
//!
//! A place can lose what it said to hold, and an operator can take bills away so that ranges are shipped again. So before a bill
//! is put, and now and then while there is none to put, the last one is looked for; where it is gone, the listing says where to go on.

use super::bill::{BILL_MAX, Bill};
use super::chunk::{self, ITEMS_MAX, TARGET};
use super::plan::Known;
use super::ports::{Home, Place};
use super::{Backoff, Regions, TICK};
use bytes::Bytes;
use engine::checkpoint::Signed;
use engine::event::{Event, Item, Record, ship};
use engine::log::{Digest, Lsn};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::time::Duration;

/// How often the last bill is looked for while nothing is shipped.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What the shipper knows between two steps. It can be made again at any time.
struct Course {
    shipped: Lsn,
    /// Where the last bill begins, if there is one, and when it was seen last.
    last: Option<Lsn>,
    looked: Duration,
    known: Known,
    /// Up to here there was nothing to say when it was looked at.
    quiet: Lsn,
}

pub async fn run<H: Home, P: Place>(home: Arc<H>, regions: Arc<Regions<P>>) {
    let mut course: Option<Course> = None;
    let mut backoff = Backoff::new();
    loop {
        if !home.leads() {
            course = None;
            regions.lock().behind_ms = 0;
            home.sleep(TICK).await;
            continue;
        }
        match step(&*home, &regions, &mut course).await {
            Ok(more) => {
                backoff = Backoff::new();
                regions.lock().why = None;
                if !more {
                    home.sleep(TICK).await;
                }
            }
            Err(why) => {
                tracing::warn!(why, "the log is not shipped to other regions; it is tried again");
                failed(&regions, why);
                course = None;
                backoff.wait(&*home).await;
            }
        }
    }
}

fn failed<P>(regions: &Regions<P>, why: String) {
    let mut inner = regions.lock();
    inner.errors += 1;
    inner.why = Some(why);
}

/// Where the place says that we are.
async fn begin<H: Home, P: Place>(home: &H, regions: &Regions<P>) -> Result<Course, String> {
    let bills = regions.remote.bills(u64::MAX).await?;
    let (mut shipped, mut last) = (Lsn::ZERO, bills.last.map(Lsn));
    if let Some(from) = last {
        let bill = read_bill(home, regions, from).await?;
        let bill = bill.ok_or("the last bill is listed and cannot be read")?;
        shipped = bill.to;
    }
    // A listing may be late. What it does not name yet is found where it must lie.
    while let Some(bill) = read_bill(home, regions, shipped.next()).await? {
        (shipped, last) = (bill.to, Some(bill.from));
    }
    let applied = home.ledger(|ledger| ledger.applied());
    if shipped > applied {
        return Err(format!("records up to {shipped} are shipped, and this log ends at {applied}"));
    }
    Ok(Course { shipped, last, looked: home.up(), known: Known::after(shipped), quiet: shipped })
}

async fn read_bill<H: Home, P: Place>(
    home: &H,
    regions: &Regions<P>,
    from: Lsn,
) -> Result<Option<Bill>, String> {
    let name = Bill::name(from);
    let Some(note) = regions.remote.get(&name, BILL_MAX as u64).await? else { return Ok(None) };
    let bill = super::read_bill(&note, &home.bill_key(), &regions.own, from);
    bill.map(Some).map_err(|why| format!("{why}: it was not put by this log"))
}

/// Ships one range, if there is one. Whether there may be another.
async fn step<H: Home, P: Place>(
    home: &H,
    regions: &Regions<P>,
    course: &mut Option<Course>,
) -> Result<bool, String> {
    let course = match course {
        Some(course) => course,
        None => course.insert(begin(home, regions).await?),
    };
    let applied = home.ledger(|ledger| ledger.applied());
    while course.known.read < applied && !course.known.is_full() {
        for (lsn, record) in read(home, course.known.read.next(), applied).await? {
            course.known.look(lsn, &record)?;
        }
    }
    let waits = course.known.substance > course.shipped;
    {
        let mut inner = regions.lock();
        inner.shipped = course.shipped.0;
        let since = inner.behind_ms;
        inner.behind_ms = if !waits { 0 } else { if since == 0 { home.wall_ms() } else { since } };
    }
    let upto = course.known.upto();
    let ships = waits && upto > course.quiet;
    if ships || home.up() > course.looked + LOOK_EVERY {
        course.looked = home.up();
        if let Some(last) = course.last
            && read_bill(home, regions, last).await?.is_none_or(|bill| bill.to != course.shipped)
        {
            return Err(format!("the last bill, from record {last}, is gone: the place says where to go on"));
        }
    }
    if !ships {
        return Ok(false);
    }
    let (items, to, full) = gather(home, course, upto).await?;
    let says = items
        .iter()
        .any(|item| matches!(item, Item::Event { event, .. } if super::plan::says_something(event)));
    if !says && !full {
        course.quiet = upto;
        return Ok(false);
    }
    let from = course.shipped.next();
    put(home, regions, from, to, items).await?;
    (course.shipped, course.last) = (to, Some(from));
    course.quiet = course.quiet.max(to);
    let mut inner = regions.lock();
    inner.shipped = to.0;
    inner.behind_ms = if course.known.substance > to { home.wall_ms() } else { 0 };
    Ok(true)
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

/// The next records as items, up to `upto` or until there are enough.
async fn gather<H: Home>(home: &H, course: &mut Course, upto: Lsn) -> Result<(Vec<Item>, Lsn, bool), String> {
    let (mut items, mut at, mut bytes) = (Vec::new(), course.shipped, 0);
    while at < upto {
        for (lsn, record) in read(home, at.next(), upto).await? {
            if lsn > upto {
                break;
            }
            let more = ship(record, &mut course.known.take());
            for item in &more {
                bytes += match item {
                    Item::Event { event, .. } => 8 + raft::weight(event),
                    Item::Seen { .. } => 192,
                    Item::End => 1,
                };
            }
            items.extend(more);
            at = lsn;
            if bytes >= TARGET || items.len() >= ITEMS_MAX / 2 {
                return Ok((items, at, true));
            }
        }
    }
    Ok((items, at, false))
}

async fn put<H: Home, P: Place>(
    home: &H,
    regions: &Regions<P>,
    from: Lsn,
    to: Lsn,
    items: Vec<Item>,
) -> Result<(), String> {
    let head = items.iter().rev().find_map(|item| match item {
        Item::Event { event: Event::Checkpoint(note), .. } => {
            Signed::parse(note).ok().map(|signed| (signed.checkpoint.size, signed.checkpoint.root))
        }
        _ => None,
    });
    let pack = move || {
        let raw = chunk::encode(from, &items);
        chunk::pack(&raw).map(|packed| (raw.len() as u64, packed))
    };
    let (raw, packed) = home.aside(pack).await?.map_err(|error| error.to_string())?;
    let bill = Bill {
        region: regions.own.clone(),
        from,
        to,
        digest: Digest(Sha256::digest(&packed).into()),
        bytes: packed.len() as u64,
        raw,
        at_ms: home.wall_ms(),
        head,
    };
    let (name, packed) = (bill.chunk(), Bytes::from(packed));
    if !regions.remote.put_new(&name, packed.clone()).await? {
        let lies = regions.remote.get(&name, bill.bytes).await?;
        if lies.is_none_or(|lies| lies != packed) {
            return Err(format!("something else lies at {name}"));
        }
    }
    let note = home.sign(&bill)?;
    if !regions.remote.put_new(&Bill::name(from), note.into()).await? {
        // Another leader of ours was first, or this is a try whose answer was lost. What lies there counts.
        if read_bill(home, regions, from).await?.is_none() {
            return Err(format!("the place lies: it has a bill from record {from}, and does not give it"));
        }
        return Err(format!("there is a bill from record {from} already"));
    }
    let mut inner = regions.lock();
    inner.bills += 1;
    inner.bytes += bill.bytes;
    Ok(())
}
