//! What nodes say to each other, as bytes written by hand.
//!
//! Little-endian throughout; a record travels as the very bytes that stand in the log. Whoever reads a
//! message believes nothing in it: every count and length has its bound (L1), and every byte must be
//! used, or the message is refused.
//!
//! ```text
//! request  1 append     place? (session u64, nth u32), vote 17, previous id?, committed id?, count u16, count x (lsn u64, term u64, record (u32))
//!          2 vote       vote 17, last id?, told by the leader u8
//!          3 pre-vote   as vote
//!          4 take over  vote 17 of the leader, node u64, last id?
//!          5 read index nothing
//!          6 may lead   nothing
//! answer   1 appended   0 up to id? | 1 conflict at id | 2 higher vote 17
//!          2 voted      vote 17, granted u8, last id?
//!          3 taken      u8; to 4 and 6
//!          4 read index 0 lsn u64 | 1 not the leader, leader u64 (0 unknown)
//!          5 refused    text (u16)
//! ```
//! Tags from 9 on stand in `fetched`. `id` is lsn u64, term u64; `id?` has a u8 before it that says whether it follows.

mod fetched;

use engine::codec::{DecodeError, Reader, put16, put32};
use engine::event::Record;
use engine::limits::RECORD_BYTES_MAX;
use engine::log::Lsn;
use openraft::impls::leader_id_std::LeaderId;

use crate::codec;
use crate::turns::Place;
use crate::types::{Entry, LogId, Vote, index_of, log_id, lsn_of};
pub(crate) use fetched::Fetched;

/// Most entries in one message; openraft asks for 300.
pub(crate) const ENTRIES_MAX: usize = 4096;

/// Records of one message, bytes, unless a single one is larger.
pub(crate) const ENTRIES_BYTES_MAX: usize = 4 << 20;

/// The longest message, bytes: records up to their bound and one more, and what stands around them.
pub const MESSAGE_MAX: usize = ENTRIES_BYTES_MAX + RECORD_BYTES_MAX + ENTRIES_MAX * ENTRY_OVERHEAD + 1024;

const ENTRY_OVERHEAD: usize = 20;

/// Longest reason in a refusal, bytes.
const REASON_MAX: usize = 512;

/// What one node asks of another.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Append(Append),
    Vote(Ballot),
    PreVote(Ballot),
    TakeOver {
        from: Vote,
        to: u64,
        last: Option<LogId>,
    },
    ReadIndex,
    /// Whether the node would take the lead if it were handed over.
    MayLead,
    /// The entries at these positions, first and last, for a log that is being repaired.
    Fetch {
        from: Lsn,
        to: Lsn,
    },
}

/// Entries that follow `previous`, or none, to say that the leader is there.
#[derive(Clone, Debug)]
pub(crate) struct Append {
    /// Its place among those that are under way, if it has one.
    pub(crate) place: Option<Place>,
    pub(crate) vote: Vote,
    pub(crate) previous: Option<LogId>,
    pub(crate) committed: Option<LogId>,
    pub(crate) entries: Vec<Entry>,
}

/// A candidate asks for a vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ballot {
    pub(crate) vote: Vote,
    pub(crate) last: Option<LogId>,
    /// The leader itself asked the candidate to take over.
    pub(crate) told: bool,
}

/// What a node answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Appended(Appended),
    Voted { vote: Vote, granted: bool, last: Option<LogId> },
    TakeOver { accepted: bool },
    ReadIndex(Result<Lsn, Option<u64>>),
    Refused(String),
    Fetched(Fetched),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    /// Everything up to there is durable.
    Upto(Option<LogId>),
    /// What was to follow this entry does not: the log differs there.
    Conflict(LogId),
    /// Somebody else has been elected.
    HigherVote(Vote),
}

