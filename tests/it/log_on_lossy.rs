//! The segment log itself on a failing disk, through both of its real back ends: nothing above it can hide a defect.

use crate::lossy::{Lossy, mount};
use engine::log::Lsn;
use segments::{AnyDisk, Backend, Frame, Identity, Log, LogError, Options, Prefer, Recovery};
use std::convert::Infallible;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

const SEGMENT: u64 = 64 << 10;
const BACK_ENDS: [Prefer; 2] = [Prefer::Uring, Prefer::Posix];

fn options() -> Options {
    let identity = Identity { cluster: [7; 16], region: "default".to_owned() };
    Options { segment_bytes: SEGMENT, ..Options::new(identity) }
}

/// An entry that survived: its position and its payload.
type Survivor = (Lsn, Vec<u8>);

/// Opens the log below the mount and gives what survived, entry by entry.
fn open(disk: &Lossy, prefer: Prefer) -> (Log<AnyDisk>, Vec<Survivor>, Recovery) {
    let directory = disk.path("log");
    std::fs::create_dir_all(&directory).expect("the directory");
    std::fs::File::open(disk.path("")).and_then(|root| root.sync_all()).expect("its name is synced");
    let (real, backend) = take(&directory, prefer);
    assert_eq!(backend.name, if prefer == Prefer::Uring { "io_uring" } else { "posix" });
    let mut entries = Vec::new();
    let opened = Log::open(real, &options(), |frame| {
        entries.push((frame.lsn, frame.payload.to_vec()));
        Ok::<(), Infallible>(())
    });
    let (log, recovery) = opened.unwrap_or_else(|error| panic!("{prefer:?}: {error}"));
    (log, entries, recovery)
}

/// Opens the real disk. Another test's child shares our lock from its fork to its exec, so a refusal may pass.
fn take(directory: &Path, prefer: Prefer) -> (AnyDisk, Backend) {
    for _ in 0..500 {
        match AnyDisk::open(directory, prefer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(10))
            }
            other => return other.unwrap_or_else(|error| panic!("{prefer:?}: {error}")),
        }
    }
    panic!("{prefer:?}: the lock of the log was not released in 5 s");
}

fn payload(lsn: Lsn) -> Vec<u8> {
    let length = 40 + (lsn.0 * 131 % 700) as usize;
    (0..length).map(|at| (lsn.0 as usize * 13 + at * 7) as u8).collect()
}

/// Appends one batch of entries.
fn append(log: &mut Log<AnyDisk>, entries: u64) -> Result<(), LogError> {
    for _ in 0..entries {
        let lsn = log.tip().next();
        log.append(Frame::entry(lsn, 1, &payload(lsn)))?;
    }
    // One voter: what is durable is committed, and a full segment can be sealed.
    let tip = log.tip();
    log.submit()?;
    while log.durable().lsn < tip {
        log.complete(true)?;
    }
    log.set_committed(tip);
    Ok(())
}

fn insist_prefix(entries: &[(Lsn, Vec<u8>)], at_least: Lsn, context: &str) {
    for (place, (lsn, bytes)) in entries.iter().enumerate() {
        assert_eq!(lsn.0, place as u64 + 1, "{context}: S2 no hole and no stranger");
        assert_eq!(*bytes, payload(*lsn), "{context}: the bytes of {lsn}");
    }
    let last = entries.last().map_or(Lsn::ZERO, |(lsn, _)| *lsn);
    assert!(last >= at_least, "{context}: S1 acknowledged up to {at_least}, found up to {last}");
}

#[test]
fn what_a_sync_covered_survives_any_power_loss() {
    for prefer in BACK_ENDS {
        let Some(disk) = mount() else { return };
        let mut durable = Lsn::ZERO;
        for seed in 0..12u64 {
            let context = format!("{prefer:?}, crash {seed}");
            let (mut log, entries, _) = open(&disk, prefer);
            insist_prefix(&entries, durable, &context);
            for batch in 0..10 + seed {
                append(&mut log, 1 + batch % 9).unwrap_or_else(|error| panic!("{context}: {error}"));
            }
            durable = log.tip();
            // Sent and not waited for: it may survive, whole or not at all.
            for _ in 0..3 {
                let lsn = log.tip().next();
                log.append(Frame::entry(lsn, 1, &payload(lsn))).expect("room");
            }
            log.submit().expect("sent");
            disk.order(&if seed == 0 { "crash".to_owned() } else { format!("crash torn {seed}") });
            drop(log);
        }
        let (_, entries, recovery) = open(&disk, prefer);
        insist_prefix(&entries, durable, "the end");
        assert!(recovery.sealed >= 3, "{prefer:?}: the run crosses segments: {recovery:?}");
    }
}

