//! Puts what is agreed where other regions find it.
//!
//! G1 ship-in-order: a bill begins at the record after the last one's end. Where that is, the place says: the last bill that
//! lies there, under our own key. A leader that was cut off may put a range of its own cut beside; the bill, which is put
//! only if there is none of its name, decides which one counts.
//!
//! A place can lose what it said to hold, and an operator can take bills away so that ranges are shipped again. So before a bill
//! is put, and now and then while there is none to put, the last one is looked for; where it is gone, the listing says where to go on.

use super::bill::{BILL_MAX, Bill};
use super::cut::{Cut, Range};
use super::ports::{Home, Place};
use super::{Backoff, Regions, TICK, Told};
use engine::log::Lsn;
use std::sync::Arc;
use std::time::Duration;

/// How often the last bill is looked for while nothing is shipped.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What the shipper knows between two steps. It can be made again at any time.
struct Course {
    cut: Cut,
    /// Where the last bill begins, if there is one, and when it was seen last.
    last: Option<Lsn>,
    looked: Duration,
}

pub async fn run<H: Home, P: Place>(home: Arc<H>, regions: Arc<Regions<P>>) {
    let mut course: Option<Course> = None;
    let (mut backoff, mut told) = (Backoff::new(), Told::default());
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
                if told.anew(&*home, &why) {
                    tracing::warn!(why, "the log is not shipped to other regions; it is tried again");
                }
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
    Ok(Course { cut: Cut::after(shipped), last, looked: home.up() })
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

/// Ships one range, if there is one. Whether there is enough for another at once: what is little waits, because each range costs a place
/// some flushes, and a disk that the log writes to as well has none to spare.
async fn step<H: Home, P: Place>(
    home: &H,
    regions: &Regions<P>,
    course: &mut Option<Course>,
) -> Result<bool, String> {
    let course = match course {
        Some(course) => course,
        None => course.insert(begin(home, regions).await?),
    };
    course.cut.look(home).await?;
    {
        let mut inner = regions.lock();
        inner.shipped = course.cut.end().0;
        let since = inner.behind_ms;
        inner.behind_ms =
            if !course.cut.waits() { 0 } else { if since == 0 { home.wall_ms() } else { since } };
    }
    let ships = course.cut.is_ready();
    if ships || home.up() > course.looked + LOOK_EVERY {
        course.looked = home.up();
        if let Some(last) = course.last
            && read_bill(home, regions, last).await?.is_none_or(|bill| bill.to != course.cut.end())
        {
            return Err(format!("the last bill, from record {last}, is gone: the place says where to go on"));
        }
    }
    if !ships {
        return Ok(false);
    }
    let Some(range) = course.cut.next(home, &regions.own).await? else { return Ok(false) };
    put(home, regions, &range).await?;
    home.sleep(regions.pace(range.packed.len())).await;
    let to = range.bill.to;
    course.cut.went(to);
    course.last = Some(range.bill.from);
    let mut inner = regions.lock();
    inner.shipped = to.0;
    inner.behind_ms = if course.cut.waits() { home.wall_ms() } else { 0 };
    Ok(range.full)
}

async fn put<H: Home, P: Place>(home: &H, regions: &Regions<P>, range: &Range) -> Result<(), String> {
    let Range { bill, packed, .. } = range;
    let (name, from) = (bill.chunk(), bill.from);
    if !regions.remote.put_new(&name, packed.clone()).await? {
        let lies = regions.remote.get(&name, bill.bytes).await?;
        if lies.is_none_or(|lies| lies != *packed) {
            return Err(format!("something else lies at {name}"));
        }
    }
    let note = home.sign(bill)?;
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
