//! What `worm verify` is asked.

use std::path::PathBuf;

use crate::audit::home::HomeArgs;

/// Checks a log from its first byte to its newest checkpoint
///
/// Needs no secret and no network. Exit codes: 0 all holds, 1 usage or input/output, 2 tampered, 3 data missing,
/// 5 inconsistent with the saved checkpoint.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    /// The data directory.
    pub home: HomeArgs,
    /// A checkpoint kept from an earlier visit: the log must continue it
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// The log's public key, or a file that holds it [default: keys/log.vkey of the directory]
    #[arg(long, value_name = "KEY")]
    pub vkey: Option<String>,
    /// Count the entries from this time on (the whole log is checked all the same): 2026-10-01 or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_from)]
    pub from: Option<u64>,
    /// Count the entries up to this time
    #[arg(long, value_name = "TIME", value_parser = parse_to)]
    pub to: Option<u64>,
    /// Check HMAC signatures, too, with the node's key-encryption key
    #[arg(long, value_name = "FILE")]
    pub kek: Option<PathBuf>,
    /// How deep to look
    #[arg(long, value_enum, default_value_t = Depth::All)]
    pub depth: Depth,
    /// Threads [default: one for each core]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Folder for the index while it is built [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
}

/// How deep to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Depth {
    /// Every byte of the log against its sums, chain and digests
    Bytes,
    /// Also every line of the WORM files as a leaf of the tree, and its roots against every checkpoint
    Leaves,
    /// Also every submission judged again and every record folded, and the lines against what follows from them
    All,
}

impl Args {
    /// What was asked for and does not happen at the depth that was asked for.
    pub(super) fn contradiction(&self) -> Option<(&'static str, &'static str)> {
        let folds =
            [("--from", self.from.is_some()), ("--to", self.to.is_some()), ("--kek", self.kek.is_some())];
        let given = |list: &[(&'static str, bool)]| list.iter().find(|(_, is)| *is).map(|(name, _)| *name);
        match self.depth {
            Depth::All => None,
            Depth::Bytes if self.checkpoint.is_some() => Some(("--checkpoint", "leaves or all")),
            Depth::Bytes | Depth::Leaves => given(&folds).map(|name| (name, "all")),
        }
    }

    /// The arguments of `worm verify DIR`.
    #[must_use]
    pub fn of(dir: &std::path::Path) -> Args {
        Args {
            home: HomeArgs::of(dir),
            checkpoint: None,
            vkey: None,
            from: None,
            to: None,
            kek: None,
            depth: Depth::All,
            threads: None,
            scratch: None,
        }
    }
}

pub(super) fn parse_from(text: &str) -> Result<u64, String> {
    parse_time(text, false)
}

pub(super) fn parse_to(text: &str) -> Result<u64, String> {
    parse_time(text, true)
}

/// A day means its first or last millisecond.
fn parse_time(text: &str, end: bool) -> Result<u64, String> {
    let milliseconds = if let Ok(day) = text.parse::<jiff::civil::Date>() {
        let day = if end { day.tomorrow().map_err(|error| error.to_string())? } else { day };
        let start = day.to_zoned(jiff::tz::TimeZone::UTC).map_err(|error| error.to_string())?;
        start.timestamp().as_millisecond() - i64::from(end)
    } else {
        let stamp: jiff::Timestamp =
            text.parse().map_err(|_| "a time is 2026-10-01 or 2026-10-01T12:00:00Z")?;
        stamp.as_millisecond()
    };
    u64::try_from(milliseconds).map_err(|_| "times before 1970 do not occur".to_owned())
}
