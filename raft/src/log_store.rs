//! Raft's view of the log: openraft's storage traits over the [`LogActor`](crate::LogActor).
//!
//! - Appending hands frames over and returns; the callback comes from the actor once they are
//!   durable. Votes, truncations and purges wait until they are durable, in the same serial stream.
//! - What is not yet applied stays in memory, with the handles of those who wait; the rest is read
//!   back from the segments. Memory is bounded by what the group lets in (L1).
//! - Purging hides entries from Raft and removes nothing.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound as Edge, RangeBounds};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};

use engine::log::Lsn;
use futures_util::stream::{self, Stream};
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::{OptionalSend, RaftTypeConfig};
use segments::{Disk, Frame, Kind, Log, Options, Recovery};
use tokio::sync::Notify;

use crate::codec::{self, Body};
use crate::error::OpenError;
use crate::log_actor::{Command, Out};
use crate::mailbox::{Bound, Closed, Mailbox};
use crate::message::{ENTRIES_BYTES_MAX, ENTRIES_MAX};
use crate::progress::Progress;
use crate::repair::{Good, Mender};
use crate::room::Room;
use crate::types::{Entry, LogId, Runtime, Types, Vote, index_of, log_id, lsn_of};

/// Bookkeeping bytes counted for every frame in the mailbox.
const FRAME_OVERHEAD: usize = 64;

/// What Raft must know of a log that was opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<LogId>,
    /// The highest entry that a batch said was committed.
    pub(crate) committed: Option<LogId>,
    /// The last entry, or `purged` if that is later.
    pub(crate) last: Option<LogId>,
}

/// A log that is open, what Raft must know of it, and what opening found.
pub(crate) type Opened<D> = (Log<D>, Recovered, Recovery);

/// Why a log does not open, and what is good of it, unless something was written to it.
pub(crate) struct Refused<D: Disk> {
    pub(crate) error: OpenError,
    pub(crate) good: Option<Good<D>>,
}

impl Recovered {
    /// Open the log on `disk` and learn it.
    ///
    /// # Errors
    /// [`Refused`].
    pub(crate) fn open<D: Disk>(
        disk: D,
        options: &Options,
        mender: &Mender,
    ) -> Result<Opened<D>, Box<Refused<D>>> {
        let mut found = Recovered::default();
        let opened = Log::open_or_return(disk, options, |frame: &Frame<'_>| {
            mender.look(frame);
            match frame.kind {
                Kind::Vote => found.vote = Some(codec::decode_vote(frame.payload)?),
                // An empty one is a gap that this store made, see `append`.
                Kind::Purged if !frame.payload.is_empty() => {
                    found.purged = Some(codec::decode_log_id(frame.payload)?);
                }
                Kind::Purged | Kind::Entry | Kind::Truncate => {}
            }
            Ok::<(), io::Error>(())
        });
        let vote = found.vote;
        let good = |prefix| Good { prefix, vote, members: mender.members() };
        let (mut log, recovery) = opened.map_err(|refused| {
            Box::new(Refused { error: refused.error.into(), good: refused.prefix.map(good) })
        })?;
        let (tip, committed) = (log.tip(), log.committed());
        let mut id_at = |lsn: Lsn| -> Result<Option<LogId>, OpenError> {
            let Some(index) = index_of(lsn) else { return Ok(None) };
            let entry =
                log.read_one(lsn).map_err(|error| OpenError::Io(io::Error::other(error.to_string())))?;
            Ok(entry.map(|(term, _)| log_id(term, index)))
        };
        let refused = |error| Box::new(Refused { error, good: None });
        found.committed = id_at(committed).map_err(refused)?;
        found.last = id_at(tip).map_err(refused)?.max(found.purged);
        Ok((log, found, recovery))
    }
}

/// What store, readers, actor and state machine share.
pub(crate) struct Shared<R: Runtime> {
    pub(crate) mailbox: Mailbox<Command<R>>,
    pub(crate) progress: Progress,
    pub(crate) room: Arc<Room>,
    /// Told whenever something has become durable, or never will.
    moved: Notify,
    pub(crate) mender: Arc<Mender>,
    node: u64,
    state: Mutex<State>,
}

