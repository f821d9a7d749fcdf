//! `worm verify`: is this log what it was, from its first byte to its newest checkpoint.
//!
//! Offline and without any secret. The order is that of trust: bytes before what they mean, what they mean before
//! what stands beside them.
//!
//! 1. format: manifest, names and order of the segments
//! 2. bytes: every segment against its own checksums, chain and digest, on all cores
//! 3. records: every record decoded, every submission judged, everything folded
//! 4. log on itself: every logged `Attested` and `Checkpoint` against what was computed
//! 5. WORM files: every line against the leaf it must be
//! 6. checkpoints: the published one, its signature, and a saved one
//!
//! `--depth bytes` stops after 2. `--depth leaves` leaves out what judges and folds: the lines of the WORM files are
//! hashed into the tree, and its roots are held against every checkpoint (`leaves`). The report says what was not looked at.

mod args;
mod keys;
mod leaves;
mod pack;

use engine::checkpoint::{LogKeys, NoteError};
use engine::log::Lsn;
use serde_json::{Value, json};

use super::compare::{Broken, Compare, Worm};
use super::witnesses::{Witnesses, read_policy};
use crate::audit::fold::{Counts, Fold};
use crate::audit::home::{Home, Kek, read_checkpoint};
use crate::audit::judges::Source;
use crate::audit::notes::Notes;
use crate::audit::scratch::Scratch;
use crate::audit::source::{Begin, Bytes, Faulty, LogFiles};
use crate::pack::Pack;
use crate::pack::summary::{Ask, Summary};
use crate::receipt::signers;
use crate::report::{Exit, Fault, Report, State};
use crate::ui::{Ui, Unit, bytes, thousands};

pub use args::{Args, Depth, Share};
pub(crate) use args::{parse_from, parse_to};

/// What the stages found out for those behind them.
struct Run<'a> {
    args: &'a Args,
    home: Home,
    threads: usize,
    ui: Ui,
    report: Report,
    /// What the entries come to, where somebody wants to see it.
    summary: Option<Summary>,
}

/// Checks the log.
///
/// # Errors
/// Arguments or files that cannot be used. What does not hold is a result, with its exit code.
pub fn run(args: &Args, ui: Ui) -> Result<Report, Fault> {
    let threads =
        args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let (report, summary) = if Pack::is_one(&args.home.dir) {
        if let Some(flag) = args.not_for_packs() {
            let why = "an evidence pack is always looked at in whole stages";
            return Err(Fault::new("this flag is about data directories", flag, why, "worm verify PACK"));
        }
        pack::run(args, threads, ui).map(|(report, summary)| (report, Some(summary)))?
    } else {
        if let Some(flag) = args.not_for_homes() {
            let why = "a data directory is always looked at as a whole";
            return Err(Fault::new(
                "this flag is about evidence packs",
                flag,
                why,
                "worm fetch DIR --out PACK",
            ));
        }
        home(args, threads, ui)?
    };
    super::papers::write(&args.report, &report, summary.as_ref(), &args.home.dir)?;
    Ok(report)
}

fn home(args: &Args, threads: usize, ui: Ui) -> Result<(Report, Option<Summary>), Fault> {
    if let Some((flag, depth)) = args.contradiction() {
        let why = "this depth does not look at what it is about";
        return Err(Fault::new("these flags contradict each other", flag, why, format!("--depth {depth}")));
    }
    let home = Home::open(&args.home)?;
    let vkey = home.verifier(args.vkey.as_deref())?;
    let policy = args.policy.as_deref().map(read_policy).transpose()?;
    let saved = args.checkpoint.as_deref().map(read_checkpoint).transpose()?.map(|(_, signed)| signed);
    let mut run = Run { args, home, threads, ui, report: Report::new("worm verify"), summary: None };
    let log = match run.format()? {
        Some(log) => log,
        None => return Ok(run.end()),
    };
    let mut notes = (args.depth == Depth::Leaves).then(Notes::default);
    if !run.bytes(&log, notes.as_mut())? {
        return Ok(run.end());
    }
    match args.depth {
        Depth::Bytes => {}
        Depth::Leaves => run.leaves(&log, &notes.unwrap_or_default(), vkey.as_ref(), saved.as_ref())?,
        Depth::All => run.meaning(&log, vkey.as_ref(), saved.as_ref(), Witnesses::new(policy))?,
    }
    Ok(run.end())
}

