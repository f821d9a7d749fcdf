//! T1 tree-append-only: every tree head that any life ever had is the head of the first so many leaves of
//! the log at the end. Computed with a tree of this file's own.
//!
//! Mutant: rewrites a leaf.

use engine::log::Digest;
use sha2::{Digest as _, Sha256};

use crate::sim::history::{History, Sight};

/// The first head that is not a prefix's.
pub fn check(history: &History, sight: &Sight) -> Result<(), String> {
    let roots = roots(&sight.leaves);
    for (lsn, record) in &history.applied {
        let (size, root) = record.head;
        match roots.get(size as usize) {
            Some(right) if *right == root => {}
            Some(_) => {
                return Err(format!("T1: the head of {size} leaves after record {lsn} is no prefix's"));
            }
            None => {
                return Err(format!(
                    "T1: record {lsn} had {size} leaves, the log gives {}",
                    sight.leaves.len()
                ));
            }
        }
    }
    Ok(())
}

/// The roots of the trees over the first 0, 1, 2, ... leaves, after RFC 6962.
fn roots(leaves: &[Vec<u8>]) -> Vec<Digest> {
    let hash = |parts: &[&[u8]]| {
        let mut sha = Sha256::new();
        parts.iter().for_each(|part| sha.update(part));
        <[u8; 32]>::from(sha.finalize())
    };
    let mut edge: Vec<(u32, [u8; 32])> = Vec::new();
    let mut roots = vec![Digest(hash(&[]))];
    for leaf in leaves {
        edge.push((0, hash(&[&[0], leaf])));
        while let [.., (a, left), (b, right)] = edge[..] {
            if a != b {
                break;
            }
            edge.truncate(edge.len() - 2);
            edge.push((a + 1, hash(&[&[1], &left, &right])));
        }
        let (last, rest) = edge.split_last().expect("a leaf was pushed");
        roots.push(Digest(rest.iter().rev().fold(last.1, |right, (_, left)| hash(&[&[1], left, &right]))));
    }
    roots
}
