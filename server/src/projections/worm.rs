//! The WORM files: `YYYY/MM/DD/HHMMSS.jsonl`, one audit leaf a line, named by the event time of their first line.
//!
//! Which line stands in which file depends on the log alone (event time, sizes), so a rebuild writes the same
//! files again. A closed file is read-only and has a `.root` beside it: the RFC 6962 root over its own lines
//! and the SHA-256 of its bytes. Lines are written without fsync, because they are copies of what the log holds;
//! a file is synced once, when it is closed.

use engine::log::Digest;
use rs_merkle::{Hasher, MerkleTree};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// RFC 6962 nodes for rs_merkle: an odd node is carried up unchanged.
#[derive(Clone)]
struct Rfc6962;

impl Hasher for Rfc6962 {
    type Hash = [u8; 32];

    fn hash(data: &[u8]) -> [u8; 32] {
        engine::tree::leaf_hash(data).0
    }

    fn concat_and_hash(left: &[u8; 32], right: Option<&[u8; 32]>) -> [u8; 32] {
        match right {
            Some(right) => engine::tree::node_hash(&Digest(*left), &Digest(*right)).0,
            None => *left,
        }
    }
}

/// Leaves that are hashed together. A power of two, so that their root is a node of the tree over all lines.
const TOGETHER: usize = 1024;

/// The tree over the lines of one file. It is made as the file grows: some hundred thousand nodes at once would keep
/// everything else waiting when the file is closed.
#[derive(Default)]
struct Nodes {
    /// Roots over [`TOGETHER`] lines each.
    full: Vec<[u8; 32]>,
    /// Leaf hashes of the lines after them.
    rest: Vec<[u8; 32]>,
}

impl Nodes {
    fn push(&mut self, leaf: [u8; 32]) {
        self.rest.push(leaf);
        if self.rest.len() == TOGETHER {
            self.full.extend(root_over(&self.rest));
            self.rest.clear();
        }
    }

    fn count(&self) -> usize {
        self.full.len() * TOGETHER + self.rest.len()
    }

    fn root(&self) -> Digest {
        let nodes: Vec<[u8; 32]> = self.full.iter().copied().chain(root_over(&self.rest)).collect();
        root_over(&nodes).map_or(engine::tree::EMPTY_ROOT, Digest)
    }
}

/// Root over some nodes; of none there is none.
fn root_over(nodes: &[[u8; 32]]) -> Option<[u8; 32]> {
    MerkleTree::<Rfc6962>::from_leaves(nodes).root()
}

/// When a file ends.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// Event time in one file, ms.
    pub box_ms: u64,
    /// Size at which it ends inside its box, bytes.
    pub max_bytes: u64,
}

/// A file and the leaves in it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Span {
    /// Path below the WORM directory.
    pub path: PathBuf,
    /// Index of its first leaf.
    pub first: u64,
    /// Number of leaves.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
}

struct Open {
    span: Span,
    file: File,
    /// Lines that are not in the file yet.
    buffer: Vec<u8>,
    /// Bytes that are.
    written: u64,
    /// Bytes that are durable.
    synced: u64,
    box_index: u64,
    second: u64,
    nodes: Nodes,
    sha: Sha256,
}

impl Open {
    /// Makes what is in the file durable.
    fn sync(&mut self) -> io::Result<()> {
        super::sync(&self.file, self.synced)?;
        self.synced = self.written;
        Ok(())
    }
}

/// The writer of the WORM files.
pub struct Worm {
    dir: PathBuf,
    rotation: Rotation,
    open: Option<Open>,
}

/// Buffered bytes above which a line is written through.
const BUFFER: usize = 256 << 10;

impl Worm {
    /// A writer that begins with nothing.
    pub fn new(dir: PathBuf, rotation: Rotation) -> Worm {
        Worm { dir, rotation, open: None }
    }

