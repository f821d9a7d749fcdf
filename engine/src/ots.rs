//! OpenTimestamps: proofs that lead from the digest of a file to what a calendar or a block of Bitcoin attests.
//!
//! A proof is a tree. At each node stands a message; an attestation speaks of the message at its node, an operation makes
//! the message of the node below. The form is that of python-opentimestamps 0.4 (major version 1 of the file format):
//!
//! ```text
//! file         magic 31, version varuint (1), 0x08 (SHA-256), digest 32, stamp
//! stamp        0xff, item, .. , item                    every item but the last has 0xff before it
//! item         0x00, kind 8, payload (varbytes)         an attestation
//!              0x08 | 0xf0 bytes | 0xf1 bytes, stamp    SHA-256, append, prepend; then the node below
//! varuint      seven bits a byte, the lowest first      varbytes: length varuint, bytes
//! ```
//! Only the operations that calendars make are known; another one is refused, because what follows it could not be checked.
//!
//! L1: a proof has at most [`FILE_MAX`] bytes, [`DEPTH_MAX`] operations in a row and messages of [`MESSAGE_MAX`] bytes. What
//! parses is exactly what writing it again gives.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use sha2::{Digest as _, Sha256};

/// Longest proof, bytes: as much as an `Anchored` event may hold.
pub const FILE_MAX: usize = crate::event::EVIDENCE_MAX;
/// Most operations in a row. A path through a calendar's day and a block of Bitcoin is about 150.
pub const DEPTH_MAX: usize = 256;
/// Longest message, and longest operand, bytes.
pub const MESSAGE_MAX: usize = 4096;
/// Longest payload of an attestation, bytes.
const PAYLOAD_MAX: usize = 8192;
/// Longest address of a calendar, bytes.
const URI_MAX: usize = 1000;

const MAGIC: &[u8; 31] = b"\x00OpenTimestamps\x00\x00Proof\x00\xbf\x89\xe2\xe8\x84\xe8\x92\x94";
const VERSION: u64 = 1;
const MORE: u8 = 0xff;
const ATTESTS: u8 = 0x00;
const SHA256: u8 = 0x08;
const APPEND: u8 = 0xf0;
const PREPEND: u8 = 0xf1;
const BITCOIN: [u8; 8] = [0x05, 0x88, 0x96, 0x0d, 0x73, 0xd7, 0x19, 0x01];
const PENDING: [u8; 8] = [0x83, 0xdf, 0xe3, 0x0d, 0x2e, 0xf9, 0x0c, 0x8e];

/// Why bytes are no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtsError(&'static str);

impl fmt::Display for OtsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for OtsError {}

/// What makes one message out of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Its SHA-256.
    Sha256,
    /// These bytes after it.
    Append(Vec<u8>),
    /// These bytes before it.
    Prepend(Vec<u8>),
}

impl Op {
    /// The message below; `None` if it would be too long.
    #[must_use]
    pub fn apply(&self, message: &[u8]) -> Option<Vec<u8>> {
        let made = match self {
            Op::Sha256 => Sha256::digest(message).to_vec(),
            Op::Append(bytes) => [message, bytes].concat(),
            Op::Prepend(bytes) => [bytes, message].concat(),
        };
        (made.len() <= MESSAGE_MAX).then_some(made)
    }
}

/// Who speaks of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attestation {
    /// It is the Merkle root in the header of the block at this height.
    Bitcoin(u64),
    /// The calendar at this address promises to have it in a block later, and then gives the way there.
    Pending(String),
    /// Of a kind that this release does not know: its kind and its payload.
    Other([u8; 8], Vec<u8>),
}

/// One thing at a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An attestation of the message here.
    Attests(Attestation),
    /// An operation, and the node below.
    Leads(Op, Stamp),
}

/// A node, in the order in which it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp(pub Vec<Item>);

impl Stamp {
    /// Reads a whole answer of a calendar about `message`.
    ///
    /// # Errors
    /// [`OtsError`].
    pub fn parse(bytes: &[u8], message: &[u8]) -> Result<Stamp, OtsError> {
        if bytes.len() > FILE_MAX {
            return Err(OtsError("the proof is too long"));
        }
        let mut rest = bytes;
        let stamp = Stamp::read(&mut rest, message, DEPTH_MAX)?;
        if rest.is_empty() { Ok(stamp) } else { Err(OtsError("something follows the proof")) }
    }

