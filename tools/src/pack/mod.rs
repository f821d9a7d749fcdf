//! The evidence pack: one directory with everything that somebody needs to check a log, or a period of it, without
//! us. The layout is C2SP tlog-tiles with a few files beside it, so programs that know nothing of packs read it too.
//!
//! ```text
//! PACK/pack.json                what the pack claims to be (`Claim`); nothing in it is believed
//! PACK/checkpoint               the signed tree head that everything is held against
//! PACK/vkey                     the log's public key, as claimed by whoever made the pack
//! PACK/keys/                    by which statements the log's keys follow each other (`audit::keychain`)
//! PACK/tile/L/N[.p/W]           hash tiles
//! PACK/tile/entries/N[.p/W]     entry bundles
//! PACK/anchors/                 what others said of its checkpoints (`anchors`)
//! PACK/log/                     the segments, where the pack was made with them
//! PACK/proofs/                  a few receipts and their entries
//! PACK/verify.html, README.txt  a page that checks receipts offline; how to check the pack with others' tools
//! PACK/SHA256SUMS               of the files that the tree does not cover; written last
//! ```
//! Invariants kept here: a file appears under its name whole or not at all; `SHA256SUMS` stands there only when
//! everything else does; every byte of every file is under the tree, under a signature, or in `SHA256SUMS`.

pub mod anchors;
pub mod pass;
pub mod plan;
pub mod source;
pub mod summary;
pub mod tiles;
pub mod write;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::report::{Exit, Fault};

/// What `pack.json` says it is.
pub const FORMAT: &str = "flk evidence pack 1";

/// Longest `pack.json`, `SHA256SUMS` or other small file read, bytes.
pub const SMALL_MAX: u64 = 4 << 20;

/// What a pack claims of itself. A reader uses it to know what to look for, and believes nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// [`FORMAT`].
    pub format: String,
    /// The log's origin.
    pub origin: String,
    /// Entries under the checkpoint.
    pub size: u64,
    /// Root of the checkpoint, hex.
    pub root: String,
    /// First bundle in the pack, and the one after the last.
    pub bundles: (u64, u64),
    /// The period that the pack is about, milliseconds since the Unix epoch, both ends included; all of time if absent.
    pub period: Option<(u64, u64)>,
    /// Size of an older checkpoint that the tiles in the pack connect with this one.
    pub since: Option<u64>,
    /// Where it came from, in words.
    pub source: String,
    /// Whether it holds the segments of the log.
    pub segments: bool,
}

impl Claim {
    /// The file's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

/// A pack's directory.
#[derive(Clone, Debug)]
pub struct Pack {
    dir: PathBuf,
}

impl Pack {
    /// Whether this directory is a pack, or wants to be one.
    #[must_use]
    pub fn is_one(dir: &Path) -> bool {
        dir.join("pack.json").is_file() || dir.join("checkpoint").is_file() && dir.join("tile").is_dir()
    }

    /// The pack in `dir`.
    #[must_use]
    pub fn of(dir: &Path) -> Pack {
        Pack { dir: dir.to_owned() }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The signed tree head.
    #[must_use]
    pub fn checkpoint(&self) -> PathBuf {
        self.dir.join("checkpoint")
    }

    /// The public key it came with.
    #[must_use]
    pub fn vkey(&self) -> PathBuf {
        self.dir.join("vkey")
    }

    /// The segments, if it has them.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// What the pack claims; `None` for a plain directory of tiles.
    ///
    /// # Errors
    /// The file cannot be read (exit code 3) or is none (2).
    pub fn claim(&self) -> Result<Option<Claim>, Fault> {
        let path = self.dir.join("pack.json");
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = small(&path)?;
        let wrong = |why: String| {
            Fault::new(
                "this is no evidence pack",
                path.display(),
                why,
                "fetch it again, or compare with a copy",
            )
            .exit(Exit::Tampered)
        };
        let claim: Claim = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if claim.format != FORMAT {
            return Err(wrong(format!("it is {:?}, this program reads {FORMAT:?}", claim.format)));
        }
        Ok(Some(claim))
    }
}

/// Reads a file that has no reason to be long.
///
/// # Errors
/// It is not there (exit code 3), cannot be read, or is longer than [`SMALL_MAX`] (2).
pub fn small(path: &Path) -> Result<Vec<u8>, Fault> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(SMALL_MAX + 1).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Fault::new("a file is missing", path.display(), error, "fetch the pack again")
                .exit(Exit::Missing))
        }
        Err(error) => Err(Fault::read(path, error)),
        Ok(_) if bytes.len() as u64 > SMALL_MAX => {
            Err(Fault::read(path, "far longer than it can be").exit(Exit::Tampered))
        }
        Ok(_) => Ok(bytes),
    }
}

