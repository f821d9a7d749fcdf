//! The workers: one task for each target, at work only while this node leads.
//!
//! L1: every target has one request under way at most, and all of them together [`AT_ONCE`].

use super::copy::Copied;
use super::lane::{Failure, Next};
use super::state::Cosigned;
use super::targets::{Target, Way};
use super::{Anchors, calendar, enrich, follow, stamp, witness};
use crate::background;
use crate::node::Node;
use crate::projections::tiles::Published;
use engine::event::{Anchored, Event};
use engine::log::{Digest, Lsn};
use engine::tree::consistency_proof;
use engine::tree::tiles::TileHashes;
use raft::Batch;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Requests under way.
const AT_ONCE: usize = 8;
/// How long a worker sleeps at most before it looks whether it leads and whether there is something new.
const TICK: Duration = Duration::from_millis(250);
/// How long a plan holds when nothing happens, milliseconds.
const REPLAN_MS: u64 = 5000;
/// How often a witness may answer that it stands elsewhere before the try has failed.
const MOVES_MAX: usize = 3;

/// Follows the log, and works while this node leads, until the task is dropped.
pub async fn run(node: Arc<Node>) {
    let mut tasks = JoinSet::new();
    tasks.spawn(follow::run(node.clone()));
    // Nobody waits for overviews, and each makes its reader look at every leaf.
    background::spawn(&mut tasks, enrich::run(node.clone()));
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    for nth in 0..node.anchors.targets.len() {
        let worker = work(node.clone(), nth, permits.clone());
        match &node.anchors.targets[nth].way {
            // It reads and writes all there is.
            Way::Copy { .. } => background::spawn(&mut tasks, worker),
            _ => drop(tasks.spawn(worker)),
        }
        if matches!(node.anchors.targets[nth].way, Way::Calendars(_)) {
            tasks.spawn(calendar::run(node.clone(), nth));
        }
    }
    // None of them ends by itself.
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a worker for anchors ended");
        }
    }
}

async fn work(node: Arc<Node>, nth: usize, permits: Arc<Semaphore>) {
    let target = &node.anchors.targets[nth];
    loop {
        let subject = match node.leads() {
            true => node.anchors.due(nth, node.clock.wall_ms(), node.fold.projector.tiles().published()),
            false => Err(TICK),
        };
        let subject = match subject {
            Ok(subject) => subject,
            Err(wait) => {
                tokio::time::sleep(wait.min(TICK)).await;
                continue;
            }
        };
        let Ok(_permit) = permits.acquire().await else { return };
        let size = subject.size;
        let result = one(&node, target, subject).await;
        if let Err(failure) = &result {
            tracing::warn!(
                target = target.name,
                kind = target.kind().name(),
                size,
                why = failure.why(),
                "a checkpoint is not attested"
            );
        }
        let now_ms = node.clock.wall_ms();
        node.anchors.note(nth, now_ms, result.map_err(|failure| (size, failure)));
    }
}

/// One try: asks, and has the answer agreed. Gives the size that got through.
async fn one(node: &Arc<Node>, target: &Target, subject: Published) -> Result<u64, Failure> {
    let now_ms = node.clock.wall_ms();
    let out = &node.anchors.outbound;
    let (subject, evidence) = match &target.way {
        Way::Witness(key, url) => {
            let (subject, line) = cosign(node, target, key, url, subject).await?;
            (subject, line.into_bytes())
        }
        Way::TimeStamp(url) => {
            let now_s = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
            let stamp = stamp::ask(out, url, &subject.note, draw(), now_s).await?;
            (subject, stamp)
        }
        Way::Calendars(calendars) => {
            let nonce = (u128::from(draw()) << 64 | u128::from(draw())).to_le_bytes();
            let proof = calendar::stamp(out, calendars, &subject.note, nonce).await?;
            (subject, proof)
        }
        Way::Copy { place, export } => {
            let evidence = super::copy::copy(node, target, place, *export, &subject).await?;
            (subject, evidence)
        }
    };
    let size = subject.size;
    log(node, target, subject.note, evidence).await?;
    Ok(size)
}

