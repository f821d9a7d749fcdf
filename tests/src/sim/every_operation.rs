//! Every disk operation of a short script fails once, in every way, and what the failure left meets every
//! end: the process goes on living in the page cache, or the power goes. No drawing, no seeds.
//!
//! A second life then writes more, and its own power goes. Whatever either life was promised must be there,
//! in order; what was not promised may be, or not.

use engine::log::Lsn;
use segments::{Frame, Kind, Log, LogError};

use super::world::{End, options};
use crate::disk::{AfterFailure, Death, Device, Faults, SimDisk, Sloppy};

const SEGMENT: u64 = 64 << 10;

/// How the operation fails.
const FAILURES: [fn(u64) -> Faults; 7] = [
    |n| Faults { die_in: Some((n, Death::NothingLands)), ..Faults::default() },
    |n| Faults { die_in: Some((n, Death::HalfLands)), ..Faults::default() },
    |n| Faults { die_in: Some((n, Death::AllLands)), ..Faults::default() },
    |n| Faults { sync_fails_in: Some((n, AfterFailure::KeepsNew)), ..Faults::default() },
    |n| Faults { sync_fails_in: Some((n, AfterFailure::Reverts)), ..Faults::default() },
    |n| Faults { write_fails_in: Some(n), ..Faults::default() },
    |n| Faults { short_write_in: Some(n), ..Faults::default() },
];

/// What becomes of the machine afterwards.
const ENDS: [End; 4] = [
    End::Kill,
    End::Power { keep: 0, garble: false },
    End::Power { keep: 100, garble: false },
    End::Power { keep: 50, garble: false },
];

fn payload(lsn: u64) -> Vec<u8> {
    vec![lsn as u8; 3_000 + lsn as usize * 701 % 9_000]
}

fn open(device: &Device) -> Result<(Log<SimDisk>, Vec<Lsn>), segments::OpenError> {
    let mut lsns = Vec::new();
    let (log, _) = Log::open(device.attach(), &options(SEGMENT), |frame: &Frame<'_>| {
        if frame.kind == Kind::Entry {
            assert_eq!(frame.payload, payload(frame.lsn.0), "S2: a record that nobody wrote");
            lsns.push(frame.lsn);
        }
        Ok::<(), String>(())
    })?;
    Ok((log, lsns))
}

/// Append `count` records and votes between them; the last position that was promised.
fn script(device: &Device, count: u64) -> Lsn {
    let Ok((mut log, _)) = open(device) else { return Lsn::ZERO };
    let mut promised = log.durable().lsn;
    let last = Lsn(log.tip().0 + count);
    let mut step = |log: &mut Log<SimDisk>| -> Result<(), LogError> {
        let lsn = log.tip().next();
        log.append(Frame::entry(lsn, 1, &payload(lsn.0)))?;
        if lsn.0.is_multiple_of(5) {
            log.append(Frame::vote(1, b"me"))?;
        }
        log.flush()?;
        promised = log.durable().lsn;
        log.set_committed(promised);
        Ok(())
    };
    while log.tip() < last && step(&mut log).is_ok() {}
    promised
}

fn end(device: &Device, end: End) {
    match end {
        End::Kill => device.kill(),
        End::Power { keep, garble } => device.power_loss(keep, garble),
    }
}

/// Run all of it; returns how many worlds there were, or how the first bad one came about.
///
/// # Errors
/// The broken promise and the failure that led to it.
pub fn run() -> Result<u64, String> {
    let clean = Device::new(1, Sloppy::default());
    script(&clean, 24);
    let operations = clean.suffered().operations;
    let mut worlds = 0;
    for n in 0..operations {
        for (kind, failure) in FAILURES.iter().enumerate() {
            for first_end in ENDS {
                worlds += 1;
                one(n, *failure, first_end)
                    .map_err(|broken| format!("{broken}: operation {n}, failure {kind}, {first_end:?}"))?;
            }
        }
    }
    Ok(worlds)
}

fn one(n: u64, failure: fn(u64) -> Faults, first_end: End) -> Result<(), String> {
    let device = Device::new(n, Sloppy::default());
    device.set_faults(failure(n));
    let promised = script(&device, 24);
    end(&device, first_end);
    let more = script(&device, 6);
    if more < promised {
        let error = open(&device).err();
        return Err(format!("S1: {promised} was promised, the second life goes on from {more} ({error:?})"));
    }
    end(&device, End::Power { keep: 0, garble: false });
    let (_, lsns) = open(&device).map_err(|error| format!("S1: the log does not open: {error}"))?;
    if lsns.len() as u64 != lsns.last().map_or(0, |lsn| lsn.0) || (lsns.len() as u64) < more.0 {
        return Err(format!("S2: {more} was promised, {} records are there", lsns.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_failed_operation_breaks_a_promise() {
        assert!(run().expect("every promise holds") > 1_000);
    }
}
