//! Reads leaves back from the WORM files: by their place in the tree, or by their record.
//!
//! A line says its record and not its place in the tree, so a place is found by counting lines. Where every 256th line of a
//! file begins is kept for the files that were read last: who reads on, or reads a leaf here and there, does not count
//! from the beginning again. What is kept stays true, because which bytes follow a file's first leaf follows from the log.

use super::worm::Span;
use engine::leaf::Leaf;
use engine::log::Lsn;
use engine::tree::tiles::WIDTH;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Files whose marks are kept.
const FILES_MAX: usize = 64;

/// What reads the files of one directory.
pub struct Lines {
    dir: PathBuf,
    /// The file that was read last is the last. L1: [`FILES_MAX`] files, of each a number for 256 lines.
    marks: Mutex<VecDeque<Marks>>,
}

/// Where lines of one file begin.
#[derive(Clone)]
struct Marks {
    /// The file's first leaf, which no other file has.
    first: u64,
    /// Of lines 0, 256, 512 and so on, as far as it was read.
    begins: Vec<u64>,
}

impl Lines {
    /// What reads the files of this directory.
    pub fn of(dir: PathBuf) -> Lines {
        Lines { dir, marks: Mutex::default() }
    }

    /// Which directory that is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Hands over leaves `from..to` as far as they are in this file, one after the other, without their newlines.
    ///
    /// # Errors
    /// When the file cannot be read or is shorter.
    pub fn each(&self, span: &Span, from: u64, to: u64, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let mut marks = self.marks(span.first);
        let known = marks.begins.len();
        let (from, to) = (from.max(span.first) - span.first, to.min(span.first + span.count) - span.first);
        let nearest = (from / WIDTH).min(known as u64 - 1);
        let mut at = marks.begins[nearest as usize];
        let mut file = File::open(self.dir.join(&span.path))?;
        file.seek(io::SeekFrom::Start(at))?;
        let mut reader = BufReader::with_capacity(64 << 10, file);
        let mut line = Vec::new();
        for nth in nearest * WIDTH..to {
            if nth == marks.begins.len() as u64 * WIDTH {
                marks.begins.push(at);
            }
            line.clear();
            at += reader.read_until(b'\n', &mut line)? as u64;
            if line.pop() != Some(b'\n') {
                let seq = span.first + nth;
                return Err(io::Error::other(format!("{} ends before leaf {seq}", span.path.display())));
            }
            if nth >= from {
                take(&line);
            }
        }
        if marks.begins.len() > known {
            self.keep(marks);
        }
        Ok(())
    }

    fn marks(&self, first: u64) -> Marks {
        let mut all = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        match all.iter().position(|marks| marks.first == first).and_then(|at| all.remove(at)) {
            Some(marks) => {
                all.push_back(marks.clone());
                marks
            }
            None => Marks { first, begins: vec![0] },
        }
    }

    fn keep(&self, marks: Marks) {
        let mut all = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| other.first != marks.first);
        if all.len() == FILES_MAX {
            all.pop_front();
        }
        all.push_back(marks);
    }
}

/// The leaves of records `from..=to` in these files, without their newlines. Lines are in the order of the log, so the first is
/// found by halves, and files are read from there.
///
/// # Errors
/// When a file cannot be read or is no WORM file.
pub fn of_records(dir: &Path, spans: &[Span], from: Lsn, to: Lsn) -> io::Result<Vec<Vec<u8>>> {
    let open =
        |span: &Span| File::open(dir.join(&span.path)).map(|file| BufReader::with_capacity(4096, file));
    // Files before the last that begins before `from` hold nothing of it.
    let (mut low, mut high) = (0, spans.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let first = next_line(&mut open(&spans[middle])?)?.map(|line| lsn_of(&line)).transpose()?;
        if first.is_some_and(|lsn| lsn < from) { low = middle + 1 } else { high = middle }
    }
    let mut out = Vec::new();
    for span in &spans[low.saturating_sub(1)..] {
        let mut reader = open(span)?;
        let begin = seek_record(&mut reader, span.bytes, from)?;
        reader.seek(io::SeekFrom::Start(begin))?;
        let mut lines = reader.take(span.bytes - begin);
        while let Some(line) = next_line(&mut lines)? {
            if lsn_of(&line)? > to {
                return Ok(out);
            }
            out.push(line);
        }
    }
    Ok(out)
}

