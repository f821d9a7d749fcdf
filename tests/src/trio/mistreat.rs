//! Repairs that are made wrongly: what mutants do to a damaged log before its node opens it.

use std::collections::BTreeMap;
use std::convert::Infallible;

use engine::event::{Payload, Record};
use engine::limits::BLOCK;
use engine::log::Lsn;
use segments::{Fill, Gap, Kind, Log, OpenError, Options, Repair, SPARE, segment_name};

use super::TrioOptions;
use super::mutants::{Mutant, WrongRepair};
use crate::disk::Device;
use crate::sim::world::options;

/// What stands in a log: term and record by position.
pub type Entries = BTreeMap<Lsn, (u64, Vec<u8>)>;

/// The entries that are in the log at its end.
///
/// # Errors
/// When it does not open.
pub fn entries(device: &Device, segment_bytes: u64) -> Result<Entries, OpenError> {
    let mut found = Entries::new();
    Log::open(device.image().attach(), &options(segment_bytes), |frame| {
        match frame.kind {
            Kind::Entry => drop(found.insert(frame.lsn, (frame.term, frame.payload.to_vec()))),
            Kind::Truncate => found.retain(|lsn, _| *lsn <= frame.lsn),
            Kind::Vote | Kind::Purged => {}
        }
        Ok::<(), Infallible>(())
    })?;
    Ok(found)
}

/// Repairs this log in the mutant's way, if there is one.
pub fn mistreat(trio: &TrioOptions, device: &Device, others: &[Device]) {
    let Mutant::Repair(how) = trio.mutant else { return };
    let options = options(trio.segment_bytes);
    // No more often than there are segments.
    for _ in 0..16 {
        let opened = Log::open(device.image().attach(), &options, |_| Ok::<(), Infallible>(()));
        let Some(segment) = opened.err().and_then(|error| error.damaged()).filter(|number| *number > 0)
        else {
            return;
        };
        let right = others.iter().filter_map(|other| entries(other, trio.segment_bytes).ok());
        let Some(right) = right.max_by_key(|entries| entries.last_key_value().map(|(lsn, _)| *lsn)) else {
            return;
        };
        if how == WrongRepair::Truncates {
            if !truncate(device, &options, segment) {
                return;
            }
        } else if wrong(device, &options, segment, how, &right).is_none() {
            return;
        }
    }
}

/// Fills the gaps of a segment with what is not to be had, or not to be believed.
fn wrong(device: &Device, options: &Options, segment: u64, how: WrongRepair, right: &Entries) -> Option<()> {
    let mut disk = device.attach();
    let found = Repair::examine(&mut disk, options, segment).ok()?;
    let mut blank = Vec::new();
    Record { leader: 1, payload: Payload::Blank }.encode(&mut blank);
    let fill = |gap: &Gap| {
        let wanted = right.range(gap.tip.next()..).take_while(|(lsn, _)| **lsn <= gap.until);
        let entries = wanted.map(|(lsn, (term, record))| match how {
            WrongRepair::Skips => (*lsn, *term, blank.clone()),
            WrongRepair::OtherTerm => (*lsn, term + 1, record.clone()),
            WrongRepair::Unverified | WrongRepair::Truncates => {
                let mut record = record.clone();
                // Within the last event, where there is one.
                if let Some(last) = record.last_mut() {
                    *last ^= 1;
                }
                (*lsn, *term, record)
            }
        });
        Fill { keep: gap.tip.min(gap.stands), entries: entries.collect() }
    };
    let fills: Vec<Fill> = found.gaps().iter().map(fill).collect();
    found.mend(&mut disk, &fills, None).ok().map(drop)
}

/// Rot in the last segment is taken for a torn tail: the log ends before the first bad batch.
fn truncate(device: &Device, options: &Options, segment: u64) -> bool {
    let Err(segments::OpenError::Corrupt(damage)) =
        Log::open(device.image().attach(), options, |_| Ok::<(), Infallible>(()))
    else {
        return false;
    };
    let name = segment_name(segment);
    let last = device.bytes(&segment_name(segment + 1)).is_none_or(|bytes| bytes[0] == 0);
    let (Some(bytes), true) = (device.bytes(&name), last) else { return false };
    let from = (damage.offset as usize / BLOCK * BLOCK).max(BLOCK);
    (from..bytes.len()).for_each(|at| device.rot(&name, at, bytes[at]));
    if device.bytes(SPARE).is_some() {
        device.lose_file(SPARE);
    }
    true
}
