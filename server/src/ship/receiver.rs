//! Takes another region's log in, and says how far it is held.
//!
//! G1 ship-in-order: the next range is the one that begins where our ledger's knowledge of that log ends, or that holds that
//! place; a bill that is missing while a later one lies there, one that the region's key did not sign, and a range that is
//! not what its bill says are refused, told, and looked at again. Nothing behind them is taken.
//!
//! The cosignature ("this much of that log is stored here, agreed and durable") is made from the ledger alone: a checkpoint
//! counts when its root is that of the tree which was made here, and the ledger holds only what is agreed.

use super::bill::{BILL_MAX, Bill};
use super::chunk::{self, RAW_MAX};
use super::ports::{Home, Place};
use super::{Backoff, Peer, Regions, TICK, Told, plan, read_bill};
use bytes::Bytes;
use engine::checkpoint::{Signed, Verifier};
use engine::event::{Event, Imported, Item, Position};
use engine::ledger::NotYet;
use engine::log::{Digest, Lsn};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::time::Duration;

/// How often a place is listed to see whether something lies behind a gap.
const LIST_EVERY: Duration = Duration::from_secs(5);
/// How often earlier bills are looked through while nothing comes. Ranges overlap where a place lost bills, the log was shipped
/// again in other pieces, and what was lost came back: then the last bill before ours need not be the one that reaches it.
const LOOK_BACK_EVERY: Duration = Duration::from_secs(60);
/// How often it is looked whether our newest cosignature still lies where the origin finds it: there may be no later one.
const WORD_EVERY: Duration = Duration::from_secs(30);
/// Bytes of a record beside the one range in it, with room to spare.
const AROUND: usize = 512;

/// Why nothing comes.
enum Trouble {
    /// The place, the other region or our own log does not answer: it passes.
    Away(String),
    /// What is there is not what it must be: somebody has to know.
    Wrong(String),
}

/// A range that is being taken in.
struct Open {
    bill: Bill,
    items: Vec<Item>,
}

#[derive(Default)]
struct Course {
    open: Option<Open>,
    /// When the place was listed last.
    listed: Option<Duration>,
    /// When earlier bills were last asked for one that reaches further than the last.
    looked_back: Option<Duration>,
    /// Leaves under the newest checkpoint that was cosigned.
    mirrored: u64,
    /// It as it was put, and when that was last so.
    word: Option<(Bytes, Duration)>,
}

pub async fn run<H: Home, P: Place>(home: Arc<H>, regions: Arc<Regions<P>>, nth: usize) {
    let (home, regions) = (&*home, &*regions);
    let peer = &regions.peers[nth];
    let mut course = Course::default();
    let (mut backoff, mut told) = (Backoff::new(), Told::default());
    loop {
        if !home.leads() {
            course = Course::default();
            regions.imports(nth, |imports| (imports.behind_ms, imports.in_a_row) = (0, 0));
            home.sleep(TICK).await;
            continue;
        }
        let done = async {
            let more = step(home, regions, peer, nth, &mut course).await?;
            mirror(home, regions, peer, &mut course).await.map(|()| more)
        };
        match done.await {
            Ok(more) => {
                backoff = Backoff::new();
                regions.imports(nth, |imports| {
                    (imports.why, imports.in_a_row) = (None, 0);
                    let since = imports.behind_ms;
                    imports.behind_ms = match (more, since) {
                        (false, _) => 0,
                        (true, 0) => home.wall_ms(),
                        (true, since) => since,
                    };
                });
                if !more {
                    home.sleep(TICK).await;
                }
            }
            Err(trouble) => {
                let (Trouble::Away(why) | Trouble::Wrong(why)) = &trouble;
                if told.anew(home, why) {
                    tracing::warn!(why, region = peer.region, "another region's log is not taken in");
                }
                regions.imports(nth, |imports| {
                    if let Trouble::Wrong(_) = trouble {
                        imports.refused += 1;
                        imports.in_a_row += 1;
                    }
                    imports.why = Some(why.clone());
                    if imports.behind_ms == 0 {
                        imports.behind_ms = home.wall_ms();
                    }
                });
                (course.open, course.listed) = (None, None);
                tokio::select! {
                    biased;
                    () = peer.again.notified() => backoff = Backoff::new(),
                    () = backoff.wait(home) => {}
                }
            }
        }
    }
}

/// Takes in one range, or a part of it. Whether there may be more.
async fn step<H: Home, P: Place>(
    home: &H,
    regions: &Regions<P>,
    peer: &Peer<P>,
    nth: usize,
    course: &mut Course,
) -> Result<bool, Trouble> {
    let (at, quarantine) = home.ledger(|ledger| {
        let quarantine = ledger.origin(&peer.region).and_then(|origin| origin.quarantine().cloned());
        (ledger.position_of(&peer.region), quarantine)
    });
    if let Some(why) = quarantine {
        return Err(Trouble::Wrong(NotYet::Quarantined(why).to_string()));
    }
    if course.open.as_ref().is_none_or(|open| at.lsn < open.bill.from || at.lsn > open.bill.to) {
        let key = home.ledger(|ledger| peer.key_at(ledger, u64::MAX));
        course.open = fetch(home, peer, &key, at, (&mut course.listed, &mut course.looked_back)).await?;
    }
    let Some(open) = &course.open else { return Ok(false) };
    let skip = plan::before(Position::of(open.bill.from), &open.items, at);
    let rest = &open.items[skip..];
    let known = home.ledger(|ledger| ledger.known_items(rest));
    if known == 0 {
        // It speaks of what a third region has not shipped to us yet.
        return Ok(false);
    }
    let most = home.record_max().saturating_sub(AROUND);
    let items = rest[..plan::fitting(&rest[..known], most)].to_vec();
    let records = items.iter().filter(|item| **item == Item::End).count() as u64;
    let imported = Imported { origin: peer.region.clone(), from: at, items };
    let fits = home.ledger(|ledger| ledger.check_import(&imported));
    fits.map_err(|why| Trouble::Wrong(why.to_string()))?;
    home.propose(Event::Imported(imported)).await.map_err(Trouble::Away)?;
    regions.imports(nth, |imports| imports.records += records);
    Ok(true)
}