struct State {
    vote: Option<Vote>,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// Index of the first entry, purged or not.
    first: u64,
    committed: Option<LogId>,
    /// Consecutive entries up to `last`; at least all that are not yet both durable and applied.
    recent: VecDeque<Entry>,
    /// The vote this process found on disk: no entry may be proposed in its term again.
    found_vote: Option<Vote>,
    /// Entries leave memory when they are durable, applied or not.
    #[cfg(test)]
    forgetful: bool,
}

impl<R: Runtime> Shared<R> {
    pub(crate) fn new(node: u64, bound: Bound, recovered: Recovered, mender: Arc<Mender>) -> Arc<Shared<R>> {
        let progress = Progress::default();
        progress.set_durable(recovered.last.map_or(Lsn::ZERO, |id| lsn_of(id.index)));
        let state = State {
            vote: recovered.vote,
            purged: recovered.purged,
            last: recovered.last,
            first: 0,
            committed: recovered.committed,
            recent: VecDeque::new(),
            found_vote: recovered.vote,
            #[cfg(test)]
            forgetful: false,
        };
        Arc::new(Shared {
            mailbox: Mailbox::new(bound),
            progress,
            room: Room::new(),
            moved: Notify::new(),
            mender,
            node,
            state: Mutex::new(state),
        })
    }

    /// Everything up to `lsn` is durable. Called by the actor only.
    pub(crate) fn durable(&self, lsn: Lsn) {
        self.progress.set_durable(lsn);
        self.forget();
        self.moved.notify_waiters();
    }

    /// Nothing more becomes durable. Called by the actor only.
    pub(crate) fn failed(&self) {
        self.progress.set_failed();
        self.moved.notify_waiters();
    }

    /// Waits until this node's own disk holds the entry at `lsn` for good; an error when it never will.
    pub(crate) async fn held(&self, lsn: Lsn) -> io::Result<()> {
        loop {
            let mut moved = pin!(self.moved.notified());
            moved.as_mut().enable();
            if self.progress.durable() >= lsn {
                return Ok(());
            }
            if self.progress.failed() {
                return Err(io::Error::other("the log has failed"));
            }
            moved.await;
        }
    }

    /// Everything up to `lsn` is applied. Called by the state machine only.
    pub(crate) fn applied(&self, lsn: Lsn) {
        self.progress.set_applied(lsn);
        self.forget();
    }

    /// Let go of entries nobody waits for any more.
    fn forget(&self) {
        let mut state = self.lock();
        let upto = self.progress.durable().min(self.progress.applied());
        #[cfg(test)]
        let upto = if state.forgetful { self.progress.durable() } else { upto };
        let gone = state.recent.partition_point(|entry| lsn_of(entry.log_id.index) <= upto);
        let gone: Vec<Entry> = state.recent.drain(..gone).collect();
        drop(state);
        // Freed outside the lock: this may be the last handle to a batch of megabytes.
        drop(gone);
    }

    /// The last vote that is durable. No answer leaves before what it promises is.
    pub(crate) fn vote(&self) -> Option<Vote> {
        self.lock().vote
    }

    /// From now on entries leave memory when they are durable, applied or not.
    #[cfg(test)]
    pub(crate) fn forget_early(&self) {
        self.lock().forgetful = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a thread panicked while it held the log's state")
    }

    pub(crate) async fn send(&self, command: Command<R>, bytes: usize) -> io::Result<()> {
        self.mailbox.send(command, bytes).await.map_err(|Closed| io::Error::other("the log has shut down"))
    }
}

/// openraft's handle to the log; also its reader.
pub(crate) struct LogStore<R: Runtime>(pub(crate) Arc<Shared<R>>);

impl<R: Runtime> Clone for LogStore<R> {
    fn clone(&self) -> Self {
        LogStore(self.0.clone())
    }
}