impl Request {
    /// The message. `entries` are within their bounds because the log store hands out no more.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Request::Append(append) => {
                out.reserve(
                    append.entries.iter().map(|entry| entry.size() + ENTRY_OVERHEAD).sum::<usize>() + 64,
                );
                out.push(1);
                out.push(u8::from(append.place.is_some()));
                if let Some(Place { session, nth }) = append.place {
                    out.extend_from_slice(&session.to_le_bytes());
                    out.extend_from_slice(&nth.to_le_bytes());
                }
                vote(&mut out, &append.vote);
                id(&mut out, append.previous.as_ref());
                id(&mut out, append.committed.as_ref());
                assert!(append.entries.len() <= ENTRIES_MAX, "L1: {} entries", append.entries.len());
                out.extend_from_slice(&(append.entries.len() as u16).to_le_bytes());
                for entry in &append.entries {
                    // What this node has just proposed itself may be on its way before it is in the log.
                    let proposed =
                        entry.leader == 0 && entry.log_id.leader_id.term == append.vote.leader_id.term;
                    let leader = if proposed { append.vote.leader_id.voted_for } else { entry.leader };
                    out.extend_from_slice(&codec::encode_log_id(&entry.log_id));
                    put32(&mut out, codec::encode_entry(entry, leader).bytes());
                }
            }
            Request::Vote(ballot) => ballot.put(2, &mut out),
            Request::PreVote(ballot) => ballot.put(3, &mut out),
            Request::TakeOver { from, to, last } => {
                out.push(4);
                vote(&mut out, from);
                out.extend_from_slice(&to.to_le_bytes());
                id(&mut out, last.as_ref());
            }
            Request::ReadIndex => out.push(5),
            Request::MayLead => out.push(6),
            Request::Fetch { from, to } => fetched::put_range(*from, *to, &mut out),
        }
        out
    }

    /// Reads a request from exactly these bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Request, DecodeError> {
        let mut reader = Reader::new(bounded(bytes)?);
        let request = match reader.u8("request")? {
            1 => Request::Append(read_append(&mut reader)?),
            2 => Request::Vote(Ballot::read(&mut reader)?),
            3 => Request::PreVote(Ballot::read(&mut reader)?),
            4 => Request::TakeOver {
                from: read_vote(&mut reader)?,
                to: reader.u64("node")?,
                last: read_id(&mut reader)?,
            },
            5 => Request::ReadIndex,
            6 => Request::MayLead,
            9 => Request::Fetch { from: Lsn(reader.u64("from")?), to: Lsn(reader.u64("to")?) },
            unknown => return Err(DecodeError::UnknownTag(unknown)),
        };
        reader.end()?;
        Ok(request)
    }

    /// The node in whose name this is said, where the request says so itself.
    pub(crate) fn speaker(&self) -> Option<u64> {
        match self {
            Request::Append(append) => Some(append.vote.leader_id.voted_for),
            Request::Vote(ballot) | Request::PreVote(ballot) => Some(ballot.vote.leader_id.voted_for),
            Request::TakeOver { from, .. } => Some(from.leader_id.voted_for),
            Request::ReadIndex | Request::MayLead | Request::Fetch { .. } => None,
        }
    }
}

