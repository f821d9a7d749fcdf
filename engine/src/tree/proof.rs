//! Proofs from stored hashes, and their strict verification (RFC 9162 sections 2.1.3.2 and 2.1.4.2).

use alloc::vec::Vec;
use core::fmt;

use super::{EMPTY_ROOT, Tree, node_hash};
use crate::log::Digest;

/// Stored hashes of complete subtrees.
pub trait Hashes {
    /// What goes wrong when reading.
    type Error;

    /// The root over the `2^level` leaves from `index << level`. Only asked for subtrees that lie wholly
    /// within the size the proof is made for.
    ///
    /// # Errors
    /// If the hash cannot be read.
    fn hash(&mut self, level: u8, index: u64) -> Result<Digest, Self::Error>;
}

/// All hashes of a tree in memory, 64 bytes a leaf: for tests and for auditors of bounded ranges.
#[derive(Clone, Debug, Default)]
pub struct MemHashes {
    tree: Tree,
    levels: Vec<Vec<Digest>>,
}

impl MemHashes {
    /// Appends a leaf by its hash and returns its index.
    pub fn append(&mut self, leaf: Digest) -> u64 {
        let levels = &mut self.levels;
        self.tree.append_with(leaf, |level, index, hash| {
            let level = usize::from(level);
            if levels.len() == level {
                levels.push(Vec::new());
            }
            debug_assert_eq!(levels[level].len() as u64, index);
            levels[level].push(hash);
        })
    }

    /// The tree over the same leaves.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }
}

impl Hashes for MemHashes {
    type Error = Missing;

    fn hash(&mut self, level: u8, index: u64) -> Result<Digest, Missing> {
        let index = usize::try_from(index).map_err(|_| Missing)?;
        self.levels.get(usize::from(level)).and_then(|hashes| hashes.get(index)).copied().ok_or(Missing)
    }
}

/// The hash was never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing;

/// Why a proof could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofError<E> {
    /// The leaf or the older size lies beyond the tree.
    OutOfRange,
    /// A stored hash could not be read.
    Read(E),
}

impl<E: fmt::Display> fmt::Display for ProofError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProofError::OutOfRange => f.write_str("the tree does not reach that far"),
            ProofError::Read(error) => write!(f, "read stored hash: {error}"),
        }
    }
}

impl<E: fmt::Display + fmt::Debug> core::error::Error for ProofError<E> {}

/// Root of the tree when it had `size` leaves.
///
/// # Errors
/// [`ProofError::Read`].
pub fn root_at<H: Hashes>(size: u64, hashes: &mut H) -> Result<Digest, ProofError<H::Error>> {
    if size == 0 { Ok(EMPTY_ROOT) } else { range_root(0, size, hashes) }
}

/// The audit path of leaf `index` in the tree of `size` leaves, leaf end first; at most 64 hashes.
///
/// # Errors
/// [`ProofError::OutOfRange`] unless `index < size`; [`ProofError::Read`].
pub fn inclusion_proof<H: Hashes>(
    index: u64,
    size: u64,
    hashes: &mut H,
) -> Result<Vec<Digest>, ProofError<H::Error>> {
    if index >= size {
        return Err(ProofError::OutOfRange);
    }
    let (mut start, mut end) = (0, size);
    let mut path = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(range_root(middle, end, hashes)?);
            end = middle;
        } else {
            path.push(range_root(start, middle, hashes)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// What connects the tree of `from` leaves with the tree of `to`; at most 64 hashes, none if `from` is 0 or
/// equals `to`.
///
/// # Errors
/// [`ProofError::OutOfRange`] unless `from <= to`; [`ProofError::Read`].
pub fn consistency_proof<H: Hashes>(
    from: u64,
    to: u64,
    hashes: &mut H,
) -> Result<Vec<Digest>, ProofError<H::Error>> {
    if from > to {
        return Err(ProofError::OutOfRange);
    }
    if from == 0 || from == to {
        return Ok(Vec::new());
    }
    let (mut start, mut end) = (0, to);
    let mut path = Vec::new();
    while end > from {
        let middle = start + split(end - start);
        if from <= middle {
            path.push(range_root(middle, end, hashes)?);
            end = middle;
        } else {
            path.push(range_root(start, middle, hashes)?);
            start = middle;
        }
    }
    // The part both trees share on the left is the old root itself when it starts at the first leaf.
    if start != 0 {
        path.push(range_root(start, end, hashes)?);
    }
    path.reverse();
    Ok(path)
}

/// Why a proof was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyError {
    /// The leaf or the older size lies beyond the tree.
    OutOfRange,
    /// The proof has too few or too many hashes for these sizes.
    Length,
    /// The proof leads to another root.
    Root,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            VerifyError::OutOfRange => "the tree does not reach that far",
            VerifyError::Length => "the proof has the wrong number of hashes",
            VerifyError::Root => "the proof leads to another root",
        })
    }
}

