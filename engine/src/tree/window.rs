//! The newest leaves of a tree, with what is needed to prove each of them: the nodes they completed and the edge of the
//! tree before them.
//!
//! An audit path of a leaf at or after `from` leads only through nodes that end at or before `from` and stand on the edge
//! there, and through nodes that hold a leaf of the window: so nothing older has to be read.

use alloc::vec::Vec;

use super::{Missing, ProofError, Tree, node_hash};
use crate::log::Digest;

/// The tree that ends with some leaves, as far as proofs of these leaves need it: at most two hashes a leaf and 128 more.
#[derive(Clone, Debug)]
pub struct Window {
    from: u64,
    tree: Tree,
    /// Level, index and hash of the subtrees before the window.
    edge: Vec<(u8, u64, Digest)>,
    /// For each level the first node that was completed, and those from there on.
    levels: Vec<(u64, Vec<Digest>)>,
    /// For each subtree on the tree's own edge the root over it and those after it: the same in many paths.
    rests: Vec<Digest>,
}

/// Levels of the perfect subtrees on the edge of a tree, largest first: the bits that are set in its size.
fn levels_of(size: u64) -> impl Iterator<Item = u8> {
    (0..64).rev().filter(move |level| size >> level & 1 == 1)
}

impl Window {
    /// The window of `leaves`, by their hashes, after `before`.
    #[must_use]
    pub fn new(before: &Tree, leaves: impl IntoIterator<Item = Digest>) -> Window {
        let size = before.size();
        let edge = levels_of(size).zip(before.edge()).map(|(level, hash)| {
            // What the larger subtrees hold stands before this one.
            let start = size & !(u64::MAX >> (63 - level));
            (level, start >> level, *hash)
        });
        let edge = edge.collect();
        let mut window =
            Window { from: size, tree: before.clone(), edge, levels: Vec::new(), rests: Vec::new() };
        for leaf in leaves {
            let levels = &mut window.levels;
            window.tree.append_with(leaf, |level, index, hash| {
                let level = usize::from(level);
                if levels.len() == level {
                    levels.push((index, Vec::new()));
                }
                let (first, hashes) = &mut levels[level];
                assert_eq!(*first + hashes.len() as u64, index, "T1: nodes are completed in order");
                hashes.push(hash);
            });
        }
        for root in window.tree.edge().iter().rev() {
            let with_the_rest = window.rests.last().map_or(*root, |rest| node_hash(root, rest));
            window.rests.push(with_the_rest);
        }
        window.rests.reverse();
        window
    }

    /// The tree with the leaves of the window.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The audit path of a leaf of the window, leaf end first (RFC 9162, 2.1.3.1).
    ///
    /// # Errors
    /// [`ProofError::OutOfRange`] for a leaf beyond it, [`ProofError::Read`] for one before it.
    pub fn path(&self, index: u64) -> Result<Vec<Digest>, ProofError<Missing>> {
        let size = self.tree.size();
        if index >= size {
            return Err(ProofError::OutOfRange);
        }
        if index < self.from {
            return Err(ProofError::Read(Missing));
        }
        // The subtree on the edge that holds the leaf begins where its size and the leaf's index part: below the highest
        // bit in which they differ.
        let top = 63 - (index ^ size).leading_zeros() as u8;
        let nth = levels_of(size).take_while(|level| *level > top).count();
        let mut path = Vec::with_capacity(usize::from(top) + nth + 1);
        for level in 0..top {
            path.push(self.node(level, (index >> level) ^ 1).ok_or(ProofError::Read(Missing))?);
        }
        path.extend(self.rests.get(nth + 1));
        path.extend(self.tree.edge()[..nth].iter().rev());
        Ok(path)
    }

    fn node(&self, level: u8, index: u64) -> Option<Digest> {
        let made = self.levels.get(usize::from(level)).and_then(|(first, hashes)| {
            hashes.get(usize::try_from(index.checked_sub(*first)?).ok()?).copied()
        });
        let edge = || self.edge.iter().find(|node| (node.0, node.1) == (level, index)).map(|node| node.2);
        made.or_else(edge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{MemHashes, inclusion_proof, leaf_hash};

    /// Wherever a window begins and ends, its paths are those that a reader of the whole tree makes.
    #[test]
    fn paths_are_those_of_the_whole_tree() {
        let leaves: Vec<Digest> = (0..70_u8).map(|n| leaf_hash(&[n])).collect();
        let mut whole = MemHashes::default();
        for leaf in &leaves {
            whole.append(*leaf);
        }
        for from in 0..leaves.len() {
            let mut before = Tree::new();
            for leaf in &leaves[..from] {
                before.append(*leaf);
            }
            for to in from + 1..=leaves.len() {
                let window = Window::new(&before, leaves[from..to].iter().copied());
                let size = to as u64;
                assert_eq!(window.tree().root(), crate::tree::root_at(size, &mut whole).unwrap());
                for index in from as u64..size {
                    let path = inclusion_proof(index, size, &mut whole).unwrap();
                    assert_eq!(window.path(index), Ok(path), "{from} {to} {index}");
                }
                assert_eq!(window.path(size), Err(ProofError::OutOfRange));
            }
        }
    }

    #[test]
    fn a_window_proves_nothing_before_it_and_keeps_little() {
        let mut before = Tree::new();
        for n in 0..1_000_000_u32 {
            before.append(leaf_hash(&n.to_le_bytes()));
        }
        let window = Window::new(&before, (0..64_u8).map(|n| leaf_hash(&[n])));
        assert_eq!(window.path(999_999), Err(ProofError::Read(Missing)));
        let held: usize = window.levels.iter().map(|(_, hashes)| hashes.len()).sum();
        assert!(held <= 2 * 64 + 64 && window.edge.len() + window.rests.len() <= 128, "{held}");
    }
}
