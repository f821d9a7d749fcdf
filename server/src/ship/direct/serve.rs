//! The answering side.

use super::Door;
use super::shelf::{NotGiven, Shelf};
use crate::mtls::{self, Caller, tls};
use crate::node::Node;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

/// What a connection needs to know.
struct Host {
    node: Arc<Node>,
    shelf: Arc<Shelf>,
    /// Names in the certificates of the regions that may ask, in the order of the peers.
    names: Vec<ServerName<'static>>,
}

/// Answers other regions until its task is dropped; at once when there is no socket to answer at.
pub async fn serve(node: Arc<Node>, door: &Door, shelf: Arc<Shelf>) {
    let (Some(listening), Some(regions)) = (door.take(), node.regions.clone()) else { return };
    let names = regions.peers.iter().map(|peer| tls::region(&peer.region)).collect::<Result<Vec<_>, _>>();
    let names = match names {
        Ok(names) => names,
        Err(why) => return tracing::error!(why, "regions.peers: not every other region can ask this one"),
    };
    let host = Arc::new(Host { node, shelf, names });
    let refused = |from, _: &str, why: String| refuse(from, &why);
    listening.serve(door.certificates.clone(), refused, move |caller| connection(caller, host.clone())).await;
}

fn refuse(from: SocketAddr, why: &str) {
    tracing::warn!(%from, why, "a connection to the regions' port was refused");
}

async fn connection(caller: Caller, host: Arc<Host>) {
    let Caller { from, certificate, stream } = caller;
    let Some(nth) = host.names.iter().position(|name| tls::is_for(&certificate, name)) else {
        return refuse(from, "its certificate is for no region that this one knows");
    };
    let service = service_fn(|request: Request<Incoming>| {
        let host = host.clone();
        async move {
            let (status, bytes) = answer(&host, nth, &request).await;
            let mut response = Response::new(Full::new(bytes));
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        }
    });
    // How it ended, the other side knows as well.
    let _ = mtls::server().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(host: &Host, nth: usize, request: &Request<Incoming>) -> (StatusCode, Bytes) {
    let text = |status: StatusCode, why: &str| (status, Bytes::from(why.to_owned()));
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "objects are read, with GET");
    }
    let Some(regions) = &host.node.regions else { return text(StatusCode::NOT_FOUND, "one region") };
    if !host.node.leads() {
        return text(StatusCode::MISDIRECTED_REQUEST, "this node does not lead its group");
    }
    let name = request.uri().path().trim_start_matches('/');
    match host.shelf.give(&*host.node, regions, nth, name).await {
        Ok(bytes) => (StatusCode::OK, bytes),
        Err(NotGiven::Nothing) => text(StatusCode::NOT_FOUND, "nothing of that name"),
        Err(NotGiven::Name) => text(StatusCode::NOT_FOUND, "no name of an object"),
        Err(NotGiven::Failed(why)) => {
            tracing::warn!(why, "a range that another region asked for cannot be given");
            let mut inner = regions.lock();
            inner.errors += 1;
            inner.why = Some(why.clone());
            text(StatusCode::SERVICE_UNAVAILABLE, &why)
        }
    }
}
