//! What nodes say to each other, read a second time: from the drawing at the head of `raft/src/message.rs`, by
//! other code than the product's. Who listens on the wire needs no word of a node about itself.

use engine::codec::{DecodeError, Reader, put16, put32};
use engine::limits::RECORD_BYTES_MAX;

/// A position and its term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// Position in the log, from 1.
    pub lsn: u64,
    /// Term of the leader that proposed it.
    pub term: u64,
}

/// Whom a node has promised itself to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vote {
    /// In which term.
    pub term: u64,
    /// To which node.
    pub node: u64,
    /// Whether a quorum did the same.
    pub granted: bool,
}

/// Entries after `previous`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Session and number, if it has a place among others under way.
    pub place: Option<(u64, u32)>,
    /// Who leads.
    pub vote: Vote,
    /// What they follow.
    pub previous: Option<Id>,
    /// What is agreed.
    pub committed: Option<Id>,
    /// Positions and records.
    pub entries: Vec<(Id, Vec<u8>)>,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Entries, or a sign of life.
    Append(Append),
    /// A candidate asks for a vote.
    Vote {
        /// It only asks whether it would get one.
        pre: bool,
        /// For whom, in which term.
        vote: Vote,
        /// The end of the candidate's log.
        last: Option<Id>,
        /// The leader told it to.
        told: bool,
    },
    /// One that repairs its log wants these positions, first and last.
    Fetch(u64, u64),
    /// Anything else.
    Other,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Everything up to there is durable and as the leader has it.
    Upto(Option<Id>),
    /// What was asked of a voter.
    Voted {
        /// Whom it has promised itself to now.
        vote: Vote,
        /// Whether that is the candidate.
        granted: bool,
        /// The end of the voter's log.
        last: Option<Id>,
    },
    /// What another one asked for to repair its log.
    Fetched(Fetched),
    /// Anything else.
    Other,
}

/// Entries as they stand in a log, for one that repairs its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Whoever answers is in repair itself.
    pub in_repair: bool,
    /// The last vote of whoever answers.
    pub vote: Vote,
    /// What it knows to be agreed.
    pub committed: u64,
    /// Where its newest membership stands.
    pub members_at: u64,
    /// That membership.
    pub members: Vec<u8>,
    /// Positions and records.
    pub entries: Vec<(Id, Vec<u8>)>,
}

type Read<T> = Result<T, DecodeError>;

fn vote(reader: &mut Reader<'_>) -> Read<Vote> {
    Ok(Vote { term: reader.u64("term")?, node: reader.u64("node")?, granted: reader.bool("granted")? })
}

fn id(reader: &mut Reader<'_>) -> Read<Id> {
    Ok(Id { lsn: reader.u64("lsn")?, term: reader.u64("term")? })
}

fn perhaps(reader: &mut Reader<'_>) -> Read<Option<Id>> {
    if reader.bool("id")? { id(reader).map(Some) } else { Ok(None) }
}

fn fetched(in_repair: bool, reader: &mut Reader<'_>) -> Read<Fetched> {
    let (vote, committed) = (vote(reader)?, reader.u64("committed")?);
    let members_at = reader.u64("place")?;
    let members = reader.bytes16(usize::from(u16::MAX), "members")?.to_vec();
    let count = reader.u16("count")?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let id = id(reader)?;
        entries.push((id, reader.bytes32(RECORD_BYTES_MAX, "record")?.to_vec()));
    }
    Ok(Fetched { in_repair, vote, committed, members_at, members, entries })
}

impl Request {
    /// Reads one.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(bytes: &[u8]) -> Read<Request> {
        let mut reader = Reader::new(bytes);
        let request = match reader.u8("request")? {
            1 => {
                let place = match reader.bool("place")? {
                    true => Some((reader.u64("session")?, reader.u32("nth")?)),
                    false => None,
                };
                let vote = vote(&mut reader)?;
                let (previous, committed) = (perhaps(&mut reader)?, perhaps(&mut reader)?);
                let count = reader.u16("count")?;
                let mut entries = Vec::new();
                for _ in 0..count {
                    let id = id(&mut reader)?;
                    entries.push((id, reader.bytes32(RECORD_BYTES_MAX, "record")?.to_vec()));
                }
                Request::Append(Append { place, vote, previous, committed, entries })
            }
            kind @ (2 | 3) => Request::Vote {
                pre: kind == 3,
                vote: vote(&mut reader)?,
                last: perhaps(&mut reader)?,
                told: reader.bool("told")?,
            },
            9 => Request::Fetch(reader.u64("first")?, reader.u64("last")?),
            _ => return Ok(Request::Other),
        };
        reader.end()?;
        Ok(request)
    }
}

