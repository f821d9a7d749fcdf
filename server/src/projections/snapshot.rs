//! The snapshot file: the ledger at one place in the log and what the projections need to go on from there.
//!
//! It is written aside, synced and renamed. A snapshot that does not read back, or that the files beside it do
//! not fit, is not used: everything is made again from the log.

use super::tiles::{Edge, Published};
use super::worm::Span;
use raft::Standing;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"flksnp01";

/// What the projections need to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// The open WORM file.
    pub worm: Option<Span>,
    /// The edge of the tree.
    pub edge: Edge,
    /// The newest checkpoint.
    pub published: Option<Published>,
}

/// A snapshot as read.
pub struct Snapshot {
    /// Where the log goes on.
    pub standing: Standing,
    /// The ledger's own bytes.
    pub ledger: Vec<u8>,
    /// The projections.
    pub marks: Marks,
}

/// The marks come last: `flk replay` reads what stands before them.
#[derive(Serialize, Deserialize)]
struct Head {
    lsn: u64,
    term: u64,
    membership: Vec<u8>,
    ledger: Vec<u8>,
    marks: Marks,
}

/// Writes a snapshot and makes it durable.
///
/// # Errors
/// When the file system refuses.
pub fn write(path: &Path, standing: &Standing, ledger: Vec<u8>, marks: Marks) -> io::Result<()> {
    let head = Head {
        lsn: standing.lsn.0,
        term: standing.term,
        membership: standing.membership.to_vec(),
        ledger,
        marks,
    };
    let body = bincode::serde::encode_to_vec(&head, bincode::config::standard()).map_err(io::Error::other)?;
    let new = draft(path);
    super::write_or_remove(&new, |file| {
        file.write_all(MAGIC)?;
        file.write_all(&Sha256::digest(&body))?;
        file.write_all(&body)?;
        super::sync(file, 0)
    })?;
    std::fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// The name under which a snapshot is written before it takes the place of the one before.
pub fn draft(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Reads a snapshot; `None` when there is none.
///
/// # Errors
/// When it cannot be read or is not what was written.
pub fn read(path: &Path) -> io::Result<Option<Snapshot>> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes?,
    };
    let damaged = || io::Error::other("the snapshot is damaged");
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
    let (sum, body) = rest.split_first_chunk::<32>().ok_or_else(damaged)?;
    if magic != MAGIC || *sum != <[u8; 32]>::from(Sha256::digest(body)) {
        return Err(damaged());
    }
    let (head, read): (Head, usize) =
        bincode::serde::decode_from_slice(body, bincode::config::standard()).map_err(io::Error::other)?;
    if read != body.len() {
        return Err(damaged());
    }
    let membership: Arc<[u8]> = head.membership.into();
    let standing = Standing { lsn: engine::log::Lsn(head.lsn), term: head.term, membership };
    Ok(Some(Snapshot { standing, ledger: head.ledger, marks: head.marks }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_reads_back_or_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("snapshot");
        assert!(read(&path).unwrap().is_none());
        let standing = Standing { lsn: engine::log::Lsn(7), term: 2, membership: vec![1, 2, 3].into() };
        let marks = Marks {
            worm: None,
            edge: Edge::default(),
            published: Some(Published { size: 1, note: vec![9] }),
        };
        write(&path, &standing, vec![5; 100], marks.clone()).unwrap();
        let back = read(&path).unwrap().unwrap();
        assert_eq!((back.standing, back.ledger, back.marks), (standing, vec![5; 100], marks));
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert!(read(&path).is_err(), "byte {at}");
            std::fs::write(&path, &whole[..at]).unwrap();
            assert!(read(&path).is_err(), "cut at {at}");
        }
    }
}
