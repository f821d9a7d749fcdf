//! The RFC 6962 Merkle tree over audit leaves: SHA-256, leaves and nodes in separate domains.
//!
//! T1 tree-append-only: [`Tree`] can only append. It holds the roots of the perfect subtrees along its right
//! edge (at most 64 hashes, whatever the size) and hands every completed node to the caller, who may store
//! it; proofs are made from such stored hashes through [`Hashes`].

mod proof;
mod range;
pub mod tiles;
mod window;

use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use crate::lanes::{self, Message};
use crate::log::Digest;

pub use proof::{
    Hashes, MemHashes, Missing, ProofError, VerifyError, consistency_proof, inclusion_proof, root_at,
    verify_consistency, verify_inclusion,
};
pub use range::Range;
pub use window::Window;

/// Root of the tree without leaves: SHA-256 of nothing.
pub const EMPTY_ROOT: Digest = Digest([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
    0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);

/// Hash of a leaf: SHA-256(0x00 || leaf).
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(leaf);
    Digest(hasher.finalize().into())
}

/// Hashes of many leaves, in their order: what [`leaf_hash`] gives of each, in a good half of the time.
#[must_use]
pub fn leaf_hashes<'a>(leaves: impl IntoIterator<Item = &'a [u8]>) -> Vec<Digest> {
    let messages: Vec<Message<'a>> = leaves.into_iter().map(|leaf| [&[0], leaf, &[]]).collect();
    lanes::sha256(&messages)
}

/// Root over as many leaves as a power of two says, by their hashes.
fn perfect_root(leaves: &[Digest]) -> Digest {
    assert!(leaves.len().is_power_of_two(), "T1: a perfect subtree has a power of two of leaves");
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        let pairs = level.as_chunks::<2>().0;
        let messages: Vec<Message<'_>> =
            pairs.iter().map(|[left, right]| [&[1], &left.0[..], &right.0]).collect();
        level = lanes::sha256(&messages);
    }
    level[0]
}

/// Hash of an inner node: SHA-256(0x01 || left || right).
#[must_use]
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut block = [0; 65];
    block[0] = 1;
    block[1..33].copy_from_slice(&left.0);
    block[33..].copy_from_slice(&right.0);
    Digest(Sha256::digest(block).into())
}

/// The right edge of a growing tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    /// Roots of the perfect subtrees, largest first: one for each bit that is set in `size`.
    edge: Vec<Digest>,
}

impl Tree {
    /// The tree without leaves.
    #[must_use]
    pub const fn new() -> Tree {
        Tree { size: 0, edge: Vec::new() }
    }

    /// Takes a tree up again where [`Tree::edge`] left it. `None` unless there is exactly one hash for each
    /// bit set in `size`.
    #[must_use]
    pub fn resume(size: u64, edge: Vec<Digest>) -> Option<Tree> {
        (edge.len() == size.count_ones() as usize).then_some(Tree { size, edge })
    }

    /// Leaves so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the perfect subtrees, largest first.
    #[must_use]
    pub fn edge(&self) -> &[Digest] {
        &self.edge
    }

    /// Appends a leaf by its hash and returns its index.
    pub fn append(&mut self, leaf: Digest) -> u64 {
        self.append_with(leaf, |_, _, _| {})
    }

    /// Appends a leaf by its hash and hands every node that is now complete to `store` as (level, index,
    /// hash), the leaf itself first: node (level, index) is the root over the `2^level` leaves from
    /// `index << level`. Returns the leaf's index.
    ///
    /// # Panics
    /// At `u64::MAX` leaves.
    pub fn append_with(&mut self, leaf: Digest, mut store: impl FnMut(u8, u64, Digest)) -> u64 {
        let index = self.size;
        let mut node = leaf;
        let mut level = 0;
        store(0, index, node);
        while index >> level & 1 == 1 {
            let left = self.edge.pop().expect("T1: each set bit of the size has a subtree on the edge");
            node = node_hash(&left, &node);
            level += 1;
            store(level, index >> level, node);
        }
        self.edge.push(node);
        self.size = index.checked_add(1).expect("a tree has room for another leaf");
        assert_eq!(self.edge.len(), self.size.count_ones() as usize, "T1: the edge matches the size");
        index
    }

    /// Appends `2^level` leaves at once by the root over them, which somebody else computed.
    ///
    /// # Panics
    /// Unless they begin at a multiple of their number: the root of any others is no node of this tree. And where
    /// the tree has no room for them.
    pub fn append_subtree(&mut self, level: u8, root: Digest) {
        let leaves = 1_u64.checked_shl(level.into()).expect("a subtree is smaller than the largest tree");
        assert!(self.size.is_multiple_of(leaves), "T1: a subtree begins where a node of its level begins");
        let (mut node, mut above) = (root, level);
        while self.size >> above & 1 == 1 {
            let left = self.edge.pop().expect("T1: each set bit of the size has a subtree on the edge");
            node = node_hash(&left, &node);
            above += 1;
        }
        self.edge.push(node);
        self.size = self.size.checked_add(leaves).expect("a tree has room for more leaves");
        assert_eq!(self.edge.len(), self.size.count_ones() as usize, "T1: the edge matches the size");
    }

    /// Root over all leaves.
    #[must_use]
    pub fn root(&self) -> Digest {
        let mut smaller_first = self.edge.iter().rev();
        match smaller_first.next() {
            None => EMPTY_ROOT,
            Some(&last) => smaller_first.fold(last, |right, left| node_hash(left, &right)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_root_is_the_hash_of_nothing() {
        assert_eq!(Tree::new().root(), EMPTY_ROOT);
        assert_eq!(EMPTY_ROOT.0, <[u8; 32]>::from(Sha256::digest(b"")));
    }

    /// The seven-leaf vectors of the certificate transparency test suites.
    #[test]
    fn known_roots() {
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut tree = Tree::new();
        for (leaf, root) in leaves.iter().zip(roots) {
            tree.append(leaf_hash(leaf));
            assert_eq!(Some(tree.root()), Digest::from_hex(root));
        }
    }

    #[test]
    fn many_leaves_are_hashed_like_one() {
        let leaves: Vec<Vec<u8>> = (0..9_u8).map(|n| alloc::vec![n; 100 * usize::from(n)]).collect();
        let hashes = leaf_hashes(leaves.iter().map(Vec::as_slice));
        assert_eq!(hashes, leaves.iter().map(|leaf| leaf_hash(leaf)).collect::<Vec<_>>());
    }

    #[test]
    fn a_tree_resumes_where_it_was() {
        let mut tree = Tree::new();
        for i in 0..21_u64 {
            let resumed = Tree::resume(tree.size(), tree.edge().to_vec()).unwrap();
            assert_eq!(resumed, tree);
            tree.append(leaf_hash(&i.to_le_bytes()));
        }
        assert_eq!(Tree::resume(3, alloc::vec![EMPTY_ROOT]), None);
    }

    #[test]
    fn completed_nodes_are_handed_out_once_and_in_order() {
        let mut seen = Vec::new();
        let mut tree = Tree::new();
        for i in 0..8_u64 {
            tree.append_with(leaf_hash(&[i as u8]), |level, index, _| seen.push((level, index)));
        }
        assert_eq!(seen.len(), 15);
        let mut unique = seen.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), 15);
        assert_eq!(seen[11..], [(0, 7), (1, 3), (2, 1), (3, 0)]);
    }
}
