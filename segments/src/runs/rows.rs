//! Rows in blocks.
//!
//! ```text
//! block  39 rows of 104 bytes, number u64, table id u64, zero 20, CRC-32 of everything before u32
//! ```
//! A block is written once, when its 39th row arrives; until then its rows are in memory. Blocks lie one after
//! the other in files of a fixed number of them, which have their full length from the start and are mapped.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::ledger::{First, TableError};
use memmap2::Mmap;

use super::{TableOptions, disk};

/// Block size, bytes.
pub(super) const BLOCK: usize = 4096;

/// Rows of a block.
pub(super) const ROWS: u64 = 39;

/// Rows' bytes in a block.
const BODY: usize = ROWS as usize * First::SIZE;

const _: () = assert!(BODY + 8 + 8 + 20 + 4 == BLOCK);

/// One file of blocks.
#[derive(Debug)]
pub(super) struct Piece {
    file: File,
    map: Mmap,
    /// The number of its first block.
    first: u64,
}

impl Piece {
    fn create(dir: &Path, number: u64, blocks: u64) -> Result<Piece, TableError> {
        let path = dir.join(format!("rows-{number:08}"));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|error| disk("create rows", &error))?;
        file.set_len(blocks * BLOCK as u64).map_err(|error| disk("size rows", &error))?;
        Piece::map(file, number, blocks)
    }

    fn open(dir: &Path, number: u64, blocks: u64) -> Result<Piece, TableError> {
        let file = OpenOptions::new().read(true).write(true).open(dir.join(format!("rows-{number:08}")));
        let file = file.map_err(|error| disk("open rows", &error))?;
        let length = file.metadata().map_err(|error| disk("open rows", &error))?.len();
        if length != blocks * BLOCK as u64 {
            return Err(TableError::Damaged { part: "file of rows", number });
        }
        Piece::map(file, number, blocks)
    }

    fn map(file: File, number: u64, blocks: u64) -> Result<Piece, TableError> {
        // SAFETY: the map is only read, and no one shortens the file: the directory is this table's alone, as
        // its documentation demands, and the length is set once, before.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| disk("map rows", &error))?;
        Ok(Piece { file, map, first: number * blocks })
    }

    fn block(&self, id: u64, number: u64) -> Result<&[u8], TableError> {
        let offset = (number - self.first) as usize * BLOCK;
        let block = self.map.get(offset..offset + BLOCK).ok_or(damaged(number))?;
        if is_block(block, id, number) { Ok(&block[..BODY]) } else { Err(damaged(number)) }
    }

    pub(super) fn sync(&self) -> Result<(), TableError> {
        self.file.sync_data().map_err(|error| disk("sync rows", &error))
    }
}

/// All rows, those of the last unfinished block in memory.
#[derive(Debug)]
pub(super) struct Rows {
    dir: PathBuf,
    id: u64,
    piece_blocks: u64,
    pieces: Vec<Arc<Piece>>,
    len: u64,
    /// The unfinished block's rows.
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
        assert_eq!(tail.len() as u64, len % ROWS * First::SIZE as u64, "the manifest was checked");
        let mut rows = Rows {
            dir: dir.to_path_buf(),
            id: options.id,
            piece_blocks: options.piece_blocks,
            pieces: Vec::new(),
            len,
            tail: tail.to_vec(),
        };
        for piece in 0..(len / ROWS).div_ceil(options.piece_blocks) {
            rows.pieces.push(Arc::new(Piece::open(dir, piece, options.piece_blocks)?));
        }
        Ok(rows)
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The rows up to `upto` that stand in finished blocks.
    pub(super) fn whole_blocks(&self, upto: u64) -> u64 {
        upto.min(self.len) / ROWS * ROWS
    }

    /// The files, and the rows that are not in them yet.
    pub(super) fn parts(&self) -> (Vec<Arc<Piece>>, Vec<u8>) {
        (self.pieces.clone(), self.tail.clone())
    }

    pub(super) fn push(&mut self, row: &First) -> Result<u64, TableError> {
        self.tail.extend_from_slice(&row.encode());
        if self.tail.len() == BODY {
            self.write_block(self.len / ROWS)?;
            self.tail.clear();
        }
        self.len += 1;
        Ok(self.len - 1)
    }