/// Has it agreed that a target attested a checkpoint.
///
/// # Errors
/// [`Failure::Later`]: the log takes nothing now.
pub async fn log(node: &Arc<Node>, target: &Target, note: Vec<u8>, evidence: Vec<u8>) -> Result<(), Failure> {
    let event = Event::Anchored(Anchored {
        at_ms: node.clock.wall_ms().min(engine::limits::TIME_MAX_MS),
        kind: target.kind(),
        target: target.name.clone(),
        note,
        evidence,
    });
    node.log_anchor(event).await.map_err(|why| Failure::Later(why, None))?;
    Ok(())
}

/// Asks a witness, going on from wherever it stands.
async fn cosign(
    node: &Arc<Node>,
    target: &Target,
    key: &engine::checkpoint::Witness,
    url: &crate::outbound::Url,
    mut subject: Published,
) -> Result<(Published, String), Failure> {
    let mut old = node.anchors.done(target).min(subject.size);
    for _ in 0..MOVES_MAX {
        let proof = prove(node, old, subject.size).await?;
        let now_s = node.clock.wall_ms() / 1000;
        let out = &node.anchors.outbound;
        match witness::ask(out, key, url, old, &proof, &subject.note, now_s).await? {
            witness::Said::Cosigned(line) => return Ok((subject, line)),
            witness::Said::StandsAt(stands) => {
                if stands > subject.size {
                    // It may have seen one of ours that is newer than what we asked about.
                    let newest =
                        node.fold.projector.tiles().published().filter(|newest| newest.size >= stands);
                    let held = node.fold.projector.tiles().size();
                    subject = newest.ok_or_else(|| {
                        Failure::Contradicted(format!(
                            "it has seen {stands} entries of this log, which has {held}"
                        ))
                    })?;
                }
                old = stands;
            }
        }
    }
    Err(Failure::Later("it stands elsewhere each time it is asked".into(), None))
}

/// The proof that the tree of `size` leaves continues that of `old`.
///
/// # Errors
/// [`Failure`] when tiles cannot be read.
pub async fn prove(node: &Arc<Node>, old: u64, size: u64) -> Result<Vec<Digest>, Failure> {
    let reader = node.clone();
    let proof = tokio::task::spawn_blocking(move || {
        let tiles = reader.fold.projector.tiles();
        let mut hashes = TileHashes::new(size, |tile| tiles.bytes(tile));
        consistency_proof(old, size, &mut hashes).map_err(|error| error.to_string())
    });
    let proof = proof.await.map_err(|error| Failure::Later(error.to_string(), None))?;
    let proof = proof.map_err(|why| Failure::Later(why, None))?;
    assert!(proof.len() <= witness::PROOF_MAX, "L1: a tree of 2^63 leaves has shorter proofs");
    Ok(proof)
}

/// A number that others cannot guess.
fn draw() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness pauses are not spread and a nonce is not one; nothing is signed with it.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

impl Node {
    /// Has an event of ours agreed and folded in.
    ///
    /// # Errors
    /// Why not, for people.
    pub async fn log_anchor(&self, event: Event) -> Result<Lsn, String> {
        if self.fold.stalled() || self.fold.damages.any() {
            return Err("the log takes nothing now".into());
        }
        let batch = Batch { events: Arc::new(vec![event]), local: None };
        let lsn = self.group.propose(batch).await.map_err(|error| error.to_string())?;
        self.anchors.folded(lsn, |_| ()).await;
        Ok(lsn)
    }
}

impl Anchors {
    /// Leaves under the newest checkpoint that this target attested.
    pub(super) fn done(&self, target: &Target) -> u64 {
        self.lock().state.done(target.kind(), &target.name).map_or(0, |done| done.size)
    }

    /// How far a place for copies has come, by the log and by what this process did since; the records with stamps that are
    /// to be copied, and the best cosigned checkpoint.
    pub(super) fn to_copy(&self, target: &str) -> (Copied, Vec<Lsn>, Option<Cosigned>) {
        let inner = self.lock();
        let done = inner.copied.get(target).copied().unwrap_or_default();
        let copied = inner.state.copied(target).max(done);
        (copied, inner.state.stamps_after(copied.tokens), inner.state.witnessed_above(0).cloned())
    }

    /// Records with promises of calendars that have not been kept, the oldest first, at most so many.
    pub(super) fn promised(&self, target: &str, most: usize) -> Vec<Lsn> {
        self.lock().state.promised(target).take(most).collect()
    }

