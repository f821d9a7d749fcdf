//! The ceiling beside a measurement: a server in this process that parses each body with the engine's own parser,
//! sends it back and does nothing else. Same HTTP library as `flkd`, no disk, no ledger.
//!
//! How much of the echo's rate a node reaches says what its log and its ledger cost on this machine; a bare number of
//! records per second says mostly what machine it was.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use engine::limits::BODY_MAX;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Bytes of a batch request that are taken, as many as `flkd` takes of them by default.
const BATCH_MAX: usize = 64 * BODY_MAX;

/// A running echo; it ends when this is dropped.
#[derive(Debug)]
pub struct Echo {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Echo {
    /// Starts an echo on a free port of the loopback address.
    ///
    /// # Errors
    /// The system gives no port or no threads.
    pub fn start() -> io::Result<Echo> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        runtime.spawn(accept(listener));
        Ok(Echo { address, runtime: Some(runtime) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10)).pipeline_flush(true);
    while let Ok((socket, _)) = listener.accept().await {
        let _ = socket.set_nodelay(true);
        let connection = http.serve_connection(TokioIo::new(socket), service_fn(answer));
        tokio::spawn(async move {
            // A client that goes away ends its connection with an error; there is nothing to do about it.
            let _ = connection.await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = Limited::new(request.into_body(), BATCH_MAX).collect().await.map(|body| body.to_bytes());
    let body = body.ok().filter(|body| {
        // A batch is one document a line.
        let mut lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.all(|line| engine::summary::parse(line).is_ok())
    });
    let mut response = Response::new(Full::new(body.clone().unwrap_or_default()));
    if body.is_none() {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Client;

    #[test]
    fn what_is_a_summary_comes_back_and_nothing_else() {
        let echo = Echo::start().unwrap();
        let url = format!("http://{}", echo.address());
        let mut client = Client::new(&url, Duration::from_secs(10)).unwrap();
        let body = include_bytes!("../../tests/golden/agent.ndjson");
        let answer = client.request("POST", "/v1/pcs/batch", &[], body).unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (200, body.as_slice()));
        assert_eq!(client.request("POST", "/", &[], b"{\"x\":1").unwrap().status, 400);
        drop(echo);
        assert!(client.get("/").is_err());
    }
}
