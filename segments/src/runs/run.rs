//! One immutable sorted run.
//!
//! ```text
//! header   512 bytes: magic 8, table id u64, from u64, to u64, keys u64, blocks u64, index length u64,
//!          BLAKE3 of the index 32, zeros, BLAKE3 of the header before 32
//! data     blocks of 39 entries: tag u64 big-endian, row 5 bytes little-endian; what is not an entry is 0xff;
//!          then CRC-32 of table id u64, to u64, number of the block u64 and the block before it
//! index    fences: the first tag of each block u64; partitions u32; for each its filter's length u32;
//!          then the filters: descriptor 20, fingerprints u16 each
//! ```
//! Fences and filters are held in memory, about 2.5 bytes a key. Blocks are small because a lookup reads and
//! checks a whole one. A filter covers the tags of one value of
//! their first bits, so that building one needs little memory whatever the size of the run.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use engine::ledger::TableError;
use memmap2::{Advice, Mmap, MmapMut};
use xorf::{BinaryFuse16Ref, Filter, FilterRef};

use super::disk;
use super::manifest::RunEntry;
use crate::bytes::fetch;

pub(super) const BLOCK: usize = 512;
pub(super) const ENTRY: usize = 13;
/// Entries of a block.
pub(super) const ENTRIES: usize = 39;
pub(super) const BODY: usize = ENTRY * ENTRIES;
/// Bytes of a filter before its fingerprints.
pub(super) const DESCRIPTOR: usize = 20;
pub(super) const MAGIC: &[u8; 8] = b"FLKRUN2\n";
const HEADER: usize = 8 * 7 + 32;

const _: () = assert!(BODY + 4 <= BLOCK && BODY + ENTRY + 4 > BLOCK);

/// An open run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) entry: RunEntry,
    id: u64,
    map: Mmap,
    fences: Vec<u64>,
    filters: Filters,
}

/// What is held in memory beside the fences.
#[derive(Debug)]
struct Filters {
    /// How many of a tag's first bits choose its filter.
    bits: u32,
    /// Where each filter stands in `bytes`, and its length; 0 for a filter of no key.
    parts: Vec<(u32, u32)>,
    /// In a map of its own because fingerprints must be aligned.
    bytes: Mmap,
}

impl Run {
    /// Opens the run of a manifest entry and checks everything but its data blocks, which are checked when
    /// they are read.
    pub(super) fn open(dir: &Path, id: u64, entry: &RunEntry) -> Result<Run, TableError> {
        let damaged = || TableError::Damaged { part: "run", number: entry.from };
        let file = File::open(dir.join(entry.name())).map_err(|error| disk("open run", &error))?;
        let mut header = [0; BLOCK];
        file.read_exact_at(&mut header, 0).map_err(|error| disk("read run", &error))?;
        let (body, sum) = header.split_last_chunk::<32>().expect("a block is longer");
        if blake3::hash(body).as_bytes() != sum {
            return Err(damaged());
        }
        let number = |at: usize| u64::from_le_bytes(*header[at..].first_chunk().expect("within the header"));
        let [blocks, index_length] = [number(40), number(48)];
        let expected = [id, entry.from, entry.to, entry.keys];
        if header[..8] != *MAGIC || [number(8), number(16), number(24), number(32)] != expected {
            return Err(damaged());
        }
        if blocks != entry.keys.div_ceil(ENTRIES as u64) || index_length > 8 * blocks + 64 * entry.keys + 4096
        {
            return Err(damaged());
        }
        let mut index = vec![0; index_length as usize];
        file.read_exact_at(&mut index, (1 + blocks) * BLOCK as u64)
            .map_err(|error| disk("read run", &error))?;
        if blake3::hash(&index).as_bytes() != &header[HEADER - 32..HEADER] {
            return Err(damaged());
        }
        let fences = index.get(..8 * blocks as usize).ok_or_else(damaged)?;
        let fences = fences.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().expect("chunks of 8")));
        let fences = fences.collect();
        let filters = Filters::read(&index[8 * blocks as usize..]).ok_or_else(damaged)??;
        // SAFETY: the map is only read; a run's file is never written again and nobody shortens it: the
        // directory is this table's alone, as its documentation demands.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| disk("map run", &error))?;
        if map.len() < (1 + blocks as usize) * BLOCK {
            return Err(damaged());
        }
        Ok(Run { entry: *entry, id, map, fences, filters })
    }

    pub(super) fn keys(&self) -> u64 {
        self.entry.keys
    }

    pub(super) fn memory(&self) -> usize {
        self.fences.capacity() * 8 + self.filters.parts.capacity() * 8 + self.filters.bytes.len()
    }

    /// Appends the rows that may have this tag.
    pub(super) fn find(&self, tag: u64, out: &mut Vec<u64>) -> Result<(), TableError> {
        if self.filters.may_have(tag) {
            self.search(tag, out)?;
        }
        Ok(())
    }

    fn search(&self, tag: u64, out: &mut Vec<u64>) -> Result<(), TableError> {
        // Entries of one tag may run over blocks; the first can stand in the block before its fence.
        let after = first_fence_at(&self.fences, tag);
        for number in after.saturating_sub(1)..self.fences.len() {
            if self.fences[number] > tag {
                break;
            }
            let block = self.block(number)?;
            // Comparing all costs less than a few guesses that the processor gets wrong.
            let low = (0..ENTRIES).filter(|&at| entry(block, at).0 < tag).count();
            let entries = (low..ENTRIES).map(|at| entry(block, at));
            out.extend(
                entries.take_while(|(other, row)| *other == tag && *row != NO_ROW).map(|(_, row)| row),
            );
        }
        Ok(())
    }

    fn block(&self, number: usize) -> Result<&[u8; BLOCK], TableError> {
        let damaged = TableError::Damaged { part: "block of run", number: number as u64 };
        let start = (1 + number) * BLOCK;
        let block = self.map.get(start..).and_then(|rest| rest.first_chunk::<BLOCK>());
        if let Some(block) = block {
            fetch(block);
        }
        match block {
            Some(block) if is_block(block, self.id, self.entry.to, number) => Ok(block),
            _ => Err(damaged),
        }
    }

    /// All entries in order, for a merge.
    pub(super) fn entries(&self) -> Entries<'_> {
        Entries { run: self, block: None, next: 0 }
    }
}

