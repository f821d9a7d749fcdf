//! One entry of the log, which carries events.

use alloc::vec::Vec;

use super::{DecodeError, Event};
use crate::codec::Reader;
use crate::limits::{EVENT_MAX, MEMBERSHIP_MAX, RECORD_BYTES_MAX, RECORD_EVENTS_MAX};

mod tag {
    pub const BLANK: u8 = 0;
    pub const EVENTS: u8 = 1;
    pub const MEMBERSHIP: u8 = 2;
}

/// One entry of the log: what Raft agrees on and one frame carries.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The node that proposed it.
    pub leader: u64,
    /// What it holds.
    pub payload: Payload,
}

/// What one entry of the log holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// Nothing: a new leader's first entry.
    Blank,
    /// One to [`RECORD_EVENTS_MAX`] events.
    Events(Vec<Event>),
    /// A change of voters, in the group's own encoding, at most [`MEMBERSHIP_MAX`] bytes.
    Membership(Vec<u8>),
}

impl Record {
    /// Appends the record's bytes.
    ///
    /// # Panics
    /// If the record is beyond its bounds: whoever made the batch kept it within them.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.payload {
            Payload::Blank => head(out, tag::BLANK, self.leader),
            Payload::Events(events) => encode_events(self.leader, events, out),
            Payload::Membership(bytes) => {
                assert!(bytes.len() <= MEMBERSHIP_MAX, "a membership is within its bound");
                head(out, tag::MEMBERSHIP, self.leader);
                out.extend_from_slice(bytes);
            }
        }
    }

    /// Reads a record from exactly these bytes.
    ///
    /// # Errors
    /// [`DecodeError`] if they are anything but one whole record within its bounds.
    pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(DecodeError::OutOfBounds("record"));
        }
        let mut reader = Reader::new(bytes);
        let tag = reader.u8("record tag")?;
        let leader = reader.u64("leader")?;
        let payload = match tag {
            tag::BLANK => Payload::Blank,
            tag::EVENTS => {
                let count = usize::from(reader.u16("count")?);
                if count == 0 || count > RECORD_EVENTS_MAX {
                    return Err(DecodeError::OutOfBounds("count"));
                }
                let mut events = Vec::with_capacity(count.min(reader.left() / 5));
                for _ in 0..count {
                    events.push(Event::decode(reader.bytes32(EVENT_MAX, "event")?)?);
                }
                Payload::Events(events)
            }
            tag::MEMBERSHIP => {
                if reader.left() > MEMBERSHIP_MAX {
                    return Err(DecodeError::OutOfBounds("membership"));
                }
                Payload::Membership(reader.remaining().to_vec())
            }
            unknown => return Err(DecodeError::UnknownTag(unknown)),
        };
        reader.end()?;
        Ok(Record { leader, payload })
    }
}

/// The membership in a record, if that is what it holds, without decoding what is none.
#[must_use]
pub fn membership(record: &[u8]) -> Option<Vec<u8>> {
    if record.first() != Some(&tag::MEMBERSHIP) {
        return None;
    }
    match Record::decode(record).ok()?.payload {
        Payload::Membership(bytes) => Some(bytes),
        Payload::Blank | Payload::Events(_) => None,
    }
}

/// Hands the signed notes of a record's [`Event::Checkpoint`]s to `each`, in order, without decoding the other events.
///
/// # Errors
/// As [`Record::decode`], as far as it had to be read.
pub fn checkpoint_notes(record: &[u8], mut each: impl FnMut(Vec<u8>)) -> Result<(), DecodeError> {
    let mut reader = Reader::new(record);
    if reader.u8("record tag")? != tag::EVENTS {
        return Ok(());
    }
    reader.u64("leader")?;
    for _ in 0..reader.u16("count")? {
        let event = reader.bytes32(EVENT_MAX, "event")?;
        if event.first() == Some(&super::tag::CHECKPOINT)
            && let Event::Checkpoint(note) = Event::decode(event)?
        {
            each(note);
        }
    }
    reader.end()
}

/// Hands the events of a record that speak of anchors ([`Event::Anchored`], [`Event::Witnessed`]) to `each`, in order,
/// without decoding the others.
///
/// # Errors
/// As [`Record::decode`], as far as it had to be read.
pub fn attestations(record: &[u8], mut each: impl FnMut(Event)) -> Result<(), DecodeError> {
    let mut reader = Reader::new(record);
    if reader.u8("record tag")? != tag::EVENTS {
        return Ok(());
    }
    reader.u64("leader")?;
    for _ in 0..reader.u16("count")? {
        let event = reader.bytes32(EVENT_MAX, "event")?;
        if matches!(event.first(), Some(&super::tag::ANCHORED | &super::tag::WITNESSED)) {
            each(Event::decode(event)?);
        }
    }
    reader.end()
}

/// Appends a record of events without taking the events.
///
/// # Panics
/// If there are none, more than [`RECORD_EVENTS_MAX`], or more than [`RECORD_BYTES_MAX`] bytes of them.
pub fn encode_events(leader: u64, events: &[Event], out: &mut Vec<u8>) {
    assert!(!events.is_empty() && events.len() <= RECORD_EVENTS_MAX, "a batch is within its bound");
    let start = out.len();
    head(out, tag::EVENTS, leader);
    out.extend_from_slice(&(events.len() as u16).to_le_bytes());
    for event in events {
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        event.encode(out);
        let length = u32::try_from(out.len() - at - 4).expect("an event is within its bound");
        out[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }
    assert!(out.len() - start <= RECORD_BYTES_MAX, "a batch is within its bound");
}

fn head(out: &mut Vec<u8>, tag: u8, leader: u64) {
    out.push(tag);
    out.extend_from_slice(&leader.to_le_bytes());
}
