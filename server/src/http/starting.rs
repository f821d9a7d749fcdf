//! What is answered before the node is open: that it is alive, and what it waits for.
//!
//! A start can take long: a log to be read again, files to be fetched from a member, rot to be repaired from nodes that are away. Who watches over
//! processes must not take that for a dead one, and who is woken by it sees the reason where he looks first.

use super::connection::{Answer, Conn, Deadlines};
use super::refusal::{Problem, Refusal};
use super::reply::{Reply, TEXT};
use super::workers::Workers;
use super::{Caps, Slots, Terms, gate, run};
use crate::config::Config;
use crate::node::StartError;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long an answer that is under way may hold up the node's own listener.
const PATIENCE: Duration = Duration::from_millis(250);

/// What a node that is not open yet does at the moment, for people.
#[derive(Clone, Default)]
pub struct Stage(pub Arc<watch::Sender<String>>);

impl Stage {
    /// From now on it does this.
    pub fn say(&self, what: impl Into<String>) {
        self.0.send_replace(what.into());
    }

    pub(crate) fn said(&self) -> String {
        self.0.borrow().clone()
    }
}

/// The node's address, and who answers there until the node does.
pub struct Front {
    /// Where it listens.
    pub address: SocketAddr,
    /// What is said to those who ask.
    pub stage: Stage,
    /// Who serves connections, before and after.
    pub workers: Workers,
    listener: std::net::TcpListener,
    ended: watch::Sender<bool>,
    task: JoinHandle<usize>,
}

impl Front {
    /// Binds the configured address and begins to answer.
    ///
    /// # Errors
    /// [`StartError::Listen`] when the address cannot be had.
    pub async fn open(config: &Config) -> Result<Front, StartError> {
        let address = config.listen();
        let failed = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.and_then(TcpListener::into_std).map_err(failed)?;
        make_room(&listener, config.max_connections).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let ours = listener.try_clone().and_then(TcpListener::from_std).map_err(failed)?;
        let (stage, (ended, end)) = (Stage::default(), watch::channel(false));
        let workers = Workers::start(config.worker_count()).map_err(StartError::Thread)?;
        let terms = terms(config, workers.clone());
        let task = tokio::spawn(run(ours, Opening(stage.clone()), terms, Slots::default(), end, PATIENCE));
        Ok(Front { address: bound, stage, workers, listener, ended, task })
    }

    /// Answers no more; the listener, which has refused nobody meanwhile.
    ///
    /// # Errors
    /// [`StartError::Listen`] when the runtime cannot watch it.
    pub async fn give_way(self) -> Result<TcpListener, StartError> {
        let _ = self.ended.send(true);
        let _ = self.task.await;
        let address = self.address;
        TcpListener::from_std(self.listener).map_err(|source| StartError::Listen { address, source })
    }
}

/// Lets so many connections wait until they are accepted. A listener has room for 128 by itself; whoever comes after them
/// is not heard, and tries again only after a second.
fn make_room(listener: &std::net::TcpListener, connections: usize) -> io::Result<()> {
    let backlog = libc::c_int::try_from(connections).unwrap_or(libc::c_int::MAX);
    // SAFETY: a plain system call on a descriptor that `listener` keeps open; no memory is passed.
    let done = unsafe { libc::listen(listener.as_raw_fd(), backlog) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How connections are served, as configured.
pub(crate) fn terms(config: &Config, workers: Workers) -> Terms {
    let caps = Caps { all: config.max_connections, per_ip: config.max_connections_per_ip };
    let deadlines =
        Deadlines { header: config.header_timeout, body: config.body_timeout, idle: config.idle_timeout };
    Terms { workers, caps, deadlines }
}

#[derive(Clone)]
struct Opening(Stage);

impl Answer for Opening {
    async fn answer(
        self,
        conn: Arc<Conn>,
        _peer: SocketAddr,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let reply = match (gate(&conn, &request), request.uri().path()) {
            (Err(ambiguity), _) => Problem::from(Refusal::BadFraming).detail(ambiguity.detail()).into(),
            (Ok(_), "/livez") => Reply::new(200, TEXT, "ok\n"),
            (Ok(_), "/readyz") => Reply::new(503, TEXT, format!("[-] start: {}\n", self.0.said())),
            (Ok(_), _) => {
                let detail = format!("this node is starting: {}", self.0.said());
                Problem::from(Refusal::LogUnavailable).detail(detail).retry_after(1).into()
            }
        };
        let mut response = reply.response();
        // The next request may meet the node itself; and no body is read here.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        conn.answered();
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn many_may_come_at_once() {
        const MANY: usize = 400;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        make_room(&listener, MANY).unwrap();
        let address = listener.local_addr().unwrap();
        // Nobody accepts: without room for all of them the last ones would not be heard, however long they tried.
        let come = |_| TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
        assert_eq!((0..MANY).map(come).collect::<Vec<_>>().len(), MANY);
    }
}
