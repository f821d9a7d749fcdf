//! Reading the WORM files: `YYYY/MM/DD/HHMMSS.jsonl`, one audit leaf a line, in the order of the log.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use engine::limits::LEAF_MAX;

/// All WORM files below `dir`, in the order of their lines: names are event times, which never go back.
///
/// # Errors
/// A folder cannot be read.
pub fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![(dir.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                if depth < 3 {
                    folders.push((path, depth + 1));
                }
            } else if depth == 3 && path.extension().is_some_and(|extension| extension == "jsonl") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Where a line stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// Offset of the line's first byte.
    pub offset: u64,
}

/// The lines of many files as one stream, in memory that does not grow with them.
pub struct Lines {
    rest: std::vec::IntoIter<PathBuf>,
    open: Option<(PathBuf, BufReader<File>, u64)>,
    line: Vec<u8>,
}

/// The next line, or why there is none.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// A line without its newline.
    Line(&'a [u8], Place),
    /// A last line without a newline: its write was cut off.
    Torn(Place),
    /// A line longer than any leaf.
    TooLong(Place),
    /// No more.
    End,
}

impl Lines {
    /// The lines of these files, one after the other.
    #[must_use]
    pub fn new(files: Vec<PathBuf>) -> Lines {
        Lines { rest: files.into_iter(), open: None, line: Vec::new() }
    }

    /// The next line.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn next_line(&mut self) -> io::Result<Next<'_>> {
        loop {
            if self.open.is_none() {
                let Some(path) = self.rest.next() else { return Ok(Next::End) };
                let file = File::open(&path)?;
                self.open = Some((path, BufReader::with_capacity(256 << 10, file), 0));
            }
            let Some((path, reader, offset)) = &mut self.open else { return Ok(Next::End) };
            self.line.clear();
            let count = reader.by_ref().take(LEAF_MAX as u64 + 2).read_until(b'\n', &mut self.line)?;
            if count == 0 {
                self.open = None;
                continue;
            }
            let place = Place { path: path.clone(), offset: *offset };
            *offset += count as u64;
            return Ok(if self.line.pop() == Some(b'\n') {
                Next::Line(&self.line, place)
            } else if count > LEAF_MAX + 1 {
                Next::TooLong(place)
            } else {
                Next::Torn(place)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_in_the_order_of_time() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("2026/11/21/100000.jsonl", "three\nfour"),
            ("2025/12/31/235959.jsonl", "one\n"),
            ("2026/01/01/000000.jsonl", "two\n"),
            ("2026/01/01/000000.root", "{}"),
            ("note.jsonl", "not a WORM file"),
        ] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let mut lines = Lines::new(files(folder.path()).unwrap());
        let mut seen = Vec::new();
        loop {
            match lines.next_line().unwrap() {
                Next::Line(line, place) => {
                    seen.push((String::from_utf8_lossy(line).into_owned(), place.offset))
                }
                Next::Torn(place) => {
                    assert_eq!(place.offset, 6);
                    seen.push(("torn".into(), 0));
                }
                Next::TooLong(_) => panic!(),
                Next::End => break,
            }
        }
        let want =
            [("one", 0), ("two", 0), ("three", 0), ("torn", 0)].map(|(text, at)| (text.to_owned(), at));
        assert_eq!(seen, want);
    }

    #[test]
    fn an_endless_line_does_not_fill_the_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, vec![b'x'; 3 * LEAF_MAX]).unwrap();
        let mut lines = Lines::new(vec![path.clone()]);
        assert_eq!(lines.next_line().unwrap(), Next::TooLong(Place { path, offset: 0 }));
    }
}
