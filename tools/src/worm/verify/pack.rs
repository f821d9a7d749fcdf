//! `worm verify PACK`: an evidence pack in seven stages, each of which believes nothing of the ones before.
//!
//! 1. format: the checkpoint, what the pack claims, the files beside the tree
//! 2. bytes -> leaves: every entry hashed; made again from the segments, where the pack has them
//! 3. tree -> root: every hash of every tile leads to the root
//! 4. signatures: the log's key, and witnesses
//! 5. time: who else says when
//! 6. append-only: the tree continues a checkpoint that the auditor kept
//! 7. continuity: numbers, records and times in order, gaps, nothing of the period missing

use engine::checkpoint::{NoteError, Signed, TrustPolicy};
use engine::tree::tiles::WIDTH;

use super::*;
use crate::audit::keychain;
use crate::pack::pass::{Finding, Pass, Passed, upper};
use crate::pack::plan::Plan;
use crate::pack::tiles::{BadTile, Checked, Folder};
use crate::pack::{Claim, check_sums};
use crate::receipt::signers;
use crate::stamp::Roots;
use crate::worm::when;
use crate::worm::witnesses::judge;

mod append;
mod blocks;
mod resume;
mod segments;
mod time;

use append::Continues;

/// What the stages share.
struct Stages<'a> {
    args: &'a Args,
    ui: Ui,
    threads: usize,
    pack: Pack,
    report: Report,
    /// What is wrong with the statements by which the log's keys follow each other.
    broken: Option<Fault>,
}

/// The outcome of the stages, and what the entries come to.
pub(super) fn run(args: &Args, threads: usize, ui: Ui) -> Result<(Report, Summary), Fault> {
    let mut stages = Stages {
        args,
        ui,
        threads,
        pack: Pack::of(&args.home.dir),
        report: Report::new("worm verify"),
        broken: None,
    };
    let key = args.vkey.clone().or_else(|| {
        let path = stages.pack.vkey();
        path.is_file().then(|| path.display().to_string())
    });
    let vkey = match key.map(|key| crate::audit::home::read_vkey(&key)).transpose() {
        Ok(vkey) => vkey,
        Err(fault) if args.vkey.is_some() => return Err(fault),
        Err(fault) => {
            stages.report.fail("1 format", Exit::Tampered, format!("vkey: {}", fault.why));
            return Ok((stages.end(false, true), Summary::default()));
        }
    };
    let vkey = match vkey.as_ref().map(|vkey| keychain::follow_in(vkey, stages.pack.dir())).transpose() {
        Ok(followed) => followed,
        Err(fault) if fault.exit == Exit::Failed => return Err(fault),
        Err(fault) => {
            stages.broken = Some(fault);
            vkey
        }
    };
    let policy = args.policy.as_deref().map(read_policy).transpose()?;
    let roots = args.tsa_ca.as_deref().map(Roots::read).transpose()?;
    let headers = args.bitcoin_headers.as_deref().map(crate::blocks::Headers::read).transpose()?;
    let saved = args.checkpoint.as_deref().map(read_checkpoint).transpose()?.map(|(_, signed)| signed);
    let Some((signed, plan, claim)) = stages.format()? else {
        return Ok((stages.end(false, true), Summary::default()));
    };
    let period = match (args.from, args.to, claim.as_ref().and_then(|claim| claim.period)) {
        (None, None, claimed) => claimed,
        (from, to, _) => Some((from.unwrap_or(0), to.unwrap_or(u64::MAX))),
    };
    let tree = upper(stages.pack.dir(), &plan, &signed.checkpoint.root)?;
    let passed = stages.pass(&plan, &signed, period)?;
    let made = stages.segments(&plan, &signed, claim.as_ref())?;
    stages.leaves(&plan, &passed, made.as_ref());
    stages.root(&plan, &passed, &signed, tree);
    stages.signatures(&signed, vkey.as_ref())?;
    stages.policy(&signed, vkey.as_ref(), policy.as_ref())?;
    stages.time(&signed, vkey.as_ref(), roots.as_ref())?;
    stages.blocks(&signed, vkey.as_ref(), headers.as_ref())?;
    stages.append_only(&signed, saved.as_ref(), vkey.as_ref())?;
    stages.continuity(&plan, &passed.summary, period);
    let sound = vkey.is_some() && args.vkey.is_some();
    Ok((stages.end(period.is_some(), sound), passed.summary))
}

