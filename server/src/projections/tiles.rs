//! The audit tree as C2SP tiles: full tiles as files, the edge in memory, the newest checkpoint on top.
//!
//! T1 (tree-append-only): a full tile is written once and never changes. A tile is only served up to the size
//! of the published checkpoint.

use engine::checkpoint::{Receipt, Signed};
use engine::log::Digest;
use engine::tree::tiles::{Kind, LEVEL_MAX, Tile, TileHashes, WIDTH};
use engine::tree::{Tree, inclusion_proof};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A checkpoint that readers may see: all its tiles are there.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Published {
    /// Leaves under it.
    pub size: u64,
    /// The signed note.
    pub note: Vec<u8>,
}

/// Why a set of the log's keys is believed: the entry that introduces it, and the first checkpoint over that entry, which the
/// set before has signed, too.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Number of the set.
    pub number: u64,
    /// Number of the entry.
    pub seq: u64,
    /// The entry.
    pub entry: Vec<u8>,
    /// The signed note.
    pub note: Vec<u8>,
}

/// The part of the tree that is not in full tiles yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Edge {
    /// Leaves folded in.
    pub size: u64,
    /// For each tile level the hashes of its last, partial tile.
    levels: Vec<Vec<[u8; 32]>>,
}

#[derive(Default)]
struct State {
    edge: Edge,
    published: Option<Published>,
    /// Size of the checkpoint that stands on disk.
    written: Option<u64>,
}

/// The tiles of one log. Cloning shares them.
#[derive(Clone)]
pub struct Tiles {
    dir: PathBuf,
    state: Arc<RwLock<State>>,
}

impl Tiles {
    /// Tiles under `dir`, continuing from `edge`.
    pub fn new(dir: PathBuf, edge: Edge, published: Option<Published>) -> Tiles {
        Tiles { dir, state: Arc::new(RwLock::new(State { edge, published, written: None })) }
    }

    /// Starts again from nothing. Old files stay until they are written again.
    pub fn clear(&self) {
        *self.write() = State::default();
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Appends leaves by their hashes, the first of them leaf `first`; tiles that become full are written. Leaves that
    /// are there already are passed over, so after a failure the same call goes on where it stopped.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn append(&self, first: u64, hashes: &[Digest]) -> io::Result<()> {
        let mut state = self.write();
        assert!(first <= state.edge.size, "T1: leaves are appended without a gap");
        let known = usize::try_from(state.edge.size - first).unwrap_or(usize::MAX);
        for hash in hashes.iter().skip(known) {
            // A tile is written before it leaves the edge, so a refusal changes nothing.
            let mut carry = hash.0;
            let mut level = 0;
            while let Some(row) = state.edge.levels.get(level).filter(|row| row.len() as u64 + 1 == WIDTH) {
                let row: Vec<[u8; 32]> = row.iter().copied().chain([carry]).collect();
                let index = (state.edge.size >> (8 * level)) / WIDTH;
                let kind = Kind::Hashes { level: level as u8 };
                self.store(Tile { kind, index, width: WIDTH as u16 }, &row)?;
                let mut tree = Tree::new();
                for hash in &row {
                    tree.append(Digest(*hash));
                }
                carry = tree.root().0;
                level += 1;
            }
            assert!(level <= usize::from(LEVEL_MAX), "T1: the tree stays within its tiles");
            let edge = &mut state.edge;
            edge.levels[..level].iter_mut().for_each(Vec::clear);
            if edge.levels.len() == level {
                edge.levels.push(Vec::with_capacity(WIDTH as usize));
            }
            edge.levels[level].push(carry);
            edge.size += 1;
        }
        Ok(())
    }

