//! A log on the real disks of this machine, through several lives.

use std::path::Path;

use engine::limits::{BLOCK, SEGMENT_SIZE_TEST_MIN};
use engine::log::Lsn;
use segments::{AnyDisk, Frame, Identity, Kind, Log, LogError, OpenError, Options, Prefer, Recovery};

fn options() -> Options {
    let identity = Identity { cluster: [7; 16], region: "here".into() };
    Options { segment_bytes: SEGMENT_SIZE_TEST_MIN as u64, ..Options::new(identity) }
}

/// Position, term, payload.
type Entry = (u64, u64, Vec<u8>);

/// Opens and returns the living entries, resolved as a reader of the log resolves them.
fn open(dir: &Path, prefer: Prefer) -> (Log<AnyDisk>, Recovery, Vec<Entry>) {
    let mut entries = Vec::new();
    let (disk, _) = AnyDisk::open(dir, prefer).expect("the directory is free");
    let (log, recovery) = Log::open(disk, &options(), |frame| {
        match frame.kind {
            Kind::Entry => entries.push((frame.lsn.0, frame.term, frame.payload.to_vec())),
            Kind::Truncate => entries.retain(|(lsn, _, _)| *lsn <= frame.lsn.0),
            Kind::Vote | Kind::Purged => {}
        }
        Ok::<(), String>(())
    })
    .expect("the log opens");
    (log, recovery, entries)
}

fn payload(lsn: u64) -> Vec<u8> {
    vec![lsn as u8; 100 + (lsn as usize * 37) % 900]
}

fn several_lives(prefer: Prefer) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut tip = 0;
    for life in 1..=4 {
        let (mut log, recovery, entries) = open(dir.path(), prefer);
        assert_eq!(entries.len() as u64, tip);
        assert!(entries.iter().all(|(lsn, _, bytes)| *bytes == payload(*lsn)));
        assert_eq!(recovery.tip, Lsn(tip));
        assert_eq!(recovery.torn, None);
        for _ in 0..300 {
            tip += 1;
            log.append(Frame::entry(Lsn(tip), life, &payload(tip))).expect("appends");
            if tip.is_multiple_of(7) {
                log.submit().expect("submits");
            }
            while let Some(ticket) = log.complete(false).expect("completes") {
                log.set_committed(ticket.lsn);
            }
        }
        // An election of this life: void what was not committed, and write it again under another term.
        log.append(Frame::vote(life + 1, b"me")).expect("votes");
        log.flush().expect("flushes");
        assert_eq!(log.durable().lsn, Lsn(tip));
        for lsn in [1, tip / 2, tip - 1, tip] {
            let (_, bytes) = log.read_one(Lsn(lsn)).expect("reads").expect("is there");
            assert_eq!(bytes, payload(lsn));
        }
        let mut seen = 0;
        let next = log.read(Lsn(1), &mut |frame| {
            seen += 1;
            frame.lsn == Lsn(seen) && frame.payload == payload(seen)
        });
        assert_eq!(next.expect("reads"), Lsn(tip + 1));
        assert_eq!(log.read_one(Lsn(tip + 1)).expect("reads"), None);
        let stats = log.stats();
        assert!(stats.sealed > 0 && stats.syncs > stats.batches);
    }
}

#[test]
fn several_lives_on_posix() {
    several_lives(Prefer::Posix);
}

#[test]
fn several_lives_on_whatever_the_kernel_allows() {
    several_lives(Prefer::Auto);
}

#[test]
fn truncation_voids_and_the_new_entries_are_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, _, _) = open(dir.path(), Prefer::Posix);
    for lsn in 1..=200 {
        log.append(Frame::entry(Lsn(lsn), 1, &payload(lsn))).expect("appends");
    }
    log.flush().expect("flushes");
    log.set_committed(Lsn(50));
    assert!(matches!(log.append(Frame::truncate(Lsn(49))), Err(LogError::OutOfOrder { .. })));
    log.append(Frame::truncate(Lsn(60))).expect("voids");
    for lsn in 61..=150 {
        log.append(Frame::entry(Lsn(lsn), 2, &payload(lsn))).expect("appends");
    }
    log.flush().expect("flushes");
    for (lsn, term) in [(50, 1), (60, 1), (61, 2), (150, 2)] {
        assert_eq!(log.read_one(Lsn(lsn)).expect("reads"), Some((term, payload(lsn))), "{lsn}");
    }
    assert_eq!(log.read_one(Lsn(151)).expect("reads"), None);
    drop(log);
    let (mut log, _, entries) = open(dir.path(), Prefer::Posix);
    assert_eq!(entries.len(), 150);
    assert_eq!(log.read_one(Lsn(61)).expect("reads"), Some((2, payload(61))));
    assert_eq!(log.committed(), Lsn(50));
}

