//! A batch on its way.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use engine::log::Lsn;
use openraft::errors::ClientWriteError;
use openraft::type_config::alias::OneshotReceiverOf;

use crate::error::ProposeError;
use crate::types::{Runtime, Tokio, Types, lsn_of};

/// A batch that was handed in. Resolves to its place in the log once it is applied.
#[must_use = "dropping it gives up the only news of a failure"]
pub struct Pending<R: Runtime = Tokio> {
    pub(crate) answer: OneshotReceiverOf<Types<R>, openraft::raft::ClientWriteResult<Types<R>>>,
}

impl<R: Runtime> Future for Pending<R> {
    type Output = Result<Lsn, ProposeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(Pin::new(&mut self.answer).poll(cx)) {
            Ok(Ok(response)) => Ok(lsn_of(response.log_id.index)),
            Ok(Err(ClientWriteError::ForwardToLeader(forward))) => {
                Err(ProposeError::NotLeader { leader: forward.leader_id })
            }
            // The core dropped the entry or itself; the log may hold the batch all the same.
            Ok(Err(_)) | Err(_) => Err(ProposeError::Unknown),
        })
    }
}
