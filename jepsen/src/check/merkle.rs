//! The tree of RFC 6962, written from the RFC: roots of prefixes, and inclusion.

use sha2::{Digest, Sha256};

/// A hash of the tree.
pub type Hash = [u8; 32];

/// Hash of an entry.
pub fn leaf(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// A tree that grows by one leaf at a time.
#[derive(Default)]
pub struct Tree {
    size: u64,
    /// Roots of perfect subtrees, the largest first.
    perfect: Vec<Hash>,
}

impl Tree {
    /// One more leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // As many subtrees of equal size meet as the old size has ones at its end.
        for _ in 0..self.size.trailing_ones() {
            let left = self.perfect.pop().expect("the size says that it is there");
            hash = node(&left, &hash);
        }
        self.perfect.push(hash);
        self.size += 1;
    }

    /// The root over all leaves so far.
    pub fn root(&self) -> Hash {
        let mut rest = self.perfect.iter().rev();
        match rest.next() {
            None => Sha256::digest([]).into(),
            Some(last) => rest.fold(*last, |right, left| node(left, &right)),
        }
    }
}

/// The root that a path leads to from the leaf at this index (RFC 6962, 2.1.1); `None` if the path does not fit.
pub fn climb(leaf: Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, leaf);
    let mut path = path.iter();
    while last > 0 {
        if at % 2 == 1 {
            hash = node(path.next()?, &hash);
        } else if at < last {
            hash = node(&hash, path.next()?);
        }
        at /= 2;
        last /= 2;
    }
    if path.next().is_some() { None } else { Some(hash) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => *one,
            more => {
                let half = more.len().next_power_of_two() / 2;
                node(&root(&more[..half]), &root(&more[half..]))
            }
        }
    }

    fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() < 2 {
            return Vec::new();
        }
        let half = leaves.len().next_power_of_two() / 2;
        let (mut path, other) = if index < half {
            (path(index, &leaves[..half]), root(&leaves[half..]))
        } else {
            (path(index - half, &leaves[half..]), root(&leaves[..half]))
        };
        path.push(other);
        path
    }

    #[test]
    fn it_is_the_tree_of_the_rfc() {
        let leaves: Vec<Hash> = (0..40u8).map(|nth| leaf(&[nth])).collect();
        let mut tree = Tree::default();
        for size in 0..=leaves.len() {
            assert_eq!(tree.root(), root(&leaves[..size]), "{size}");
            for index in 0..size {
                let path = path(index, &leaves[..size]);
                let climbed = climb(leaves[index], index as u64, size as u64, &path);
                assert_eq!(climbed, Some(tree.root()), "{index} of {size}");
                let longer = [&path[..], &[[0; 32]]].concat();
                assert_eq!(climb(leaves[index], index as u64, size as u64, &longer), None);
            }
            leaves.get(size).into_iter().for_each(|leaf| tree.push(*leaf));
        }
        assert_eq!(climb(leaves[0], 1, 1, &[]), None);
    }
}
