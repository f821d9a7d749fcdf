//! openraft's network over a [`Transport`]: requests to bytes, bytes to answers.
//!
//! A transport's word that a node was not reached is passed on as it is; an answer that is not what was
//! asked for counts as no answer.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, v2::RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    VoteRequest, VoteResponse,
};
use openraft::raft::{TransferLeaderRequest, TransferLeaderResponse};
use openraft::storage::Snapshot;

use crate::message::{Answer, Append, Appended, Ballot, Request};
use crate::transport::{Peer, Transport, Unreached};
use crate::turns::Place;
use crate::types::{CommittedLeaderId, Member, Runtime, Types, Vote};

/// How long an append may take: megabytes over a slow link and a sync at the other end. One that says only what
/// is committed may stand behind such a one. Heartbeats are given up sooner by who sends them.
const APPEND_PATIENCE: Duration = Duration::from_secs(5);

/// Appends with entries that are under way to one peer at a time: the next travels while the last is synced.
const DEPTH: usize = 4;

/// Makes a [`Link`] to each peer.
pub(crate) struct Network {
    transport: Arc<dyn Transport>,
    /// Counts sessions of appends, over all peers.
    sessions: Arc<AtomicU64>,
}

impl Network {
    pub(crate) fn new(transport: Arc<dyn Transport>) -> Network {
        Network { transport, sessions: Arc::default() }
    }
}

impl<R: Runtime> RaftNetworkFactory<Types<R>> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, member: &Member) -> Link {
        Link {
            peer: peer(target, member),
            transport: self.transport.clone(),
            sessions: self.sessions.clone(),
        }
    }
}

pub(crate) fn peer(node: u64, member: &Member) -> Peer {
    Peer { node, address: member.address.clone(), incarnation: member.incarnation }
}

/// The way to one peer.
#[derive(Clone)]
pub(crate) struct Link {
    peer: Peer,
    transport: Arc<dyn Transport>,
    sessions: Arc<AtomicU64>,
}

impl Link {
    async fn ask<R: Runtime>(
        &self,
        request: &Request,
        within: Duration,
    ) -> Result<Answer, RPCError<Types<R>>> {
        match ask(&*self.transport, &self.peer, request, within).await {
            Ok(Answer::Refused(why)) => Err(RPCError::Unreachable(Unreachable::from_string(why))),
            Ok(answer) => Ok(answer),
            Err(Unreached::NoWay(why)) => Err(RPCError::Unreachable(Unreachable::from_string(why))),
            Err(Unreached::NoAnswer(why)) => Err(RPCError::Network(NetworkError::from_string(why))),
        }
    }
}

/// Answers to appends, in their order.
type Appends<'s, R> = BoxStream<'s, Result<StreamAppendResult<Types<R>>, RPCError<Types<R>>>>;

impl Link {
    async fn append<R: Runtime>(
        &self,
        request: AppendEntriesRequest<Types<R>>,
        place: Option<Place>,
    ) -> Result<StreamAppendResult<Types<R>>, RPCError<Types<R>>> {
        let AppendEntriesRequest { vote, prev_log_id: previous, entries, leader_commit: committed } = request;
        let last = entries.last().map(|entry| entry.log_id).or(previous);
        let request = Request::Append(Append { place, vote, previous, committed, entries });
        match self.ask::<R>(&request, APPEND_PATIENCE).await? {
            // All of it or a part: at least what it follows, at most everything.
            Answer::Appended(Appended::Upto(upto)) if previous <= upto && upto <= last => Ok(Ok(upto)),
            Answer::Appended(Appended::Conflict(at)) if Some(at) == previous => {
                Ok(Err(StreamAppendError::Conflict(at)))
            }
            Answer::Appended(Appended::HigherVote(vote)) => Ok(Err(StreamAppendError::HigherVote(vote))),
            _ => Err(unasked()),
        }
    }
}

/// One request and its answer.
pub(crate) async fn ask(
    transport: &dyn Transport,
    peer: &Peer,
    request: &Request,
    within: Duration,
) -> Result<Answer, Unreached> {
    let bytes = transport.ask(peer, request.encode(), within).await?;
    Answer::decode(&bytes).map_err(|error| Unreached::NoAnswer(format!("node {}: {error}", peer.node)))
}

fn unasked<R: Runtime>() -> RPCError<Types<R>> {
    RPCError::Network(NetworkError::from_string("an answer to another question"))
}

impl<R: Runtime> RaftNetworkV2<Types<R>> for Link {
    type SnapshotData = ();

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types<R>>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types<R>>, RPCError<Types<R>>> {
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        Ok(match self.append(request, None).await? {
            Ok(upto) if upto == last => AppendEntriesResponse::Success,
            Ok(upto) => AppendEntriesResponse::PartialSuccess(upto),
            Err(StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
            Err(StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<Appends<'s, R>, RPCError<Types<R>>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types<R>>> + OptionalSend + Unpin + 'static,
    {
        let link = self.clone();
        let session = link.sessions.fetch_add(1, Ordering::Relaxed);
        let mut nth = 0;
        let answers = input.map(move |request| {
            // Heartbeats are one by one and have no place.
            let place = (!request.entries.is_empty()).then_some(Place { session, nth });
            nth += u32::from(place.is_some());
            let link = link.clone();
            async move {
                let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
                let answer = link.append(request, place).await;
                // What follows an append that was not taken whole cannot be taken either.
                let whole = matches!(&answer, Ok(Ok(upto)) if *upto == last);
                (answer, whole)
            }
        });
        let mut go_on = true;
        let answers = answers.buffered(DEPTH).take_while(move |(_, whole)| {
            let this = std::mem::replace(&mut go_on, *whole);
            std::future::ready(this)
        });
        let answers: Appends<'s, R> = Box::pin(answers.map(|(answer, _)| answer));
        Box::pin(std::future::ready(Ok(answers)))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<R>>, RPCError<Types<R>>> {
        voted(self.ask::<R>(&Request::Vote(ballot(&request)), option.soft_ttl()).await?)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<R>>, RPCError<Types<R>>> {
        voted(self.ask::<R>(&Request::PreVote(ballot(&request)), option.soft_ttl()).await?)
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types<R>>, RPCError<Types<R>>> {
        let last = request.last_log_id().copied();
        let ask = Request::TakeOver { from: *request.from_leader(), to: *request.to_node_id(), last };
        match self.ask::<R>(&ask, option.soft_ttl()).await? {
            Answer::TakeOver { accepted: true } => Ok(Ok(())),
            Answer::TakeOver { accepted: false } => {
                Err(RPCError::Network(NetworkError::from_string("the peer is not ready to take over")))
            }
            _ => Err(unasked()),
        }
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: Snapshot<CommittedLeaderId, u64, Member, ()>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types<R>>, StreamingError<Types<R>>> {
        // Nothing is ever purged, so every node catches up from the log.
        Err(StreamingError::Unreachable(Unreachable::from_string("raft makes no snapshots")))
    }
}

fn ballot<R: Runtime>(request: &VoteRequest<Types<R>>) -> Ballot {
    Ballot { vote: request.vote, last: request.last_log_id, told: request.leadership_transfer }
}

fn voted<R: Runtime>(answer: Answer) -> Result<VoteResponse<Types<R>>, RPCError<Types<R>>> {
    match answer {
        Answer::Voted { vote, granted, last } => Ok(VoteResponse::new(vote, last, granted)),
        _ => Err(unasked()),
    }
}