/// A batch whose end a later segment voids: a read that begins before that does not go on into what is void.
#[test]
fn what_a_later_segment_voids_is_not_read_with_what_stands_before_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, _, _) = open(dir.path(), Prefer::Posix);
    for lsn in 1..=5 {
        log.append(Frame::entry(Lsn(lsn), 1, b"one batch")).expect("appends");
    }
    log.flush().expect("flushes");
    // Too large for what is left of the segment.
    let large = vec![1; log.largest_frame() - segments::FRAME_HEADER];
    log.append(Frame::entry(Lsn(6), 1, &large)).expect("appends");
    log.append(Frame::truncate(Lsn(3))).expect("voids");
    log.append(Frame::entry(Lsn(4), 2, b"another")).expect("appends");
    log.append(Frame::entry(Lsn(5), 2, b"another")).expect("appends");
    log.flush().expect("flushes");
    assert!(log.stats().segments > 1);
    for from in 1..=5 {
        let mut terms = Vec::new();
        let next = log.read(Lsn(from), &mut |frame| {
            terms.push((frame.lsn.0, frame.term));
            true
        });
        assert_eq!(next.expect("reads"), Lsn(6));
        let right: Vec<(u64, u64)> = (from..=5).map(|lsn| (lsn, if lsn > 3 { 2 } else { 1 })).collect();
        assert_eq!(terms, right, "from {from}");
    }
}

#[test]
fn a_second_process_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = AnyDisk::open(dir.path(), Prefer::Posix).expect("the directory is free");
    let second = AnyDisk::open(dir.path(), Prefer::Posix);
    assert_eq!(second.err().map(|error| error.kind()), Some(std::io::ErrorKind::WouldBlock));
    drop(first);
    assert!(AnyDisk::open(dir.path(), Prefer::Posix).is_ok());
}

#[test]
fn another_log_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(open(dir.path(), Prefer::Posix));
    let (disk, _) = AnyDisk::open(dir.path(), Prefer::Posix).expect("the directory is free");
    let mut other = options();
    other.identity.region = "there".into();
    let refused = Log::open(disk, &other, |_| Ok::<(), String>(())).err();
    assert!(matches!(refused, Some(OpenError::Foreign { .. })), "{refused:?}");
}

#[test]
fn a_missing_segment_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, _, _) = open(dir.path(), Prefer::Posix);
    let large = vec![1; 10 * BLOCK];
    for lsn in 1..=10 {
        log.append(Frame::entry(Lsn(lsn), 1, &large)).expect("appends");
    }
    log.flush().expect("flushes");
    drop(log);
    std::fs::remove_file(dir.path().join(segments::segment_name(2))).expect("removes");
    let (disk, _) = AnyDisk::open(dir.path(), Prefer::Posix).expect("the directory is free");
    let refused = Log::open(disk, &options(), |_| Ok::<(), String>(())).err();
    assert!(matches!(refused, Some(OpenError::MissingSegment { number: 2, .. })), "{refused:?}");
}

#[test]
fn what_cannot_fit_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, _, _) = open(dir.path(), Prefer::Posix);
    let large = vec![1; SEGMENT_SIZE_TEST_MIN];
    assert!(matches!(log.append(Frame::entry(Lsn(1), 1, &large)), Err(LogError::TooLarge { .. })));
    assert!(matches!(log.append(Frame::entry(Lsn(2), 1, b"gap")), Err(LogError::OutOfOrder { .. })));
    let largest = vec![1; log.largest_frame() - segments::FRAME_HEADER];
    for lsn in 1..=4 {
        log.append(Frame::entry(Lsn(lsn), 1, &largest)).expect("the largest fits");
    }
    log.flush().expect("flushes");
    drop(log);
    assert_eq!(open(dir.path(), Prefer::Posix).2.len(), 4);
}

#[test]
fn a_sealed_segment_is_checked_from_its_file_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, _, _) = open(dir.path(), Prefer::Posix);
    for lsn in 1..=300 {
        log.append(Frame::entry(Lsn(lsn), 1, &payload(lsn))).expect("appends");
        log.set_committed(Lsn(lsn));
    }
    log.flush().expect("flushes");
    let sealed = log.stats().sealed;
    assert!(sealed >= 1);
    let path = dir.path().join(segments::segment_name(1));
    let whole = std::fs::read(&path).expect("reads");
    assert_eq!(segments::check_sealed(dir.path(), 1).expect("whole").number, 1);
    let last = log.stats().segments;
    assert!(matches!(segments::check_sealed(dir.path(), last), Err(segments::CheckError::NotSealed)));
    for at in (0..whole.len()).step_by(977) {
        let mut bad = whole.clone();
        bad[at] ^= 0x10;
        std::fs::write(&path, &bad).expect("writes");
        let found = segments::check_sealed(dir.path(), 1);
        assert!(matches!(found, Err(segments::CheckError::Damaged(_))), "a flip at {at}: {found:?}");
    }
    std::fs::write(&path, &whole[..whole.len() - 1]).expect("writes");
    assert!(segments::check_sealed(dir.path(), 1).is_err(), "one byte short");
}