    /// Writes a tile whole, or leaves none of that name: who serves the directory never sees a part for long.
    fn store(&self, tile: Tile, hashes: &[[u8; 32]]) -> io::Result<()> {
        let path = self.dir.join(tile.path());
        let write = || super::write_or_remove(&path, |file| file.write_all(hashes.as_flattened()));
        // One full tile in 1000 opens a new directory.
        match write() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(path.parent().unwrap_or(&self.dir))?;
                write()
            }
            result => result,
        }
    }

    /// Publishes a checkpoint to readers of this process. The files follow with [`Tiles::write_out`].
    pub fn publish(&self, published: Published) {
        self.write().published = Some(published);
    }

    /// Brings the files to the published checkpoint: its partial tiles first, then the note; partial tiles that
    /// only the checkpoint written before it needed are removed. A file system is too slow to do this for every
    /// checkpoint of a busy log.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write_out(&self) -> io::Result<()> {
        let (published, old) = {
            let state = self.read();
            (state.published.clone(), state.written)
        };
        let Some(published) = published.filter(|published| Some(published.size) != old) else {
            return Ok(());
        };
        let partials = |size: u64| {
            (0..=LEVEL_MAX).filter_map(move |level| {
                let row = size >> (8 * u32::from(level));
                Tile::at(Kind::Hashes { level }, row / WIDTH, size)
            })
        };
        for tile in partials(published.size) {
            let hashes = self.hashes(tile)?;
            self.store(tile, &hashes)?;
        }
        std::fs::create_dir_all(&self.dir)?;
        super::replace(&self.dir.join("checkpoint"), &published.note)?;
        let size = published.size;
        self.write().written = Some(size);
        if let Some(old) = old.filter(|old| *old < size) {
            for tile in partials(old).filter(|tile| !partials(size).any(|kept| kept == *tile)) {
                let path = self.dir.join(tile.path());
                let _ = std::fs::remove_file(&path);
                // The directory `N.p` goes with its last partial tile.
                let _ = path.parent().map(std::fs::remove_dir);
            }
        }
        Ok(())
    }

    /// Writes the statement that a set of the log's keys follows another one: the receipt of its entry under `note`,
    /// where any web server can give it away.
    ///
    /// # Errors
    /// When a tile cannot be read or the file system refuses.
    pub fn write_statement(&self, statement: &Statement) -> io::Result<()> {
        let size = Signed::parse(&statement.note).map_err(io::Error::other)?.checkpoint.size;
        let mut hashes = TileHashes::new(size, |tile| self.bytes(tile));
        let path = inclusion_proof(statement.seq, size, &mut hashes)
            .map_err(|error| io::Error::other(error.to_string()))?;
        let extra = crate::receipts::entry_extra(&statement.entry);
        let receipt =
            Receipt { extra: Some(extra), index: statement.seq, path, checkpoint: statement.note.clone() };
        std::fs::create_dir_all(self.dir.join("keys"))?;
        super::replace(&self.dir.join(Self::statement_name(statement.number)), &receipt.encode())
    }

    /// Where the statement about a set of keys lies below the tiles.
    #[must_use]
    pub fn statement_name(number: u64) -> String {
        format!("keys/{number}.tlog-proof")
    }

    /// The statement about a set of keys as it was written.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub fn statement(&self, number: u64) -> io::Result<Vec<u8>> {
        std::fs::read(self.dir.join(Self::statement_name(number)))
    }

    /// The newest published checkpoint.
    pub fn published(&self) -> Option<Published> {
        self.read().published.clone()
    }

    /// What a snapshot keeps.
    pub fn edge(&self) -> Edge {
        self.read().edge.clone()
    }

    /// Leaves folded in.
    pub fn size(&self) -> u64 {
        self.read().edge.size
    }

    fn hashes(&self, tile: Tile) -> io::Result<Vec<[u8; 32]>> {
        let Kind::Hashes { level } = tile.kind else { return Err(io::Error::other("not a hash tile")) };
        let width = usize::from(tile.width);
        {
            let state = self.read();
            let full = (state.edge.size >> (8 * u32::from(level))) / WIDTH;
            if tile.index == full {
                let row = state.edge.levels.get(usize::from(level)).map(Vec::as_slice).unwrap_or_default();
                return row
                    .get(..width)
                    .map(<[_]>::to_vec)
                    .ok_or_else(|| io::Error::other("beyond the tree"));
            }
        }
        let whole = Tile { width: WIDTH as u16, ..tile };
        let path = self.dir.join(whole.path());
        let bytes = std::fs::read(&path)?;
        let (hashes, []) = bytes.as_chunks::<32>() else {
            return Err(io::Error::other(format!("{} is damaged", path.display())));
        };
        hashes
            .get(..width)
            .map(<[_]>::to_vec)
            .ok_or_else(|| io::Error::other(format!("{} is short", path.display())))
    }

    /// Bytes of a hash tile, also of a partial one, from files and memory.
    ///
    /// # Errors
    /// When the file of a full tile cannot be read.
    pub fn bytes(&self, tile: Tile) -> io::Result<Vec<u8>> {
        Ok(self.hashes(tile)?.concat())
    }
}

