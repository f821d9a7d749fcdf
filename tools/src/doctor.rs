//! `flk doctor`: is this machine fit to keep a log, and is the node on it well.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::limits::{BLOCK, SEGMENT_SIZE};
use segments::{AnyDisk, Backend, Disk, Prefer};
use serde_json::json;

use crate::audit::home::{Home, HomeArgs, read_checkpoint};
use crate::bench::html::nanos;
use crate::http::Client;
use crate::keys::too_open;
use crate::receipt::signers;
use crate::report::{Exit, Fault, Report, State};
use crate::ui::{bytes, thousands};

/// Checks the disk, the clock, the data directory and the server
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Data directory of a node, or where one is to be
    #[arg(default_value = "flk-data")]
    pub dir: PathBuf,
    /// The server
    #[arg(long, env = "FLK_URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// File with the certificates (PEM) of the authorities that an address with https is held to [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Writes to time
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub syncs: u32,
    /// Do not ask a server
    #[arg(long, conflicts_with = "cluster")]
    pub offline: bool,
    /// Check the whole group instead of this machine: the server asks every node of its group; exit code 6 when the
    /// group is not whole
    #[arg(long)]
    pub cluster: bool,
    /// With --cluster: file of the administrator's token; else the environment variable FLK_ADMIN_TOKEN
    #[arg(long, value_name = "FILE", requires = "cluster")]
    pub token_file: Option<PathBuf>,
}

/// A sync faster than this cannot have reached a disk.
const TOO_FAST: Duration = Duration::from_micros(5);

/// A slower tail than this shows in every client's p99.
const SLOW: Duration = Duration::from_millis(20);

/// Looks at everything.
///
/// # Errors
/// There is nothing to look at: neither the directory nor the one it would stand in exists.
pub fn run(args: &Args) -> Result<Report, Fault> {
    if args.cluster {
        return crate::cluster::checkup(&args.url, args.ca.as_deref(), args.token_file.as_deref());
    }
    let mut report = Report::new("flk doctor");
    let folder = args.dir.ancestors().find(|path| path.is_dir()).map(Path::to_path_buf);
    let folder = match folder {
        Some(folder) => folder,
        None if args.dir.is_relative() => PathBuf::from("."),
        None => {
            let why = "neither it nor a folder above it exists";
            return Err(Fault::new("no such directory", args.dir.display(), why, "flk doctor DIR"));
        }
    };
    disk(&mut report, &folder, args.syncs);
    backends(&mut report, &folder, args.syncs);
    space(&mut report, &folder);
    directory(&mut report, &args.dir);
    clock(&mut report);
    if args.offline {
        report.check("server", State::Skipped, "not asked");
    } else {
        server(&mut report, &args.url, args.ca.as_deref());
    }
    let count = |state| report.checks.iter().filter(|check| check.state == state).count();
    let (fails, warns) = (count(State::Fail), count(State::Warn));
    report.exit = if fails > 0 { Exit::Failed } else { Exit::Ok };
    report.verdict = match (fails, warns) {
        (0, 0) => "fit to keep a log".into(),
        (0, 1) => "fit to keep a log, with one thing to look at".into(),
        (0, _) => format!("fit to keep a log, with {warns} things to look at"),
        (1, _) => "not fit: one check failed".into(),
        _ => format!("not fit: {fails} checks failed"),
    };
    Ok(report)
}

/// A file or folder that is removed when it is no longer used.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0).or_else(|_| std::fs::remove_dir_all(&self.0));
    }
}

