//! One pass over the bundles of a pack on all cores: every entry is hashed and held against the tile over it, every
//! tile against the one above. Memory: one bundle and two tiles for each thread, and the summaries of what was read
//! ahead of the slowest.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use engine::leaf::Leaf;
use engine::log::Digest;
use engine::tree::tiles::{Kind, Tile, WIDTH};

use super::plan::Plan;
use super::summary::{Ask, Summary};
use super::tiles::{BadTile, Checked, Folder, Refused, read_file, tile_max, tile_root};
use super::write::entries;
use crate::report::{Exit, Fault};

/// Bundles that a thread takes at a time.
pub const CHUNK: u64 = 16;

/// Findings kept; the others are counted.
const FINDINGS_MAX: usize = 20;

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// An entry: its number, where it stands, and what is wrong.
    Entry(u64, String, String),
    /// A tile.
    Tile(BadTile),
}

/// Which bundles are looked at: the `nth` of each `of`, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subset {
    /// Which.
    pub nth: u64,
    /// Of how many.
    pub of: u64,
}

/// What a pass is asked.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// The pack.
    pub dir: &'a Path,
    /// What must be in it.
    pub plan: &'a Plan,
    /// Threads.
    pub threads: usize,
    /// What is asked of the entries.
    pub ask: Ask,
    /// Which bundles; all if `None`.
    pub subset: Option<Subset>,
}

/// What a pass found.
#[derive(Clone, Debug, Default)]
pub struct Passed {
    /// The entries that hold.
    pub summary: Summary,
    /// Bundles looked at.
    pub bundles: u64,
    /// What does not hold, in the order of the log.
    pub findings: Vec<Finding>,
    /// How many findings there are.
    pub wrong: u64,
}

impl Passed {
    fn append(&mut self, ask: &Ask, later: Passed) {
        self.summary.append(ask, later.summary);
        self.bundles += later.bundles;
        self.wrong += later.wrong;
        let room = FINDINGS_MAX.saturating_sub(self.findings.len());
        self.findings.extend(later.findings.into_iter().take(room));
    }