impl Answer {
    /// Reads one.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(bytes: &[u8]) -> Read<Answer> {
        let mut reader = Reader::new(bytes);
        let answer = match (reader.u8("answer")?, bytes.get(1)) {
            (1, Some(0)) => {
                reader.u8("appended")?;
                Answer::Upto(perhaps(&mut reader)?)
            }
            (2, _) => Answer::Voted {
                vote: vote(&mut reader)?,
                granted: reader.bool("granted")?,
                last: perhaps(&mut reader)?,
            },
            (tag @ (9 | 10), _) => Answer::Fetched(fetched(tag == 10, &mut reader)?),
            _ => return Ok(Answer::Other),
        };
        reader.end()?;
        Ok(answer)
    }

    /// The message, for those who lie.
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Answer::Upto(upto) => {
                out.extend_from_slice(&[1, 0]);
                put(&mut out, *upto);
            }
            Answer::Voted { vote, granted, last } => {
                out.push(2);
                put_vote(&mut out, *vote);
                out.push(u8::from(*granted));
                put(&mut out, *last);
            }
            Answer::Fetched(Fetched { in_repair, vote, committed, members_at, members, entries }) => {
                out.push(if *in_repair { 10 } else { 9 });
                put_vote(&mut out, *vote);
                out.extend_from_slice(&committed.to_le_bytes());
                out.extend_from_slice(&members_at.to_le_bytes());
                put16(&mut out, members);
                out.extend_from_slice(&(entries.len() as u16).to_le_bytes());
                for (id, record) in entries {
                    out.extend_from_slice(&id.lsn.to_le_bytes());
                    out.extend_from_slice(&id.term.to_le_bytes());
                    put32(&mut out, record);
                }
            }
            Answer::Other => unreachable!("nobody lies about what nobody reads"),
        }
        out
    }
}

impl Request {
    /// The message, for those who lie.
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Request::Append(append) => {
                out.extend_from_slice(&[1, u8::from(append.place.is_some())]);
                if let Some((session, nth)) = append.place {
                    out.extend_from_slice(&session.to_le_bytes());
                    out.extend_from_slice(&nth.to_le_bytes());
                }
                put_vote(&mut out, append.vote);
                put(&mut out, append.previous);
                put(&mut out, append.committed);
                out.extend_from_slice(&(append.entries.len() as u16).to_le_bytes());
                for (id, record) in &append.entries {
                    out.extend_from_slice(&id.lsn.to_le_bytes());
                    out.extend_from_slice(&id.term.to_le_bytes());
                    put32(&mut out, record);
                }
            }
            Request::Vote { pre, vote, last, told } => {
                out.push(if *pre { 3 } else { 2 });
                put_vote(&mut out, *vote);
                put(&mut out, *last);
                out.push(u8::from(*told));
            }
            Request::Fetch(from, to) => {
                out.push(9);
                out.extend_from_slice(&from.to_le_bytes());
                out.extend_from_slice(&to.to_le_bytes());
            }
            Request::Other => unreachable!("nobody lies about what nobody reads"),
        }
        out
    }
}

fn put(out: &mut Vec<u8>, id: Option<Id>) {
    out.push(u8::from(id.is_some()));
    if let Some(id) = id {
        out.extend_from_slice(&id.lsn.to_le_bytes());
        out.extend_from_slice(&id.term.to_le_bytes());
    }
}

fn put_vote(out: &mut Vec<u8>, vote: Vote) {
    out.extend_from_slice(&vote.term.to_le_bytes());
    out.extend_from_slice(&vote.node.to_le_bytes());
    out.push(u8::from(vote.granted));
}

/// The sets of voters that a membership names: one, or two while it changes. `bytes` are those of a record's
/// membership, see `raft/src/codec.rs`.
///
/// # Errors
/// When they are none.
pub fn voters(bytes: &[u8]) -> Read<Vec<Vec<u64>>> {
    let mut reader = Reader::new(bytes);
    let configs = reader.u8("count")? & 0x7F;
    let mut sets = Vec::new();
    for _ in 0..configs {
        let count = reader.u8("count")?;
        let set: Read<Vec<u64>> = (0..count).map(|_| reader.u64("voter")).collect();
        sets.push(set?);
    }
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_again_byte_for_byte() {
        let id = |lsn| Id { lsn, term: 3 };
        let vote = Vote { term: 3, node: 2, granted: true };
        let append = Append {
            place: Some((7, 1)),
            vote,
            previous: Some(id(4)),
            committed: None,
            entries: vec![(id(5), b"five".to_vec()), (id(6), vec![])],
        };
        for request in [
            Request::Append(append),
            Request::Vote { pre: false, vote, last: Some(id(6)), told: true },
            Request::Fetch(3, 9),
        ] {
            assert_eq!(Request::read(&request.write()), Ok(request));
        }
        let entries = || vec![(id(5), b"five".to_vec())];
        let fetched = |in_repair| {
            let (members, entries) = (vec![1], entries());
            Answer::Fetched(Fetched { in_repair, vote, committed: 4, members_at: 3, members, entries })
        };
        for answer in [
            Answer::Upto(Some(id(6))),
            Answer::Voted { vote, granted: false, last: None },
            fetched(false),
            fetched(true),
        ] {
            assert_eq!(Answer::read(&answer.write()), Ok(answer));
        }
        assert_eq!(Request::read(&[5]), Ok(Request::Other));
        assert!(Request::read(&[2, 1]).is_err());
    }
}