/// A sealed segment is read through a map. What is not there any more is damage, and not the end of the process.
#[test]
fn a_sealed_segment_that_is_cut_under_a_reader_is_damaged() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, ..) = open(dir.path(), Prefer::Posix);
    let mut tip = 0;
    while log.stats().sealed == 0 {
        tip += 1;
        assert!(tip < 1000, "it is never sealed");
        log.append(Frame::entry(Lsn(tip), 1, &payload(tip))).expect("appends");
        log.flush().expect("flushes");
        log.set_committed(Lsn(tip));
    }
    let path = dir.path().join(segments::segment_name(1));
    let whole = std::fs::read(&path).expect("reads");
    for (cut_at, length) in [(0, 3 * BLOCK), (0, 0), (1, 3 * BLOCK), (7, 0)] {
        let cut = || {
            let file = std::fs::OpenOptions::new().write(true).open(&path).expect("opens");
            file.set_len(length as u64).expect("cuts");
        };
        if cut_at == 0 {
            cut();
        }
        let mut seen = 0;
        let read = log.read(Lsn(1), &mut |frame| {
            assert_eq!((frame.lsn, frame.payload), (Lsn(seen + 1), &payload(seen + 1)[..]));
            seen += 1;
            // The map is older than this.
            if seen == cut_at {
                cut();
            }
            true
        });
        match read {
            Err(LogError::Corrupt(damage)) => assert_eq!(damage.segment, 1),
            other => panic!("{other:?} after {seen}"),
        }
        assert!(seen < 20, "{seen} were read");
        std::fs::write(&path, &whole).expect("writes");
    }
    assert_eq!(log.read(Lsn(1), &mut |_| true).expect("it is whole again"), Lsn(tip + 1));
}

/// The vote that is found when everything before `from` is skipped.
fn vote_from(dir: &Path, from: u64) -> (Log<AnyDisk>, Option<Vec<u8>>) {
    let (disk, _) = AnyDisk::open(dir, Prefer::Posix).expect("the directory is free");
    let mut vote = None;
    let options = Options { replay_from: Lsn(from), ..options() };
    let opened = Log::open(disk, &options, |frame| {
        if frame.kind == Kind::Vote {
            vote = Some(frame.payload.to_vec());
        }
        Ok::<(), String>(())
    });
    (opened.expect("it opens").0, vote)
}

/// A crash may come when a segment is begun and holds nothing yet. The vote stands in those before it, which a start from
/// a snapshot does not read through; and what is appended then is led by it, as in any segment.
#[test]
fn a_vote_outlives_a_crash_between_a_segments_header_and_its_first_batch() {
    for votes in [&[(1, "one")][..], &[(1, "one"), (60, "two"), (61, "three")]] {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut log, ..) = open(dir.path(), Prefer::Posix);
        let (mut lsn, mut at, mut last) = (0, 0, votes[0].1);
        while log.stats().sealed < 3 {
            lsn += 1;
            assert!(lsn < 1000, "they are never sealed");
            if let Some((_, vote)) = votes.iter().find(|(before, _)| *before == lsn) {
                log.append(Frame::vote(lsn, vote.as_bytes())).expect("votes");
                last = vote;
            }
            log.append(Frame::entry(Lsn(lsn), 1, &payload(lsn))).expect("appends");
            log.flush().expect("flushes");
            log.set_committed(Lsn(lsn));
            at = log.sealed();
        }
        drop(log);
        // The last segment as it was when it was begun.
        let path = dir.path().join(segments::segment_name(at + 1));
        let mut bytes = std::fs::read(&path).expect("reads");
        bytes[BLOCK..].fill(0);
        std::fs::write(&path, bytes).expect("writes");
        let footer = segments::seed::read_sealed(dir.path(), at).expect("it is sealed").1;
        let (mut log, vote) = vote_from(dir.path(), footer.last.0 + 1);
        assert_eq!(vote.as_deref(), Some(last.as_bytes()), "after {at} sealed segments");
        let next = log.tip().next();
        assert_eq!(next, footer.last.next());
        log.append(Frame::entry(next, 1, &payload(next.0))).expect("appends");
        log.flush().expect("flushes");
        drop(log);
        // Nothing but the last segment has it now.
        let mut found = None;
        let scan = segments::Scan::open(dir.path()).expect("a log");
        let scanned = scan.frames(at + 1, &mut |scanned| {
            if scanned.frame.kind == Kind::Vote {
                found = Some(scanned.frame.payload.to_vec());
            }
            Ok::<(), ()>(())
        });
        assert!(scanned.is_ok() && found.as_deref() == Some(last.as_bytes()), "{found:?}");
        assert_eq!(vote_from(dir.path(), next.0).1.as_deref(), Some(last.as_bytes()));
    }
}
