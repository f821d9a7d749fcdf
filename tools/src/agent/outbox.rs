//! The agent's memory: an append-only file of submissions and their acknowledgements, and a file of dead letters.
//!
//! A submission line is on disk before it is first sent, and an acknowledgement line before the next submission is
//! sent, so an agent that is killed anywhere resumes with exactly the submissions whose answer it has not seen. The
//! lines are those that agents of the original system write, so either may take over the other's file.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// How long an acknowledged submission is remembered, seconds: as long as a server remembers its id.
pub const KEEP_SECONDS: f64 = 14.0 * 86_400.0;

/// Longest line read back, bytes: a summary of at most 1 MiB, and what stands around it.
const LINE_MAX: u64 = 4 << 20;

/// Acknowledged lines that may pile up before the file is written anew.
const COMPACT_AT: usize = 10_000;

#[derive(Serialize, Deserialize)]
struct Line {
    seq: u64,
    pcs_id: String,
    payload: Box<RawValue>,
    created_at: f64,
    acked: bool,
    acked_at: Option<f64>,
}

#[derive(Serialize, Deserialize)]
struct Ack {
    ack: u64,
    acked_at: f64,
}

/// One submission.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Number in this outbox, from 1.
    pub seq: u64,
    /// Which summary.
    pub pcs_id: String,
    /// The signed summary, byte for byte as it is sent.
    pub payload: String,
    /// When it was made, seconds since 1970.
    pub created_at: f64,
    /// When a server answered it, seconds since 1970.
    pub acked_at: Option<f64>,
}

/// An open outbox; one process at a time.
#[derive(Debug)]
pub struct Outbox {
    path: PathBuf,
    file: File,
    entries: BTreeMap<u64, Entry>,
    by_id: HashMap<String, u64>,
    /// Whether the last line had been cut off by a crash and was removed.
    pub torn: bool,
}

impl Outbox {
    /// Opens or makes the outbox at `path`. A last line without its newline was never acted upon and is removed;
    /// any other unreadable line is an error. Acknowledged entries older than [`KEEP_SECONDS`] at `now` go when
    /// enough have piled up.
    ///
    /// # Errors
    /// The file cannot be read, written or locked, or holds something that is no outbox line.
    pub fn open(path: &Path, now: f64) -> io::Result<Outbox> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        lock(&file)?;
        let (entries, torn) = load(&mut file)?;
        if torn > 0 {
            let length = file.metadata()?.len();
            file.set_len(length - torn)?;
            file.sync_all()?;
        }
        let mut outbox =
            Outbox { path: path.to_owned(), file, entries, by_id: HashMap::new(), torn: torn > 0 };
        let old = |entry: &Entry| entry.acked_at.is_some_and(|at| now - at >= KEEP_SECONDS);
        if outbox.entries.values().filter(|entry| old(entry)).count() >= COMPACT_AT {
            outbox.compact(now)?;
        }
        outbox.by_id = outbox.entries.values().map(|entry| (entry.pcs_id.clone(), entry.seq)).collect();
        sync_folder(path)?;
        Ok(outbox)
    }

    /// The entry of that summary, if it has been made before.
    #[must_use]
    pub fn find(&self, pcs_id: &str) -> Option<&Entry> {
        self.by_id.get(pcs_id).and_then(|seq| self.entries.get(seq))
    }

    /// The entry with that number.
    #[must_use]
    pub fn entry(&self, seq: u64) -> Option<&Entry> {
        self.entries.get(&seq)
    }

    /// Entries without an answer, oldest first.
    pub fn unanswered(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(|entry| entry.acked_at.is_none())
    }

    /// The number the next entry will have.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.entries.last_key_value().map_or(1, |(seq, _)| seq + 1)
    }

    /// Adds a submission; when this returns it is on disk.
    ///
    /// # Errors
    /// The line could not be written and synced, or the payload is not JSON.
    pub fn add(&mut self, pcs_id: &str, payload: &str, now: f64) -> io::Result<u64> {
        let seq = self.next_seq();
        let raw = RawValue::from_string(payload.to_owned())?;
        let line = Line {
            seq,
            pcs_id: pcs_id.to_owned(),
            payload: raw,
            created_at: now,
            acked: false,
            acked_at: None,
        };
        self.append(&serde_json::to_vec(&line)?)?;
        let entry = Entry {
            seq,
            pcs_id: pcs_id.to_owned(),
            payload: payload.to_owned(),
            created_at: now,
            acked_at: None,
        };
        self.by_id.insert(entry.pcs_id.clone(), seq);
        self.entries.insert(seq, entry);
        Ok(seq)
    }

    /// Notes that a server answered; when this returns it is on disk.
    ///
    /// # Errors
    /// The line could not be written and synced.
    pub fn ack(&mut self, seq: u64, now: f64) -> io::Result<()> {
        self.append(&serde_json::to_vec(&Ack { ack: seq, acked_at: now })?)?;
        if let Some(entry) = self.entries.get_mut(&seq) {
            entry.acked_at = Some(now);
        }
        Ok(())
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
        self.file.write_all(&bytes)?;
        self.file.sync_data()
    }

    /// Writes the file anew with what is unanswered or younger than [`KEEP_SECONDS`]; the old one stays as `.bak`.
    /// The new file is whole and synced before it takes the old one's name.
    fn compact(&mut self, now: f64) -> io::Result<()> {
        self.entries.retain(|_, entry| entry.acked_at.is_none_or(|at| now - at < KEEP_SECONDS));
        let fresh_path = self.path.with_extension("new");
        let mut fresh =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&fresh_path)?;
        let mut bytes = Vec::new();
        for entry in self.entries.values() {
            let line = Line {
                seq: entry.seq,
                pcs_id: entry.pcs_id.clone(),
                payload: RawValue::from_string(entry.payload.clone())?,
                created_at: entry.created_at,
                acked: entry.acked_at.is_some(),
                acked_at: entry.acked_at,
            };
            serde_json::to_writer(&mut bytes, &line)?;
            bytes.push(b'\n');
        }
        fresh.write_all(&bytes)?;
        fresh.sync_all()?;
        lock(&fresh)?;
        let old = self.path.with_extension("bak");
        let _ = std::fs::remove_file(&old);
        std::fs::hard_link(&self.path, &old)?;
        std::fs::rename(&fresh_path, &self.path)?;
        sync_folder(&self.path)?;
        self.file = fresh;
        Ok(())
    }
}

fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(io::Error::other("another agent has this outbox open")),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// All entries, and how many bytes at the end belong to a line that was cut off.
fn load(file: &mut File) -> io::Result<(BTreeMap<u64, Entry>, u64)> {
    file.rewind()?;
    let mut reader = BufReader::new(file);
    let mut entries = BTreeMap::new();
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        let count = reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)?;
        if count == 0 {
            break;
        }
        if line.pop() != Some(b'\n') {
            if count as u64 == LINE_MAX {
                return Err(bad(number, "is too long"));
            }
            return Ok((entries, count as u64));
        }
        if let Ok(ack) = serde_json::from_slice::<Ack>(&line) {
            let entry: &mut Entry =
                entries.get_mut(&ack.ack).ok_or_else(|| bad(number, "acknowledges what was never sent"))?;
            entry.acked_at = Some(ack.acked_at);
        } else {
            let read: Line =
                serde_json::from_slice(&line).map_err(|error| bad(number, &error.to_string()))?;
            let entry = Entry {
                seq: read.seq,
                pcs_id: read.pcs_id,
                payload: read.payload.get().to_owned(),
                created_at: read.created_at,
                acked_at: read.acked_at,
            };
            if entries.insert(entry.seq, entry).is_some() {
                return Err(bad(number, "has a number that was used before"));
            }
        }
    }
    Ok((entries, 0))
}

fn bad(line: u64, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("line {line} {why}"))
}

