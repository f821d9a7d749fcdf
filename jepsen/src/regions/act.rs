//! Faults between regions and in one of them: how each is brought and taken away, and how often it bit: a fault that nobody
//! could notice did not come.

use super::Two;
use super::ferry::{Rule, Tally};
use super::operator;
use crate::cluster::Cluster;
use crate::nemesis::Outcome;
use crate::rng::Rng;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// How long it may take until a fault is noticed.
const NOTICED: Duration = Duration::from_secs(10);
/// Bills under way of which the first is lost.
const ROW: usize = 3;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Fault {
    Cut,
    OneWay,
    Lag,
    Again,
    Garbled,
    Denied,
    Lies,
    Lost,
    Clock,
    Node,
    Lead,
    Region,
}

/// Every kind with its name and what it does.
pub const FAULTS: &[(Fault, &str, &str)] = &[
    (Fault::Cut, "region-cut", "nothing gets from either region to the other"),
    (Fault::OneWay, "one-way-cut", "nothing gets from one region to the other, but the other way"),
    (
        Fault::Lag,
        "region-lag",
        "shipments take seconds, each its own, so that bills come before their ranges",
    ),
    (Fault::Again, "old-objects", "bills, ranges and words of mirrors come again as they were"),
    (Fault::Garbled, "flipped-bits", "whatever gets from one region to the other has a flipped bit"),
    (Fault::Denied, "place-denied", "the place a region ships to, or the one it looks at, is not there"),
    (Fault::Lies, "place-lies", "a place loses the bill that it has just said to hold"),
    (Fault::Lost, "bill-lost", "a bill is lost behind which others lie, until an operator takes those away"),
    (Fault::Clock, "region-clock", "all clocks of one region are minutes away"),
    (Fault::Node, "node-killed", "SIGKILL of one node, whose disk loses what was not synced"),
    (Fault::Lead, "lead-killed", "SIGKILL of the node that ships"),
    (Fault::Region, "region-down", "power loss of one whole region"),
];

impl Fault {
    /// Its name.
    pub fn name(self) -> &'static str {
        FAULTS.iter().find(|(fault, ..)| *fault == self).map_or("", |(_, name, _)| name)
    }
}

