//! Two regions of three nodes on a bad day: what is between them, what befalls it, and what must be true in the end.
//!
//! Each region ships to a place of its own, and [`ferry`] carries what lies there to where the other one looks. When everything
//! has been healed and judged, one region is lost for good, and the other must have what was proven of it.

mod act;
mod check;
mod ferry;
mod look;
mod operator;

use crate::Options;
use crate::check::{Valid, Verdict, coverage, logs, overall, recovery};
use crate::cluster::{Cluster, HOSTS, PATIENCE, Region, faketime, say, text};
use crate::evidence::{self, Node};
use crate::history::Event;
use crate::nemesis::{self, Outcome};
use crate::net::Net;
use crate::pcs::Rival;
use crate::report;
use crate::rng::Rng;
use crate::run;
use crate::workload::{self, Actor, Shared};
pub use act::{FAULTS, Fault};
use check::{Left, Lost};
use ferry::Way;
use look::Watch;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How long both regions may take to agree once everything is healed.
const AGREE: Duration = Duration::from_secs(90);
/// Longest wait for all nodes after a step.
const SETTLE: Duration = Duration::from_secs(30);
/// Longest time that a step takes if nothing is wrong.
const STEP: Duration = Duration::from_secs(3);
/// One of so many operations of clients begins with a new id: clients of both regions meet at each of them, and all are read by all in the end.
const NEW: u64 = 48;
/// Submissions to a region just before it is lost.
const LAST: u64 = 60;

/// Both regions and what is between them.
pub struct Two {
    /// The regions `a` and `b`.
    pub regions: [Cluster; 2],
    /// The place of each.
    pub places: [PathBuf; 2],
    /// Where each looks for the other one's shipments.
    pub views: [PathBuf; 2],
    /// From each region's place to where the other one looks.
    pub ways: [Arc<Way>; 2],
}

/// The kinds of faults that a command line names.
///
/// # Errors
/// A name that is none.
pub fn faults(names: &str) -> Result<Vec<Fault>, String> {
    let named = |name: &str| {
        let found = FAULTS.iter().find(|(_, own, _)| *own == name).map(|(fault, ..)| *fault);
        found.ok_or_else(|| format!("there is no fault named {name:?} between regions; see jepsen faults"))
    };
    match names {
        "all" => Ok(FAULTS.iter().map(|(fault, ..)| *fault).collect()),
        "none" => Ok(Vec::new()),
        names => names.split(',').map(named).collect(),
    }
}

/// Runs and judges.
///
/// # Errors
/// Why there is nothing to judge.
pub fn run(options: &Options, faults: &[Fault], bins: &Path) -> Result<Valid, String> {
    let out = options.out.as_deref().ok_or("no directory")?;
    run::bound(options.seconds);
    say(&format!("two regions, seed {}, {} s, in {}", options.seed, options.seconds, out.display()));
    let mut faults = faults.to_vec();
    if faults.contains(&Fault::Clock) && faketime().is_none() {
        say(
            "SKIPPED region-clock (counts as not run): libfaketime is not there (Debian's package libfaketime)",
        );
        faults.retain(|fault| *fault != Fault::Clock);
    }
    let two = start(options, bins, out, faults.contains(&Fault::Clock))?;
    say("two regions of three nodes are ready");
    let shared = Shared::new(options.ops);
    let watch = Watch::new();
    let clients = workload::setonce::start(&shared, options.seed, 2 * HOSTS, NEW);
    let time = Duration::from_secs(options.seconds);
    let (over, latest) = (Instant::now() + time, Instant::now() + 3 * time);
    let mut left = Left::default();
    let mut ended = 0;
    let (mut nodes, mut came) = (Vec::new(), Came::new());
    std::thread::scope(|scope| {
        scope.spawn(|| watch.run(&two));
        came = befall(&two, &shared, &faults, options.seed, over, latest);
        std::thread::sleep(over.saturating_duration_since(Instant::now()));
        shared.stop.store(true, Ordering::SeqCst);
        ended = shared.recorder.nanos();
        clients.into_iter().for_each(|client| drop(client.join()));
        two.regions.iter().for_each(run::heal);
        left.pages = agree(&two, &shared);
        let keys = shared.keys();
        say(&format!("healed; reading {} ids of every node, then replaying each log", keys.len()));
        workload::finish::read_all(&shared, &keys, 2 * HOSTS);
        let region = Rng::new(options.seed, "loss").below(2) as usize;
        (left.lost, nodes) = lose(&two, &shared, region);
        watch.end();
        let kept = &two.regions[1 - region];
        left.last = left.pages.clone();
        left.last.extend(settled_pages(kept));
        nodes.extend(evidence::collect(kept));
    });
    left.found = watch.take();
    two.ways.iter().for_each(|way| way.end());
    let tally = |of: fn(&Way) -> u64| two.ways.iter().map(|way| of(way)).sum::<u64>();
    say(&format!("objects: {} carried", tally(|way| way.tally.carried.load(Ordering::Relaxed))));
    let history = shared.recorder.take();
    run::write(&history, out).map_err(|error| format!("{}: {error}", out.display()))?;
    let hosts: Vec<u64> = (1..=2 * HOSTS as u64).collect();
    let names: Vec<&str> = faults.iter().map(|fault| fault.name()).collect();
    let verdicts = vec![
        check::convergence(&history, &left, &hosts),
        check::one_truth(&history),
        check::no_skip(&nodes, &left),
        check::not_early(&left),
        check::lost(&history, &left),
        recovers("C7a", &history, 0, ended),
        recovers("C7b", &history, 1, ended),
        covered(&history, &names, &came),
        logs::check(&history, &nodes, logs::OF_SOUND_DISKS),
    ];
    run::print(&verdicts);
    let (seed, seconds) = (options.seed, options.seconds);
    let title = format!("Two regions of three nodes, seed {seed}, {seconds} s, faults: {}", options.nemesis);
    let report = out.join("report.html");
    std::fs::write(&report, report::page(&title, &history, &verdicts, ended))
        .map_err(|error| format!("{}: {error}", report.display()))?;
    say(&format!("history {}, report {}", out.join("history.edn").display(), report.display()));
    Ok(overall(&verdicts))
}

