//! `flk`: what operators and clients of a log do.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tools::cli::{Output, finish, parse};
use tools::keygen;

/// Submits to, watches and measures an FLK log
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
    Keygen(keygen::Args),
}

fn main() -> ExitCode {
    let cli: Cli = parse();
    let result = match &cli.command {
        Command::Keygen(args) => keygen::run(args),
    };
    finish(result, cli.output.format())
}