    fn found(&mut self, finding: Finding) {
        self.wrong += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

impl Pass<'_> {
    /// Looks at the bundles from number `from` on, after `before` was found; `step` hears after every chunk, in the
    /// order of the log, up to which bundle all was looked at, and what was found so far.
    ///
    /// # Errors
    /// A file cannot be read, or what `step` says.
    pub fn run(
        &self,
        from: u64,
        before: Passed,
        step: &mut dyn FnMut(u64, &Passed) -> Result<(), Fault>,
    ) -> Result<Passed, Fault> {
        let range = from.max(self.plan.bundles.start)..self.plan.bundles.end;
        let chunks = range.end.saturating_sub(range.start).div_ceil(CHUNK);
        let next = AtomicU64::new(0);
        let (sender, results) = mpsc::channel();
        let mut passed = before;
        std::thread::scope(|scope| {
            for _ in 0..(self.threads as u64).min(chunks) {
                let (sender, next, range) = (sender.clone(), &next, range.clone());
                scope.spawn(move || {
                    let mut tiles = Checked::new(self.plan.size, Folder(self.dir.to_owned()));
                    loop {
                        let chunk = next.fetch_add(1, Ordering::Relaxed);
                        if chunk >= chunks {
                            return;
                        }
                        let from = range.start + chunk * CHUNK;
                        let result = self.chunk(from..(from + CHUNK).min(range.end), &mut tiles);
                        let failed = result.is_err();
                        if sender.send((chunk, result)).is_err() || failed {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            let (mut early, mut turn) = (BTreeMap::new(), 0);
            for (chunk, result) in results {
                early.insert(chunk, result?);
                while let Some(result) = early.remove(&turn) {
                    passed.append(&self.ask, result);
                    turn += 1;
                    step((range.start + turn * CHUNK).min(range.end), &passed)?;
                }
            }
            Ok(())
        })?;
        Ok(passed)
    }

    fn chunk(&self, range: std::ops::Range<u64>, tiles: &mut Checked<Folder>) -> Result<Passed, Fault> {
        let mut passed = Passed::default();
        for index in range {
            if self.subset.is_some_and(|subset| index % subset.of != subset.nth) {
                continue;
            }
            let Some(bundle) = Tile::at(Kind::Entries, index, self.plan.size) else { continue };
            passed.bundles += 1;
            self.bundle(bundle, tiles, &mut passed)?;
        }
        Ok(passed)
    }

    fn bundle(&self, bundle: Tile, tiles: &mut Checked<Folder>, passed: &mut Passed) -> Result<(), Fault> {
        let over = Tile { kind: Kind::Hashes { level: 0 }, ..bundle };
        let hashes = match tiles.read(over) {
            Ok(hashes) => hashes.to_vec(),
            Err(Refused::Bad(bad)) => {
                passed.found(Finding::Tile(bad));
                return Ok(());
            }
            Err(Refused::Fault(fault)) => return Err(fault),
        };
        // A tile that is not full is held against the root, before this pass.
        if over.is_full() {
            let have = tile_root(&hashes);
            match tiles.wanted(over) {
                Ok(want) if want == have => {}
                Ok(want) => {
                    let why = format!("it adds up to {have}, the tile above says {want}");
                    passed.found(Finding::Tile(BadTile { place: over.path(), why, missing: false }));
                }
                Err(Refused::Bad(bad)) => passed.found(Finding::Tile(bad)),
                Err(Refused::Fault(fault)) => return Err(fault),
            }
        }
        let Some(bytes) = read_file(&self.dir.join(bundle.path()), tile_max(bundle))? else {
            let why = "it is missing".to_owned();
            passed.found(Finding::Tile(BadTile { place: bundle.path(), why, missing: true }));
            return Ok(());
        };
        match entries(bundle, &bytes, &hashes) {
            Ok(found) => {
                for (nth, (offset, line)) in found.into_iter().enumerate() {
                    let seq = bundle.first() + nth as u64;
                    match Leaf::parse(line) {
                        Ok(leaf) => passed.summary.add(&self.ask, seq, &leaf, line.len()),
                        Err(error) => {
                            let place = format!("{bundle}, offset {offset:#x}");
                            passed.found(Finding::Entry(seq, place, error.to_string()));
                        }
                    }
                }
            }
            Err(bad) => {
                let place = format!("{bundle}, offset {:#x}", bad.offset);
                passed.found(Finding::Entry(bad.seq, place, bad.why));
            }
        }
        Ok(())
    }
}

/// The tiles above the lowest level, and the last ones of all levels against the root: what is wrong, if anything is.
///
/// # Errors
/// A file cannot be read.
pub fn upper(dir: &Path, plan: &Plan, signed: &Digest) -> Result<Option<BadTile>, Fault> {
    let mut tiles = Checked::new(plan.size, Folder(dir.to_owned()));
    match tiles.root() {
        Ok(root) if root == *signed => {}
        Ok(root) => {
            let why = format!("the tiles give root {root}, the checkpoint says {signed}");
            return Ok(Some(BadTile { place: "tile".into(), why, missing: false }));
        }
        Err(Refused::Bad(bad)) => return Ok(Some(bad)),
        Err(Refused::Fault(fault)) => return Err(fault),
    }
    let lowest = Kind::Hashes { level: 0 };
    let inside = |tile: &Tile| tile.kind == lowest && plan.bundles.contains(&tile.index);
    for tile in plan.tiles().skip(plan.edge().count()).filter(|tile| !inside(tile)) {
        match tiles.insist(tile) {
            Ok(_) => {}
            Err(Refused::Bad(bad)) => return Ok(Some(bad)),
            Err(Refused::Fault(fault)) => return Err(fault),
        }
    }
    Ok(None)
}

/// Visits an entry: its number, where it stands, its bytes.
pub type Visit<'a> = dyn FnMut(u64, &str, &[u8]) -> Result<(), Fault> + 'a;

/// Goes through the entries of a pack in order, each held against the tiles, and these against each other. That the
/// tiles lead to the signed root is for the caller to have seen.
///
/// # Errors
/// The first thing that does not hold (exit code 2) or is missing (3), or what `visit` says.
pub fn walk(dir: &Path, plan: &Plan, visit: &mut Visit<'_>) -> Result<(), Fault> {
    let next = || format!("worm verify {}", dir.display());
    let bad = |bad: BadTile| {
        let exit = if bad.missing { Exit::Missing } else { Exit::Tampered };
        Fault::new("the pack is not what its checkpoint signs", bad.place, bad.why, next()).exit(exit)
    };
    let unread = |refused| match refused {
        Refused::Bad(found) => bad(found),
        Refused::Fault(fault) => fault,
    };
    let mut tiles = Checked::new(plan.size, Folder(dir.to_owned()));
    for bundle in plan.entry_tiles() {
        let over = Tile { kind: Kind::Hashes { level: 0 }, ..bundle };
        let hashes = if over.is_full() { tiles.insist(over) } else { tiles.read(over) };
        let hashes = hashes.map_err(unread)?.to_vec();
        let Some(bytes) = read_file(&dir.join(bundle.path()), tile_max(bundle))? else {
            let why = "it is missing".to_owned();
            return Err(bad(BadTile { place: bundle.path(), why, missing: true }));
        };
        let found = entries(bundle, &bytes, &hashes).map_err(|wrong| {
            let place = format!("entry {}, {bundle}, offset {:#x}", wrong.seq, wrong.offset);
            bad(BadTile { place, why: wrong.why, missing: false })
        })?;
        for (nth, (offset, line)) in found.into_iter().enumerate() {
            visit(bundle.index * WIDTH + nth as u64, &format!("{bundle}, offset {offset:#x}"), line)?;
        }
    }
    Ok(())
}
