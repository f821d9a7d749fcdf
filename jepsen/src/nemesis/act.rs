//! How each fault is brought and taken away.

use super::{Fault, Outcome};
use crate::cluster::{Cluster, Host, sync};
use crate::net::Rule;
use crate::rng::Rng;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a scrubber may take to find rot and to repair it.
const SCRUBBED_WITHIN: Duration = Duration::from_secs(30);

/// What has to be done when a fault ends.
pub enum Undo {
    /// Nothing.
    Nothing,
    /// Start the nodes of these hosts.
    Launch(Vec<usize>),
    /// Let this host's node go on.
    Resume(usize),
    /// Make all links good.
    Network,
    /// Set this host's clock right.
    Clock(usize),
    /// Give this host's disk room, or its usual speed.
    Order(usize, &'static str),
    /// Put a new node in the place of this host's.
    Replace(usize),
    /// Wait until this host's node has read its log again and found it whole; it had made so many passes.
    Scrubbed(usize, u64),
    /// Start this host's node, and wait until it has read its log again and found it whole.
    Repaired(usize),
    /// Restart this host's node; its log counts this many failed syncs if the fault came.
    Restart(usize, u64),
}

fn installed(what: impl Into<String>, undo: Undo) -> (Outcome, Undo) {
    (Outcome::Installed(what.into()), undo)
}

fn skipped(why: impl Into<String>) -> (Outcome, Undo) {
    (Outcome::Skipped(why.into()), Undo::Nothing)
}

/// The leader's host in two of three cases, if there is a leader; else any.
fn victim(cluster: &Cluster, rng: &mut Rng) -> usize {
    let any = *rng.pick(&cluster.numbers());
    if rng.chance(1, 3) { any } else { cluster.leader().unwrap_or(any) }
}

fn other(cluster: &Cluster, host: usize, rng: &mut Rng) -> usize {
    let others: Vec<usize> = cluster.numbers().into_iter().filter(|other| *other != host).collect();
    *rng.pick(&others)
}

/// Loses or tears what this host's disk had not synced.
fn power_off(cluster: &Cluster, host: usize, rng: &mut Rng) -> Result<(), String> {
    // What is made from the log is not synced: until the node has been started its files may be torn.
    cluster.host(host).spoiled.store(true, Ordering::SeqCst);
    cluster.host(host).kill();
    let torn = format!("crash torn {}", rng.next() >> 1);
    cluster.host(host).disk.order(if rng.chance(1, 3) { "crash" } else { &torn })
}

/// Brings a fault.
pub fn begin(fault: Fault, cluster: &Cluster, rng: &mut Rng) -> (Outcome, Undo) {
    let host = victim(cluster, rng);
    let at = format!("host {host}");
    match fault {
        Fault::Kill => match cluster.host(host).kill() {
            true => installed(at, Undo::Launch(vec![host])),
            false => (Outcome::Skipped(format!("{at} is down")), Undo::Launch(vec![host])),
        },
        Fault::Power => or_skipped(power_off(cluster, host, rng).map(|()| at), Undo::Launch(vec![host])),
        Fault::PowerAll => {
            let all = cluster.numbers();
            // All first lose their process, so that nobody learns what another one is about to lose.
            for host in &cluster.hosts {
                host.kill();
            }
            let lost = all.iter().try_for_each(|host| power_off(cluster, *host, rng));
            or_skipped(lost.map(|()| "all hosts".to_owned()), Undo::Launch(all))
        }
        Fault::Pause => match cluster.host(host).signal(libc::SIGSTOP) {
            true => installed(at, Undo::Resume(host)),
            false => skipped(format!("{at} is down")),
        },
        Fault::OneWay => {
            let to = other(cluster, host, rng);
            cluster.net.rule(host, to, Rule { cut: true, ..Rule::default() });
            installed(format!("{host} -> {to}"), Undo::Network)
        }
        Fault::Isolate => {
            cluster.numbers().into_iter().filter(|to| *to != host).for_each(|to| cut(cluster, host, to));
            installed(at, Undo::Network)
        }
        Fault::Bridge => {
            let to = other(cluster, host, rng);
            cut(cluster, host, to);
            installed(format!("{host} and {to} see only the third"), Undo::Network)
        }
        Fault::Latency => {
            let (delay_us, jitter_us) = (rng.between(5_000, 40_000), rng.between(1_000, 30_000));
            everywhere(cluster, Rule { delay_us, jitter_us, ..Rule::default() });
            installed(format!("{delay_us} us and up to {jitter_us} more"), Undo::Network)
        }
        Fault::Loss => {
            let (loss, dup) = (rng.between(20, 150), rng.between(0, 100));
            everywhere(cluster, Rule { loss, dup, ..Rule::default() });
            installed(format!("{loss} of 1000 lost, {dup} doubled"), Undo::Network)
        }
        Fault::Clock => clock(cluster, host, rng),
        Fault::Full => {
            let room = cluster.host(host).disk.tally("used") + rng.below(64 << 10);
            let ordered = cluster.host(host).disk.order(&format!("capacity {room}"));
            or_skipped(ordered.map(|()| at), Undo::Order(host, "capacity 68719476736"))
        }
        Fault::FsyncError => fsync_error(cluster, host, rng),
        Fault::Slow => {
            let delay = rng.between(20, 300);
            let ordered = cluster.host(host).disk.order(&format!("fsync-delay {delay}"));
            or_skipped(ordered.map(|()| format!("{at}: {delay} ms")), Undo::Order(host, "fsync-delay 0"))
        }
        Fault::Truncate => truncate(cluster, rng),
        Fault::Rot => rot(cluster, rng),
        Fault::Wipe => wipe(cluster, host),
        Fault::Upgrade => upgrade(cluster, rng),
        Fault::Everything => skipped("it stands for several others"),
    }
}

fn or_skipped(result: Result<String, String>, undo: Undo) -> (Outcome, Undo) {
    (result.map_or_else(Outcome::Skipped, Outcome::Installed), undo)
}

fn cut(cluster: &Cluster, one: usize, other: usize) {
    let rule = Rule { cut: true, ..Rule::default() };
    cluster.net.rule(one, other, rule);
    cluster.net.rule(other, one, rule);
}

/// Between the nodes; what clients see of it they see through the nodes.
fn everywhere(cluster: &Cluster, rule: Rule) {
    let all = || cluster.numbers().into_iter();
    all().for_each(|from| all().filter(|to| *to != from).for_each(|to| cluster.net.rule(from, to, rule)));
}

fn clock(cluster: &Cluster, host: usize, rng: &mut Rng) -> (Outcome, Undo) {
    if !cluster.has_clocks() {
        return skipped("libfaketime is not there (Debian's package libfaketime)");
    }
    // Names are remembered for 14 days of log time: a group that believed one clock would forget them.
    let far = rng.between(60, 60 * 86_400) as i64;
    let jump = if rng.chance(1, 2) { far } else { -far };
    // There and back some times, before it stays: a node stamps with whatever it sees.
    for _ in 0..rng.below(3) {
        let _ = cluster.set_clock(host, jump);
        std::thread::sleep(Duration::from_millis(rng.between(100, 400)));
        let _ = cluster.set_clock(host, 0);
        std::thread::sleep(Duration::from_millis(rng.between(100, 400)));
    }
    let set = cluster.set_clock(host, jump).map_err(|error| error.to_string());
    or_skipped(set.map(|()| format!("host {host}: {jump:+} s")), Undo::Clock(host))
}

fn fsync_error(cluster: &Cluster, host: usize, rng: &mut Rng) -> (Outcome, Undo) {
    let after = if rng.chance(1, 2) { "keep" } else { "revert" };
    let (node, disk) = (cluster.host(host).name(), &cluster.host(host).disk);
    let before = disk.tally("fsync_errors");
    let ordered = disk.order(&format!("fsync-eio {} {after} node-{node}/log", rng.between(1, 6)));
    or_skipped(ordered.map(|()| format!("host {host}, {after}")), Undo::Restart(host, before))
}

/// A node that does not lead, and one of its sealed segments. Only one node at a time is damaged: the others are what is left
/// to trust.
fn sealed<'a>(cluster: &'a Cluster, rng: &mut Rng) -> Result<(&'a Host, PathBuf), String> {
    let Some(leader) = cluster.leader().filter(|_| super::settled(cluster, Duration::from_secs(10))) else {
        return Err("another node is not ready: the group could not spare one".to_owned());
    };
    let host = cluster.host(other(cluster, leader, rng));
    let mut files = Vec::new();
    collect(&host.data().join("log"), &mut files).map_err(|error| error.to_string())?;
    files.retain(|path| path.extension().is_some_and(|ending| ending == "seg"));
    files.sort();
    // The last is zeroed ahead, the one before is written to; both are still in the log's own hands.
    files.truncate(files.len().saturating_sub(2));
    if files.is_empty() {
        return Err("no segment is sealed yet".to_owned());
    }
    Ok((host, rng.pick(&files).clone()))
}