/// Whether the full tiles that end a tree of `size` leaves are on disk with their length: a cheap look that
/// notices files lost with the power, which are the newest ones.
pub fn looks_whole(dir: &Path, size: u64) -> bool {
    (0..=LEVEL_MAX).all(|level| {
        let full = (size >> (8 * u32::from(level))) / WIDTH;
        (full.saturating_sub(64)..full).all(|index| {
            let tile = Tile { kind: Kind::Hashes { level }, index, width: WIDTH as u16 };
            std::fs::metadata(dir.join(tile.path())).is_ok_and(|meta| meta.len() == 32 * WIDTH)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::tree::tiles::{TileHashes, tile_bytes};
    use engine::tree::{MemHashes, inclusion_proof, leaf_hash, verify_inclusion};

    #[test]
    fn tiles_hold_what_the_tree_holds_and_prove_it() {
        let dir = tempfile::tempdir().unwrap();
        let tiles = Tiles::new(dir.path().into(), Edge::default(), None);
        let mut all = MemHashes::default();
        let mut size = 0_u64;
        for step in [1, 1, 253, 1, 1, 300, 70_000] {
            let leaves: Vec<Digest> = (size..size + step).map(|n| leaf_hash(&n.to_le_bytes())).collect();
            for leaf in &leaves {
                all.append(*leaf);
            }
            tiles.append(size, &leaves).unwrap();
            size += step;
            tiles.publish(Published { size, note: b"note".to_vec() });
            tiles.write_out().unwrap();
            assert!(looks_whole(dir.path(), size));
            for tile in engine::tree::tiles::new_tiles(0, size) {
                assert_eq!(tiles.bytes(tile).unwrap(), tile_bytes(tile, &mut all).unwrap(), "{tile}");
                assert_eq!(std::fs::read(dir.path().join(tile.path())).unwrap(), tiles.bytes(tile).unwrap());
            }
            let mut hashes = TileHashes::new(size, |tile| tiles.bytes(tile));
            let index = size / 2;
            let path = inclusion_proof(index, size, &mut hashes).unwrap();
            let leaf = leaf_hash(&index.to_le_bytes());
            verify_inclusion(&leaf, index, size, &path, &all.tree().root()).unwrap();
        }
        let partials = std::fs::read_dir(dir.path().join("tile/0"))
            .unwrap()
            .filter(|e| e.as_ref().is_ok_and(|e| e.path().extension().is_some_and(|x| x == "p")));
        assert!(partials.count() <= 1, "stale partial tiles are removed");
        let resumed = Tiles::new(dir.path().into(), tiles.edge(), tiles.published());
        let more: Vec<Digest> = (0..1000_u64).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        tiles.append(size, &more).unwrap();
        resumed.append(size, &more).unwrap();
        assert_eq!(resumed.edge(), tiles.edge());
        std::fs::remove_file(dir.path().join("tile/1/000")).unwrap();
        assert!(!looks_whole(dir.path(), size));
    }
}
