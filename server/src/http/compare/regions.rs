//! What two regions are compared by: ranges of any region's log, as it is shipped, and first rows by their keys.
//!
//! Neither needs both to stand at the same place. A log's records are the same wherever they lie, so the common part of it is
//! compared; and rows are cut by how far each log is to count, so that two regions that know different amounts of each
//! other give equal digests when what they both know is equal. A copy of another region's log is found in ours by the
//! ranges that counted: G1, each begins where the one before it ended.

use super::super::refusal::{Problem, Refusal};
use super::{Ask, show_event, unreadable};
use crate::node::Node;
use crate::ship::withhold::Stays;
use engine::event::{Event, Imported, Item, Payload, Position, Record, Withheld, positioned};
use engine::ledger::{Content, First, Table as _};
use engine::log::{Digest, Lsn};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Rows looked at under the ledger's lock at once: a fraction of a millisecond.
const ROWS_AT_ONCE: u64 = 1024;
/// Looks at a fold that is in the middle of a record, and the time between them.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(5);
/// Rows shown of one place.
const SHOWN_MAX: usize = 16;

/// How far each region's log counts: before this record.
pub(super) type Cut = BTreeMap<String, u64>;

/// `eu:7,us:9`.
pub(super) fn cut(text: &str) -> Option<Cut> {
    let one = |part: &str| {
        let (region, lsn) = part.rsplit_once(':')?;
        Some((crate::config::region_name(region).ok()?, lsn.parse().ok()?))
    };
    let cut: Cut = text.split(',').map(one).collect::<Option<_>>()?;
    (cut.len() <= usize::from(engine::limits::ORIGINS_MAX) + 1).then_some(cut)
}

/// What is known of regions here; null where there is one, or if the fold is in the middle of a record for long.
pub(super) async fn standing(node: &Node) -> Value {
    let Some(regions) = &node.regions else { return Value::Null };
    let mut known = node.fold.known();
    for _ in 0..TRIES {
        if known.is_some() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        known = node.fold.known();
    }
    let Some(known) = known else { return Value::Null };
    let row = |log: &crate::fold::KnownLog| {
        json!({
            "region": log.region, "records": log.records.next().0, "digest": log.digest.to_string(),
            "quarantine": log.quarantine.as_ref().map(|why| json!({"record": why.at.lsn.0, "part": why.part})),
        })
    };
    let logs: Vec<Value> = known.logs.iter().map(row).collect();
    json!({"own": regions.own(), "logs": logs, "merged": known.merged.to_string()})
}

/// One more than the last record of a region's log that is here.
pub(super) fn end(node: &Node, region: &str) -> Option<u64> {
    let core = node.fold.core();
    if core.ledger.region() == region {
        return Some(core.ledger.applied().next().0);
    }
    core.ledger.origin(region).map(|origin| origin.position().lsn.0)
}

/// A digest over records of a region's log as they are shipped, and the last of them, shown. What `Attested` says of signatures
/// is left out: it is another record's.
pub(super) async fn shipped(
    node: &Arc<Node>,
    region: &str,
    from: u64,
    to: u64,
) -> Result<(Digest, Value), Problem> {
    let (mut sum, mut last) = (Sha256::new(), Value::Null);
    let mut take = |lsn: u64, items: &[Item]| {
        let mut bytes = Vec::new();
        for item in items {
            match item {
                Item::Event { event, .. } => {
                    Item::Event { signature: 0, event: event.clone() }.encode(&mut bytes)
                }
                Item::Withheld(withheld) => {
                    Item::Withheld(Withheld { signature: 0, ..withheld.clone() }).encode(&mut bytes)
                }
                other => other.encode(&mut bytes),
            }
        }
        sum.update(lsn.to_le_bytes());
        sum.update((bytes.len() as u64).to_le_bytes());
        sum.update(&bytes);
        if lsn + 1 == to {
            last = show(lsn, items, &bytes);
        }
    };
    if node.fold.core().ledger.region() == region {
        own(node, from, to, &mut take).await?;
    } else {
        copied(node, region, from, to, &mut take).await?;
    }
    Ok((Digest(sum.finalize().into()), last))
}

