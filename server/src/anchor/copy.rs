//! The task of a place for copies: bring it to the newest checkpoint.
//!
//! ```text
//! anchors/SIZE.checkpoint              the checkpoint, byte for byte; put last, so that where it lies everything else does
//! anchors/SIZE.from.OLD.growth         that it continues the one copied before (a request of C2SP tlog-witness)
//! anchors/SIZE.SHA.witnessed           the best cosigned checkpoint, if it is newer than the one copied before
//! anchors/SIZE.NAME.SHA.tsr, .ots      time stamps and OpenTimestamps files, with the checkpoint that they are over
//! tile/.., tile/entries/..             with `export`: every tile and bundle under the checkpoint (C2SP tlog-tiles)
//! keys/N.tlog-proof                    with `export`: by which statements the log's keys follow each other
//! worm/YYYY/MM/DD/HHMMSS.jsonl, .root  with `export`: every closed audit file under it
//! ```
//! SIZE and OLD have twenty digits, SHA is the first eight hex digits of the SHA-256 of the file.
//!
//! What is left to do follows from the log: the `Anchored` event of the last copy says how far each of these lists had
//! come ([`Copied`]). So a crash loses nothing; what is put again is there already and stays as it is. Within a process a
//! task that failed half-way goes on where it was.

use super::lane::Failure;
use super::place::{Held, Place, TOGETHER};
use super::targets::Target;
use super::{follow, work};
use crate::node::Node;
use crate::projections::tiles::{Published, Tiles};
use bytes::Bytes;
use engine::checkpoint::Signed;
use engine::event::{AnchorKind, Event};
use engine::log::{Digest, Lsn};
use engine::tree::tiles::{Kind, Tile, WIDTH, new_tiles};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Leaves whose tiles are copied before the node remembers that they are.
const STEP: u64 = WIDTH * WIDTH;
/// First line of the evidence.
const HEAD: &str = "flk copy 1\n";
/// Between two pieces of work a task rests for so many times what that took, and for this long at most: a backlog may use a
/// hundredth of a disk and of a core that submissions want, too, so that far fewer than one answer in twenty meets it.
const REST: (u32, Duration) = (99, Duration::from_secs(5));
/// A task that has not ended after this long may use a quarter: then more comes in than is copied.
const HURRY: (u32, Duration) = (3, Duration::from_mins(10));

/// How far a place has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// Time stamps of records up to this one lie there.
    pub tokens: u64,
    /// Tiles and bundles of this many leaves lie there.
    pub leaves: u64,
    /// Audit files with leaves below this one lie there.
    pub worm: u64,
}

impl Copied {
    /// The further one of each.
    #[must_use]
    pub fn max(self, other: Copied) -> Copied {
        Copied {
            tokens: self.tokens.max(other.tokens),
            leaves: self.leaves.max(other.leaves),
            worm: self.worm.max(other.worm),
        }
    }

    /// What the evidence of a copy says; nothing, if it is not ours.
    pub fn parse(evidence: &[u8]) -> Copied {
        let text = std::str::from_utf8(evidence).ok().and_then(|text| text.strip_prefix(HEAD));
        let number = |name: &str| {
            let lines = text.unwrap_or_default().lines();
            lines.filter_map(|line| line.strip_prefix(name)).find_map(|rest| rest.parse().ok()).unwrap_or(0)
        };
        Copied { tokens: number("tokens "), leaves: number("leaves "), worm: number("worm ") }
    }
}

/// The evidence: where the checkpoint lies, what was read back, and how far everything else has come.
fn evidence(address: &str, note: &[u8], held: &Held, copied: Copied) -> Vec<u8> {
    let mut out = format!("{HEAD}where {address}\nsha256 {}\n", Digest(Sha256::digest(note).into()));
    if let Some(version) = &held.version {
        let _ = writeln!(out, "version {version}");
    }
    if let Some(until) = held.until {
        let _ = writeln!(out, "locked COMPLIANCE {until}");
    }
    let _ = writeln!(out, "tokens {}\nleaves {}\nworm {}", copied.tokens, copied.leaves, copied.worm);
    out.into_bytes()
}

/// One run of a task.
struct Job<'a> {
    node: &'a Arc<Node>,
    target: &'a Target,
    place: &'a Place,
    now: Timestamp,
    begun: Instant,
}

