//! `sim --regions 2`: regions that ship their logs to each other.

use std::collections::BTreeMap;
use std::time::Instant;

use tests::geo::mutants::{self, Mutant};
use tests::geo::{self, GeoOptions};
use tests::sim;

use super::{Args, list};

/// Whether all is good.
pub fn main(args: &Args) -> Result<bool, String> {
    if args.nodes == 5 || args.rot || args.minimise || args.only.is_some() {
        return Err(
            "with --regions: --nodes 1 or 3, --seed, --steps, --runs, --clients, --mutant, --mutants".into(),
        );
    }
    let mutant = match &args.named {
        None => Mutant::None,
        Some(name) => mutants::named(name).ok_or_else(|| {
            let known: Vec<&str> = mutants::all().into_iter().map(|(name, _)| name).collect();
            format!("no mutant is named {name}; there are: {}", known.join(" "))
        })?,
    };
    Ok(match args.mutants {
        Some(seeds) => sim::quietly(|| hunt(args, mutant, seeds)),
        None => runs(args, mutant),
    })
}

fn options(args: &Args, seed: u64, mutant: Mutant) -> GeoOptions {
    let options = GeoOptions::new(seed, args.steps, args.regions as usize, args.nodes as usize);
    GeoOptions { mutant, clients: args.clients.unwrap_or(options.clients), ..options }
}

fn runs(args: &Args, mutant: Mutant) -> bool {
    let (begun, mut bad, mut virtual_ms, mut checked) = (Instant::now(), Vec::new(), 0, 0);
    let mut faults: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in args.seed..args.seed + args.runs {
        let options = options(args, seed, mutant);
        let report = geo::run(&options);
        println!(
            "seed {seed} steps {} regions {} nodes {}{} | hash {:016x} virtual {} ms | lives {} asked {} answered {} records {:?} of others {:?} conflicts {} withheld {} requests {}",
            args.steps,
            args.regions,
            args.nodes,
            if options.loss { " one is lost" } else { "" },
            report.hash,
            report.virtual_ms,
            report.lives,
            report.asked.0,
            report.asked.1,
            report.records,
            report.imported,
            report.conflicts,
            report.withheld,
            report.requests,
        );
        if !report.violations.is_empty() {
            bad.push(seed);
            report.violations.iter().for_each(|broken| println!("  BROKEN {broken}"));
            println!(
                "  again: sim --regions {} --nodes {} --seed {seed} --steps {}{}",
                args.regions,
                args.nodes,
                args.steps,
                args.named.as_ref().map(|name| format!(" --mutant {name}")).unwrap_or_default(),
            );
        }
        virtual_ms += report.virtual_ms;
        checked += report.asked.1 + report.imported.iter().sum::<u64>();
        report.befell.into_iter().for_each(|(class, count)| *faults.entry(class).or_insert(0) += count);
    }
    let (seconds, virtual_s) = (begun.elapsed().as_secs_f64(), virtual_ms as f64 / 1000.0);
    println!("faults by class: {}", list(&faults));
    println!(
        "{} runs, {} broken {bad:?} | {} faults, {checked} answers and imported records checked, {virtual_s:.0} virtual seconds in {seconds:.1} s: {:.0} times as fast as time",
        args.runs,
        bad.len(),
        faults.values().sum::<u64>(),
        virtual_s / seconds,
    );
    bad.is_empty()
}

fn hunt(args: &Args, one: Mutant, seeds: u64) -> bool {
    let begun = Instant::now();
    let all: Vec<_> = mutants::all()
        .into_iter()
        .filter(|(_, mutant)| matches!(one, Mutant::None) || *mutant == one)
        .collect();
    let mut killed = Vec::new();
    for (name, mutant) in &all {
        let fresh = |seed| options(args, seed, *mutant);
        match mutants::seeds_to_kill(fresh, args.seed, seeds) {
            Some((count, broken)) => {
                killed.push(count);
                println!("{name}: killed by {count} {}: {broken}", if count == 1 { "seed" } else { "seeds" });
            }
            None => println!("{name}: ALIVE after {seeds} seeds"),
        }
    }
    killed.sort_unstable();
    println!(
        "{} of {} mutants killed in {:.1} s; seeds to kill: median {}, most {}, all {killed:?}",
        killed.len(),
        all.len(),
        begun.elapsed().as_secs_f64(),
        killed.get(killed.len() / 2).copied().unwrap_or(0),
        killed.last().copied().unwrap_or(0)
    );
    killed.len() == all.len()
}
