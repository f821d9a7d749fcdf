//! The port to other nodes.
//!
//! A group has one voter and nobody to talk to: every call is refused as
//! [`std::io::ErrorKind::Unsupported`]. openraft asks for a transport only when a membership names
//! another node, and a group opened by this crate never does.

use std::future::Future;
use std::io;

use openraft::OptionalSend;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::impls::BasicNode;
use openraft::network::{RPCOption, RaftNetworkFactory, v2::RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;

use crate::types::{CommittedLeaderId, Runtime, Types, Vote};

/// No network. See the module.
pub(crate) struct NoTransport;

fn unsupported<R: Runtime>() -> Unreachable<Types<R>> {
    Unreachable::new(&io::Error::new(io::ErrorKind::Unsupported, "this group has one voter and no network"))
}

impl<R: Runtime> RaftNetworkFactory<Types<R>> for NoTransport {
    type Network = NoTransport;

    async fn new_client(&mut self, _target: u64, _node: &BasicNode) -> NoTransport {
        NoTransport
    }
}

impl<R: Runtime> RaftNetworkV2<Types<R>> for NoTransport {
    type SnapshotData = ();

    async fn append_entries(
        &mut self,
        _request: AppendEntriesRequest<Types<R>>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types<R>>, RPCError<Types<R>>> {
        Err(RPCError::Unreachable(unsupported()))
    }

    async fn vote(
        &mut self,
        _request: VoteRequest<Types<R>>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types<R>>, RPCError<Types<R>>> {
        Err(RPCError::Unreachable(unsupported()))
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: Snapshot<CommittedLeaderId, u64, BasicNode, ()>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types<R>>, StreamingError<Types<R>>> {
        Err(StreamingError::Unreachable(unsupported()))
    }
}
