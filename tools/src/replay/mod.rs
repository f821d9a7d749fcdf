//! `flk replay`: computes a node's state again from its log, from nothing or from a snapshot, and compares it with
//! everything that claims to know it: each `Attested` and `Checkpoint` in the log, and the node while it runs.

mod live;
mod plan;

use std::path::{Path, PathBuf};
use std::time::Instant;

use engine::checkpoint::Signed;
use engine::ledger::{Ledger, Table};
use engine::log::{Digest, Lsn};
use serde_json::json;

use crate::audit::Wrong;
use crate::audit::fold::{Appended, Fold, Watch};
use crate::audit::home::{Home, HomeArgs, Kek};
use crate::audit::judges::Source;
use crate::audit::scratch::Scratch;
use crate::audit::snapshot;
use crate::audit::source::{Faulty, LogFiles};
use crate::report::{Exit, Fault, Report, State};
use crate::ui::{Ui, bytes, thousands};
use live::{Live, ask, check_live};
use plan::Plan;

/// Computes a node's state again from its log and compares
///
/// Exit codes: 0 all agrees, 1 usage or input/output, 2 something differs, 3 data missing, or with --check nothing
/// attested to compare with.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Data directory of a node, or a copy of one
    #[arg(required_unless_present = "check")]
    pub dir: Option<PathBuf>,
    /// The segments, where data.log_dir put them elsewhere
    #[arg(long, value_name = "DIR", requires = "dir")]
    pub log_dir: Option<PathBuf>,
    /// Insist that something was attested and agrees; without a directory, that the node at --live says so
    #[arg(long)]
    pub check: bool,
    /// Begin with this snapshot instead of nothing, for example DIR/proj/snapshot
    #[arg(long, value_name = "FILE")]
    pub from_snapshot: Option<PathBuf>,
    /// Compare with the node that runs at this address
    #[arg(long, value_name = "URL")]
    pub live: Option<String>,
    /// With --live: file with the certificates (PEM) of the authorities that an address with https is held to [default: the
    /// system's]
    #[arg(long, value_name = "FILE", requires = "live")]
    pub ca: Option<PathBuf>,
    /// Check HMAC signatures, too, with the node's key-encryption key; otherwise their results come from the log
    #[arg(long, value_name = "FILE")]
    pub kek: Option<PathBuf>,
    /// Say what would be read, from where on and for how long, and compare nothing
    #[arg(long, requires = "dir", conflicts_with = "check")]
    pub plan: bool,
    /// Write the plan, and what came of it, as one page that loads nothing
    #[arg(long, value_name = "FILE", requires = "dir")]
    pub out: Option<PathBuf>,
    /// Threads [default: one for each core]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Folder for the index while it is built [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
}

impl Args {
    /// A replay of a directory from nothing, as the command line without options has it.
    #[must_use]
    pub fn of(dir: &Path) -> Args {
        Args {
            dir: Some(dir.to_owned()),
            log_dir: None,
            check: false,
            from_snapshot: None,
            live: None,
            ca: None,
            kek: None,
            plan: false,
            out: None,
            threads: None,
            scratch: None,
        }
    }
}

/// Waits for the record the live node spoke about.
struct Meet {
    live: Option<Live>,
    computed: Option<Digest>,
}

impl Watch for Meet {
    fn leaf(&mut self, _: &Appended<'_>) -> Result<(), Wrong> {
        Ok(())
    }

    fn record(&mut self, lsn: Lsn, digest: &dyn Fn() -> Digest) -> Result<(), Wrong> {
        if self.live.is_some_and(|live| live.lsn == lsn) {
            self.computed = Some(digest());
        }
        Ok(())
    }

    fn checkpoint(&mut self, _: Lsn, _: &Signed) -> Result<(), Wrong> {
        Ok(())
    }
}

