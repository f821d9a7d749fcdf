//! The openraft type configuration, and the one place where Raft's words meet ours.
//!
//! Everything here is private to the crate. The configuration is generic over the runtime, so that
//! the simulator runs this very code on a deterministic one.
//!
//! Raft counts entries from 0, the log from 1 ([`lsn_of`], [`index_of`]): the entry with index 0 is
//! the first membership and stands at `Lsn(1)`.

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use engine::log::Lsn;
use openraft::entry::RaftEntry;
use openraft::impls::leader_id_std::LeaderId;
use openraft::impls::{BoxedErrorSource, InlineBatch, OneshotResponder};
use openraft::type_config::alias::{LogIdOf, StoredMembershipOf};
use openraft::{OptionalSend, RaftTypeConfig};
use openraft_rt::AsyncRuntime;
use tokio::sync::OwnedSemaphorePermit;

use crate::batch::Batch;
use crate::room::Promise;

/// How openraft reaches time, tasks and channels. Production uses [`Tokio`]; the simulator brings
/// its own. Implemented by everything that implements openraft's `AsyncRuntime`.
pub trait Runtime: AsyncRuntime + 'static {}

impl<R: AsyncRuntime + 'static> Runtime for R {}

/// The production runtime.
pub type Tokio = openraft_rt_tokio::TokioRuntime;

/// The type configuration on runtime `R`.
pub(crate) struct Types<R>(PhantomData<fn() -> R>);

// Derives would ask the same of `R`, which is only a name here.
impl<R> fmt::Debug for Types<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Types")
    }
}

impl<R> Clone for Types<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Types<R> {}

impl<R> Default for Types<R> {
    fn default() -> Self {
        Types(PhantomData)
    }
}

impl<R> PartialEq for Types<R> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<R> Eq for Types<R> {}

impl<R> PartialOrd for Types<R> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<R> Ord for Types<R> {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}

impl<R: Runtime> RaftTypeConfig for Types<R> {
    type D = Data;
    type R = ();
    type NodeId = u64;
    type Node = Member;
    type Term = u64;
    // One leader a term, so that a term names its leader in an audit.
    type LeaderId = LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Data, u64, Member>;
    type Entry = Entry;
    type AsyncRuntime = R;
    type Responder<T>
        = OneshotResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

pub(crate) type CommittedLeaderId = <LeaderId<u64, u64> as openraft::vote::RaftLeaderId>::Committed;
pub(crate) type Vote = openraft::impls::Vote<LeaderId<u64, u64>>;
pub(crate) type LogId = openraft::LogId<CommittedLeaderId>;
pub(crate) type Payload = openraft::EntryPayload<Data, u64, Member>;
pub(crate) type Membership = openraft::Membership<u64, Member>;
pub(crate) type StoredMembership = openraft::StoredMembership<CommittedLeaderId, u64, Member>;

// The aliases above spell out what the configuration projects to; these lines keep them equal.
const _: fn(LogIdOf<Types<Tokio>>) -> LogId = |id| id;
const _: fn(StoredMembershipOf<Types<Tokio>>) -> StoredMembership = |m| m;

/// What a membership says of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Where its peers reach it, `host:port`; empty in a group of one that nobody may join.
    pub address: String,
    /// Drawn with its data directory, 0 if the directory is older than that: a directory made anew is
    /// another node, whatever its operator calls it.
    pub incarnation: u64,
}

/// One entry of the log.
///
/// Beside what Raft wants to know it remembers who proposed it, so that the bytes of its record are
/// the same on every node, also those of entries that carry no events.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) log_id: LogId,
    /// Who proposed it; 0 between being made by this node's Raft and being appended by it.
    pub(crate) leader: u64,
    pub(crate) payload: Payload,
}

impl Entry {
    /// Bytes of its record, about.
    pub(crate) fn size(&self) -> usize {
        match &self.payload {
            Payload::Normal(data) => data.record().len(),
            Payload::Blank => 16,
            Payload::Membership(membership) => 64 + 64 * membership.nodes().count(),
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.log_id, self.payload)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl RaftEntry for Entry {
    type CommittedLeaderId = CommittedLeaderId;
    type Payload = Payload;

    fn new(log_id: LogId, payload: Payload) -> Entry {
        Entry { log_id, leader: 0, payload }
    }

    fn log_id_parts(&self) -> (&CommittedLeaderId, u64) {
        (&self.log_id.leader_id, self.log_id.index)
    }

    fn set_log_id(&mut self, new: LogId) {
        self.log_id = new;
    }

    fn get_membership(&self) -> Option<Membership> {
        match &self.payload {
            Payload::Membership(membership) => Some(membership.clone()),
            Payload::Blank | Payload::Normal(_) => None,
        }
    }
}

/// What an entry with events carries: the record as it stands in the log, the events themselves,
/// and, on the node that proposed it, the handle of those who wait.
#[derive(Clone)]
pub(crate) struct Data(Arc<Carried>);

struct Carried {
    record: Vec<u8>,
    batch: Batch,
    /// On the proposing node: its share of what may be in flight, given back with the memory.
    _share: Option<Share>,
}

/// One of the batches and some of the bytes in flight, and room on the disk.
pub(crate) type Share = (OwnedSemaphorePermit, OwnedSemaphorePermit, Promise);

impl Data {
    /// `record` must be the encoding of `batch`'s events.
    pub(crate) fn new(record: Vec<u8>, batch: Batch, share: Option<Share>) -> Data {
        Data(Arc::new(Carried { record, batch, _share: share }))
    }

    pub(crate) fn record(&self) -> &[u8] {
        &self.0.record
    }

    pub(crate) fn batch(&self) -> &Batch {
        &self.0.batch
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // openraft logs entries; the sizes are all a log line may hold.
        write!(f, "{} events in {} bytes", self.0.batch.events.len(), self.0.record.len())
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The position in the log of Raft's entry `index`.
pub(crate) fn lsn_of(index: u64) -> Lsn {
    Lsn(index + 1)
}

/// Raft's index of the entry at `lsn`, `None` for [`Lsn::ZERO`].
pub(crate) fn index_of(lsn: Lsn) -> Option<u64> {
    lsn.0.checked_sub(1)
}

/// The log id with `term` and `index`.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}
