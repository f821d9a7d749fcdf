//! What is written beside the log: WORM files, tiles, checkpoints, snapshots. All of it can be made again
//! from the log, so none of it is synced on the way to an answer.

pub mod projector;
pub mod snapshot;
pub mod tiles;
pub mod worm;

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
    let mut file = std::fs::File::create(&new)?;
    file.write_all(bytes)?;
    drop(file);
    std::fs::rename(&new, path)
}