/// Replays and compares.
///
/// # Errors
/// Arguments or files that cannot be used. A difference is a result.
pub fn run(args: &Args, ui: Ui) -> Result<Report, Fault> {
    let Some(dir) = &args.dir else {
        return match (&args.live, args.check) {
            (Some(url), true) => check_live(url, args.ca.as_deref()),
            _ => Err(Fault::new(
                "nothing to replay",
                "flk replay",
                "no directory is named",
                "flk replay DIR, or flk replay --check --live URL to ask a running node",
            )),
        };
    };
    let mut plan = None;
    let report = replay(args, dir, ui, &mut plan)?;
    if let (Some(path), Some(plan)) = (&args.out, &plan) {
        plan::write(path, dir, plan, &report)?;
    }
    Ok(report)
}

/// Replays a directory; `planned` is what it was going to read, as far as that could be found out.
fn replay(args: &Args, dir: &Path, ui: Ui, planned: &mut Option<Plan>) -> Result<Report, Fault> {
    let home = Home::open(&HomeArgs { log_dir: args.log_dir.clone(), ..HomeArgs::of(dir) })?;
    let threads =
        args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let mut report = Report::new("flk replay");
    // Asked before the log is read, so that the log reaches at least as far.
    let live = args.live.as_deref().map(|url| ask(url, args.ca.as_deref())).transpose()?;
    let kek = args.kek.as_deref().map(Kek::read).transpose()?;
    let source = kek.as_ref().map_or(Source::Attested, |kek| Source::Secrets(kek));
    let log = match LogFiles::open(&home.log()) {
        Ok(log) => log,
        Err(faulty) => return ended(report, Err(faulty), args),
    };
    // A damaged batch in the open segment must not pass for the end of the log.
    if let Err(faulty) = log.check_end() {
        return ended(report, Err(faulty), args);
    }
    let found = args.from_snapshot.as_deref().map(snapshot::read).transpose()?;
    let chosen = args.from_snapshot.as_deref().zip(found.as_ref());
    let plan = match Plan::new(&log, &home, chosen) {
        Ok(plan) => planned.insert(plan),
        Err(faulty) => return ended(report, Err(faulty), args),
    };
    let scratch = Scratch::new(args.scratch.as_deref())?;
    let ledger = match chosen {
        None => {
            report.check("start", State::Ok, "from nothing");
            scratch.ledger(log.region())?
        }
        Some((path, found)) => {
            let ledger = snapshot::restore(found, path, &home, &scratch.0)?;
            report.check("start", State::Ok, format!("from the snapshot at record {}", ledger.applied()));
            ledger
        }
    };
    if args.plan {
        let sample = plan.sample(&log, ledger, &source, threads);
        plan.report(sample, live.is_some(), &mut report);
        return Ok(report);
    }
    let first = ledger.applied();
    let started = Instant::now();
    let mut meet = Meet { live, computed: None };
    if live.is_some_and(|live| live.lsn == first) {
        meet.computed = Some(ledger.digest());
    }
    let mut fold = Fold::new(ledger, &source, threads);
    let result = log.fold("replay", plan.start.begin, ui, &mut fold, &mut meet);
    let took = started.elapsed();
    let (counts, applied, digest) = (fold.counts(), fold.ledger().applied(), fold.ledger().digest());
    report.data = json!({
        "from": first.0, "applied": applied.0, "digest": digest.to_string(), "counts": counts,
        "seconds": took.as_secs_f64(), "leaves": fold.ledger().tree().size(), "root": fold.ledger().tree().root().to_string(),
        "projections": fold.ledger().projections().iter()
            .map(|(name, digest)| ((*name).to_owned(), json!(digest.to_string()))).collect::<serde_json::Map<_, _>>(),
    });
    let tail = match result {
        Err(faulty) => return ended(report, Err(faulty), args),
        Ok(tail) => tail,
    };
    let rate = counts.events as f64 / took.as_secs_f64().max(1e-9);
    report.check(
        "replay",
        State::Ok,
        format!(
            "{} records, {} events, {} in {:.1} s ({}/s); {} entries",
            thousands(counts.records),
            thousands(counts.events),
            bytes(log.bytes()),
            took.as_secs_f64(),
            thousands(rate as u64),
            thousands(fold.ledger().tree().size())
        ),
    );
    if counts.hmac_taken > 0 {
        let detail = format!(
            "{} HMAC results taken from the log; --kek checks them again",
            thousands(counts.hmac_taken)
        );
        report.check("signatures", State::Ok, detail);
    } else if counts.submissions > 0 {
        report.check(
            "signatures",
            State::Ok,
            format!("{} checked again", thousands(counts.signatures_checked)),
        );
    }
    report.check(
        "attested",
        if counts.attested > 0 { State::Ok } else { State::Skipped },
        format!(
            "{} Attested and {} checkpoints agree",
            thousands(counts.attested),
            thousands(counts.checkpoints)
        ),
    );
    if counts.uncovered > 0 {
        let detail = format!(
            "{} records at the end are not attested yet; --kek replays them, too",
            thousands(counts.uncovered)
        );
        report.check("newest", State::Warn, detail);
    }
    if let Some(text) = tail.text() {
        report.check("tail", State::Ok, text);
    }
    if args.check && counts.attested == 0 && report.exit == Exit::Ok {
        report.exit = Exit::Missing;
        report.check(
            "check",
            State::Fail,
            "nothing in this log is attested, so nothing shows that it is right",
        );
    }
    compare(&mut report, &meet, applied);
    for (name, digest) in fold.ledger().projections() {
        report.lines.push(format!("{name:<10}{digest}"));
    }
    report.lines.push(format!("{:<10}{digest}  after record {applied}", "ledger"));
    regions(&mut report, fold.ledger());
    ended(report, Ok(()), args)
}