    /// A writer that continues a file it left at `span`; what stands after it is cut off and comes again
    /// from the log.
    ///
    /// # Errors
    /// When the file is missing, shorter, or does not hold `count` lines; the caller then rebuilds.
    pub fn resume(dir: PathBuf, rotation: Rotation, span: Option<Span>) -> io::Result<Worm> {
        let mut worm = Worm::new(dir, rotation);
        let Some(span) = span else { return Ok(worm) };
        let path = worm.dir.join(&span.path);
        // A file that was closed after the snapshot is open again now.
        remove_if_there(&root_path(&path))?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644))?;
        let file = OpenOptions::new().read(true).append(true).open(&path)?;
        if file.metadata()?.len() < span.bytes {
            return Err(io::Error::other(format!("{} is shorter than it was", path.display())));
        }
        file.set_len(span.bytes)?;
        let mut nodes = Nodes::default();
        let mut sha = Sha256::new();
        let mut reader = BufReader::with_capacity(BUFFER, &file);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            sha.update(&line);
            nodes.push(engine::tree::leaf_hash(line.strip_suffix(b"\n").unwrap_or(&line)).0);
            line.clear();
        }
        if nodes.count() as u64 != span.count {
            return Err(io::Error::other(format!("{} does not hold {} lines", path.display(), span.count)));
        }
        let second = second_of_name(&span.path).ok_or_else(|| io::Error::other("not a WORM file name"))?;
        let box_index = second * 1000 / worm.rotation.box_ms;
        let written = span.bytes;
        let (buffer, synced) = (Vec::new(), 0);
        worm.open = Some(Open { span, file, buffer, written, synced, box_index, second, nodes, sha });
        Ok(worm)
    }

    /// Where the open file stands, after [`Worm::flush`].
    pub fn span(&self) -> Option<Span> {
        self.open.as_ref().map(|open| open.span.clone())
    }

    /// Adds one leaf. Returns the span of a file that was closed before it.
    ///
    /// # Errors
    /// When the file system refuses: the leaf was not taken, and the same call may succeed later.
    pub fn append(&mut self, seq: u64, time_ms: u64, leaf: &[u8], hash: &Digest) -> io::Result<Option<Span>> {
        let second = time_ms / 1000;
        let box_index = time_ms / self.rotation.box_ms;
        let mut closed = None;
        if self.open.as_ref().is_some_and(|open| open.buffer.len() >= BUFFER) {
            self.flush()?;
        }
        // Two files never share a name: a file that is full goes on until the second changes.
        let over = |open: &Open| {
            open.box_index != box_index
                || (open.span.bytes >= self.rotation.max_bytes && open.second != second)
        };
        if self.open.as_ref().is_some_and(over) {
            closed = self.close()?;
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(create(&self.dir, seq, box_index, second)?),
        };
        open.buffer.extend_from_slice(leaf);
        open.buffer.push(b'\n');
        open.sha.update(leaf);
        open.sha.update(b"\n");
        open.nodes.push(hash.0);
        open.span.count += 1;
        open.span.bytes += leaf.len() as u64 + 1;
        Ok(closed)
    }

    /// Writes what is buffered, so that readers of the file see it.
    ///
    /// # Errors
    /// When the file system refuses: the file ends where it ended, and the same call may succeed later.
    pub fn flush(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if let Err(error) = open.file.write_all(&open.buffer) {
            // Some of it may be there. No reader may find half a line.
            open.file.set_len(open.written)?;
            return Err(error);
        }
        open.written += open.buffer.len() as u64;
        open.buffer.clear();
        Ok(())
    }

    /// Makes what was written durable: a snapshot counts on it.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.open.as_mut().map_or(Ok(()), Open::sync)
    }

    fn close(&mut self) -> io::Result<Option<Span>> {
        self.flush()?;
        let Some(open) = &mut self.open else { return Ok(None) };
        open.sync()?;
        let path = self.dir.join(&open.span.path);
        let text = json!({
            "first": open.span.first,
            "last": open.span.first + open.span.count - 1,
            "count": open.span.count,
            "root": open.nodes.root().to_string(),
            "sha256": Digest(open.sha.clone().finalize().into()).to_string(),
        });
        super::replace(&root_path(&path), format!("{text}\n").as_bytes())?;
        open.file.set_permissions(PermissionsExt::from_mode(0o444))?;
        // The last step: until here the file is open, and a refusal is tried again.
        Ok(self.open.take().map(|open| open.span))
    }
}