/// Times of so many writes of one block, each followed by a sync, into a file that exists and is not growing.
fn time_syncs(folder: &Path, count: u32) -> io::Result<Vec<Duration>> {
    let scratch = Scratch(folder.join(format!(".flk-doctor-{}", std::process::id())));
    let file = OpenOptions::new().write(true).create_new(true).open(&scratch.0)?;
    let blocks = 64;
    file.write_all_at(&vec![0; blocks * BLOCK], 0)?;
    file.sync_all()?;
    let block = vec![0x5a; BLOCK];
    let mut times = Vec::with_capacity(count as usize);
    for n in 0..count as usize {
        let start = Instant::now();
        file.write_all_at(&block, (n % blocks * BLOCK) as u64)?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    Ok(times)
}

/// The time below which this share of all lie.
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let at = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

fn show(time: Duration) -> String {
    nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

fn disk(report: &mut Report, folder: &Path, count: u32) {
    let mut times = match time_syncs(folder, count) {
        Ok(times) => times,
        Err(error) => {
            report.check(
                "disk",
                State::Fail,
                format!("cannot write and sync in {}: {error}", folder.display()),
            );
            return;
        }
    };
    times.sort_unstable();
    let (p50, p99) = (quantile(&times, 0.5), quantile(&times, 0.99));
    let (state, remark) = if p50 < TOO_FAST {
        (State::Warn, "; no disk is that fast: is this memory?")
    } else if p99 > SLOW {
        (State::Warn, "; every client will feel this")
    } else {
        (State::Ok, "")
    };
    report.check(
        "disk",
        state,
        format!("write and sync of 4 KiB: p50 {}, p99 {}{remark}", show(p50), show(p99)),
    );
    report.data["disk"] =
        json!({"syncs": count, "p50_ns": p50.as_nanos() as u64, "p99_ns": p99.as_nanos() as u64});
}

/// Blocks of the file the backends are timed on.
const SCRATCH_BLOCKS: u64 = 64;

/// Times of so many writes of one block and their syncs through one of the log's own disks, and which it was.
fn time_backend(folder: &Path, prefer: Prefer, count: u32) -> io::Result<(Vec<Duration>, Backend)> {
    let own = Scratch(folder.join(format!(".flk-doctor-{}-{prefer:?}", std::process::id())));
    let (mut disk, backend) = AnyDisk::open(&own.0, prefer)?;
    let name = segments::segment_name(1);
    disk.prepare(&name, SCRATCH_BLOCKS * BLOCK as u64)?;
    disk.prepared(true).unwrap_or_else(|| Err(io::Error::other("the file was not made")))?;
    let file = disk.open(&name)?;
    disk.reserve(1, BLOCK)?;
    let slot = segments::Slot(0);
    disk.buffer(slot).fill(0x5a);
    let mut times = Vec::with_capacity(count as usize);
    for n in 0..u64::from(count) {
        let start = Instant::now();
        disk.submit(slot, file, n % SCRATCH_BLOCKS * BLOCK as u64, BLOCK)?;
        let done = disk.complete(true)?.ok_or_else(|| io::Error::other("a write vanished"))?;
        done.result?;
        times.push(start.elapsed());
    }
    Ok((times, backend))
}

/// Which of the log's disks this machine allows, and which is faster on it, one write at a time.
fn backends(report: &mut Report, folder: &Path, count: u32) {
    let measure = |prefer| {
        time_backend(folder, prefer, count).map(|(mut times, backend)| {
            times.sort_unstable();
            (quantile(&times, 0.5), quantile(&times, 0.99), backend)
        })
    };
    let (posix, uring) = (measure(Prefer::Posix), measure(Prefer::Uring));
    let text = |name: &str, measured: &io::Result<(Duration, Duration, Backend)>| match measured {
        Ok((p50, p99, _)) => format!("{name} p50 {} p99 {}", show(*p50), show(*p99)),
        Err(error) => format!("{name} refused: {error}"),
    };
    let both = format!("{}; {}", text("io_uring", &uring), text("pwrite", &posix));
    report.data["backends"] = json!({
        "io_uring_p50_ns": uring.as_ref().ok().map(|(p50, ..)| p50.as_nanos() as u64),
        "posix_p50_ns": posix.as_ref().ok().map(|(p50, ..)| p50.as_nanos() as u64),
    });
    match (&uring, &posix) {
        (Err(_), Err(error)) => {
            report.check("io backend", State::Fail, format!("neither disk works here: {error}"))
        }
        (Err(_), Ok(_)) => {
            report.check(
                "io backend",
                State::Warn,
                format!("{both}; a container's seccomp profile often forbids io_uring"),
            );
        }
        (Ok((uring_p50, ..)), Ok((posix_p50, ..)))
            if uring_p50.as_secs_f64() > 1.3 * posix_p50.as_secs_f64() =>
        {
            report.check("io backend", State::Warn, format!("{both}; pwrite is faster here: FLK_DISK=posix"));
        }
        _ => report.check("io backend", State::Ok, both),
    }
}

fn space(report: &mut Report, folder: &Path) {
    match rustix::fs::statvfs(folder) {
        Err(error) => report.check("space", State::Fail, format!("{}: {error}", folder.display())),
        Ok(stat) => {
            let (free, total) = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
            let share = free as f64 / total.max(1) as f64;
            let state = match () {
                // The log zeroes the next segment before it needs it.
                () if free < 3 * SEGMENT_SIZE as u64 => State::Fail,
                () if share < 0.1 => State::Warn,
                () => State::Ok,
            };
            let detail = format!("{} free of {} ({:.0} %)", bytes(free), bytes(total), share * 100.0);
            report.check("space", state, detail);
            report.data["space"] = json!({"free": free, "total": total});
        }
    }
}

/// Whether some process runs on the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lock {
    None,
    Free,
    Held,
}

fn lock(dir: &Path) -> io::Result<Lock> {
    match File::open(dir.join("LOCK")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Lock::None),
        Err(error) => Err(error),
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => Ok(Lock::Free),
            Err(TryLockError::WouldBlock) => Ok(Lock::Held),
            Err(TryLockError::Error(error)) => Err(error),
        },
    }
}