/// The range that holds this place, or begins there; `None` if it is not shipped yet.
async fn fetch<H: Home, P: Place>(
    home: &H,
    peer: &Peer<P>,
    key: &Verifier,
    at: Position,
    (listed, looked_back): (&mut Option<Duration>, &mut Option<Duration>),
) -> Result<Option<Open>, Trouble> {
    let mut from = at.lsn;
    let get = async |name: &str, most: u64| peer.remote.get(name, most).await.map_err(Trouble::Away);
    let read = |note: &[u8], from: Lsn| read_bill(note, key, &peer.region, from).map_err(Trouble::Wrong);
    let mut note = get(&Bill::name(from), BILL_MAX as u64).await?;
    if note.is_none() {
        if at.nth == 0 && listed.is_some_and(|last| home.up() < last + LIST_EVERY) {
            return Ok(None);
        }
        *listed = Some(home.up());
        let bills = peer.remote.bills(at.lsn.0).await.map_err(Trouble::Away)?;
        let gap = |next: u64| {
            let why = format!("the bill from record {} is missing: the next one is from {next}", at.lsn);
            Trouble::Wrong(why)
        };
        let Some(before) = bills.before.last() else {
            return bills.after.map_or(Ok(None), |next| Err(gap(next)));
        };
        from = Lsn(*before);
        // The listing may lack bills between that one and ours.
        loop {
            note = get(&Bill::name(from), BILL_MAX as u64).await?;
            let Some(found) = &note else { break };
            let bill = read(found, from)?;
            if bill.to >= at.lsn {
                break;
            }
            from = bill.to.next();
        }
        if note.is_none()
            && (bills.after.is_some() || looked_back.is_none_or(|last| home.up() >= last + LOOK_BACK_EVERY))
        {
            *looked_back = Some(home.up());
            for earlier in bills.before.iter().rev().skip(1).map(|from| Lsn(*from)) {
                let Some(found) = get(&Bill::name(earlier), BILL_MAX as u64).await? else { continue };
                if read(&found, earlier).is_ok_and(|bill| bill.to >= at.lsn) {
                    (note, from) = (Some(found), earlier);
                    break;
                }
            }
        }
        if let (None, Some(next)) = (&note, bills.after) {
            return Err(gap(next));
        }
    }
    let Some(note) = note else { return Ok(None) };
    let bill = read(&note, from)?;
    let wrong = |why: &str| Trouble::Wrong(format!("the range from record {from}: {why}"));
    if bill.raw > RAW_MAX as u64 || bill.bytes > 2 * RAW_MAX as u64 {
        return Err(wrong("its bill says that it is larger than any"));
    }
    let packed = get(&bill.chunk(), 2 * RAW_MAX as u64).await?;
    let packed = packed.ok_or_else(|| wrong("its bill is there and it is not"))?;
    if packed.len() as u64 != bill.bytes || Digest(Sha256::digest(&packed).into()) != bill.digest {
        return Err(wrong("it is not what its bill says"));
    }
    let opened = home
        .aside(move || chunk::open(&packed, &bill).map(|items| Open { bill, items }))
        .await
        .map_err(Trouble::Away)?;
    opened.map(Some).map_err(|why| wrong(&why))
}

/// Cosigns the newest checkpoint of theirs that we hold, if it is newer than the last.
async fn mirror<H: Home, P: Place>(
    home: &H,
    regions: &Regions<P>,
    peer: &Peer<P>,
    course: &mut Course,
) -> Result<(), Trouble> {
    let newer = home.ledger(|ledger| {
        let agreed = ledger.origin(&peer.region).and_then(|origin| origin.agreed());
        let newer = agreed.filter(|(size, _)| *size > course.mirrored);
        newer.map(|(size, note)| (size, note.to_vec(), peer.key_at(ledger, size)))
    });
    let name = format!("mirrors/{}", peer.region);
    let Some((size, note, key)) = newer else {
        let Some((word, at)) = &mut course.word else { return Ok(()) };
        if home.up() < *at + WORD_EVERY {
            return Ok(());
        }
        // Whatever keeps it from being read, putting it again tells of it or mends it.
        if regions.remote.get(&name, word.len() as u64).await.ok().flatten().as_ref() != Some(word) {
            regions.remote.put(&name, word.clone()).await.map_err(Trouble::Away)?;
        }
        *at = home.up();
        return Ok(());
    };
    let wrong = |error: &dyn std::fmt::Display| {
        Trouble::Wrong(format!("its checkpoint over {size} entries: {error}"))
    };
    let signed = Signed::parse(&note).map_err(|error| wrong(&error))?;
    signed.verify(&key).map_err(|error| wrong(&error))?;
    let line = regions.cosigner.cosign(&signed.checkpoint.text(), home.wall_ms() / 1000).line();
    let word = Bytes::from([note.as_slice(), line.as_bytes()].concat());
    regions.remote.put(&name, word.clone()).await.map_err(Trouble::Away)?;
    (course.mirrored, course.word) = (size, Some((word, home.up())));
    Ok(())
}
