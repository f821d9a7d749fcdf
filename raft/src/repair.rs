//! What a node does about rot in its own log: it asks its peers.
//!
//! A place in the log that is damaged is not a torn tail: it was durable, and this node may have been counted for it.
//! So a node that finds one while it opens its log takes no part in the group (it neither votes nor leads, for
//! Raft does not run yet) until it has the same entries again; and one that finds one in a sealed segment while it runs
//! mends it and goes on. Nothing is cut off, and nothing bad is handed on: every batch is checked when it is read.
//!
//! - Peers are those that the log's memberships name, as far as they could be read, and those that are configured.
//! - What a peer sends is held against what is known (`judge`), and what comes of it against the segment's own sums.
//! - A node never votes twice in a term. Where the damage may hide a vote, the others are asked for their terms (`votes`).
//! - While it waits it gives others that are in repair what stands before its own damage (`in_repair`): of two that rotted at
//!   different places, the one whose damage comes first finds what it lacks at the other one, and then the other way round.
//! - It waits for as long as it takes, and says what for: rot that every replica has is nobody's to repair (F4).
//!
//! A node that is alone in its group repairs nothing: its log does not open, and the error says where.

mod in_repair;
mod judge;
#[cfg(test)]
mod tests;
mod votes;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::event::{Payload, Record};
use engine::log::Lsn;
use openraft::async_runtime::WatchReceiver;
use openraft::type_config::TypeConfigExt;
use segments::{Disk, Fill, Frame, Gap, Kind, Mended, Options, Repair};
use tokio::sync::watch;

use crate::codec;
use crate::error::OpenError;
use crate::group::Group;
use crate::log_actor::Command;
use crate::log_store::{LogStore, Opened, Recovered, Refused, Shared};
use crate::message::{Answer, Fetched, Request};
use crate::network;
use crate::transport::{Peer, Transport};
use crate::types::{LogId, Membership, Runtime, Types, Vote, index_of, lsn_of};

/// How long a peer may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two rounds of asking.
const PAUSE: Duration = Duration::from_millis(500);

/// Between two attempts to repair a segment that nobody could help with.
const PAUSE_AFTER_A_FAILURE: Duration = Duration::from_secs(2);

/// Rounds between two lines in the log that say what is waited for.
const ROUNDS_A_LINE: u64 = 20;

/// Repairs in one opening of a log, at most: one that needs more is beyond this.
const REPAIRS_MAX: usize = 1024;

/// Bytes fetched for one gap, at most: what a segment can hold.
const GAP_BYTES_MAX: usize = segments::SEGMENT_SIZE_MAX as usize;

pub(crate) use in_repair::Good;
pub use in_repair::InRepair;
use votes::Votes;

/// How many repairs there were since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// Begun.
    pub begun: u64,
    /// Of these, ended with a segment that is whole.
    pub done: u64,
    /// Ended without: nobody could help, or it cannot be helped.
    pub failed: u64,
}

