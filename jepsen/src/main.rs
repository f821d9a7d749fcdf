//! `jepsen`: a group of real nodes on a bad day, clients that remember what they were told, and checkers of that.
//!
//! It starts flkd on three hosts that are network namespaces, joins them by an emulated network, gives each a disk
//! that loses what was not synced, lets clients and nemeses loose for a bounded time, heals everything, and judges
//! the history. It touches nothing outside its own namespaces and its directory, and ends with everything it started.

mod check;
mod cluster;
mod disk;
mod edn;
mod evidence;
mod history;
mod http;
mod jail;
mod nemesis;
mod net;
mod pcs;
mod regions;
mod report;
mod rng;
mod run;
mod tool;
mod workload;

use check::Valid;
use clap::{Args, Parser, Subcommand};
use nemesis::{FAULTS, Fault};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// It could not be run: wrong arguments, or a machine that lacks something.
const UNUSABLE: u8 = 2;

#[derive(Parser)]
#[command(about = "Real nodes under faults, and checkers of what their clients saw")]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a group under faults; exit 0 valid, 1 not valid, 2 cannot run here, 3 unknown
    Run(Options),
    /// The same inside of the namespaces that `run` makes
    #[command(hide = true)]
    Inside(Options),
    /// List the faults
    Faults,
    /// Check the history of a former run again: what needs no more than that (C1, C2, C7)
    Check {
        /// The file history.edn
        history: PathBuf,
    },
}

/// What to run.
#[derive(Args, Clone)]
pub struct Options {
    /// How long clients and nemeses are loose, seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    pub seconds: u64,
    /// Decides the plan of faults, the network's dice and what clients ask
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Most operations of clients
    #[arg(long, default_value_t = 2_000_000)]
    pub ops: u64,
    /// Regions of three nodes each, which ship their logs to each other; with two there are other faults: `jepsen faults`
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=2))]
    pub regions: u64,
    /// Kinds of faults between commas, `all` or `none`; `jepsen faults` lists them
    #[arg(long, default_value = "all")]
    pub nemesis: String,
    /// Directory for history, logs and report; made anew
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Where the programs under test are
    #[arg(long, hide = true)]
    pub bins: Option<PathBuf>,
}

impl Options {
    fn faults(&self) -> Result<Vec<Fault>, String> {
        match self.nemesis.as_str() {
            "all" => Ok(FAULTS.iter().map(|(fault, ..)| *fault).collect()),
            "none" => Ok(Vec::new()),
            names => names
                .split(',')
                .map(|name| {
                    Fault::named(name)
                        .ok_or_else(|| format!("there is no fault named {name:?}; see jepsen faults"))
                })
                .collect(),
        }
    }
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Verb::Run(options) => outside(options).unwrap_or_else(|why| {
            eprintln!("jepsen: {why}");
            ExitCode::from(UNUSABLE)
        }),
        Verb::Inside(options) => inside(&options),
        Verb::Faults => {
            FAULTS.iter().for_each(|(_, name, what)| println!("{name:<12} {what}"));
            println!("\nbetween two regions:");
            regions::FAULTS.iter().for_each(|(_, name, what)| println!("{name:<12} {what}"));
            ExitCode::SUCCESS
        }
        Verb::Check { history } => again(&history),
    }
}

fn code(valid: Valid) -> ExitCode {
    match valid {
        Valid::True => ExitCode::SUCCESS,
        Valid::False => ExitCode::from(1),
        Valid::Unknown => ExitCode::from(3),
    }
}

fn outside(mut options: Options) -> Result<ExitCode, String> {
    if options.regions == 1 {
        drop(options.faults()?)
    } else {
        drop(regions::faults(&options.nemesis)?)
    }
    let missing = jail::missing();
    if !missing.is_empty() {
        return Err(format!("not run, so nothing is known. This machine lacks:\n  {}", missing.join("\n  ")));
    }
    let bins = programs()?;
    let out = options.out.take().unwrap_or_else(|| {
        let target = bins.parent().unwrap_or(&bins);
        target.join("jepsen").join(format!(
            "{}seed-{}",
            if options.regions == 1 { "" } else { "regions-" },
            options.seed
        ))
    });
    let fresh = || {
        // Only what a run has made, and nothing that somebody else keeps there.
        let made = |out: &Path| out.join("clock-1").exists() && out.join("disk-1").exists();
        if made(&out) || made(&out.join("a")) {
            std::fs::remove_dir_all(&out)?;
        }
        std::fs::create_dir_all(&out)?;
        out.canonicalize()
    };
    let out = fresh().map_err(|error| format!("{}: {error}", out.display()))?;
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(own);
    command
        .arg("inside")
        .arg("--out")
        .arg(&out)
        .arg("--bins")
        .arg(&bins)
        .args(["--nemesis", &options.nemesis]);
    for (name, value) in [
        ("--seconds", options.seconds),
        ("--seed", options.seed),
        ("--ops", options.ops),
        ("--regions", options.regions),
    ] {
        command.args([name, &value.to_string()]);
    }
    let status = jail::run(command).map_err(|error| format!("namespaces: {error}"))?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(3)))
}

/// Names a directory with the programs under test; then nothing is built.
const PROGRAMS: &str = "TEST_BIN_DIR";

/// The directory of the programs under test, built now so that a run never judges yesterday's.
fn programs() -> Result<PathBuf, String> {
    if let Some(given) = std::env::var_os(PROGRAMS) {
        return Ok(PathBuf::from(given));
    }
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let profile = own.parent().ok_or("this program stands nowhere")?.to_owned();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the repository is gone")?;
    if !root.join("Cargo.toml").is_file() {
        return Ok(profile);
    }
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // The default members are selected, as for the tests, so that the dependencies are built once.
    build.args(["build", "--quiet", "--locked"]).current_dir(root);
    build.args(["--bin", "flkd", "--bin", "flk", "--bin", "worm", "--bin", "lossyfs"]);
    if profile.ends_with("release") {
        build.arg("--release");
    }
    let status = build.status().map_err(|error| format!("cargo: {error}"))?;
    if status.success() { Ok(profile) } else { Err("the programs do not build".to_owned()) }
}

fn inside(options: &Options) -> ExitCode {
    let result = || {
        jail::settle().map_err(|error| format!("mounts: {error}"))?;
        let bins = options.bins.as_deref().ok_or("no programs")?;
        match options.regions {
            1 => run::run(options, &options.faults()?, bins),
            _ => regions::run(options, &regions::faults(&options.nemesis)?, bins),
        }
    };
    result().map_or_else(
        |why: String| {
            eprintln!("jepsen: {why}");
            code(Valid::Unknown)
        },
        code,
    )
}

fn again(path: &Path) -> ExitCode {
    let history = std::fs::read_to_string(path).map_err(|error| error.to_string());
    match history.and_then(|text| edn::parse(&text)) {
        Ok(history) => {
            let verdicts = run::judge_again(&history);
            run::print(&verdicts);
            code(check::overall(&verdicts))
        }
        Err(why) => {
            eprintln!("jepsen: {}: {why}", path.display());
            ExitCode::from(UNUSABLE)
        }
    }
}
