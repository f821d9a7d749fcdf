//! The accepting side: who may speak, and what is done with what they say.
//!
//! It listens before the node is open: a log that is being repaired at a start may need what another node has whose own log
//! is being repaired. Until then Raft's messages go to [`InRepair`], and everything else is told what the node waits for.

use super::certificates::Certificates;
use super::forward::{self, Ask, Told};
use super::hello::{HELLO_MAX, Hello, Stranger};
use super::wire::WINDOW;
use super::{CHECKUP, DIGEST, FILES, FORWARD, GREET, PeerError, RAFT, files, tls};
use crate::http::Stage;
use crate::metrics::Metrics;
use crate::node::Node;
use crate::{checkup, confirm};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use raft::{InRepair, MESSAGE_MAX};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// Connections of peers at a time: every member has one or two.
const CONNECTIONS_MAX: usize = 256;
/// Requests on one connection at a time.
const STREAMS_MAX: u32 = 1024;
/// From a connection to its greeting.
const GREETING_PATIENCE: Duration = Duration::from_secs(5);
/// A connection that does not answer a ping for this long is gone.
const PING_EVERY: Duration = Duration::from_secs(5);

/// A socket that peers may connect to.
pub struct Listening {
    socket: TcpListener,
    /// Where it is bound.
    pub address: SocketAddr,
}

impl Listening {
    /// Binds the address, before anything else is begun.
    ///
    /// # Errors
    /// [`PeerError::Listen`].
    pub async fn bind(address: &str) -> Result<Listening, PeerError> {
        let wrong = |source| PeerError::Listen { address: address.to_owned(), source };
        let socket = TcpListener::bind(address).await.map_err(wrong)?;
        let address = socket.local_addr().map_err(wrong)?;
        Ok(Listening { socket, address })
    }
}

/// Whom connections meet: a node, or what there is of it before it is open.
pub(crate) struct Host {
    hello: Hello,
    metrics: Arc<Metrics>,
    stage: Stage,
    in_repair: Arc<InRepair>,
    pub(super) node: OnceLock<Arc<Node>>,
}

impl Host {
    /// What there is before the node.
    pub(crate) fn new(
        hello: &Hello,
        metrics: &Arc<Metrics>,
        stage: &Stage,
        in_repair: &Arc<InRepair>,
    ) -> Host {
        Host {
            hello: hello.clone(),
            metrics: metrics.clone(),
            stage: stage.clone(),
            in_repair: in_repair.clone(),
            node: OnceLock::new(),
        }
    }
}