/// Copies everything up to this checkpoint; gives the evidence.
///
/// # Errors
/// [`Failure`]; what was copied by then stays and is not copied again.
pub async fn copy(
    node: &Arc<Node>,
    target: &Target,
    place: &Place,
    export: bool,
    subject: &Published,
) -> Result<Vec<u8>, Failure> {
    let now = i64::try_from(node.clock.wall_ms() / 1000).unwrap_or(i64::MAX);
    let now = Timestamp::from_second(now).map_err(|error| Failure::Refused(error.to_string()))?;
    let job = Job { node, target, place, now, begun: Instant::now() };
    let (mut copied, stamps, best) = node.anchors.to_copy(&target.name);
    let old = node.anchors.done(target).min(subject.size);
    let size = subject.size;
    if export {
        while copied.leaves < size {
            let next = (copied.leaves / STEP + 1).saturating_mul(STEP).min(size);
            job.tiles(copied.leaves, next).await?;
            copied.leaves = next;
            job.remember(copied);
        }
        job.statements(size).await?;
        job.worm(&mut copied, size).await?;
    }
    for lsn in stamps {
        job.stamps(lsn).await?;
        copied.tokens = lsn.0;
        job.remember(copied);
    }
    if let Some(best) = best.filter(|best| best.size > old) {
        let text = Bytes::from(best.text());
        job.put(&format!("anchors/{:020}.{}.witnessed", best.size, short(&text)), text).await?;
    }
    if old > 0 {
        let proof = work::prove(node, old, size).await?;
        let growth = super::witness::request(old, &proof, &subject.note);
        job.put(&format!("anchors/{size:020}.from.{old:020}.growth"), growth.into()).await?;
    }
    let name = format!("anchors/{size:020}.checkpoint");
    let held = job.put(&name, subject.note.clone().into()).await?;
    Ok(evidence(&place.address(&name), &subject.note, &held, copied))
}

fn short(bytes: &[u8]) -> String {
    let mut digest = Digest(Sha256::digest(bytes).into()).to_string();
    digest.truncate(8);
    digest
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::Later(format!("what is to be copied cannot be read here: {error}"), None)
}

