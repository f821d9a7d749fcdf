//! The segments in a pack: their own sums, and whether the entries follow from them.

use engine::tree::leaf_hash;
use engine::tree::tiles::{Kind, Tile, WIDTH};

use super::*;
use crate::audit::Wrong;
use crate::audit::fold::{Appended, Watch};

/// What became of it.
pub(super) enum Made {
    /// The same entries, in words.
    Equal(String),
    /// Something does not hold.
    Wrong(Exit, String),
}

/// Holds every leaf that follows from the records against the tile over it.
struct Against<'a> {
    tiles: Checked<Folder>,
    plan: &'a Plan,
    compared: u64,
    leaves: u64,
}

impl Watch for Against<'_> {
    fn leaf(&mut self, leaf: &Appended<'_>) -> Result<(), Wrong> {
        self.leaves += 1;
        if !self.plan.entries().contains(&leaf.seq) {
            return Ok(());
        }
        let wrong = |expected: String, found: String| Wrong {
            lsn: leaf.lsn,
            place: None,
            part: "leaf",
            expected,
            found,
        };
        let tile = Tile::at(Kind::Hashes { level: 0 }, leaf.seq / WIDTH, self.plan.size)
            .expect("an entry of the pack lies in its tree");
        let at = 32 * (leaf.seq % WIDTH) as usize;
        let have = leaf_hash(leaf.line);
        match self.tiles.read(tile) {
            Ok(hashes) if hashes[at..at + 32] == have.0 => {}
            Ok(hashes) => {
                let want = crate::pack::tiles::digest(&hashes[at..at + 32]);
                return Err(wrong(format!("leaf {want} as entry {}", leaf.seq), have.to_string()));
            }
            // It is missing or cut off: the stage that reads the tiles says so.
            Err(_) => return Ok(()),
        }
        self.compared += 1;
        Ok(())
    }

    fn checkpoint(&mut self, _: Lsn, _: &Signed) -> Result<(), Wrong> {
        Ok(())
    }
}

impl Stages<'_> {
    /// Makes the entries again from the records, where the pack has the segments.
    pub(super) fn segments(
        &mut self,
        plan: &Plan,
        signed: &Signed,
        claim: Option<&Claim>,
    ) -> Result<Option<Made>, Fault> {
        let dir = self.pack.log();
        if !dir.is_dir() {
            let claimed = claim.is_some_and(|claim| claim.segments);
            return Ok(claimed.then(|| Made::Wrong(Exit::Missing, "the pack says that it has them".into())));
        }
        let said = |faulty: Faulty| match faulty {
            Faulty::Unusable(fault) => Err(fault),
            Faulty::Missing(what) => Ok(Some(Made::Wrong(Exit::Missing, what))),
            Faulty::Damaged(damage) => Ok(Some(Made::Wrong(Exit::Tampered, damage.to_string()))),
            Faulty::Wrong(wrong) => Ok(Some(Made::Wrong(Exit::Tampered, wrong.to_string()))),
        };
        let log = match LogFiles::open(&dir) {
            Ok(log) => log,
            Err(faulty) => return said(faulty),
        };
        let mut progress = self.ui.progress("bytes  ", log.bytes(), Unit::Bytes);
        let bytes = log.check(self.threads, None, &mut |count| progress.add(count));
        progress.finish();
        if let Err(faulty) = bytes {
            return said(faulty);
        }
        let kek = self.args.kek.as_deref().map(Kek::read).transpose()?;
        let source = kek.as_ref().map_or(Source::Attested, |kek| Source::Secrets(kek));
        let scratch = Scratch::new(self.args.scratch.as_deref())?;
        let tiles = Checked::new(plan.size, Folder(self.pack.dir().to_owned()));
        let mut against = Against { tiles, plan, compared: 0, leaves: 0 };
        let mut fold = Fold::new(scratch.ledger(log.region())?, &source, self.threads);
        let result = log.fold("records", Begin::FIRST, self.ui, &mut fold, &mut against);
        if let Err(faulty) = result {
            return said(faulty);
        }
        let (have, want) = (against.leaves, signed.checkpoint.size);
        let open = fold.counts().uncovered_events;
        if have + open < want {
            let why =
                format!("they make {} entries, the checkpoint is over {}", thousands(have), thousands(want));
            return Ok(Some(Made::Wrong(Exit::Missing, why)));
        }
        let records = thousands(fold.counts().records);
        let made = thousands(against.compared);
        let rest = match want.saturating_sub(have) {
            0 => String::new(),
            rest => format!(", {} more are not attested yet (--kek checks them)", thousands(rest)),
        };
        Ok(Some(Made::Equal(format!("{made} made again from {records} records{rest}"))))
    }
}
