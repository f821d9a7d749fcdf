//! First rows and old keys on disk: the durable side of the ledger's port [`Table`].
//!
//! Everything here is a cache of the log. It is written without waiting for the disk and may be lost at any
//! time; what must never happen is that a damaged or stale byte becomes an answer. So every row and every block
//! of a run has a CRC over itself, its place and the table's id, checked each time it is read; filters and
//! fences have a BLAKE3 digest, checked when they are loaded; and the manifest names what belongs together. Any
//! doubt throws all of it away: the log is replayed instead.
//!
//! ```text
//! DIR/manifest              what is durable: rows, runs, the rows of the last unfinished group
//! DIR/rows-<8 digits>       rows, written in groups of 39
//! DIR/run-<from>-<to>       (tag, row) of the rows from..to, sorted, with a filter in memory
//! ```
//!
//! One thread of its own builds runs, merges them and writes the manifest, so that the ledger never waits for
//! a sort or a sync. A run stands in the manifest, and is found through, only once its file and the rows it
//! covers are durable. On a full disk rows wait in memory and runs are not built; both go on when there is room. Of two neighbouring runs the newer is at most half as large as the older: a lookup asks
//! a handful of filters, and a key is merged a handful of times in its life. Files of this directory are
//! mapped; nobody else may shorten them while the table is open.

mod build;
mod manifest;
mod rows;
mod run;
#[cfg(test)]
mod tests;
mod worker;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use engine::ledger::{First, Table, TableError};

pub use manifest::{fuzz_manifest, manifest_seed};
pub use run::{filters_seed, fuzz_filters};

use manifest::Manifest;
use rows::Rows;
use worker::{Job, Office, Runs};

/// What a table is opened with.
#[derive(Clone, Debug)]
pub struct TableOptions {
    /// Names the log this is a cache of; a table of another log is thrown away.
    pub id: u64,
    /// Groups of 39 rows in one file of rows, 4,212 bytes each.
    pub piece_groups: u64,
    /// Whether runs are built on a thread of their own. Without it every call does its work at once, for
    /// tests and simulations.
    pub background: bool,
}

impl TableOptions {
    /// Files of 69 MB, in the background.
    #[must_use]
    pub fn new(id: u64) -> TableOptions {
        TableOptions { id, piece_groups: 16_384, background: true }
    }
}

/// Rows and runs in a directory.
#[derive(Debug)]
pub struct DiskTable {
    dir: PathBuf,
    rows: Rows,
    runs: Arc<Runs>,
    /// Which version of the runs `runs` is.
    seen: u64,
    /// Keys of rows below this may be gone.
    expired: u64,
    office: Office,
    failed: Option<TableError>,
}

/// A wait for rows to be durable.
#[derive(Debug)]
pub struct Syncing {
    rows: u64,
    done: Receiver<Result<(), TableError>>,
}

impl Syncing {
    /// Waits, for as long as the disk takes. Returns how many rows are durable.
    ///
    /// # Errors
    /// [`TableError`]: a snapshot that needs these rows must not be kept.
    pub fn wait(self) -> Result<u64, TableError> {
        self.done.recv().unwrap_or(Err(TableError::Poisoned)).map(|()| self.rows)
    }
}

impl DiskTable {
    /// Opens the table in a directory that nobody else uses, and says with [`Table::rows`] how many rows it
    /// is good for. Whatever cannot be trusted is removed: the table is then empty.
    ///
    /// # Errors
    /// [`TableError::Disk`] if the directory cannot be used at all.
    pub fn open(dir: &Path, options: &TableOptions) -> Result<DiskTable, TableError> {
        fs::create_dir_all(dir).map_err(|error| disk("create table directory", &error))?;
        match DiskTable::take_up(dir, options) {
            Ok(Some(table)) => Ok(table),
            Ok(None) | Err(_) => {
                clear(dir)?;
                DiskTable::start(dir, options, Manifest::empty(options), Runs::default())
            }
        }
    }

    /// The table that the manifest describes, if there is one and all of it can be trusted.
    fn take_up(dir: &Path, options: &TableOptions) -> Result<Option<DiskTable>, TableError> {
        let Some(manifest) = Manifest::read(dir, options)? else { return Ok(None) };
        let mut runs = Runs { runs: Vec::new(), demoted: manifest.demoted };
        for entry in &manifest.runs {
            runs.runs.push(Arc::new(run::Run::open(dir, options.id, entry)?));
        }
        DiskTable::start(dir, options, manifest, runs).map(Some)
    }

    fn start(
        dir: &Path,
        options: &TableOptions,
        manifest: Manifest,
        runs: Runs,
    ) -> Result<DiskTable, TableError> {
        let rows = Rows::open(dir, options, manifest.rows, &manifest.tail)?;
        let runs = Arc::new(runs);
        let expired = manifest.expired;
        let office = Office::open(dir, options, manifest, &runs)?;
        Ok(DiskTable { dir: dir.to_path_buf(), rows, runs, seen: 0, expired, office, failed: None })
    }

