//! What stands beside the log, compared with what follows from it: WORM files, published and saved checkpoints.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use engine::checkpoint::{LogKeys, Signed};
use engine::event::Anchored;
use engine::log::{Digest, Lsn};

use super::lines::{Lines, Next, files};
use super::witnesses::Witnesses;
use crate::audit::Wrong;
use crate::audit::fold::{Appended, Watch};
use crate::pack::summary::{Ask, Summary};

/// How the WORM files stand against the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Worm {
    /// There are none.
    Absent,
    /// Every line so far is the leaf it must be.
    Equal,
    /// They end before the log does: a copy that is behind.
    Behind {
        /// Lines they hold.
        have: u64,
    },
    /// A line is not the leaf it must be, or there are more than leaves.
    Differs {
        /// The entry.
        seq: u64,
        /// File and offset.
        place: String,
        /// What stands there, in short.
        found: String,
    },
}

/// A root that somebody claims at a size.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    who: &'static str,
    root: Digest,
}

/// A claim that turned out wrong or out of reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Whose claim.
    pub who: &'static str,
    /// Its size.
    pub size: u64,
    /// The root it claims.
    pub claimed: Digest,
    /// The root over as many leaves; `None` if the log is shorter.
    pub computed: Option<Digest>,
}

/// Follows a fold and compares.
pub struct Compare<'a> {
    lines: Option<Lines>,
    worm: Worm,
    compared: u64,
    claims: BTreeMap<u64, Vec<Claim>>,
    broken: Vec<Broken>,
    /// Claims over entries of records that nobody has attested yet: who, and at which size.
    pub ahead: Vec<(&'static str, u64)>,
    verifier: Option<&'a LogKeys>,
    /// Logged checkpoints with a good signature.
    pub signed: u64,
    /// The first logged checkpoint without one, and why.
    pub unsigned: Option<(Lsn, String)>,
    period: (u64, u64),
    /// What the entries come to, where somebody wants to know.
    summary: Option<(Ask, Summary)>,
    /// First and last entry of the period, and how many.
    pub in_period: Option<(u64, u64, u64)>,
    leaves: u64,
    /// Cosignatures in the log.
    pub witnesses: Witnesses,
}

impl<'a> Compare<'a> {
    /// Compares with the WORM files in `dir`; logged checkpoints are checked with `verifier`, entries with a time in
    /// `period` (milliseconds, both ends included) counted.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn new(dir: &Path, verifier: Option<&'a LogKeys>, period: (u64, u64)) -> io::Result<Compare<'a>> {
        let list = if dir.is_dir() { files(dir)? } else { Vec::new() };
        let lines = (!list.is_empty()).then(|| Lines::new(list));
        Ok(Compare {
            worm: if lines.is_some() { Worm::Equal } else { Worm::Absent },
            lines,
            compared: 0,
            claims: BTreeMap::new(),
            broken: Vec::new(),
            ahead: Vec::new(),
            verifier,
            signed: 0,
            unsigned: None,
            period,
            summary: None,
            in_period: None,
            leaves: 0,
            witnesses: Witnesses::default(),
        })
    }

    /// Sums the entries up, too.
    pub fn summarise(&mut self, ask: Ask) {
        self.summary = Some((ask, Summary::default()));
    }

    /// What the entries come to, if somebody wanted to know.
    pub fn summary(&mut self) -> Option<Summary> {
        self.summary.take().map(|(_, summary)| summary)
    }

    /// Notes what `who` says the root over `size` leaves is.
    pub fn claim(&mut self, who: &'static str, size: u64, root: Digest) {
        if size == 0 {
            if root != engine::tree::EMPTY_ROOT {
                self.broken.push(Broken {
                    who,
                    size,
                    claimed: root,
                    computed: Some(engine::tree::EMPTY_ROOT),
                });
            }
            return;
        }
        self.claims.entry(size).or_default().push(Claim { who, root });
    }

    /// The fold is at its end. Behind it are `unfolded` events, which only an `Attested` to come makes readable
    /// without secrets: what goes beyond the fold, by no more entries than those, is neither right nor wrong yet.
    ///
    /// # Errors
    /// A WORM file cannot be read.
    pub fn finish(&mut self, unfolded: u64) -> io::Result<()> {
        for (size, claims) in std::mem::take(&mut self.claims) {
            if size <= self.leaves + unfolded {
                self.ahead.extend(claims.into_iter().map(|claim| (claim.who, size)));
                continue;
            }
            let late = claims.into_iter().map(|claim| Broken {
                who: claim.who,
                size,
                claimed: claim.root,
                computed: None,
            });
            self.broken.extend(late);
        }
        if let (Worm::Equal, Some(lines), false) = (&self.worm, &mut self.lines, unfolded > 0) {
            let seq = self.leaves;
            self.worm = match lines.next_line()? {
                Next::End | Next::Torn(_) => Worm::Equal,
                Next::Line(line, place) => Worm::Differs { seq, place: show(&place), found: short(line) },
                Next::TooLong(place) => {
                    Worm::Differs { seq, place: show(&place), found: "an endless line".into() }
                }
            };
        }
        Ok(())
    }

    /// How the WORM files stand, and how many lines agree.
    #[must_use]
    pub fn worm(&self) -> (&Worm, u64) {
        (&self.worm, self.compared)
    }

    /// Claims that do not hold.
    #[must_use]
    pub fn broken(&self) -> &[Broken] {
        &self.broken
    }

    /// Leaves seen.
    #[must_use]
    pub fn leaves(&self) -> u64 {
        self.leaves
    }

    fn line(&mut self, seq: u64, leaf: &[u8]) -> io::Result<()> {
        let (Worm::Equal, Some(lines)) = (&self.worm, &mut self.lines) else { return Ok(()) };
        self.worm = match lines.next_line()? {
            Next::Line(line, _) if line == leaf => {
                self.compared += 1;
                return Ok(());
            }
            Next::Line(line, place) => {
                Worm::Differs { seq, place: show(&place), found: difference(leaf, line) }
            }
            Next::TooLong(place) => {
                Worm::Differs { seq, place: show(&place), found: "an endless line".into() }
            }
            Next::Torn(_) | Next::End => Worm::Behind { have: seq },
        };
        Ok(())
    }
}

