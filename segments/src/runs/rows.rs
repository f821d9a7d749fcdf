//! Rows, one after the other.
//!
//! ```text
//! row   104 bytes, then CRC-32 of table id u64, number u64 and the row
//! ```
//! A row's place follows from its number, and its sum from its place: a row of another table or another place
//! does not pass for this one. Rows are written 39 at a time; until then they are in memory. They lie in files
//! of a fixed number of rows, which have their full length from the start and are mapped. On a full disk groups stay in
//! memory, too, up to [`UNWRITTEN_MAX`], and are written when there is room.

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::ledger::{First, TableError};
use memmap2::Mmap;

use super::{TableOptions, disk, unsynced};
use crate::bytes::fetch;
use crate::steps::write_out;

/// Rows that are written together: about a page.
pub(super) const GROUP: u64 = 39;

/// Bytes of a row and its sum.
const SLOT: usize = First::SIZE + 4;

/// Bytes of rows that may wait in memory for room on the disk.
const UNWRITTEN_MAX: usize = 128 << 20;

/// One file of rows.
#[derive(Debug)]
pub(super) struct Piece {
    file: File,
    map: Mmap,
}

impl Piece {
    fn create(dir: &Path, number: u64, rows: u64) -> Result<Piece, TableError> {
        let path = dir.join(format!("rows-{number:08}"));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|error| disk("create rows", &error))?;
        file.set_len(rows * SLOT as u64).map_err(|error| disk("size rows", &error))?;
        Piece::map(file)
    }

    fn open(dir: &Path, number: u64, rows: u64) -> Result<Piece, TableError> {
        let file = OpenOptions::new().read(true).write(true).open(dir.join(format!("rows-{number:08}")));
        let file = file.map_err(|error| disk("open rows", &error))?;
        let length = file.metadata().map_err(|error| disk("open rows", &error))?.len();
        if length != rows * SLOT as u64 {
            return Err(TableError::Damaged { part: "file of rows", number });
        }
        Piece::map(file)
    }

    fn map(file: File) -> Result<Piece, TableError> {
        // SAFETY: the map is only read, and no one shortens the file: the directory is this table's alone, as
        // its documentation demands, and the length is set once, before.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| disk("map rows", &error))?;
        Ok(Piece { file, map })
    }

    /// Makes the bytes from `from` on durable.
    fn sync(&self, from: u64) -> Result<(), TableError> {
        let synced = write_out(&self.file, from).and_then(|()| self.file.sync_data());
        synced.map_err(|error| unsynced("sync rows", &error))
    }
}

/// The files, as far as whole groups of rows are in them.
#[derive(Clone, Debug)]
pub(super) struct Files {
    id: u64,
    piece_rows: u64,
    pieces: Vec<Arc<Piece>>,
}

impl Files {
    fn row(&self, number: u64) -> Result<First, TableError> {
        let piece = usize::try_from(number / self.piece_rows).ok().and_then(|piece| self.pieces.get(piece));
        let start = (number % self.piece_rows) as usize * SLOT;
        let slot = piece.and_then(|piece| piece.map.get(start..start + SLOT)).unwrap_or_default();
        fetch(slot);
        read(slot, self.id, number)
    }

    /// Reads the rows of a range.
    pub(super) fn each(
        &self,
        range: Range<u64>,
        take: &mut dyn FnMut(u64, &First),
    ) -> Result<(), TableError> {
        for number in range {
            take(number, &self.row(number)?);
        }
        Ok(())
    }

    /// Makes the rows from `from` on durable.
    pub(super) fn sync(&self, from: u64) -> Result<(), TableError> {
        let first = usize::try_from(from / self.piece_rows).unwrap_or(usize::MAX);
        let mut from = from % self.piece_rows * SLOT as u64;
        self.pieces.iter().skip(first).try_for_each(|piece| piece.sync(std::mem::take(&mut from)))
    }
}

/// All rows, those of the last unfinished group in memory.
#[derive(Debug)]
pub(super) struct Rows {
    dir: PathBuf,
    files: Files,
    len: u64,
    /// Rows in the files: whole groups.
    written: u64,
    /// The rows after them, with their sums: the unfinished group, and on a full disk those before it.
    tail: Vec<u8>,
}

