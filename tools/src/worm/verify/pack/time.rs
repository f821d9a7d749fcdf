//! Stage 5, time: who besides the operator says when.
//!
//! A stamp says that a checkpoint existed before a time, and so every entry under it. It counts here only if its
//! checkpoint is signed by the log's key and the pack's tree continues it. The log's own clock is held against it: an entry
//! under a stamped checkpoint cannot be of a later time than the stamp, by more than clocks may be apart.
//!
//! No stamp says that something did not exist yet: an entry after a stamped tree came after that checkpoint in the log, and
//! the log's own time of it cannot be before those under it (stage 7).

use engine::checkpoint::{LogKeys, Signed};
use engine::leaf::Leaf;
use engine::tree::tiles::{Kind, Tile, WIDTH, bundle_entries};
use jiff::Timestamp;

use super::*;
use crate::pack::anchors::{names_in, size_of};
use crate::pack::tiles::{read_file, tile_max};
use crate::stamp::{Roots, check};

/// How far the log's clock may be ahead of an authority's, milliseconds: a node keeps no stamp that is further off.
const APART_MAX_MS: i64 = 300_000;

/// A stamp that holds.
struct Held {
    size: u64,
    time: Timestamp,
    accuracy_s: u64,
    place: String,
    trusted: bool,
}

