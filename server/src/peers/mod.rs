//! Other nodes of the group: HTTP/2 over TLS 1.3, with certificates on both ends.
//!
//! A connection begins with a greeting: each end says which cluster it belongs to, which node it is, with
//! which data directory, and by which format and keys it lives. An end that is not what it must be is
//! refused with a reason, and counted. A certificate is good for one node: the name `node-N.flk` stands in
//! it, and nobody else can speak as node N.
//!
//! After the greeting a connection carries Raft's messages, pieces of sealed segments for a new node, submissions that were sent to a node that does
//! not lead, and changes of the membership. A node whose log is not open yet is greeted too, and gives others that repair theirs what
//! is good of its own. L1: messages, streams, connections and times all have bounds.

pub mod files;
pub mod forward;
pub(crate) mod given;
pub mod hello;
pub mod join;
mod listener;
mod wire;

pub use hello::Hello;
pub(crate) use listener::Host;
pub use wire::Wire;

use crate::mtls::certificates::{Certificates, Files};
use crate::mtls::{Listening, MtlsError, tls};
use crate::node::Node;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinSet;

/// Where the greeting goes.
const GREET: &str = "/peer/greet";
/// Where Raft's messages go.
const RAFT: &str = "/peer/raft";
/// Where questions about files go.
pub(crate) const FILES: &str = "/peer/files";
/// Where requests go that only the leader can answer.
pub(crate) const FORWARD: &str = "/peer/forward";
/// Where a node is asked what it computed.
pub(crate) const DIGEST: &str = "/peer/digest";
/// Where a node is asked how it stands.
pub(crate) const CHECKUP: &str = "/peer/checkup";

/// This node's side of the way to the others.
pub struct Peers {
    /// Connects.
    pub wire: Wire,
    /// Where the others find this node.
    pub advertise: String,
    /// What both ends are known by.
    pub certificates: Arc<Certificates>,
    door: Mutex<Door>,
}

/// What is done at the address where the others connect.
#[derive(Default)]
enum Door {
    /// They wait.
    Bound(Listening),
    /// They are answered.
    Open(Arc<Host>, JoinSet<()>),
    /// The same, by somebody else's task.
    #[default]
    Given,
}

impl Peers {
    /// Binds the address and reads the certificates that are configured; `None` for a group of one.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn open(config: &crate::config::Config) -> Result<Option<Peers>, PeerError> {
        let (Some(listen), Some(ca), Some(certificate), Some(key)) =
            (&config.cluster_listen, &config.cluster_ca, &config.cluster_cert, &config.cluster_key)
        else {
            return Ok(None);
        };
        let files = Files {
            ca: ca.clone(),
            certificate: certificate.clone(),
            key: key.clone(),
            name: tls::node(config.node_id),
        };
        let certificates = Arc::new(Certificates::open(files)?);
        let listening = Listening::bind(listen).await?;
        let advertise = config.cluster_advertise.clone().unwrap_or_else(|| listening.address.to_string());
        let door = Mutex::new(Door::Bound(listening));
        let wire = Wire::new(certificates.clone());
        Ok(Some(Peers { wire, advertise, certificates, door }))
    }

    fn door(&self) -> MutexGuard<'_, Door> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on others are answered, by what there is of the node before it is open.
    pub(crate) fn answer(&self, host: Host) {
        let mut door = self.door();
        if let Door::Bound(listening) = std::mem::take(&mut *door) {
            let (host, mut task) = (Arc::new(host), JoinSet::new());
            task.spawn(listener::listen(listening, self.certificates.clone(), host.clone()));
            *door = Door::Open(host, task);
        }
    }

    /// From now on they are answered by the node itself. The task that does it, once; it ends when it is dropped.
    pub(crate) fn give(&self, node: &Arc<Node>) -> Option<JoinSet<()>> {
        match std::mem::take(&mut *self.door()) {
            Door::Open(host, task) => {
                // Nobody else sets it.
                let _ = host.node.set(node.clone());
                Some(task)
            }
            Door::Bound(_) | Door::Given => None,
        }
    }
}

/// What is wrong with this node's side of the way to its peers.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum PeerError {
    #[error(transparent)]
    Mtls(#[from] MtlsError),
    #[error("joining the group: no member answered within {seconds} s; the last said: {last}")]
    Join { seconds: u64, last: String },
}