/// The log's public keys, and whether they signed what the directory publishes.
fn signatures(report: &mut Report, dir: &Path) {
    let Ok(home) = Home::open(&HomeArgs::of(dir)) else { return };
    let keys = match home.verifier(None) {
        Ok(Some(keys)) => keys,
        Ok(None) => return,
        Err(fault) => {
            return report.check("log keys", State::Fail, format!("{}: {}", fault.place, fault.why));
        }
    };
    for region in home.regions() {
        let Ok((_, signed)) = read_checkpoint(&home.checkpoint(&region)) else { continue };
        let over = format!("the checkpoint over {} entries", thousands(signed.checkpoint.size));
        match keys.verify(&signed) {
            Ok(held) if held.silent.is_empty() => {
                let sets = match keys.sets() {
                    1 => String::new(),
                    sets => format!("; set {sets} of the log's keys"),
                };
                report.check("log keys", State::Ok, format!("{} signed {over}{sets}", signers(&held)));
            }
            Ok(held) => {
                let detail = format!(
                    "{} signed {over}, {} did not yet: the next one has both",
                    signers(&held),
                    held.silent[0].algorithm()
                );
                report.check("log keys", State::Warn, detail);
            }
            Err(error) => report.check("log keys", State::Fail, format!("{over}: {error}")),
        }
    }
}

fn directory(report: &mut Report, dir: &Path) {
    let mut text = String::new();
    let read = File::open(dir.join("identity")).and_then(|file| file.take(4096).read_to_string(&mut text));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let what = if dir.is_dir() { "holds no log yet" } else { "does not exist yet" };
            report.check("directory", State::Skipped, format!("{} {what}", dir.display()));
            return;
        }
        Err(error) => {
            report.check("directory", State::Fail, format!("{}: {error}", dir.join("identity").display()));
            return;
        }
        Ok(_) => {}
    }
    let of = |name: &str| {
        text.lines().find_map(|line| {
            let (have, value) = line.split_once('=')?;
            (have.trim() == name).then(|| value.trim().to_owned())
        })
    };
    let who = format!(
        "region {}, node {}",
        of("region").unwrap_or_else(|| "?".into()),
        of("node").unwrap_or_else(|| "?".into())
    );
    match lock(dir) {
        Ok(Lock::Held) => report.check(
            "directory",
            State::Ok,
            format!("{} ({who}), in use by a running flkd", dir.display()),
        ),
        Ok(Lock::Free | Lock::None) => {
            report.check("directory", State::Ok, format!("{} ({who}), not in use", dir.display()))
        }
        Err(error) => {
            report.check("directory", State::Fail, format!("{}: {error}", dir.join("LOCK").display()))
        }
    }
    signatures(report, dir);
    let open: Vec<String> = ["keys/kek", "keys/log.key"]
        .into_iter()
        .filter(|name| too_open(&dir.join(name)))
        .map(|name| dir.join(name).display().to_string())
        .collect();
    if open.is_empty() {
        report.check("keys", State::Ok, "readable by their owner only");
    } else {
        report.check("keys", State::Warn, format!("others may read {}; chmod 600 it", open.join(" and ")));
    }
}

