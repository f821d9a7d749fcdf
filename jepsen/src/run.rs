//! One run from the first mount to the verdict.

use crate::Options;
use crate::check::{self, Valid, Verdict};
use crate::cluster::{Cluster, HOSTS, faketime, say};
use crate::edn;
use crate::evidence::{self, Node};
use crate::history::Event;
use crate::nemesis::{self, Fault};
use crate::net::Net;
use crate::report;
use crate::workload::{self, Shared};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Beyond the time asked for: start, healing, final reads, replays. Whoever takes longer is ended.
const ALLOWANCE: Duration = Duration::from_secs(600);

/// Runs and judges.
///
/// # Errors
/// Why there is nothing to judge.
pub fn run(options: &Options, faults: &[Fault], bins: &Path) -> Result<Valid, String> {
    let out = options.out.as_deref().ok_or("no directory")?;
    bound(options.seconds);
    say(&format!("seed {}, {} s, in {}", options.seed, options.seconds, out.display()));
    let mut faults = faults.to_vec();
    if faults.contains(&Fault::Clock) && faketime().is_none() {
        say("SKIPPED clock (counts as not run): libfaketime is not there (Debian's package libfaketime)");
        faults.retain(|fault| *fault != Fault::Clock);
    }
    let net = Net::start(HOSTS, options.seed).map_err(|error| format!("the network: {error}"))?;
    let cluster = Cluster::start(net, bins, out, faults.contains(&Fault::Clock))?;
    say("three nodes are ready");
    let shared = Shared::new(options.ops);
    let mut clients = workload::setonce::start(&shared, options.seed, HOSTS, 16);
    clients.extend(workload::tenants::start(&shared, options.seed));
    clients.extend(workload::audit::start(&shared, options.seed));
    let time = Duration::from_secs(options.seconds);
    let (over, latest) = (Instant::now() + time, Instant::now() + 3 * time);
    std::thread::scope(|scope| {
        let brings = scope.spawn(|| nemesis::run(&cluster, &shared, &faults, options.seed, over, latest));
        scope.spawn(|| workload::audit::copies(&cluster, &shared, options.seed));
        std::thread::sleep(over.saturating_duration_since(Instant::now()));
        let _ = brings.join();
        shared.stop.store(true, Ordering::SeqCst);
    });
    let over = shared.recorder.nanos();
    clients.into_iter().for_each(|client| drop(client.join()));
    heal(&cluster);
    if !nemesis::settled(&cluster, Duration::from_secs(60)) {
        nemesis::unsettled(&cluster, &shared);
    }
    let keys = shared.keys();
    say(&format!("healed; reading {} ids of every node, then replaying each log", keys.len()));
    workload::finish::read_all(&shared, &keys, HOSTS);
    let nodes = evidence::collect(&cluster);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let tally = cluster.net.tally();
    say(&format!(
        "packets: {} carried, {} dropped, {} late, {} doubled",
        count(&tally.carried),
        count(&tally.dropped),
        count(&tally.delayed),
        count(&tally.doubled)
    ));
    let history = shared.recorder.take();
    write(&history, out).map_err(|error| format!("{}: {error}", out.display()))?;
    // Large, and the last one only; refused ones were put aside.
    let _ = std::fs::remove_dir_all(out.join("copy"));
    let verdicts = judge(&history, &nodes, &faults, over);
    print(&verdicts);
    let title =
        format!("Three nodes, seed {}, {} s, faults: {}", options.seed, options.seconds, options.nemesis);
    let page = report::page(&title, &history, &verdicts, over);
    let report = out.join("report.html");
    std::fs::write(&report, page).map_err(|error| format!("{}: {error}", report.display()))?;
    say(&format!("history {}, report {}", out.join("history.edn").display(), report.display()));
    Ok(check::overall(&verdicts))
}

/// Ends this process when a run of so many seconds does not end by itself.
pub fn bound(seconds: u64) {
    let bound = 4 * Duration::from_secs(seconds) + ALLOWANCE;
    std::thread::spawn(move || {
        std::thread::sleep(bound);
        eprintln!("jepsen: it did not end in {bound:?}: unknown");
        std::process::exit(3);
    });
}

/// Takes everything away that a fault has left, and starts what is down.
pub fn heal(cluster: &Cluster) {
    cluster.net.heal();
    for host in &cluster.hosts {
        let _ = cluster.set_clock(host.number, 0);
        let _ = host.disk.order("heal");
        host.signal(libc::SIGCONT);
        if let Err(why) = cluster.launch(host.number) {
            say(&why);
        }
    }
}

pub fn write(history: &[Event], out: &Path) -> std::io::Result<()> {
    let mut text = String::new();
    for (index, event) in history.iter().enumerate() {
        let _ = writeln!(text, "{}", edn::line(index, event));
    }
    std::fs::write(out.join("history.edn"), text)
}

/// The checkers that need a history and nothing else.
pub fn judge_again(history: &[Event]) -> Vec<Verdict> {
    let hosts: Vec<u64> = (1..=HOSTS as u64).collect();
    // Clients were told to stop before the first of the final reads.
    let last = history.iter().find(|event| event.f == "final").or(history.last());
    vec![
        check::setonce::check(history),
        check::durable::check(history, &hosts),
        check::recovery::check(history, last.map_or(0, |event| event.time)),
    ]
}

/// All checkers. `over` is when clients were told to stop.
pub fn judge(history: &[Event], nodes: &[Node], faults: &[Fault], over: u64) -> Vec<Verdict> {
    let hosts: Vec<u64> = (1..=HOSTS as u64).collect();
    let names: Vec<&str> = faults.iter().map(|fault| fault.name()).collect();
    vec![
        check::setonce::check(history),
        check::durable::check(history, &hosts),
        check::audit::check(history, nodes),
        check::projections::check(history, nodes),
        check::once::check(history, nodes),
        check::tenants::check(history, nodes),
        check::recovery::check(history, over),
        check::coverage::check(history, &names, &["fsync-error"]),
        check::logs::check(history, nodes, &[]),
    ]
}

/// Shows verdicts to whoever watches.
pub fn print(verdicts: &[Verdict]) {
    for verdict in verdicts {
        say(&format!("{:<3} {:<7} {}: {}", verdict.id, verdict.valid, verdict.name, verdict.note));
        for complaint in &verdict.complaints {
            say(&format!("      {complaint}"));
        }
        if verdict.wrong > verdict.complaints.len() {
            say(&format!("      and {} more", verdict.wrong - verdict.complaints.len()));
        }
    }
    say(&format!("valid: {}", check::overall(verdicts)));
}
