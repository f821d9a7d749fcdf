//! The bytes Raft's own records have in the log, written by hand so that no derive can reorder them.
//!
//! Little-endian throughout. An entry is an [`engine::event::Record`], so that tools which know
//! nothing of Raft can read the log; votes, log ids and memberships are the three small encodings
//! below. Every decoder consumes all bytes or returns an error.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use engine::codec::{DecodeError, Reader, put16};
use engine::event::Record;
use engine::log::Lsn;
use openraft::impls::leader_id_std::LeaderId;

use crate::batch::Batch;
use crate::types::{Data, Entry, LogId, Member, Membership, Payload, Vote, index_of, log_id, lsn_of};

/// Most voters and learners one membership may name.
const MEMBERS_MAX: usize = 64;
/// Most configurations in one membership: two while a joint change is under way.
const CONFIGS_MAX: usize = 2;
/// Longest address of a member, in bytes.
pub(crate) const ADDRESS_MAX: usize = 256;

/// Bytes of one frame as handed to the log.
pub(crate) enum Body {
    /// The record of an entry with events, encoded by its proposer.
    Shared(Data),
    Owned(Vec<u8>),
}

impl Body {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Body::Shared(data) => data.record(),
            Body::Owned(bytes) => bytes,
        }
    }
}

/// Set in the first byte of a membership whose members have incarnations.
const INCARNATIONS: u8 = 0x80;

/// The frame body of `entry`, which `leader` proposed.
pub(crate) fn encode_entry(entry: &Entry, leader: u64) -> Body {
    let payload = match &entry.payload {
        Payload::Normal(data) => return Body::Shared(data.clone()),
        Payload::Blank => engine::event::Payload::Blank,
        Payload::Membership(membership) => engine::event::Payload::Membership(encode_membership(membership)),
    };
    let mut bytes = Vec::new();
    Record { leader, payload }.encode(&mut bytes);
    Body::Owned(bytes)
}

/// The entry in a frame at `lsn` of `term`.
pub(crate) fn decode_entry(lsn: Lsn, term: u64, body: &[u8]) -> io::Result<Entry> {
    let index = index_of(lsn).ok_or_else(|| corrupt("an entry without a position"))?;
    let record = Record::decode(body).map_err(|error| refused(&format!("entry at {lsn}"), error))?;
    let leader = record.leader;
    let payload = match record.payload {
        engine::event::Payload::Blank => Payload::Blank,
        engine::event::Payload::Events(events) => {
            Payload::Normal(Data::new(body.to_vec(), Batch { events: events.into(), local: None }, None))
        }
        engine::event::Payload::Membership(bytes) => Payload::Membership(decode_membership(&bytes)?),
    };
    Ok(Entry { log_id: log_id(term, index), leader, payload })
}

/// A vote: term, node, whether a quorum granted it.
pub(crate) fn encode_vote(vote: &Vote) -> Vec<u8> {
    let mut out = Vec::with_capacity(17);
    out.extend_from_slice(&vote.leader_id.term.to_le_bytes());
    out.extend_from_slice(&vote.leader_id.voted_for.to_le_bytes());
    out.push(u8::from(vote.committed));
    out
}

pub(crate) fn decode_vote(bytes: &[u8]) -> io::Result<Vote> {
    let read = || {
        let mut reader = Reader::new(bytes);
        let leader_id = LeaderId { term: reader.u64("term")?, voted_for: reader.u64("node")? };
        let committed = reader.bool("granted")?;
        reader.end()?;
        Ok(Vote { leader_id, committed })
    };
    read().map_err(|error| refused("vote", error))
}

/// A log id: lsn, term.
pub(crate) fn encode_log_id(id: &LogId) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    out.extend_from_slice(&lsn_of(id.index).0.to_le_bytes());
    out.extend_from_slice(&id.leader_id.term.to_le_bytes());
    out
}

pub(crate) fn decode_log_id(bytes: &[u8]) -> io::Result<LogId> {
    let read = || {
        let mut reader = Reader::new(bytes);
        let (lsn, term) = (Lsn(reader.u64("lsn")?), reader.u64("term")?);
        reader.end()?;
        Ok(log_id(term, index_of(lsn).ok_or(DecodeError::OutOfBounds("lsn"))?))
    };
    read().map_err(|error| refused("log id", error))
}

/// A membership: count of configurations, each a count of voters and their ids; then a count of
/// members, each an id, its address with length, and its incarnation if any member has one, which
/// the highest bit of the first byte says.
pub(crate) fn encode_membership(membership: &Membership) -> Vec<u8> {
    let mut out = Vec::new();
    let configs = membership.get_joint_config();
    let incarnations = membership.nodes().any(|(_, member)| member.incarnation != 0);
    out.push(count(configs.len(), CONFIGS_MAX) | if incarnations { INCARNATIONS } else { 0 });
    for voters in configs {
        out.push(count(voters.len(), MEMBERS_MAX));
        voters.iter().for_each(|id| out.extend_from_slice(&id.to_le_bytes()));
    }
    let nodes: Vec<_> = membership.nodes().collect();
    out.push(count(nodes.len(), MEMBERS_MAX));
    for (id, node) in nodes {
        out.extend_from_slice(&id.to_le_bytes());
        assert!(node.address.len() <= ADDRESS_MAX, "L1: an address of {} bytes", node.address.len());
        put16(&mut out, node.address.as_bytes());
        if incarnations {
            out.extend_from_slice(&node.incarnation.to_le_bytes());
        }
    }
    out
}

