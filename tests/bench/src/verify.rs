//! P12: how fast an auditor checks a log offline, against plain hashing of the same bytes and leaves.
//!
//! What one core does is counted in processor time, on both sides, the system's work of reading files included: the machine is
//! shared, and time on the wall would measure the neighbours. What several cores do to each other shows on the wall only.

use crate::context::{Context, remove};
use crate::flkd::Flkd;
use crate::growth::feed;
use crate::ingest::Runs;
use crate::process::tied;
use crate::rows::{Bound, Row, at_least, command, figure};
use crate::stats::{CoreTime, Pair, Sample, alternate, median};
use sha2::{Digest, Sha256};
use std::hint::black_box;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Bytes of one hash block, as in the segments' own digest.
const BLOCK: usize = 64 << 10;

/// All files under `dir` whose name ends in `suffix`, in order.
fn files(dir: &Path, suffix: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.to_string_lossy().ends_with(suffix) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Bytes a second of reading the files.
fn read_loop(files: &[PathBuf]) -> io::Result<Sample> {
    let begin = Instant::now();
    let bytes = each_block(files, |_| {})?;
    Ok(Sample::new(bytes as f64 / begin.elapsed().as_secs_f64()))
}

/// Bytes a processor second of BLAKE3 over the files, 64 KiB at a time.
fn blake3_loop(files: &[PathBuf]) -> io::Result<Sample> {
    let begin = CoreTime::start();
    let bytes = each_block(files, |block| {
        black_box(blake3::hash(block));
    })?;
    Ok(Sample::new(bytes as f64 / begin.seconds()))
}

/// Reads the files in blocks and says how many bytes they are.
fn each_block(files: &[PathBuf], mut each: impl FnMut(&[u8])) -> io::Result<usize> {
    let mut buffer = vec![0; BLOCK];
    let mut bytes = 0;
    for path in files {
        let mut file = std::fs::File::open(path)?;
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            each(&buffer[..n]);
            bytes += n;
        }
    }
    Ok(bytes)
}

/// Leaves a processor second of an RFC 6962 tree over the lines of the files, one SHA-256 after the other, on one core.
fn sha2_loop(files: &[PathBuf]) -> io::Result<Sample> {
    let begin = CoreTime::start();
    let mut edge: Vec<[u8; 32]> = Vec::new();
    let mut leaves = 0u64;
    for path in files {
        let text = std::fs::read(path)?;
        for line in text.split(|&b| b == b'\n').filter(|l| !l.is_empty()) {
            let mut hash: [u8; 32] = Sha256::new().chain_update([0]).chain_update(line).finalize().into();
            let mut size = leaves;
            while size & 1 == 1 {
                let left = edge.pop().expect("as many as there are ones in the size");
                hash =
                    Sha256::new().chain_update([1]).chain_update(left).chain_update(hash).finalize().into();
                size >>= 1;
            }
            edge.push(hash);
            leaves += 1;
        }
    }
    black_box(edge);
    Ok(Sample::new(leaves as f64 / begin.seconds()))
}

/// Tells the kernel to forget the files' pages.
fn drop_cache(files: &[PathBuf]) -> io::Result<()> {
    for path in files {
        let file = std::fs::File::open(path)?;
        file.sync_all()?;
        // SAFETY: the descriptor is open; the call takes no pointers.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    }
    Ok(())
}

/// What a tool took.
struct Took {
    /// Seconds on the wall.
    wall: f64,
    /// Processor seconds of all its threads, the system's work for them included.
    core: f64,
    /// Greatest resident size, bytes.
    resident: f64,
}

/// Runs a tool to its end.
fn timed(command: &mut Command) -> io::Result<Took> {
    let begin = Instant::now();
    let child = tied(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped())).spawn()?;
    let pid = child.id() as libc::pid_t;
    let mut errors = child.stderr.expect("it was piped");
    let mut said = String::new();
    errors.read_to_string(&mut said)?;
    let mut status = 0;
    // SAFETY: an all-zero rusage is valid, and both pointers outlive the call. The child has not been waited for.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        if libc::wait4(pid, &mut status, 0, &mut usage) != pid {
            return Err(io::Error::last_os_error());
        }
        usage
    };
    if status != 0 {
        return Err(io::Error::other(format!("{command:?} ended with {status}: {}", said.trim())));
    }
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(Took {
        wall: begin.elapsed().as_secs_f64(),
        core: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        resident: usage.ru_maxrss as f64 * 1024.0,
    })
}

fn row(what: String, pair: &Pair, unit: &str, reference: &str, bound: Bound) -> Row {
    Row {
        id: "P12",
        what,
        ours: format!("{} {unit}", figure(pair.ours())),
        reference: format!("{reference}: {}", figure(pair.reference())),
        value: pair.ratio(),
        bound,
        command: command("P12"),
        notes: pair.notes(),
        refused: None,
    }
}

