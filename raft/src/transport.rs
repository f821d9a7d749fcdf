//! The port to other nodes: carries messages and knows nothing of what they say.
//!
//! The production side (in `server`) is HTTP/2 with certificates on both ends, the simulated one loses,
//! delays and repeats. Both may fail any request without a word and for any time; neither may change
//! one, give it to another node than the one named, or answer in the name of another.
//!
//! L1: a request is answered or given up within the time it was given.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;

/// Whom to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name in the group.
    pub node: u64,
    /// Where it listens, `host:port`.
    pub address: String,
    /// Which of all nodes with that name it must be, 0 for any.
    pub incarnation: u64,
}

/// A request was not answered. Whether it was acted on is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    /// There is no way to the peer now; trying again at once would be in vain.
    #[error("no way to the peer: {0}")]
    NoWay(String),
    /// The way broke, or time was up.
    #[error("no answer from the peer: {0}")]
    NoAnswer(String),
}

/// Sends a request to a peer and brings its answer.
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Hands `request` to the peer, whose [`Group::serve`](crate::Group::serve) makes the answer. Both are at
    /// most [`MESSAGE_MAX`](crate::MESSAGE_MAX) bytes.
    fn ask(
        &self,
        peer: &Peer,
        request: Vec<u8>,
        within: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, Unreached>>;
}

/// The transport of a node that is alone in its group: there is nobody to reach.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Transport for Alone {
    fn ask(&self, peer: &Peer, _: Vec<u8>, _: Duration) -> BoxFuture<'static, Result<Vec<u8>, Unreached>> {
        let why = format!("node {} is in the group, and this process listens to no peers", peer.node);
        Box::pin(async move { Err(Unreached::NoWay(why)) })
    }
}