/// Goes through a run in order.
pub(super) struct Entries<'a> {
    run: &'a Run,
    block: Option<&'a [u8; BLOCK]>,
    next: u64,
}

impl Entries<'_> {
    pub(super) fn next(&mut self) -> Result<Option<(u64, u64)>, TableError> {
        if self.next == self.run.keys() {
            return Ok(None);
        }
        let at = self.next as usize % ENTRIES;
        let block = match self.block {
            Some(block) if at > 0 => block,
            _ => self.block.insert(self.run.block(self.next as usize / ENTRIES)?),
        };
        self.next += 1;
        Ok(Some(entry(block, at)))
    }
}

/// What fills the last block: a row number that is never given out.
const NO_ROW: u64 = (1 << 40) - 1;

fn entry(block: &[u8; BLOCK], at: usize) -> (u64, u64) {
    let entry = &block[at * ENTRY..(at + 1) * ENTRY];
    let tag = u64::from_be_bytes(*entry.first_chunk().expect("an entry has 13 bytes"));
    let mut row = [0; 8];
    row[..5].copy_from_slice(&entry[8..]);
    (tag, u64::from_le_bytes(row))
}

/// The first fence that is not below the tag. Tags are evenly spread, so the search starts at the place the
/// tag itself points to and has a few steps to go.
fn first_fence_at(fences: &[u64], tag: u64) -> usize {
    let guess = ((u128::from(tag) * fences.len() as u128) >> 64) as usize;
    let mut step = 8;
    let (mut low, mut high) = (guess, guess);
    while low > 0 && fences[low - 1] >= tag {
        low = low.saturating_sub(step);
        step *= 2;
    }
    step = 8;
    while high < fences.len() && fences[high] < tag {
        high = (high + step).min(fences.len());
        step *= 2;
    }
    low + fences[low..high].partition_point(|&fence| fence < tag)
}

/// Closes a data block: what follows the entries.
pub(super) fn seal(block: &mut [u8; BLOCK], id: u64, to: u64, number: usize) {
    let sum = sum(block, id, to, number);
    block[BLOCK - 4..].copy_from_slice(&sum.to_le_bytes());
}

fn is_block(block: &[u8; BLOCK], id: u64, to: u64, number: usize) -> bool {
    block[BLOCK - 4..] == sum(block, id, to, number).to_le_bytes()
}

fn sum(block: &[u8; BLOCK], id: u64, to: u64, number: usize) -> u32 {
    let mut place = [0; 24];
    place[..8].copy_from_slice(&id.to_le_bytes());
    place[8..16].copy_from_slice(&to.to_le_bytes());
    place[16..].copy_from_slice(&(number as u64).to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&place);
    hasher.update(&block[..BLOCK - 4]);
    hasher.finalize()
}