impl Rows {
    /// Takes up `len` rows, the last ones from `tail`.
    pub(super) fn open(
        dir: &Path,
        options: &TableOptions,
        len: u64,
        tail: &[u8],
    ) -> Result<Rows, TableError> {
        assert_eq!(tail.len() as u64, tail_bytes(len), "the manifest was checked");
        let piece_rows = options.piece_groups * GROUP;
        let mut pieces = Vec::new();
        for piece in 0..whole(len).div_ceil(piece_rows) {
            pieces.push(Arc::new(Piece::open(dir, piece, piece_rows)?));
        }
        let files = Files { id: options.id, piece_rows, pieces };
        let rows = Rows { dir: dir.to_path_buf(), files, len, written: whole(len), tail: tail.to_vec() };
        (whole(len)..len).try_for_each(|number| rows.get(number).map(drop))?;
        Ok(rows)
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Rows in the files.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Whether whole groups wait for room on the disk.
    pub(super) fn is_behind(&self) -> bool {
        self.written < whole(self.len)
    }

    /// The files, and the rows that are not in them yet.
    pub(super) fn parts(&self) -> (Files, Vec<u8>) {
        (self.files.clone(), self.tail.clone())
    }

    pub(super) fn push(&mut self, row: &First) -> Result<u64, TableError> {
        let bytes = row.encode();
        self.tail.extend_from_slice(&bytes);
        self.tail.extend_from_slice(&sum(&bytes, self.files.id, self.len).to_le_bytes());
        self.len += 1;
        if self.len.is_multiple_of(GROUP) {
            match self.catch_up() {
                Err(TableError::Full { .. }) if self.tail.len() < UNWRITTEN_MAX => {}
                written => written?,
            }
        }
        Ok(self.len - 1)
    }

    /// Writes the groups that are whole.
    pub(super) fn catch_up(&mut self) -> Result<(), TableError> {
        while self.is_behind() {
            self.write_group(self.written)?;
            self.tail.drain(..GROUP as usize * SLOT);
            self.written += GROUP;
        }
        Ok(())
    }

    fn write_group(&mut self, first: u64) -> Result<(), TableError> {
        let piece_rows = self.files.piece_rows;
        let piece = first / piece_rows;
        if piece == self.files.pieces.len() as u64 {
            self.files.pieces.push(Arc::new(Piece::create(&self.dir, piece, piece_rows)?));
        }
        let offset = first % piece_rows * SLOT as u64;
        let file = &self.files.pieces[piece as usize].file;
        file.write_all_at(&self.tail[..GROUP as usize * SLOT], offset)
            .map_err(|error| disk("write rows", &error))
    }

    pub(super) fn get(&self, number: u64) -> Result<First, TableError> {
        if number >= self.len {
            return Err(TableError::NoSuchRow(number));
        }
        if number < self.written {
            return self.files.row(number);
        }
        let start = (number - self.written) as usize * SLOT;
        read(&self.tail[start..start + SLOT], self.files.id, number)
    }

    pub(super) fn each(&self, from: u64, take: &mut dyn FnMut(u64, &First)) -> Result<(), TableError> {
        for number in from..self.len {
            take(number, &self.get(number)?);
        }
        Ok(())
    }

    /// Forgets the rows at and beyond `len`. They stay in the files and are written again with the same rows.
    pub(super) fn rewind(&mut self, len: u64) -> Result<(), TableError> {
        let mut tail = Vec::with_capacity(GROUP as usize * SLOT);
        let written = self.written.min(whole(len));
        for number in written..len {
            let bytes = self.get(number)?.encode();
            tail.extend_from_slice(&bytes);
            tail.extend_from_slice(&sum(&bytes, self.files.id, number).to_le_bytes());
        }
        (self.len, self.written, self.tail) = (len, written, tail);
        Ok(())
    }
}

/// The rows of `len` that stand in whole groups.
pub(super) fn whole(len: u64) -> u64 {
    len / GROUP * GROUP
}

/// Bytes of the rows of `len` that do not.
pub(super) fn tail_bytes(len: u64) -> u64 {
    len % GROUP * SLOT as u64
}

fn read(slot: &[u8], id: u64, number: u64) -> Result<First, TableError> {
    let damaged = TableError::Damaged { part: "row", number };
    let Some((row, rest)) = slot.split_first_chunk::<{ First::SIZE }>() else { return Err(damaged) };
    if *rest != sum(row, id, number).to_le_bytes() {
        return Err(damaged);
    }
    First::decode(row).map_err(|_| damaged)
}

fn sum(row: &[u8; First::SIZE], id: u64, number: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&id.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(row);
    hasher.finalize()
}
