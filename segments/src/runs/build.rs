//! Writing a run: sorted entries in, blocks and filters out, in memory that does not grow with the run.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use engine::ledger::TableError;
use xorf::{BinaryFuse16, DmaSerializable};

use super::manifest::RunEntry;
use super::run::{BLOCK, BODY, DESCRIPTOR, ENTRY, MAGIC, Run, seal};
use super::{disk, sync_dir};
use crate::steps::write_out;

/// Keys of one filter at most, on average: building one takes about 30 bytes a key for a moment, and smaller
/// ones need more bits a key.
const FILTER_KEYS: u64 = 1 << 20;

/// A run being written. Entries must come sorted by tag, then row.
pub(super) struct Builder<'a> {
    dir: &'a Path,
    id: u64,
    entry: RunEntry,
    out: BufWriter<File>,
    block: [u8; BLOCK],
    used: usize,
    fences: Vec<u64>,
    /// How many of a tag's first bits choose its filter.
    bits: u32,
    /// Distinct tags of the filter that is being collected.
    tags: Vec<u64>,
    lengths: Vec<u32>,
    filters: Vec<u8>,
}

impl<'a> Builder<'a> {
    /// Begins the run of the rows `from..to`, of which at most `keys` will come.
    pub(super) fn new(
        dir: &'a Path,
        id: u64,
        from: u64,
        to: u64,
        keys: u64,
    ) -> Result<Builder<'a>, TableError> {
        let entry = RunEntry { from, to, keys: 0 };
        let file = File::create(dir.join(entry.draft())).map_err(|error| disk("create run", &error))?;
        let mut out = BufWriter::with_capacity(256 << 10, file);
        out.write_all(&[0; BLOCK]).map_err(|error| disk("write run", &error))?;
        Ok(Builder {
            dir,
            id,
            entry,
            out,
            block: [0xff; BLOCK],
            used: 0,
            fences: Vec::new(),
            bits: keys.div_ceil(FILTER_KEYS).next_power_of_two().trailing_zeros(),
            tags: Vec::new(),
            lengths: Vec::new(),
            filters: Vec::new(),
        })
    }

    pub(super) fn push(&mut self, tag: u64, row: u64) -> Result<(), TableError> {
        if self.used == 0 {
            self.fences.push(tag);
        }
        let entry = &mut self.block[self.used..self.used + ENTRY];
        entry[..8].copy_from_slice(&tag.to_be_bytes());
        entry[8..].copy_from_slice(&row.to_le_bytes()[..5]);
        self.used += ENTRY;
        self.entry.keys += 1;
        if self.used == BODY {
            self.write_block()?;
        }
        let part = tag.checked_shr(u64::BITS - self.bits).unwrap_or(0);
        while (self.lengths.len() as u64) < part {
            self.close_filter()?;
        }
        if self.tags.last() != Some(&tag) {
            self.tags.push(tag);
        }
        Ok(())
    }

    /// Finishes the file, makes it durable under its name and opens it.
    pub(super) fn finish(mut self) -> Result<Run, TableError> {
        if self.used > 0 {
            self.write_block()?;
        }
        while self.lengths.len() < 1 << self.bits {
            self.close_filter()?;
        }
        let mut index: Vec<u8> = self.fences.iter().flat_map(|fence| fence.to_le_bytes()).collect();
        index.extend_from_slice(&(self.lengths.len() as u32).to_le_bytes());
        self.lengths.iter().for_each(|length| index.extend_from_slice(&length.to_le_bytes()));
        index.extend_from_slice(&self.filters);
        let header = self.header(&index);
        let draft = self.dir.join(self.entry.draft());
        self.out
            .write_all(&index)
            .and_then(|()| self.out.into_inner().map_err(std::io::IntoInnerError::into_error))
            .and_then(|file| {
                file.write_all_at(&header, 0)?;
                write_out(&file, 0)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(draft, self.dir.join(self.entry.name())))
            .map_err(|error| disk("write run", &error))?;
        sync_dir(self.dir)?;
        Run::open(self.dir, self.id, &self.entry)
    }

    fn header(&self, index: &[u8]) -> [u8; BLOCK] {
        let mut header = [0; BLOCK];
        header[..8].copy_from_slice(MAGIC);
        let RunEntry { from, to, keys } = self.entry;
        let numbers = [self.id, from, to, keys, self.fences.len() as u64, index.len() as u64];
        for (bytes, number) in header[8..56].chunks_exact_mut(8).zip(numbers) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
        header[56..88].copy_from_slice(blake3::hash(index).as_bytes());
        let sum = blake3::hash(&header[..BLOCK - 32]);
        header[BLOCK - 32..].copy_from_slice(sum.as_bytes());
        header
    }

    fn write_block(&mut self) -> Result<(), TableError> {
        seal(&mut self.block, self.id, self.entry.to, self.fences.len() - 1);
        self.out.write_all(&self.block).map_err(|error| disk("write run", &error))?;
        self.block = [0xff; BLOCK];
        self.used = 0;
        Ok(())
    }

    fn close_filter(&mut self) -> Result<(), TableError> {
        let start = self.filters.len();
        let damaged = TableError::Damaged { part: "filter of run", number: self.entry.from };
        self.filters.extend_from_slice(&filter(&self.tags).ok_or(damaged)?);
        self.tags.clear();
        self.lengths.push((self.filters.len() - start) as u32);
        Ok(())
    }
}

/// The bytes of the filter over distinct tags: none for none. `None` if it could not be made, which distinct
/// tags never lead to.
pub(super) fn filter(tags: &[u64]) -> Option<Vec<u8>> {
    if tags.is_empty() {
        return Some(Vec::new());
    }
    let filter = BinaryFuse16::try_from(tags).ok()?;
    let mut bytes = vec![0; DESCRIPTOR];
    filter.dma_copy_descriptor_to(&mut bytes);
    bytes.extend_from_slice(filter.dma_fingerprints());
    Some(bytes)
}
