//! The simulator's command line.
//!
//! `sim --seed N --steps M --runs K` runs seeds N to N+K-1 of one node; with `--nodes 3` or `5`, of a whole group.
//! Each prints its options, its schedule hash and its faults by class; a seed that breaks a promise is named and
//! can be run again, bit for bit. `--mutants SEEDS` runs every planted bug until it is caught, over at most so
//! many seeds; `--mutant NAME` runs with one of them. `--only 3,17` lets only these events of a group's plan take
//! effect, `--rot 1` has the logs of a group rot, and `--minimise 1` finds the fewest with which a seed still fails.
//! `--regions 2` or `3` runs regions of one or three nodes that ship their logs to each other.

mod regions;

use std::process::ExitCode;
use std::time::Instant;

use tests::sim::{self, SimOptions, mutants};
use tests::trio::{self, TrioOptions};

#[derive(Clone)]
struct Args {
    seed: u64,
    steps: u64,
    runs: u64,
    mutants: Option<u64>,
    nodes: u64,
    regions: u64,
    named: Option<String>,
    minimise: bool,
    mutant: Option<(String, trio::mutants::Mutant)>,
    clients: Option<u64>,
    rot: bool,
    only: Option<std::collections::BTreeSet<u64>>,
}

const USAGE: &str = "try --seed N --steps N --runs N --nodes 1|3|5 --regions 1|2|3 --mutants SEEDS --mutant NAME; with --nodes 3 also \
                     --minimise 1 --only 3,17 --clients N --rot 1";

fn args() -> Result<Args, String> {
    let mut args = Args {
        seed: 1,
        steps: 400,
        runs: 1,
        mutants: None,
        nodes: 1,
        regions: 1,
        named: None,
        minimise: false,
        mutant: None,
        clients: None,
        rot: false,
        only: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value; {USAGE}"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{word} needs a number, not {value}"));
        match word.as_str() {
            "--seed" => args.seed = number()?,
            "--steps" => args.steps = number()?,
            "--runs" => args.runs = number()?,
            "--mutants" => args.mutants = Some(number()?),
            "--clients" => args.clients = Some(number()?),
            "--rot" => args.rot = number()? == 1,
            "--minimise" => args.minimise = number()? == 1,
            "--nodes" if matches!(value.as_str(), "1" | "3" | "5") => args.nodes = number()?,
            "--regions" if matches!(value.as_str(), "1" | "2" | "3") => args.regions = number()?,
            "--mutant" => args.named = Some(value),
            "--only" => {
                let events = value.split(',').filter(|event| !event.is_empty()).map(str::parse);
                args.only =
                    Some(events.collect::<Result<_, _>>().map_err(|_| format!("--only {value}: numbers"))?);
            }
            _ => return Err(format!("{word} {value} is not known; {USAGE}")),
        }
    }
    if args.regions == 1
        && let Some(name) = &args.named
    {
        let known = || trio::mutants::all().into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" ");
        let mutant = trio::mutants::named(name);
        let mutant = mutant.ok_or_else(|| format!("no mutant is named {name}; there are: {}", known()))?;
        args.mutant = Some((name.clone(), mutant));
    }
    Ok(args)
}

