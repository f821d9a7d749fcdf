//! The tree as files, after C2SP tlog-tiles: coordinates, paths, bytes, entry bundles. Nothing here reads or
//! writes a file.
//!
//! A tile at level L holds up to 256 hashes of tree level `8 * L`; an entry bundle holds the leaves under a
//! level-0 tile, each after its 16-bit big-endian length. The last of a row may be partial; its path says
//! how wide it is.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::Tree;
use super::proof::Hashes;
use crate::limits::LEAF_MAX;
use crate::log::Digest;

/// Hashes in a full tile, entries in a full bundle.
pub const WIDTH: u64 = 256;

/// Highest level a tile can have: 256^8 is beyond any size.
pub const LEVEL_MAX: u8 = 7;

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Hashes of tree level `8 * level`.
    Hashes {
        /// At most [`LEVEL_MAX`].
        level: u8,
    },
    /// The leaves themselves.
    Entries,
}

/// One file of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// What it holds.
    pub kind: Kind,
    /// Its place in its row.
    pub index: u64,
    /// How many hashes or entries it holds, 1 to 256; less than 256 is a partial tile.
    pub width: u16,
}

impl Tile {
    /// The tile of `kind` at `index` in a tree of `size` leaves, as wide as it can be; `None` if the tree
    /// does not reach it.
    #[must_use]
    pub fn at(kind: Kind, index: u64, size: u64) -> Option<Tile> {
        let level = match kind {
            Kind::Hashes { level } if level > LEVEL_MAX => return None,
            Kind::Hashes { level } => level,
            Kind::Entries => 0,
        };
        let row = size >> (8 * u32::from(level));
        let first = index.checked_mul(WIDTH)?;
        let width = row.checked_sub(first)?.min(WIDTH);
        (width > 0).then_some(Tile { kind, index, width: width as u16 })
    }

    /// First hash (at the tile's tree level) or first leaf.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.index * WIDTH
    }

    /// Whether it can never change.
    #[must_use]
    pub fn is_full(&self) -> bool {
        u64::from(self.width) == WIDTH
    }

    /// Path below the log's prefix: `tile/L/N[.p/W]` or `tile/entries/N[.p/W]`.
    #[must_use]
    pub fn path(&self) -> String {
        alloc::format!("{self}")
    }

    /// Reads a path that [`Tile::path`] could have written; every other text is refused.
    #[must_use]
    pub fn parse(path: &str) -> Option<Tile> {
        let rest = path.strip_prefix("tile/")?;
        let (kind, rest) = rest.split_once('/')?;
        let kind = match kind {
            "entries" => Kind::Entries,
            level => {
                let level: u8 = level.parse().ok().filter(|&level| level <= LEVEL_MAX)?;
                Kind::Hashes { level }
            }
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().ok().filter(|&width| width > 0 && width < 256)?),
            None => (rest, 256),
        };
        let mut index: u64 = 0;
        for group in number.split('/') {
            let digits = group.strip_prefix('x').unwrap_or(group);
            if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
        }
        // No tree is so large that a tile's last hash would be beyond 64 bits.
        index.checked_add(1)?.checked_mul(WIDTH)?;
        let tile = Tile { kind, index, width };
        // One tile has one path: what is spelled differently (leading zeros, a stray x) is refused.
        (tile.path() == path).then_some(tile)
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Hashes { level } => write!(f, "tile/{level}/")?,
            Kind::Entries => f.write_str("tile/entries/")?,
        }
        let mut unit = 1;
        while self.index / unit >= 1000 {
            unit *= 1000;
        }
        while unit > 1 {
            write!(f, "x{:03}/", self.index / unit % 1000)?;
            unit /= 1000;
        }
        write!(f, "{:03}", self.index % 1000)?;
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

/// The hash tiles that a tree of `to` leaves has and one of `from` had not, full and partial, lowest level
/// first. Bounded by the growth: about one in 256 leaves, and at most [`LEVEL_MAX`] + 1 partial ones.
pub fn new_tiles(from: u64, to: u64) -> impl Iterator<Item = Tile> {
    (0..=LEVEL_MAX).flat_map(move |level| {
        let row = |size: u64| size >> (8 * u32::from(level));
        let (old, new) = (row(from), row(to));
        let tiles = if new > old { old / WIDTH..new.div_ceil(WIDTH) } else { 0..0 };
        tiles.filter_map(move |index| Tile::at(Kind::Hashes { level }, index, to))
    })
}