async fn own(
    node: &Arc<Node>,
    from: u64,
    to: u64,
    take: &mut impl FnMut(u64, &[Item]),
) -> Result<(), Problem> {
    let mut at = from;
    if node.fold.core().ledger.withheld() > 0 {
        // What became of what is withheld is read from its leaf.
        let reader = node.clone();
        let written = tokio::task::spawn_blocking(move || reader.fold.projector.drain()).await;
        written.map_err(|_| Refusal::Internal)?;
    }
    while at < to {
        let read = node.group.read_range(Lsn(at), Lsn(to)).await.map_err(|error| unreadable(&error))?;
        let Some((last, ..)) = read.last() else { return Err(Refusal::Internal.into()) };
        let next = last.0 + 1;
        let decode = |(lsn, _, bytes): (Lsn, _, Vec<u8>)| Record::decode(&bytes).map(|record| (lsn, record));
        let records: Vec<_> =
            read.into_iter().map(decode).collect::<Result<_, _>>().map_err(|_| Refusal::Internal)?;
        let wrong = |why: String| {
            tracing::error!(why, "what is withheld of our log cannot be told");
            Problem::from(Refusal::Internal)
        };
        let stays = Stays::of(&**node, &records).await.map_err(wrong)?;
        for (lsn, record) in records {
            take(lsn.0, &stays.ship(lsn, record, &mut std::iter::repeat(0)).map_err(wrong)?);
        }
        at = next;
    }
    Ok(())
}

/// The same from the ranges of another region's log that stand in ours.
async fn copied(
    node: &Node,
    region: &str,
    from: u64,
    to: u64,
    take: &mut impl FnMut(u64, &[Item]),
) -> Result<(), Problem> {
    let gone = || Problem::from(Refusal::NotFound).detail("that record of the other region is not here");
    let (mut expected, mut at, end) = {
        let core = node.fold.core();
        let found = core.ledger.range_of(region, Position::of(Lsn(from)));
        let (begins, at) = found.ok_or_else(gone)?;
        (begins, at.0, core.ledger.applied().next().0)
    };
    // Items of the record that is being put together.
    let mut open: Vec<Item> = Vec::new();
    while at < end {
        let read = node.group.read_range(Lsn(at), Lsn(end)).await.map_err(|error| unreadable(&error))?;
        let Some((last, ..)) = read.last() else { break };
        at = last.0 + 1;
        for (_, _, bytes) in read {
            let record = Record::decode(&bytes).map_err(|_| Refusal::Internal)?;
            let Payload::Events(events) = record.payload else { continue };
            for event in events {
                let Event::Imported(range) = event else { continue };
                if range.origin != region || range.from != expected {
                    continue;
                }
                expected = range.end();
                if feed(&range, (from, to), &mut open, take) {
                    return Ok(());
                }
            }
        }
    }
    Err(gone())
}

/// Hands on the records of a range that are asked for. Whether that was the last.
fn feed(
    range: &Imported,
    (from, to): (u64, u64),
    open: &mut Vec<Item>,
    take: &mut impl FnMut(u64, &[Item]),
) -> bool {
    for (place, item) in positioned(range.from, &range.items) {
        if place.lsn.0 < from {
            continue;
        }
        if place.lsn.0 >= to {
            return true;
        }
        open.push(item.clone());
        if *item == Item::End {
            take(place.lsn.0, open);
            open.clear();
            if place.lsn.0 + 1 == to {
                return true;
            }
        }
    }
    false
}

/// A record for people, as other regions have it. No body, no secret.
fn show(lsn: u64, items: &[Item], bytes: &[u8]) -> Value {
    let row = |item: &Item| match item {
        Item::Event { event, .. } => Some(show_event(event)),
        Item::Seen { origin, to, .. } => {
            Some(json!({"event": "Imported", "origin": origin.as_str(), "up_to_record": to.lsn.0}))
        }
        Item::Withheld(withheld) => Some(json!({
            "event": "Withheld", "at_ms": withheld.at_ms, "tenant": withheld.tenant.as_str(), "bytes": withheld.bytes,
            "leaf": withheld.became.leaf().map(|leaf| leaf.to_string()),
        })),
        Item::End => None,
    };
    let events: Vec<Value> = items.iter().filter_map(row).collect();
    let sha256 = Digest(Sha256::digest(bytes).into()).to_string();
    json!({"lsn": lsn, "sha256": sha256, "events": events})
}

