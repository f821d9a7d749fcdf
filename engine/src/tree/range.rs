//! A run of leaves hashed apart from those before it, so that many can be hashed at once and then joined in order.

use alloc::vec::Vec;

use super::{Tree, node_hash, perfect_root};
use crate::log::Digest;

/// The largest whole subtrees over the leaves from one index on: at most two for each level, whatever their number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    start: u64,
    end: u64,
    /// (level, root) of subtrees that follow each other; of two neighbours of one level the second is no right child.
    nodes: Vec<(u8, Digest)>,
}

impl Range {
    /// No leaves yet; the first will be the one with this index in the tree.
    #[must_use]
    pub const fn from(start: u64) -> Range {
        Range { start, end: start, nodes: Vec::new() }
    }

    /// The index after the last leaf.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Appends a leaf by its hash.
    ///
    /// # Panics
    /// At `u64::MAX` leaves.
    pub fn append(&mut self, leaf: Digest) {
        self.append_subtree(0, leaf);
    }

    /// Appends many leaves by their hashes: what [`Range::append`] of each gives, with the nodes above them hashed
    /// together.
    ///
    /// # Panics
    /// At `u64::MAX` leaves.
    pub fn append_all(&mut self, leaves: &[Digest]) {
        let mut rest = leaves;
        while !rest.is_empty() {
            // The largest perfect subtree that begins here and has all its leaves.
            let level = self.end.trailing_zeros().min(rest.len().ilog2());
            let (whole, after) = rest.split_at(1 << level);
            self.append_subtree(level as u8, perfect_root(whole));
            rest = after;
        }
    }

    fn append_subtree(&mut self, level: u8, root: Digest) {
        let (mut node, mut above) = (root, level);
        // A right child is joined with its left one where that belongs to this range; before it of the same level
        // stands nothing else.
        while self.end >> above & 1 == 1 {
            let Some((_, left)) = self.nodes.pop_if(|(below, _)| *below == above) else { break };
            node = node_hash(&left, &node);
            above += 1;
        }
        self.nodes.push((above, node));
        self.end = self.end.checked_add(1 << level).expect("a tree has room for another leaf");
    }

    /// Appends all leaves of this range to the tree that ends where it begins.
    ///
    /// # Panics
    /// If the tree ends elsewhere.
    pub fn join(&self, tree: &mut Tree) {
        assert_eq!(tree.size(), self.start, "T1: ranges are joined in order");
        for (level, root) in &self.nodes {
            tree.append_subtree(*level, *root);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::leaf_hash;

    /// Any cut of a row of leaves into three gives the tree that appending them one by one gives.
    #[test]
    fn ranges_join_to_the_same_tree() {
        let leaves: Vec<Digest> = (0..40_u8).map(|n| leaf_hash(&[n])).collect();
        for first in 0..=leaves.len() {
            for second in first..=leaves.len() {
                let (mut whole, mut joined) = (Tree::new(), Tree::new());
                for cut in [0..first, first..second, second..leaves.len()] {
                    let mut range = Range::from(cut.start as u64);
                    for leaf in &leaves[cut.clone()] {
                        range.append(*leaf);
                        whole.append(*leaf);
                    }
                    range.join(&mut joined);
                    assert_eq!((range.end(), &joined), (cut.end as u64, &whole), "{first} {second}");
                }
            }
        }
    }

    /// Wherever a range begins, many leaves at once give the nodes that they give one by one.
    #[test]
    fn many_leaves_at_once_are_the_same_range() {
        let leaves: Vec<Digest> = (0..70_u8).map(|n| leaf_hash(&[n])).collect();
        for start in 0..20 {
            for (cut, end) in [(0, 70), (1, 70), (33, 64), (7, 8), (5, 5)] {
                let (mut one, mut many) = (Range::from(start), Range::from(start));
                leaves[..end].iter().for_each(|leaf| one.append(*leaf));
                many.append_all(&leaves[..cut]);
                many.append_all(&leaves[cut..end]);
                assert_eq!(one, many, "{start} {cut} {end}");
            }
        }
    }

    #[test]
    fn a_range_keeps_few_nodes() {
        let mut range = Range::from(1);
        (1..5000).for_each(|_| range.append(Digest::ZERO));
        assert!(range.nodes.len() <= 2 * 13, "{}", range.nodes.len());
    }

    #[test]
    #[should_panic(expected = "T1")]
    fn a_range_is_not_joined_out_of_place() {
        let mut range = Range::from(2);
        range.append(Digest::ZERO);
        range.join(&mut Tree::new());
    }
}