/// Writes a file under another name first: what bears the name is whole.
///
/// # Errors
/// The file system refuses.
pub fn put(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(|error| Fault::write(folder, error))?;
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    std::fs::write(&part, bytes).map_err(|error| Fault::write(&part, error))?;
    std::fs::rename(&part, path).map_err(|error| Fault::write(path, error))
}

/// The files of a pack that the tree does not cover, as paths below it, in order.
fn beside(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![(dir.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = format!("{prefix}{name}");
            if entry.file_type()?.is_dir() {
                if path != "tile" && path != "log" {
                    folders.push((entry.path(), format!("{path}/")));
                }
            } else if path != "SHA256SUMS" && !path.ends_with(".part") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn sum(path: &Path) -> Result<String, Fault> {
    Ok(engine::codec::hex(&Sha256::digest(small(path)?)))
}

/// Writes `SHA256SUMS` as `sha256sum -c` reads it.
///
/// # Errors
/// The file system refuses.
pub fn write_sums(dir: &Path) -> Result<(), Fault> {
    let mut text = String::new();
    for name in beside(dir).map_err(|error| Fault::read(dir, error))? {
        text.push_str(&format!("{}  {name}\n", sum(&dir.join(&name))?));
    }
    put(&dir.join("SHA256SUMS"), text.as_bytes())
}

/// Holds the files beside the tree against `SHA256SUMS`: how many there are.
///
/// # Errors
/// One is missing (exit code 3), or differs, or is not listed (2).
pub fn check_sums(dir: &Path) -> Result<u64, Fault> {
    let path = dir.join("SHA256SUMS");
    let text = small(&path)?;
    let wrong = |place: &str, why: String| {
        Fault::new("a file is not what the pack was made with", place, why, "compare with a copy of the pack")
            .exit(Exit::Tampered)
    };
    let place = path.display().to_string();
    let text = std::str::from_utf8(&text).map_err(|error| wrong(&place, error.to_string()))?;
    let mut listed = Vec::new();
    for line in text.split_inclusive('\n') {
        let name = line.strip_suffix('\n').and_then(|line| line.split_once("  "));
        let Some((want, name)) = name.filter(|(_, name)| !name.starts_with('/') && !name.contains(".."))
        else {
            return Err(wrong(&place, format!("line {} is no sum", listed.len() + 1)));
        };
        let have = sum(&dir.join(name))?;
        if have != want {
            return Err(wrong(name, format!("SHA-256 {have}, SHA256SUMS says {want}")));
        }
        listed.push(name.to_owned());
    }
    let have = beside(dir).map_err(|error| Fault::read(dir, error))?;
    if let Some(extra) = have.iter().find(|name| !listed.contains(name)) {
        return Err(wrong(extra, "SHA256SUMS does not list it".into()));
    }
    Ok(listed.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_notice_what_changed_what_went_and_what_came() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        put(&dir.join("a"), b"one").unwrap();
        put(&dir.join("proofs/b"), b"two").unwrap();
        put(&dir.join("tile/0/000"), b"covered by the tree").unwrap();
        write_sums(dir).unwrap();
        assert_eq!(check_sums(dir).unwrap(), 2);
        put(&dir.join("proofs/b"), b"tvo").unwrap();
        assert_eq!(check_sums(dir).unwrap_err().place, "proofs/b");
        put(&dir.join("proofs/b"), b"two").unwrap();
        put(&dir.join("c"), b"").unwrap();
        assert_eq!(check_sums(dir).unwrap_err().place, "c");
        std::fs::remove_file(dir.join("c")).unwrap();
        std::fs::remove_file(dir.join("a")).unwrap();
        assert_eq!(check_sums(dir).unwrap_err().exit, Exit::Missing);
    }

    #[test]
    fn a_claim_is_read_as_written_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let claim = Claim {
            format: FORMAT.into(),
            origin: "o".into(),
            size: 7,
            root: "00".into(),
            bundles: (0, 1),
            period: Some((1, 2)),
            since: None,
            source: "x".into(),
            segments: false,
        };
        let pack = Pack::of(folder.path());
        assert_eq!(pack.claim().unwrap(), None);
        let text = String::from_utf8(claim.encode()).unwrap();
        put(&folder.path().join("pack.json"), text.as_bytes()).unwrap();
        assert_eq!(pack.claim().unwrap(), Some(claim));
        for bad in [text.replace("pack 1", "pack 2"), text.replace("size", "sise"), text[1..].to_owned()] {
            put(&folder.path().join("pack.json"), bad.as_bytes()).unwrap();
            assert_eq!(pack.claim().unwrap_err().exit, Exit::Tampered);
        }
    }
}