impl Run<'_> {
    fn fail(&mut self, name: &str, exit: Exit, detail: String) {
        self.report.fail(name, exit, detail);
    }

    fn faulty(&mut self, name: &str, faulty: Faulty) -> Result<(), Fault> {
        match faulty {
            Faulty::Unusable(fault) => return Err(fault),
            Faulty::Missing(what) => self.fail(name, Exit::Missing, what),
            Faulty::Damaged(damage) => {
                self.report.data["damage"] = json!({
                    "segment": damage.segment, "offset": damage.offset, "after_lsn": damage.lsn.0,
                    "expected": damage.expected, "found": damage.found,
                });
                self.fail(name, Exit::Tampered, damage.to_string());
            }
            Faulty::Wrong(wrong) => {
                self.report.data["wrong"] = json!({
                    "lsn": wrong.lsn.0, "part": wrong.part, "expected": wrong.expected, "found": wrong.found,
                    "segment": wrong.place.map(|place| place.segment), "offset": wrong.place.map(|place| place.offset),
                });
                self.fail(name, Exit::Tampered, wrong.to_string());
            }
        }
        Ok(())
    }

    fn format(&mut self) -> Result<Option<LogFiles>, Fault> {
        match LogFiles::open(&self.home.log()) {
            Err(faulty) => {
                self.faulty("format", faulty)?;
                Ok(None)
            }
            Ok(log) => {
                let detail = format!(
                    "{} segment{}, {}, region {}",
                    thousands(log.segments()),
                    if log.segments() == 1 { "" } else { "s" },
                    bytes(log.bytes()),
                    log.region()
                );
                self.report.data["region"] = json!(log.region());
                self.report.check("format", State::Ok, detail);
                Ok(Some(log))
            }
        }
    }

    fn bytes(&mut self, log: &LogFiles, notes: Option<&mut Notes>) -> Result<bool, Fault> {
        let mut progress = self.ui.progress("bytes  ", log.bytes(), Unit::Bytes);
        let result = log.check(self.threads, notes, &mut |count| progress.add(count));
        progress.finish();
        match result {
            Err(faulty) => {
                self.faulty("bytes", faulty)?;
                Ok(false)
            }
            Ok(Bytes { frames, sealed, bytes: read, torn }) => {
                self.report.data["bytes"] = json!({"bytes": read, "frames": frames, "sealed": sealed});
                let tail = torn.map(|torn| format!("; {torn}")).unwrap_or_default();
                self.report.check(
                    "bytes",
                    State::Ok,
                    format!("{} in {} frames hold their sums{tail}", bytes(read), thousands(frames)),
                );
                Ok(true)
            }
        }
    }

    fn meaning(
        &mut self,
        log: &LogFiles,
        vkey: Option<&LogKeys>,
        saved: Option<&engine::checkpoint::Signed>,
        witnesses: Witnesses,
    ) -> Result<(), Fault> {
        let published = self.published(log.region())?;
        let period = (self.args.from.unwrap_or(0), self.args.to.unwrap_or(u64::MAX));
        let worm = self.home.worm();
        let mut compare = Compare::new(&worm, vkey, period).map_err(|error| Fault::read(&worm, error))?;
        compare.witnesses = witnesses;
        if !self.args.report.is_empty() {
            compare.summarise(Ask { period, gap_ms: self.args.gap.saturating_mul(1000) });
        }
        for (who, signed) in [("published", &published), ("saved", &saved.cloned())] {
            if let Some(signed) = signed {
                compare.claim(who, signed.checkpoint.size, signed.checkpoint.root);
            }
        }
        let kek = self.args.kek.as_deref().map(Kek::read).transpose()?;
        let source = kek.as_ref().map_or(Source::Attested, |kek| Source::Secrets(kek));
        let scratch = Scratch::new(self.args.scratch.as_deref())?;
        let mut fold = Fold::new(scratch.ledger(log.region())?, &source, self.threads);
        let result = log.fold("records", Begin::FIRST, self.ui, &mut fold, &mut compare);
        let counts = fold.counts();
        compare.finish(counts.uncovered_events).map_err(|error| Fault::read(&worm, error))?;
        let applied = fold.ledger().applied();
        self.report.data["counts"] = json!(counts);
        self.report.data["ledger_digest"] = json!(fold.ledger().digest().to_string());
        self.report.data["applied"] = json!(applied.0);
        match result {
            Err(faulty) => {
                self.faulty("records", faulty)?;
                // The WORM files up to there say which entry is the first that differs.
                self.worm(&compare, false);
            }
            Ok(tail) => {
                self.records(counts, applied);
                self.report.data["above_mark"] = json!(tail.text().map_or(0, |_| tail.entries));
                if let Some(text) = tail.text() {
                    self.report.check("tail", State::Ok, text);
                }
                self.itself(counts, &compare, vkey);
                self.log_keys(fold.ledger().log_keys())?;
                self.worm(&compare, true);
            }
        }
        self.checkpoints(&compare, published.as_ref(), saved, vkey);
        if let Some((state, exit, detail)) = compare.witnesses.judge(compare.leaves()) {
            match state {
                State::Fail => self.fail("witnesses", exit, detail),
                _ => self.report.check("witnesses", state, detail),
            }
        }
        self.period(&compare);
        self.summary = compare.summary();
        Ok(())
    }

    fn published(&mut self, region: &str) -> Result<Option<engine::checkpoint::Signed>, Fault> {
        let path = self.home.checkpoint(region);
        if !path.exists() {
            return Ok(None);
        }
        match read_checkpoint(&path) {
            Ok((_, signed)) => Ok(Some(signed)),
            Err(fault) if matches!(fault.exit, Exit::Tampered | Exit::Missing) => {
                self.fail("checkpoint", fault.exit, format!("{}: {}", fault.place, fault.why));
                Ok(None)
            }
            Err(fault) => Err(fault),
        }
    }

    fn records(&mut self, counts: Counts, applied: Lsn) {
        let mut detail = format!(
            "{} records, {} submissions judged",
            thousands(counts.records),
            thousands(counts.submissions)
        );
        if counts.hmac_taken > 0 {
            detail.push_str(&format!(
                "; {} HMAC results taken from the log's own Attested",
                thousands(counts.hmac_taken)
            ));
        }
        self.report.check("records", State::Ok, detail);
        if counts.uncovered > 0 {
            let detail = format!(
                "{} records after record {applied} are not attested yet: their bytes hold, what they mean was not looked at; \
                 --kek checks them",
                thousands(counts.uncovered)
            );
            self.report.check("newest", State::Warn, detail);
        }
    }

    fn itself(&mut self, counts: Counts, compare: &Compare<'_>, vkey: Option<&LogKeys>) {
        let mut detail = format!(
            "{} Attested and {} checkpoints agree with what was computed",
            thousands(counts.attested),
            thousands(counts.checkpoints)
        );
        match (&compare.unsigned, vkey) {
            (Some((lsn, why)), _) => {
                self.fail("log on itself", Exit::Tampered, format!("the checkpoint in record {lsn}: {why}"));
                return;
            }
            (None, Some(_)) if compare.signed > 0 => detail.push_str(", all signed"),
            _ => {}
        }
        self.report.check("log on itself", State::Ok, detail);
    }

    fn worm(&mut self, compare: &Compare<'_>, whole: bool) {
        let (worm, equal) = compare.worm();
        match worm {
            Worm::Absent => self.report.check("WORM files", State::Skipped, "there are none"),
            Worm::Equal => {
                let far = if whole { "" } else { ", up to where the log stops making sense" };
                self.report.check(
                    "WORM files",
                    State::Ok,
                    format!("{} lines are the leaves they must be{far}", thousands(equal)),
                );
            }
            Worm::Behind { have } => {
                let detail = format!(
                    "they end at entry {have} of {}: flkd writes the rest when it starts",
                    thousands(compare.leaves())
                );
                self.report.check("WORM files", State::Warn, detail);
            }
            Worm::Differs { seq, place, found } => {
                let detail = format!("entry {seq}, {place}: {found}");
                self.report.data["worm_difference"] = json!({"seq": seq, "place": place, "found": found});
                self.fail("WORM files", Exit::Tampered, detail);
            }
        }
    }

    fn checkpoints(
        &mut self,
        compare: &Compare<'_>,
        published: Option<&engine::checkpoint::Signed>,
        saved: Option<&engine::checkpoint::Signed>,
        vkey: Option<&LogKeys>,
    ) {
        for (name, who, signed) in [("checkpoint", "published", published), ("append-only", "saved", saved)] {
            let Some(signed) = signed else { continue };
            let checkpoint = &signed.checkpoint;
            let exit = if who == "saved" { Exit::Inconsistent } else { Exit::Tampered };
            if let Some(broken) = compare.broken().iter().find(|broken| broken.who == who) {
                self.fail(name, exit, broken_text(broken, compare.leaves()));
                continue;
            }
            let size = thousands(checkpoint.size);
            if compare.ahead.contains(&(who, checkpoint.size)) {
                let folded = thousands(compare.leaves());
                let detail =
                    format!("it is over {size} entries; those after entry {folded} are not attested yet");
                self.report.check(name, State::Warn, detail);
                continue;
            }
            self.signed(name, exit, signed, vkey);
        }
        self.no_more(published);
    }

    /// The root holds: is it signed?
    fn signed(
        &mut self,
        name: &str,
        exit: Exit,
        signed: &engine::checkpoint::Signed,
        vkey: Option<&LogKeys>,
    ) {
        let checkpoint = &signed.checkpoint;
        let size = thousands(checkpoint.size);
        let held = vkey.map(|vkey| vkey.verify(signed));
        match held {
            Some(Err(error)) => self.fail(name, exit, format!("over {size} entries: {error}")),
            // Both keys were asked for; a checkpoint of before there were two is a reason to name only the first.
            Some(Ok(held)) if name == "checkpoint" && self.args.vkey.is_some() && !held.silent.is_empty() => {
                let (why, key) = (NoteError::NotSigned, held.silent[0]);
                let detail =
                    format!("over {size} entries: {why} ({}, {:08x})", key.algorithm(), key.key_id());
                self.fail(name, exit, detail);
            }
            held => {
                let (state, by) = match held {
                    Some(Ok(held)) => (State::Ok, format!("signed by the log's key {}", signers(&held))),
                    _ => (State::Warn, "its signature was not checked: give --vkey".to_owned()),
                };
                let word = if name == "append-only" { "continues your checkpoint" } else { "published" };
                self.report.check(
                    name,
                    state,
                    format!("{word} over {size} entries, root {}, {by}", checkpoint.root),
                );
            }
        }
    }

    fn no_more(&mut self, published: Option<&engine::checkpoint::Signed>) {
        self.report.data["checkpoint"] = published.map_or(Value::Null, |signed| {
            json!({"origin": signed.checkpoint.origin, "size": signed.checkpoint.size, "root": signed.checkpoint.root.to_string()})
        });
        if published.is_none() && self.report.exit == Exit::Ok {
            self.report.check("checkpoint", State::Skipped, "none is published yet");
        }
    }

    fn period(&mut self, compare: &Compare<'_>) {
        if self.args.from.is_none() && self.args.to.is_none() {
            return;
        }
        let (detail, data) = match compare.in_period {
            None => ("no entry".to_owned(), json!({"count": 0})),
            Some((first, last, count)) => (
                format!("{} entries, {first} to {last}", thousands(count)),
                json!({"count": count, "first": first, "last": last}),
            ),
        };
        self.report.check("period", State::Ok, detail);
        self.report.data["period"] = data;
    }

    fn end(mut self) -> (Report, Option<Summary>) {
        let dir = self.args.home.dir.display();
        self.report.verdict = match self.report.exit {
            Exit::Ok if self.args.depth == Depth::Bytes => "the bytes are intact; what they mean was not looked at".into(),
            Exit::Ok if self.args.depth == Depth::Leaves => {
                "the bytes are intact and the leaves give the roots of every checkpoint; no submission was judged again".into()
            }
            Exit::Ok => "intact: every byte, record, entry and checkpoint is what it must be".into(),
            Exit::Missing => format!("data is missing; restore it from a copy, then: worm verify {dir}"),
            Exit::Inconsistent => "this log is not the one your checkpoint was taken from, or it was rewritten: keep both as evidence".into(),
            Exit::Policy => "intact, and fewer witnesses stand behind it than your policy asks for".into(),
            Exit::Tampered | Exit::Failed | Exit::Degraded => format!("NOT what was written; the first failure above names the place. Keep {dir} as it is and compare with a copy"),
        };
        (self.report, self.summary)
    }
}

fn broken_text(broken: &Broken, leaves: u64) -> String {
    match broken.computed {
        Some(computed) => format!(
            "over {} entries it says root {}, computed {computed}",
            thousands(broken.size),
            broken.claimed
        ),
        None => format!("it is over {} entries, the log holds {}", thousands(broken.size), thousands(leaves)),
    }
}

#[cfg(test)]
mod tests;