pub(crate) fn decode_membership(bytes: &[u8]) -> io::Result<Membership> {
    let read = || {
        let mut reader = Reader::new(bytes);
        let mut configs = Vec::new();
        let first = reader.u8("count")?;
        let incarnations = first & INCARNATIONS != 0;
        for _ in 0..bounded(first & !INCARNATIONS, CONFIGS_MAX)? {
            let mut voters = BTreeSet::new();
            for _ in 0..member_count(&mut reader, MEMBERS_MAX)? {
                voters.insert(reader.u64("voter")?);
            }
            configs.push(voters);
        }
        let mut nodes = BTreeMap::new();
        for _ in 0..member_count(&mut reader, MEMBERS_MAX)? {
            let id = reader.u64("member")?;
            let address = reader.text16(ADDRESS_MAX, "address")?;
            let incarnation = if incarnations { reader.u64("incarnation")? } else { 0 };
            nodes.insert(id, Member { address, incarnation });
        }
        reader.end()?;
        Ok((configs, nodes))
    };
    let (configs, nodes) = read().map_err(|error| refused("membership", error))?;
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|error| corrupt(&error.to_string()))
}

/// What a record says of a node, if it is a membership that names it.
#[must_use]
pub fn member_in(record: &[u8], node: u64) -> Option<Member> {
    decode_membership(&engine::event::membership(record)?).ok()?.get_node(&node).cloned()
}

fn count(len: usize, max: usize) -> u8 {
    assert!(len <= max && max <= usize::from(u8::MAX), "L1: {len} members, at most {max}");
    len as u8
}

fn refused(what: &str, error: DecodeError) -> io::Error {
    corrupt(&format!("{what}: {error}"))
}

pub(crate) fn corrupt(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn member_count(reader: &mut Reader<'_>, max: usize) -> Result<usize, DecodeError> {
    bounded(reader.u8("count")?, max)
}

fn bounded(count: u8, max: usize) -> Result<usize, DecodeError> {
    let count = usize::from(count);
    if count > max { Err(DecodeError::OutOfBounds("count")) } else { Ok(count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn at(address: &str, incarnation: u64) -> Member {
        Member { address: address.to_owned(), incarnation }
    }

    #[test]
    fn a_vote_has_these_bytes() {
        let vote = Vote { leader_id: LeaderId { term: 3, voted_for: 7 }, committed: true };
        assert_eq!(hex(&encode_vote(&vote)), "0300000000000000070000000000000001");
        assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
    }

    #[test]
    fn a_log_id_has_these_bytes() {
        let id = log_id(2, 9);
        assert_eq!(hex(&encode_log_id(&id)), "0a000000000000000200000000000000");
        assert_eq!(decode_log_id(&encode_log_id(&id)).unwrap(), id);
    }

    #[test]
    fn a_membership_has_these_bytes() {
        let nodes = BTreeMap::from([(1, at("a:1", 0)), (2, at("", 0))]);
        let membership = Membership::new(vec![BTreeSet::from([1])], nodes).unwrap();
        let bytes = encode_membership(&membership);
        assert_eq!(
            hex(&bytes),
            "0101010000000000000002010000000000000003 00613a3102000000000000000000".replace(' ', "")
        );
        assert_eq!(decode_membership(&bytes).unwrap(), membership);
        let nodes = BTreeMap::from([(1, at("a:1", 7)), (2, at("", 0))]);
        let membership = Membership::new(vec![BTreeSet::from([1])], nodes).unwrap();
        let bytes = encode_membership(&membership);
        assert_eq!(
            hex(&bytes),
            "8101010000000000000002010000000000000003 00613a310700000000000000020000000000000000000000000000000000"
                .replace(' ', "")
        );
        assert_eq!(decode_membership(&bytes).unwrap(), membership);
        let none = Membership::default();
        assert_eq!(decode_membership(&encode_membership(&none)).unwrap(), none);
    }

    #[test]
    fn every_shortened_or_lengthened_record_is_refused() {
        let vote = encode_vote(&Vote { leader_id: LeaderId { term: 3, voted_for: 7 }, committed: false });
        let id = encode_log_id(&log_id(2, 9));
        let nodes = BTreeMap::from([(1, at("a:1", 7))]);
        let membership = encode_membership(&Membership::new(vec![BTreeSet::from([1])], nodes).unwrap());
        for len in 0..vote.len() {
            assert!(decode_vote(&vote[..len]).is_err());
        }
        for len in 0..id.len() {
            assert!(decode_log_id(&id[..len]).is_err());
        }
        for len in 0..membership.len() {
            assert!(decode_membership(&membership[..len]).is_err());
        }
        let longer = |bytes: &[u8]| [bytes, &[0]].concat();
        assert!(decode_vote(&longer(&vote)).is_err());
        assert!(decode_log_id(&longer(&id)).is_err());
        assert!(decode_membership(&longer(&membership)).is_err());
        assert!(decode_vote(&[&vote[..16], &[2]].concat()).is_err());
        assert!(decode_log_id(&[0; 16]).is_err());
    }
}
