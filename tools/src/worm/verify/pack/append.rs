//! Stage 6, append-only, and what other stages ask, too: does the pack's tree continue an older one?

use engine::checkpoint::{Checkpoint, LogKeys, Signed};
use engine::tree::tiles::{TileError, TileHashes};
use engine::tree::{ProofError, consistency_proof, verify_consistency};

use super::*;
use crate::pack::tiles::{Folder, Tiles};

/// How an older checkpoint and the pack's go together.
pub(super) enum Continues {
    /// The newer tree begins with the older one.
    Yes,
    /// It does not; why.
    No(String),
    /// The pack lacks this tile, which would tell.
    Lacks(String),
}

impl Stages<'_> {
    /// Whether the tree of `new` begins with that of `old`.
    pub(super) fn continues(&self, old: &Checkpoint, new: &Checkpoint) -> Result<Continues, Fault> {
        if old.origin != new.origin {
            return Ok(Continues::No(format!("it is of {}, the pack of {}", old.origin, new.origin)));
        }
        if old.size > new.size {
            let (had, has) = (thousands(old.size), thousands(new.size));
            return Ok(Continues::No(format!("the log had {had} entries then, it has {has} now")));
        }
        let (mut folder, mut absent) = (Folder(self.pack.dir().to_owned()), None);
        let mut hashes = TileHashes::new(new.size, |tile| match folder.tile(tile) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => {
                absent = Some(tile);
                Err(None)
            }
            Err(fault) => Err(Some(fault)),
        });
        let path = match consistency_proof(old.size, new.size, &mut hashes) {
            Ok(path) => path,
            Err(ProofError::Read(TileError::Fetch(Some(fault)))) => return Err(fault),
            Err(_) => {
                let tile = absent.map_or_else(|| "a tile".to_owned(), |tile| tile.path());
                return Ok(Continues::Lacks(tile));
            }
        };
        Ok(match verify_consistency(old.size, new.size, &path, &old.root, &new.root) {
            Ok(()) => Continues::Yes,
            Err(_) => Continues::No(format!(
                "the first {} entries are not those under its root {}: the log was forked or rewritten",
                thousands(old.size),
                old.root
            )),
        })
    }

    pub(super) fn append_only(
        &mut self,
        signed: &Signed,
        saved: Option<&Signed>,
        vkey: Option<&LogKeys>,
    ) -> Result<(), Fault> {
        let name = "6 append-only";
        let Some(saved) = saved else {
            let detail = "no earlier checkpoint given: keep this one, and next time give it with --saved";
            self.report.check(name, State::Skipped, detail);
            return Ok(());
        };
        let size = thousands(saved.checkpoint.size);
        if let Some(Err(error)) = vkey.map(|vkey| vkey.verify(saved)) {
            let why = format!("your checkpoint over {size} entries: {error}");
            self.report.fail(name, Exit::Inconsistent, why);
            return Ok(());
        }
        match self.continues(&saved.checkpoint, &signed.checkpoint)? {
            Continues::Yes => {
                let detail = format!("consistent with your saved checkpoint over {size} entries");
                self.report.check(name, State::Ok, detail);
            }
            Continues::No(why) => {
                let why = format!("your checkpoint over {size} entries: {why}");
                self.report.fail(name, Exit::Inconsistent, why);
            }
            Continues::Lacks(tile) => {
                let why = format!("{tile} is not in the pack: fetch it with --saved and your checkpoint");
                self.report.fail(name, Exit::Missing, why);
            }
        }
        Ok(())
    }
}