/// Flips bits in a sealed segment.
fn rot(cluster: &Cluster, rng: &mut Rng) -> (Outcome, Undo) {
    let (host, path) = match sealed(cluster, rng) {
        Ok(found) => found,
        Err(why) => return skipped(why),
    };
    let Some(before) = host.metric("flk_scrub_passes_total") else { return skipped("it does not answer") };
    let length = path.metadata().map_or(1, |metadata| metadata.len().max(1));
    let (at, bits) = (rng.below(length), rng.between(1, 255));
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    host.spoiled.store(true, Ordering::SeqCst);
    let ordered = host.disk.order(&format!("rot node-{}/log/{name} {at} {bits}", host.name()));
    let number = host.number;
    or_skipped(ordered.map(|()| format!("host {number}: {name} at {at}")), Undo::Scrubbed(number, before))
}

/// Waits until a node's scrubber has been over all of its log since, and nothing is damaged.
fn scrubbed(cluster: &Cluster, host: usize, before: u64) -> Option<String> {
    let host = cluster.host(host);
    let end = Instant::now() + SCRUBBED_WITHIN;
    while Instant::now() < end {
        let passes = host.metric("flk_scrub_passes_total");
        // A pass may have been under way; and one that has been restarted meanwhile counts from nothing.
        let over = passes
            .is_some_and(|passes| passes >= before.saturating_add(2) || (passes < before && passes >= 1));
        if over
            && host.metric("flk_scrub_damage") == Some(0)
            && let Some(repaired) = host.metric("flk_repairs_done_total")
        {
            return Some(format!("host {} is whole, {repaired} repairs since its start", host.number));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    None
}

/// Cuts the end off a file of a node that is down: a sealed segment, or one of those that are made from the log.
fn truncate(cluster: &Cluster, rng: &mut Rng) -> (Outcome, Undo) {
    if rng.chance(1, 2)
        && let Ok((host, path)) = sealed(cluster, rng)
    {
        host.spoiled.store(true, Ordering::SeqCst);
        host.kill();
        let repaired = Undo::Repaired(host.number);
        return or_skipped(cut_short(&path, rng), repaired);
    }
    let host = cluster.host(victim(cluster, rng));
    host.spoiled.store(true, Ordering::SeqCst);
    host.kill();
    let mut files = Vec::new();
    for made in ["worm", "tlog", "proj"] {
        if let Err(error) = collect(&host.data().join(made), &mut files) {
            return (Outcome::Skipped(format!("{made}: {error}")), Undo::Launch(vec![host.number]));
        }
    }
    files.sort();
    if files.is_empty() {
        return (Outcome::Skipped("no file has been made yet".to_owned()), Undo::Launch(vec![host.number]));
    }
    or_skipped(cut_short(rng.pick(&files).as_path(), rng), Undo::Launch(vec![host.number]))
}

fn cut_short(path: &Path, rng: &mut Rng) -> Result<String, String> {
    let mut cut = || {
        let file = std::fs::OpenOptions::new().write(true).open(path)?;
        let length = file.metadata()?.len();
        let left = rng.below(length.max(1));
        file.set_len(left)?;
        file.sync_all()?;
        Ok(format!("{} from {length} to {left}", path.display()))
    };
    let told: std::io::Result<String> = cut();
    told.map_err(|error| format!("{}: {error}", path.display()))
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !directory.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { collect(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

/// The disk is lost. Under its old name the node must not come back; a new one takes its place.
fn wipe(cluster: &Cluster, number: usize) -> (Outcome, Undo) {
    if !super::settled(cluster, Duration::from_secs(10)) {
        return skipped("another node is not ready: the group could not spare one");
    }
    if !cluster.has_names() {
        return skipped("no certificate is left for another name");
    }
    let host = cluster.host(number);
    let old = host.name();
    host.spoiled.store(true, Ordering::SeqCst);
    host.kill();
    let refused = || {
        lose(&host.data())?;
        cluster.launch(number)?;
        std::thread::sleep(Duration::from_millis(700));
        if host.ready() {
            Err("it came back with an empty disk under its old name".to_owned())
        } else {
            Ok(())
        }
    };
    let told = refused();
    host.kill();
    match told {
        Ok(()) => {
            installed(format!("host {number}: node {old} is refused without its disk"), Undo::Replace(number))
        }
        Err(why) => (Outcome::Indeterminate(format!("node {old}: {why}")), Undo::Replace(number)),
    }
}

/// All that a node had is gone, and stays gone.
fn lose(data: &Path) -> Result<(), String> {
    match std::fs::remove_dir_all(data) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.to_string()),
        _ => {}
    }
    let above = data.parent().ok_or("a data directory stands on a disk")?;
    sync(above).map_err(|error| error.to_string())
}

/// A new node takes the place of one that is lost.
fn replace(cluster: &Cluster, number: usize) -> Result<String, String> {
    let host = cluster.host(number);
    let old = host.name();
    lose(&host.data())?;
    let others = cluster.hosts.iter().filter(|other| other.number != number && other.runs());
    let asked = others.map(|other| other.number).next().ok_or("no other node runs")?;
    let said = cluster.ask(asked, &["remove", &old.to_string()])?;
    if said.code != Some(0) {
        return Err(format!("flk cluster remove: {}", said.brief()));
    }
    let new = cluster.rename(number).ok_or("no certificate is left for another name")?;
    cluster.launch(number)?;
    cluster.take_in(number)?;
    Ok(format!("host {number}: node {old} removed, node {new} taken in"))
}

fn upgrade(cluster: &Cluster, rng: &mut Rng) -> (Outcome, Undo) {
    let mut order = cluster.numbers();
    rng.shuffle(&mut order);
    for host in &order {
        if !super::settled(cluster, Duration::from_secs(10)) {
            return skipped("a node is not ready");
        }
        let drained = cluster.ask(*host, &["drain"]).map_or_else(|why| why, |said| said.brief());
        let stopped = cluster.host(*host).stop(Duration::from_secs(20));
        if let Err(why) = cluster.launch(*host) {
            return (Outcome::Indeterminate(why), Undo::Launch(vec![*host]));
        }
        if !stopped {
            return (
                Outcome::Indeterminate(format!("host {host} did not stop; drain: {drained}")),
                Undo::Nothing,
            );
        }
    }
    installed(format!("hosts {order:?}"), Undo::Nothing)
}

/// Takes a fault away.
pub fn end(undo: Undo, cluster: &Cluster, rng: &mut Rng) -> Outcome {
    let done = |result: Result<(), String>, what: &str| match result {
        Ok(()) => Outcome::Installed(what.to_owned()),
        Err(why) => Outcome::Indeterminate(why),
    };
    match undo {
        Undo::Nothing => Outcome::Installed("nothing to do".to_owned()),
        Undo::Launch(hosts) => {
            done(hosts.iter().try_for_each(|host| cluster.launch(*host)), &format!("started {hosts:?}"))
        }
        Undo::Resume(host) => {
            cluster.host(host).signal(libc::SIGCONT);
            Outcome::Installed(format!("host {host} goes on"))
        }
        Undo::Network => {
            cluster.net.heal();
            Outcome::Installed("all links are good".to_owned())
        }
        Undo::Clock(host) => {
            let set = cluster.set_clock(host, 0).map_err(|error| error.to_string());
            done(set, &format!("host {host} is on time"))
        }
        Undo::Replace(host) => replace(cluster, host).map_or_else(Outcome::Indeterminate, Outcome::Installed),
        Undo::Order(host, order) => done(cluster.host(host).disk.order(order), order),
        Undo::Scrubbed(host, before) => match scrubbed(cluster, host, before) {
            Some(repaired) => Outcome::Installed(repaired),
            None => {
                let healed = cluster.host(host).disk.order("heal");
                Outcome::Indeterminate(format!(
                    "host {host} did not repair itself; a good copy is put back: {healed:?}"
                ))
            }
        },
        Undo::Repaired(host) => match cluster.launch(host) {
            Err(why) => Outcome::Indeterminate(why),
            // A process that was started now has made no pass before.
            Ok(()) => scrubbed(cluster, host, u64::MAX).map_or_else(
                || Outcome::Indeterminate(format!("host {host} did not repair itself")),
                Outcome::Installed,
            ),
        },
        Undo::Restart(host, before) => {
            let disk = &cluster.host(host).disk;
            let failed = disk.tally("fsync_errors") > before;
            // What is not synced may be gone, or may have been thought to be synced by a naive retry.
            let lost = power_off(cluster, host, rng).and_then(|()| disk.order("heal"));
            let started = lost.and_then(|()| cluster.launch(host));
            match (started, failed) {
                (Ok(()), true) => Outcome::Installed(format!("host {host} restarted after a failed fsync")),
                (Ok(()), false) => Outcome::Indeterminate(format!("host {host} restarted, no fsync failed")),
                (Err(why), _) => Outcome::Indeterminate(why),
            }
        }
    }
}
