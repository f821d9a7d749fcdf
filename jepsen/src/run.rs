//! One run from the first mount to the verdict.

use crate::Options;
use crate::check::{self, Valid, Verdict};
use crate::cluster::{Cluster, HOSTS, faketime, say};
use crate::edn;
use crate::history::Event;
use crate::nemesis::{self, Fault};
use crate::net::Net;
use crate::pcs::TENANTS;
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
    let bound = 3 * Duration::from_secs(options.seconds) + ALLOWANCE;
    std::thread::spawn(move || {
        std::thread::sleep(bound);
        eprintln!("jepsen: it did not end in {bound:?}: unknown");
        std::process::exit(3);
    });
    say(&format!("seed {}, {} s, in {}", options.seed, options.seconds, out.display()));
    if faults.contains(&Fault::Clock) && faketime().is_none() {
        say("libfaketime is not there (Debian's package libfaketime): the fault clock will be skipped");
    }
    let net = Net::start(HOSTS, options.seed).map_err(|error| format!("the network: {error}"))?;
    let cluster = Cluster::start(net, bins, out, faults.contains(&Fault::Clock))?;
    say("three nodes are ready");
    let shared = Shared::new(options.ops);
    let clients = workload::setonce::start(&shared, options.seed);
    let over = Instant::now() + Duration::from_secs(options.seconds);
    std::thread::scope(|scope| {
        scope.spawn(|| nemesis::run(&cluster, &shared, faults, options.seed, over));
        std::thread::sleep(over.saturating_duration_since(Instant::now()));
    });
    shared.stop.store(true, Ordering::SeqCst);
    clients.into_iter().for_each(|client| drop(client.join()));
    heal(&cluster);
    if !nemesis::settled(&cluster, Duration::from_secs(60)) {
        say(&format!("not all nodes came back: {}", nemesis::waiting(&cluster)));
    }
    let newest = shared.newest.load(Ordering::SeqCst);
    let keys: Vec<(usize, u64)> =
        (0..=newest).flat_map(|number| (0..TENANTS.len() - 1).map(move |tenant| (tenant, number))).collect();
    say(&format!("healed; reading {} ids of every node", keys.len()));
    workload::finish::read_all(&shared, &keys);
    for host in &cluster.hosts {
        host.stop(Duration::from_secs(20));
    }
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
    let hosts: Vec<u64> = (1..=HOSTS as u64).collect();
    let verdicts = judge_history(&history, &hosts);
    print(&verdicts);
    Ok(check::overall(&verdicts))
}

fn heal(cluster: &Cluster) {
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

fn write(history: &[Event], out: &Path) -> std::io::Result<()> {
    let mut text = String::new();
    for (index, event) in history.iter().enumerate() {
        let _ = writeln!(text, "{}", edn::line(index, event));
    }
    std::fs::write(out.join("history.edn"), text)
}

/// What a history alone can say; `hosts` are those that must have everything.
pub fn judge_history(history: &[Event], hosts: &[u64]) -> Vec<Verdict> {
    vec![check::setonce::check(history), check::durable::check(history, hosts)]
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
