//! The asking side: another region's nodes, one of which leads.

use crate::mtls::certificates::Certificates;
use crate::mtls::{self, Sender, Unsent, tls};
use crate::outbound::Url;
use bytes::Bytes;
use hyper::{Method, StatusCode};
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// How long one node may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most nodes of a region.
const NODES_MAX: usize = 16;

/// Another region, which is asked.
pub struct There {
    region: String,
    name: ServerName<'static>,
    /// `host:port` of its nodes.
    nodes: Vec<String>,
    certificates: Arc<Certificates>,
    /// The node that answered last, and the connection to it.
    kept: Mutex<(usize, Option<Sender>)>,
}

impl There {
    /// The region whose nodes are at these addresses, `https://host:port` with spaces between them.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn open(place: &str, region: &str, certificates: Arc<Certificates>) -> Result<There, String> {
        let node = |text: &str| {
            let url = Url::parse(text).map_err(|why| format!("{text}: {why}"))?;
            url.socket().ok_or_else(|| format!("{text}: a node is https://host:port, without a path"))
        };
        let nodes: Vec<String> = place.split_whitespace().map(node).collect::<Result<_, _>>()?;
        if nodes.is_empty() || nodes.len() > NODES_MAX {
            return Err(format!("one to {NODES_MAX} nodes"));
        }
        let name = tls::region(region)?;
        Ok(There { region: region.to_owned(), name, nodes, certificates, kept: Mutex::new((0, None)) })
    }

    /// What the region has under this name, at most `most` bytes.
    ///
    /// # Errors
    /// Why no node gives it.
    pub async fn get(&self, name: &str, most: u64) -> Result<Option<Bytes>, String> {
        let max = usize::try_from(most).map_err(|_| format!("{name} is larger than anything"))?;
        let mut whys = Vec::new();
        while whys.len() < self.nodes.len() {
            let (at, mut fresh) = (self.kept.lock().await.0, false);
            let asked = self.ask(at, &mut fresh, name, max);
            let why = match tokio::time::timeout(PATIENCE, asked).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(error)) => error,
                Err(_) => format!("no answer within {PATIENCE:?}"),
            };
            // A connection that was kept may have ended long ago: its node is tried once more before the next one is.
            let next = if fresh { (at + 1) % self.nodes.len() } else { at };
            if fresh {
                whys.push(format!("{}: {why}", self.nodes[at]));
            }
            let mut kept = self.kept.lock().await;
            if kept.0 == at {
                *kept = (next, None);
            }
        }
        whys.sort_unstable();
        Err(format!("region {}: {}", self.region, whys.join("; ")))
    }

    async fn ask(
        &self,
        at: usize,
        fresh: &mut bool,
        name: &str,
        max: usize,
    ) -> Result<Option<Bytes>, String> {
        let mut sender = {
            let mut kept = self.kept.lock().await;
            match &kept.1 {
                Some(sender) if kept.0 == at && !sender.is_closed() => sender.clone(),
                _ => {
                    *fresh = true;
                    let sender =
                        mtls::connect(&self.certificates, self.name.clone(), &self.nodes[at]).await?;
                    *kept = (at, Some(sender.clone()));
                    sender
                }
            }
        };
        let (status, bytes) = mtls::send(&mut sender, Method::GET, &format!("/{name}"), Bytes::new(), max)
            .await
            .map_err(|(Unsent::Never(why) | Unsent::Maybe(why))| why)?;
        // It is there and does not give it: another one may.
        *fresh |= !matches!(status, StatusCode::OK | StatusCode::NOT_FOUND);
        match status {
            StatusCode::OK => Ok(Some(bytes)),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(format!("{status}: {}", mtls::text(&bytes))),
        }
    }
}