/// Who can be asked, and what was asked so far.
pub(crate) struct Mender {
    node: u64,
    transport: Arc<dyn Transport>,
    seeds: Vec<Peer>,
    known: Mutex<Known>,
    begun: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    /// One segment at a time.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

/// What the newest memberships say.
#[derive(Default)]
struct Known {
    /// Up to here the machine knows which one was the last.
    floor: Lsn,
    /// The newest in the own log, and where it stands.
    at: Lsn,
    membership: Option<Membership>,
    /// Those that stand behind damage, and where; they may have been voided since.
    behind: Vec<(Lsn, Membership)>,
    peers: BTreeMap<u64, Peer>,
}

impl Mender {
    pub(crate) fn new(node: u64, transport: Arc<dyn Transport>, seeds: Vec<Peer>) -> Arc<Mender> {
        Arc::new(Mender {
            node,
            transport,
            seeds,
            known: Mutex::default(),
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            turn: tokio::sync::Mutex::new(()),
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A membership was found in the log, newer than those before.
    pub(crate) fn note(&self, at: Lsn, membership: &Membership) {
        let mut known = self.known();
        known.at = at;
        known.membership = Some(membership.clone());
        known.peers =
            membership.nodes().map(|(node, member)| (*node, network::peer(*node, member))).collect();
    }

    /// The machine has applied everything up to `floor`, and the last membership among that.
    pub(crate) fn begin_with(&self, floor: Lsn, at: Lsn, membership: &Membership) {
        self.note(at, membership);
        self.known().floor = floor;
    }

    /// The newest membership, and where it stands.
    pub(crate) fn members(&self) -> Option<(Lsn, Membership)> {
        let known = self.known();
        known.membership.clone().map(|membership| (known.at, membership))
    }

    /// A frame of the log, as it is opened.
    pub(crate) fn look(&self, frame: &Frame<'_>) {
        if let Some(membership) = membership_of(frame).filter(|_| frame.lsn > self.known().floor) {
            self.note(frame.lsn, &membership);
        }
    }

    /// A good frame behind damage: it may name somebody to ask, or who asked for this node's vote.
    fn glean(&self, frame: &Frame<'_>) {
        let Some(membership) = membership_of(frame) else { return };
        let mut known = self.known();
        for (node, member) in membership.nodes() {
            known.peers.entry(*node).or_insert_with(|| network::peer(*node, member));
        }
        if known.membership.is_none() {
            (known.at, known.membership) = (frame.lsn, Some(membership.clone()));
        }
        known.behind.push((frame.lsn, membership));
    }

    /// The newest membership, and those that stand behind damage.
    fn all_members(&self) -> Vec<(Lsn, Membership)> {
        let behind = self.known().behind.clone();
        self.members().into_iter().chain(behind).collect()
    }

    /// The other nodes that can be asked.
    fn peers(&self) -> Vec<Peer> {
        let known = self.known();
        let mut peers = known.peers.clone();
        for seed in &self.seeds {
            peers.entry(seed.node).or_insert_with(|| seed.clone());
        }
        peers.into_values().filter(|peer| peer.node != self.node && !peer.address.is_empty()).collect()
    }

    /// Whether this node is one of several.
    pub(crate) fn has_peers(&self) -> bool {
        !self.peers().is_empty()
    }

    pub(crate) fn repairs(&self) -> Repairs {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Repairs { begun: count(&self.begun), done: count(&self.done), failed: count(&self.failed) }
    }

    pub(crate) fn begin(&self, segment: u64, why: &dyn std::fmt::Display) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        tracing::error!(segment, %why, "the log is damaged: what is missing is asked of the other nodes");
    }

    pub(crate) fn end(&self, segment: u64, mended: Result<Mended, &str>) {
        match mended {
            Ok(Mended { exact, bytes }) => {
                self.done.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    segment,
                    exact,
                    bytes,
                    "a damaged segment has been repaired from the other nodes"
                );
            }
            Err(why) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                tracing::error!(segment, why, "a damaged segment is not repaired");
            }
        }
    }

