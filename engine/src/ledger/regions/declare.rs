//! What operators say of regions' logs, folded in.
//!
//! A readmission takes the knowledge of a log back to where its folding stopped, here and with everybody who folds our log
//! again. They cannot see whether we had it in quarantine; so that all decide alike, each readmission of a region has a number, one
//! more than the last, and the numbers are kept beside what is known: under the name of the region with a `!`, which no
//! region's name has. A leader asks for one only while it has that log in quarantine, and for the place where it stands, which does not
//! move until then; the first one of its number is therefore good here whenever it is good there.

use alloc::format;
use alloc::string::String;

use crate::event::{Declaration, Declared, Position};
use crate::ledger::{Ledger, Table};
use crate::log::Lsn;

fn counter(region: &str) -> String {
    format!("{region}!")
}

impl<T: Table> Ledger<T> {
    /// How often this region's log was readmitted.
    #[must_use]
    pub fn readmitted(&self, region: &str) -> u32 {
        self.seen.get(&counter(region)).map_or(0, |count| u32::try_from(count.lsn.0).unwrap_or(u32::MAX))
    }

    /// Folds a declaration in. One that does not fit changes nothing.
    pub(in crate::ledger) fn declare(&mut self, declared: &Declared) {
        let Declared { region, at, what: Declaration::Readmitted { count }, .. } = declared else { return };
        let known = self.seen.get(region).is_some_and(|seen| *at <= *seen);
        if !known || self.readmitted(region).checked_add(1) != Some(*count) {
            return;
        }
        if let Some(origin) = self.origins.list.iter_mut().find(|origin| origin.region() == region) {
            if origin.quarantine.is_none() || origin.position() != *at {
                return;
            }
            origin.quarantine = None;
        }
        self.seen.insert(counter(region), Position::of(Lsn(u64::from(*count))));
        self.seen.insert(region.clone(), *at);
    }
}