fn start(options: &Options, bins: &Path, out: &Path, clock: bool) -> Result<Two, String> {
    let net = Net::start(2 * HOSTS, options.seed).map_err(|error| format!("the network: {error}"))?;
    let names = ["a", "b"];
    let places = names.map(|name| out.join(format!("place-{name}")));
    let views = names.map(|name| out.join(format!("view-{name}")));
    for dir in places.iter().chain(&views).cloned().chain(names.map(|name| out.join(name))) {
        std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    }
    let region = |at: usize| {
        let region = Region { name: names[at], place: places[at].clone(), peers: OnceLock::new() };
        Cluster::start_at(1 + at * HOSTS, Some(region), net.clone(), bins, &out.join(names[at]), clock)
    };
    let regions = [region(0)?, region(1)?];
    for (at, other) in [(0, 1), (1, 0)] {
        let vkey = out.join(format!("{}.vkey", names[other]));
        std::fs::copy(regions[other].hosts[0].data().join("keys/region.vkey"), &vkey)
            .map_err(|error| format!("the keys of region {}: {error}", names[other]))?;
        let peer = format!("{} {} {}", names[other], text(&views[at]), text(&vkey));
        let known = regions[at].region.as_ref().map(|region| region.peers.set(peer));
        known.and_then(Result::ok).ok_or("a region is told of the other one once")?;
    }
    let ways = [
        Way::start(&places[0], &views[1], names[0], options.seed),
        Way::start(&places[1], &views[0], names[1], options.seed),
    ];
    let two = Two { regions, places, views, ways };
    for region in &two.regions {
        for host in region.numbers() {
            region.host(host).stop(PATIENCE);
            region.launch(host)?;
        }
    }
    for region in &two.regions {
        if !nemesis::settled(region, PATIENCE) {
            return Err(format!("region {} is not ready again with its peer", region.region_name()));
        }
    }
    Ok(two)
}