impl<R: Runtime> LogStore<R> {
    /// Write `frames` and wait until they are durable.
    async fn write_through(&self, frames: Vec<Out>) -> io::Result<()> {
        let (done, durable) = Types::<R>::oneshot();
        let bytes = weight(&frames);
        self.0.send(Command::Write { frames: frames.into(), done: IOFlushed::signal(done) }, bytes).await?;
        durable.await.map_err(|_| io::Error::other("the log has shut down"))?
    }

    /// Entries in `[start, end)` as far as the log has them: all of them if `all`, or else at least one if
    /// there is one, and no more than fit into one message.
    async fn entries(&self, start: u64, end: u64, all: bool) -> io::Result<Vec<Entry>> {
        let (mut start, end, recent) = {
            let state = self.0.lock();
            let first = state.purged.map_or(state.first, |id| id.index + 1);
            let last = state.last.map_or(0, |id| id.index + 1);
            let (start, end) = (start.max(first), end.min(last));
            let oldest = state.recent.front().map_or(last, |entry| entry.log_id.index);
            let skip = start.saturating_sub(oldest) as usize;
            let take = end.saturating_sub(start.max(oldest)) as usize;
            let mut bytes = 0;
            let fits = |entry: &&Entry| {
                let before = bytes;
                bytes += entry.size();
                all || before == 0 || bytes <= ENTRIES_BYTES_MAX
            };
            let recent = state.recent.iter().skip(skip).take(take).take_while(fits).cloned();
            (start, end, recent.collect::<Vec<_>>())
        };
        let mut out = Vec::new();
        let stored_end = recent.first().map_or(end, |entry| entry.log_id.index);
        while start < stored_end {
            let (done, read) = Types::<R>::oneshot();
            self.0.send(Command::Read { from: lsn_of(start), to: lsn_of(stored_end), done }, 0).await?;
            let read = read.await.map_err(|_| io::Error::other("the log has shut down"))?;
            let stored = match read {
                Ok(stored) => stored,
                // Nobody is given anything until the segment is whole again.
                Err(error) => {
                    self.0.heal(error).await?;
                    continue;
                }
            };
            for (lsn, term, body) in stored {
                out.push(codec::decode_entry(lsn, term, &body)?);
                start = lsn.0;
            }
            if !all {
                return Ok(out);
            }
        }
        out.extend(recent);
        Ok(out)
    }

    /// Entries with the indexes `[first, end)` as they stand in the log, as far as it has them and one message holds
    /// them. Rot in them is an error here: whoever asks, asks another one.
    pub(crate) async fn stored(&self, first: u64, end: u64) -> io::Result<Vec<(Lsn, u64, Vec<u8>)>> {
        let durable = self.0.progress.durable();
        let (from, to) = (lsn_of(first), Lsn(end).min(durable).next());
        if from >= to {
            return Ok(Vec::new());
        }
        let (done, read) = Types::<R>::oneshot();
        self.0.send(Command::Read { from, to, done }, 0).await?;
        let read = read.await.map_err(|_| io::Error::other("the log has shut down"))?;
        let mut stored = read.inspect_err(|error| self.0.found_rot(error))?;
        stored.truncate(ENTRIES_MAX);
        Ok(stored)
    }
}

fn weight(frames: &[Out]) -> usize {
    frames.iter().map(|frame| frame.body.bytes().len() + FRAME_OVERHEAD).sum()
}

/// `[start, end)` of any range of indexes.
fn edges(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Edge::Included(n) => *n,
        Edge::Excluded(n) => n + 1,
        Edge::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Edge::Included(n) => n + 1,
        Edge::Excluded(n) => *n,
        Edge::Unbounded => u64::MAX,
    };
    (start, end)
}