impl core::error::Error for VerifyError {}

/// Checks that leaf `index` is in the tree of `size` leaves under `root`. Extra hashes are refused.
///
/// # Errors
/// [`VerifyError`].
pub fn verify_inclusion(
    leaf: &Digest,
    index: u64,
    size: u64,
    path: &[Digest],
    root: &Digest,
) -> Result<(), VerifyError> {
    if index >= size {
        return Err(VerifyError::OutOfRange);
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for step in path {
        if last == 0 {
            return Err(VerifyError::Length);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(step, &hash);
            // A right edge without a sibling moves up until it has one.
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, step);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(VerifyError::Length);
    }
    if hash == *root { Ok(()) } else { Err(VerifyError::Root) }
}

/// Checks that the tree of `to` leaves under `to_root` begins with the tree of `from` leaves under
/// `from_root`. Extra hashes are refused; `from` 0 needs the empty root and no hashes.
///
/// # Errors
/// [`VerifyError`].
pub fn verify_consistency(
    from: u64,
    to: u64,
    path: &[Digest],
    from_root: &Digest,
    to_root: &Digest,
) -> Result<(), VerifyError> {
    if from > to {
        return Err(VerifyError::OutOfRange);
    }
    if from == 0 || from == to {
        let expected = if from == 0 { &EMPTY_ROOT } else { to_root };
        return match (path.is_empty(), from_root == expected) {
            (false, _) => Err(VerifyError::Length),
            (true, false) => Err(VerifyError::Root),
            (true, true) => Ok(()),
        };
    }
    let (mut node, mut last) = (from - 1, to - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    // When the old tree is perfect, its root is the first hash of the path and is left out of it.
    let (first, path) = if from.is_power_of_two() {
        (from_root, path)
    } else {
        path.split_first().ok_or(VerifyError::Length)?
    };
    let (mut old, mut new) = (*first, *first);
    for step in path {
        if last == 0 {
            return Err(VerifyError::Length);
        }
        if node & 1 == 1 || node == last {
            old = node_hash(step, &old);
            new = node_hash(step, &new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new = node_hash(&new, step);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(VerifyError::Length);
    }
    if old == *from_root && new == *to_root { Ok(()) } else { Err(VerifyError::Root) }
}

/// The largest power of two smaller than `count`, which is at least 2.
fn split(count: u64) -> u64 {
    1 << (63 - (count - 1).leading_zeros())
}

/// Root over the leaves `start..end`; `start` is a multiple of the next power of two of the range's length.
fn range_root<H: Hashes>(start: u64, end: u64, hashes: &mut H) -> Result<Digest, ProofError<H::Error>> {
    let mut roots: Vec<Digest> = Vec::new();
    let mut at = start;
    while at < end {
        let level = 63 - (end - at).leading_zeros();
        roots.push(hashes.hash(level as u8, at >> level).map_err(ProofError::Read)?);
        at += 1 << level;
    }
    let last = roots.pop().expect("the range is not empty");
    Ok(roots.iter().rfold(last, |right, left| node_hash(left, &right)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rs_merkle::{Hasher, MerkleTree};
    use sha2::{Digest as _, Sha256};

    use super::super::leaf_hash;
    use super::*;

    /// RFC 6962 in the terms of rs_merkle: an independent implementation to compare with.
    #[derive(Clone)]
    struct Rfc6962;

    impl Hasher for Rfc6962 {
        type Hash = [u8; 32];

        fn hash(data: &[u8]) -> [u8; 32] {
            Sha256::new().chain_update([0]).chain_update(data).finalize().into()
        }

        fn concat_and_hash(left: &[u8; 32], right: Option<&[u8; 32]>) -> [u8; 32] {
            match right {
                Some(right) => {
                    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
                }
                None => *left,
            }
        }
    }

    fn leaves(count: u64) -> Vec<Digest> {
        (0..count).map(|i| leaf_hash(&i.to_le_bytes())).collect()
    }

    fn stored(leaves: &[Digest]) -> MemHashes {
        let mut hashes = MemHashes::default();
        for &leaf in leaves {
            hashes.append(leaf);
        }
        hashes
    }

    fn oracle(leaves: &[Digest]) -> MerkleTree<Rfc6962> {
        let raw: Vec<[u8; 32]> = leaves.iter().map(|leaf| leaf.0).collect();
        MerkleTree::from_leaves(&raw)
    }

    #[test]
    fn roots_and_paths_equal_an_independent_implementation() {
        let leaves = leaves(80);
        let mut hashes = stored(&leaves);
        for size in 1..=80_u64 {
            let part = &leaves[..size as usize];
            let other = oracle(part);
            let root = root_at(size, &mut hashes).unwrap();
            assert_eq!(Some(root.0), other.root());
            for index in 0..size {
                let path = inclusion_proof(index, size, &mut hashes).unwrap();
                let theirs: Vec<Digest> =
                    other.proof(&[index as usize]).proof_hashes().iter().copied().map(Digest).collect();
                assert_eq!(path, theirs, "leaf {index} of {size}");
                assert_eq!(verify_inclusion(&part[index as usize], index, size, &path, &root), Ok(()));
            }
        }
    }

    #[test]
    fn inclusion_refuses_everything_but_the_one_proof() {
        let leaves = leaves(33);
        let mut hashes = stored(&leaves);
        for size in 1..=33_u64 {
            let root = root_at(size, &mut hashes).unwrap();
            for index in 0..size {
                let leaf = &leaves[index as usize];
                let path = inclusion_proof(index, size, &mut hashes).unwrap();
                let mut longer = path.clone();
                longer.push(EMPTY_ROOT);
                assert_eq!(verify_inclusion(leaf, index, size, &longer, &root), Err(VerifyError::Length));
                if let Some(shorter) = path.len().checked_sub(1).map(|n| &path[..n]) {
                    assert_eq!(verify_inclusion(leaf, index, size, shorter, &root), Err(VerifyError::Length));
                }
                for other in (0..size).filter(|&other| other != index) {
                    assert!(verify_inclusion(leaf, other, size, &path, &root).is_err());
                }
                for i in 0..path.len() {
                    let mut bent = path.clone();
                    bent[i].0[31] ^= 1;
                    assert_eq!(verify_inclusion(leaf, index, size, &bent, &root), Err(VerifyError::Root));
                }
                assert_eq!(verify_inclusion(leaf, size, size, &path, &root), Err(VerifyError::OutOfRange));
            }
        }
    }

    #[test]
    fn consistency_holds_between_all_sizes_and_refuses_everything_else() {
        let mut hashes = stored(&leaves(40));
        for to in 0..=40_u64 {
            let to_root = root_at(to, &mut hashes).unwrap();
            for from in 0..=to {
                let from_root = root_at(from, &mut hashes).unwrap();
                let path = consistency_proof(from, to, &mut hashes).unwrap();
                assert_eq!(verify_consistency(from, to, &path, &from_root, &to_root), Ok(()), "{from} {to}");
                let mut longer = path.clone();
                longer.push(EMPTY_ROOT);
                assert_eq!(
                    verify_consistency(from, to, &longer, &from_root, &to_root),
                    Err(VerifyError::Length)
                );
                for i in 0..path.len() {
                    let mut bent = path.clone();
                    bent[i].0[0] ^= 1;
                    assert_eq!(
                        verify_consistency(from, to, &bent, &from_root, &to_root),
                        Err(VerifyError::Root)
                    );
                    assert!(verify_consistency(from, to, &path[..i], &from_root, &to_root).is_err());
                }
                let mut other = from_root;
                other.0[5] ^= 1;
                assert!(verify_consistency(from, to, &path, &other, &to_root).is_err());
            }
        }
        assert_eq!(consistency_proof(2, 1, &mut hashes), Err(ProofError::OutOfRange));
        assert_eq!(inclusion_proof(40, 40, &mut hashes), Err(ProofError::OutOfRange));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn large_trees_agree_with_the_independent_one(size in 65_u64..6000, a in any::<u64>(), b in any::<u64>()) {
            let leaves = leaves(size);
            let mut hashes = stored(&leaves);
            let other = oracle(&leaves);
            let root = hashes.tree().root();
            prop_assert_eq!(Some(root.0), other.root());
            let index = a % size;
            let path = inclusion_proof(index, size, &mut hashes).unwrap();
            let theirs: Vec<Digest> =
                other.proof(&[index as usize]).proof_hashes().iter().copied().map(Digest).collect();
            prop_assert_eq!(&path, &theirs);
            prop_assert_eq!(verify_inclusion(&leaves[index as usize], index, size, &path, &root), Ok(()));
            let from = b % size;
            let from_root = root_at(from, &mut hashes).unwrap();
            let path = consistency_proof(from, size, &mut hashes).unwrap();
            prop_assert_eq!(verify_consistency(from, size, &path, &from_root, &root), Ok(()));
        }
    }
}
