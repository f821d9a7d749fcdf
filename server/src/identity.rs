//! Whose data directory this is, and that only one process has it.
//!
//! `DIR/LOCK` is held for the life of the process. `DIR/identity` is made once: a directory of another region or
//! node is refused before anything in it is touched.

use crate::keys;
use engine::codec::{hex, unhex};
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
    /// Drawn at random when the directory was made.
    pub cluster: [u8; 16],
    _lock: File,
}

/// Takes the directory for this process, making it if it is new.
///
/// # Errors
/// [`IdentityError`]; nothing in the directory was changed then.
pub fn hold(dir: &Path, region: &str, node: u64) -> Result<Held, IdentityError> {
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
    let cluster = match std::fs::read_to_string(&path) {
        Ok(text) => read(&path, &text, region, node)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut cluster = [0; 16];
            getrandom::fill(&mut cluster).map_err(IdentityError::Random)?;
            let text = format!(
                "cluster = {}\nregion = {region}\nnode = {node}\nlimits = {:016x}\n",
                hex(&cluster),
                engine::limits::fingerprint()
            );
            keys::create(&path, text.as_bytes(), 0o644).map_err(at(&path))?;
            cluster
        }
        Err(error) => return Err(at(&path)(error)),
    };
    Ok(Held { cluster, _lock: lock })
}

fn read(path: &Path, text: &str, region: &str, node: u64) -> Result<[u8; 16], IdentityError> {
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
    unhex(field("cluster")?).ok_or_else(|| form("cluster is not 32 hex digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_process_one_region_and_one_node() {
        let dir = tempfile::tempdir().unwrap();
        let held = hold(dir.path(), "eu", 1).unwrap();
        assert!(matches!(hold(dir.path(), "eu", 1), Err(IdentityError::Held { .. })));
        let cluster = held.cluster;
        drop(held);
        assert_eq!(hold(dir.path(), "eu", 1).unwrap().cluster, cluster);
        assert!(matches!(hold(dir.path(), "us", 1), Err(IdentityError::Foreign { what: "region", .. })));
        assert!(matches!(hold(dir.path(), "eu", 2), Err(IdentityError::Foreign { what: "node", .. })));
        let path = dir.path().join("identity");
        let text = std::fs::read_to_string(&path).unwrap();
        for (from, to) in [("cluster = ", "cluster = zz"), ("limits = ", "limits = 0"), ("region", "regio")] {
            std::fs::write(&path, text.replace(from, to)).unwrap();
            assert!(hold(dir.path(), "eu", 1).is_err(), "{from}");
        }
    }
}
