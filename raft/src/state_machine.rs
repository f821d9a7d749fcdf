//! openraft's state machine over a [`Machine`]: feeds it in order, and knows how far it is.
//!
//! - S1: the machine is never ahead of this node's own disk. Raft calls an entry agreed once a quorum holds it, this node
//!   or not; a snapshot of such a state could outlive the power and its log not.
//!
//! Snapshots are the machine's own affair (it keeps them beside the log and tells us from where to
//! replay), so openraft is told never to make one; see `docs/decisions/raft.md`.

use std::io;
use std::sync::{Arc, Mutex};

use engine::log::Lsn;
use futures_util::stream::TryReadyChunksError;
use futures_util::{Stream, TryStreamExt};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta};

use crate::codec;
use crate::log_store::Shared;
use crate::machine::{Machine, Standing};
use crate::types::{
    CommittedLeaderId, Entry, LogId, Payload, Runtime, StoredMembership, Types, index_of, log_id, lsn_of,
};

/// Entries that a machine is told of before they are applied, at most.
const AHEAD: usize = 256;

pub(crate) struct StateMachine<R: Runtime> {
    /// A lock that is never contended: openraft wants to share what it only ever borrows mutably.
    machine: Mutex<Box<dyn Machine>>,
    shared: Arc<Shared<R>>,
    standing: Standing,
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl<R: Runtime> StateMachine<R> {
    /// Adapt `machine`, which stands where it says it does.
    pub(crate) fn new(machine: Box<dyn Machine>, shared: Arc<Shared<R>>) -> io::Result<StateMachine<R>> {
        let standing = machine.standing();
        let applied = index_of(standing.lsn).map(|index| log_id(standing.term, index));
        let membership = if standing.membership.is_empty() {
            StoredMembership::default()
        } else {
            decode_membership(&standing.membership)?
        };
        if applied.is_some() && membership == StoredMembership::default() {
            return Err(codec::corrupt("a machine that stands somewhere must know the membership there"));
        }
        shared.applied(standing.lsn);
        Ok(StateMachine { machine: Mutex::new(machine), shared, standing, applied, membership })
    }

    fn machine(&mut self) -> &mut dyn Machine {
        &mut **self.machine.get_mut().expect("the machine panicked before")
    }

    fn one(&mut self, entry: &Entry) {
        let (lsn, term) = (lsn_of(entry.log_id.index), entry.log_id.leader_id.term);
        assert!(lsn == self.standing.lsn.next(), "I3: {lsn:?} applied after {:?}", self.standing.lsn);
        match &entry.payload {
            Payload::Normal(data) => self.machine().apply(lsn, term, data.batch()),
            Payload::Membership(membership) => {
                self.standing.membership = encode_membership(&entry.log_id, membership);
                self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                self.shared.mender.note(lsn, membership);
            }
            Payload::Blank => {}
        }
        self.standing.lsn = lsn;
        self.standing.term = term;
        self.applied = Some(entry.log_id);
        let machine = self.machine.get_mut().expect("the machine panicked before");
        machine.passed(&self.standing);
    }
}

/// A standing's membership: the log id of its entry, then the membership.
fn encode_membership(id: &LogId, membership: &crate::types::Membership) -> Arc<[u8]> {
    [codec::encode_log_id(id), codec::encode_membership(membership)].concat().into()
}

/// The membership where a machine stands, if it stands anywhere.
pub(crate) fn standing_membership(
    standing: &Standing,
) -> io::Result<Option<(Lsn, crate::types::Membership)>> {
    match standing.membership.is_empty() {
        true => Ok(None),
        false => {
            let stored = decode_membership(&standing.membership)?;
            let at = stored.log_id().map_or(Lsn::ZERO, |id| lsn_of(id.index));
            Ok(Some((at, stored.membership().clone())))
        }
    }
}

fn decode_membership(bytes: &[u8]) -> io::Result<StoredMembership> {
    let (id, membership) =
        bytes.split_at_checked(16).ok_or_else(|| codec::corrupt("a standing cut short"))?;
    Ok(StoredMembership::new(Some(codec::decode_log_id(id)?), codec::decode_membership(membership)?))
}

impl<R: Runtime> RaftStateMachine<Types<R>> for StateMachine<R> {
    type SnapshotData = ();
    type SnapshotBuilder = NoSnapshots;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types<R>>>> + Unpin + OptionalSend,
    {
        let mut answers = Vec::new();
        let mut chunks = entries.try_ready_chunks(AHEAD);
        while let Some(chunk) = chunks.try_next().await.map_err(|TryReadyChunksError(_, error)| error)? {
            let batches = chunk.iter().filter_map(|(entry, _)| match &entry.payload {
                Payload::Normal(data) => Some((lsn_of(entry.log_id.index), data.batch())),
                _ => None,
            });
            self.machine().coming(&batches.collect::<Vec<_>>());
            for (entry, responder) in chunk {
                self.shared.held(lsn_of(entry.log_id.index)).await?;
                self.one(&entry);
                answers.extend(responder);
            }
        }
        self.machine().settled();
        self.shared.applied(self.standing.lsn);
        // Whoever waits finds everything published by now. Bounded by what may be in flight.
        answers.into_iter().for_each(|answer| answer.send(()));
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<NoSnapshots> {
        None
    }

    async fn get_snapshot_builder(&mut self) -> NoSnapshots {
        NoSnapshots
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta<CommittedLeaderId, u64, crate::types::Member>,
        (): (),
    ) -> io::Result<()> {
        Err(unsupported())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<Snapshot<CommittedLeaderId, u64, crate::types::Member, ()>>> {
        Ok(None)
    }
}

/// Raft makes no snapshots here. See the module.
pub(crate) struct NoSnapshots;

impl<R: Runtime> RaftSnapshotBuilder<Types<R>> for NoSnapshots {
    type SnapshotData = ();

    async fn build_snapshot(
        &mut self,
    ) -> io::Result<Snapshot<CommittedLeaderId, u64, crate::types::Member, ()>> {
        Err(unsupported())
    }
}

fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "raft makes no snapshots")
}
