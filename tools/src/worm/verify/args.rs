//! What `worm verify` is asked.

use std::path::PathBuf;

use crate::audit::home::HomeArgs;
use crate::pack::pass::Subset;
use crate::report::Fault;

/// Checks a log, or an evidence pack of one, from its first byte to its newest checkpoint
///
/// Needs no secret and no network. Exit codes: 0 all holds, 1 usage or input/output, 2 tampered, 3 data missing,
/// 4 too few witnesses for --policy, 5 inconsistent with the saved checkpoint.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    /// The data directory, or an evidence pack.
    pub home: HomeArgs,
    /// A checkpoint kept from an earlier visit: the log must continue it
    #[arg(long, visible_alias = "saved", value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// The log's public key, or a file that holds its keys, each of which must have signed the checkpoint [default:
    /// keys/log.vkey of the directory]
    #[arg(long, value_name = "KEY")]
    pub vkey: Option<String>,
    /// Who has to have cosigned the log (C2SP tlog-policy): with fewer witnesses the exit code is 4
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Root certificates of the time-stamp authorities that you trust, in PEM: with no stamp of theirs the exit code is 4
    #[arg(long, value_name = "FILE")]
    pub tsa_ca: Option<PathBuf>,
    /// Headers of Bitcoin's blocks, `HEIGHT HEX` a line: with none of them behind the pack the exit code is 4
    #[arg(long, value_name = "FILE")]
    pub bitcoin_headers: Option<PathBuf>,
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
    /// Look at a part of a pack's bundles: N/M is the Nth of every M, 5% a random twentieth
    #[arg(long, value_name = "N/M|P%", help_heading = "Evidence packs")]
    pub read_subset: Option<Share>,
    /// Keep in this file how far the check of a pack is, and go on from there
    #[arg(long, value_name = "FILE", help_heading = "Evidence packs")]
    pub resume: Option<PathBuf>,
    /// Tell of times without entries longer than this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub gap: u64,
    /// Write a report, too: FILE.html, .json, .csv or .oscal.json; may be given more than once
    #[arg(long, value_name = "FILE")]
    pub report: Vec<PathBuf>,
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

/// Which part of a pack's bundles to look at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// The nth (from 1) of every so many.
    Nth(u64, u64),
    /// So many percent, drawn anew each time.
    Percent(f64),
}

impl std::str::FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Share, String> {
        let wrong = || "a part is N/M with N from 1 to M, or a percentage such as 5%".to_owned();
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.parse().map_err(|_| wrong())?;
            return if percent > 0.0 && percent <= 100.0 {
                Ok(Share::Percent(percent))
            } else {
                Err(wrong())
            };
        }
        let (nth, of) = text.split_once('/').ok_or_else(wrong)?;
        let (nth, of) = (nth.parse().map_err(|_| wrong())?, of.parse().map_err(|_| wrong())?);
        if (1..=of).contains(&nth) { Ok(Share::Nth(nth, of)) } else { Err(wrong()) }
    }
}

impl Share {
    /// The bundles it means. A percentage is drawn here and now: who made the pack cannot know what is looked at.
    pub(super) fn pick(self) -> Result<Subset, Fault> {
        Ok(match self {
            Share::Nth(nth, of) => Subset { nth: nth - 1, of },
            Share::Percent(percent) => {
                let of = (100.0 / percent).round().max(1.0) as u64;
                let random = crate::keys::random32()?;
                let drawn = random[..8].iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
                Subset { nth: drawn % of, of }
            }
        })
    }
}

impl Args {
    /// A flag that means nothing for an evidence pack.
    pub(super) fn not_for_packs(&self) -> Option<&'static str> {
        let flags = [
            ("--depth", self.depth != Depth::All),
            ("--log-dir", self.home.log_dir.is_some()),
            ("--worm-dir", self.home.worm_dir.is_some()),
        ];
        flags.iter().find(|(_, given)| *given).map(|(name, _)| *name)
    }

    /// A flag that means something for an evidence pack only.
    pub(super) fn not_for_homes(&self) -> Option<&'static str> {
        let flags = [
            ("--read-subset", self.read_subset.is_some()),
            ("--resume", self.resume.is_some()),
            ("--tsa-ca", self.tsa_ca.is_some()),
            ("--bitcoin-headers", self.bitcoin_headers.is_some()),
        ];
        flags.iter().find(|(_, given)| *given).map(|(name, _)| *name)
    }

    /// What was asked for and does not happen at the depth that was asked for.
    pub(super) fn contradiction(&self) -> Option<(&'static str, &'static str)> {
        let folds = [
            ("--from", self.from.is_some()),
            ("--to", self.to.is_some()),
            ("--kek", self.kek.is_some()),
            ("--policy", self.policy.is_some()),
        ];
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
            policy: None,
            tsa_ca: None,
            bitcoin_headers: None,
            from: None,
            to: None,
            kek: None,
            depth: Depth::All,
            threads: None,
            read_subset: None,
            resume: None,
            gap: 300,
            report: Vec::new(),
            scratch: None,
        }
    }
}

pub(crate) fn parse_from(text: &str) -> Result<u64, String> {
    parse_time(text, false)
}

pub(crate) fn parse_to(text: &str) -> Result<u64, String> {
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