    /// Begins to make all rows so far durable, and the runs that cover them. A snapshot of the ledger may be
    /// kept once [`Syncing::wait`] has returned, which may be called on another thread.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn sync(&self) -> Result<Syncing, TableError> {
        self.check()?;
        if self.rows.is_behind() {
            return Err(TableError::Full { operation: "write rows" });
        }
        let (reply, done) = std::sync::mpsc::channel();
        let (files, tail) = self.rows.parts();
        self.office.send(Job::Sync { rows: self.rows.len(), tail, files, reply })?;
        Ok(Syncing { rows: self.rows.len(), done })
    }

    /// Whether rows wait in memory for room on the disk. Writes them first if there is some again.
    pub fn waits_for_room(&mut self) -> bool {
        if self.failed.is_none() && self.rows.is_behind() {
            // What else may be wrong with the disk, the next push says.
            let _ = self.rows.catch_up();
        }
        self.rows.is_behind()
    }

    /// Bytes of memory that filters and fences take, and the keys in runs.
    #[must_use]
    pub fn run_memory(&self) -> (u64, usize) {
        let runs = &self.runs.runs;
        (runs.iter().map(|run| run.keys()).sum(), runs.iter().map(|run| run.memory()).sum())
    }

    /// How many runs a lookup asks.
    #[must_use]
    pub fn run_count(&self) -> usize {
        self.runs.runs.len()
    }

    /// Waits until everything demoted is found through runs.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn settle(&mut self) -> Result<(), TableError> {
        let (reply, done) = std::sync::mpsc::channel();
        self.office.send(Job::Settle { reply })?;
        done.recv().unwrap_or(Err(TableError::Poisoned))?;
        self.refresh()
    }

    fn check(&self) -> Result<(), TableError> {
        self.failed.as_ref().map_or(Ok(()), |_| Err(TableError::Poisoned))
    }

    /// Takes over what the office has finished since.
    fn refresh(&mut self) -> Result<(), TableError> {
        if let Some((version, runs)) = self.office.newer(self.seen)? {
            (self.seen, self.runs) = (version, runs);
        }
        Ok(())
    }

    /// Remembers the first error, and gives it.
    fn guard<R>(&mut self, result: Result<R, TableError>) -> Result<R, TableError> {
        if let Err(error) = &result {
            self.failed.get_or_insert_with(|| error.clone());
        }
        self.doubt(result)
    }

    /// After damage the next opening starts from nothing.
    fn doubt<R>(&self, result: Result<R, TableError>) -> Result<R, TableError> {
        if let Err(TableError::Damaged { .. }) = &result {
            self.office.doubt(&self.dir);
        }
        result
    }
}

impl Table for DiskTable {
    fn push(&mut self, row: &First) -> Result<u64, TableError> {
        self.check()?;
        let pushed = self.refresh().and_then(|()| self.rows.push(row));
        self.guard(pushed)
    }

    fn row(&self, number: u64) -> Result<First, TableError> {
        self.check()?;
        self.doubt(self.rows.get(number))
    }

    fn each(&self, from: u64, take: &mut dyn FnMut(u64, &First)) -> Result<(), TableError> {
        self.check()?;
        self.doubt(self.rows.each(from, take))
    }

    fn rows(&self) -> u64 {
        self.rows.len()
    }

    fn demoted(&self) -> u64 {
        self.runs.demoted
    }

    fn find(&self, tag: u64, out: &mut Vec<u64>) -> Result<(), TableError> {
        self.check()?;
        self.doubt(self.runs.runs.iter().rev().try_for_each(|run| run.find(tag, out)))
    }

    fn demote(&mut self, upto: u64) -> Result<(), TableError> {
        assert!(self.demoted() <= upto && upto <= self.rows(), "demotion goes forward over existing rows");
        self.check()?;
        // Whole groups only, and only those that are in their file.
        let (upto, files) = (rows::whole(upto).min(self.rows.written()), self.rows.parts().0);
        let sent = self.office.send(Job::Demote { upto, files }).and_then(|()| self.refresh());
        self.guard(sent)
    }

    fn expired(&self) -> u64 {
        self.expired
    }

    fn expire(&mut self, row: u64) {
        self.expired = self.expired.max(row);
        let sent = self.office.send(Job::Expire { row });
        let _ = self.guard(sent);
    }

    fn rewind(&mut self, rows: u64) -> Result<(), TableError> {
        self.check()?;
        if rows > self.rows() {
            return Err(TableError::NoSuchRow(rows));
        }
        if rows == self.rows() {
            return Ok(());
        }
        let (reply, done) = std::sync::mpsc::channel();
        let rewound = self
            .rows
            .rewind(rows)
            .and_then(|()| self.office.send(Job::Rewind { rows, tail: self.rows.parts().1, reply }))
            .and_then(|()| done.recv().unwrap_or(Err(TableError::Poisoned)))
            .and_then(|()| self.refresh());
        self.guard(rewound)
    }
}

/// Removes our files, and only ours.
fn clear(dir: &Path) -> Result<(), TableError> {
    let entries = fs::read_dir(dir).map_err(|error| disk("list table directory", &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| disk("list table directory", &error))?;
        if ours(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path()).map_err(|error| disk("remove table file", &error))?;
        }
    }
    Ok(())
}

fn ours(name: &str) -> bool {
    name.starts_with("manifest") || name.starts_with("rows-") || name.starts_with("run-")
}

fn disk(operation: &'static str, error: &io::Error) -> TableError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => TableError::Full { operation },
        _ => TableError::Disk { operation, error: error.to_string() },
    }
}

/// The same for a sync, which is never tried again: the kernel may have dropped the bytes and call the file clean.
fn unsynced(operation: &'static str, error: &io::Error) -> TableError {
    TableError::Disk { operation, error: error.to_string() }
}

/// Makes a directory's names durable.
fn sync_dir(dir: &Path) -> Result<(), TableError> {
    fs::File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| unsynced("sync table directory", &error))
}

/// Writes a file whole or not at all, durably.
fn write_whole(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), TableError> {
    let (target, draft): (PathBuf, PathBuf) = (dir.join(name), dir.join(format!("{name}.new")));
    fs::write(&draft, bytes)
        .and_then(|()| fs::File::open(&draft)?.sync_all())
        .and_then(|()| fs::rename(&draft, &target))
        .map_err(|error| disk("write table file", &error))?;
    sync_dir(dir)
}
