//! HTTP/2 over TLS 1.3 with certificates on both ends, from an authority that the operator made for it: how nodes of a group and how regions
//! speak with each other.
//!
//! A certificate is good for one name, `node-N.flk` or `region-NAME.flk`, wherever whoever has it lives. L1: connections, requests,
//! times and what is read all have bounds.

pub mod certificates;
pub mod tls;

use bytes::Bytes;
use certificates::Certificates;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2::SendRequest;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::{TlsAcceptor, TlsConnector, server::TlsStream};

/// Connections at a time that one socket takes: every other node has one or two.
const CONNECTIONS_MAX: usize = 256;
/// Requests on one connection at a time.
const STREAMS_MAX: u32 = 1024;
/// Largest reason in a refusal that is read, bytes.
const REASON_MAX: usize = 4096;
/// From a connection to the end of its handshake, and to its greeting where there is one.
pub const GREETING_PATIENCE: Duration = Duration::from_secs(5);
/// One that does not answer a ping for this long is gone: to who was called, and to who called.
const PING_EVERY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(2));
/// Flow-control window of a stream and of a connection, bytes: a whole message is on its way at once.
const WINDOW: u32 = 16 << 20;

/// Sends requests on one connection.
pub type Sender = SendRequest<Full<Bytes>>;

/// What is wrong with this node's side of such connections.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum MtlsError {
    #[error("certificates: {path}: {why}")]
    Certificate { path: std::path::PathBuf, why: String },
    #[error("certificates: {0}")]
    Tls(#[from] rustls::Error),
    #[error("certificates: the certificate authority in {path} cannot be used: {why}")]
    Authority { path: std::path::PathBuf, why: String },
    #[error("listening on {address}: {source}")]
    Listen { address: String, source: std::io::Error },
}

/// A socket that others may connect to.
pub struct Listening {
    socket: TcpListener,
    /// Where it is bound.
    pub address: SocketAddr,
}

/// Somebody who has shown a certificate of our authority.
pub struct Caller {
    /// From where.
    pub from: SocketAddr,
    /// The first certificate of the chain.
    pub certificate: CertificateDer<'static>,
    /// The connection.
    pub stream: TlsStream<TcpStream>,
}

impl Listening {
    /// Binds the address, before anything else is begun.
    ///
    /// # Errors
    /// [`MtlsError::Listen`].
    pub async fn bind(address: &str) -> Result<Listening, MtlsError> {
        let wrong = |source| MtlsError::Listen { address: address.to_owned(), source };
        let socket = TcpListener::bind(address).await.map_err(wrong)?;
        let address = socket.local_addr().map_err(wrong)?;
        Ok(Listening { socket, address })
    }

    /// Serves everybody who comes with a certificate, each in a task of its own, until this one is dropped. Who is turned away
    /// is told to `refused`: from where, a label, and why.
    pub async fn serve<F: Future<Output = ()> + Send + 'static>(
        self,
        certificates: Arc<Certificates>,
        refused: impl Fn(SocketAddr, &str, String) + Clone + Send + 'static,
        serve: impl Fn(Caller) -> F + Clone + Send + 'static,
    ) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = tokio::task::JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            match self.socket.accept().await {
                Ok((stream, from)) => {
                    let acceptor = TlsAcceptor::from(certificates.now().server.clone());
                    let (refused, serve) = (refused.clone(), serve.clone());
                    connections.spawn(async move {
                        match greet(stream, from, acceptor).await {
                            Ok(caller) => serve(caller).await,
                            Err((label, why)) => refused(from, label, why),
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, address = %self.address, "accepting a connection failed");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}

async fn greet(
    stream: TcpStream,
    from: SocketAddr,
    acceptor: TlsAcceptor,
) -> Result<Caller, (&'static str, String)> {
    stream.set_nodelay(true).map_err(|error| ("tcp", error.to_string()))?;
    let stream = match tokio::time::timeout(GREETING_PATIENCE, acceptor.accept(stream)).await {
        Err(_) => return Err(("tls", "no TLS within five seconds".into())),
        Ok(Err(error)) => return Err(("tls", error.to_string())),
        Ok(Ok(stream)) => stream,
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let first = certificates.and_then(|chain| chain.first()).map(|first| first.clone().into_owned());
    let certificate = first.ok_or_else(|| ("tls", "no certificate".to_owned()))?;
    Ok(Caller { from, certificate, stream })
}

/// How connections are served.
pub fn server() -> hyper::server::conn::http2::Builder<TokioExecutor> {
    let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_frame_size(1 << 20)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(16 << 10)
        .keep_alive_interval(PING_EVERY.0)
        .keep_alive_timeout(PING_EVERY.0);
    http
}

/// A connection to whoever has a certificate for `name` at `address`.
///
/// # Errors
/// Why there is none, for people.
pub async fn connect(
    certificates: &Certificates,
    name: ServerName<'static>,
    address: &str,
) -> Result<Sender, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(certificates.now().client.clone());
    let stream = connector.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
    let mut http = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let http = http
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_frame_size(1 << 20)
        .keep_alive_interval(PING_EVERY.1)
        .keep_alive_timeout(PING_EVERY.1);
    let (sender, connection) =
        http.handshake(TokioIo::new(stream)).await.map_err(|error| format!("HTTP/2: {error}"))?;
    tokio::spawn(async move {
        // How it ended, the requests on it have learnt.
        let _ = connection.await;
    });
    Ok(sender)
}

/// Why a request has no answer.
#[derive(Debug)]
pub enum Unsent {
    /// Nothing was sent.
    Never(String),
    /// It may have been acted upon.
    Maybe(String),
}

/// One request on a connection, and the answer: of at most `max` bytes, or a short reason.
///
/// # Errors
/// [`Unsent`].
pub async fn send(
    sender: &mut Sender,
    method: Method,
    path: &str,
    body: Bytes,
    max: usize,
) -> Result<(StatusCode, Bytes), Unsent> {
    sender.ready().await.map_err(|error| Unsent::Never(error.to_string()))?;
    let request = Request::builder()
        .method(method)
        .uri(format!("https://peer{path}"))
        .body(Full::new(body))
        .map_err(|error| Unsent::Never(error.to_string()))?;
    let maybe = |error: &dyn std::fmt::Display| Unsent::Maybe(error.to_string());
    let response = sender.send_request(request).await.map_err(|error| maybe(&error))?;
    let status = response.status();
    let max = if status == StatusCode::OK { max } else { REASON_MAX };
    let body = Limited::new(response.into_body(), max).collect().await.map_err(|error| maybe(&error))?;
    Ok((status, body.to_bytes()))
}

/// The beginning of a reason that somebody else gave, fit for a line.
pub fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}
