//! What others said of the log's checkpoints, as files of a pack: the same names that a node has beside its tiles.
//!
//! ```text
//! PACK/checkpoint.witnessed           the checkpoint with most cosignatures, and their lines
//! PACK/anchors/SIZE.checkpoint        a checkpoint that was attested, byte for byte; SIZE has twenty digits
//! PACK/anchors/SIZE.NAME.tsr          a time stamp over that file (RFC 3161)
//! PACK/anchors/SIZE.NAME.ots          an OpenTimestamps file over it
//! ```
//! L1: at most [`KEPT`] files of each pack, the newest.

use std::path::Path;

use engine::checkpoint::Signed;

use super::put;
use crate::report::Fault;

/// Most attested checkpoints and attestations in a pack.
pub const KEPT: usize = 256;

/// The checkpoint with most cosignatures.
pub const WITNESSED: &str = "checkpoint.witnessed";

/// Longest name of such a file.
const NAME_MAX: usize = 300;

/// The size in the name of a file under `anchors/`, if it is one of those above.
#[must_use]
pub fn size_of(name: &str) -> Option<u64> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let (size, rest) = name.split_at_checked(20)?;
    let known = rest == ".checkpoint" || rest.ends_with(".tsr") || rest.ends_with(".ots");
    if !known || name.len() > NAME_MAX || !rest.starts_with('.') || !rest.bytes().all(plain) {
        return None;
    }
    if size.bytes().all(|byte| byte.is_ascii_digit()) { size.parse().ok() } else { None }
}

/// Of these names those that a pack takes: of checkpoints within `sizes`, the newest [`KEPT`], in order.
#[must_use]
pub fn choose(names: impl Iterator<Item = String>, sizes: std::ops::RangeInclusive<u64>) -> Vec<String> {
    let mut names: Vec<String> =
        names.filter(|name| size_of(name).is_some_and(|size| sizes.contains(&size))).collect();
    names.sort();
    names.split_off(names.len().saturating_sub(KEPT))
}

/// The names under a folder's `anchors/`.
///
/// # Errors
/// The folder cannot be read; there being none is no error.
pub fn names_in(dir: &Path) -> Result<Vec<String>, Fault> {
    let folder = dir.join("anchors");
    match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Fault::read(&folder, error)),
        Ok(list) => Ok(list.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()),
    }
}

/// Writes such files into a pack, as `get` has them by their path below the source.
///
/// # Errors
/// They cannot be had or written.
pub fn copy(
    names: Vec<String>,
    sizes: std::ops::RangeInclusive<u64>,
    out: &Path,
    mut get: impl FnMut(&str) -> Result<Option<Vec<u8>>, Fault>,
) -> Result<u64, Fault> {
    let paths: Vec<String> =
        choose(names.into_iter(), sizes.clone()).into_iter().map(|name| format!("anchors/{name}")).collect();
    let mut count = 0;
    for path in &paths {
        if let Some(bytes) = get(path)? {
            put(&out.join(path), &bytes)?;
            count += 1;
        }
    }
    // A log that grows may be cosigned beyond the pack's checkpoint by now.
    let within =
        |note: &Vec<u8>| Signed::parse(note).is_ok_and(|signed| sizes.contains(&signed.checkpoint.size));
    if let Some(note) = get(WITNESSED)?.filter(within) {
        put(&out.join(WITNESSED), &note)?;
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_form_are_taken_and_the_newest_of_them() {
        let name = |size: u64, rest: &str| format!("{size:020}.{rest}");
        assert_eq!(size_of(&name(70_000, "checkpoint")), Some(70_000));
        assert_eq!(size_of(&name(7, "tsa-1.tsr")), Some(7));
        for bad in
            ["", "x", "7.checkpoint", &name(7, "../x.tsr"), &name(7, "exe"), "+0000000000000000007.x.tsr"]
        {
            assert_eq!(size_of(bad), None, "{bad}");
        }
        let all = (0..2 * KEPT as u64).map(|size| name(size, "checkpoint"));
        let chosen = choose(all, 1..=300);
        assert_eq!((chosen.len(), chosen[KEPT - 1].as_str()), (KEPT, name(300, "checkpoint").as_str()));
    }
}
