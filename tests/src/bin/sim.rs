//! The simulator's command line.
//!
//! `sim --seed N --steps M [--runs K] [--mutants SEEDS] [--nodes 3]`: runs seeds N to N+K-1 and prints, for each, its
//! options, its schedule hash and its faults by class; a seed that breaks a promise is named and can be run
//! again, bit for bit. With `--mutants`, runs every planted bug until it is caught, over at most so many seeds.

use std::process::ExitCode;

use tests::sim::{self, SimOptions, mutants};
use tests::trio::{self, TrioOptions};

struct Args {
    seed: u64,
    steps: u64,
    runs: u64,
    mutants: Option<u64>,
    nodes: u64,
}

fn args() -> Result<Args, String> {
    let mut args = Args { seed: 1, steps: 400, runs: 1, mutants: None, nodes: 1 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a number"))?;
        let value = value.parse().map_err(|_| format!("{word} needs a number, not {value}"))?;
        match word.as_str() {
            "--seed" => args.seed = value,
            "--steps" => args.steps = value,
            "--runs" => args.runs = value,
            "--mutants" => args.mutants = Some(value),
            "--nodes" if value == 1 || value == 3 => args.nodes = value,
            _ => {
                return Err(format!(
                    "{word} is not known; try --seed, --steps, --runs, --mutants, --nodes 3"
                ));
            }
        }
    }
    Ok(args)
}

fn main() -> ExitCode {
    let args = match args() {
        Ok(args) => args,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let good = match args.mutants {
        Some(seeds) => sim::quietly(|| hunt(&args, seeds)),
        None => {
            let run = if args.nodes == 3 { three } else { one };
            (args.seed..args.seed + args.runs).filter(|seed| !run(*seed, args.steps)).count() == 0
        }
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn three(seed: u64, steps: u64) -> bool {
    let report = trio::run(&TrioOptions::new(seed, steps));
    let (asked, acknowledged, read) = report.asked;
    println!(
        "seed {seed} steps {steps} nodes 3 | hash {:016x} virtual {} ms | lives {} terms {} asked {asked} acknowledged {acknowledged} read {read} messages {} lost {}",
        report.hash, report.virtual_ms, report.lives, report.terms, report.messages.0, report.messages.1,
    );
    for violation in &report.violations {
        println!("  BROKEN {violation}");
    }
    report.violations.is_empty()
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
