//! `flk`: what operators and clients of a log do.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tools::cli::{Output, finish, parse};
use tools::{
    agent, anchors, bench, cluster, divergence, doctor, drill, keygen, logkeys, reconcile, region, replay,
    sign, snapshot, submit,
};

// Judging makes many small things on several threads and drops them on others.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Submits to, watches and measures an FLK log
///
/// Exit codes: 0 all is well, 1 usage, input/output, a refusal or work left over, 2 bytes or digests are not what they
/// must be, 3 data missing.
#[derive(Parser)]
#[command(name = "flk", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Agent(Box<agent::Args>),
    Submit(submit::Args),
    Sign(sign::Args),
    Bench(bench::Args),
    Replay(replay::Args),
    Divergence(divergence::Args),
    Drill(drill::Args),
    Reconcile(reconcile::Args),
    Doctor(doctor::Args),
    Keygen(keygen::Args),
    Keys(logkeys::Args),
    Cluster(cluster::Args),
    Region(region::Args),
    Snapshot(snapshot::Args),
    Audit(anchors::Args),
}

fn main() -> ExitCode {
    let cli: Cli = parse();
    let ui = cli.output.ui();
    let result = match &cli.command {
        Command::Agent(args) => agent::run(args, ui),
        Command::Submit(args) => submit::run(args, ui),
        Command::Sign(args) => sign::run(args),
        Command::Bench(args) => bench::run(args, ui),
        Command::Replay(args) => replay::run(args, ui),
        Command::Divergence(args) => divergence::run(args, ui),
        Command::Drill(args) => drill::run(args, ui),
        Command::Reconcile(args) => reconcile::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Keygen(args) => keygen::run(args),
        Command::Keys(args) => logkeys::run(args),
        Command::Cluster(args) => cluster::run(args, ui),
        Command::Region(args) => region::run(args, ui),
        Command::Snapshot(args) => snapshot::run(args, ui),
        Command::Audit(args) => anchors::run(args),
    };
    finish(result, cli.output.format())
}
