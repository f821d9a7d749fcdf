//! `flkd alone`: a new group of one, begun with the directory of a node whose group is lost.
//!
//! Made aside and renamed when it is whole, so that a directory is either not there or can be started. The old directory
//! stays what it is: a start of its node would have read it the same way.

use crate::config::{Config, DiskChoice};
use crate::identity::{self, Birth, IdentityError};
use engine::codec::hex;
use raft::{Member, Survived, survive};
use segments::{AnyDisk, Identity, Options, Prefer};
use std::path::{Path, PathBuf};

/// Why there is no new group.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SurvivorError {
    #[error("{0} holds no node")]
    Nobody(PathBuf),
    #[error("{0} is there already: name a directory that is not")]
    Exists(PathBuf),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("the log: {0}")]
    Log(#[from] raft::OpenError),
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// The new cluster.
    pub cluster: String,
    /// The old one.
    pub before: String,
    /// What the log was begun with.
    pub survived: Survived,
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> SurvivorError + '_ {
    |source| SurvivorError::File { path: path.to_owned(), source }
}

/// Makes the data directory of `config` from the directory `old` of a node that does not run.
///
/// # Errors
/// [`SurvivorError`]; the new directory is not there then.
pub fn found_from(old: &Path, config: &Config) -> Result<Made, SurvivorError> {
    let new = &config.data_dir;
    if !identity::is_born(old) {
        return Err(SurvivorError::Nobody(old.to_owned()));
    }
    if new.exists() {
        return Err(SurvivorError::Exists(new.clone()));
    }
    let aside = new.with_extension("unfinished");
    if aside.exists() {
        std::fs::remove_dir_all(&aside).map_err(at(&aside))?;
    }
    let before = identity::hold(old, &config.region, config.node_id, Birth::Found)?;
    // The old memberships in the log name this node with its incarnation, and whoever reads the log from its beginning
    // holds it to that. The cluster's name is what keeps the old group out.
    let mut cluster = [0; 16];
    for half in cluster.chunks_mut(8) {
        half.copy_from_slice(&identity::draw()?.to_le_bytes());
    }
    let birth = Birth::Join { cluster, incarnation: before.incarnation };
    let after = identity::hold(&aside, &config.region, config.node_id, birth)?;
    let keys = aside.join("keys");
    std::fs::create_dir(&keys).map_err(at(&keys))?;
    for name in ["kek", "log.key", "log.vkey"] {
        let from = old.join("keys").join(name);
        // They may stand elsewhere by configuration, and then they stay there.
        if from.exists() {
            std::fs::copy(&from, keys.join(name)).map_err(at(&from))?;
        }
    }
    let prefer = match config.disk {
        DiskChoice::Auto => Prefer::Auto,
        DiskChoice::Uring => Prefer::Uring,
        DiskChoice::Posix => Prefer::Posix,
    };
    let open = |dir: &Path, cluster| {
        let log = dir.join("log");
        let (disk, _) = AnyDisk::open(&log, prefer).map_err(at(&log))?;
        let mut options = Options::new(Identity { cluster, region: config.region.clone() });
        options.segment_bytes = config.segment_bytes;
        Ok::<_, SurvivorError>((disk, options))
    };
    let (from, from_options) = open(old, before.cluster)?;
    let (to, to_options) = open(&aside, after.cluster)?;
    let address =
        config.cluster_advertise.clone().or_else(|| config.cluster_listen.clone()).unwrap_or_default();
    let me = Member { address, incarnation: after.incarnation };
    let survived = survive((from, &from_options), (to, &to_options), config.node_id, me)?;
    let made = Made { cluster: hex(&after.cluster), before: hex(&before.cluster), survived };
    std::fs::rename(&aside, new).map_err(at(new))?;
    let parent = new.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(parent).and_then(|folder| folder.sync_all()).map_err(at(parent))?;
    Ok(made)
}