/// What the log holds of other regions' logs, if anything, and the one digest over all.
fn regions<T: Table>(report: &mut Report, ledger: &Ledger<T>) {
    if ledger.origins().next().is_none() {
        return;
    }
    for origin in ledger.origins() {
        let held = format!(
            "{} entries, up to record {}, checkpoint over {}",
            thousands(origin.leaves()),
            origin.position().lsn.0 - 1,
            origin.agreed().map_or(0, |(size, _)| size),
        );
        let (state, text) = match origin.quarantine() {
            None => (State::Ok, held),
            Some(why) => (
                State::Fail,
                format!("its log contradicts itself at record {} ({}): {held}", why.at.lsn, why.part),
            ),
        };
        report.check(format!("region {}", origin.region()), state, text);
    }
    let merged = ledger.merged_digest();
    report.data["merged"] = json!(merged.to_string());
    report.lines.push(format!("{:<10}{merged}  over all regions", "merged"));
}

fn compare(report: &mut Report, meet: &Meet, applied: Lsn) {
    let Some(live) = meet.live else { return };
    match meet.computed {
        Some(computed) if computed == live.digest => {
            report.check(
                "live",
                State::Ok,
                format!("the running node has the same digest after record {}", live.lsn),
            );
        }
        Some(computed) => {
            report.exit = Exit::Tampered;
            let detail = format!(
                "after record {} the running node says {}, replayed {computed}",
                live.lsn, live.digest
            );
            report.check("live", State::Fail, detail);
        }
        None if applied < live.lsn => {
            let detail = format!(
                "the running node is at record {}, the replay could only go to {applied}: wait for the next Attested, or give --kek",
                live.lsn
            );
            report.exit = Exit::Failed;
            report.check("live", State::Fail, detail);
        }
        None => {
            report.exit = Exit::Failed;
            report.check("live", State::Fail, format!("record {} lies before the snapshot", live.lsn));
        }
    }
    report.data["live"] = json!({"lsn": live.lsn.0, "digest": live.digest.to_string(), "equal": meet.computed.map(|computed| computed == live.digest)});
}