fn create(dir: &Path, first: u64, box_index: u64, second: u64) -> io::Result<Open> {
    let relative = name_of_second(second);
    let path = dir.join(&relative);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    // Left from before a rebuild; the same lines come again from the log.
    remove_if_there(&path)?;
    remove_if_there(&root_path(&path))?;
    let file = OpenOptions::new().create_new(true).append(true).open(&path)?;
    let span = Span { path: relative, first, count: 0, bytes: 0 };
    Ok(Open {
        span,
        file,
        buffer: Vec::new(),
        written: 0,
        synced: 0,
        box_index,
        second,
        nodes: Nodes::default(),
        sha: Sha256::new(),
    })
}

/// The `.root` beside a file.
fn root_path(path: &Path) -> PathBuf {
    path.with_extension("root")
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn name_of_second(second: u64) -> PathBuf {
    // A time beyond year 9999 cannot be told by a clock we believe; it gets the last name there is.
    let second = i64::try_from(second).unwrap_or(i64::MAX).min(253_402_207_199);
    let time = jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    PathBuf::from(time.strftime("%Y/%m/%d/%H%M%S.jsonl").to_string())
}

fn second_of_name(path: &Path) -> Option<u64> {
    let text = path.to_str()?.strip_suffix(".jsonl")?;
    let time = jiff::civil::DateTime::strptime("%Y/%m/%d/%H%M%S", text).ok()?;
    u64::try_from(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second()).ok()
}

/// All files under the WORM directory, in the order of their leaves; the open one, if any, comes from `open`.
///
/// # Errors
/// When a closed file's `.root` is unreadable, or the files do not continue each other: the caller rebuilds.
pub fn survey(dir: &Path, open: Option<&Span>, size: u64) -> io::Result<Vec<Span>> {
    let mut spans = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(relative) = pending.pop() {
        let here = dir.join(&relative);
        for entry in std::fs::read_dir(&here)? {
            let entry = entry?;
            let path = relative.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|e| e == "jsonl") && open.is_none_or(|o| o.path != path) {
                let text = match std::fs::read_to_string(root_path(&dir.join(&path))) {
                    // Without a root it was begun after the snapshot; its lines come again.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    text => text?,
                };
                let root: serde_json::Value = serde_json::from_str(&text)?;
                let number =
                    |name: &str| root[name].as_u64().ok_or_else(|| io::Error::other("not a .root file"));
                let (first, count, bytes) = (number("first")?, number("count")?, entry.metadata()?.len());
                if open.is_none_or(|open| first < open.first) {
                    spans.push(Span { path, first, count, bytes });
                }
            }
        }
    }
    spans.extend(open.cloned());
    spans.sort_by_key(|span| span.first);
    let mut next = 0;
    for span in &spans {
        if span.first != next || span.bytes < span.count {
            return Err(io::Error::other(format!(
                "{} does not continue the file before it",
                span.path.display()
            )));
        }
        next += span.count;
    }
    if next == size {
        Ok(spans)
    } else {
        Err(io::Error::other(format!("{next} leaves in files, {size} expected")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROTATION: Rotation = Rotation { box_ms: 3_600_000, max_bytes: 200 };
    const START: u64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z

    fn write(worm: &mut Worm, seq: u64, time: u64) -> Option<Span> {
        let leaf = format!("{{\"seq\":{seq}}}");
        worm.append(seq, time, leaf.as_bytes(), &engine::tree::leaf_hash(leaf.as_bytes())).unwrap()
    }

    #[test]
    fn names_are_event_time_and_read_back() {
        for second in [0, 1_767_225_600, 1_767_225_601, 253_402_207_199] {
            assert_eq!(second_of_name(&name_of_second(second)), Some(second));
        }
        assert_eq!(name_of_second(1_767_225_600), PathBuf::from("2026/01/01/000000.jsonl"));
        assert_eq!(second_of_name(Path::new("2026/01/01/xx.jsonl")), None);
    }

    #[test]
    fn the_root_of_a_file_is_the_tree_over_its_lines() {
        let (mut nodes, mut tree) = (Nodes::default(), engine::tree::Tree::new());
        assert_eq!(nodes.root(), tree.root());
        for line in 1..=5 * TOGETHER {
            let leaf = engine::tree::leaf_hash(&line.to_le_bytes());
            nodes.push(leaf.0);
            tree.append(leaf);
            if line < 9 || line % TOGETHER < 3 || line % TOGETHER == TOGETHER - 1 || line % 397 == 0 {
                assert_eq!((nodes.count(), nodes.root()), (line, tree.root()), "{line} lines");
            }
        }
    }

    #[test]
    fn files_end_with_box_or_size_and_carry_their_root() {
        let dir = tempfile::tempdir().unwrap();
        let mut worm = Worm::new(dir.path().into(), ROTATION);
        for seq in 0..30 {
            // All in one second: the size limit waits for the next second.
            assert_eq!(write(&mut worm, seq, START + seq), None);
        }
        let first = write(&mut worm, 30, START + 1000).unwrap();
        assert_eq!((first.first, first.count), (0, 30));
        let second = write(&mut worm, 31, START + ROTATION.box_ms).unwrap();
        assert_eq!((second.first, second.count), (30, 1));
        worm.flush().unwrap();
        let text = std::fs::read_to_string(dir.path().join("2026/01/01/000000.root")).unwrap();
        let root: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut tree = engine::tree::Tree::new();
        for leaf in
            std::fs::read(dir.path().join(&first.path)).unwrap().split_inclusive(|byte| *byte == b'\n')
        {
            let leaf = &leaf[..leaf.len() - 1];
            tree.append(engine::tree::leaf_hash(leaf));
        }
        assert_eq!(root["root"], tree.root().to_string());
        assert_eq!((root["last"].as_u64(), root["count"].as_u64()), (Some(29), Some(30)));
        let bytes = std::fs::read(dir.path().join(&first.path)).unwrap();
        assert_eq!(root["sha256"], Digest(Sha256::digest(&bytes).into()).to_string());
        let spans = survey(dir.path(), worm.span().as_ref(), 32).unwrap();
        assert_eq!(spans.len(), 3);
        assert!(survey(dir.path(), worm.span().as_ref(), 33).is_err());
        std::fs::remove_file(dir.path().join(&second.path)).unwrap();
        assert!(survey(dir.path(), worm.span().as_ref(), 32).is_err(), "a missing file is noticed");
    }

    #[test]
    fn a_resumed_writer_ends_with_the_same_bytes() {
        let whole = tempfile::tempdir().unwrap();
        let mut worm = Worm::new(whole.path().into(), ROTATION);
        (0..50).for_each(|seq| drop(write(&mut worm, seq, START + seq * 300)));
        worm.flush().unwrap();
        for stop in [1, 7, 20, 49] {
            let dir = tempfile::tempdir().unwrap();
            let mut worm = Worm::new(dir.path().into(), ROTATION);
            (0..stop).for_each(|seq| drop(write(&mut worm, seq, START + seq * 300)));
            worm.flush().unwrap();
            let span = worm.span();
            // The process wrote on after its snapshot, then died.
            (stop..50).for_each(|seq| drop(write(&mut worm, seq, START + seq * 300)));
            worm.flush().unwrap();
            let mut worm = Worm::resume(dir.path().into(), ROTATION, span.clone()).unwrap();
            assert_eq!(
                survey(dir.path(), span.as_ref(), stop).unwrap().iter().map(|s| s.count).sum::<u64>(),
                stop
            );
            (stop..50).for_each(|seq| drop(write(&mut worm, seq, START + seq * 300)));
            worm.flush().unwrap();
            let spans = survey(whole.path(), worm.span().as_ref(), 50).unwrap();
            for span in spans {
                let read = |dir: &Path| std::fs::read(dir.join(&span.path)).unwrap();
                assert_eq!(read(dir.path()), read(whole.path()), "{}", span.path.display());
            }
        }
    }
}
