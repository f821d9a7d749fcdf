//! Which files of a tree a pack of some of its entries needs, so that every hash in them leads to the signed root.
//!
//! For each bundle in the pack: the hash tile over its leaves and all tiles above that. For the root: the last tile of
//! every level that is not full. For an older checkpoint: the tiles with the nodes of the proof between the two, and
//! all above them. A full tile is held against the one hash in the tile above that it adds up to, the ones that are
//! not full against the root itself: together they hold exactly the hashes under the highest bits of the size.

use std::collections::BTreeSet;
use std::ops::Range;

use engine::log::Digest;
use engine::tree::tiles::{Kind, LEVEL_MAX, Tile, WIDTH};
use engine::tree::{Hashes, consistency_proof};

/// The files of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Entries under the checkpoint.
    pub size: u64,
    /// The bundles.
    pub bundles: Range<u64>,
    /// Tiles for an older checkpoint that the bundles alone do not bring.
    more: BTreeSet<Tile>,
}

/// A proof is made from nodes; this remembers the tiles they are in.
struct Asked {
    size: u64,
    tiles: BTreeSet<Tile>,
}

impl Hashes for Asked {
    type Error = std::convert::Infallible;

    fn hash(&mut self, level: u8, index: u64) -> Result<Digest, Self::Error> {
        let first = index << (level % 8);
        let mut at = (level / 8, first / WIDTH);
        while let Some(tile) = Tile::at(Kind::Hashes { level: at.0 }, at.1, self.size) {
            self.tiles.insert(tile);
            if at.0 == LEVEL_MAX {
                break;
            }
            at = (at.0 + 1, at.1 / WIDTH);
        }
        Ok(Digest::ZERO)
    }
}

impl Plan {
    /// For the bundles of this range under a checkpoint over `size` entries, and for the way from an older one over
    /// `since` entries.
    #[must_use]
    pub fn new(size: u64, bundles: Range<u64>, since: Option<u64>) -> Plan {
        let all = size.div_ceil(WIDTH);
        let bundles = bundles.start.min(all)..bundles.end.min(all);
        let mut asked = Asked { size, tiles: BTreeSet::new() };
        if let Some(since) = since.filter(|since| *since <= size) {
            let _ = consistency_proof(since, size, &mut asked);
        }
        Plan { size, bundles, more: asked.tiles }
    }

    /// For all entries.
    #[must_use]
    pub fn whole(size: u64) -> Plan {
        Plan::new(size, 0..size.div_ceil(WIDTH), None)
    }

    /// Whether every entry is in it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.bundles == (0..self.size.div_ceil(WIDTH))
    }

    /// Entries in the bundles.
    #[must_use]
    pub fn entries(&self) -> Range<u64> {
        (self.bundles.start * WIDTH).min(self.size)..(self.bundles.end * WIDTH).min(self.size)
    }

    /// The last tile of each level that is not full, lowest level first: at most one for each level.
    pub fn edge(&self) -> impl Iterator<Item = Tile> + use<> {
        let size = self.size;
        (0..=LEVEL_MAX).filter_map(move |level| {
            let row = size >> (8 * u32::from(level));
            Tile::at(Kind::Hashes { level }, row / WIDTH, size)
        })
    }

    /// The tiles of a level that lie over the bundles.
    pub fn over(&self, level: u8) -> impl Iterator<Item = Tile> + use<> {
        let down = 8 * u32::from(level);
        let (size, bundles) = (self.size, self.bundles.clone());
        let indexes =
            if bundles.is_empty() { 0..0 } else { bundles.start >> down..((bundles.end - 1) >> down) + 1 };
        indexes.filter_map(move |index| Tile::at(Kind::Hashes { level }, index, size))
    }

    /// All tiles, each once, from the highest level down: what a tile is held against comes before it.
    pub fn tiles(&self) -> impl Iterator<Item = Tile> + '_ {
        let edge: BTreeSet<Tile> = self.edge().collect();
        let more: BTreeSet<Tile> = self.more.iter().copied().filter(|tile| !edge.contains(tile)).collect();
        let rest = move |level: u8| {
            let (edge, more) = (edge.clone(), more.clone());
            let over = self.over(level).filter(move |tile| !edge.contains(tile));
            let span: Vec<Tile> = self.over(level).take(1).collect();
            let from = span.first().map(|tile| tile.index);
            let to = from.map(|_| (self.bundles.end - 1) >> (8 * u32::from(level)));
            let beyond = more.into_iter().filter(move |tile| {
                tile.kind == Kind::Hashes { level }
                    && !from.zip(to).is_some_and(|(from, to)| (from..=to).contains(&tile.index))
            });
            over.chain(beyond)
        };
        self.edge().chain((0..=LEVEL_MAX).rev().flat_map(rest))
    }

    /// The entry bundles, in order.
    pub fn entry_tiles(&self) -> impl Iterator<Item = Tile> + use<> {
        let size = self.size;
        self.bundles.clone().filter_map(move |index| Tile::at(Kind::Entries, index, size))
    }

    /// How many hash tiles there are.
    #[must_use]
    pub fn tile_count(&self) -> u64 {
        self.tiles().count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_plan_is_the_whole_tree() {
        for size in [0, 1, 255, 256, 257, 65_536, 65_537, 70_000, 200_000] {
            let plan = Plan::whole(size);
            let mut have: Vec<Tile> = plan.tiles().collect();
            let mut want: Vec<Tile> = engine::tree::tiles::new_tiles(0, size).collect();
            have.sort_unstable();
            want.sort_unstable();
            assert_eq!(have, want, "{size}");
            assert_eq!(plan.entries(), 0..size);
            assert!(plan.is_whole());
        }
    }

    #[test]
    fn a_part_has_every_tile_above_its_bundles_once() {
        let size = 40_000_000;
        for (bundles, since) in
            [(3..9, None), (250..260, Some(1_000_001)), (0..0, Some(77)), (156_249..156_250, None)]
        {
            let plan = Plan::new(size, bundles.clone(), since);
            let tiles: Vec<Tile> = plan.tiles().collect();
            let set: BTreeSet<Tile> = tiles.iter().copied().collect();
            assert_eq!(set.len(), tiles.len(), "each once");
            let top = plan.edge().count();
            for (nth, tile) in tiles.iter().enumerate().skip(top) {
                let Kind::Hashes { level } = tile.kind else { panic!() };
                assert!(tile.is_full());
                let above = Tile::at(Kind::Hashes { level: level + 1 }, tile.index / WIDTH, size).unwrap();
                assert!(tiles[..nth].contains(&above), "{above} stands before {tile}");
            }
            for bundle in bundles {
                assert!(set.contains(&Tile::at(Kind::Hashes { level: 0 }, bundle, size).unwrap()));
            }
        }
    }
}