/// Serves peers until its task is dropped.
pub(super) async fn listen(listening: Listening, certificates: Arc<Certificates>, host: Arc<Host>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listening.socket.accept().await {
            Ok((stream, from)) => {
                let (acceptor, host) = (TlsAcceptor::from(certificates.now().server.clone()), host.clone());
                connections.spawn(async move {
                    connection(stream, from, acceptor, host).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a peer failed");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, from: SocketAddr, acceptor: TlsAcceptor, host: Arc<Host>) {
    let refused = |label: &str, why: &dyn std::fmt::Display| {
        host.metrics.peers_refused.with_label_values(&[label]).inc();
        tracing::warn!(%from, why = %why, "a connection to the peers' port was refused");
    };
    if let Err(error) = stream.set_nodelay(true) {
        return refused("tcp", &error);
    }
    let stream = match tokio::time::timeout(GREETING_PATIENCE, acceptor.accept(stream)).await {
        Err(_) => return refused("tls", &"no TLS within five seconds"),
        Ok(Err(error)) => return refused("tls", &error),
        Ok(Ok(stream)) => stream,
    };
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .map(|c| c.clone().into_owned());
    let Some(certificate) = certificate else { return refused("tls", &"no certificate") };
    let speaker: Arc<OnceLock<Hello>> = Arc::default();
    let greeted = speaker.clone();
    let service = service_fn(|request: Request<Incoming>| {
        let (host, speaker, certificate) = (host.clone(), speaker.clone(), certificate.clone());
        async move {
            let (status, bytes) = match answer(&host, &speaker, &certificate, request).await {
                Ok(bytes) => (StatusCode::OK, bytes),
                Err(Refused::Stranger(stranger)) => {
                    host.metrics.peers_refused.with_label_values(&[stranger.label()]).inc();
                    tracing::warn!(%from, why = %stranger, "a peer was refused");
                    (StatusCode::FORBIDDEN, Bytes::from(stranger.to_string()))
                }
                Err(Refused::Request(status, why)) => (status, Bytes::from(why)),
            };
            let mut response = Response::new(Full::new(bytes));
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        }
    });
    let http = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_frame_size(1 << 20)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(16 << 10)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY)
        .serve_connection(TokioIo::new(stream), service);
    let mut http = std::pin::pin!(http);
    tokio::select! {
        // However it ended, it has ended.
        _ = &mut http => return,
        () = tokio::time::sleep(GREETING_PATIENCE) => {}
    }
    if greeted.get().is_none() {
        return refused("silent", &"no greeting within five seconds");
    }
    let _ = http.await;
}

enum Refused {
    Stranger(Stranger),
    Request(StatusCode, String),
}

impl From<Stranger> for Refused {
    fn from(stranger: Stranger) -> Refused {
        Refused::Stranger(stranger)
    }
}

async fn answer(
    host: &Arc<Host>,
    speaker: &OnceLock<Hello>,
    certificate: &rustls::pki_types::CertificateDer<'static>,
    request: Request<Incoming>,
) -> Result<Bytes, Refused> {
    let path = request.uri().path().to_owned();
    if path == GREET {
        let hello = Hello::decode(&read(request, HELLO_MAX).await?)?;
        if !tls::is_for(certificate, hello.node) {
            return Err(Stranger::Certificate(hello.node).into());
        }
        host.hello.check(&hello)?;
        if let Some(node) = host.node.get() {
            known(node, &hello)?;
        }
        if hello.is_born() {
            // A second greeting on a connection changes nothing.
            let _ = speaker.set(hello);
        }
        return Ok(host.hello.encode().into());
    }
    let unavailable = |why: String| Refused::Request(StatusCode::SERVICE_UNAVAILABLE, why);
    let hello = speaker.get().ok_or(Stranger::Unborn)?;
    let Some(node) = host.node.get() else {
        // Who the members are is read from the log; what is given here is not secret from any node of the cluster.
        return match path.as_str() {
            RAFT => Ok(host.in_repair.serve(&read(request, MESSAGE_MAX).await?).await.into()),
            _ => Err(unavailable(format!("this node is starting: {}", host.stage.said()))),
        };
    };
    let max = match path.as_str() {
        RAFT => MESSAGE_MAX,
        CHECKUP => 0,
        DIGEST => 8,
        FILES => files::ASK_MAX,
        FORWARD => node.config.batch_max_bytes.max(node.config.body_max) + forward::AROUND,
        _ => return Err(Refused::Request(StatusCode::NOT_FOUND, "no such path".into())),
    };
    // What changed since the greeting counts, too.
    known(node, hello)?;
    if path == RAFT && node.fold.diverged().is_some() {
        return Err(unavailable("this node computed something else than its group and has halted".into()));
    }
    let body = read(request, max).await?;
    Ok(match path.as_str() {
        RAFT => node.group.serve(hello.node, &body).await.into(),
        DIGEST => confirm::answer(node, &body).into(),
        CHECKUP => checkup::own(node).to_string().into(),
        FILES => asked(node, &body).await?.encode().into(),
        _ => forwarded(node, &body).await?.encode().into(),
    })
}

/// A name that the group knows comes with the data directory that it knows.
fn known(node: &Node, hello: &Hello) -> Result<(), Stranger> {
    let members = node.group.members();
    let known = members.iter().find(|member| member.node == hello.node);
    match known.map(|known| known.member.incarnation) {
        Some(incarnation) if incarnation != 0 && incarnation != hello.incarnation => {
            Err(Stranger::Incarnation(hello.node))
        }
        _ => Ok(()),
    }
}

async fn read(request: Request<Incoming>, max: usize) -> Result<Bytes, Refused> {
    match Limited::new(request.into_body(), max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(Refused::Request(StatusCode::BAD_REQUEST, error.to_string())),
    }
}

async fn asked(node: &Arc<Node>, body: &[u8]) -> Result<files::Told, Refused> {
    let ask = files::Ask::decode(body)
        .map_err(|error| Refused::Request(StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok(files::serve(node, ask).await)
}

async fn forwarded(node: &Arc<Node>, body: &[u8]) -> Result<Told, Refused> {
    let ask =
        Ask::decode(body).map_err(|error| Refused::Request(StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok(crate::http::forwarded(node, &ask).await)
}