    /// A place has come so far, and was seen to have.
    pub(super) fn remember(&self, target: &str, copied: Copied) {
        self.lock().copied.insert(target.to_owned(), copied);
    }

    /// What this target is to attest now, or how long there is nothing to do.
    fn due(&self, nth: usize, now_ms: u64, newest: Option<Published>) -> Result<Published, Duration> {
        let target = &self.targets[nth];
        let terms = self.terms(target);
        let mut inner = self.lock();
        let inner = &mut *inner;
        self.replan(inner, now_ms);
        let Some(newest) = newest.filter(|_| inner.ready) else { return Err(TICK) };
        let done = inner.state.done(target.kind(), &target.name);
        let (done, at_ms) = done.map_or((0, 0), |done| (done.size, done.at_ms));
        let watched = &mut inner.lanes[nth];
        if watched.spared {
            watched.behind_ms = 0;
            return Err(TICK);
        }
        if newest.size <= done {
            watched.behind_ms = 0;
        } else if watched.behind_ms == 0 {
            watched.behind_ms = now_ms.max(1);
        }
        let newest = match &target.way {
            // All witnesses are asked about the same checkpoint, so that one of them carries all their lines.
            Way::Witness(..) => {
                let over = |since: u64| now_ms.saturating_sub(since) >= target.every_ms || now_ms < since;
                match &inner.round {
                    Some((since, round)) if !over(*since) || round.size >= newest.size => round.clone(),
                    _ => {
                        inner.round = Some((now_ms, newest.clone()));
                        newest
                    }
                }
            }
            Way::TimeStamp(_) | Way::Calendars(_) | Way::Copy { .. } => newest,
        };
        let terms = match &target.way {
            // The round is the period.
            Way::Witness(..) => super::lane::Terms { every_ms: 0, ..terms },
            Way::TimeStamp(_) | Way::Calendars(_) | Way::Copy { .. } => terms,
        };
        match watched.lane.next(now_ms, newest.size, done, at_ms, terms) {
            Next::Go => Ok(newest),
            Next::Wait(wait) => Err(Duration::from_millis(wait)),
            Next::Idle => Err(TICK),
        }
    }

    /// Decides again which targets attest, when something may have changed.
    fn replan(&self, inner: &mut super::Inner, now_ms: u64) {
        if self.goals.is_none() || (inner.planned_ms > now_ms && inner.planned_ms <= now_ms + REPLAN_MS) {
            return;
        }
        inner.planned_ms = now_ms + REPLAN_MS;
        let plan = self.plan(inner, now_ms);
        for (target, one) in self.targets.iter().zip(&mut inner.lanes) {
            one.spared = target.price.is_some() && !plan.uses(&target.name);
        }
    }

    /// How a try ended.
    fn note(&self, nth: usize, now_ms: u64, result: Result<u64, (u64, Failure)>) {
        let terms = self.terms(&self.targets[nth]);
        let mut inner = self.lock();
        inner.planned_ms = 0;
        let watched = &mut inner.lanes[nth];
        watched.tally.tried(now_ms, result.is_ok());
        let before = watched.lane.letter().cloned();
        match result {
            Ok(size) => {
                watched.succeeded += 1;
                // What came while it was asked is behind from now on.
                watched.behind_ms = now_ms;
                watched.lane.succeeded(size);
            }
            Err((size, failure)) => {
                watched.failed += 1;
                if watched.lane.failed(now_ms, size, failure, draw(), terms) {
                    let name = &self.targets[nth].name;
                    tracing::error!(
                        target = name,
                        size,
                        "a checkpoint could not be attested: flk audit dlq list"
                    );
                }
            }
        }
        if watched.lane.letter() != before.as_ref() {
            self.save_lanes(&inner);
        }
    }

    /// Writes the lanes, so that dead letters outlive the process. Without the file they come again by themselves.
    pub(super) fn save_lanes(&self, inner: &super::Inner) {
        let lanes: std::collections::BTreeMap<String, &super::Lane> =
            self.targets.iter().zip(&inner.lanes).map(|(target, one)| (target.label(), &one.lane)).collect();
        let written = serde_json::to_vec(&lanes)
            .map_err(std::io::Error::other)
            .and_then(|bytes| crate::projections::replace(&self.lanes_file, &bytes));
        if let Err(error) = written {
            tracing::warn!(%error, "the dead letters are not written");
        }
    }
}
