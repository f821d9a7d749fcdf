//! Headers of Bitcoin's blocks, as an auditor brings them: what an OpenTimestamps file is held against.
//!
//! ```text
//! # height and header in hex, as `bitcoin-cli getblockheader HASH false` prints it
//! 870123 00e0ff27...
//! ```
//! A header is 80 bytes: version, block before, Merkle root at 36, time at 68, bits at 72, nonce. It must have done the work
//! that its own bits ask for, so a digit that was mistyped is noticed. That it stands in the chain of most work is what
//! the auditor says by bringing it.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::report::Fault;

/// Longest file read, bytes: some fifty thousand headers.
const FILE_MAX: u64 = 8 << 20;

/// What counts of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Root over the block's transactions, in the order of bytes that hashes have.
    pub root: [u8; 32],
    /// When its miner says it was made.
    pub time: Timestamp,
}

/// Headers by height.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(BTreeMap<u64, Header>);

impl Headers {
    /// Reads a file of them.
    ///
    /// # Errors
    /// It cannot be read, or a line is no header; its number is named.
    pub fn read(path: &Path) -> Result<Headers, Fault> {
        let bytes = crate::pack::tiles::read_file(path, FILE_MAX)?;
        let bytes = bytes.ok_or_else(|| Fault::read(path, "there is no such file"))?;
        let text = String::from_utf8(bytes).map_err(|_| Fault::read(path, "it is no text"))?;
        Headers::parse(&text).map_err(|why| Fault::read(path, why))
    }

    /// Reads them from text.
    ///
    /// # Errors
    /// The line, and what is wrong with it.
    pub fn parse(text: &str) -> Result<Headers, String> {
        let mut all = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why: &str| format!("line {}: {why}", number + 1);
            let (height, header) = line.split_once(' ').ok_or_else(|| wrong("no height and header"))?;
            let height = height.parse().map_err(|_| wrong("the height is no number"))?;
            let header = read(header.trim()).map_err(wrong)?;
            if all.insert(height, header).is_some() {
                return Err(wrong("this height stands there twice"));
            }
        }
        Ok(Headers(all))
    }

    /// The header at a height.
    #[must_use]
    pub fn get(&self, height: u64) -> Option<&Header> {
        self.0.get(&height)
    }
}

fn read(hex: &str) -> Result<Header, &'static str> {
    let bytes: [u8; 80] = engine::codec::unhex(hex).ok_or("a header is 160 hex digits")?;
    let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let mut hash: [u8; 32] = Sha256::digest(Sha256::digest(bytes)).into();
    hash.reverse();
    if hash > target(number(72)).ok_or("its bits are none")? {
        return Err("its hash does not reach its own target: is a digit wrong?");
    }
    let mut root = [0; 32];
    root.copy_from_slice(&bytes[36..68]);
    let time = Timestamp::from_second(number(68).into()).map_err(|_| "its time is none")?;
    Ok(Header { root, time })
}

/// The number that bits stand for, the highest byte first: a mantissa of three bytes and an exponent.
fn target(bits: u32) -> Option<[u8; 32]> {
    let (exponent, mantissa) = (bits >> 24, bits & 0x00ff_ffff);
    if mantissa & 0x0080_0000 != 0 || !(3..=32).contains(&exponent) {
        return None;
    }
    let mut target = [0; 32];
    let at = 32 - exponent as usize;
    target[at..at + 3].copy_from_slice(&mantissa.to_be_bytes()[1..]);
    Some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first block: its header is in every textbook.
    const FIRST: &str = "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c";

    #[test]
    fn headers_are_read_and_a_wrong_digit_is_noticed() {
        let headers = Headers::parse(&format!("# by hand\n\n0 {FIRST}\n")).unwrap();
        let first = headers.get(0).unwrap();
        assert_eq!(first.time.to_string(), "2009-01-03T18:15:05Z");
        assert_eq!(engine::codec::hex(&first.root[..4]), "3ba3edfd");
        assert_eq!(headers.get(1), None);
        for at in [1, 40, 90, 140, 159] {
            let mut bent = FIRST.to_owned().into_bytes();
            bent[at] = if bent[at] == b'1' { b'2' } else { b'1' };
            let why = Headers::parse(&format!("0 {}", String::from_utf8(bent).unwrap())).unwrap_err();
            assert!(why.starts_with("line 1: "), "{why}");
        }
        for bad in ["0", "x 00", "0 00", &format!("-1 {FIRST}"), &format!("0 {FIRST}\n0 {FIRST}")] {
            assert!(Headers::parse(bad).is_err(), "{bad}");
        }
    }
}