fn main() -> ExitCode {
    if let Ok(filter) = std::env::var("SIM_LOG") {
        let shown = tracing_subscriber::fmt().with_env_filter(filter).without_time();
        shown.with_writer(std::io::stderr).init();
    }
    let args = match args() {
        Ok(args) => args,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if args.regions > 1 {
        return match regions::main(&args) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::from(2)
            }
        };
    }
    let good = match (args.mutants, args.nodes) {
        (Some(seeds), 1) => sim::quietly(|| hunt(&args, seeds)),
        (Some(seeds), _) => sim::quietly(|| hunt_groups(&args, seeds)),
        (None, 1) => (args.seed..args.seed + args.runs).filter(|seed| !one(*seed, args.steps)).count() == 0,
        (None, _) if args.minimise => sim::quietly(|| minimise(&args)),
        (None, _) => groups(&args),
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options(args: &Args, seed: u64) -> TrioOptions {
    let mut options =
        TrioOptions { nodes: args.nodes, only: args.only.clone(), ..TrioOptions::new(seed, args.steps) };
    let wrong = args.mutant.as_ref().is_some_and(|(_, mutant)| mutant.repairs());
    options.rot = args.rot || wrong;
    options.clients = args.clients.unwrap_or(options.clients);
    options.mutant = args.mutant.as_ref().map_or(options.mutant, |(_, mutant)| *mutant);
    options
}

/// The command that runs this again.
fn command(args: &Args, options: &TrioOptions) -> String {
    let only = options.only.as_ref().map(|only| {
        let events: Vec<String> = only.iter().map(u64::to_string).collect();
        format!(" --only {}", if events.is_empty() { ",".into() } else { events.join(",") })
    });
    let mutant = args.mutant.as_ref().map(|(name, _)| format!(" --mutant {name}"));
    format!(
        "sim --nodes {} --seed {} --steps {} --clients {}{}{}{}",
        options.nodes,
        options.seed,
        options.steps,
        options.clients,
        if options.rot { " --rot 1" } else { "" },
        mutant.unwrap_or_default(),
        only.unwrap_or_default()
    )
}

fn groups(args: &Args) -> bool {
    let (begun, mut bad, mut virtual_ms) = (Instant::now(), Vec::new(), 0);
    let (mut faults, mut checked) = (std::collections::BTreeMap::new(), 0);
    for seed in args.seed..args.seed + args.runs {
        let options = options(args, seed);
        let report = trio::run(&options);
        let (asked, answered, read) = report.asked;
        println!(
            "seed {seed} steps {} nodes {} | hash {:016x} virtual {} ms | lives {} terms {} asked {asked} answered {answered} read {read} records {} alarms {}",
            args.steps,
            args.nodes,
            report.hash,
            report.virtual_ms,
            report.lives,
            report.terms,
            report.records,
            report.alarms,
        );
        if !report.violations.is_empty() {
            bad.push(seed);
            report.violations.iter().for_each(|broken| println!("  BROKEN {broken}"));
            println!("  again: {}", command(args, &options));
        }
        virtual_ms += report.virtual_ms;
        checked += answered + read;
        let suffered = &report.suffered;
        let more = [
            ("message lost", report.counts.lost),
            ("message cut", report.counts.cut),
            ("message twice", report.counts.twice),
            ("wrong directory refused", report.counts.refused),
            ("write lost", suffered.lost_writes),
            ("write torn", suffered.torn_writes),
            ("name lost", suffered.lost_names),
            ("death at a point, reached", suffered.points),
            ("no room", suffered.refusals),
            ("death in a repair", suffered.deaths_in_repair),
            ("segment repaired", report.repairs.0),
            ("repair in vain", report.repairs.1),
        ];
        for (class, count) in report.befell.into_iter().chain(more) {
            *faults.entry(class).or_insert(0) += count;
        }
    }
    let (seconds, virtual_s) = (begun.elapsed().as_secs_f64(), virtual_ms as f64 / 1000.0);
    println!("faults by class: {}", list(&faults));
    println!(
        "{} runs, {} broken {bad:?} | {} faults, {checked} operations checked, {virtual_s:.0} virtual seconds in {seconds:.1} s: {:.0} times as fast as time, {:.1} virtual hours an hour and core",
        args.runs,
        bad.len(),
        faults.values().sum::<u64>(),
        virtual_s / seconds,
        virtual_s / seconds,
    );
    bad.is_empty()
}

fn list(faults: &std::collections::BTreeMap<&str, u64>) -> String {
    faults.iter().map(|(class, count)| format!("{class} {count}")).collect::<Vec<_>>().join(", ")
}

fn minimise(args: &Args) -> bool {
    let options = options(args, args.seed);
    let Some((least, broken, runs)) = trio::minimise(&options) else {
        println!("seed {} breaks nothing", args.seed);
        return false;
    };
    println!("BROKEN {broken}\nfound in {runs} runs:");
    for nth in least.only.iter().flatten() {
        let (_, event) = trio::plan::event(least.seed, *nth, least.rot);
        println!("  event {nth}: {event:?}");
    }
    println!("again: {}", command(args, &least));
    true
}

fn hunt_groups(args: &Args, seeds: u64) -> bool {
    let begun = Instant::now();
    let all: Vec<_> = match &args.mutant {
        Some((name, mutant)) => vec![(name.as_str(), *mutant)],
        None => trio::mutants::all(),
    };
    let mut killed = Vec::new();
    for (name, mutant) in &all {
        let options = TrioOptions { mutant: *mutant, ..options(args, args.seed) };
        match trio::mutants::seeds_to_kill(&options, seeds) {
            Some((count, broken)) => {
                killed.push(count);
                println!("{name}: killed by {count} {}: {broken}", if count == 1 { "seed" } else { "seeds" });
            }
            None => println!("{name}: ALIVE after {seeds} seeds"),
        }
    }
    killed.sort_unstable();
    let median = killed.get(killed.len() / 2).copied().unwrap_or(0);
    println!(
        "{} of {} mutants killed in {:.1} s; seeds to kill: median {median}, most {}, all {killed:?}",
        killed.len(),
        all.len(),
        begun.elapsed().as_secs_f64(),
        killed.last().copied().unwrap_or(0)
    );
    killed.len() == all.len()
}

fn one(seed: u64, steps: u64) -> bool {
    let options = SimOptions::new(seed, steps);
    let report = sim::run(&options);
    println!(
        "seed {seed} steps {steps} segments {} clients {} | hash {:016x} polls {} virtual {} ms | lives {} led {} asked {} answered {} records {}",
        options.segment_bytes,
        options.clients,
        report.hash,
        report.polls,
        report.virtual_ms,
        report.lives.0,
        report.lives.1,
        report.asked.0,
        report.asked.1,
        report.records
    );
    println!("  faults: {:?} {:?}", report.suffered, report.befell);
    report.violations.iter().for_each(|broken| println!("  BROKEN {broken}"));
    report.violations.is_empty()
}

fn hunt(args: &Args, seeds: u64) -> bool {
    let mut alive = 0;
    for (name, mutant) in mutants::all() {
        let caught = (args.seed..args.seed + seeds).find_map(|seed| {
            let report = sim::run(&SimOptions { mutant, ..SimOptions::new(seed, args.steps) });
            report.violations.first().map(|broken| (seed - args.seed + 1, broken.clone()))
        });
        match caught {
            Some((count, broken)) => println!("{name}: caught by seed {count}: {broken}"),
            None => {
                alive += 1;
                println!("{name}: ALIVE after {seeds} seeds");
            }
        }
    }
    println!("{} of {} mutants caught", mutants::all().len() - alive, mutants::all().len());
    alive == 0
}
