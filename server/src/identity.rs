//! Whose data directory this is, and that only one process has it.
//!
//! `DIR/LOCK` is held for the life of the process. `DIR/identity` is made once: a directory of another region or
//! node is refused before anything in it is touched.

use crate::keys;
use engine::codec::unhex;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Why a directory is not ours.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Another process runs on it.
    #[error("{path}: another process holds LOCK on this data directory")]
    Held {
        /// The directory.
        path: PathBuf,
    },
    /// It belongs to another region or node.
    #[error("{path} belongs to {what} '{found}', and this process is configured as '{wanted}'")]
    Foreign {
        /// The identity file.
        path: PathBuf,
        /// `region` or `node`.
        what: &'static str,
        /// As written.
        found: String,
        /// As configured.
        wanted: String,
    },
    /// It was written by a program with other limits.
    #[error("{path}: written under limits {found}, this program has {wanted}; use the program that wrote it")]
    Limits {
        /// The identity file.
        path: PathBuf,
        /// As written.
        found: String,
        /// Ours.
        wanted: String,
    },
    /// It is not an identity.
    #[error("{path} is not an identity file: {why}")]
    Form {
        /// The identity file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The file system refused.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// No randomness for a new identity.
    #[error("no randomness: {0}")]
    Random(getrandom::Error),
}

/// Holds a data directory.
#[derive(Debug)]
pub struct Held {
    /// Drawn at random when the first node's directory was made; the nodes that joined it have the same.
    pub cluster: [u8; 16],
    /// Drawn at random when this directory was made; 0 in a directory older than that.
    pub incarnation: u64,
    /// Whether the node joined a group that was there, instead of founding one.
    pub joined: bool,
    _lock: File,
}

/// What a new directory becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Birth {
    /// The first node of a cluster of its own.
    Found,
    /// A node of a cluster that is there.
    Join {
        /// The cluster.
        cluster: [u8; 16],
        /// Drawn with [`draw`] before the cluster was asked.
        incarnation: u64,
    },
}

/// Whether the directory belongs to a node already.
pub fn is_born(dir: &Path) -> bool {
    dir.join("identity").exists()
}

/// A number that no other directory has.
///
/// # Errors
/// When the operating system gives no randomness.
pub fn draw() -> Result<u64, IdentityError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(IdentityError::Random)?;
    // Zero stands for a directory that has none.
    Ok(u64::from_le_bytes(bytes).max(1))
}

/// Takes the directory for this process, making it if it is new.
///
/// # Errors
/// [`IdentityError`]; nothing in the directory was changed then.
pub fn hold(dir: &Path, region: &str, node: u64, birth: Birth) -> Result<Held, IdentityError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| IdentityError::File { path, source }
    };
    segments::create_dir_synced(dir).map_err(at(dir))?;
    let lock_path = dir.join("LOCK");
    let lock = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&lock_path)
        .map_err(at(&lock_path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(IdentityError::Held { path: dir.to_owned() }),
        Err(TryLockError::Error(error)) => return Err(at(&lock_path)(error)),
    }
    let path = dir.join("identity");
    let (cluster, incarnation, joined) = match std::fs::read_to_string(&path) {
        Ok(text) => read(&path, &text, region, node)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (cluster, incarnation, joined) = match birth {
                Birth::Join { cluster, incarnation } => (cluster, incarnation, true),
                Birth::Found => {
                    let mut cluster = [0; 16];
                    getrandom::fill(&mut cluster).map_err(IdentityError::Random)?;
                    (cluster, draw()?, false)
                }
            };
            let identity = segments::Identity { cluster, region: region.to_owned() };
            let owner = segments::Owner { identity, node, incarnation, joined };
            keys::create(&path, owner.text().as_bytes(), 0o644).map_err(at(&path))?;
            (cluster, incarnation, joined)
        }
        Err(error) => return Err(at(&path)(error)),
    };
    Ok(Held { cluster, incarnation, joined, _lock: lock })
}

fn read(path: &Path, text: &str, region: &str, node: u64) -> Result<([u8; 16], u64, bool), IdentityError> {
    let form = |why: &str| IdentityError::Form { path: path.to_owned(), why: why.to_owned() };
    let field = |name: &'static str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='));
        line.map(str::trim).ok_or_else(|| form(&format!("no {name}")))
    };
    let limits = format!("{:016x}", engine::limits::fingerprint());
    if field("limits")? != limits {
        let found = field("limits")?.to_owned();
        return Err(IdentityError::Limits { path: path.to_owned(), found, wanted: limits });
    }
    for (what, wanted) in [("region", region.to_owned()), ("node", node.to_string())] {
        let found = field(what)?.to_owned();
        if found != wanted {
            return Err(IdentityError::Foreign { path: path.to_owned(), what, found, wanted });
        }
    }
    let cluster = unhex(field("cluster")?).ok_or_else(|| form("cluster is not 32 hex digits"))?;
    // Directories older than groups have neither.
    let incarnation = match field("incarnation") {
        Err(_) => 0,
        Ok(text) => u64::from_str_radix(text, 16).map_err(|_| form("incarnation is not 16 hex digits"))?,
    };
    let joined = match field("joined") {
        Err(_) | Ok("false") => false,
        Ok("true") => true,
        Ok(_) => return Err(form("joined is neither true nor false")),
    };
    Ok((cluster, incarnation, joined))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_joins_takes_the_cluster_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let birth = Birth::Join { cluster: [7; 16], incarnation: 9 };
        assert!(!is_born(dir.path()));
        drop(hold(dir.path(), "eu", 2, birth).unwrap());
        assert!(is_born(dir.path()));
        // What it is, it stays, whatever it is asked to become later.
        let held = hold(dir.path(), "eu", 2, Birth::Found).unwrap();
        assert_eq!((held.cluster, held.incarnation, held.joined), ([7; 16], 9, true));
    }

    #[test]
    fn a_directory_has_one_process_one_region_and_one_node() {
        let dir = tempfile::tempdir().unwrap();
        let hold = |region, node| hold(dir.path(), region, node, Birth::Found);
        let held = hold("eu", 1).unwrap();
        assert!(matches!(hold("eu", 1), Err(IdentityError::Held { .. })));
        let (cluster, incarnation) = (held.cluster, held.incarnation);
        assert!(incarnation != 0 && !held.joined);
        drop(held);
        let held = hold("eu", 1).unwrap();
        assert_eq!((held.cluster, held.incarnation, held.joined), (cluster, incarnation, false));
        drop(held);
        assert!(matches!(hold("us", 1), Err(IdentityError::Foreign { what: "region", .. })));
        assert!(matches!(hold("eu", 2), Err(IdentityError::Foreign { what: "node", .. })));
        let path = dir.path().join("identity");
        let text = std::fs::read_to_string(&path).unwrap();
        for (from, to) in [("cluster = ", "cluster = zz"), ("limits = ", "limits = 0"), ("region", "regio")] {
            std::fs::write(&path, text.replace(from, to)).unwrap();
            assert!(hold("eu", 1).is_err(), "{from}");
        }
        let old: String = text.lines().take(4).map(|line| format!("{line}\n")).collect();
        std::fs::write(&path, old).unwrap();
        let held = hold("eu", 1).unwrap();
        assert_eq!((held.cluster, held.incarnation, held.joined), (cluster, 0, false));
    }
}