/// The bytes of a hash tile.
///
/// # Errors
/// What reading a stored hash gives.
///
/// # Panics
/// If asked for an entry bundle: those hold leaves, see [`bundle_push`].
pub fn tile_bytes<H: Hashes>(tile: Tile, hashes: &mut H) -> Result<Vec<u8>, H::Error> {
    let Kind::Hashes { level } = tile.kind else { panic!("a bundle holds entries, not hashes") };
    let mut bytes = Vec::with_capacity(32 * usize::from(tile.width));
    for offset in 0..u64::from(tile.width) {
        bytes.extend_from_slice(&hashes.hash(8 * level, tile.first() + offset)?.0);
    }
    Ok(bytes)
}

/// Stored hashes read from tiles: what a server with tile files, or an auditor with downloaded ones, has.
/// `fetch` gives the bytes of a tile of the tree with `size` leaves.
#[derive(Debug)]
pub struct TileHashes<F> {
    size: u64,
    fetch: F,
    /// The tile read last: neighbours in a proof often share it.
    last: Option<(Tile, Vec<u8>)>,
}

/// Why a hash could not be read from tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TileError<E> {
    /// The tree does not reach the hash.
    OutOfRange,
    /// The tile has not the length its width demands.
    Length(Tile),
    /// The tile could not be fetched.
    Fetch(E),
}

impl<E: fmt::Display> fmt::Display for TileError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TileError::OutOfRange => f.write_str("the tree does not reach that far"),
            TileError::Length(tile) => write!(f, "{tile} has the wrong length"),
            TileError::Fetch(error) => write!(f, "fetch tile: {error}"),
        }
    }
}

impl<E: fmt::Display + fmt::Debug> core::error::Error for TileError<E> {}

impl<E, F: FnMut(Tile) -> Result<Vec<u8>, E>> TileHashes<F> {
    /// Reads the tiles of a tree of `size` leaves through `fetch`.
    pub fn new(size: u64, fetch: F) -> TileHashes<F> {
        TileHashes { size, fetch, last: None }
    }
}

impl<E, F: FnMut(Tile) -> Result<Vec<u8>, E>> Hashes for TileHashes<F> {
    type Error = TileError<E>;

    fn hash(&mut self, level: u8, index: u64) -> Result<Digest, TileError<E>> {
        // 2^inside hashes of the tile's own level lie under the wanted node, side by side in one tile.
        let inside = level % 8;
        let kind = Kind::Hashes { level: level / 8 };
        let first = index.checked_shl(inside.into()).ok_or(TileError::OutOfRange)?;
        let tile = Tile::at(kind, first / WIDTH, self.size).ok_or(TileError::OutOfRange)?;
        let from = (first % WIDTH) as usize;
        let count = 1_usize << inside;
        if from + count > usize::from(tile.width) {
            return Err(TileError::OutOfRange);
        }
        let bytes = match &mut self.last {
            Some((held, bytes)) if *held == tile => bytes,
            last => {
                let bytes = (self.fetch)(tile).map_err(TileError::Fetch)?;
                if bytes.len() != 32 * usize::from(tile.width) {
                    return Err(TileError::Length(tile));
                }
                &last.insert((tile, bytes)).1
            }
        };
        let mut tree = Tree::new();
        for hash in bytes[32 * from..32 * (from + count)].chunks_exact(32) {
            tree.append(Digest(hash.try_into().expect("chunks of 32")));
        }
        Ok(tree.root())
    }
}

/// Appends an entry to a bundle: 16-bit big-endian length, then the leaf.
///
/// # Panics
/// If the leaf is longer than [`LEAF_MAX`]: leaves are built within it.
pub fn bundle_push(bundle: &mut Vec<u8>, leaf: &[u8]) {
    assert!(leaf.len() <= LEAF_MAX, "a leaf is within its bound");
    bundle.extend_from_slice(&(leaf.len() as u16).to_be_bytes());
    bundle.extend_from_slice(leaf);
}

