//! Folding what another region withheld into the ledger of that region.

use alloc::string::String;

use super::Quarantine;
use crate::event::{Position, Withheld};
use crate::ledger::{Ledger, Origin, Table, TableError};
use crate::log::Lsn;

impl<T: Table> Ledger<T> {
    /// Folds in a submission that stays in region number `at` of our list.
    pub(super) fn import_withheld(
        &mut self,
        at: usize,
        (lsn, nth): (Lsn, u32),
        withheld: &Withheld,
    ) -> Result<(), TableError> {
        let number = at as u8 + 1;
        let ledger = &self.origins.list[at].ledger;
        let first = match withheld.became.name() {
            Some(name) => self.winner(&name.key, ledger.now_ms.max(withheld.at_ms), Some(number))?,
            None => None,
        };
        let outcome = ledger.decide_withheld(withheld, first);
        let elsewhere = first.and_then(|first| self.region_for(number, &first)).map(String::from);
        let origin = &mut self.origins.list[at];
        let Some(outcome) = outcome else {
            // What its region says of it cannot be so. Nothing of it is folded in but its place.
            let why = Quarantine { at: Position { lsn, nth }, part: "withheld".into() };
            origin.quarantine.get_or_insert(why);
            origin.ledger.open += 1;
            return Ok(());
        };
        origin.ledger.apply_withheld(lsn, nth, withheld, &outcome, elsewhere.as_deref());
        match origin.ledger.table.take() {
            Some(first) => self.take_row(&first.of_origin(number)),
            None => Ok(()),
        }
    }
}

impl Origin {
    /// Submissions of its log that stay there: what is known of them here is what its digests need.
    #[must_use]
    pub fn withheld(&self) -> u64 {
        self.ledger.withheld()
    }
}
