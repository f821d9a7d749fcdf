//! The connecting side: one connection to each peer, opened when it is needed and kept.

use super::hello::{HELLO_MAX, Hello, Stranger};
use super::{GREET, RAFT};
use crate::mtls::certificates::Certificates;
use crate::mtls::{self, Sender, Unsent, text, tls};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::{Method, StatusCode};
use raft::{MESSAGE_MAX, Peer, Transport, Unreached};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

/// Connections kept; more peers than a membership may name.
const KEPT_MAX: usize = 128;
type Kept = Arc<tokio::sync::Mutex<Option<(Sender, Hello)>>>;

/// The way to the peers. Cheap to clone.
#[derive(Clone)]
pub struct Wire(Arc<Inner>);

struct Inner {
    /// Who we are, once we know our cluster.
    me: OnceLock<Hello>,
    certificates: Arc<Certificates>,
    kept: Mutex<HashMap<(u64, String), Kept>>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    /// A way that is not used before [`Wire::born`], but for [`Wire::greet`].
    pub fn new(certificates: Arc<Certificates>) -> Wire {
        Wire(Arc::new(Inner { me: OnceLock::new(), certificates, kept: Mutex::default() }))
    }

    /// Says who this node is, once.
    pub fn born(&self, me: Hello) {
        // The second time would say the same.
        let _ = self.0.me.set(me);
    }

    /// Connects to `peer` as `me` and returns its greeting. Nothing is kept.
    ///
    /// # Errors
    /// [`Unreached`], with the reason the peer or this node has.
    pub async fn greet(&self, me: &Hello, peer: &Peer, within: Duration) -> Result<Hello, Unreached> {
        match tokio::time::timeout(within, connect(&self.0.certificates, me, peer)).await {
            Ok(result) => result.map(|(_, hello)| hello),
            Err(_) => Err(late(peer)),
        }
    }

    /// One request and its answer.
    ///
    /// # Errors
    /// [`Unreached::NoWay`] when nothing was sent.
    pub async fn post(
        &self,
        peer: &Peer,
        path: &'static str,
        body: Bytes,
        answer_max: usize,
        within: Duration,
    ) -> Result<Bytes, Unreached> {
        match tokio::time::timeout(within, self.exchange(peer, path, body, answer_max)).await {
            Ok(result) => result,
            Err(_) => Err(late(peer)),
        }
    }

    fn kept(&self, peer: &Peer) -> Kept {
        let mut kept: MutexGuard<'_, _> = self.0.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.entry((peer.node, peer.address.clone())).or_default().clone()
    }

    async fn exchange(
        &self,
        peer: &Peer,
        path: &'static str,
        body: Bytes,
        answer_max: usize,
    ) -> Result<Bytes, Unreached> {
        let kept = self.kept(peer);
        let mut sender = {
            let mut slot = kept.lock().await;
            match &*slot {
                // A peer that was replaced under the same address must not get what was meant for the old one.
                Some((sender, hello)) if !sender.is_closed() && is_wanted(hello, peer) => sender.clone(),
                _ => {
                    *slot = None;
                    let me =
                        self.0.me.get().ok_or_else(|| Unreached::NoWay("not in a cluster yet".into()))?;
                    let fresh = connect(&self.0.certificates, me, peer).await?;
                    slot.insert(fresh).0.clone()
                }
            }
        };
        let (status, bytes) = send(&mut sender, path, body, answer_max).await?;
        if status == StatusCode::OK {
            return Ok(bytes);
        }
        // It no longer takes us for what we are; the next request greets again and learns why.
        *kept.lock().await = None;
        Err(Unreached::NoAnswer(format!("node {}: {status}: {}", peer.node, text(&bytes))))
    }
}

impl Transport for Wire {
    fn ask(
        &self,
        peer: &Peer,
        request: Vec<u8>,
        within: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, Unreached>> {
        let (wire, peer) = (self.clone(), peer.clone());
        Box::pin(async move {
            let answer = wire.post(&peer, RAFT, request.into(), MESSAGE_MAX, within).await?;
            Ok(answer.into())
        })
    }
}

fn late(peer: &Peer) -> Unreached {
    Unreached::NoAnswer(format!("node {} at {} did not answer in time", peer.node, peer.address))
}

fn is_wanted(hello: &Hello, peer: &Peer) -> bool {
    hello.node == peer.node && (peer.incarnation == 0 || hello.incarnation == peer.incarnation)
}

async fn send(
    sender: &mut Sender,
    path: &'static str,
    body: Bytes,
    answer_max: usize,
) -> Result<(StatusCode, Bytes), Unreached> {
    mtls::send(sender, Method::POST, path, body, answer_max).await.map_err(|error| match error {
        Unsent::Never(why) => Unreached::NoWay(why),
        Unsent::Maybe(why) => Unreached::NoAnswer(why),
    })
}

/// A connection to `peer` on which both have greeted and are content with each other.
async fn connect(certificates: &Certificates, me: &Hello, peer: &Peer) -> Result<(Sender, Hello), Unreached> {
    let no_way = |what: &str, error: &dyn std::fmt::Display| {
        Unreached::NoWay(format!("node {} at {}: {what}{error}", peer.node, peer.address))
    };
    let name = tls::node(peer.node);
    let connected = mtls::connect(certificates, name, &peer.address).await;
    let mut sender = connected.map_err(|why| no_way("", &why))?;
    let greeted = send(&mut sender, GREET, me.encode().into(), HELLO_MAX).await;
    let (status, bytes) = greeted.map_err(|error| no_way("greeting: ", &error))?;
    if status != StatusCode::OK {
        return Err(no_way("refused: ", &text(&bytes)));
    }
    let hello = Hello::decode(&bytes).and_then(|hello| me.check(&hello).map(|()| hello));
    let hello = hello.map_err(|stranger| no_way("a stranger: ", &stranger))?;
    if !is_wanted(&hello, peer) {
        return Err(no_way("a stranger: ", &Stranger::Incarnation(hello.node)));
    }
    Ok((sender, hello))
}
