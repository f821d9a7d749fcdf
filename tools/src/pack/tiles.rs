//! Hash tiles that are held against the signed root as they are read, whoever gives them.

use engine::log::Digest;
use engine::tree::tiles::{Kind, LEVEL_MAX, Tile, TileHashes, WIDTH};
use engine::tree::{Tree, root_at};

/// A tile that does not hold, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadTile {
    /// Its path.
    pub place: String,
    /// What is wrong.
    pub why: String,
    /// Whether it is not there at all.
    pub missing: bool,
}

/// Where tiles come from.
pub trait Tiles {
    /// The bytes of a tile; `Ok(None)` where there is none.
    ///
    /// # Errors
    /// Why it cannot be had now, which says nothing about the tile.
    fn tile(&mut self, tile: Tile) -> Result<Option<Vec<u8>>, crate::report::Fault>;
}

/// What reading a tile comes to.
#[derive(Debug)]
pub enum Refused {
    /// The tile does not hold.
    Bad(BadTile),
    /// It could not be read.
    Fault(crate::report::Fault),
}

impl From<crate::report::Fault> for Refused {
    fn from(fault: crate::report::Fault) -> Refused {
        Refused::Fault(fault)
    }
}

/// Reads tiles and keeps the last of each level: neighbours share what is above them.
pub struct Checked<T> {
    size: u64,
    tiles: T,
    last: [Option<(Tile, Vec<u8>)>; LEVEL_MAX as usize + 1],
}

/// The root over the hashes of a tile.
#[must_use]
pub fn tile_root(bytes: &[u8]) -> Digest {
    let mut tree = Tree::new();
    for hash in bytes.chunks_exact(32) {
        tree.append(digest(hash));
    }
    tree.root()
}

/// A hash in a tile.
///
/// # Panics
/// Unless these are 32 bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> Digest {
    Digest(bytes.try_into().expect("32 bytes"))
}

impl<T: Tiles> Checked<T> {
    /// Tiles of a tree over `size` leaves.
    pub fn new(size: u64, tiles: T) -> Checked<T> {
        Checked { size, tiles, last: Default::default() }
    }

    /// The bytes of a tile: as many as it must have, and nothing more is known of them.
    ///
    /// # Errors
    /// It is missing, of another length, or cannot be read.
    pub fn read(&mut self, tile: Tile) -> Result<&[u8], Refused> {
        let Kind::Hashes { level } = tile.kind else { unreachable!("bundles hold no hashes") };
        let slot = &mut self.last[usize::from(level)];
        let held = slot.as_ref().is_some_and(|(held, _)| *held == tile);
        if !held {
            let bad = |why: String, missing| Refused::Bad(BadTile { place: tile.path(), why, missing });
            let bytes = self.tiles.tile(tile)?.ok_or_else(|| bad("it is missing".into(), true))?;
            let want = 32 * usize::from(tile.width);
            if bytes.len() != want {
                return Err(bad(format!("{} bytes, not {want}", bytes.len()), false));
            }
            *slot = Some((tile, bytes));
        }
        Ok(slot.as_ref().map_or(&[], |(_, bytes)| bytes))
    }

    /// Where the tiles come from.
    pub fn source(&mut self) -> &mut T {
        &mut self.tiles
    }

    /// Forgets what was read of a tile: another source gives it anew.
    pub fn forget(&mut self, tile: Tile) {
        if let Kind::Hashes { level } = tile.kind {
            self.last[usize::from(level)] = None;
        }
    }

    /// The hash that a full tile must add up to: the one in the tile above.
    ///
    /// # Errors
    /// As [`Checked::read`].
    pub fn wanted(&mut self, tile: Tile) -> Result<Digest, Refused> {
        let Kind::Hashes { level } = tile.kind else { unreachable!("bundles hold no hashes") };
        let above = Tile::at(Kind::Hashes { level: level + 1 }, tile.index / WIDTH, self.size)
            .expect("a full tile adds up to a hash of the level above");
        let at = 32 * (tile.index % WIDTH) as usize;
        Ok(digest(&self.read(above)?[at..at + 32]))
    }

    /// Holds a full tile against the tile above.
    ///
    /// # Errors
    /// It does not add up, or as [`Checked::read`].
    pub fn insist(&mut self, tile: Tile) -> Result<&[u8], Refused> {
        let want = self.wanted(tile)?;
        let have = tile_root(self.read(tile)?);
        if have != want {
            let why = format!("it adds up to {have}, the tile above says {want}");
            return Err(Refused::Bad(BadTile { place: tile.path(), why, missing: false }));
        }
        self.read(tile)
    }

    /// The root that the last tiles of all levels give.
    ///
    /// # Errors
    /// As [`Checked::read`].
    pub fn root(&mut self) -> Result<Digest, Refused> {
        let mut refused = None;
        let size = self.size;
        let mut hashes = TileHashes::new(size, |tile| match self.read(tile) {
            Ok(bytes) => Ok(bytes.to_vec()),
            Err(error) => {
                refused = Some(error);
                Err(())
            }
        });
        match root_at(size, &mut hashes) {
            Ok(root) => Ok(root),
            Err(_) => Err(refused.unwrap_or_else(|| {
                let why = "the tree does not reach so far".to_owned();
                Refused::Bad(BadTile { place: "tile".into(), why, missing: false })
            })),
        }
    }
}

/// Tiles of a directory; a partial tile may have become a full one since: then it is its beginning.
#[derive(Clone, Debug)]
pub struct Folder(pub std::path::PathBuf);

impl Tiles for Folder {
    fn tile(&mut self, tile: Tile) -> Result<Option<Vec<u8>>, crate::report::Fault> {
        read_file(&self.0.join(tile.path()), tile_max(tile))
    }
}

/// Most bytes a tile's file can have.
#[must_use]
pub fn tile_max(tile: Tile) -> u64 {
    match tile.kind {
        Kind::Hashes { .. } => 32 * WIDTH,
        Kind::Entries => WIDTH * (engine::limits::LEAF_MAX as u64 + 2),
    }
}

/// A file of at most `max` bytes (one more shows that it is longer); `None` where there is none.
///
/// # Errors
/// It cannot be read.
pub fn read_file(path: &std::path::Path, max: u64) -> Result<Option<Vec<u8>>, crate::report::Fault> {
    use std::io::Read;
    let mut bytes = Vec::new();
    match std::fs::File::open(path).and_then(|file| file.take(max + 1).read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        // A folder where a file should be, or a file in the place of a folder: there is no such tile.
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotADirectory | std::io::ErrorKind::IsADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(crate::report::Fault::read(path, error)),
    }
}