impl Ballot {
    fn put(&self, tag: u8, out: &mut Vec<u8>) {
        out.push(tag);
        vote(out, &self.vote);
        id(out, self.last.as_ref());
        out.push(u8::from(self.told));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Ballot, DecodeError> {
        Ok(Ballot { vote: read_vote(reader)?, last: read_id(reader)?, told: reader.bool("told")? })
    }
}

impl Answer {
    /// The message.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Answer::Appended(appended) => {
                out.push(1);
                match appended {
                    Appended::Upto(upto) => {
                        out.push(0);
                        id(&mut out, upto.as_ref());
                    }
                    Appended::Conflict(at) => {
                        out.push(1);
                        out.extend_from_slice(&codec::encode_log_id(at));
                    }
                    Appended::HigherVote(higher) => {
                        out.push(2);
                        vote(&mut out, higher);
                    }
                }
            }
            Answer::Voted { vote: mine, granted, last } => {
                out.push(2);
                vote(&mut out, mine);
                out.push(u8::from(*granted));
                id(&mut out, last.as_ref());
            }
            Answer::TakeOver { accepted } => out.extend_from_slice(&[3, u8::from(*accepted)]),
            Answer::ReadIndex(read) => {
                let (tag, number) = match read {
                    Ok(lsn) => (0, lsn.0),
                    Err(leader) => (1, leader.unwrap_or(0)),
                };
                out.extend_from_slice(&[4, tag]);
                out.extend_from_slice(&number.to_le_bytes());
            }
            Answer::Fetched(fetched) => fetched.put(&mut out),
            Answer::Refused(why) => {
                out.push(5);
                let end = (0..=REASON_MAX.min(why.len())).rev().find(|end| why.is_char_boundary(*end));
                put16(&mut out, &why.as_bytes()[..end.unwrap_or(0)]);
            }
        }
        out
    }

    /// Reads an answer from exactly these bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Answer, DecodeError> {
        let mut reader = Reader::new(bounded(bytes)?);
        let answer = match reader.u8("answer")? {
            1 => Answer::Appended(match reader.u8("appended")? {
                0 => Appended::Upto(read_id(&mut reader)?),
                1 => Appended::Conflict(read_log_id(&mut reader)?),
                2 => Appended::HigherVote(read_vote(&mut reader)?),
                unknown => return Err(DecodeError::UnknownTag(unknown)),
            }),
            2 => Answer::Voted {
                vote: read_vote(&mut reader)?,
                granted: reader.bool("granted")?,
                last: read_id(&mut reader)?,
            },
            3 => Answer::TakeOver { accepted: reader.bool("accepted")? },
            4 => {
                let leads = !reader.bool("elsewhere")?;
                let number = reader.u64("number")?;
                Answer::ReadIndex(if leads { Ok(Lsn(number)) } else { Err((number != 0).then_some(number)) })
            }
            5 => Answer::Refused(reader.text16(REASON_MAX, "reason")?),
            tag @ (9 | 10) => Answer::Fetched(Fetched::read(tag == 10, &mut reader)?),
            unknown => return Err(DecodeError::UnknownTag(unknown)),
        };
        reader.end()?;
        Ok(answer)
    }
}

fn bounded(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    if bytes.len() > MESSAGE_MAX { Err(DecodeError::OutOfBounds("message")) } else { Ok(bytes) }
}

fn vote(out: &mut Vec<u8>, vote: &Vote) {
    out.extend_from_slice(&codec::encode_vote(vote));
}

fn id(out: &mut Vec<u8>, id: Option<&LogId>) {
    out.push(u8::from(id.is_some()));
    if let Some(id) = id {
        out.extend_from_slice(&codec::encode_log_id(id));
    }
}

fn read_vote(reader: &mut Reader<'_>) -> Result<Vote, DecodeError> {
    let leader_id = LeaderId { term: reader.u64("term")?, voted_for: reader.u64("node")? };
    Ok(Vote { leader_id, committed: reader.bool("granted")? })
}

fn read_id(reader: &mut Reader<'_>) -> Result<Option<LogId>, DecodeError> {
    if reader.bool("id")? { read_log_id(reader).map(Some) } else { Ok(None) }
}

fn read_log_id(reader: &mut Reader<'_>) -> Result<LogId, DecodeError> {
    let (lsn, term) = (Lsn(reader.u64("lsn")?), reader.u64("term")?);
    // The last position has no next one; nobody's log is that long.
    if lsn.0 == u64::MAX {
        return Err(DecodeError::OutOfBounds("lsn"));
    }
    Ok(log_id(term, index_of(lsn).ok_or(DecodeError::OutOfBounds("lsn"))?))
}

