//! A range of another region's log, as it enters ours.
//!
//! ```text
//! Imported  tag u8 = 9, origin (u8), position, count u32 (1 to 8192), count x item
//! position  lsn u64, nth u32
//! item      1 event  tag u8, signature u8, event (u32); never an Imported
//!           2 end    tag u8: the record is over
//!           3 seen   tag u8, origin (u8), position from, position to
//!           4 withheld  drawn at [`Withheld`]
//! ```
//! What the other region imported does not travel twice: an `Imported` of its log comes as `seen`, which says how much of
//! whose log it knew from there on. A submission that must not leave its region is `withheld`. Everything else of its log is here, event by
//! event, so that its ledger can be folded again. The byte before an event is what its `Attested` says of a submission's signature ([`Attested::signatures`]), and 0
//! for other events.
//!
//! [`Attested::signatures`]: super::Attested::signatures

use alloc::string::String;
use alloc::vec::Vec;

use super::{Envelope, Event, Payload, Record, Withheld, tag};
use crate::codec::{DecodeError, Reader, put8, put32};
use crate::ids::TenantId;
use crate::limits::{EVENT_MAX, RECORD_EVENTS_MAX, REGION_MAX};
use crate::log::Lsn;

/// Most items of one [`Imported`].
pub const ITEMS_MAX: usize = 2 * RECORD_EVENTS_MAX;

/// Bytes of items that one [`Imported`] takes: what is around them is below 100 bytes, and the largest event of a log with
/// its item fits, except one that is itself within a few bytes of [`EVENT_MAX`], which no region writes.
pub const IMPORT_BYTES_MAX: usize = EVENT_MAX - 128;

/// A place between two events of a log: the next event is number `nth` of record `lsn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The record.
    pub lsn: Lsn,
    /// Events of it that stand before this place.
    pub nth: u32,
}

impl Position {
    /// Before everything.
    pub const FIRST: Position = Position { lsn: Lsn(1), nth: 0 };

    /// The first place of a record.
    #[must_use]
    pub fn of(lsn: Lsn) -> Position {
        Position { lsn, nth: 0 }
    }

    /// The place after an item.
    #[must_use]
    pub fn after(self, item: &Item) -> Position {
        match item {
            Item::Event { .. } | Item::Seen { .. } | Item::Withheld(_) => {
                Position { lsn: self.lsn, nth: self.nth + 1 }
            }
            Item::End => Position::of(self.lsn.next()),
        }
    }

    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.lsn.0.to_le_bytes());
        out.extend_from_slice(&self.nth.to_le_bytes());
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Position, DecodeError> {
        let position = Position { lsn: Lsn(reader.u64("position")?), nth: reader.u32("position")? };
        // The last record a log can have is far away, so that counting on never overflows.
        if position.lsn == Lsn::ZERO
            || position.lsn.0 > u64::MAX / 2
            || position.nth as usize > RECORD_EVENTS_MAX
        {
            return Err(DecodeError::OutOfBounds("position"));
        }
        Ok(position)
    }
}

/// One step of another region's log.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// The next event of the record.
    Event {
        /// For a submission, what the log's `Attested` says of its signature; else 0.
        signature: u8,
        /// The event.
        event: Event,
    },
    /// The record is over. A record without events (a new leader's, a change of voters) is this alone.
    End,
    /// The next event of the record was an [`Imported`] from `from` to `to` of this origin's log.
    Seen {
        /// The third region, or ours.
        origin: String,
        /// Where it began.
        from: Position,
        /// Where it ended.
        to: Position,
    },
    /// The next event of the record was a submission that stays in its region.
    Withheld(Withheld),
}

/// A range of another region's log.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The region, named like a tenant.
    pub origin: String,
    /// Where the range begins.
    pub from: Position,
    /// What stands there, one to [`ITEMS_MAX`].
    pub items: Vec<Item>,
}

