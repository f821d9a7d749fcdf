//! The entries of a data directory or of an evidence pack, for commands that ask about many of them: each is visited
//! in order, and what was visited counts only when all of it leads to the signed root.

use engine::checkpoint::{Receipt, Signed};
use engine::leaf::Leaf;

use super::export::region;
use super::find::{Want, find};
use super::tree::{Nodes, insist, pass};
use crate::audit::home::{Home, HomeArgs, read_checkpoint, read_vkey};
use crate::audit::keychain;
use crate::pack::Pack;
use crate::pack::pass::{upper, walk};
use crate::pack::plan::Plan;
use crate::pack::summary::{Ask, Summary, kind_of, tenant_of};
use crate::pack::write::receipt;
use crate::report::{Exit, Fault};
use crate::ui::{Ui, Unit};

/// Where the entries are, and the checkpoint they are under.
pub struct Evidence {
    place: Place,
    /// The checkpoint's bytes.
    pub note: Vec<u8>,
    /// The checkpoint.
    pub signed: Signed,
    /// Whether a key was at hand, and signed.
    pub by_key: bool,
    /// The entries there are.
    pub plan: Plan,
}

enum Place {
    Home(Box<Home>, String),
    Pack(Pack),
}

/// Which entries are meant.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Filter {
    /// Only entries from this time on: 2026-10-01 or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = super::verify::parse_from)]
    pub from: Option<u64>,
    /// Only entries up to this time
    #[arg(long, value_name = "TIME", value_parser = super::verify::parse_to)]
    pub to: Option<u64>,
    /// Only entries of this tenant
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only entries of this kind: accepted, escalated, rejected, conflict, refused, tenant, key, policy
    #[arg(long)]
    pub kind: Option<String>,
}

impl Filter {
    /// The period, milliseconds, both ends included.
    #[must_use]
    pub fn period(&self) -> (u64, u64) {
        (self.from.unwrap_or(0), self.to.unwrap_or(u64::MAX))
    }

    /// Whether an entry is meant.
    #[must_use]
    pub fn takes(&self, leaf: &Leaf<'_>) -> bool {
        let (from, to) = self.period();
        let tenant = self.tenant.as_ref();
        (from..=to).contains(&leaf.time_ms)
            && tenant.is_none_or(|want| tenant_of(&leaf.what).is_some_and(|have| have.as_str() == want))
            && self.kind.as_ref().is_none_or(|kind| kind == kind_of(&leaf.what))
    }

    /// In words.
    #[must_use]
    pub fn words(&self) -> String {
        let mut words = Vec::new();
        words.extend(self.from.map(|from| format!("from {}", super::when(from))));
        words.extend(self.to.map(|to| format!("to {}", super::when(to))));
        words.extend(self.tenant.as_ref().map(|tenant| format!("tenant {tenant}")));
        words.extend(self.kind.clone());
        if words.is_empty() { "all entries".into() } else { words.join(", ") }
    }
}

/// Visits an entry: its number, what it says, its bytes.
pub type Visit<'a> = dyn FnMut(u64, &Leaf<'_>, &[u8]) -> Result<(), Fault> + 'a;

impl Evidence {
    /// Opens a data directory or a pack.
    ///
    /// # Errors
    /// It is neither, or its checkpoint is not signed by the key that was given or came with it.
    pub fn open(args: &HomeArgs, asked: Option<&String>, vkey: Option<&str>) -> Result<Evidence, Fault> {
        let given = vkey.map(read_vkey).transpose()?;
        if Pack::is_one(&args.dir) {
            let pack = Pack::of(&args.dir);
            let (note, signed) = read_checkpoint(&pack.checkpoint())?;
            let key = match given {
                Some(key) => Some(key),
                None if pack.vkey().is_file() => Some(read_vkey(&pack.vkey().display().to_string())?),
                None => None,
            };
            let key = key.map(|key| keychain::follow_in(&key, pack.dir())).transpose()?;
            if let Some(key) = &key {
                key.verify(&signed).map_err(|error| {
                    let next = format!("worm verify {}", args.dir.display());
                    Fault::new("this checkpoint is not the log's", pack.checkpoint().display(), error, next)
                        .exit(Exit::Tampered)
                })?;
            }
            let size = signed.checkpoint.size;
            let plan = match pack.claim()? {
                Some(claim) => Plan::new(size, claim.bundles.0..claim.bundles.1, claim.since),
                None => Plan::whole(size),
            };
            return Ok(Evidence { place: Place::Pack(pack), note, signed, by_key: key.is_some(), plan });
        }
        let home = Home::open(args)?;
        let region = region(&home, asked)?;
        let (note, signed, mut by_key) = home.published(&region)?;
        if let Some(key) = given {
            let key = keychain::follow_in(&key, &home.statements())?;
            key.verify(&signed).map_err(|error| {
                let next = "compare the key with a copy from elsewhere";
                Fault::new(
                    "this checkpoint is not the log's",
                    home.checkpoint(&region).display(),
                    error,
                    next,
                )
                .exit(Exit::Tampered)
            })?;
            by_key = true;
        }
        let plan = Plan::whole(signed.checkpoint.size);
        Ok(Evidence { place: Place::Home(Box::new(home), region), note, signed, by_key, plan })
    }