/// The entries of a bundle, in order; `None` if the bytes are not whole entries or more than a bundle holds.
#[must_use]
pub fn bundle_entries(mut bundle: &[u8]) -> Option<Vec<&[u8]>> {
    let mut entries = Vec::new();
    while !bundle.is_empty() {
        let (length, rest) = bundle.split_first_chunk::<2>()?;
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        entries.push(entry);
        bundle = rest;
    }
    (entries.len() as u64 <= WIDTH).then_some(entries)
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::string::ToString;

    use super::super::{MemHashes, inclusion_proof, leaf_hash, root_at};
    use super::*;

    fn hashes(level: u8, index: u64, width: u16) -> Tile {
        Tile { kind: Kind::Hashes { level }, index, width }
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        let table = [
            (hashes(0, 0, 256), "tile/0/000"),
            (hashes(1, 5, 17), "tile/1/005.p/17"),
            (hashes(0, 1_234_067, 256), "tile/0/x001/x234/067"),
            (hashes(2, 999, 1), "tile/2/999.p/1"),
            (hashes(0, 1000, 255), "tile/0/x001/000.p/255"),
            (Tile { kind: Kind::Entries, index: 273, width: 112 }, "tile/entries/273.p/112"),
            (Tile { kind: Kind::Entries, index: 1_000_000, width: 256 }, "tile/entries/x001/x000/000"),
        ];
        for (tile, path) in table {
            assert_eq!(tile.to_string(), path);
            assert_eq!(Tile::parse(path), Some(tile));
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for path in [
            "tile/0/0",
            "tile/00/000",
            "tile/+0/000",
            "tile/8/000",
            "tile/0/x000/001",
            "tile/0/x001",
            "tile/0/001/002",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/07",
            "tile/0/000/",
            "tile/0/../000",
            "tile/entries/",
            "tile/entries/x999/x999/x999/x999/x999/x999/x999/999",
            "/tile/0/000",
        ] {
            assert_eq!(Tile::parse(path), None, "{path}");
        }
    }

    /// Growing by any step, the tiles announced are enough to read every root and proof from tiles alone.
    #[test]
    fn announced_tiles_hold_every_hash_of_the_tree() {
        let mut memory = MemHashes::default();
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut size = 0_u64;
        for step in [1, 2, 253, 1, 255, 300, 65_000, 5] {
            for i in size..size + step {
                memory.append(leaf_hash(&i.to_le_bytes()));
            }
            for tile in new_tiles(size, size + step) {
                files.insert(tile.path(), tile_bytes(tile, &mut memory).unwrap());
            }
            size += step;
            let mut tiles = TileHashes::new(size, |tile: Tile| files.get(&tile.path()).cloned().ok_or(()));
            assert_eq!(root_at(size, &mut tiles).unwrap(), memory.tree().root());
            for index in [0, size / 2, size - 1] {
                assert_eq!(
                    inclusion_proof(index, size, &mut tiles).unwrap(),
                    inclusion_proof(index, size, &mut memory).unwrap()
                );
            }
        }
        assert!(files.contains_key("tile/2/000.p/1"));
    }

    #[test]
    fn a_tile_of_the_wrong_length_is_refused() {
        let mut tiles = TileHashes::new(3, |_| Ok::<_, ()>(alloc::vec![0; 95]));
        assert_eq!(tiles.hash(0, 1), Err(TileError::Length(hashes(0, 0, 3))));
        assert_eq!(tiles.hash(0, 3), Err(TileError::OutOfRange));
        assert_eq!(tiles.hash(2, 0), Err(TileError::OutOfRange));
        assert_eq!(tiles.hash(8, 0), Err(TileError::OutOfRange));
    }

    #[test]
    fn bundles_give_back_their_entries() {
        let mut bundle = Vec::new();
        bundle_push(&mut bundle, b"abc");
        bundle_push(&mut bundle, b"");
        assert_eq!(bundle, [0, 3, b'a', b'b', b'c', 0, 0]);
        assert_eq!(bundle_entries(&bundle), Some(alloc::vec![&b"abc"[..], b""]));
        assert_eq!(bundle_entries(&bundle[..4]), None);
        assert_eq!(bundle_entries(&bundle[..6]), None);
        assert_eq!(bundle_entries(&[0; 2 * 257]), None);
    }
}