    fn write_block(&mut self, number: u64) -> Result<(), TableError> {
        let piece = number / self.piece_blocks;
        if piece == self.pieces.len() as u64 {
            self.pieces.push(Arc::new(Piece::create(&self.dir, piece, self.piece_blocks)?));
        }
        let piece = &self.pieces[piece as usize];
        let block = seal(&self.tail, self.id, number);
        let offset = (number - piece.first) * BLOCK as u64;
        piece.file.write_all_at(&block, offset).map_err(|error| disk("write rows", &error))
    }

    pub(super) fn get(&self, number: u64) -> Result<First, TableError> {
        if number >= self.len {
            return Err(TableError::NoSuchRow(number));
        }
        let block = number / ROWS;
        let rows = if block == self.len / ROWS {
            &self.tail
        } else {
            read_block(&self.pieces, self.id, self.piece_blocks, block)?
        };
        decode(rows, number)
    }

    pub(super) fn each(&self, from: u64, take: &mut dyn FnMut(u64, &First)) -> Result<(), TableError> {
        each(&self.pieces, self.id, self.piece_blocks, from..self.len / ROWS * ROWS, take)?;
        for number in from.max(self.len / ROWS * ROWS)..self.len {
            take(number, &decode(&self.tail, number)?);
        }
        Ok(())
    }

    /// Forgets the rows at and beyond `len`. Their blocks stay and are written again with the same rows.
    pub(super) fn rewind(&mut self, len: u64) -> Result<(), TableError> {
        let block = len / ROWS;
        let kept = (len % ROWS) as usize * First::SIZE;
        if block == self.len / ROWS {
            self.tail.truncate(kept);
        } else {
            self.tail = read_block(&self.pieces, self.id, self.piece_blocks, block)?[..kept].to_vec();
        }
        self.len = len;
        Ok(())
    }
}

/// Reads the rows of a range that stands in finished blocks.
pub(super) fn each(
    pieces: &[Arc<Piece>],
    id: u64,
    piece_blocks: u64,
    range: std::ops::Range<u64>,
    take: &mut dyn FnMut(u64, &First),
) -> Result<(), TableError> {
    let mut number = range.start;
    while number < range.end {
        let rows = read_block(pieces, id, piece_blocks, number / ROWS)?;
        let end = (number / ROWS * ROWS + ROWS).min(range.end);
        for number in number..end {
            take(number, &decode(rows, number)?);
        }
        number = end;
    }
    Ok(())
}

fn read_block(pieces: &[Arc<Piece>], id: u64, piece_blocks: u64, number: u64) -> Result<&[u8], TableError> {
    let piece = usize::try_from(number / piece_blocks).ok().and_then(|piece| pieces.get(piece));
    piece.ok_or(damaged(number))?.block(id, number)
}

fn decode(rows: &[u8], number: u64) -> Result<First, TableError> {
    let start = (number % ROWS) as usize * First::SIZE;
    let row = rows.get(start..).and_then(|rows| rows.first_chunk::<{ First::SIZE }>());
    let first = row.map(First::decode);
    match first {
        Some(Ok(first)) => Ok(first),
        Some(Err(_)) | None => Err(TableError::Damaged { part: "row", number }),
    }
}

fn damaged(number: u64) -> TableError {
    TableError::Damaged { part: "block of rows", number }
}

fn seal(rows: &[u8], id: u64, number: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..BODY].copy_from_slice(rows);
    block[BODY..BODY + 8].copy_from_slice(&number.to_le_bytes());
    block[BODY + 8..BODY + 16].copy_from_slice(&id.to_le_bytes());
    let sum = crc32fast::hash(&block[..BLOCK - 4]);
    block[BLOCK - 4..].copy_from_slice(&sum.to_le_bytes());
    block
}

fn is_block(block: &[u8], id: u64, number: u64) -> bool {
    let trailer = &block[BODY..];
    trailer[..8] == number.to_le_bytes()
        && trailer[8..16] == id.to_le_bytes()
        && block[BLOCK - 4..] == crc32fast::hash(&block[..BLOCK - 4]).to_le_bytes()
}