/// `worm verify` on `dir`: records a second, of processor time where there is one thread, and its greatest resident size.
fn verify(context: &Context, dir: &Path, records: usize, threads: usize, depth: &str) -> io::Result<Sample> {
    let mut command = Command::new(context.binaries.join("worm"));
    command.args(["verify", "--json", "--threads", &threads.to_string(), "--depth", depth]);
    command.arg("--scratch").arg(&context.dir);
    let Took { wall, core, resident } = timed(command.arg(dir))?;
    let seconds = if threads == 1 { core } else { wall };
    Ok(Sample::new(records as f64 / seconds)
        .with("resident MiB", resident / 1048576.0)
        .with("wall records/s", records as f64 / wall))
}

/// All rows.
pub fn rows(context: &Context) -> Vec<Row> {
    measure(context).unwrap_or_else(|why| vec![Row::refused("P12", "worm verify", why)])
}

fn measure(context: &Context) -> io::Result<Vec<Row>> {
    let dir = context.fresh("verify")?;
    let records = context.size(1_000_000, 100_000);
    let runs = Runs::default();
    let fill = |records: usize| -> io::Result<()> {
        let node = Flkd::start(context, &dir)?;
        feed(&node, &runs, records)?;
        node.stop()
    };
    // A quarter first, to see whether memory grows with the log.
    fill(records / 4)?;
    let quarter = |depth: &str| verify(context, &dir, records / 4, 1, depth);
    let (small_leaves, small_all) = (quarter("leaves")?, quarter("all")?);
    fill(records - records / 4)?;
    let segments = files(&dir, ".seg")?;
    let worm = files(&dir, ".jsonl")?;
    let bytes: u64 = segments.iter().map(|p| Ok(std::fs::metadata(p)?.len())).sum::<io::Result<u64>>()?;
    let cores = std::thread::available_parallelism()?.get();
    let many = format!("{cores} cores");

    let mut rows = Vec::new();
    let in_bytes = |sample: Sample| Sample { value: sample.value / records as f64 * bytes as f64, ..sample };
    let ours = |threads: usize, depth: &str| verify(context, &dir, records, threads, depth);
    let pair = alternate(context.runs, || ours(1, "bytes").map(in_bytes), || blake3_loop(&segments))?;
    let what = "worm verify, bytes only, one core".to_owned();
    rows.push(row(
        what,
        &pair,
        "B/s",
        "BLAKE3 in 64 KiB blocks",
        Bound::AtLeast { floor: 0.85, moonshot: None },
    ));
    let cold = || drop_cache(&segments).and_then(|()| ours(cores, "bytes")).map(in_bytes);
    let pair = alternate(context.runs, cold, || drop_cache(&segments).and_then(|()| read_loop(&segments)))?;
    let what = "worm verify, bytes only, cold, all cores".to_owned();
    rows.push(row(what, &pair, "B/s", "reading alone", Bound::Told));
    for (depth, what, small, bound) in [
        ("leaves", "bytes, leaves and roots", small_leaves, at_least(0.85, 1.5)),
        ("all", "everything judged again", small_all, Bound::Told),
    ] {
        let pair = alternate(context.runs, || ours(1, depth), || sha2_loop(&worm))?;
        let title = format!("worm verify, {what}, one core");
        rows.push(row(title, &pair, "leaves/s", "sha2 over the same leaves", bound));
        rows.push(memory(what, records, &pair.ours, &small));
        let pair = alternate(context.runs, || ours(cores, depth), || ours(1, depth).map(on_the_wall))?;
        let bound = if cores == 2 { Bound::AtLeast { floor: 1.8, moonshot: None } } else { Bound::Told };
        rows.push(row(format!("worm verify, {what}, {many}"), &pair, "leaves/s", "one core", bound));
    }
    let pair = alternate(context.runs, || ours(cores, "bytes"), || ours(1, "bytes").map(on_the_wall))?;
    rows.push(row(format!("worm verify, bytes only, {many}"), &pair, "leaves/s", "one core", Bound::Told));
    remove(&dir)?;
    Ok(rows)
}

/// The same run in records a second on the wall.
fn on_the_wall(sample: Sample) -> Sample {
    Sample { value: sample.extra[1].1, ..sample }
}

/// How memory grows with the log.
fn memory(what: &str, records: usize, ours: &[Sample], small: &Sample) -> Row {
    let resident = median(ours.iter().map(|s| s.extra[0].1));
    Row {
        id: "P12",
        what: format!(
            "worm verify, {what}, memory at {} records over memory at a quarter of them",
            figure(records as f64)
        ),
        ours: format!("{} MiB", figure(resident)),
        reference: format!("{} MiB", figure(small.extra[0].1)),
        value: resident / small.extra[0].1,
        bound: Bound::AtMost { floor: 1.25, moonshot: None },
        command: command("P12"),
        notes: Vec::new(),
        refused: None,
    }
}
