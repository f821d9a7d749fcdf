//! `worm verify --depth leaves`: the lines of the WORM files are the leaves that every checkpoint signs.
//!
//! That the lines follow from the records is not looked at: whoever holds the log's signing key could have signed other
//! lines, and only `--depth all` would tell.

use std::sync::atomic::{AtomicU64, Ordering};

use engine::checkpoint::{NoteError, Signed};

use super::*;
use crate::worm::lines::{Place, files};
use crate::worm::roots::{Claim, Roots, Unreadable, roots};

fn show(place: &Place) -> String {
    format!("{}, offset {:#x}", place.path.display(), place.offset)
}

impl Run<'_> {
    pub(super) fn leaves(
        &mut self,
        log: &LogFiles,
        notes: &Notes,
        vkey: Option<&LogKeys>,
        saved: Option<&Signed>,
    ) -> Result<(), Fault> {
        let published = self.published(log.region())?;
        let mut logged = Vec::new();
        for note in notes.list() {
            match &note.signed {
                Ok(signed) => logged.push((note.lsn, signed)),
                Err(why) => self.fail("checkpoints", Exit::Tampered, format!("record {}: {why}", note.lsn)),
            }
        }
        let all = || logged.iter().map(|(_, signed)| *signed).chain(published.as_ref()).chain(saved);
        let mut claims: Vec<Claim> = all()
            .map(|Signed { checkpoint, .. }| Claim { size: checkpoint.size, root: checkpoint.root })
            .collect();
        claims.sort_unstable_by_key(|claim| claim.size);
        let Some(found) = self.hash(&claims)? else { return Ok(()) };
        let newest = claims.last().map_or(0, |claim| claim.size);
        self.lines(&found, newest);
        self.logged(&found, &claims, &logged, vkey);
        for (name, exit, signed) in
            [("checkpoint", Exit::Tampered, published.as_ref()), ("append-only", Exit::Inconsistent, saved)]
        {
            let Some(signed) = signed else { continue };
            let (size, claimed) = (signed.checkpoint.size, signed.checkpoint.root);
            match computed(&found, &claims, signed) {
                Some(computed) if computed == claimed => self.signed(name, exit, signed, vkey),
                Some(computed) => {
                    let broken = Broken { who: "", size, claimed, computed: Some(computed) };
                    self.fail(name, exit, broken_text(&broken, found.lines));
                }
                None => self.short(name, size, &found),
            }
        }
        self.no_more(published.as_ref());
        self.report.check(
            "not checked",
            State::Skipped,
            "whether the lines follow from the records: no submission was judged again, nothing folded, no Attested \
             compared; --depth all does",
        );
        Ok(())
    }

    /// Hashes all lines; `None` where something that is no line is among them.
    fn hash(&mut self, claims: &[Claim]) -> Result<Option<Roots>, Fault> {
        let worm = self.home.worm();
        let list = if worm.is_dir() { files(&worm) } else { Ok(Vec::new()) };
        let list = list.map_err(|error| Fault::read(&worm, error))?;
        let total = list.iter().filter_map(|path| Some(path.metadata().ok()?.len())).sum();
        let progress = std::sync::Mutex::new(self.ui.progress("leaves ", total, Unit::Bytes));
        let bytes = AtomicU64::new(0);
        let done = |count| {
            bytes.fetch_add(count, Ordering::Relaxed);
            // A bar that another thread draws right now hears of it with the next window.
            if let Ok(mut progress) = progress.try_lock() {
                progress.add(bytes.swap(0, Ordering::Relaxed));
            }
        };
        let found = roots(&list, claims, self.threads, &done);
        if let Ok(progress) = progress.into_inner() {
            progress.finish();
        }
        match found {
            Ok(found) => Ok(Some(found)),
            Err(Unreadable::Io(path, error)) => Err(Fault::read(&path, error)),
            Err(Unreadable::NoLine(seq, place, what)) => {
                self.report.data["worm_difference"] =
                    json!({"seq": seq, "place": show(&place), "found": what});
                self.fail("leaves", Exit::Tampered, format!("entry {seq}, {}: {what}", show(&place)));
                Ok(None)
            }
        }
    }

    fn lines(&mut self, found: &Roots, newest: u64) {
        self.report.data["leaves"] = json!({"lines": found.lines, "signed": newest.min(found.lines)});
        if let Some(between) = &found.between {
            let (begin, end) = (show(&between.begin), show(&between.end));
            self.report.data["worm_difference"] =
                json!({"from": between.from, "to": between.to - 1, "begin": begin, "end": end});
            let detail = format!(
                "the first line that differs is one of the entries {} to {}: from {begin} to {end}; --depth all says which",
                between.from,
                between.to - 1,
            );
            self.fail("leaves", Exit::Tampered, detail);
            return;
        }
        let mut detail = format!("{} lines hashed", thousands(found.lines));
        if let Some(place) = &found.torn {
            detail.push_str(&format!("; the line at {} has no end yet", show(place)));
        }
        self.report.check("leaves", State::Ok, detail);
        if newest < found.lines {
            let detail = format!(
                "{} lines after the newest checkpoint: no root covers them yet",
                thousands(found.lines - newest)
            );
            self.report.check("newest", State::Warn, detail);
        }
    }

    fn logged(&mut self, found: &Roots, claims: &[Claim], logged: &[(Lsn, &Signed)], vkey: Option<&LogKeys>) {
        for (lsn, signed) in logged {
            let (size, claimed) = (signed.checkpoint.size, signed.checkpoint.root);
            match computed(found, claims, signed) {
                None => return self.short("log on itself", size, found),
                computed if computed != Some(claimed) => {
                    let broken = Broken { who: "", size, claimed, computed };
                    let detail =
                        format!("the checkpoint in record {lsn}: {}", broken_text(&broken, found.lines));
                    return self.fail("log on itself", Exit::Tampered, detail);
                }
                Some(_) => {}
            }
        }
        if let Some((lsn, why)) = vkey.and_then(|vkey| unsigned(logged, vkey, self.threads)) {
            let detail = format!("the checkpoint in record {lsn}: {why}");
            return self.fail("log on itself", Exit::Tampered, detail);
        }
        let by = match vkey {
            Some(_) if !logged.is_empty() => ", all signed",
            _ => "",
        };
        let detail = format!("{} checkpoints agree with the lines{by}", thousands(logged.len() as u64));
        self.report.check("log on itself", State::Ok, detail);
    }

    /// The lines end before a checkpoint does.
    fn short(&mut self, name: &str, size: u64, found: &Roots) {
        let detail = format!(
            "it is over {} entries, the WORM files end at entry {}: flkd writes the rest when it starts, and --depth all \
             needs none of them",
            thousands(size),
            thousands(found.lines)
        );
        self.fail(name, Exit::Missing, detail);
    }
}

/// The first checkpoint whose signatures do not hold, and why. Each takes as long as hashing some hundred lines, so they
/// are shared among the threads.
fn unsigned(logged: &[(Lsn, &Signed)], vkey: &LogKeys, threads: usize) -> Option<(Lsn, NoteError)> {
    let first = |share: &[(Lsn, &Signed)]| {
        share.iter().find_map(|(lsn, signed)| Some((*lsn, vkey.verify(signed).err()?)))
    };
    let share = logged.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let found: Vec<_> = logged.chunks(share).map(|share| scope.spawn(move || first(share))).collect();
        found.into_iter().find_map(|share| share.join().expect("checking a signature does not panic"))
    })
}

/// The root computed over as many lines as this checkpoint is over.
fn computed(found: &Roots, claims: &[Claim], signed: &Signed) -> Option<engine::log::Digest> {
    let at = claims.partition_point(|claim| claim.size < signed.checkpoint.size);
    found.computed.get(at).copied().flatten()
}
