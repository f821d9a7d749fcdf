//! A range of a log as an object: canonical bytes, packed with zstd.
//!
//! ```text
//! "flk chunk 1\n"  from u64  count u32  count x item (see `engine::event::Imported`)
//! ```
//! The items are whole records. L1: unpacking takes the room that the signed bill says, at most [`RAW_MAX`].

use super::bill::Bill;
use engine::codec::Reader;
use engine::event::Item;
use engine::limits::RECORD_BYTES_MAX;
use engine::log::Lsn;
use std::io;

/// A range is closed when it has so many bytes.
pub const TARGET: usize = 1 << 20;
/// Most bytes of a range, unpacked: one that is almost full takes one more record.
pub const RAW_MAX: usize = TARGET + RECORD_BYTES_MAX + (64 << 10);
/// Most items of a range; it is closed at half of that.
pub const ITEMS_MAX: usize = 1 << 16;
/// Level of zstd: the fastest that still finds what repeats in summaries.
const LEVEL: i32 = 1;
const MAGIC: &[u8] = b"flk chunk 1\n";

/// The bytes of a range, not packed yet.
pub fn encode(from: Lsn, items: &[Item]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&from.0.to_le_bytes());
    out.extend_from_slice(&(items.len() as u32).to_le_bytes());
    items.iter().for_each(|item| item.encode(&mut out));
    out
}

/// Packs.
///
/// # Errors
/// When zstd cannot.
pub fn pack(raw: &[u8]) -> io::Result<Vec<u8>> {
    zstd::bulk::compress(raw, LEVEL)
}

/// Unpacks and reads the range of this bill.
///
/// # Errors
/// What is wrong with the bytes.
pub fn open(packed: &[u8], bill: &Bill) -> Result<Vec<Item>, String> {
    let Bill { from, to, raw, withheld, .. } = *bill;
    let room = usize::try_from(raw).ok().filter(|raw| *raw <= RAW_MAX).ok_or("it is too large")?;
    let raw = zstd::bulk::decompress(packed, room).map_err(|error| error.to_string())?;
    if raw.len() != room {
        return Err(format!("{} bytes are packed in it, the bill says {room}", raw.len()));
    }
    let mut reader = Reader::new(raw.strip_prefix(MAGIC).ok_or("it is no chunk")?);
    let (items, begins) = read(&mut reader).map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    let records = items.iter().filter(|item| **item == Item::End).count() as u64;
    let whole = items.last() == Some(&Item::End);
    if begins != from || !whole || records != to.0 - from.0 + 1 {
        return Err(format!("it holds {records} records from {begins}, the bill says {from} to {to}"));
    }
    let stays = count_withheld(&items);
    if stays != withheld {
        return Err(format!("it withholds {stays} submissions, the bill says {withheld}"));
    }
    if encode(from, &items) != raw {
        return Err("it is not in its one form".into());
    }
    Ok(items)
}

/// How many of these are submissions that stay in their region.
pub fn count_withheld(items: &[Item]) -> u64 {
    items.iter().filter(|item| matches!(item, Item::Withheld(_))).count() as u64
}

fn read(reader: &mut Reader<'_>) -> Result<(Vec<Item>, Lsn), engine::event::DecodeError> {
    let from = Lsn(reader.u64("from")?);
    let count = reader.u32("count")? as usize;
    if count > ITEMS_MAX {
        return Err(engine::event::DecodeError::OutOfBounds("count"));
    }
    let mut items = Vec::with_capacity(count.min(reader.left()));
    for _ in 0..count {
        items.push(Item::read(reader)?);
    }
    Ok((items, from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::event::{Became, Event, Name, Withheld};
    use engine::ids::TenantId;
    use engine::log::Digest;

    fn items() -> Vec<Item> {
        let event = Item::Event { signature: 0, event: Event::Checkpoint(b"note".to_vec()) };
        let name = Name { key: [1; 32], content: [2; 16] };
        let (tenant, became) = (TenantId::new("t").unwrap(), Became::Duplicate { name });
        let withheld = Withheld { signature: 33, at_ms: 7, tenant, bytes: 500, became };
        vec![event, Item::Withheld(withheld), Item::End, Item::End]
    }

    fn bill(from: u64, to: u64, raw: u64) -> Bill {
        let (from, to) = (Lsn(from), Lsn(to));
        let (region, digest) = ("eu".into(), Digest::ZERO);
        Bill { region, from, to, digest, bytes: 0, raw, at_ms: 0, head: None, withheld: 1 }
    }

    #[test]
    fn a_range_comes_back_and_is_what_its_bill_says() {
        let raw = encode(Lsn(7), &items());
        let packed = pack(&raw).unwrap();
        let size = raw.len() as u64;
        let good = bill(7, 8, size);
        assert_eq!(open(&packed, &good), Ok(items()));
        for wrong in [bill(7, 9, size), bill(6, 7, size), bill(7, 8, size + 1), bill(7, 8, size - 1)] {
            assert!(open(&packed, &wrong).is_err(), "{wrong:?}");
        }
        assert!(open(&packed, &bill(7, 8, u64::MAX)).is_err());
        let why = open(&packed, &Bill { withheld: 0, ..good.clone() }).unwrap_err();
        assert_eq!(why, "it withholds 1 submissions, the bill says 0");
        for at in 0..packed.len() {
            assert!(open(&packed[..at], &good).is_err(), "cut at {at}");
        }
        let open_end = encode(Lsn(7), &items()[..2]);
        let packed = pack(&open_end).unwrap();
        assert!(open(&packed, &bill(7, 7, open_end.len() as u64)).is_err());
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        let bomb = pack(&vec![0; 64 << 20]).unwrap();
        assert!(bomb.len() < 64 << 10);
        assert!(open(&bomb, &bill(1, 1, 64 << 20)).is_err());
        assert!(open(&bomb, &bill(1, 1, 1000)).is_err());
    }
}
