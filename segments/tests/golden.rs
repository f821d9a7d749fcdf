//! The bytes of a small log, pinned: whoever changes them also says what happens to logs written before.
//!
//! `FLK_BLESS=1 cargo test -p segments --test golden` writes the file anew; review it like code.

use std::fmt::Write as _;
use std::path::Path;

use engine::log::Lsn;
use segments::{Frame, Identity, Log, MANIFEST, Options, PosixDisk, check_sealed, segment_name};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/segment.hex");

fn options() -> Options {
    let identity = Identity { cluster: *b"golden cluster 1", region: "default".into() };
    Options { segment_bytes: 64 << 10, ..Options::new(identity) }
}

/// Two segments, the first sealed, with a frame of every kind.
fn write(dir: &Path) {
    let disk = PosixDisk::open(dir).expect("the directory is free");
    let (mut log, _) = Log::open(disk, &options(), |_| Ok::<(), String>(())).expect("opens");
    log.append(Frame::vote(1, b"vote of node 1")).expect("appends");
    log.append(Frame::purged(Lsn(2), 1, b"log id 1-2")).expect("appends");
    log.flush().expect("flushes");
    for lsn in 3..=5 {
        log.append(Frame::entry(Lsn(lsn), 1, format!("entry {lsn}").as_bytes())).expect("appends");
    }
    log.flush().expect("flushes");
    log.set_committed(Lsn(4));
    log.append(Frame::truncate(Lsn(4))).expect("appends");
    log.append(Frame::entry(Lsn(5), 2, b"entry 5 again")).expect("appends");
    log.flush().expect("flushes");
    log.set_committed(Lsn(5));
    // Fits the first segment once, whether or not room is kept back until the next one is ready.
    let large = vec![0; 36_000];
    for lsn in 6..=7 {
        log.append(Frame::entry(Lsn(lsn), 2, &large)).expect("appends");
        log.flush().expect("flushes");
        log.set_committed(Lsn(lsn));
    }
    log.flush().expect("flushes");
}

/// Lines of 32 bytes that are not all zero, each with its offset.
fn dump(dir: &Path) -> String {
    let mut text = String::new();
    for name in [MANIFEST.to_owned(), segment_name(1), segment_name(2)] {
        let bytes = std::fs::read(dir.join(&name)).expect("it is there");
        writeln!(text, "{name} {} bytes", bytes.len()).expect("text grows");
        for (nth, line) in bytes.chunks(32).enumerate().filter(|(_, line)| line.iter().any(|byte| *byte != 0))
        {
            let hex: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(text, "{:06x} {hex}", nth * 32).expect("text grows");
        }
    }
    text
}

/// The files that the golden text stands for.
fn restore(text: &str, dir: &Path) {
    let mut file: Option<(String, Vec<u8>)> = None;
    let keep = |file: &mut Option<(String, Vec<u8>)>| {
        if let Some((name, bytes)) = file.take() {
            std::fs::write(dir.join(name), bytes).expect("writes");
        }
    };
    for line in text.lines() {
        if let Some((name, length)) = line.strip_suffix(" bytes").and_then(|line| line.split_once(' ')) {
            keep(&mut file);
            file = Some((name.to_owned(), vec![0; length.parse().expect("a length")]));
        } else {
            let (offset, hex) = line.split_once(' ').expect("offset and bytes");
            let offset = usize::from_str_radix(offset, 16).expect("an offset");
            let bytes = &mut file.as_mut().expect("a name comes first").1[offset..];
            for (byte, digits) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
                let digits = std::str::from_utf8(digits).expect("hex");
                *byte = u8::from_str_radix(digits, 16).expect("hex");
            }
        }
    }
    keep(&mut file);
}

#[test]
fn the_bytes_of_a_log_are_pinned() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path());
    let text = dump(dir.path());
    if std::env::var_os("FLK_BLESS").is_some() {
        std::fs::write(GOLDEN, &text).expect("writes");
    }
    let golden = std::fs::read_to_string(GOLDEN).expect("the golden log is there");
    for (nth, (found, expected)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(found, expected, "line {}", nth + 1);
    }
    assert_eq!(text.len(), golden.len());
}

/// The log as it was written when this format was new still opens.
#[test]
fn the_golden_log_opens() {
    let dir = tempfile::tempdir().expect("a directory");
    restore(&std::fs::read_to_string(GOLDEN).expect("the golden log is there"), dir.path());
    let footer = check_sealed(dir.path(), 1).expect("the first segment is whole");
    assert_eq!((footer.first, footer.last, footer.frames), (Lsn(1), Lsn(6), 8));
    let disk = PosixDisk::open(dir.path()).expect("the directory is free");
    let mut payloads = Vec::new();
    let (mut log, recovery) = Log::open(disk, &options(), |frame| {
        payloads.push((frame.kind, frame.lsn, frame.payload.len()));
        Ok::<(), String>(())
    })
    .expect("opens");
    assert_eq!((recovery.torn, recovery.manifest_repaired), (None, None));
    assert_eq!((recovery.tip, recovery.segments, recovery.sealed), (Lsn(7), 2, 1));
    assert_eq!(payloads.len(), 11, "{payloads:?}");
    assert_eq!(log.read_one(Lsn(5)).expect("reads"), Some((2, b"entry 5 again".to_vec())));
    assert_eq!(log.read_one(Lsn(2)).expect("reads"), None);
}
