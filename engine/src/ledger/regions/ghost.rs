//! The table of another region's ledger: it has none. Its rows go into ours, and lookups on its behalf are made there.

use alloc::vec::Vec;

use crate::ledger::{First, Table, TableError};

/// Counts rows and keeps the last one, which snapshots name.
#[derive(Debug, Default)]
pub(super) struct Ghost {
    rows: u64,
    pub(super) last: Option<First>,
    fresh: Option<First>,
}

impl Ghost {
    /// Takes up where it was.
    pub(super) fn resume(rows: u64, last: Option<First>) -> Ghost {
        Ghost { rows, last, fresh: None }
    }

    /// The row that was pushed since this was asked last.
    pub(super) fn take(&mut self) -> Option<First> {
        self.fresh.take()
    }
}

impl Table for Ghost {
    fn push(&mut self, row: &First) -> Result<u64, TableError> {
        self.last = Some(*row);
        self.fresh = Some(*row);
        self.rows += 1;
        Ok(self.rows - 1)
    }

    fn row(&self, number: u64) -> Result<First, TableError> {
        let last = self.last.filter(|_| number.checked_add(1) == Some(self.rows));
        last.ok_or(TableError::NoSuchRow(number))
    }

    fn each(&self, _from: u64, _take: &mut dyn FnMut(u64, &First)) -> Result<(), TableError> {
        Ok(())
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    /// Nothing is kept in memory for it.
    fn demoted(&self) -> u64 {
        u64::MAX
    }

    fn find(&self, _tag: u64, _out: &mut Vec<u64>) -> Result<(), TableError> {
        Ok(())
    }

    fn demote(&mut self, _upto: u64) -> Result<(), TableError> {
        Ok(())
    }

    fn expire(&mut self, _row: u64) {}

    fn expired(&self) -> u64 {
        0
    }

    fn rewind(&mut self, rows: u64) -> Result<(), TableError> {
        if rows == self.rows { Ok(()) } else { Err(TableError::NoSuchRow(rows)) }
    }
}
