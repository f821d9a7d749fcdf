//! Finding entries in the WORM files and proving them from the tiles, without hashing the whole log.
//!
//! By number: the `.root` beside each closed file says which entries it holds, so only one file is read. By id: the
//! files are searched as bytes, because conflicts with a summary stand anywhere behind it and no index lists them.
//! Nothing that helps to find is believed: each entry found is proved under the signed checkpoint, from the tiles. What
//! cannot be proved this way, or is not found at all, is decided by one pass that hashes every entry.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use engine::checkpoint::Signed;
use engine::leaf::{Leaf, What};
use engine::limits::LEAF_MAX;
use engine::log::Digest;
use engine::summary::PcsId;
use engine::tree::tiles::{Tile, TileHashes, WIDTH};
use engine::tree::{inclusion_proof, leaf_hash, verify_inclusion};
use memchr::{memchr, memchr_iter, memmem};

use super::lines::{Place, files};
use super::tree::{Nodes, insist, pass};
use crate::audit::home::Home;
use crate::report::Fault;
use crate::ui::{Ui, Unit};

/// Entries of one id that are kept and shown; the rest is counted.
pub const FOUND_MAX: usize = 1000;

/// Bytes read at once: many times the longest line.
const CHUNK: usize = 16 * (LEAF_MAX + 1);

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want<'a> {
    /// The entry with this number.
    Seq(u64),
    /// The first submission of a summary, not a later conflict with it.
    First(&'a PcsId),
    /// Every entry that names a summary.
    All(&'a PcsId),
}

/// An entry that stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub seq: u64,
    /// Its bytes.
    pub line: Vec<u8>,
    /// Where they stand.
    pub place: Place,
    /// The audit path from it to the signed root.
    pub path: Vec<Digest>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finds {
    /// In the order of the log, at most [`FOUND_MAX`].
    pub found: Vec<Found>,
    /// How many more there are.
    pub more: u64,
}

impl Finds {
    fn add(&mut self, seq: u64, line: &[u8], place: Place) {
        if self.found.len() < FOUND_MAX {
            self.found.push(Found { seq, line: line.to_vec(), place, path: Vec::new() });
        } else {
            self.more += 1;
        }
    }
}

/// Whether a leaf is a summary's first submission.
fn is_first(line: &[u8]) -> bool {
    Leaf::parse(line).is_ok_and(|leaf| matches!(leaf.what, What::Pcs(_)))
}

/// What is wanted of the entries under `signed`, each with its audit path.
///
/// # Errors
/// Entries are missing (exit code 3) or are not what the checkpoint signs (2).
pub fn find(home: &Home, region: &str, signed: &Signed, want: Want<'_>, ui: Ui) -> Result<Finds, Fault> {
    let size = signed.checkpoint.size;
    let quick = match want {
        Want::Seq(seq) => by_number(&home.worm(), seq),
        Want::First(id) => by_id(&home.worm(), size, id, true, ui),
        Want::All(id) => by_id(&home.worm(), size, id, false, ui),
    };
    // Whatever stood in the way, the pass over everything meets it too and names it.
    match quick {
        Ok(finds) if finds.found.is_empty() => ui.say("not found; to be sure, every entry is hashed"),
        Ok(mut finds) => {
            let checkpoint = home.checkpoint(region);
            let dir = checkpoint.parent().unwrap_or(&checkpoint);
            if finds.found.iter_mut().all(|found| prove(dir, signed, found)) {
                return Ok(finds);
            }
            ui.say("found, but the tiles do not prove it: every entry is hashed");
        }
        Err(error) => ui.say(&format!("{error}: every entry is hashed")),
    }
    whole(home, signed, want, ui)
}

/// Fills in the audit path from the tiles below `dir`; false if they do not lead to the signed root.
fn prove(dir: &Path, signed: &Signed, found: &mut Found) -> bool {
    let (size, root) = (signed.checkpoint.size, &signed.checkpoint.root);
    let mut hashes = TileHashes::new(size, |tile| read_tile(dir, tile));
    let Ok(path) = inclusion_proof(found.seq, size, &mut hashes) else { return false };
    found.path = path;
    verify_inclusion(&leaf_hash(&found.line), found.seq, size, &found.path, root).is_ok()
}

/// A partial tile may have become a full one since the checkpoint: then it is its beginning.
fn read_tile(dir: &Path, tile: Tile) -> io::Result<Vec<u8>> {
    let (bytes, full) = match std::fs::read(dir.join(tile.path())) {
        Ok(bytes) => (bytes, 32 * usize::from(tile.width)),
        Err(_) if !tile.is_full() => {
            let whole = Tile { width: WIDTH as u16, ..tile };
            (std::fs::read(dir.join(whole.path()))?, 32 * WIDTH as usize)
        }
        Err(error) => return Err(error),
    };
    let wanted = bytes.get(..32 * usize::from(tile.width)).filter(|_| bytes.len() == full);
    wanted.map(<[u8]>::to_vec).ok_or_else(|| io::Error::other("a tile of another length"))
}

/// Entries of a closed file: the first, and how many. Only a hint.
fn held(file: &Path) -> Option<(u64, u64)> {
    let mut text = String::new();
    File::open(file.with_extension("root")).ok()?.take(4096).read_to_string(&mut text).ok()?;
    let root: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some((root["first"].as_u64()?, root["count"].as_u64()?))
}

fn by_number(dir: &Path, seq: u64) -> io::Result<Finds> {
    let mut finds = Finds::default();
    let mut next = 0;
    for path in files(dir)? {
        match held(&path) {
            Some((first, count)) if first == next && first + count <= seq => next += count,
            _ => {
                let mut reader = BufReader::with_capacity(CHUNK, File::open(&path)?);
                let (mut offset, mut line) = (0, Vec::new());
                loop {
                    line.clear();
                    let read = (&mut reader).take(LEAF_MAX as u64 + 1).read_until(b'\n', &mut line)?;
                    if line.pop() != Some(b'\n') {
                        break;
                    }
                    if next == seq {
                        finds.add(seq, &line, Place { path, offset });
                        return Ok(finds);
                    }
                    (offset, next) = (offset + read as u64, next + 1);
                }
            }
        }
    }
    Ok(finds)
}

fn by_id(dir: &Path, size: u64, id: &PcsId, first_only: bool, ui: Ui) -> io::Result<Finds> {
    let needle = needle(id);
    let finder = memmem::Finder::new(&needle);
    let mut finds = Finds::default();
    let files = files(dir)?;
    let mut total = 0;
    for path in &files {
        total += std::fs::metadata(path)?.len();
    }
    let mut progress = ui.progress("search", total, Unit::Bytes);
    let (mut next, mut buffer) = (0, Vec::with_capacity(CHUNK));
    for path in files {
        let mut file = File::open(&path)?;
        let mut offset = 0;
        buffer.clear();
        loop {
            let read = (&mut file).take((CHUNK - buffer.len()) as u64).read_to_end(&mut buffer)?;
            // Whole lines; what comes after the last newline waits for the rest of its line.
            let end = memchr::memrchr(b'\n', &buffer).map_or(0, |at| at + 1);
            let mut from = 0;
            while let Some(at) = finder.find(&buffer[from..end]).map(|at| from + at) {
                let begin = memchr::memrchr(b'\n', &buffer[..at]).map_or(0, |at| at + 1);
                let stop = memchr(b'\n', &buffer[at..end]).map_or(end, |length| at + length);
                let seq = next + memchr_iter(b'\n', &buffer[..begin]).count() as u64;
                if seq >= size {
                    break;
                }
                let line = &buffer[begin..stop];
                if !first_only || is_first(line) {
                    finds.add(seq, line, Place { path: path.clone(), offset: offset + begin as u64 });
                }
                from = stop;
            }
            next += memchr_iter(b'\n', &buffer[..end]).count() as u64;
            buffer.drain(..end);
            offset += end as u64;
            progress.add(read as u64);
            if next >= size || first_only && !finds.found.is_empty() {
                progress.finish();
                return Ok(finds);
            }
            if read == 0 || end == 0 && buffer.len() == CHUNK {
                break;
            }
        }
    }
    progress.finish();
    Ok(finds)
}

/// The id's text as it stands in a leaf.
fn needle(id: &PcsId) -> Vec<u8> {
    format!("\"pcs_id\":\"{id}\"").into_bytes()
}

/// One pass that hashes every entry; paths come from a second one that knows which nodes to keep.
fn whole(home: &Home, signed: &Signed, want: Want<'_>, ui: Ui) -> Result<Finds, Fault> {
    let (dir, size) = (home.worm(), signed.checkpoint.size);
    let mut finds = Finds::default();
    let needle = match want {
        Want::Seq(_) => Vec::new(),
        Want::First(id) | Want::All(id) => needle(id),
    };
    let mut each = |seq: u64, line: &[u8], place: &Place, _: &[(u8, u64, Digest)]| {
        let wanted = match want {
            Want::Seq(asked) => seq == asked,
            Want::First(_) => memmem::find(line, &needle).is_some() && is_first(line),
            Want::All(_) => memmem::find(line, &needle).is_some(),
        };
        if wanted {
            finds.add(seq, line, place.clone());
        }
        Ok(())
    };
    let root = pass(&dir, size, ui, &mut Nodes::default(), &mut each)?;
    insist(signed, root, &dir)?;
    if let Want::First(_) = want {
        finds = Finds { found: finds.found.into_iter().take(1).collect(), more: 0 };
    }
    let mut nodes = Nodes::default();
    finds.found.iter().for_each(|found| nodes.want_inclusion(found.seq, size));
    if !finds.found.is_empty() {
        let root = pass(&dir, size, ui, &mut nodes, &mut |_, _, _, _| Ok(()))?;
        insist(signed, root, &dir)?;
    }
    for found in &mut finds.found {
        found.path = inclusion_proof(found.seq, size, &mut nodes).map_err(|_| {
            Fault::new("cannot prove an entry", found.seq, "a node is missing", "report this as a defect")
        })?;
    }
    Ok(finds)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines cut at any place by the size of a read are found whole, with their numbers and offsets.
    #[test]
    fn an_id_is_found_wherever_a_read_ends() {
        let folder = tempfile::tempdir().unwrap();
        let id = PcsId([7; 32]);
        let mut text = Vec::new();
        let mut want = Vec::new();
        for n in 0..200_u64 {
            if n % 9 == 0 {
                want.push((n, text.len() as u64));
                text.extend_from_slice(&needle(&id));
            }
            text.extend_from_slice(&vec![b'x'; (n as usize * 7919) % LEAF_MAX.min(30_000)]);
            text.push(b'\n');
        }
        assert!(text.len() > 2 * CHUNK);
        for (name, bytes) in [("100000", &text[..]), ("110000", &needle(&id))] {
            let path = folder.path().join(format!("2026/01/01/{name}.jsonl"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let finds = by_id(folder.path(), 190, &id, false, Ui::quiet()).unwrap();
        let have: Vec<_> = finds.found.iter().map(|found| (found.seq, found.place.offset)).collect();
        assert_eq!(have, want.into_iter().filter(|(seq, _)| *seq < 190).collect::<Vec<_>>());
        assert!(finds.found.iter().all(|found| found.line.starts_with(&needle(&id))));
        for (seq, line) in text.split(|byte| *byte == b'\n').take(200).enumerate() {
            let found = by_number(folder.path(), seq as u64).unwrap().found.pop().unwrap();
            assert_eq!((found.seq, found.line.as_slice()), (seq as u64, line));
        }
        assert_eq!(by_number(folder.path(), 200).unwrap(), Finds::default(), "a torn line is no entry");
    }

    #[test]
    fn what_is_found_is_bounded() {
        let mut finds = Finds::default();
        for seq in 0..FOUND_MAX as u64 + 5 {
            finds.add(seq, b"x", Place { path: "f".into(), offset: 0 });
        }
        assert_eq!((finds.found.len(), finds.more), (FOUND_MAX, 5));
    }
}
