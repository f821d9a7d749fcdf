//! The few bytes of a group that restoring has to read and write. Their form stands in `docs/FORMAT.md`.

use engine::codec::{DecodeError, Reader, put16};
use engine::event::{Payload, Record, membership};

/// Set in the first byte when members have incarnations.
const INCARNATIONS: u8 = 0x80;
/// Longest address of a member, bytes.
pub const ADDRESS_MAX: usize = 256;

/// The nodes that a membership names and how many of them vote, if the record is one.
#[must_use]
pub fn read(record: &[u8]) -> Option<(Vec<u64>, usize)> {
    let bytes = membership(record)?;
    let read = || -> Result<(Vec<u64>, usize), DecodeError> {
        let mut reader = Reader::new(&bytes);
        let first = reader.u8("count")?;
        let mut voters = std::collections::BTreeSet::new();
        for _ in 0..first & !INCARNATIONS {
            for _ in 0..reader.u8("count")? {
                voters.insert(reader.u64("voter")?);
            }
        }
        let mut members = voters.clone();
        for _ in 0..reader.u8("count")? {
            members.insert(reader.u64("member")?);
            reader.bytes16(ADDRESS_MAX, "address")?;
            if first & INCARNATIONS != 0 {
                reader.u64("incarnation")?;
            }
        }
        reader.end()?;
        Ok((members.into_iter().collect(), voters.len()))
    };
    read().ok()
}

/// The record by which `node` is its group's only member.
#[must_use]
pub fn alone(node: u64, address: &str, incarnation: u64) -> Vec<u8> {
    let mut bytes = vec![1 | INCARNATIONS, 1];
    bytes.extend_from_slice(&node.to_le_bytes());
    bytes.push(1);
    bytes.extend_from_slice(&node.to_le_bytes());
    put16(&mut bytes, address.as_bytes());
    bytes.extend_from_slice(&incarnation.to_le_bytes());
    let mut record = Vec::new();
    Record { leader: node, payload: Payload::Membership(bytes) }.encode(&mut record);
    record
}

/// The vote of a node for itself in a term that it has not won.
#[must_use]
pub fn vote(term: u64, node: u64) -> Vec<u8> {
    [&term.to_le_bytes()[..], &node.to_le_bytes(), &[0]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_one_has_the_bytes_of_the_format() {
        let record = alone(2, "b:1", 7);
        assert_eq!(read(&record), Some((vec![2], 1)));
        let text: String = record[9..].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            text,
            "8101020000000000000001020000000000000003 00623a310700000000000000".replace(' ', "")
        );
        let text: String = vote(3, 7).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, "0300000000000000070000000000000000");
    }

    #[test]
    fn other_records_and_broken_ones_are_none() {
        let record = alone(2, "b:1", 7);
        for end in 9..record.len() {
            assert_eq!(read(&record[..end]), None);
        }
        let mut blank = Vec::new();
        Record { leader: 1, payload: Payload::Blank }.encode(&mut blank);
        assert_eq!(read(&blank), None);
    }
}