impl Stages<'_> {
    pub(super) fn time(
        &mut self,
        signed: &Signed,
        vkey: Option<&LogKeys>,
        roots: Option<&Roots>,
    ) -> Result<(), Fault> {
        let name = "5 time";
        let (mut held, mut loose) = (Vec::new(), 0);
        for (stamp, over) in self.stamps()? {
            match self.stamp(&stamp, &over, signed, vkey, roots)? {
                Ok(Some(one)) => held.push(one),
                Ok(None) => loose += 1,
                Err((exit, why)) => {
                    self.report.data["time"] = json!({"place": stamp, "found": why});
                    self.report.fail(name, exit, format!("{stamp}: {why}"));
                    return Ok(());
                }
            }
        }
        let said: Vec<Value> = held
            .iter()
            .map(|one| {
                json!({"size": one.size, "existed_before": one.time.to_string(), "accuracy_s": one.accuracy_s,
                "place": one.place, "trusted": one.trusted})
            })
            .collect();
        self.report.data["time"] = json!(said);
        let trusted = |one: &&Held| one.trusted;
        let loose = if loose > 0 {
            format!("; {loose} of checkpoints that the tiles in the pack do not connect were not used")
        } else {
            String::new()
        };
        let newest = held.iter().filter(trusted).max_by_key(|one| one.size);
        let Some(best) = newest.or(held.iter().max_by_key(|one| one.size)) else {
            let why = format!("no time stamp in the pack: only the log's own clock says when{loose}");
            match roots {
                Some(_) => self.report.fail(name, Exit::Policy, why),
                None => self.report.check(name, State::Skipped, why),
            }
            return Ok(());
        };
        let of = signed.checkpoint.size;
        let rest = match of - best.size {
            0 => String::new(),
            after => {
                format!("; of the {} entries after it only the log's own clock says when", thousands(after))
            }
        };
        let text = format!(
            "{} of {} entries existed before {} +-{} s ({})",
            thousands(best.size),
            thousands(of),
            best.time,
            best.accuracy_s,
            best.place
        );
        let count = match held.len() {
            1 => String::new(),
            n => format!(
                "; {} stamps, the first at {}",
                n,
                held.iter().map(|one| one.time).min().unwrap_or(best.time)
            ),
        };
        match (roots, best.trusted) {
            (Some(_), true) => {
                let chain = ", RFC 3161, chain to your authority ok";
                self.report.check(name, State::Ok, format!("{text}{chain}{count}{rest}{loose}"));
            }
            (Some(_), false) => {
                let why = format!("none of the stamps is by an authority of yours: {text}{count}{loose}");
                self.report.fail(name, Exit::Policy, why);
            }
            (None, _) => {
                let why = ", by whoever signed the stamp: give the authority's root with --tsa-ca";
                self.report.check(name, State::Warn, format!("{text}{why}{count}{rest}{loose}"));
            }
        }
        Ok(())
    }

    /// Every stamp in the pack with the checkpoint that it is over, as paths below it.
    fn stamps(&self) -> Result<Vec<(String, String)>, Fault> {
        let mut found = Vec::new();
        if self.pack.dir().join("checkpoint.tsr").is_file() {
            found.push(("checkpoint.tsr".to_owned(), "checkpoint".to_owned()));
        }
        let mut names = names_in(self.pack.dir())?;
        names.sort();
        for name in names.iter().filter(|name| name.ends_with(".tsr")) {
            let Some(size) = size_of(name) else { continue };
            found.push((format!("anchors/{name}"), format!("anchors/{size:020}.checkpoint")));
        }
        Ok(found)
    }

    /// Holds one stamp against all of it. `Ok(None)`: the pack lacks the tiles that connect its checkpoint.
    fn stamp(
        &self,
        stamp: &str,
        over: &str,
        signed: &Signed,
        vkey: Option<&LogKeys>,
        roots: Option<&Roots>,
    ) -> Result<Result<Option<Held>, (Exit, String)>, Fault> {
        let tampered = |why: String| Ok(Err((Exit::Tampered, why)));
        let note = match crate::pack::small(&self.pack.dir().join(over)) {
            Ok(note) => note,
            Err(fault) if fault.exit == Exit::Failed => return Err(fault),
            Err(fault) => return Ok(Err((fault.exit, format!("{over}: {}", fault.why)))),
        };
        let said = match check(&crate::pack::small(&self.pack.dir().join(stamp))?, &note, roots) {
            Ok(said) => said,
            Err(why) => return tampered(format!("{why} ({over})")),
        };
        let size = match self.placed(over, &note, signed, vkey)? {
            Ok(Some(size)) => size,
            Ok(None) => return Ok(Ok(None)),
            Err(why) => return tampered(why),
        };
        if let Some(why) = self.too_late(size, signed, said.time, APART_MAX_MS)? {
            return tampered(why);
        }
        let (time, accuracy_s, trusted) = (said.time, said.accuracy_s, said.trusted);
        Ok(Ok(Some(Held { size, time, accuracy_s, place: stamp.to_owned(), trusted })))
    }

    /// Entries under an attested checkpoint, if it is the log's and the pack's tree continues it; `None` where the pack lacks the
    /// tiles that would tell. Else what is wrong.
    pub(super) fn placed(
        &self,
        over: &str,
        note: &[u8],
        signed: &Signed,
        vkey: Option<&LogKeys>,
    ) -> Result<Result<Option<u64>, String>, Fault> {
        let attested = match Signed::parse(note) {
            Ok(attested) => attested,
            Err(error) => return Ok(Err(format!("{over}: {error}"))),
        };
        if let Some(Err(error)) = vkey.map(|vkey| vkey.verify(&attested)) {
            return Ok(Err(format!("{over}: {error}")));
        }
        Ok(match self.continues(&attested.checkpoint, &signed.checkpoint)? {
            Continues::Yes => Ok(Some(attested.checkpoint.size)),
            Continues::Lacks(_) => Ok(None),
            Continues::No(why) => Err(format!("{over}: {why}")),
        })
    }

    /// Whether the last of the first `size` entries says a later time than they existed at, by more than clocks may be apart.
    pub(super) fn too_late(
        &self,
        size: u64,
        signed: &Signed,
        existed: Timestamp,
        apart_ms: i64,
    ) -> Result<Option<String>, Fault> {
        let latest = existed.as_millisecond().saturating_add(apart_ms);
        let last = self.time_of_last(size, signed.checkpoint.size)?;
        let last =
            last.filter(|(_, time_ms)| i64::try_from(*time_ms).map_or(true, |time_ms| time_ms > latest));
        Ok(last.map(|(seq, time_ms)| {
            format!("entry {seq} says {}, but existed before {existed}", when(time_ms))
        }))
    }

    /// Number and time of the last entry under the first `size`, if its bundle is in the pack.
    fn time_of_last(&self, size: u64, of: u64) -> Result<Option<(u64, u64)>, Fault> {
        let Some(last) = size.checked_sub(1) else { return Ok(None) };
        let Some(tile) = Tile::at(Kind::Entries, last / WIDTH, of) else { return Ok(None) };
        let bytes = read_file(&self.pack.dir().join(tile.path()), tile_max(tile))?.unwrap_or_default();
        let entries = bundle_entries(&bytes).unwrap_or_default();
        let entry = usize::try_from(last - tile.first()).ok().and_then(|at| entries.get(at));
        // What stage 2 makes of a bundle that is none is said there.
        Ok(entry.and_then(|entry| Some((last, Leaf::parse(entry).ok()?.time_ms))))
    }
}
