//! What of the directory is durable and belongs together.
//!
//! ```text
//! magic 8, table id u64, groups of a file of rows u64, rows u64, demoted u64, expired u64,
//! runs u32, for each: from u64, to u64, keys u64; the rows of the unfinished group and their sums;
//! BLAKE3 of everything before 32
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use engine::codec::{DecodeError, Reader};
use engine::ledger::TableError;

use super::rows::tail_bytes;
use super::{TableOptions, disk, write_whole};

const MAGIC: &[u8; 8] = b"FLKIDX1\n";
const NAME: &str = "manifest";

/// More runs than any policy of merging leaves.
const RUNS_MAX: u32 = 1024;

/// One run, as the manifest knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunEntry {
    /// The first row it covers.
    pub(super) from: u64,
    /// The row after the last it covers.
    pub(super) to: u64,
    /// Entries in it.
    pub(super) keys: u64,
}

impl RunEntry {
    pub(super) fn name(&self) -> String {
        format!("run-{:012}-{:012}", self.from, self.to)
    }

    pub(super) fn draft(&self) -> String {
        format!("{}.new", self.name())
    }
}

/// What is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) id: u64,
    pub(super) piece_groups: u64,
    /// Rows that are durable.
    pub(super) rows: u64,
    /// Those of them in the group that is not full.
    pub(super) tail: Vec<u8>,
    /// Rows below this are found through runs.
    pub(super) demoted: u64,
    /// Keys of rows below this will not be asked for.
    pub(super) expired: u64,
    /// Neighbours, oldest first.
    pub(super) runs: Vec<RunEntry>,
}

impl Manifest {
    pub(super) fn empty(options: &TableOptions) -> Manifest {
        let TableOptions { id, piece_groups, .. } = *options;
        Manifest { id, piece_groups, rows: 0, tail: Vec::new(), demoted: 0, expired: 0, runs: Vec::new() }
    }

    /// The directory's manifest; `None` if there is none, or it is another table's.
    pub(super) fn read(dir: &Path, options: &TableOptions) -> Result<Option<Manifest>, TableError> {
        let bytes = match fs::read(dir.join(NAME)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(disk("read manifest", &error)),
        };
        let damaged = |_| TableError::Damaged { part: "manifest", number: 0 };
        let manifest = Manifest::decode(&bytes).map_err(damaged)?;
        let same = manifest.id == options.id && manifest.piece_groups == options.piece_groups;
        Ok(same.then_some(manifest))
    }

    /// Removes the directory's manifest. If even that fails, what follows from it is checked again anyway.
    pub(super) fn remove(dir: &Path) {
        let _ = fs::remove_file(dir.join(NAME));
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), TableError> {
        write_whole(dir, NAME, &self.encode())
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for number in [self.id, self.piece_groups, self.rows, self.demoted, self.expired] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&(self.runs.len() as u32).to_le_bytes());
        for run in &self.runs {
            for number in [run.from, run.to, run.keys] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        out.extend_from_slice(&self.tail);
        let sum = blake3::hash(&out);
        out.extend_from_slice(sum.as_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Manifest, DecodeError> {
        let (body, sum) = bytes.split_last_chunk::<32>().ok_or(DecodeError::Short("digest"))?;
        if blake3::hash(body).as_bytes() != sum {
            return Err(DecodeError::OutOfBounds("digest"));
        }
        let mut reader = Reader::new(body);
        if reader.array::<8>("magic")? != *MAGIC {
            return Err(DecodeError::OutOfBounds("magic"));
        }
        let id = reader.u64("id")?;
        let piece_groups = reader.u64("piece groups")?;
        let rows = reader.u64("rows")?;
        let demoted = reader.u64("demoted")?;
        let expired = reader.u64("expired")?;
        let count = reader.u32("runs")?;
        if count > RUNS_MAX || piece_groups == 0 || demoted > rows {
            return Err(DecodeError::OutOfBounds("manifest"));
        }
        let mut runs: Vec<RunEntry> = Vec::new();
        for _ in 0..count {
            let run =
                RunEntry { from: reader.u64("from")?, to: reader.u64("to")?, keys: reader.u64("keys")? };
            let follows = runs.last().is_none_or(|before| before.to == run.from);
            if !follows || run.from >= run.to || run.keys > run.to - run.from || run.to > demoted {
                return Err(DecodeError::OutOfBounds("run"));
            }
            runs.push(run);
        }
        let tail = reader.remaining().to_vec();
        if tail.len() as u64 != tail_bytes(rows) {
            return Err(DecodeError::OutOfBounds("tail"));
        }
        Ok(Manifest { id, piece_groups, rows, tail, demoted, expired, runs })
    }
}

/// Feeds bytes, with the digest that belongs to them, to the manifest's decoder.
///
/// # Panics
/// If it accepts what it would not have written.
pub fn fuzz_manifest(bytes: &[u8]) {
    let mut summed = bytes.to_vec();
    summed.extend_from_slice(blake3::hash(bytes).as_bytes());
    if let Ok(manifest) = Manifest::decode(&summed) {
        assert_eq!(manifest.encode(), summed, "one manifest, one text");
    }
}

/// What [`fuzz_manifest`] starts from: the bytes of a manifest without its digest.
#[must_use]
pub fn manifest_seed() -> Vec<u8> {
    let runs = vec![RunEntry { from: 0, to: 39, keys: 39 }, RunEntry { from: 39, to: 78, keys: 30 }];
    let tail = vec![7; tail_bytes(80) as usize];
    let mut bytes =
        Manifest { id: 1, piece_groups: 4, rows: 80, tail, demoted: 78, expired: 5, runs }.encode();
    bytes.truncate(bytes.len() - 32);
    bytes
}
