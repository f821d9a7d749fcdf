//! Where a node begins: at its snapshot, or at the beginning of the log.
//!
//! A snapshot is only used when everything beside it fits: the index, the tiles, the WORM files. Otherwise all of
//! them are made again from the log, which takes longer and is always right.

use crate::config::Config;
use crate::fold::Index;
use crate::identity::Held;
use crate::index;
use crate::node::{StartError, tile_dir};
use crate::projections::snapshot::{self, Marks};
use crate::projections::tiles::looks_whole;
use crate::projections::worm::{self, Rotation, Worm};
use crate::seed::Unconfirmed;
use engine::ledger::Ledger;
use raft::Standing;
use std::path::Path;

/// Names the log that the index is a cache of.
pub(crate) fn index_id(held: &Held) -> u64 {
    let first = held.cluster.first_chunk::<8>().expect("an identity has 16 bytes");
    u64::from_le_bytes(*first)
}

/// When an audit file ends.
pub(crate) fn rotation(config: &Config) -> Rotation {
    Rotation { box_ms: config.worm_box.as_millis() as u64, max_bytes: config.worm_bytes }
}

/// Where a node begins: at a snapshot that everything beside it fits, or at the beginning of the log.
pub(crate) struct Start {
    pub(crate) ledger: Ledger<Index>,
    pub(crate) standing: Standing,
    pub(crate) marks: Marks,
    pub(crate) worm: Worm,
    pub(crate) spans: Vec<worm::Span>,
}

impl Start {
    pub(crate) fn find(config: &Config, proj: &Path, id: u64) -> Result<Start, StartError> {
        let rotation = rotation(config);
        let path = proj.join("snapshot");
        match Start::resume(config, proj, id, &path, rotation) {
            Ok(Some(start)) => return Ok(start),
            Ok(None) => {}
            Err(why) => {
                tracing::warn!(why, "the snapshot is not used; everything is made again from the log")
            }
        }
        // Whatever half-fitting files there are must not be mistaken for ours later.
        let _ = std::fs::remove_file(&path);
        if Unconfirmed::open(proj).lsn().is_some() {
            // Made of a member's word that was not true: not one file of it may stand among ours.
            let _ = std::fs::remove_dir_all(config.worm_path());
            let _ = std::fs::remove_dir_all(tile_dir(config));
            Unconfirmed::forget(proj);
        }
        Ok(Start {
            ledger: Ledger::new(&config.region, index::create(proj, id)?),
            standing: Standing::default(),
            marks: Marks::default(),
            worm: Worm::new(config.worm_path(), rotation),
            spans: Vec::new(),
        })
    }

    fn resume(
        config: &Config,
        proj: &Path,
        id: u64,
        path: &Path,
        rotation: Rotation,
    ) -> Result<Option<Start>, String> {
        let Some(found) = snapshot::read(path).map_err(|e| e.to_string())? else { return Ok(None) };
        let table = index::open(proj, id).map_err(|e| e.to_string())?;
        let ledger = Ledger::restore(&found.ledger, table).map_err(|e| e.to_string())?;
        let size = ledger.tree().size();
        if ledger.applied() != found.standing.lsn || found.marks.edge.size != size {
            return Err("its parts stand at different places".into());
        }
        if !looks_whole(&tile_dir(config), size) {
            return Err("tiles are missing".into());
        }
        let worm_dir = config.worm_path();
        let worm =
            Worm::resume(worm_dir.clone(), rotation, found.marks.worm.clone()).map_err(|e| e.to_string())?;
        let spans = worm::survey(&worm_dir, found.marks.worm.as_ref(), size).map_err(|e| e.to_string())?;
        Ok(Some(Start { ledger, standing: found.standing, marks: found.marks, worm, spans }))
    }
}
