//! Going on with an interrupted check of a large pack: a small file of the auditor's own, outside the pack, says up
//! to where all was looked at. It counts only for the same checkpoint, the same bundles and the same questions.

use std::path::{Path, PathBuf};

use engine::checkpoint::Signed;
use serde::{Deserialize, Serialize};

use crate::pack::pass::{CHUNK, Pass, Passed};
use crate::pack::put;
use crate::pack::summary::Summary;
use crate::report::Fault;

/// Bundles between two writes of the file: seconds of work, and far less than a second to write.
const EVERY: u64 = 256 * CHUNK;

#[derive(Serialize, Deserialize)]
struct Saved {
    /// Everything that the work follows from.
    of: String,
    upto: u64,
    bundles: u64,
    summary: Summary,
}

/// The file, if one was asked for.
pub(super) struct State {
    path: Option<PathBuf>,
    of: String,
    from: u64,
    before: Passed,
    written: u64,
}

impl State {
    /// Takes up what is there.
    pub(super) fn open(path: Option<&Path>, pass: &Pass<'_>, signed: &Signed) -> Result<State, Fault> {
        let head = &signed.checkpoint;
        let of = format!(
            "{} {} {} {:?} {:?} {:?} {}",
            head.origin,
            head.size,
            head.root,
            pass.plan.bundles,
            pass.ask,
            pass.subset,
            pass.dir.display()
        );
        let begin = pass.plan.bundles.start;
        let mut state = State {
            path: path.map(Path::to_owned),
            of,
            from: begin,
            before: Passed::default(),
            written: begin,
        };
        let Some(path) = path.filter(|path| path.is_file()) else { return Ok(state) };
        let used = |why: String| {
            let next = "remove the file to begin again, or name another one";
            Fault::new("cannot go on from this file", path.display(), why, next)
        };
        let saved: Saved =
            serde_json::from_slice(&crate::pack::small(path)?).map_err(|error| used(error.to_string()))?;
        if saved.of != state.of {
            return Err(used("it is of another pack, checkpoint or question".into()));
        }
        state.from = saved.upto;
        state.written = saved.upto;
        state.before = Passed { summary: saved.summary, bundles: saved.bundles, ..Passed::default() };
        Ok(state)
    }

    /// From which bundle on, and what was found before it.
    pub(super) fn take(&mut self) -> (u64, Passed) {
        (self.from, std::mem::take(&mut self.before))
    }

    /// All before bundle `upto` was looked at. What does not hold is looked at again the next time, to be told again.
    pub(super) fn step(&mut self, upto: u64, passed: &Passed) -> Result<(), Fault> {
        let Some(path) = &self.path else { return Ok(()) };
        if passed.wrong > 0 || upto < self.written + EVERY {
            return Ok(());
        }
        self.written = upto;
        let saved =
            Saved { of: self.of.clone(), upto, bundles: passed.bundles, summary: passed.summary.clone() };
        let bytes = serde_json::to_vec(&saved).map_err(|error| Fault::write(path, error))?;
        put(path, &bytes)
    }

    /// It is all done: the next check begins at the beginning.
    pub(super) fn done(&self) -> Result<(), Fault> {
        match self.path.as_ref().map(|path| (path, std::fs::remove_file(path))) {
            Some((path, Err(error))) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Fault::write(path, error))
            }
            _ => Ok(()),
        }
    }
}