    /// Visits every entry there is, in order.
    ///
    /// # Errors
    /// Something is not what the checkpoint signs (exit code 2) or is missing (3): then nothing that was visited
    /// counts. Or what `visit` says.
    pub fn each(&self, ui: Ui, visit: &mut Visit<'_>) -> Result<(), Fault> {
        let parse = |seq: u64, place: &dyn Fn() -> String, line: &[u8], visit: &mut Visit<'_>| {
            match Leaf::parse(line) {
                Ok(leaf) => visit(seq, &leaf, line),
                Err(error) => {
                    let next = "worm verify names what is wrong";
                    Err(Fault::new("not an audit leaf", place(), error, next).exit(Exit::Tampered))
                }
            }
        };
        match &self.place {
            Place::Home(home, _) => {
                let mut each = |seq: u64, line: &[u8], place: &super::lines::Place, _: &[(u8, u64, _)]| {
                    let place = || format!("{}, offset {:#x}", place.path.display(), place.offset);
                    parse(seq, &place, line, visit)
                };
                let root =
                    pass(&home.worm(), self.signed.checkpoint.size, ui, &mut Nodes::default(), &mut each)?;
                insist(&self.signed, root, &home.worm())
            }
            Place::Pack(pack) => {
                if let Some(bad) = upper(pack.dir(), &self.plan, &self.signed.checkpoint.root)? {
                    let exit = if bad.missing { Exit::Missing } else { Exit::Tampered };
                    let next = format!("worm verify {}", pack.dir().display());
                    return Err(Fault::new(
                        "the pack is not what its checkpoint signs",
                        bad.place,
                        bad.why,
                        next,
                    )
                    .exit(exit));
                }
                let entries = self.plan.entries();
                let mut progress =
                    ui.progress("leaves ", entries.end - entries.start, Unit::Items("entries"));
                let result = walk(pack.dir(), &self.plan, &mut |seq, place, line| {
                    progress.add(1);
                    parse(seq, &|| place.to_owned(), line, visit)
                });
                progress.finish();
                result
            }
        }
    }

    /// Visits the entries that are meant, and sums up all there are. That the period is complete is part of it: its
    /// borders are among the entries, times never go back.
    ///
    /// # Errors
    /// As [`Evidence::each`]; a pack that does not reach to both ends of the period (3); times that go back (2).
    pub fn those(&self, filter: &Filter, ui: Ui, visit: &mut Visit<'_>) -> Result<Summary, Fault> {
        let ask = Ask { period: filter.period(), gap_ms: u64::MAX };
        let mut summary = Summary::default();
        self.each(ui, &mut |seq, leaf, line| {
            summary.add(&ask, seq, leaf, line.len());
            if filter.takes(leaf) { visit(seq, leaf, line) } else { Ok(()) }
        })?;
        let fault = |what: &str, why: String, exit| {
            Fault::new(what, self.name(), why, "worm verify says more").exit(exit)
        };
        if let Some((seq, why)) = &summary.disorder {
            return Err(fault("the entries are not in order", format!("entry {seq}: {why}"), Exit::Tampered));
        }
        let entries = self.plan.entries();
        if summary.before.is_none() && entries.start > 0
            || summary.after.is_none() && entries.end < self.plan.size
        {
            let why = format!("it holds entries {} to {}", entries.start, entries.end.saturating_sub(1));
            return Err(fault("the pack does not reach to both ends of the period", why, Exit::Missing));
        }
        Ok(summary)
    }

    /// The receipt of an entry, and the entry.
    ///
    /// # Errors
    /// It is not there, or cannot be proved.
    pub fn receipt(&self, seq: u64, ui: Ui) -> Result<(Receipt, Vec<u8>), Fault> {
        match &self.place {
            Place::Pack(pack) => receipt(pack.dir(), self.signed.checkpoint.size, &self.note, seq),
            Place::Home(home, region) => {
                let found =
                    find(home, region, &self.signed, Want::Seq(seq), ui)?.found.pop().ok_or_else(|| {
                        Fault::new(
                            "no such entry",
                            seq,
                            "the log under this checkpoint ends before",
                            "worm verify says more",
                        )
                    })?;
                let checkpoint = self.note.clone();
                Ok((Receipt { extra: None, index: seq, path: found.path, checkpoint }, found.line))
            }
        }
    }

    /// Its directory.
    #[must_use]
    pub fn name(&self) -> String {
        self.dir().display().to_string()
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &std::path::Path {
        match &self.place {
            Place::Home(home, _) => home.dir(),
            Place::Pack(pack) => pack.dir(),
        }
    }

    /// Where a checkpoint's stamps would stand.
    #[must_use]
    pub fn beside_checkpoint(&self, name: &str) -> std::path::PathBuf {
        match &self.place {
            Place::Home(home, region) => home.checkpoint(region).with_file_name(name),
            Place::Pack(pack) => pack.dir().join(name),
        }
    }
}

#[cfg(test)]
mod tests;
