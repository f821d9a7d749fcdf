//! Reading a simulated log afterwards, with a fold that nobody has tampered with.

use std::sync::{Arc, Mutex};

use engine::event::{Payload, Record as LogRecord};
use engine::log::Lsn;
use segments::{Frame, Kind, Log, OpenError};

use super::fold::{Fold, Shared};
use super::history::{Record, Sight};
use super::mutants::Mutant;
use super::world::options;
use crate::disk::Device;

/// Open the log on `device` as a new process would and fold all of it.
///
/// # Errors
/// What the log says: the device holds something that was not written.
pub fn sight(device: &Device, segment_bytes: u64) -> Result<Sight, OpenError> {
    let mut entries: Vec<(Lsn, u64, Vec<u8>)> = Vec::new();
    Log::open(device.attach(), &options(segment_bytes), |frame: &Frame<'_>| {
        match frame.kind {
            Kind::Entry => entries.push((frame.lsn, frame.term, frame.payload.to_vec())),
            Kind::Truncate => entries.retain(|(lsn, ..)| *lsn <= frame.lsn),
            Kind::Vote | Kind::Purged => {}
        }
        Ok::<(), String>(())
    })?;
    let shared = Arc::new(Mutex::new(Shared::default()));
    let mut fold = Fold::new(shared, 0, Mutant::None, None, u64::MAX);
    let mut sight = Sight::default();
    for (lsn, term, bytes) in entries {
        let record = LogRecord::decode(&bytes).expect("what the log gives back is what was written");
        let events = match record.payload {
            Payload::Events(events) => events,
            Payload::Blank | Payload::Membership(_) => Vec::new(),
        };
        let answers =
            events.iter().enumerate().map(|(nth, event)| fold.fold(lsn, nth as u32, event)).collect();
        fold.end(lsn);
        let record = Record { term, events, answers, digest: fold.ledger().digest(), head: fold.head() };
        sight.records.push((lsn, record));
    }
    sight.leaves = std::mem::take(&mut fold.leaves);
    Ok(sight)
}

/// The last record that a power loss at this very moment would leave.
///
/// # Errors
/// As [`sight`].
pub fn durable_end(device: &Device, segment_bytes: u64) -> Result<Lsn, OpenError> {
    let (log, _) =
        Log::open(device.image().attach(), &options(segment_bytes), |_: &Frame<'_>| Ok::<(), String>(()))?;
    Ok(log.tip())
}