fn show(place: &super::lines::Place) -> String {
    format!("{}, offset {:#x}", place.path.display(), place.offset)
}

fn short(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned()
}

/// Where two lines part, with what stands there.
fn difference(expected: &[u8], found: &[u8]) -> String {
    let at = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    let piece = |line: &[u8]| {
        String::from_utf8_lossy(&line[at.min(line.len())..(at + 24).min(line.len())]).into_owned()
    };
    format!("at byte {at} of the line {:?} instead of {:?}", piece(found), piece(expected))
}

impl Watch for Compare<'_> {
    fn leaf(&mut self, leaf: &Appended<'_>) -> Result<(), Wrong> {
        self.leaves = leaf.tree.size();
        if let Some((ask, summary)) = &mut self.summary
            && let Ok(parsed) = engine::leaf::Leaf::parse(leaf.line)
        {
            summary.add(ask, leaf.seq, &parsed, leaf.line.len());
        }
        self.line(leaf.seq, leaf.line).map_err(|error| Wrong {
            lsn: leaf.lsn,
            place: None,
            part: "WORM files",
            expected: "files that can be read".into(),
            found: error.to_string(),
        })?;
        if let Some(claims) = self.claims.remove(&leaf.tree.size()) {
            let root = leaf.tree.root();
            let wrong = claims.into_iter().filter(|claim| claim.root != root);
            self.broken.extend(wrong.map(|claim| Broken {
                who: claim.who,
                size: leaf.tree.size(),
                claimed: claim.root,
                computed: Some(root),
            }));
        }
        if (self.period.0..=self.period.1).contains(&leaf.time_ms) {
            let (_, last, count) = self.in_period.get_or_insert((leaf.seq, leaf.seq, 0));
            (*last, *count) = (leaf.seq, *count + 1);
        }
        Ok(())
    }

    fn checkpoint(&mut self, lsn: Lsn, signed: &Signed) -> Result<(), Wrong> {
        let Some(verifier) = self.verifier else { return Ok(()) };
        match verifier.verify(signed) {
            Ok(_) => self.signed += 1,
            Err(error) => {
                self.unsigned.get_or_insert((lsn, error.to_string()));
            }
        }
        Ok(())
    }

    fn anchored(&mut self, anchored: &Anchored, signed: &Signed) {
        self.witnesses.add(anchored, signed);
    }
}