impl Filters {
    /// Reads what follows the fences; `None` if it is malformed.
    fn read(index: &[u8]) -> Option<Result<Filters, TableError>> {
        let (count, mut rest) = index.split_first_chunk::<4>()?;
        let count = u32::from_le_bytes(*count);
        if !count.is_power_of_two() {
            return None;
        }
        let mut parts = Vec::new();
        let mut start: u32 = 0;
        for _ in 0..count {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let length = u32::from_le_bytes(*length);
            if length % 2 != 0 || (length != 0 && length as usize <= DESCRIPTOR) {
                return None;
            }
            parts.push((start, length));
            start = start.checked_add(length)?;
            rest = after;
        }
        let whole = |&(start, length): &(u32, u32)| {
            length == 0 || is_filter(&rest[start as usize..(start + length) as usize])
        };
        if rest.len() != start as usize || !parts.iter().all(whole) {
            return None;
        }
        Some(Filters::hold(count.trailing_zeros(), parts, rest))
    }

    fn hold(bits: u32, parts: Vec<(u32, u32)>, bytes: &[u8]) -> Result<Filters, TableError> {
        let map = MmapMut::map_anon(bytes.len().max(1)).and_then(|mut map| {
            // Three random places a lookup: large pages save as many misses of the translation. Advice only.
            let _ = map.advise(Advice::HugePage);
            map[..bytes.len()].copy_from_slice(bytes);
            map.make_read_only()
        });
        Ok(Filters { bits, parts, bytes: map.map_err(|error| disk("hold filters", &error))? })
    }

    fn may_have(&self, tag: u64) -> bool {
        let part = tag.checked_shr(u64::BITS - self.bits).unwrap_or(0) as usize;
        let (start, length) = self.parts[part];
        if length == 0 {
            return false;
        }
        let filter = &self.bytes[start as usize..(start + length) as usize];
        let (descriptor, fingerprints) = filter.split_at(DESCRIPTOR);
        BinaryFuse16Ref::from_dma(descriptor, fingerprints).contains(&tag)
    }
}

/// Feeds bytes to the reader of a run's filters and asks what it accepts about a few tags.
///
/// # Panics
/// If an accepted filter points outside itself.
pub fn fuzz_filters(bytes: &[u8]) {
    if let Some(Ok(filters)) = Filters::read(bytes) {
        for tag in (0..64).map(|bit| u64::MAX >> bit) {
            filters.may_have(tag);
        }
    }
}

/// What [`fuzz_filters`] starts from: four filters, one of them of no key.
#[must_use]
pub fn filters_seed() -> Vec<u8> {
    let filters: Vec<Vec<u8>> = [0..50_u64, 0..0, 0..3, 0..1]
        .into_iter()
        .zip(0_u64..)
        .map(|(numbers, part)| {
            super::build::filter(&numbers.map(|n| part << 62 | n << 8).collect::<Vec<_>>())
        })
        .map(|filter| filter.unwrap_or_default())
        .collect();
    let mut bytes = 4_u32.to_le_bytes().to_vec();
    filters.iter().for_each(|filter| bytes.extend_from_slice(&(filter.len() as u32).to_le_bytes()));
    filters.iter().for_each(|filter| bytes.extend_from_slice(filter));
    bytes
}

/// Whether every place a filter's numbers can point to lies in its fingerprints.
fn is_filter(filter: &[u8]) -> bool {
    let (descriptor, fingerprints) = filter.split_at(DESCRIPTOR);
    let number = |at: usize| u32::from_le_bytes(*descriptor[at..].first_chunk().expect("within 20 bytes"));
    let [segment, mask, segments] = [number(8), number(12), number(16)];
    segment.is_power_of_two()
        && mask == segment - 1
        && segments.is_multiple_of(segment)
        && segments > 0
        && u64::from(segments) + 2 * u64::from(segment) == fingerprints.len() as u64 / 2
}

#[cfg(test)]
mod tests {
    use super::first_fence_at;

    #[test]
    fn the_guess_finds_what_a_plain_search_finds() {
        let even: Vec<u64> = (0..1000).map(|i| i * (u64::MAX / 1000)).collect();
        let skewed: Vec<u64> = (0..1000).map(|i| i * i).collect();
        let same = vec![7; 50];
        for fences in [even, skewed, same, vec![0], vec![u64::MAX], vec![]] {
            let mut tags: Vec<u64> =
                fences.iter().flat_map(|&f| [f.saturating_sub(1), f, f.saturating_add(1)]).collect();
            tags.extend([0, 1, u64::MAX / 2, u64::MAX]);
            for tag in tags {
                assert_eq!(
                    first_fence_at(&fences, tag),
                    fences.partition_point(|&fence| fence < tag),
                    "{tag}"
                );
            }
        }
    }
}
