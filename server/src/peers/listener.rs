//! The accepting side: who may speak, and what is done with what they say.
//!
//! It listens before the node is open: a log that is being repaired at a start may need what another node has whose own log
//! is being repaired. Until then Raft's messages go to [`InRepair`], and everything else is told what the node waits for.

use super::forward::{self, Ask, Told};
use super::hello::{HELLO_MAX, Hello, Stranger};
use super::{CHECKUP, DIGEST, FILES, FORWARD, GREET, RAFT, files};
use crate::http::Stage;
use crate::metrics::Metrics;
use crate::mtls::certificates::Certificates;
use crate::mtls::{self, Caller, GREETING_PATIENCE, Listening, tls};
use crate::node::Node;
use crate::{checkup, confirm};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use raft::{InRepair, MESSAGE_MAX};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

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
    let told = host.clone();
    let refused = move |from, label: &str, why: String| refuse(&told, from, label, &why);
    listening.serve(certificates, refused, move |caller| connection(caller, host.clone())).await;
}

fn refuse(host: &Host, from: SocketAddr, label: &str, why: &str) {
    host.metrics.peers_refused.with_label_values(&[label]).inc();
    tracing::warn!(%from, why, "a connection to the peers' port was refused");
}

async fn connection(caller: Caller, host: Arc<Host>) {
    let Caller { from, certificate, stream } = caller;
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
    let http = mtls::server().serve_connection(TokioIo::new(stream), service);
    let mut http = std::pin::pin!(http);
    tokio::select! {
        // However it ended, it has ended.
        _ = &mut http => return,
        () = tokio::time::sleep(GREETING_PATIENCE) => {}
    }
    if greeted.get().is_none() {
        return refuse(&host, from, "silent", "no greeting within five seconds");
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
        if !tls::is_for(certificate, &tls::node(hello.node)) {
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