    /// One request to one peer.
    async fn fetch(&self, peer: &Peer, from: Lsn, to: Lsn) -> Result<Fetched, String> {
        match network::ask(&*self.transport, peer, &Request::Fetch { from, to }, PATIENCE).await {
            Ok(Answer::Fetched(fetched)) => Ok(fetched),
            Ok(Answer::Refused(why)) => Err(format!("node {}: {why}", peer.node)),
            Ok(_) => Err(format!("node {} answers another question", peer.node)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Everything from one peer that `gap` has to be held against.
    async fn fetch_all(&self, peer: &Peer, gap: &Gap) -> Result<Fetched, String> {
        let (from, to) = judge::range(gap);
        let mut all = self.fetch(peer, from, to).await?;
        let mut bytes = 0;
        while let Some(end) = all.entries.last().cloned()
            && end.0 < to
        {
            bytes += all.entries.iter().map(|(_, _, payload)| payload.len()).sum::<usize>();
            if bytes > GAP_BYTES_MAX {
                return Err(format!("node {} sends more than a segment holds", peer.node));
            }
            let mut more = self.fetch(peer, end.0.next(), to).await?;
            let Some(begin) = more.entries.first().cloned() else { break };
            // Its log may have changed in between. What one leader wrote is one log; otherwise both come out of it at once.
            if begin.1 != end.1 {
                let both = self.fetch(peer, end.0, begin.0).await?;
                if both.entries != [end, begin] {
                    return Err(format!("node {}: its log changed while it was asked", peer.node));
                }
            }
            all.committed = more.committed;
            all.entries.append(&mut more.entries);
        }
        Ok(all)
    }

    /// What fills a gap, from the first peer that can say so.
    async fn fill(&self, gap: &Gap) -> Result<Fill, String> {
        let mut why = String::from("there is nobody to ask");
        for peer in self.peers() {
            let judged = match self.fetch_all(&peer, gap).await {
                Ok(fetched) => judge::judge(gap, fetched).map_err(|why| format!("node {}: {why}", peer.node)),
                Err(why) => Err(why),
            };
            match judged {
                Ok(fill) => return Ok(fill),
                Err(said) => why = said,
            }
        }
        Err(why)
    }

    /// One attempt to fill all gaps.
    pub(crate) async fn fills(&self, gaps: &[Gap]) -> Result<Vec<Fill>, String> {
        let mut fills = Vec::with_capacity(gaps.len());
        for gap in gaps {
            let fill = self.fill(gap).await;
            fills.push(fill.map_err(|why| format!("records {} to {}: {why}", gap.tip.next(), gap.until))?);
        }
        Ok(fills)
    }
}

/// The membership that a frame holds, if it does: few records are looked at further than their tag.
fn membership_of(frame: &Frame<'_>) -> Option<Membership> {
    if frame.kind != Kind::Entry || frame.payload.first() != Some(&2) {
        return None;
    }
    match Record::decode(frame.payload) {
        Ok(Record { payload: Payload::Membership(bytes), .. }) => codec::decode_membership(&bytes).ok(),
        _ => None,
    }
}

/// Opens the log on `disk`; what is damaged is repaired first, if there are other nodes. Waits for them.
///
/// # Errors
/// [`OpenError`]: the log of a node that is alone is damaged, or it cannot be repaired.
pub(crate) async fn open<D: Disk, R: Runtime>(
    mut disk: D,
    options: &Options,
    mender: &Mender,
    beside: (&watch::Sender<String>, &InRepair),
) -> Result<Opened<D>, OpenError> {
    let (mut repairs, mut votes) = (0, Votes::default());
    loop {
        let Refused { error, good } = match Recovered::open(disk, options, mender) {
            Ok(opened) => return Ok(opened),
            Err(refused) => *refused,
        };
        let damaged = match &error {
            OpenError::Log(error) => error.damaged().filter(|segment| *segment > 0),
            _ => None,
        };
        let (Some(segment), Some(mut good)) = (damaged, good) else { return Err(error) };
        if repairs == 0 {
            // What names the others may stand behind the damage; so may a membership whose candidate had this node's vote.
            let enough = |number| number < segment && mender.has_peers();
            let gleaned = segments::glean(good.prefix.disk(), &mut |frame| mender.glean(frame), &enough);
            if let Err(why) = gleaned {
                return Err(OpenError::Io(io::Error::other(format!("{error}; {why}"))));
            }
        }
        if !mender.has_peers() || repairs == REPAIRS_MAX {
            return Err(error);
        }
        repairs += 1;
        mender.begin(segment, &error);
        let mended = mend::<D, R>(&mut good, options, mender, segment, beside, &mut votes).await;
        disk = good.prefix.into_disk();
        mender.end(segment, mended.as_ref().copied().map_err(String::as_str));
        // A later attempt may do better only if something else changes: an operator, or the disk.
        if let Err(why) = mended {
            return Err(OpenError::Io(io::Error::other(format!("{error}; {why}"))));
        }
    }
}

/// Repairs one segment of a log that is not open, and answers others meanwhile.
async fn mend<D: Disk, R: Runtime>(
    good: &mut Good<D>,
    options: &Options,
    mender: &Mender,
    segment: u64,
    (waits, in_repair): (&watch::Sender<String>, &InRepair),
    votes: &mut Votes,
) -> Result<Mended, String> {
    let examined = Repair::examine(good.prefix.disk(), options, segment);
    let repair = examined.map_err(|error| error.to_string())?;
    let asking = ask::<R>(&repair, mender, waits, votes);
    let (fills, vote) = in_repair.answer_while(good, asking).await?;
    let bytes = vote.map(|vote| (vote.leader_id.term, codec::encode_vote(&vote)));
    let vote = bytes.as_ref().map(|(term, bytes)| (*term, &bytes[..]));
    repair.mend(good.prefix.disk(), &fills, vote).map_err(|error| error.to_string())
}

/// Asks until all that the repair needs is there, and says what is missing.
async fn ask<R: Runtime>(
    repair: &Repair,
    mender: &Mender,
    waits: &watch::Sender<String>,
    votes: &mut Votes,
) -> Result<(Vec<Fill>, Option<Vote>), String> {
    let segment = repair.segment();
    let mut rounds = 0;
    loop {
        let ready = async {
            let fills = mender.fills(repair.gaps()).await?;
            let vote = match repair.hides_a_vote(&fills) {
                true => Some(mender.vote(repair.voted(), votes).await?),
                false => None,
            };
            Ok::<_, String>((fills, vote))
        };
        match ready.await {
            Ok(ready) => return Ok(ready),
            Err(why) => {
                waits.send_replace(format!("segment {segment} is damaged and not repaired yet: {why}"));
                if rounds % ROUNDS_A_LINE == 0 {
                    tracing::error!(
                        segment,
                        why,
                        "this node takes no part in the group until its log is repaired"
                    );
                }
            }
        }
        rounds += 1;
        R::sleep(PAUSE).await;
    }
}

/// Bytes of the log that are not what was written, met while it was read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}")]
pub struct Rot {
    /// Number of the segment.
    pub segment: u64,
    /// It is sealed, so that it can be repaired while the node runs; otherwise at its next start.
    pub sealed: bool,
    /// What is wrong, for people.
    pub what: String,
}

impl Rot {
    /// The rot that an error is about, if it is.
    pub fn of(error: &io::Error) -> Option<&Rot> {
        error.get_ref()?.downcast_ref()
    }
}

impl<R: Runtime> Shared<R> {
    /// Repairs a sealed segment with what peers hold: one attempt.
    ///
    /// # Errors
    /// Why it was not repaired, for people.
    pub(crate) async fn mend(&self, segment: u64, why: &str) -> Result<Mended, String> {
        let gone = || String::from("the log has shut down");
        let mender = &self.mender;
        let _turn = mender.turn.lock().await;
        mender.begin(segment, &why);
        let attempt = async {
            let (done, examined) = Types::<R>::oneshot();
            self.send(Command::Examine { segment, done }, 0).await.map_err(|_| gone())?;
            let repair = examined.await.map_err(|_| gone())??;
            let fills = mender.fills(repair.gaps()).await?;
            let (done, mended) = Types::<R>::oneshot();
            self.send(Command::Mend { repair, fills, done }, 0).await.map_err(|_| gone())?;
            mended.await.map_err(|_| gone())?
        };
        let mended = attempt.await;
        mender.end(segment, mended.as_ref().copied().map_err(String::as_str));
        mended
    }

    /// A read met rot: the repair begins, whoever read it.
    pub(crate) fn found_rot(self: &Arc<Self>, error: &io::Error) {
        if let Some(rot) = Rot::of(error).filter(|rot| rot.sealed && self.mender.has_peers()).cloned()
            && let Ok(turn) = self.mender.turn.try_lock()
        {
            drop(turn);
            let shared = self.clone();
            drop(R::spawn(async move { drop(shared.mend(rot.segment, &rot.what).await) }));
        }
    }

    /// Waits until the segment that `error` is about is whole again. An error that is about something else, and rot that
    /// can be repaired only at a start, are returned: the node cannot go on.
    pub(crate) async fn heal(&self, error: io::Error) -> io::Result<()> {
        let rot = match Rot::of(&error) {
            Some(rot) if rot.sealed && self.mender.has_peers() => rot.clone(),
            _ => return Err(error),
        };
        while let Err(why) = self.mend(rot.segment, &rot.what).await {
            if self.mailbox.is_closed() {
                return Err(io::Error::other(why));
            }
            R::sleep(PAUSE_AFTER_A_FAILURE).await;
        }
        Ok(())
    }
}

impl<R: Runtime> Group<R> {
    /// Repairs a sealed segment that was found damaged with what the other nodes hold: one attempt. A segment that
    /// is whole stays as it is.
    ///
    /// # Errors
    /// Why it is not repaired, for people.
    pub async fn mend(&self, segment: u64, why: &str) -> Result<Mended, String> {
        if !self.shared.mender.has_peers() {
            return Err("there are no other nodes to ask".into());
        }
        self.shared.mend(segment, why).await
    }

    /// Answers a node that repairs its log.
    pub(crate) async fn give(&self, from: Lsn, to: Lsn) -> Answer {
        // Before the entries are read: what is committed now is not another entry then. And the vote as it is on the disk, for
        // what Raft publishes may come later than its answers.
        let (vote, committed, at, members) = {
            let watch = self.raft.metrics();
            let raft = watch.borrow_watched();
            let lsn = |id: Option<LogId>| id.map_or(Lsn::ZERO, |id| lsn_of(id.index));
            let at = raft.membership_config.log_id().map_or(Lsn::ZERO, |id| lsn_of(id.index));
            let members = codec::encode_membership(raft.membership_config.membership());
            (self.shared.vote().unwrap_or_else(|| votes::nobody(0)), lsn(raft.local_committed), at, members)
        };
        let store = LogStore(self.shared.clone());
        let entries = match (index_of(from), to.0) {
            (Some(first), last) if from <= to => store.stored(first, last).await,
            _ => Err(io::Error::other("positions that cannot be")),
        };
        match entries {
            Ok(entries) => Answer::Fetched(Fetched {
                in_repair: false,
                vote,
                committed,
                members_at: at,
                members,
                entries,
            }),
            Err(error) => Answer::Refused(error.to_string()),
        }
    }
}
