//! How far every region's log is known here, and what it adds up to: what regions are compared by.

use super::Shared;
use engine::ledger::Quarantine;
use engine::log::{Digest, Lsn};

/// One region's log, as far as it is known here.
#[derive(Clone, Debug)]
pub struct KnownLog {
    /// Whose.
    pub region: String,
    /// Its last record that is here whole.
    pub records: Lsn,
    /// Digests of outcomes and ledger after that record.
    pub computed: Option<(Digest, Digest)>,
    /// What it adds up to there, without its places in the log.
    pub digest: Digest,
    /// Why it is believed no further, if so.
    pub quarantine: Option<Quarantine>,
}

/// All regions' logs, as far as they are known here.
#[derive(Clone, Debug)]
pub struct Known {
    /// In the order of their names.
    pub logs: Vec<KnownLog>,
    /// One value over what they add up to.
    pub merged: Digest,
}

impl Shared {
    /// One value over all regions' logs as far as they are known here; `None` in the middle of a record.
    #[must_use]
    pub fn merged(&self) -> Option<Digest> {
        let core = self.core();
        (!core.inside && self.fatal().is_none()).then(|| core.ledger.merged_digest())
    }

    /// How far every region's log is known here, and what it adds up to; `None` in the middle of a record.
    #[must_use]
    pub fn known(&self) -> Option<Known> {
        let core = self.core();
        if core.inside {
            return None;
        }
        let ledger = &core.ledger;
        let said = ledger.attest();
        let mut logs = vec![KnownLog {
            region: ledger.region().to_owned(),
            records: said.upto,
            computed: Some((said.outcomes, said.ledger)),
            digest: ledger.own_digest(),
            quarantine: None,
        }];
        logs.extend(ledger.origins().map(|origin| {
            let records = Lsn(origin.position().lsn.0 - 1);
            KnownLog {
                region: origin.region().to_owned(),
                records,
                computed: origin.computed_after(records),
                digest: origin.digest(),
                quarantine: origin.quarantine().cloned(),
            }
        }));
        logs.sort_by(|one, other| one.region.cmp(&other.region));
        Some(Known { logs, merged: ledger.merged_digest() })
    }
}
