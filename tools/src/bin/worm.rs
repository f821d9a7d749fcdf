//! `worm`: what an auditor does with a log, offline and without any secret.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tools::cli::{Output, finish, parse};
use tools::worm::{check, export, fetch, lineage, overview, population, prove, reconcile, tamper, verify};

// Judging makes many small things on several threads and drops them on others.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Checks an FLK log: nothing it says is believed, everything is computed again
///
/// Exit codes: 0 all holds, 1 usage or input/output, 2 tampered, 3 data missing, 4 fewer witnesses than
/// the policy asks for, 5 inconsistent with a saved
/// checkpoint.
#[derive(Parser)]
#[command(name = "worm", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Verify(verify::Args),
    Get(prove::GetArgs),
    Prove(prove::ProveArgs),
    Check(check::Args),
    Export(export::Args),
    Fetch(fetch::Args),
    Lineage(lineage::Args),
    Overview(overview::Args),
    Population(population::Args),
    Sample(population::SampleArgs),
    Reconcile(reconcile::Args),
    /// Shows on a copy that a change is found
    #[command(subcommand)]
    Demo(Demo),
}

#[derive(Subcommand)]
enum Demo {
    Tamper(tamper::Args),
}

fn main() -> ExitCode {
    let cli: Cli = parse();
    let ui = cli.output.ui();
    let result = match &cli.command {
        Command::Verify(args) => verify::run(args, ui),
        Command::Get(args) => prove::get(args, ui),
        Command::Prove(args) => prove::prove(args, ui),
        Command::Check(args) => check::run(args),
        Command::Export(args) => export::run(args, ui),
        Command::Fetch(args) => fetch::run(args, ui),
        Command::Lineage(args) => lineage::run(args, ui),
        Command::Overview(args) => overview::run(args, ui),
        Command::Population(args) => population::run(args, ui),
        Command::Sample(args) => population::sample(args, ui),
        Command::Reconcile(args) => reconcile::run(args, ui),
        Command::Demo(Demo::Tamper(args)) => tamper::run(args, ui),
    };
    finish(result, cli.output.format())
}
