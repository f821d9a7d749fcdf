//! Stage 6, append-only, and what other stages ask, too: does the pack's tree continue an older one?

use engine::checkpoint::{Checkpoint, LogKeys, Signed};
use engine::tree::tiles::{TileError, TileHashes};
use engine::tree::{ProofError, consistency_proof, verify_consistency};

use super::*;
use crate::audit::keychain::STATEMENT_MAX;
use crate::pack::tiles::read_file;
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

    /// Whether the tree continues the checkpoints by which the log's keys follow each other; where it does not, which and why.
    pub(super) fn forked_keys(&self, signed: &Signed) -> Result<Option<String>, Fault> {
        let dir = self.pack.dir();
        for (step, _) in keychain::collect(|name| read_file(&dir.join(name), STATEMENT_MAX))? {
            let over = Signed::parse(&step.receipt.checkpoint);
            let over = over.map_err(|error| Fault::read(&dir.join(keychain::name(step.number)), error))?;
            // A log that grows may have gone over to other keys after the pack was begun.
            if over.checkpoint.size <= signed.checkpoint.size
                && let Continues::No(why) = self.continues(&over.checkpoint, &signed.checkpoint)?
            {
                return Ok(Some(format!("{}: {why}", keychain::name(step.number))));
            }
        }
        Ok(None)
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