/// Digests over the first rows of all regions, as far as their logs count, in parts of the range of keys; and if one place is
/// asked for, its rows.
pub(super) async fn rows(node: &Arc<Node>, ask: &Ask, cut: &Cut) -> Result<(Vec<Digest>, Value), Problem> {
    let edges: Vec<(u64, u64)> = ask.edges().collect();
    let (from, to) = (ask.from, ask.to);
    let single = to - from == 1;
    let (reader, cut) = (node.clone(), cut.clone());
    let scan = tokio::task::spawn_blocking(move || {
        let mut sums = vec![(0_u64, Content::default()); edges.len()];
        let mut found: Vec<(First, String)> = Vec::new();
        let end = reader.fold.core().ledger.table().rows();
        let mut at = 0;
        while at < end {
            let core = reader.fold.core();
            let ledger = &core.ledger;
            let next = end.min(at + ROWS_AT_ONCE);
            for number in at..next {
                let first = ledger.table().row(number)?;
                let place =
                    u64::from(u32::from_be_bytes([first.key[0], first.key[1], first.key[2], first.key[3]]));
                if place < from || place >= to {
                    continue;
                }
                let region = ledger.region_of(&first).unwrap_or(ledger.region());
                if cut.get(region).is_none_or(|end| first.lsn.0 >= *end) {
                    continue;
                }
                let nth = edges.partition_point(|(_, to)| *to <= place);
                let mut bytes = vec![region.len() as u8];
                bytes.extend_from_slice(region.as_bytes());
                bytes.extend_from_slice(&first.of_origin(0).encode());
                sums[nth].0 += 1;
                sums[nth].1.add(&bytes);
                if single && found.len() < SHOWN_MAX {
                    found.push((first, region.to_owned()));
                }
            }
            at = next;
        }
        Ok::<_, engine::ledger::TableError>((sums, found))
    });
    let (sums, mut found) = scan.await.map_err(|_| Refusal::Internal)?.map_err(|error| {
        tracing::error!(%error, "rows that are to be compared cannot be read");
        Problem::from(Refusal::Internal).detail("the rows cannot be read: the node's log says why")
    })?;
    let digest = |(count, sum): &(u64, Content)| {
        let bytes = [&count.to_le_bytes()[..], &sum.digest().0[..]].concat();
        Digest(Sha256::digest(&bytes).into())
    };
    let digests = sums.iter().map(digest).collect();
    found.sort_by(|(one, a), (other, b)| {
        (one.key, a, one.lsn, one.nth).cmp(&(other.key, b, other.lsn, other.nth))
    });
    let mut shown = Vec::new();
    for (first, region) in &found {
        shown.push(show_first(node, first, region).await);
    }
    Ok((digests, if single { json!({"rows": shown}) } else { Value::Null }))
}

/// A first row for people, with the name that its record gives it.
pub(crate) async fn show_first(node: &Arc<Node>, first: &First, region: &str) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| drop(out.insert(name.to_owned(), value));
    put("key", json!(engine::codec::hex(&first.key)));
    put("region", json!(region));
    put("lsn", json!(first.lsn.0));
    put("nth", json!(first.nth));
    put("leaf", json!(first.seq));
    put("time_ms", json!(first.time_ms));
    put("accepted", json!(first.accepted()));
    put("escalated", json!(first.escalated()));
    put("content", json!(engine::codec::hex(&first.digest)));
    if first.origin() != 0 && first.is_withheld() {
        put("held_by", json!(region));
        return Value::Object(out);
    }
    match node.envelope(first).await {
        Ok(envelope) => {
            put("tenant", json!(envelope.tenant.as_str()));
            let pcs = engine::summary::parse(&envelope.body).ok();
            let id = pcs.and_then(|pcs| engine::summary::verdict::structure(&pcs).ok());
            put("pcs_id", json!(id.map(|id| id.to_string())));
            put("commitment", json!(envelope.commitment().to_string()));
        }
        Err(_) => put("unreadable", json!("the node's log says why")),
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_names_and_numbers() {
        assert_eq!(
            cut("eu:7,us:9").unwrap().into_iter().collect::<Vec<_>>(),
            [("eu".into(), 7), ("us".into(), 9)]
        );
        for bad in ["", "eu", "eu:", "eu:x", ":7", "e u:7", "eu:7,,us:9"] {
            assert_eq!(cut(bad), None, "{bad}");
        }
    }

    #[test]
    fn records_are_put_together_from_ranges_that_cut_them_anywhere() {
        let item = |n: u8| Item::Event { signature: n, event: Event::Checkpoint(vec![n]) };
        // Records 1 to 4; the second has no event.
        let all = [
            item(1),
            item(2),
            Item::End,
            Item::End,
            item(3),
            Item::End,
            item(4),
            item(5),
            item(6),
            Item::End,
        ];
        let whole = |from: u64, to: u64, size: usize| {
            let (mut open, mut got, mut at) = (Vec::new(), Vec::new(), Position::FIRST);
            for items in all.chunks(size) {
                let range = Imported { origin: "b".into(), from: at, items: items.to_vec() };
                at = range.end();
                if feed(&range, (from, to), &mut open, &mut |lsn, items: &[Item]| {
                    got.push((lsn, items.to_vec()))
                }) {
                    break;
                }
            }
            got
        };
        for size in 1..=all.len() {
            let got = whole(2, 4, size);
            assert_eq!(got, [(2, vec![Item::End]), (3, vec![item(3), Item::End])], "{size}");
            assert_eq!(whole(1, 5, size).len(), 4);
        }
    }
}
