//! One connection: its deadlines, its bytes, its end.
//!
//! hyper has a deadline for heads (which also ends idle connections) and none for bodies, and arms a timer for
//! each request. Here one coarse timer a connection looks at what the connection is doing and since when, so
//! that a request on a busy connection costs no timer at all. A deadline is noticed at most a quarter of the
//! shortest one late.

use super::framing::Heads;
use super::listener::drained;
use crate::clock::coarse_ms;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Largest head, bytes; hyper answers 431 above it.
pub const HEAD_MAX: usize = 32 << 10;

/// Most bytes hyper reads ahead. What it reads ahead may hold heads, which are kept for checking.
const BUFFER_MAX: usize = 128 << 10;

/// Deadlines of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Whole head from its first byte.
    pub header: Duration,
    /// Whole body from the end of its head.
    pub body: Duration,
    /// Time without a request.
    pub idle: Duration,
}

impl Deadlines {
    /// How often a connection's timer looks.
    fn tick(&self) -> Duration {
        let shortest = self.header.min(self.body).min(self.idle);
        (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(5))
    }
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Idle = 0,
    Head = 1,
    Body = 2,
    Answer = 3,
}

/// State of one connection that its bytes, its requests and its timer share.
#[derive(Debug)]
pub struct Conn {
    /// Since when, in coarse milliseconds shifted left by two, and what.
    doing: AtomicU64,
    expired: AtomicBool,
    heads: Mutex<Heads>,
}

impl Conn {
    fn new() -> Conn {
        Conn {
            doing: AtomicU64::new(coarse_ms() << 2 | Doing::Idle as u64),
            expired: AtomicBool::new(false),
            heads: Mutex::default(),
        }
    }

    fn set(&self, doing: Doing) {
        self.doing.store(coarse_ms() << 2 | doing as u64, Ordering::Relaxed);
    }

    fn doing(&self) -> (Doing, Duration) {
        let word = self.doing.load(Ordering::Relaxed);
        let doing = match word & 3 {
            0 => Doing::Idle,
            1 => Doing::Head,
            2 => Doing::Body,
            _ => Doing::Answer,
        };
        (doing, Duration::from_millis(coarse_ms().saturating_sub(word >> 2)))
    }

    /// The bytes of the head that is being read.
    pub fn heads(&self) -> MutexGuard<'_, Heads> {
        self.heads.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A request's body is being read.
    pub fn body_begins(&self) {
        self.set(Doing::Body);
    }

    /// The server is working on the answer; the client owes nothing.
    pub fn answer_begins(&self) {
        self.set(Doing::Answer);
    }

    /// The answer is handed to the connection; the next request may come.
    pub fn answered(&self) {
        self.set(Doing::Idle);
    }

    /// Whether the body's deadline has passed.
    pub fn expired(&self) -> bool {
        self.expired.load(Ordering::Relaxed)
    }
}

/// A socket that shows the bytes it reads to [`Heads`].
struct Watched {
    stream: TcpStream,
    conn: Arc<Conn>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        let new = &buf.filled()[before..];
        if !new.is_empty() {
            let mut heads = self.conn.heads();
            heads.read(new);
            if heads.inside() && self.conn.doing.load(Ordering::Relaxed) & 3 == Doing::Idle as u64 {
                drop(heads);
                self.conn.set(Doing::Head);
            }
        }
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Answers the requests of one connection.
pub trait Answer: Clone + Send + 'static {
    /// One request. The future is polled by the connection's own task.
    fn answer(
        self,
        conn: Arc<Conn>,
        peer: SocketAddr,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;
}

/// Serves a connection until it ends, a deadline passes, or the server drains.
pub async fn serve<A: Answer>(
    stream: TcpStream,
    peer: SocketAddr,
    answer: A,
    deadlines: Deadlines,
    mut draining: watch::Receiver<bool>,
) {
    let conn = Arc::new(Conn::new());
    let watched = Watched { stream, conn: conn.clone() };
    let shared = conn.clone();
    let service = service_fn(move |request| {
        let (answer, conn) = (answer.clone(), shared.clone());
        async move { Ok::<_, Infallible>(answer.answer(conn, peer, request).await) }
    });
    let mut http = pin!(
        // pipeline_flush stays off: with it hyper 1.12 drops the last answer of a connection that it closes while
        // unread bytes are left, which is what a refused request often leaves.
        http1::Builder::new()
            .max_header_size(HEAD_MAX)
            .max_buf_size(BUFFER_MAX)
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(watched), service)
    );
    let flag = draining.clone();
    let mut drain = pin!(drained(&mut draining));
    let mut timer = pin!(tokio::time::sleep(deadlines.tick()));
    let (mut told, mut armed) = (false, false);
    poll_fn(|cx| {
        if !armed {
            // Both keep this task's waker from here on: it is not changed, and looking at them costs a load.
            armed = true;
            let _ = drain.as_mut().poll(cx);
            let _ = timer.as_mut().poll(cx);
        }
        if timer.is_elapsed() {
            let (doing, since) = conn.doing();
            let late = match doing {
                Doing::Head => since > deadlines.header,
                Doing::Idle => since > deadlines.idle,
                Doing::Body => {
                    if since > deadlines.body {
                        conn.expired.store(true, Ordering::Relaxed);
                    }
                    // The request answers 408 itself; a client that then does not read loses the connection.
                    since > deadlines.body * 2
                }
                Doing::Answer => false,
            };
            if late {
                return Poll::Ready(());
            }
            timer.as_mut().reset(tokio::time::Instant::now() + deadlines.tick());
            let _ = timer.as_mut().poll(cx);
        }
        // However it ended, it has ended; what the client did wrong was answered before.
        let polled = http.as_mut().poll(cx).map(|_| ());
        if polled.is_pending()
            && !told
            && conn.doing.load(Ordering::Relaxed) & 3 == Doing::Idle as u64
            && *flag.borrow()
        {
            // Between two requests: an idle connection was woken by the drain, a busy one has just answered.
            told = true;
            http.as_mut().graceful_shutdown();
            return http.as_mut().poll(cx).map(|_| ());
        }
        polled
    })
    .await;
}
