//! `flk snapshot`: a copy of a log that can be checked anywhere and started again.
//!
//! A snapshot is a directory: a log of its own with everything that was agreed, the log's public key, and a listing with
//! the digest of every file. What a node computes from a log (index, WORM files, tiles) is not in it: it is computed
//! again. Nor is a key, or whose directory it was.

pub mod listing;
pub(crate) mod membership;
mod restore;
mod save;
#[cfg(test)]
mod tests;
mod verify;

use crate::report::{Fault, Report};
use crate::ui::Ui;
pub(crate) use restore::{own, random, taken};

/// Copies a log to a directory, checks such a copy, and makes a node of it
///
/// Exit codes: 0 all is well, 1 usage or input/output, 2 bytes or digests are not what they must be, 3 data missing.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    Save(save::Args),
    Verify(verify::Args),
    Restore(restore::Args),
}

/// Does it.
///
/// # Errors
/// Arguments or files that cannot be used.
pub fn run(args: &Args, ui: Ui) -> Result<Report, Fault> {
    match &args.command {
        Command::Save(args) => save::run(args, ui),
        Command::Verify(args) => verify::run(args, ui),
        Command::Restore(args) => restore::run(args, ui),
    }
}
