//! A range of a log as an object: canonical bytes, packed with zstd.
//!
//! ```text
//! "flk chunk 1\n"  from u64  count u32  count x item (see `engine::event::Imported`)
//! ```
//! The items are whole records. L1: unpacking takes the room that the signed bill says, at most [`RAW_MAX`].

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

/// Unpacks and reads a range that begins at `from` and ends after `to`.
///
/// # Errors
/// What is wrong with the bytes.
pub fn open(packed: &[u8], raw: u64, from: Lsn, to: Lsn) -> Result<Vec<Item>, String> {
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
    if encode(from, &items) != raw {
        return Err("it is not in its one form".into());
    }
    Ok(items)
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
    use engine::event::Event;

    fn items() -> Vec<Item> {
        let event = Item::Event { signature: 0, event: Event::Checkpoint(b"note".to_vec()) };
        vec![event, Item::End, Item::End]
    }

    #[test]
    fn a_range_comes_back_and_is_what_its_bill_says() {
        let raw = encode(Lsn(7), &items());
        let packed = pack(&raw).unwrap();
        let size = raw.len() as u64;
        assert_eq!(open(&packed, size, Lsn(7), Lsn(8)), Ok(items()));
        assert!(open(&packed, size, Lsn(7), Lsn(9)).is_err());
        assert!(open(&packed, size, Lsn(6), Lsn(7)).is_err());
        assert!(open(&packed, size + 1, Lsn(7), Lsn(8)).is_err());
        assert!(open(&packed, size - 1, Lsn(7), Lsn(8)).is_err());
        assert!(open(&packed, u64::MAX, Lsn(7), Lsn(8)).is_err());
        for at in 0..packed.len() {
            assert!(open(&packed[..at], size, Lsn(7), Lsn(8)).is_err(), "cut at {at}");
        }
        let open_end = encode(Lsn(7), &items()[..1]);
        let packed = pack(&open_end).unwrap();
        assert!(open(&packed, open_end.len() as u64, Lsn(7), Lsn(7)).is_err());
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        let bomb = pack(&vec![0; 64 << 20]).unwrap();
        assert!(bomb.len() < 64 << 10);
        assert!(open(&bomb, 64 << 20, Lsn(1), Lsn(1)).is_err());
        assert!(open(&bomb, 1000, Lsn(1), Lsn(1)).is_err());
    }
}