impl Imported {
    /// Where the range ends.
    #[must_use]
    pub fn end(&self) -> Position {
        self.items.iter().fold(self.from, Position::after)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.origin.len() <= REGION_MAX, "a region name is within its bound");
        assert!((1..=ITEMS_MAX).contains(&self.items.len()), "an import is within its bound");
        out.push(tag::IMPORTED);
        put8(out, self.origin.as_bytes());
        self.from.encode(out);
        out.extend_from_slice(&(self.items.len() as u32).to_le_bytes());
        self.items.iter().for_each(|item| item.encode(out));
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Imported, DecodeError> {
        let origin = region(reader)?;
        let from = Position::read(reader)?;
        let count = reader.u32("count of items")? as usize;
        if count == 0 || count > ITEMS_MAX {
            return Err(DecodeError::OutOfBounds("count of items"));
        }
        let mut items = Vec::with_capacity(count.min(reader.left()));
        for _ in 0..count {
            items.push(Item::read(reader)?);
        }
        Ok(Imported { origin, from, items })
    }
}

impl Item {
    /// Appends the item's bytes.
    ///
    /// # Panics
    /// If its event is an [`Imported`], or beyond its bounds.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Item::Event { signature, event } => {
                assert!(!matches!(event, Event::Imported(_)), "an import holds none");
                out.extend_from_slice(&[1, *signature]);
                let mut bytes = Vec::new();
                event.encode(&mut bytes);
                put32(out, &bytes);
            }
            Item::End => out.push(2),
            Item::Seen { origin, from, to } => {
                out.push(3);
                put8(out, origin.as_bytes());
                from.encode(out);
                to.encode(out);
            }
            Item::Withheld(withheld) => {
                out.push(4);
                withheld.encode(out);
            }
        }
    }

    /// Reads the next item.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes end early or are not one.
    pub fn read(reader: &mut Reader<'_>) -> Result<Item, DecodeError> {
        Ok(match reader.u8("item")? {
            1 => {
                let signature = reader.u8("signature")?;
                let bytes = reader.bytes32(EVENT_MAX, "event")?;
                if bytes.first() == Some(&tag::IMPORTED) {
                    return Err(DecodeError::OutOfBounds("event of an import"));
                }
                Item::Event { signature, event: Event::decode(bytes)? }
            }
            2 => Item::End,
            3 => Item::Seen {
                origin: region(reader)?,
                from: Position::read(reader)?,
                to: Position::read(reader)?,
            },
            4 => Item::Withheld(Withheld::read(reader)?),
            unknown => return Err(DecodeError::UnknownTag(unknown)),
        })
    }
}

pub(super) fn region(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    let name = core::str::from_utf8(reader.bytes8(REGION_MAX, "region")?);
    let name = name.map_err(|_| DecodeError::OutOfBounds("region"))?;
    TenantId::new(name).map_err(|_| DecodeError::OutOfBounds("region"))?;
    Ok(name.into())
}

/// A record as other regions get it. `signatures` gives what `Attested` says of its submissions, in order.
#[must_use]
pub fn ship(record: Record, signatures: &mut dyn Iterator<Item = u8>) -> Vec<Item> {
    let nothing = ship_but(record, signatures, |_, _, _| Ok::<_, core::convert::Infallible>(None));
    nothing.unwrap_or_else(|never| match never {})
}

/// The same, but for the submissions for which `withhold`, asked with the place in the record and what `Attested` says, gives what
/// stands in their place.
///
/// # Errors
/// What `withhold` gives.
pub fn ship_but<E>(
    record: Record,
    signatures: &mut dyn Iterator<Item = u8>,
    mut withhold: impl FnMut(u32, &Envelope, u8) -> Result<Option<Withheld>, E>,
) -> Result<Vec<Item>, E> {
    let mut items = Vec::new();
    if let Payload::Events(events) = record.payload {
        for (nth, event) in (0..).zip(events) {
            items.push(match event {
                Event::Imported(imported) => {
                    let to = imported.end();
                    Item::Seen { origin: imported.origin, from: imported.from, to }
                }
                Event::Received(envelope) => {
                    let signature = signatures.next().unwrap_or(0);
                    match withhold(nth, &envelope, signature)? {
                        Some(withheld) => Item::Withheld(withheld),
                        None => Item::Event { signature, event: Event::Received(envelope) },
                    }
                }
                event => Item::Event { signature: 0, event },
            });
        }
    }
    items.push(Item::End);
    Ok(items)
}

/// Each item with the place before it.
pub fn positioned(from: Position, items: &[Item]) -> impl Iterator<Item = (Position, &Item)> {
    items.iter().scan(from, |at, item| {
        let before = *at;
        *at = before.after(item);
        Some((before, item))
    })
}
