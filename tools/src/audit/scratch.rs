//! Where what is computed again is kept while it is.

use std::path::{Path, PathBuf};

use engine::ledger::Ledger;
use segments::runs::{DiskTable, TableOptions};

use crate::report::Fault;

/// A folder of our own that goes when we do.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// Makes one in `parent`; without one in the system's folder for temporary files.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn new(parent: Option<&Path>) -> Result<Scratch, Fault> {
        let random = crate::keys::random32()?;
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let path = parent.join(format!("flk-{}", engine::codec::hex(&random[..8])));
        std::fs::create_dir(&path).map_err(|error| Fault::write(&path, error))?;
        Ok(Scratch(path))
    }

    /// The ledger of a region before its first record, with its index in here.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn ledger(&self, region: &str) -> Result<Ledger<DiskTable>, Fault> {
        let table = DiskTable::open(&self.0, &TableOptions::new(0)).map_err(|error| {
            let next = "give --scratch DIR with room for it";
            Fault::new("cannot build the index", self.0.display(), error, next)
        })?;
        Ok(Ledger::new(region, table))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