/// How often each kind of fault came, how often it bit, and what that is a number of.
type Came = BTreeMap<Fault, (u64, u64, &'static str)>;

/// Brings every kind of fault once a round until it is over. Goes on beyond that, at most until `latest`, for what has not come yet.
fn befall(
    two: &Two,
    shared: &Arc<Shared>,
    kinds: &[Fault],
    seed: u64,
    over: Instant,
    latest: Instant,
) -> Came {
    let mut rng = Rng::new(seed, "nemesis of regions");
    let (mut came, mut round): (Came, Vec<Fault>) = Default::default();
    while !kinds.is_empty() {
        if round.is_empty() {
            round = kinds.to_vec();
            rng.shuffle(&mut round);
        }
        let Some(fault) = round.pop() else { break };
        let now = Instant::now();
        let absent = kinds.iter().any(|kind| !came.contains_key(kind));
        if now >= latest || (now + STEP >= over && !absent) {
            break;
        }
        if now + STEP >= over && came.contains_key(&fault) {
            continue;
        }
        nemesis::note(shared, &format!("start-{}", fault.name()), None);
        let (outcome, undo) = act::begin(fault, two, &mut rng);
        nemesis::note(shared, &format!("start-{}", fault.name()), Some(&outcome));
        let began = matches!(outcome, Outcome::Installed(_));
        if began {
            std::thread::sleep(Duration::from_millis(rng.between(1200, 3200)));
        }
        let ended = act::end(undo, two);
        nemesis::note(shared, &format!("stop-{}", fault.name()), Some(&ended.outcome));
        if began && matches!(ended.outcome, Outcome::Installed(_)) {
            let (bites, what) = ended.bites;
            let sum = came.entry(fault).or_insert((0, 0, what));
            *sum = (sum.0 + 1, sum.1 + bites, what);
        }
        for region in two.regions.iter().filter(|region| !nemesis::settled(region, SETTLE)) {
            nemesis::unsettled(region, shared);
        }
    }
    came
}

/// C8, with how often each fault bit.
fn covered(history: &[Event], names: &[&str], came: &Came) -> Verdict {
    let mut verdict = coverage::check(history, names, names);
    for (fault, (times, bites, what)) in came {
        let _ = write!(verdict.note, "; {} {times} times: {bites} {what}", fault.name());
    }
    verdict
}

/// C7 of one region alone: the other one may answer meanwhile.
fn recovers(id: &'static str, history: &[Event], region: usize, over: u64) -> Verdict {
    let own = |event: &&Event| event.process.is_none() || check::region_of(event.node) == region;
    let history: Vec<Event> = history.iter().filter(own).cloned().collect();
    Verdict { id, ..recovery::check(&history, over) }
}

/// Waits until every node of both regions says the same and all is proven; what they say then.
fn agree(two: &Two, shared: &Shared) -> BTreeMap<usize, look::Page> {
    let begun = Instant::now();
    loop {
        let mut pages = look::pages(&two.regions[0]);
        pages.extend(look::pages(&two.regions[1]));
        let first = pages.values().next().map(|page| page.merged.clone()).unwrap_or_default();
        let same = pages.values().all(|page| page.merged == first && page.proven == page.newest);
        if (pages.len() == 2 * HOSTS && same && !first.is_empty()) || begun.elapsed() > AGREE {
            let what = format!("{} nodes after {:.1} s", pages.len(), begun.elapsed().as_secs_f64());
            let what = if same { Outcome::Installed(what) } else { Outcome::Indeterminate(what) };
            nemesis::note(shared, "agreed", Some(&what));
            return pages;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Waits until the nodes of one region say the same of what they hold; what they say.
fn settled_pages(region: &Cluster) -> BTreeMap<usize, look::Page> {
    let end = Instant::now() + SETTLE;
    loop {
        let pages = look::pages(region);
        let digests: BTreeSet<&str> = pages.values().map(|page| page.merged.as_str()).collect();
        if (pages.len() == HOSTS && digests.len() == 1) || Instant::now() > end {
            return pages;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// One region is lost for good, in the middle of work: its nodes end and its disks are empty. What the other one has then, and what
/// its nodes had.
fn lose(two: &Two, shared: &Arc<Shared>, region: usize) -> (Option<Lost>, Vec<Node>) {
    let (gone, kept) = (&two.regions[region], &two.regions[1 - region]);
    let hosts = gone.numbers();
    let mut nodes = evidence::running(gone);
    // Numbers that nobody else has used.
    let base = 1 << 40;
    let mut actor = Actor::new(shared, hosts[0]);
    for number in base..base + LAST {
        actor.submit_as("last", Rival { tenant: 0, number, rival: 0 });
        std::thread::sleep(Duration::from_millis(30));
    }
    let proven = look::pages(gone).values().map(|page| page.proven).max().unwrap_or(0);
    nemesis::note(shared, "start-region-lost", Some(&Outcome::Installed(gone.region_name().to_owned())));
    for host in &gone.hosts {
        host.kill();
    }
    evidence::ended(gone, &mut nodes);
    for host in &gone.hosts {
        let _ = std::fs::remove_dir_all(host.data());
    }
    // What was shipped is somewhere; it has some time to arrive.
    let held = || look::pages(kept).values().map(|page| page.leaves).max().unwrap_or(0);
    let end = Instant::now() + Duration::from_secs(15);
    let mut last = held();
    while Instant::now() < end {
        std::thread::sleep(Duration::from_secs(2));
        let now = held();
        if now == last {
            break;
        }
        last = now;
    }
    let mut actor = Actor::new(shared, kept.numbers()[0]);
    for number in base..base + LAST {
        actor.read("after-loss", 0, number);
    }
    (Some(Lost { region, proven, held: last }), nodes)
}

#[test]
fn every_kind_has_a_name() {
    assert!(FAULTS.iter().all(|(fault, name, _)| fault.name() == *name));
    assert_eq!(faults("all").map(|all| all.len()), Ok(FAULTS.len()));
    assert!(faults("region-cut,unheard-of").is_err());
}