    fn read(rest: &mut &[u8], message: &[u8], depth: usize) -> Result<Stamp, OtsError> {
        let mut items = Vec::new();
        loop {
            let mut tag = take(rest, 1)?[0];
            let more = tag == MORE;
            if more {
                tag = take(rest, 1)?[0];
            }
            items.push(if tag == ATTESTS {
                Item::Attests(Attestation::read(rest)?)
            } else {
                let op = match tag {
                    SHA256 => Op::Sha256,
                    APPEND => Op::Append(operand(rest)?),
                    PREPEND => Op::Prepend(operand(rest)?),
                    _ => return Err(OtsError("an operation that is not known")),
                };
                let depth = depth.checked_sub(1).ok_or(OtsError("too many operations in a row"))?;
                let below = op.apply(message).ok_or(OtsError("a message is too long"))?;
                Item::Leads(op, Stamp::read(rest, &below, depth)?)
            });
            if !more {
                return Ok(Stamp(items));
            }
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        for (nth, item) in self.0.iter().enumerate() {
            if nth + 1 < self.0.len() {
                out.push(MORE);
            }
            match item {
                Item::Attests(attestation) => attestation.write(out),
                Item::Leads(op, below) => {
                    match op {
                        Op::Sha256 => out.push(SHA256),
                        Op::Append(bytes) => put(out, APPEND, bytes),
                        Op::Prepend(bytes) => put(out, PREPEND, bytes),
                    }
                    below.write(out);
                }
            }
        }
    }

    /// The bytes of a stamp, as calendars answer.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// Calls `each` with every attestation and the message that it speaks of, `message` being the one here.
    pub fn walk(&self, message: &[u8], each: &mut impl FnMut(&[u8], &Attestation)) {
        for item in &self.0 {
            match item {
                Item::Attests(attestation) => each(message, attestation),
                Item::Leads(op, below) => {
                    if let Some(made) = op.apply(message) {
                        below.walk(&made, each);
                    }
                }
            }
        }
    }

    /// Takes in what `other` says of the same message, without saying anything twice.
    pub fn merge(&mut self, other: Stamp) {
        for item in other.0 {
            let known =
                |op: &Op| self.0.iter().position(|one| matches!(one, Item::Leads(had, _) if had == op));
            match item {
                Item::Leads(op, below) => match known(&op).and_then(|at| self.0.get_mut(at)) {
                    Some(Item::Leads(_, stamp)) => stamp.merge(below),
                    _ => self.0.push(Item::Leads(op, below)),
                },
                item if self.0.contains(&item) => {}
                item => self.0.push(item),
            }
        }
    }

    /// Takes in what `with` says of the message `of`, wherever in the tree that stands. Whether it stands anywhere.
    pub fn merge_at(&mut self, message: &[u8], of: &[u8], with: &Stamp) -> bool {
        if message == of {
            self.merge(with.clone());
            return true;
        }
        let mut found = false;
        for item in &mut self.0 {
            if let Item::Leads(op, below) = item
                && let Some(made) = op.apply(message)
            {
                found |= below.merge_at(&made, of, with);
            }
        }
        found
    }
}

impl Attestation {
    fn read(rest: &mut &[u8]) -> Result<Attestation, OtsError> {
        let mut kind = [0; 8];
        kind.copy_from_slice(take(rest, 8)?);
        let length = varuint(rest)?;
        let length = usize::try_from(length).ok().filter(|length| *length <= PAYLOAD_MAX);
        let mut payload = take(rest, length.ok_or(OtsError("an attestation is too long"))?)?;
        let read = match kind {
            BITCOIN => Attestation::Bitcoin(varuint(&mut payload)?),
            PENDING => {
                let length = usize::try_from(varuint(&mut payload)?).ok().filter(|length| *length <= URI_MAX);
                let uri = take(&mut payload, length.ok_or(OtsError("an address is too long"))?)?;
                let odd = |byte: &u8| !(byte.is_ascii_alphanumeric() || b"-._/:".contains(byte));
                let text = core::str::from_utf8(uri).ok().filter(|_| !uri.iter().any(odd));
                Attestation::Pending(text.ok_or(OtsError("an address holds what it may not"))?.into())
            }
            _ => return Ok(Attestation::Other(kind, payload.to_vec())),
        };
        if payload.is_empty() { Ok(read) } else { Err(OtsError("an attestation holds more than it says")) }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut payload = Vec::new();
        let kind = match self {
            Attestation::Bitcoin(height) => {
                put_varuint(&mut payload, *height);
                &BITCOIN
            }
            Attestation::Pending(uri) => {
                put_varuint(&mut payload, uri.len() as u64);
                payload.extend_from_slice(uri.as_bytes());
                &PENDING
            }
            Attestation::Other(kind, bytes) => {
                payload.extend_from_slice(bytes);
                kind
            }
        };
        out.push(ATTESTS);
        out.extend_from_slice(kind);
        put_varuint(out, payload.len() as u64);
        out.extend_from_slice(&payload);
    }
}

/// A `.ots` file: the digest of a file, and what leads on from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// SHA-256 of the file.
    pub digest: [u8; 32],
    /// The node at which the message is that digest.
    pub stamp: Stamp,
}

