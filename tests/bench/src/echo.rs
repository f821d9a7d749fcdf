//! The ceiling of the HTTP rows: a server that parses the body with the same parser and sends it back, and does
//! nothing else. Same hyper, same connection settings, same number of workers and same allocator as `flkd`.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Serves until the process ends, or for `LIFE` at most.
pub fn serve(addr: SocketAddr) -> io::Result<()> {
    /// Nobody leaves an echo running for longer.
    const LIFE: Duration = Duration::from_secs(3600);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(LIFE, accept(addr)).await.unwrap_or(Ok(())) })
}

async fn accept(addr: SocketAddr) -> io::Result<()> {
    let listener = tokio::net::TcpListener::bind(addr).await?;
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10)).pipeline_flush(true);
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let connection = http.serve_connection(TokioIo::new(socket), service_fn(answer));
        tokio::spawn(async move {
            // A client that goes away ends its connection with an error; there is nothing to do about it.
            let _ = connection.await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let limited = Limited::new(request.into_body(), 1 << 20);
    let Ok(body) = limited.collect().await.map(|b| b.to_bytes()) else {
        return Ok(status(StatusCode::PAYLOAD_TOO_LARGE));
    };
    // A batch is one document a line.
    let good = body.split(|&b| b == b'\n').filter(|l| !l.is_empty()).all(parses);
    if good { Ok(Response::new(Full::new(body))) } else { Ok(status(StatusCode::BAD_REQUEST)) }
}

fn parses(body: &[u8]) -> bool {
    engine::summary::parse(body).is_ok()
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}
