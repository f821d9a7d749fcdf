//! Where the ledger keeps first rows and old keys: `DIR/proj/index`, a cache of the log.

use engine::ledger::TableError;
use segments::runs::{DiskTable, TableOptions};
use std::io;
use std::path::{Path, PathBuf};

/// The table the ledger uses.
pub type Index = DiskTable;

fn place(proj: &Path) -> PathBuf {
    proj.join("index")
}

/// Makes an empty table, in place of what may be there.
///
/// # Errors
/// When the disk refuses.
pub fn create(proj: &Path, id: u64) -> Result<Index, TableError> {
    match std::fs::remove_dir_all(place(proj)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(TableError::Disk { operation: "remove old index", error: error.to_string() });
        }
        _ => {}
    }
    open(proj, id)
}

/// Opens the table of the log named `id`. One that cannot be trusted comes back empty.
///
/// # Errors
/// When the disk refuses.
pub fn open(proj: &Path, id: u64) -> Result<Index, TableError> {
    DiskTable::open(&place(proj), &TableOptions::new(id))
}