impl Proof {
    /// Reads a file.
    ///
    /// # Errors
    /// [`OtsError`].
    pub fn parse(bytes: &[u8]) -> Result<Proof, OtsError> {
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(OtsError("this is no OpenTimestamps file"))?;
        if varuint(&mut rest)? != VERSION {
            return Err(OtsError("a version of the file format that is not known"));
        }
        if take(&mut rest, 1)?[0] != SHA256 {
            return Err(OtsError("the file's digest is not SHA-256"));
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(take(&mut rest, 32)?);
        Ok(Proof { digest, stamp: Stamp::parse(rest, &digest)? })
    }

    /// The bytes of the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_varuint(&mut out, VERSION);
        out.push(SHA256);
        out.extend_from_slice(&self.digest);
        self.stamp.write(&mut out);
        out
    }

    /// Every attestation, with the message it speaks of.
    #[must_use]
    pub fn attestations(&self) -> Vec<(Vec<u8>, Attestation)> {
        let mut out = Vec::new();
        self.stamp.walk(&self.digest, &mut |message, one| out.push((message.to_vec(), one.clone())));
        out
    }

    /// Whether a block of Bitcoin is named.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.attestations().iter().any(|(_, one)| matches!(one, Attestation::Bitcoin(_)))
    }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], OtsError> {
    let (head, tail) = rest.split_at_checked(count).ok_or(OtsError("the proof is cut off"))?;
    *rest = tail;
    Ok(head)
}

fn varuint(rest: &mut &[u8]) -> Result<u64, OtsError> {
    let mut number = 0_u64;
    for shift in (0..63).step_by(7) {
        let byte = take(rest, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            // One number has one form.
            return if byte == 0 && shift > 0 {
                Err(OtsError("a number is not in its shortest form"))
            } else {
                Ok(number)
            };
        }
    }
    Err(OtsError("a number is too large"))
}

fn put_varuint(out: &mut Vec<u8>, mut number: u64) {
    assert!(number < 1 << 63, "L1: lengths and heights have at most 63 bits");
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn operand(rest: &mut &[u8]) -> Result<Vec<u8>, OtsError> {
    let length = usize::try_from(varuint(rest)?).ok().filter(|length| (1..=MESSAGE_MAX).contains(length));
    Ok(take(rest, length.ok_or(OtsError("an operand is empty or too long"))?)?.to_vec())
}

fn put(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_varuint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn pending(uri: &str) -> Item {
        Item::Attests(Attestation::Pending(uri.into()))
    }

    fn file() -> Proof {
        let end = Stamp(vec![pending("http://a"), pending("http://b")]);
        let below = Stamp(vec![Item::Leads(Op::Sha256, end)]);
        Proof { digest: [7; 32], stamp: Stamp(vec![Item::Leads(Op::Append(vec![1; 16]), below)]) }
    }

    #[test]
    fn a_file_is_read_as_it_was_written_and_every_cut_is_refused() {
        let bytes = file().encode();
        assert_eq!(Proof::parse(&bytes), Ok(file()));
        for end in 0..bytes.len() {
            assert!(Proof::parse(&bytes[..end]).is_err(), "cut at {end}");
        }
        assert_eq!(Proof::parse(&[&bytes[..], &[0]].concat()), Err(OtsError("something follows the proof")));
        assert!(!file().is_complete());
    }

    #[test]
    fn what_a_calendar_says_later_takes_its_place_in_the_tree() {
        let mut proof = file();
        let (of, _) = proof.attestations().remove(0);
        let expected = Op::Sha256.apply(&Op::Append(vec![1; 16]).apply(&[7; 32]).unwrap()).unwrap();
        assert_eq!(of, expected);
        let block = Stamp(vec![Item::Attests(Attestation::Bitcoin(800_000))]);
        let way = Stamp(vec![Item::Leads(Op::Prepend(vec![2; 32]), block)]);
        let digest = proof.digest;
        assert!(proof.stamp.merge_at(&digest, &of, &way));
        let once = proof.clone();
        assert!(proof.stamp.merge_at(&digest, &of, &way) && proof == once, "twice is once");
        assert!(!proof.stamp.merge_at(&digest, &[0; 32], &way));
        assert!(proof.is_complete());
        assert_eq!(Proof::parse(&proof.encode()), Ok(proof));
    }

    #[test]
    fn what_would_grow_without_end_is_refused() {
        let deep = |count: usize| {
            let mut bytes = vec![SHA256; count];
            Attestation::Bitcoin(1).write(&mut bytes);
            Stamp::parse(&bytes, b"m")
        };
        assert!(deep(DEPTH_MAX).is_ok());
        assert_eq!(deep(DEPTH_MAX + 1), Err(OtsError("too many operations in a row")));
        let mut long = Vec::new();
        put(&mut long, APPEND, &[1; MESSAGE_MAX]);
        assert_eq!(Stamp::parse(&long, b"m"), Err(OtsError("a message is too long")));
        for (bytes, why) in [
            (&[0x03][..], "an operation that is not known"),
            (&[APPEND, 0x00], "an operand is empty or too long"),
            (&[APPEND, 0x81, 0x00], "a number is not in its shortest form"),
            (&[APPEND, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "a number is too large"),
        ] {
            assert_eq!(Stamp::parse(bytes, b"m"), Err(OtsError(why)));
        }
    }
}