impl<R: Runtime> RaftLogReader<Types<R>> for LogStore<R> {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = edges(&range);
        self.entries(start, end, true).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.entries(start, end, false).await
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        // A restart applies the whole log through this stream, so it must not be read at once.
        let (start, end) = edges(&range);
        let chunks = stream::try_unfold((self.clone(), start), move |(store, start)| async move {
            if start >= end {
                return Ok::<_, io::Error>(None);
            }
            let chunk = store.entries(start, end, false).await?;
            let next = chunk.last().map(|entry: &Entry| entry.log_id.index + 1);
            Ok(next.map(|next| (stream::iter(chunk.into_iter().map(Ok)), (store, next))))
        });
        Box::pin(futures_util::TryStreamExt::try_flatten(chunks))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.0.lock().vote)
    }
}

impl<R: Runtime> RaftLogStorage<Types<R>> for LogStore<R> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types<R>>> {
        let state = self.0.lock();
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let body = Body::Owned(codec::encode_vote(vote));
        self.write_through(vec![Out { kind: Kind::Vote, lsn: Lsn::ZERO, term: vote.leader_id.term, body }])
            .await?;
        self.0.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        // Costs no sync of its own: it rides in the header of the next batch.
        let mut state = self.0.lock();
        if let Some(id) = committed.filter(|_| state.committed < committed) {
            state.committed = committed;
            self.0.progress.set_committed(lsn_of(id.index));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.0.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types<R>>) -> io::Result<()>
    where
        I: IntoIterator<Item = <Types<R> as RaftTypeConfig>::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut frames = Vec::new();
        {
            let mut state = self.0.lock();
            for mut entry in entries {
                let LogId { leader_id, index } = entry.log_id;
                let proposed_here = entry.leader == 0;
                if proposed_here {
                    let vote = state.vote.filter(|vote| vote.leader_id.term == leader_id.term);
                    entry.leader = vote.map_or(0, |vote| vote.leader_id.voted_for);
                }
                // FAULTS F15: a restarted leader must not go on in its old term, where the log ids
                // of its lost tail could be given to other payloads.
                let resumed = state.found_vote.is_some_and(|found| {
                    found.committed && found.leader_id.term == leader_id.term && leader_id.term > 0
                });
                // The same entries may come back from a peer: they are not proposed, but returned.
                assert!(
                    !(resumed && proposed_here && entry.leader == self.0.node),
                    "S1: a restarted leader resumed term {leader_id}"
                );
                let body = codec::encode_entry(&entry, entry.leader);
                frames.push(Out { kind: Kind::Entry, lsn: lsn_of(index), term: leader_id.term, body });
                if state.last.is_none() && index > 0 {
                    // The log holds no gap that it does not know of. Only openraft's suite makes one.
                    state.first = index;
                    let body = Body::Owned(Vec::new());
                    let gap = Out { kind: Kind::Purged, lsn: Lsn(index), term: 0, body };
                    frames.insert(frames.len() - 1, gap);
                }
                state.last = Some(entry.log_id);
                state.recent.push_back(entry);
            }
        }
        let bytes = weight(&frames);
        self.0.send(Command::Write { frames: frames.into(), done: callback }, bytes).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let keep = last.map_or(Lsn::ZERO, |id| lsn_of(id.index));
        assert!(keep >= self.0.progress.applied(), "S4: truncation to {keep:?} below what is applied");
        {
            let mut state = self.0.lock();
            if state.last <= last {
                return Ok(());
            }
            let kept = state.recent.partition_point(|entry| lsn_of(entry.log_id.index) <= keep);
            state.recent.truncate(kept);
            state.last = last.max(state.purged);
        }
        let body = Body::Owned(Vec::new());
        self.write_through(vec![Out { kind: Kind::Truncate, lsn: keep, term: 0, body }]).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        {
            let mut state = self.0.lock();
            if state.purged >= Some(upto) {
                return Ok(());
            }
            let kept = state.recent.partition_point(|entry| entry.log_id.index <= upto.index);
            state.recent.drain(..kept);
            state.purged = Some(upto);
            state.last = state.last.max(Some(upto));
        }
        let (lsn, body) = (lsn_of(upto.index), Body::Owned(codec::encode_log_id(&upto)));
        self.write_through(vec![Out { kind: Kind::Purged, lsn, term: upto.leader_id.term, body }]).await
    }
}
