//! What a ledger knows of other regions, as bytes of its snapshot.
//!
//! ```text
//! regions   count u16 x (name, or name and `!` (u8), position), rows u64, rows before the first u64,
//!           count u16 x (region (u8), region (u8), conflicts u64), count u16 x clash, count u8 x origin
//! clash     key 32, 2 x (region (u8), leaf u64, time u64), fields u16
//! origin    ledger's snapshot (u32), last row u8 (0 or 1) x 104, heads u32 x (size u64, root 32),
//!           agreed u8 (0 or 1) x (size u64, note (u32)), attested u64, quarantine u8 (0 or 1) x (position, part (u8)),
//!           places u32 x (position, lsn u64), pending u32 x item
//! ```

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use super::{Clash, Ghost, Origin, Origins, Quarantine};
use crate::codec::{DecodeError, Reader, put8, put32};
use crate::event::{Item, Position};
use crate::ledger::{First, Ledger, SnapshotError, TableError};
use crate::limits::{
    ATTESTED_LAG_MAX, CLASHES_MAX, IMPORT_PLACES_MAX, NOTE_MAX, ORIGINS_MAX, RECORD_EVENTS_MAX, REGION_MAX,
};
use crate::log::{Digest, Lsn};

/// Longest snapshot of another region's ledger, bytes: all tenants a region may have, with all their keys.
const LEDGER_MAX: usize = 1 << 30;

type Seen = BTreeMap<String, Position>;

/// Appends the bytes.
///
/// # Errors
/// [`TableError`] if a table has failed, which a ledger without one does not.
pub(in crate::ledger) fn encode(seen: &Seen, origins: &Origins, out: &mut Vec<u8>) -> Result<(), TableError> {
    out.extend_from_slice(&(seen.len() as u16).to_le_bytes());
    for (region, position) in seen {
        put8(out, region.as_bytes());
        position.encode(out);
    }
    for number in [origins.rows, origins.before] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&(origins.conflicts.len() as u16).to_le_bytes());
    for ((a, b), count) in &origins.conflicts {
        put8(out, a.as_bytes());
        put8(out, b.as_bytes());
        out.extend_from_slice(&count.to_le_bytes());
    }
    out.extend_from_slice(&(origins.clashes.len() as u16).to_le_bytes());
    for clash in &origins.clashes {
        out.extend_from_slice(&clash.key);
        for (region, leaf, time_ms) in [&clash.winner, &clash.other] {
            put8(out, region.as_bytes());
            out.extend_from_slice(&leaf.to_le_bytes());
            out.extend_from_slice(&time_ms.to_le_bytes());
        }
        out.extend_from_slice(&clash.fields.to_le_bytes());
    }
    out.push(origins.list.len() as u8);
    origins.list.iter().try_for_each(|origin| encode_origin(origin, out))
}