fn ended(mut report: Report, result: Result<(), Faulty>, args: &Args) -> Result<Report, Fault> {
    match result {
        Ok(()) => {}
        Err(Faulty::Unusable(fault)) => return Err(fault),
        Err(Faulty::Missing(what)) => {
            report.check("log", State::Fail, what);
            report.exit = Exit::Missing;
        }
        Err(Faulty::Damaged(damage)) => {
            report.check("log", State::Fail, damage.to_string());
            report.exit = Exit::Tampered;
        }
        Err(Faulty::Wrong(wrong)) => {
            report.data["first_difference"] = json!({"lsn": wrong.lsn.0, "projection": wrong.part, "expected": wrong.expected, "found": wrong.found});
            report.check("first difference", State::Fail, wrong.to_string());
            report.exit = Exit::Tampered;
        }
    }
    let dir = args.dir.as_deref().unwrap_or(Path::new("DIR")).display();
    report.verdict = match report.exit {
        Exit::Ok => format!("identical: the log alone gives this state (record {})", report.data["applied"]),
        Exit::Missing if report.data["counts"]["attested"] == 0 => {
            "nothing attested: the log gives a state, and nothing says that it is the right one".into()
        }
        Exit::Missing => format!("the log is not whole; next: worm verify {dir}"),
        _ => format!(
            "DIFFERENT: stop trusting this node's answers and keep its directory; next: worm verify {dir}"
        ),
    };
    Ok(report)
}

/// Where a node keeps its snapshot.
#[must_use]
pub fn snapshot_path(dir: &Path) -> PathBuf {
    dir.join("proj").join("snapshot")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    #[test]
    fn a_replay_gives_the_state_that_was() {
        let world = World::busy(100);
        let folder = tempfile::tempdir().unwrap();
        world.write(folder.path());
        for kek in [None, Some(world.kek())] {
            let report = run(&Args { kek, ..Args::of(folder.path()) }, Ui::quiet()).unwrap();
            assert_eq!(report.exit, Exit::Ok, "{:?}", report.checks);
            assert_eq!(report.data["digest"], world.ledger.digest().to_string().as_str());
        }
    }

    /// A leader that attests something else than what follows from the log.
    #[test]
    fn the_first_difference_is_named() {
        let mut world = World::busy(40);
        let mut attested = world.ledger.attest();
        attested.ledger = Digest([1; 32]);
        let upto = attested.upto;
        world.events(vec![engine::event::Event::Attested(attested)]);
        world.attest();
        let folder = tempfile::tempdir().unwrap();
        world.write(folder.path());
        let report = run(&Args::of(folder.path()), Ui::quiet()).unwrap();
        assert_eq!(report.exit, Exit::Tampered);
        assert_eq!(report.data["first_difference"]["projection"], "ledger");
        assert_eq!(report.data["first_difference"]["lsn"].as_u64(), Some(upto.0 + 1));
    }

    #[test]
    fn a_check_insists_on_something_to_agree_with() {
        let folder = tempfile::tempdir().unwrap();
        let world = World::busy(20);
        world.write(folder.path());
        let check = |dir: &Path| run(&Args { check: true, ..Args::of(dir) }, Ui::quiet()).unwrap();
        assert_eq!(check(folder.path()).exit, Exit::Ok);
        let folder = tempfile::tempdir().unwrap();
        let mut world = World::new();
        world.submit(3);
        world.write_log(folder.path());
        let kek = Some(world.kek());
        let unattested = Args { kek, ..Args::of(folder.path()) };
        assert_eq!(run(&unattested, Ui::quiet()).unwrap().exit, Exit::Ok);
        let report = run(&Args { check: true, ..unattested }, Ui::quiet()).unwrap();
        assert_eq!(report.exit, Exit::Missing, "{:?}", report.checks);
    }
}