fn read_append(reader: &mut Reader<'_>) -> Result<Append, DecodeError> {
    let place = match reader.bool("place")? {
        true => Some(Place { session: reader.u64("session")?, nth: reader.u32("nth")? }),
        false => None,
    };
    let (vote, previous, committed) = (read_vote(reader)?, read_id(reader)?, read_id(reader)?);
    let count = usize::from(reader.u16("entries")?);
    if count > ENTRIES_MAX || count * ENTRY_OVERHEAD > reader.left() {
        return Err(DecodeError::OutOfBounds("entries"));
    }
    let mut entries = Vec::with_capacity(count);
    let mut before = previous;
    for _ in 0..count {
        let id = read_log_id(reader)?;
        if before
            .is_some_and(|before| before.index + 1 != id.index || before.leader_id.term > id.leader_id.term)
        {
            return Err(DecodeError::OutOfBounds("order of entries"));
        }
        let record = reader.bytes32(RECORD_BYTES_MAX, "record")?;
        entries.push(read_entry(id, record)?);
        before = Some(id);
    }
    Ok(Append { place, vote, previous, committed, entries })
}

fn read_entry(id: LogId, record: &[u8]) -> Result<Entry, DecodeError> {
    // Says what is wrong with a record; what is left is a membership, which the codec checks.
    Record::decode(record)?;
    codec::decode_entry(lsn_of(id.index), id.leader_id.term, record)
        .map_err(|_| DecodeError::OutOfBounds("membership"))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use engine::event::{Envelope, Event, encode_events};
    use engine::ids::TenantId;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::batch::Batch;
    use crate::types::{Data, Member, Membership, Payload};

    fn a_vote() -> impl Strategy<Value = Vote> {
        (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(term, voted_for, committed)| Vote {
            leader_id: LeaderId { term, voted_for },
            committed,
        })
    }

    fn an_id() -> impl Strategy<Value = LogId> {
        (any::<u64>(), 0..u64::MAX - 100).prop_map(|(term, index)| log_id(term, index))
    }

    fn a_payload() -> impl Strategy<Value = Payload> {
        let events = vec(vec(any::<u8>(), 0..300), 1..5).prop_map(|bodies| {
            let tenant = TenantId::new("t").unwrap();
            let event = |body| Event::Received(Envelope { tenant, received_at_ms: 1, salt: [7; 16], body });
            let events: Vec<Event> = bodies.into_iter().map(event).collect();
            let mut record = Vec::new();
            encode_events(3, &events, &mut record);
            Payload::Normal(Data::new(record, Batch { events: events.into(), local: None }, None))
        });
        let membership =
            (any::<u64>(), "[a-z]{0,20}", any::<u64>()).prop_map(|(node, address, incarnation)| {
                let nodes = BTreeMap::from([(node, Member { address, incarnation })]);
                Payload::Membership(Membership::new(vec![BTreeSet::from([node])], nodes).unwrap())
            });
        prop_oneof![Just(Payload::Blank), events, membership]
    }

    fn an_append() -> impl Strategy<Value = Request> {
        (a_vote(), option::of(0..1u64 << 40), option::of(an_id()), vec(a_payload(), 0..6)).prop_map(
            |(vote, previous, committed, payloads)| {
                let previous = previous.map(|index| log_id(4, index));
                let next = previous.map_or(0, |id| id.index + 1);
                let entry = |(n, payload)| Entry { log_id: log_id(4, next + n), leader: 3, payload };
                let entries = (0..).zip(payloads).map(entry).collect();
                let place = previous.map(|id| Place { session: id.index, nth: 7 });
                Request::Append(Append { place, vote, previous, committed, entries })
            },
        )
    }

    fn a_request() -> impl Strategy<Value = Request> {
        let ballot = || {
            (a_vote(), option::of(an_id()), any::<bool>()).prop_map(|(vote, last, told)| Ballot {
                vote,
                last,
                told,
            })
        };
        let take_over = (a_vote(), any::<u64>(), option::of(an_id()))
            .prop_map(|(from, to, last)| Request::TakeOver { from, to, last });
        prop_oneof![
            an_append(),
            ballot().prop_map(Request::Vote),
            ballot().prop_map(Request::PreVote),
            take_over,
            Just(Request::ReadIndex),
            Just(Request::MayLead),
            any::<(u64, u64)>().prop_map(|(from, to)| Request::Fetch { from: Lsn(from), to: Lsn(to) }),
        ]
    }

    fn an_answer() -> impl Strategy<Value = Answer> {
        prop_oneof![
            option::of(an_id()).prop_map(|upto| Answer::Appended(Appended::Upto(upto))),
            an_id().prop_map(|at| Answer::Appended(Appended::Conflict(at))),
            a_vote().prop_map(|vote| Answer::Appended(Appended::HigherVote(vote))),
            (a_vote(), any::<bool>(), option::of(an_id())).prop_map(|(vote, granted, last)| Answer::Voted {
                vote,
                granted,
                last
            }),
            any::<bool>().prop_map(|accepted| Answer::TakeOver { accepted }),
            any::<u64>().prop_map(|lsn| Answer::ReadIndex(Ok(Lsn(lsn)))),
            option::of(1..u64::MAX).prop_map(|leader| Answer::ReadIndex(Err(leader))),
            "[a-zß ]{0,500}".prop_map(Answer::Refused),
            (a_vote(), any::<bool>(), 1..1u64 << 40, vec(vec(any::<u8>(), 0..300), 0..5)).prop_map(
                |(vote, in_repair, lsn, records)| {
                    let entries = (lsn..).zip(records).map(|(lsn, record)| (Lsn(lsn), 3, record)).collect();
                    let (committed, members_at, members) = (Lsn(lsn), Lsn(lsn / 2), vec![1; 9]);
                    Answer::Fetched(Fetched { in_repair, vote, committed, members_at, members, entries })
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn requests_come_back_byte_for_byte_and_use_every_byte(request in a_request()) {
            let bytes = request.encode();
            let back = Request::decode(&bytes).unwrap();
            prop_assert_eq!(back.encode(), bytes.clone());
            prop_assert!(Request::decode(&bytes[..bytes.len() - 1]).is_err());
            prop_assert!(Request::decode(&[&bytes[..], &[0]].concat()).is_err());
        }

        #[test]
        fn answers_come_back(answer in an_answer()) {
            let bytes = answer.encode();
            let back = Answer::decode(&bytes).unwrap();
            prop_assert_eq!(back.encode(), bytes.clone());
            match answer {
                // A long reason is cut short.
                Answer::Refused(why) if why.len() > REASON_MAX => {}
                answer => prop_assert_eq!(back, answer),
            }
            prop_assert!(Answer::decode(&bytes[..bytes.len() - 1]).is_err());
            prop_assert!(Answer::decode(&[&bytes[..], &[0]].concat()).is_err());
        }

        /// Whatever a stranger sends is refused or read; nothing panics, and nothing read exceeds its bounds.
        #[test]
        fn anything_else_is_refused_or_read(bytes in vec(any::<u8>(), 0..400), request in a_request(), at in any::<usize>(), byte in any::<u8>()) {
            let _ = Answer::decode(&bytes);
            let _ = Request::decode(&bytes);
            let mut changed = request.encode();
            let at = at % changed.len();
            changed[at] = byte;
            if let Ok(Request::Append(append)) = Request::decode(&changed) {
                prop_assert!(append.entries.len() <= ENTRIES_MAX);
                let follows = |pair: &[Entry]| pair[0].log_id.index + 1 == pair[1].log_id.index;
                prop_assert!(append.entries.windows(2).all(follows));
            }
        }
    }

    #[test]
    fn a_count_without_entries_allocates_nothing() {
        let mut bytes = Request::Append(Append {
            place: None,
            vote: Vote { leader_id: LeaderId { term: 1, voted_for: 1 }, committed: true },
            previous: None,
            committed: None,
            entries: Vec::new(),
        })
        .encode();
        let at = bytes.len() - 2;
        bytes[at..].copy_from_slice(&u16::MAX.to_le_bytes());
        assert_eq!(Request::decode(&bytes).unwrap_err(), DecodeError::OutOfBounds("entries"));
        assert!(Request::decode(&vec![1; MESSAGE_MAX + 1]).is_err());
    }
}