fn encode_origin(origin: &Origin, out: &mut Vec<u8>) -> Result<(), TableError> {
    put32(out, &origin.ledger.snapshot()?);
    let last = origin.ledger.table().last;
    out.push(u8::from(last.is_some()));
    last.iter().for_each(|row| out.extend_from_slice(&row.encode()));
    out.extend_from_slice(&(origin.heads.len() as u32).to_le_bytes());
    for (size, root) in &origin.heads {
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(&root.0);
    }
    out.push(u8::from(origin.agreed.is_some()));
    if let Some((size, note)) = &origin.agreed {
        out.extend_from_slice(&size.to_le_bytes());
        put32(out, note);
    }
    out.extend_from_slice(&origin.attested.0.to_le_bytes());
    out.push(u8::from(origin.quarantine.is_some()));
    if let Some(why) = &origin.quarantine {
        why.at.encode(out);
        put8(out, why.part.as_bytes());
    }
    out.extend_from_slice(&(origin.places.len() as u32).to_le_bytes());
    for (from, lsn) in &origin.places {
        from.encode(out);
        out.extend_from_slice(&lsn.0.to_le_bytes());
    }
    out.extend_from_slice(&(origin.pending.len() as u32).to_le_bytes());
    origin.pending.iter().for_each(|item| item.encode(out));
    Ok(())
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// [`SnapshotError`] if the bytes are anything else.
pub(in crate::ledger) fn read(reader: &mut Reader<'_>) -> Result<(Seen, Origins), SnapshotError> {
    let mut seen = Seen::new();
    for _ in 0..reader.u16("regions")? {
        // A counter of readmissions has one byte more than its region's name.
        seen.insert(text_of(reader, REGION_MAX + 1)?, Position::read(reader)?);
    }
    let mut origins = Origins {
        rows: reader.u64("rows of regions")?,
        before: reader.u64("rows before regions")?,
        ..Origins::default()
    };
    for _ in 0..reader.u16("conflicts")? {
        let pair = (text(reader)?, text(reader)?);
        origins.conflicts.insert(pair, reader.u64("conflicts")?);
    }
    let clashes = reader.u16("clashes")?;
    within(clashes.into(), CLASHES_MAX, "clashes")?;
    for _ in 0..clashes {
        let key = reader.array("clash")?;
        let mut side = || Ok::<_, DecodeError>((text(reader)?, reader.u64("clash")?, reader.u64("clash")?));
        let (winner, other) = (side()?, side()?);
        origins.clashes.push_back(Clash { key, winner, other, fields: reader.u16("clash")? });
    }
    let count = reader.u8("origins")?;
    within(count.into(), ORIGINS_MAX.into(), "origins")?;
    for _ in 0..count {
        let origin = read_origin(reader)?;
        origins.list.push(origin);
    }
    Ok((seen, origins))
}

fn read_origin(reader: &mut Reader<'_>) -> Result<Origin, SnapshotError> {
    let ledger = reader.bytes32(LEDGER_MAX, "ledger of a region")?;
    let last = match reader.bool("last row")? {
        true => Some(First::decode(&reader.array("last row")?)?),
        false => None,
    };
    let (_, rows) = crate::ledger::inspect(ledger)?;
    let ghost = Ghost::resume(rows, last);
    let mut origin = Origin::of(Ledger::restore(ledger, ghost)?);
    let heads = reader.u32("heads")? as usize;
    within(heads, ATTESTED_LAG_MAX, "heads")?;
    origin.heads = VecDeque::with_capacity(heads);
    for _ in 0..heads {
        origin.heads.push_back((reader.u64("head")?, Digest(reader.array("head")?)));
    }
    if reader.bool("agreed")? {
        origin.agreed = Some((reader.u64("agreed")?, reader.bytes32(NOTE_MAX, "agreed")?.to_vec()));
    }
    origin.attested = Lsn(reader.u64("attested")?);
    if reader.bool("quarantine")? {
        origin.quarantine = Some(Quarantine { at: Position::read(reader)?, part: text(reader)? });
    }
    let places = reader.u32("places")? as usize;
    within(places, IMPORT_PLACES_MAX, "places")?;
    for _ in 0..places {
        origin.places.push((Position::read(reader)?, Lsn(reader.u64("place")?)));
    }
    let pending = reader.u32("pending")? as usize;
    within(pending, RECORD_EVENTS_MAX, "pending")?;
    for _ in 0..pending {
        origin.pending.push(Item::read(reader)?);
    }
    Ok(origin)
}

fn text(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    text_of(reader, REGION_MAX)
}

fn text_of(reader: &mut Reader<'_>, most: usize) -> Result<String, DecodeError> {
    let bytes = reader.bytes8(most, "region")?;
    Ok(core::str::from_utf8(bytes).map_err(|_| DecodeError::OutOfBounds("region"))?.into())
}

fn within(count: usize, most: usize, what: &'static str) -> Result<(), DecodeError> {
    if count > most { Err(DecodeError::OutOfBounds(what)) } else { Ok(()) }
}