impl Stages<'_> {
    fn format(&mut self) -> Result<Option<(Signed, Plan, Option<Claim>)>, Fault> {
        let name = "1 format";
        let read =
            self.pack.claim().and_then(|claim| Ok((claim, read_checkpoint(&self.pack.checkpoint())?.1)));
        let (claim, signed) = match read {
            Ok(read) => read,
            Err(fault) if fault.exit == Exit::Failed => return Err(fault),
            Err(fault) => {
                self.report.fail(name, fault.exit, format!("{}: {}", fault.place, fault.why));
                return Ok(None);
            }
        };
        let head = &signed.checkpoint;
        let plan = claim.as_ref().map_or_else(
            || Plan::whole(head.size),
            |claim| Plan::new(head.size, claim.bundles.0..claim.bundles.1, claim.since),
        );
        self.report.data["checkpoint"] =
            json!({"origin": head.origin, "size": head.size, "root": head.root.to_string()});
        let mut beside = String::new();
        if let Some(claim) = &claim {
            let mine = (&claim.origin, claim.size, &claim.root, claim.bundles);
            let root = head.root.to_string();
            if mine != (&head.origin, head.size, &root, (plan.bundles.start, plan.bundles.end)) {
                let why = format!(
                    "pack.json speaks of {} with {} entries, the checkpoint of {} with {}",
                    claim.origin, claim.size, head.origin, head.size
                );
                self.report.fail(name, Exit::Tampered, why);
                return Ok(None);
            }
            self.report.data["source"] = json!(claim.source);
            match check_sums(self.pack.dir()) {
                Ok(count) => beside = format!(", {count} files beside the tree hold their sums"),
                Err(fault) if fault.exit == Exit::Failed => return Err(fault),
                Err(fault) => {
                    let begun =
                        if fault.place.ends_with("SHA256SUMS") { " (was the fetch finished?)" } else { "" };
                    self.report.fail(name, fault.exit, format!("{}: {}{begun}", fault.place, fault.why));
                    return Ok(None);
                }
            }
        }
        let bundles = plan.bundles.end - plan.bundles.start;
        let detail = format!(
            "{} tile files, {} bundles, checkpoint over {} entries of {}{beside}",
            thousands(plan.tile_count()),
            thousands(bundles),
            thousands(head.size),
            head.origin
        );
        self.report.check(name, State::Ok, detail);
        Ok(Some((signed, plan, claim)))
    }

    fn pass(&self, plan: &Plan, signed: &Signed, period: Option<(u64, u64)>) -> Result<Passed, Fault> {
        let subset = self.args.read_subset.map(|share| share.pick()).transpose()?;
        let ask = Ask { period: period.unwrap_or((0, u64::MAX)), gap_ms: self.args.gap.saturating_mul(1000) };
        let pass = Pass { dir: self.pack.dir(), plan, threads: self.threads, ask, subset };
        let mut state = resume::State::open(self.args.resume.as_deref(), &pass, signed)?;
        let total = plan.entries().end - plan.entries().start;
        let mut progress = self.ui.progress("leaves ", total, Unit::Items("entries"));
        let mut at = plan.bundles.start;
        let (from, before) = state.take();
        let passed = pass.run(from, before, &mut |upto, passed| {
            progress.add((upto.saturating_sub(at) * WIDTH).min(total));
            at = upto;
            state.step(upto, passed)
        })?;
        progress.finish();
        state.done()?;
        Ok(passed)
    }

    fn leaves(&mut self, plan: &Plan, passed: &Passed, made: Option<&segments::Made>) {
        let name = "2 bytes -> leaves";
        let summary = &passed.summary;
        self.report.data["entries"] =
            json!({"hashed": summary.entries, "bytes": summary.bytes, "wrong": passed.wrong});
        let wrong = passed.findings.iter().find_map(|finding| match finding {
            Finding::Entry(seq, place, why) => Some((Exit::Tampered, Some(*seq), place, why)),
            Finding::Tile(bad) if bad.place.starts_with("tile/entries/") => {
                let exit = if bad.missing { Exit::Missing } else { Exit::Tampered };
                Some((exit, None, &bad.place, &bad.why))
            }
            Finding::Tile(_) => None,
        });
        if let Some((exit, seq, place, why)) = wrong {
            let entry = seq.map(|seq| format!("entry {seq}, ")).unwrap_or_default();
            let more = if passed.wrong > 1 {
                format!("; {} more bundles or tiles do not hold", thousands(passed.wrong - 1))
            } else {
                "; everything else holds".to_owned()
            };
            self.report.data["damage"] = json!({"entry": seq, "place": place, "found": why});
            self.report.fail(name, exit, format!("{entry}{place}: {why}{more}"));
            return;
        }
        if let Some(segments::Made::Wrong(exit, why)) = made {
            self.report.fail(name, *exit, format!("segments: {why}"));
            return;
        }
        let mut detail = format!("{} re-hashed", thousands(summary.entries));
        if let Some(segments::Made::Equal(text)) = made {
            detail.push_str(&format!("; {text}"));
        }
        let entries = plan.entries();
        let state = if self.args.read_subset.is_some() {
            let of = plan.bundles.end - plan.bundles.start;
            detail.push_str(&format!(
                " in {} of {} bundles: the others were not looked at",
                passed.bundles, of
            ));
            State::Warn
        } else {
            if !plan.is_whole() {
                detail.push_str(&format!(
                    ", numbers {} to {} of {}",
                    entries.start,
                    entries.end.saturating_sub(1),
                    thousands(plan.size)
                ));
            }
            State::Ok
        };
        self.report.check(name, state, detail);
    }

    fn root(&mut self, plan: &Plan, passed: &Passed, signed: &Signed, tree: Option<BadTile>) {
        let name = "3 tree -> root";
        let tile = || {
            passed.findings.iter().find_map(|finding| match finding {
                Finding::Tile(bad) if !bad.place.starts_with("tile/entries/") => Some(bad.clone()),
                _ => None,
            })
        };
        if let Some(bad) = tree.or_else(tile) {
            let exit = if bad.missing { Exit::Missing } else { Exit::Tampered };
            return self.report.fail(name, exit, format!("{}: {}", bad.place, bad.why));
        }
        let part = if plan.is_whole() { "" } else { ", by way of the tiles beside them" };
        self.report.check(name, State::Ok, format!("{}{part}", signed.checkpoint.root));
    }

    fn signatures(&mut self, signed: &Signed, vkey: Option<&LogKeys>) -> Result<(), Fault> {
        if self.broken.is_none()
            && let Some(why) = self.forked_keys(signed)?
        {
            self.report.fail("4 signatures", Exit::Tampered, why);
        } else {
            self.by_the_log(signed, vkey);
        }
        Ok(())
    }

    fn by_the_log(&mut self, signed: &Signed, vkey: Option<&LogKeys>) {
        let name = "4 signatures";
        let Some(vkey) = vkey else {
            self.report.check(
                name,
                State::Warn,
                "not looked at: no key in the pack, and none given with --vkey",
            );
            return;
        };
        if let Some(fault) = &self.broken {
            return self.report.fail(name, Exit::Tampered, format!("{}: {}", fault.place, fault.why));
        }
        let held = match vkey.verify(signed) {
            Ok(held) => held,
            Err(error) => {
                let detail = format!("checkpoint: {error} ({})", vkey.vkey());
                self.report.fail(name, Exit::Tampered, detail);
                return;
            }
        };
        let own = self.args.vkey.is_some();
        // Whoever names both keys wants both: else an attacker who broke one would just leave the other's line out.
        if let Some(key) = held.silent.first().filter(|_| own) {
            let detail =
                format!("checkpoint: {} ({}, {:08x})", NoteError::NotSigned, key.algorithm(), key.key_id());
            self.report.fail(name, Exit::Tampered, detail);
            return;
        }
        let witnesses = match signed.signatures.len().saturating_sub(held.spoke.len()) {
            0 => "witnesses none: only the operator vouches for this tree".to_owned(),
            n => format!("{n} further lines, which nobody here has a key for"),
        };
        let whose = if own { "" } else { ", which is the pack's own claim: compare it, and give --vkey" };
        // A tree that nobody but its operator vouches for is never all green.
        let state = State::Warn;
        let keys = signers(&held);
        let chain = match vkey.sets() {
            1 => String::new(),
            sets => format!(", one of {sets} sets of which each said that the next one follows"),
        };
        self.report.check(name, state, format!("log key {keys}{whose}{chain}; {witnesses}"));
    }

    /// Are those who cosigned enough for the auditor's policy? Witnesses are slower than checkpoints: the newest one that they
    /// cosigned may stand beside the pack's.
    fn policy(
        &mut self,
        signed: &Signed,
        vkey: Option<&LogKeys>,
        policy: Option<&TrustPolicy>,
    ) -> Result<(), Fault> {
        const BESIDE: &str = crate::pack::anchors::WITNESSED;
        let Some(policy) = policy else { return Ok(()) };
        let mut judged = vec![judge(policy, signed)];
        let path = self.pack.dir().join(BESIDE);
        if path.is_file() {
            let held = |other: &Signed| vkey.map_or(Ok(()), |vkey| vkey.verify(other).map(|_| ()));
            let other =
                Signed::parse(&crate::pack::small(&path)?).and_then(|other| held(&other).map(|()| other));
            judged.push(match other {
                Err(error) => (State::Fail, Exit::Tampered, format!("{BESIDE}: {error}")),
                Ok(other) => match self.continues(&other.checkpoint, &signed.checkpoint)? {
                    Continues::No(why) => (State::Fail, Exit::Tampered, format!("{BESIDE}: {why}")),
                    Continues::Lacks(_) => {
                        (State::Fail, Exit::Policy, format!("{BESIDE}: its tiles are not in the pack"))
                    }
                    Continues::Yes => {
                        let (state, exit, detail) = judge(policy, &other);
                        (state, exit, format!("{BESIDE}: {detail}"))
                    }
                },
            });
        }
        let forged = judged.iter().position(|(_, exit, _)| *exit == Exit::Tampered);
        let met = judged.iter().position(|(_, exit, _)| *exit == Exit::Ok);
        let (state, exit, detail) = judged.swap_remove(forged.or(met).unwrap_or(judged.len() - 1));
        match state {
            State::Fail => self.report.fail("  witnesses", exit, detail),
            _ => self.report.check("  witnesses", state, detail),
        }
        Ok(())
    }

    fn continuity(&mut self, plan: &Plan, summary: &Summary, period: Option<(u64, u64)>) {
        let name = "7 continuity";
        self.report.data["continuity"] = json!({"gaps": summary.gap_count, "listed": summary.gaps,
            "first": summary.first, "last": summary.last});
        if let Some((seq, why)) = &summary.disorder {
            self.report.fail(name, Exit::Tampered, format!("entry {seq}: {why}"));
            return;
        }
        let (Some(first), Some(last)) = (summary.first, summary.last) else {
            self.report.check(name, State::Ok, "there are no entries");
            return;
        };
        let span = format!("{} to {}, in order", when(first.time_ms), when(last.time_ms));
        let gap = match summary.gaps.as_slice() {
            [] => format!("no gap over {} s", self.args.gap),
            [one, ..] => format!(
                "{} gaps over {} s, the first {} to {} after entry {}",
                thousands(summary.gap_count),
                self.args.gap,
                when(one.from_ms),
                when(one.to_ms),
                one.after
            ),
        };
        let state = if summary.gap_count > 0 { State::Warn } else { State::Ok };
        self.report.check(name, state, format!("{span}; {gap}"));
        if let Some(period) = period {
            self.period(plan, summary, period);
        }
    }

    fn period(&mut self, plan: &Plan, summary: &Summary, period: (u64, u64)) {
        let entries = plan.entries();
        let (first, last, count) = summary.within.unwrap_or((0, 0, 0));
        self.report.data["period"] = json!({"from_ms": period.0, "to_ms": period.1, "count": count,
            "first": (count > 0).then_some(first), "last": (count > 0).then_some(last)});
        let begins = summary.before.is_some() || entries.start == 0;
        let ends = summary.after.is_some() || entries.end == plan.size;
        if !(begins && ends) {
            let side = if begins { "end" } else { "beginning" };
            let detail =
                format!("the pack does not reach the {side} of the period: fetch it with --from and --to");
            self.report.fail("  period", Exit::Missing, detail);
            return;
        }
        let border = match (summary.before, summary.after) {
            (Some(before), Some(after)) => format!("entry {before} stands before it, entry {after} after it"),
            (None, Some(after)) => format!("it begins with the log, entry {after} stands after it"),
            (Some(before), None) => format!("entry {before} stands before it, and the checkpoint ends in it"),
            (None, None) => "it holds the whole log under this checkpoint".to_owned(),
        };
        let what = if count == 0 {
            "no entry".to_owned()
        } else {
            format!("{} entries, {first} to {last}", thousands(count))
        };
        let state = if self.args.read_subset.is_some() { State::Warn } else { State::Ok };
        self.report.check("  period", state, format!("{what}: {border}"));
    }

    fn end(mut self, period: bool, own_key: bool) -> Report {
        let dir = self.args.home.dir.display();
        // A policy that is not met has another exit code.
        let witnessed =
            if self.args.policy.is_some() { "witnessed as your policy asks" } else { "not witnessed" };
        let complete = if period { ", complete for the period" } else { "" };
        self.report.verdict = match self.report.exit {
            Exit::Ok if self.args.read_subset.is_some() => {
                "what was looked at is intact; the rest was not looked at".into()
            }
            Exit::Ok if own_key => format!("intact{complete}, signed by your key; {witnessed}"),
            Exit::Ok => format!("intact{complete}, by the key that came with it; {witnessed}"),
            Exit::Policy => format!("intact{complete}, and fewer witnesses stand behind it than your policy asks for"),
            Exit::Missing => format!("evidence is missing: fetch it again into {dir}, or find the copy that has it"),
            Exit::Inconsistent => "this is not the log that your checkpoint was taken from, or it was rewritten: keep both as evidence".into(),
            _ => format!("NOT what was signed; the first failure above names the place. Keep {dir} as it is and compare with a copy"),
        };
        self.report
    }
}