/// Appends one line to the file of submissions that a server refused for good; synced when this returns.
///
/// # Errors
/// The line could not be written and synced.
pub fn bury(path: &Path, pcs_id: &str, error: &str, now: f64, payload: &str) -> io::Result<()> {
    #[derive(Serialize)]
    struct Dead<'a> {
        pcs_id: &'a str,
        error: &'a str,
        timestamp: f64,
        pcs: Box<RawValue>,
    }
    let pcs = RawValue::from_string(payload.to_owned())?;
    let mut line = serde_json::to_vec(&Dead { pcs_id, error, timestamp: now, pcs })?;
    line.push(b'\n');
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(&line)?;
    file.sync_all()?;
    sync_folder(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unanswered(outbox: &Outbox) -> Vec<u64> {
        outbox.unanswered().map(|entry| entry.seq).collect()
    }

    #[test]
    fn what_was_written_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/outbox.jsonl");
        let mut outbox = Outbox::open(&path, 0.0).unwrap();
        let payload = "{\"b\": 1.50, \"a\":\"\\u00e9\"}";
        assert_eq!(outbox.add("one", payload, 1.0).unwrap(), 1);
        assert_eq!(outbox.add("two", "{}", 2.0).unwrap(), 2);
        outbox.ack(1, 3.0).unwrap();
        drop(outbox);
        let outbox = Outbox::open(&path, 4.0).unwrap();
        assert_eq!(unanswered(&outbox), [2]);
        let one = outbox.find("one").unwrap();
        assert_eq!((one.payload.as_str(), one.acked_at), (payload, Some(3.0)));
        assert_eq!(outbox.next_seq(), 3);
    }

    #[test]
    fn one_agent_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("o.jsonl");
        let held = Outbox::open(&path, 0.0).unwrap();
        assert!(Outbox::open(&path, 0.0).unwrap_err().to_string().contains("another agent"));
        drop(held);
        Outbox::open(&path, 0.0).unwrap();
    }

    /// A crash may cut the last line at any byte. Whatever is left: earlier lines hold, the cut line is as if it
    /// had never been, and what is written next is read back.
    #[test]
    fn a_cut_line_was_never_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("o.jsonl");
        let mut outbox = Outbox::open(&path, 0.0).unwrap();
        outbox.add("one", "{}", 1.0).unwrap();
        let whole = std::fs::metadata(&path).unwrap().len();
        outbox.add("two", "{\"x\":\"y\"}", 2.0).unwrap();
        drop(outbox);
        let bytes = std::fs::read(&path).unwrap();
        for end in whole as usize..bytes.len() {
            std::fs::write(&path, &bytes[..end]).unwrap();
            let mut outbox = Outbox::open(&path, 3.0).unwrap();
            assert_eq!(outbox.torn, end > whole as usize);
            assert_eq!(unanswered(&outbox), [1]);
            assert_eq!(outbox.add("two", "{}", 3.0).unwrap(), 2);
            drop(outbox);
            assert_eq!(unanswered(&Outbox::open(&path, 3.0).unwrap()), [1, 2]);
        }
    }

    #[test]
    fn a_damaged_middle_is_an_error_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("o.jsonl");
        for (text, line) in [("{\"ack\":1}\n{}\n", "line 1"), ("{\"ack\":7,\"acked_at\":1.0}\n", "line 1")] {
            std::fs::write(&path, text).unwrap();
            let error = Outbox::open(&path, 0.0).unwrap_err();
            assert!(error.to_string().starts_with(line), "{error}");
        }
    }

    #[test]
    fn compaction_keeps_what_is_unanswered_or_young() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("o.jsonl");
        let mut outbox = Outbox::open(&path, 0.0).unwrap();
        for id in ["old", "young", "open"] {
            outbox.add(id, "{}", 0.0).unwrap();
        }
        outbox.ack(1, 0.0).unwrap();
        outbox.ack(2, KEEP_SECONDS).unwrap();
        outbox.compact(KEEP_SECONDS + 1.0).unwrap();
        outbox.add("after", "{}", KEEP_SECONDS).unwrap();
        drop(outbox);
        let outbox = Outbox::open(&path, KEEP_SECONDS + 1.0).unwrap();
        assert!(outbox.find("old").is_none());
        assert_eq!(outbox.find("young").unwrap().seq, 2);
        assert_eq!(unanswered(&outbox), [3, 4]);
        assert!(path.with_extension("bak").exists());
    }

    #[test]
    fn dead_letters_pile_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead.jsonl");
        bury(&path, "a", "400 Invalid JSON", 1.0, "{\"x\":1}").unwrap();
        bury(&path, "b", "401", 2.0, "{}").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"pcs_id\":\"a\",\"error\":\"400 Invalid JSON\",\"timestamp\":1.0,\"pcs\":{\"x\":1}}\n\
             {\"pcs_id\":\"b\",\"error\":\"401\",\"timestamp\":2.0,\"pcs\":{}}\n"
        );
    }
}
