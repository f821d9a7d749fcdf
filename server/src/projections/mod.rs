//! What is written beside the log: WORM files, tiles, checkpoints, snapshots. All of it can be made again
//! from the log, so none of it is synced on the way to an answer. On a full disk each of them stands where it stood and
//! goes on when there is room.

pub mod lines;
pub mod projector;
pub mod snapshot;
pub mod tiles;
pub mod work;
pub mod worm;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Writes a small file so that a reader sees the old or the new bytes, never a part.
///
/// # Errors
/// When the file system refuses.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    write_or_remove(&new, |file| file.write_all(bytes))?;
    std::fs::rename(&new, path)
}

/// Makes a file and fills it; one that cannot be filled is removed, because a full disk has better uses for it.
fn write_or_remove(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let filled = File::create(path).and_then(|mut file| fill(&mut file));
    if filled.is_err() {
        // Whether it went away matters to nobody: it is written anew before it is used.
        let _ = std::fs::remove_file(path);
    }
    filled
}

/// Whether an error says that there is no room, so that the same may succeed later.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Makes a file's bytes from `from` on durable, without being in the log's way for long. A failure is never one that can
/// be tried again, whatever it says: the kernel may have dropped the bytes and call the file clean.
fn sync(file: &File, from: u64) -> io::Result<()> {
    let synced = segments::write_out(file, from).and_then(|()| file.sync_data());
    synced.map_err(|error| io::Error::other(format!("sync: {error}")))
}