impl Job<'_> {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<Held, Failure> {
        self.place.put(name, bytes, self.now).await
    }

    /// Between two pieces of work: lets others have what the first, begun then, took from them.
    async fn rest(&self, since: Instant) {
        let times = if self.begun.elapsed() < HURRY.1 { REST.0 } else { HURRY.0 };
        tokio::time::sleep((since.elapsed() * times).min(REST.1)).await;
    }

    fn remember(&self, copied: Copied) {
        self.node.anchors.remember(&self.target.name, copied);
    }

    /// Tiles and bundles that a tree of `to` leaves has and one of `from` had not.
    async fn tiles(&self, from: u64, to: u64) -> Result<(), Failure> {
        let bundles = (from / WIDTH..to.div_ceil(WIDTH)).filter_map(|n| Tile::at(Kind::Entries, n, to));
        let tiles: Vec<Tile> = bundles.chain(new_tiles(from, to)).collect();
        let batches = tiles.chunks(TOGETHER);
        let most = batches.len();
        for (nth, tiles) in (1..).zip(batches) {
            let since = Instant::now();
            let (node, tiles) = (self.node.clone(), tiles.to_vec());
            let read = move || {
                let read = |tile: Tile| Ok((tile.path(), Bytes::from(bytes_of(&node, tile)?)));
                tiles.into_iter().map(read).collect::<io::Result<Vec<_>>>()
            };
            let read = tokio::task::spawn_blocking(read).await.map_err(io::Error::other).flatten();
            self.place.put_all(read.map_err(|error| unreadable(&error))?, self.now).await?;
            if nth < most {
                self.rest(since).await;
            }
        }
        Ok(())
    }

    /// What shows why the log's keys are believed, as far as it lies under the checkpoint. There are few of them.
    async fn statements(&self, size: u64) -> Result<(), Failure> {
        let numbers: Vec<u64> = {
            let core = self.node.fold.core();
            let made =
                core.ledger.log_keys().iter().filter(|change| !change.note.is_empty() && change.seq < size);
            made.map(|change| change.number).collect()
        };
        for number in numbers {
            let node = self.node.clone();
            let read = move || node.fold.projector.tiles().statement(number);
            let read = tokio::task::spawn_blocking(read).await.map_err(io::Error::other).flatten();
            let bytes = read.map_err(|error| unreadable(&error))?;
            self.put(&Tiles::statement_name(number), bytes.into()).await?;
        }
        Ok(())
    }

    /// Closed audit files whose leaves are all under the checkpoint.
    async fn worm(&self, copied: &mut Copied, size: u64) -> Result<(), Failure> {
        let mut spans = self.node.fold.projector.spans();
        // The last one may still grow.
        spans.pop();
        let end = |span: &crate::projections::worm::Span| span.first + span.count;
        let begin = spans.partition_point(|span| end(span) <= copied.worm);
        let under = spans.partition_point(|span| end(span) <= size).max(begin);
        for (nth, span) in (begin + 1..).zip(&spans[begin..under]) {
            let since = Instant::now();
            let root = span.path.with_extension("root");
            for path in [&root, &span.path] {
                let read = read(self.node.config.worm_path().join(path)).await;
                let bytes = read.map_err(|error| unreadable(&error))?;
                let name = format!("worm/{}", path.display());
                match self.put(&name, bytes.into()).await {
                    // Which line stands in which file follows from settings, too: another file is no other history.
                    Err(Failure::Contradicted(why)) => {
                        let why = format!("{why}: have worm.box_s or worm.max_bytes been changed?");
                        return Err(Failure::Refused(why));
                    }
                    result => drop(result?),
                }
            }
            copied.worm = end(span);
            self.remember(*copied);
            if nth < under {
                self.rest(since).await;
            }
        }
        Ok(())
    }

    /// The stamps of this record.
    async fn stamps(&self, lsn: Lsn) -> Result<(), Failure> {
        let records = self.node.group.read_range(lsn, lsn.next()).await;
        for (_, _, record) in records.map_err(|error| unreadable(&error))? {
            for event in follow::said(&record).map_err(|error| unreadable(&error))? {
                let Event::Anchored(anchored) = event else { continue };
                let (Some(end), Ok(signed)) = (ending(anchored.kind), Signed::parse(&anchored.note)) else {
                    continue;
                };
                let (size, name) = (signed.checkpoint.size, &anchored.target);
                if !plain(name) || signed.checkpoint.origin != self.node.fold.terms.origin {
                    continue;
                }
                let stamp = format!("anchors/{size:020}.{name}.{}.{end}", short(&anchored.evidence));
                self.put(&stamp, anchored.evidence.into()).await?;
                self.put(&format!("anchors/{size:020}.checkpoint"), anchored.note.into()).await?;
            }
        }
        Ok(())
    }
}

/// How a file of this kind ends, if there are files of it.
pub fn ending(kind: AnchorKind) -> Option<&'static str> {
    match kind {
        AnchorKind::TimeStamp => Some("tsr"),
        AnchorKind::OpenTimestamps => Some("ots"),
        AnchorKind::Cosignature | AnchorKind::Copy => None,
    }
}

/// Whether a target's name may be a part of a path: what a stranger wrote into the log must not leave its folder.
pub fn plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

async fn read(path: PathBuf) -> io::Result<Vec<u8>> {
    tokio::task::spawn_blocking(move || std::fs::read(path)).await.map_err(io::Error::other)?
}

fn bytes_of(node: &Node, tile: Tile) -> io::Result<Vec<u8>> {
    match tile.kind {
        Kind::Hashes { .. } => node.fold.projector.tiles().bytes(tile),
        Kind::Entries => node.fold.projector.bundle(tile),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_evidence_says_how_far_a_place_has_come_and_others_say_nothing() {
        let copied = Copied { tokens: 9, leaves: 70_000, worm: 3 };
        let held = Held { version: Some("v-1".into()), until: Some(Timestamp::UNIX_EPOCH) };
        let text = evidence("s3://b/x", b"note", &held, copied);
        assert_eq!(Copied::parse(&text), copied);
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("\nlocked COMPLIANCE 1970-01-01T00:00:00Z\n"), "{text}");
        assert_eq!(Copied::parse(b"tokens 9\n"), Copied::default());
        assert_eq!(Copied::parse(b"flk copy 1\ntokens -1\n"), Copied::default());
        assert_eq!(copied.max(Copied { worm: 8, ..Copied::default() }), Copied { worm: 8, ..copied });
    }
}