/// 2025-01-01: no clock that is right shows an earlier time.
const NOT_BEFORE: u64 = 1_735_689_600;

fn clock(report: &mut Report) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // SAFETY: an all-zero `timex` is valid: it asks for the state and changes nothing.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `state` is a valid `timex` that outlives the call.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    let stamp = jiff::Timestamp::from_second(now.as_secs().cast_signed())
        .map(|stamp| stamp.to_string())
        .unwrap_or_default();
    let (level, detail) = if now.as_secs() < NOT_BEFORE {
        (State::Fail, format!("{stamp} is in the past: set the clock"))
    } else if result < 0 || result == libc::TIME_ERROR || state.status & libc::STA_UNSYNC != 0 {
        (State::Warn, format!("{stamp}; nothing keeps it right: run chrony or another time service"))
    } else {
        (State::Ok, format!("{stamp}, synchronised, estimated error {} us", state.esterror))
    };
    report.check("clock", level, detail);
}

fn server(report: &mut Report, url: &str, ca: Option<&Path>) {
    let answer = Client::trusting(url, Duration::from_secs(5), ca)
        .map_err(|fault| fault.why)
        .and_then(|mut client| client.get("/readyz?verbose").map_err(|error| error.to_string()));
    match answer {
        Err(why) => report.check("server", State::Warn, format!("{url}: {why}")),
        Ok(answer) => {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let state = if answer.status == 200 { State::Ok } else { State::Fail };
            let word = if answer.status == 200 { "ready" } else { "not ready" };
            report.check("server", state, format!("{url} is {word}"));
            for line in text.lines().filter(|line| line.starts_with('[')).take(32) {
                let (mark, rest) = line.split_at(line.len().min(3));
                let (name, detail) = rest.trim().split_once(": ").unwrap_or((rest.trim(), ""));
                let state = if mark == "[+]" { State::Ok } else { State::Fail };
                report.check(format!("  {name}"), state, detail);
            }
            report.data["ready"] = json!(answer.status == 200);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(dir: &Path) -> Args {
        Args {
            dir: dir.to_owned(),
            url: "http://127.0.0.1:1".into(),
            ca: None,
            syncs: 10,
            offline: true,
            cluster: false,
            token_file: None,
        }
    }

    fn state(report: &Report, name: &str) -> State {
        report.checks.iter().find(|check| check.name == name).unwrap().state
    }

    #[test]
    fn nothing_is_left_behind_and_nothing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("flk-data");
        let report = run(&args(&dir)).unwrap();
        assert_eq!(state(&report, "directory"), State::Skipped);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(report.data["disk"]["p50_ns"].as_u64().unwrap() > 0);
    }

    #[test]
    fn a_directory_in_use_and_loose_keys_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        std::fs::write(dir.join("identity"), "region = eu\nnode = 1\n").unwrap();
        std::fs::create_dir(dir.join("keys")).unwrap();
        crate::keys::write_secret(&dir.join("keys/kek"), "x").unwrap();
        assert_eq!(lock(dir).unwrap(), Lock::None);
        let held = File::create(dir.join("LOCK")).unwrap();
        assert_eq!(lock(dir).unwrap(), Lock::Free);
        held.try_lock().unwrap();
        assert_eq!(lock(dir).unwrap(), Lock::Held);
        let report = run(&args(dir)).unwrap();
        let detail = &report.checks.iter().find(|check| check.name == "directory").unwrap().detail;
        assert!(detail.contains("region eu, node 1") && detail.contains("in use"), "{detail}");
        assert_eq!(state(&report, "keys"), State::Ok);
        crate::keys::write_public(&dir.join("keys/log.key"), "x").unwrap();
        assert_eq!(state(&run(&args(dir)).unwrap(), "keys"), State::Warn);
    }

    #[test]
    fn a_server_that_is_not_there_is_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let report = run(&Args { offline: false, ..args(folder.path()) }).unwrap();
        assert_eq!(state(&report, "server"), State::Warn);
    }
}
