//! The port to what a log is for: the fold that turns agreed entries into state.
//!
//! I3 (replay-identical) rests on this trait: a machine learns everything through `apply`, in log
//! order, exactly once per life, and gets nothing else that could differ between two replays.

use std::sync::Arc;

use engine::log::Lsn;

use crate::batch::Batch;

/// Where a machine stands, in the words a restart needs.
///
/// A machine that keeps snapshots of its own stores the newest `Standing` it was given beside each
/// snapshot and returns it from [`Machine::standing`] after a restart; the log is then replayed
/// from the entry after it. The default is an empty machine: everything is replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The last entry whose effects the machine holds, [`Lsn::ZERO`] for none.
    pub lsn: Lsn,
    /// The term of that entry.
    pub term: u64,
    /// The newest membership at `lsn`, as bytes only this crate reads.
    pub membership: Arc<[u8]>,
}

impl Standing {
    /// Where a machine stands that holds everything up to `lsn`, an entry of `term`. The newest membership up to there stands
    /// at a place of its own, in a term of its own, as the bytes of its record.
    #[must_use]
    pub fn new(lsn: Lsn, term: u64, (at, its_term, bytes): (Lsn, u64, &[u8])) -> Standing {
        let id = [at.0.to_le_bytes(), its_term.to_le_bytes()].concat();
        Standing { lsn, term, membership: [&id[..], bytes].concat().into() }
    }
}

/// A deterministic fold of the log. The server's is its ledger.
pub trait Machine: Send + 'static {
    /// The restart point: what this machine already holds when it is opened. Entries after it are
    /// applied again, entries up to it never. It must not run ahead of what the machine would hold
    /// after a power loss.
    fn standing(&self) -> Standing;

    /// These entries will be applied next, in this order, with perhaps others without events between them. What they need
    /// besides this machine's state may be begun. Nothing else may come of it: they may also never be applied.
    fn coming(&mut self, batches: &[(Lsn, &Batch)]) {
        let _ = batches;
    }

    /// Apply one committed entry that holds events, which is durable here too. Entries come in log order. Must not fail: an
    /// entry that cannot be applied is a defect, and the process must stop.
    fn apply(&mut self, lsn: Lsn, term: u64, batch: &Batch);

    /// `standing` is reached. Comes after every entry, also after those without events (a new
    /// leader's first entry, a membership), which `apply` never sees.
    fn passed(&mut self, standing: &Standing) {
        let _ = standing;
    }

    /// Everything that was committed when this round began is applied: the moment to publish views
    /// and to wake those who wait, once for many entries.
    fn settled(&mut self) {}
}
