//! The Merkle tree a producer builds over its raw data: leaves are the hex of SHA-256 of each chunk, a parent
//! is the hex of SHA-256 over the text of its two children, an odd node is paired with itself, and no data
//! gives 64 zeros. (The audit log's own tree is another one: RFC 6962, in [`crate::tree`].)

use alloc::string::String;
use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use crate::codec::hex_into;

/// Bytes a chunk holds where the original's agent builds the tree.
pub const AGENT_CHUNK: usize = 1024;

/// Bytes a chunk holds where the original's command line builds the tree.
pub const CLI_CHUNK: usize = 64;

/// The root over `data` cut into chunks of `chunk` bytes.
///
/// # Panics
/// If `chunk` is 0.
#[must_use]
pub fn root(data: &[u8], chunk: usize) -> String {
    root_of_chunks(data.chunks(chunk))
}

/// The root over these chunks.
#[must_use]
pub fn root_of_chunks<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> String {
    let mut level: Vec<[u8; 64]> = chunks.map(|chunk| hex_hash(&[chunk])).collect();
    if level.is_empty() {
        return "0".repeat(64);
    }
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| hex_hash(&[&pair[0], &pair[pair.len() - 1]])).collect();
    }
    level[0].iter().map(|&digit| char::from(digit)).collect()
}

fn hex_hash(parts: &[&[u8]]) -> [u8; 64] {
    let hash = parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize();
    let mut hex = Vec::with_capacity(64);
    hex_into(&mut hex, &hash);
    hex.try_into().expect("32 bytes are 64 digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python's hashlib.
    #[test]
    fn roots_are_those_of_an_independent_computation() {
        let data: Vec<u8> = (0..=255).cycle().take(300).collect();
        assert_eq!(root(b"", 64), "0".repeat(64));
        assert_eq!(root(b"abc", 64), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(root(&data, 64), ROOT_64);
        assert_eq!(root(&data, 128), ROOT_128);
    }

    const ROOT_64: &str = "b94846db7a46c7a3e8ddd6acd75bdc0eca22e093ab99417ab64497e5908a788c";
    const ROOT_128: &str = "95a5f3b865b81e972b91c8d627055ce259758a18142667518ea10fd9efb2c398";

    #[test]
    fn an_odd_node_is_paired_with_itself() {
        assert_eq!(root(b"abcc", 1), root(b"abc", 1));
        assert_ne!(root(b"abcd", 1), root(b"abc", 1));
    }
}