/// Where the first line of record `from` or a later one begins in a file of so many bytes.
fn seek_record(reader: &mut BufReader<File>, bytes: u64, from: Lsn) -> io::Result<u64> {
    // Lines that begin before `low` are of earlier records, those that begin at or after `high` are not.
    let (mut low, mut high) = (0, bytes);
    while low < high {
        let middle = low + (high - low) / 2;
        let before = middle.saturating_sub(1);
        reader.seek(io::SeekFrom::Start(before))?;
        let begin = if middle > 0 { before + reader.skip_until(b'\n')? as u64 } else { 0 };
        let line = if begin < high { next_line(reader)? } else { None };
        match line {
            Some(line) if lsn_of(&line)? < from => low = begin + line.len() as u64 + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

fn next_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.pop() == Some(b'\n') { Ok(Some(line)) } else { Err(io::Error::other("a line ends early")) }
}

fn lsn_of(line: &[u8]) -> io::Result<Lsn> {
    Leaf::parse(line).map(|leaf| leaf.lsn).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::projections::worm::{Rotation, Worm};
    use engine::leaf::What;
    use engine::ledger::RefusedReason;
    use engine::log::Digest;

    const START: u64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z

    /// Files with about so many bytes each, and the lines in them with their records.
    fn filled(dir: &Path, max_bytes: u64, records: u64) -> (Vec<Span>, Vec<(u64, Vec<u8>)>) {
        let mut worm = Worm::new(dir.into(), Rotation { box_ms: 3_600_000, max_bytes });
        let (mut spans, mut lines) = (Vec::new(), Vec::new());
        // Of three records one has no leaf, one has one, and one has two.
        let places = (1..records).flat_map(|n| [(3 * n, 0), (3 * n + 1, 0), (3 * n + 1, 5)]);
        for (seq, (lsn, nth)) in (0..).zip(places) {
            let reason = RefusedReason::Malformed;
            let what = What::Refused { tenant: None, reason, commitment: Digest::ZERO };
            // Of a second a record is in two files, if it is.
            let time_ms = START + 200 * seq;
            let line = Leaf { lsn: Lsn(lsn), nth, time_ms, region: "r".into(), what }.encode();
            spans.extend(worm.append(seq, time_ms, &line, &engine::tree::leaf_hash(&line)).unwrap());
            lines.push((lsn, line));
        }
        worm.flush().unwrap();
        spans.extend(worm.span());
        (spans, lines)
    }

    #[test]
    fn the_leaves_of_records_are_found_in_all_files() {
        let dir = tempfile::tempdir().unwrap();
        let (spans, lines) = filled(dir.path(), 900, 40);
        assert!(spans.len() > 10);
        for (from, to) in (0..125).flat_map(|from| [(from, from), (from, from + 4), (from, 200)]) {
            let wanted = lines.iter().filter(|(lsn, _)| (from..=to).contains(lsn));
            let wanted: Vec<&Vec<u8>> = wanted.map(|(_, line)| line).collect();
            let found = of_records(dir.path(), &spans, Lsn(from), Lsn(to)).unwrap();
            assert_eq!(found.iter().collect::<Vec<_>>(), wanted, "{from} to {to}");
        }
    }

    #[test]
    fn leaves_are_found_by_their_place_from_wherever_was_read_before() {
        let dir = tempfile::tempdir().unwrap();
        let (spans, lines) = filled(dir.path(), 250_000, 1000);
        assert!(spans.len() > 2 && spans[0].count > 3 * WIDTH, "{spans:?}");
        let wanted = |span: &Span, from: u64, to: u64| -> Vec<Vec<u8>> {
            let end = (span.first + span.count).min(to);
            (span.first.max(from)..end).map(|seq| lines[seq as usize].1.clone()).collect()
        };
        let kept = Lines::of(dir.path().into());
        let found = |lines: &Lines, span: &Span, from: u64, to: u64| {
            let mut found = Vec::new();
            lines.each(span, from, to, |line| found.push(line.to_vec())).unwrap();
            found
        };
        for step in [1, 255, 256, 257, 700] {
            let places =
                (0..lines.len() as u64).step_by(97).chain((0..lines.len() as u64).rev().step_by(101));
            for from in places {
                for span in
                    spans.iter().filter(|span| span.first < from + step && span.first + span.count > from)
                {
                    let to = from + step;
                    for lines in [&kept, &Lines::of(dir.path().into())] {
                        assert_eq!(found(lines, span, from, to), wanted(span, from, to), "{from} {to}");
                    }
                }
            }
        }
        spans.iter().for_each(|span| kept.each(span, 0, u64::MAX, |_| ()).unwrap());
        let marks: usize = kept.marks.lock().unwrap().iter().map(|marks| marks.begins.len()).sum();
        let long = spans.iter().filter(|span| span.count > WIDTH);
        assert_eq!(marks as u64, long.map(|span| span.count.div_ceil(WIDTH)).sum::<u64>());
        let longer = Span { count: spans[0].count + 1, ..spans[0].clone() };
        let error = kept.each(&longer, 0, u64::MAX, |_| ()).unwrap_err().to_string();
        assert!(error.contains("ends before leaf"), "{error}");
    }

    #[test]
    fn marks_of_so_many_files_are_kept_and_no_more() {
        let lines = Lines::of(PathBuf::new());
        for first in 0..2 * FILES_MAX as u64 {
            lines.keep(Marks { first, begins: vec![0, 9] });
            assert_eq!(lines.marks(0).begins.len(), 2, "what is read stays");
        }
        assert_eq!(lines.marks.lock().unwrap().len(), FILES_MAX);
        assert_eq!(lines.marks(1).begins, [0]);
    }
}