/// What has to be done when a fault ends, and what tells how often it bit.
pub enum Undo {
    /// Nothing.
    Nothing,
    /// The ways are good again. These counted what it did, from these values on; and a region counts what it refused, if it has to
    /// refuse something.
    Ways(Counter, Vec<(usize, u64)>, Option<(usize, u64)>),
    /// A directory is what it was. The region that uses it counts in this metric, from this value on.
    Place(PathBuf, usize, &'static str, u64),
    /// This region ships this bill again, or an operator sees to that; the other one counts refusals, from this value on, if it has to
    /// refuse what lies behind.
    Bill(usize, PathBuf, Option<u64>),
    /// The clocks of this region, so many seconds away, are right.
    Clocks(usize, i64),
    /// These hosts of this region are started; so many processes were ended.
    Launch(usize, Vec<usize>, u64),
}

/// What a way counts.
type Counter = (fn(&Tally) -> &AtomicU64, &'static str);

const HELD: Counter = (|tally| &tally.held, "objects held back");
const OVERTAKEN: Counter = (|tally| &tally.overtaken, "objects overtaken by later ones");
const AGAIN: Counter = (|tally| &tally.again, "objects brought again");
const GARBLED: Counter = (|tally| &tally.garbled, "objects garbled");

/// How a fault ended.
pub struct Ended {
    /// For the history.
    pub outcome: Outcome,
    /// How often it bit, and what that is a number of.
    pub bites: (u64, &'static str),
}

/// Sum of a metric over the nodes of a region that answer.
fn sum(region: &Cluster, metric: &str) -> u64 {
    region.hosts.iter().filter_map(|host| host.metric(metric)).sum()
}

/// Ranges of the other region that this one refused.
fn refused(two: &Two, at: usize) -> u64 {
    let other = two.regions[1 - at].region_name();
    sum(&two.regions[at], &format!("flk_region_refused_total{{source_region=\"{other}\"}}"))
}

const ERRORS: &str = "wal_ship_errors_total";
const REFUSED: &str = "flk_region_refused_total";

fn counted(two: &Two, at: usize, metric: &str) -> u64 {
    if metric == REFUSED { refused(two, at) } else { sum(&two.regions[at], metric) }
}

/// Waits until something is so.
fn soon(so: impl Fn() -> bool) -> bool {
    let end = Instant::now() + NOTICED;
    while !so() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}

/// The processes of these hosts end, all before any disk loses what was not synced; how many there were.
fn power_off(region: &Cluster, hosts: &[usize], rng: &mut Rng) -> Result<u64, String> {
    let ran = hosts.iter().filter(|host| region.host(**host).kill()).count() as u64;
    for host in hosts {
        region.host(*host).disk.order(&format!("crash torn {}", rng.next() >> 1))?;
    }
    Ok(ran)
}

fn ways(two: &Two, which: &[usize], rule: Rule, counter: Counter) -> Undo {
    let before = which.iter().map(|way| (*way, counter.0(&two.ways[*way].tally).load(Ordering::Relaxed)));
    let before = before.collect();
    which.iter().for_each(|way| two.ways[*way].rule(rule));
    Undo::Ways(counter, before, None)
}

/// Brings a fault.
pub fn begin(fault: Fault, two: &Two, rng: &mut Rng) -> (Outcome, Undo) {
    let at = rng.below(2) as usize;
    let region = &two.regions[at];
    let name = region.region_name();
    let told = |result: Result<String, String>, undo| match result {
        Ok(what) => (Outcome::Installed(what), undo),
        Err(why) => (Outcome::Skipped(why), undo),
    };
    let both = |rule, counter| ways(two, &[0, 1], rule, counter);
    match fault {
        Fault::Cut => told(Ok("both ways".into()), both(Rule { cut: true, ..Rule::default() }, HELD)),
        Fault::OneWay => {
            let undo = ways(two, &[at], Rule { cut: true, ..Rule::default() }, HELD);
            told(Ok(format!("from {name}")), undo)
        }
        Fault::Lag => {
            let late_ms = rng.between(500, 3000);
            told(Ok(format!("up to {late_ms} ms")), both(Rule { late_ms, ..Rule::default() }, OVERTAKEN))
        }
        Fault::Again => told(Ok("both ways".into()), both(Rule { again: 60, ..Rule::default() }, AGAIN)),
        Fault::Garbled => {
            let before = refused(two, 1 - at);
            let undo = match ways(two, &[at], Rule { garbled: 100, ..Rule::default() }, GARBLED) {
                Undo::Ways(counter, ways, _) => Undo::Ways(counter, ways, Some((1 - at, before))),
                undo => undo,
            };
            told(Ok(format!("from {name}")), undo)
        }
        Fault::Denied => {
            let own = rng.chance(1, 2);
            let (place, metric) = if own { (&two.places[at], ERRORS) } else { (&two.views[at], REFUSED) };
            let undo = Undo::Place(place.clone(), at, metric, counted(two, at, metric));
            let what = if own { "ships to" } else { "looks at" };
            told(deny(place).map(|()| format!("what {name} {what}")), undo)
        }
        Fault::Lies => lie(two, at, rng),
        Fault::Lost => lose(two, at),
        Fault::Clock if !region.has_clocks() => told(Err("libfaketime is not there".into()), Undo::Nothing),
        Fault::Clock => {
            let seconds = rng.between(60, 600) as i64 * if rng.chance(1, 2) { 1 } else { -1 };
            let set = region.numbers().iter().try_for_each(|host| region.set_clock(*host, seconds));
            let set = set.map(|()| format!("{name}: {seconds:+} s")).map_err(|error| error.to_string());
            told(set, Undo::Clocks(at, seconds))
        }
        Fault::Node => {
            let host = *rng.pick(&region.numbers());
            killed(power_off(region, &[host], rng), format!("{name}: host {host}"), at, vec![host])
        }
        Fault::Lead => {
            let Some(host) = region.leader() else { return told(Err("nobody leads".into()), Undo::Nothing) };
            let ran = u64::from(region.host(host).kill());
            killed(Ok(ran), format!("{name}: host {host}"), at, vec![host])
        }
        Fault::Region => {
            let all = region.numbers();
            killed(power_off(region, &all, rng), name.to_owned(), at, all)
        }
    }
}

fn killed(ran: Result<u64, String>, what: String, at: usize, hosts: Vec<usize>) -> (Outcome, Undo) {
    let undo = Undo::Launch(at, hosts, *ran.as_ref().unwrap_or(&0));
    (ran.map_or_else(Outcome::Skipped, |_| Outcome::Installed(what)), undo)
}

/// The last bill is gone where it was put; where it had got to meanwhile, in one of two cases.
fn lie(two: &Two, at: usize, rng: &mut Rng) -> (Outcome, Undo) {
    let Some(last) = two.ways[at].bills().pop() else {
        return (Outcome::Skipped("nothing is shipped yet".into()), Undo::Nothing);
    };
    let far = rng.chance(1, 2);
    match std::fs::remove_file(&last) {
        Ok(()) => {
            let far = far && std::fs::remove_file(two.ways[at].at_far(&last)).is_ok();
            let what = if far { "at both ends" } else { "where it was put" };
            let name = two.regions[at].region_name();
            (
                Outcome::Installed(format!("{name}: {} is gone {what}", shown(&last))),
                Undo::Bill(at, last, None),
            )
        }
        Err(error) => (Outcome::Skipped(error.to_string()), Undo::Nothing),
    }
}

/// Of some bills that the other region has not seen, the first is lost, and the others arrive.
fn lose(two: &Two, at: usize) -> (Outcome, Undo) {
    let way = &two.ways[at];
    let before = refused(two, 1 - at);
    way.rule(Rule { cut: true, ..Rule::default() });
    let unseen = || way.bills().into_iter().filter(|bill| !way.at_far(bill).exists()).collect::<Vec<_>>();
    let there = soon(|| unseen().len() >= ROW);
    let lost = unseen().into_iter().next().filter(|_| there);
    let gone = lost
        .ok_or("too little was shipped".to_owned())
        .and_then(|lost| std::fs::remove_file(&lost).map(|()| lost).map_err(|error| error.to_string()));
    way.rule(Rule::default());
    match gone {
        Ok(lost) => {
            let what = format!("{}: {}", two.regions[at].region_name(), shown(&lost));
            (Outcome::Installed(what), Undo::Bill(at, lost, Some(before)))
        }
        Err(why) => (Outcome::Skipped(why), Undo::Nothing),
    }
}

fn shown(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// Where a place was, there is a file: whatever is asked of it fails.
fn deny(place: &Path) -> Result<(), String> {
    let denied = std::fs::rename(place, away(place)).and_then(|()| std::fs::write(place, "denied"));
    denied.map_err(|error| error.to_string())
}

fn allow(place: &Path) -> Result<(), String> {
    let allowed = std::fs::remove_file(place).and_then(|()| std::fs::rename(away(place), place));
    allowed.map_err(|error| error.to_string())
}

fn away(place: &Path) -> PathBuf {
    place.with_extension("away")
}

/// By how many seconds a region's clocks are away, by what it says of itself at its place.
fn clock_of(two: &Two, at: usize) -> Option<i64> {
    let said = std::fs::read_to_string(two.ways[at].near.join("standing")).ok()?;
    let time: i64 = said.lines().find_map(|line| line.strip_prefix("time "))?.parse().ok()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(time / 1000 - now.as_secs() as i64)
}

/// Takes a fault away.
pub fn end(undo: Undo, two: &Two) -> Ended {
    let (result, bites) = match undo {
        Undo::Nothing => (Ok("nothing to do".to_owned()), (0, "")),
        Undo::Ways((counter, what), before, refusals) => {
            let noticed = refusals.is_none_or(|(at, before)| soon(|| refused(two, at) > before));
            two.ways.iter().for_each(|way| way.rule(Rule::default()));
            let counted = |(way, before): &(usize, u64)| {
                counter(&two.ways[*way].tally).load(Ordering::Relaxed) - before
            };
            let sum: u64 = before.iter().map(counted).sum();
            (Ok("the ways are good".to_owned()), (if noticed { sum } else { 0 }, what))
        }
        Undo::Place(place, at, metric, before) => {
            let noticed = soon(|| counted(two, at, metric) > before);
            let more = if noticed { counted(two, at, metric) - before } else { 0 };
            (allow(&place).map(|()| "the place is back".to_owned()), (more, "failures told"))
        }
        Undo::Bill(at, lost, before) => {
            let noticed = before.is_none_or(|before| soon(|| refused(two, 1 - at) > before));
            let mended = operator::mend(&two.ways[at], &lost);
            let told =
                mended.map(|taken| format!("it was put again; {taken} bills behind it were taken away"));
            let bites = u64::from(noticed && told.is_some());
            (told.ok_or("it was not put again".to_owned()), (bites, "bills put again"))
        }
        Undo::Clocks(at, seconds) => {
            let seen = || clock_of(two, at).is_some_and(|away| away.abs_diff(seconds) < 30);
            let bites = u64::from(soon(seen));
            let region = &two.regions[at];
            let set = region.numbers().iter().try_for_each(|host| region.set_clock(*host, 0));
            let set = set.map(|()| "on time".to_owned()).map_err(|error| error.to_string());
            (set, (bites, "clocks seen away"))
        }
        Undo::Launch(at, hosts, ran) => {
            let region = &two.regions[at];
            let started = hosts.iter().try_for_each(|host| region.launch(*host));
            (started.map(|()| format!("started {hosts:?}")), (ran, "processes ended"))
        }
    };
    let outcome = match result {
        Ok(told) if bites.0 > 0 => Outcome::Installed(format!("{told}; {} {}", bites.0, bites.1)),
        Ok(told) => Outcome::Indeterminate(format!("{told}; nobody noticed it")),
        Err(why) => Outcome::Indeterminate(why),
    };
    Ended { outcome, bites }
}