#[test]
fn a_crash_while_a_segment_is_begun_loses_nothing() {
    for prefer in BACK_ENDS {
        let Some(disk) = mount() else { return };
        let mut durable = Lsn::ZERO;
        let mut seed = 0;
        // Crash after every single batch over three segments, so that each step of a rotation is met.
        while durable.0 < 400 {
            let (mut log, entries, _) = open(&disk, prefer);
            insist_prefix(&entries, durable, &format!("{prefer:?}, crash {seed}"));
            append(&mut log, 9).unwrap_or_else(|error| panic!("{prefer:?}, crash {seed}: {error}"));
            durable = log.tip();
            seed += 1;
            disk.order(&format!("crash torn {seed}"));
        }
    }
}

#[test]
fn a_failed_sync_or_write_stops_the_log_for_good() {
    for prefer in BACK_ENDS {
        // Bound to the active segment: the preparation of the next one may fail without stopping the log.
        for fault in ["fsync-eio 1 keep", "fsync-eio 1 revert", "write-eio 1"] {
            let context = format!("{prefer:?}, {fault}");
            let Some(disk) = mount() else { return };
            let (mut log, _, _) = open(&disk, prefer);
            append(&mut log, 5).expect("a healthy disk");
            let durable = log.tip();
            disk.order(&format!("{fault} log/00000000000000000001.seg"));
            let error = append(&mut log, 1).expect_err(&context);
            assert!(matches!(error, LogError::Disk(_)), "{context}: {error}");
            for _ in 0..3 {
                let again = append(&mut log, 1).expect_err(&context);
                assert!(matches!(again, LogError::Failed), "{context}: S3 but {again}");
            }
            drop(log);
            disk.order("crash");
            let (mut log, entries, _) = open(&disk, prefer);
            insist_prefix(&entries, durable, &context);
            append(&mut log, 1).unwrap_or_else(|error| panic!("{context}: reopened, but {error}"));
        }
    }
}

#[test]
fn a_full_disk_refuses_an_append_and_nothing_before_it() {
    for prefer in BACK_ENDS {
        let Some(disk) = mount() else { return };
        let (mut log, _, _) = open(&disk, prefer);
        append(&mut log, 5).expect("room");
        disk.order(&format!("capacity {}", disk.tally("used")));
        let error = loop {
            if let Err(error) = append(&mut log, 5) {
                break error;
            }
            assert!(log.tip().0 < 10_000, "{prefer:?}: the disk never ran full");
        };
        assert!(matches!(error, LogError::Full(_)), "{prefer:?}: {error}");
        let durable = log.durable().lsn;
        let (_, bytes) = log.read_one(Lsn(1)).expect("reads go on").expect("the first entry");
        assert_eq!(bytes, payload(Lsn(1)));
        disk.order("heal");
        append(&mut log, 5).unwrap_or_else(|error| panic!("{prefer:?}: there is room again, but {error}"));
        let durable = durable.max(log.durable().lsn);
        drop(log);
        disk.order("crash");
        let (_, entries, _) = open(&disk, prefer);
        insist_prefix(&entries, durable, &format!("{prefer:?}"));
    }
}

#[test]
fn rot_in_a_durable_batch_is_named_not_cut_off() {
    for prefer in BACK_ENDS {
        let Some(disk) = mount() else { return };
        let (mut log, _, _) = open(&disk, prefer);
        for _ in 0..30 {
            append(&mut log, 9).expect("room");
        }
        drop(log);
        let first = "log/00000000000000000001.seg";
        for offset in [5u64, 4100, 9000, 30_000, SEGMENT - 100] {
            disk.order(&format!("rot {first} {offset} 4"));
            let (real, _) = take(&disk.path("log"), prefer);
            let opened = Log::open(real, &options(), |_| Ok::<(), Infallible>(()));
            let Err(error) = opened else { panic!("{prefer:?}: rot at {offset} was not seen") };
            let text = error.to_string();
            assert!(text.contains("segment 1"), "{prefer:?}, {offset}: {text}");
            disk.order("heal");
        }
        let (_, entries, _) = open(&disk, prefer);
        assert_eq!(entries.len(), 270, "healed, it opens as if nothing had been");
    }
}
