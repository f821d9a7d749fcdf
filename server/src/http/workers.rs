//! The threads that serve connections, each with a runtime of its own.
//!
//! A connection stays with the thread that it was given to. So no thread wakes another one to share its work, and what
//! orders and folds, on the main runtime, never waits in line behind hundreds of connections that have something to do.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// L1: most files that one thread's requests read at the same time.
const FILES_MAX: usize = 64;

/// The threads. They end, with what they serve, when the last clone is dropped.
#[derive(Clone)]
pub struct Workers(Arc<[Worker]>);

struct Worker {
    runtime: Handle,
    /// Connections it has.
    connections: Arc<AtomicUsize>,
    /// Dropped with the worker, which ends the thread.
    _end: oneshot::Sender<()>,
}

impl Workers {
    /// Starts `threads` threads. With one alone there is none: the main runtime serves all, and every step of an answer is
    /// one of its tasks.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn start(threads: usize) -> io::Result<Workers> {
        let start = |_| {
            let runtime =
                Builder::new_current_thread().max_blocking_threads(FILES_MAX).enable_all().build()?;
            let (end, ended) = oneshot::channel();
            let handle = runtime.handle().clone();
            let serve = move || {
                let _ = runtime.block_on(ended);
                // Who reads a file for a client that is gone now is not waited for.
                runtime.shutdown_background();
            };
            std::thread::Builder::new().name("flk-http".into()).spawn(serve)?;
            Ok(Worker { runtime: handle, connections: Arc::default(), _end: end })
        };
        let threads = if threads == 1 { 0 } else { threads };
        (0..threads).map(start).collect::<io::Result<_>>().map(Workers)
    }

    /// Serves a connection on the thread that has the fewest.
    pub fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let Some(worker) = self.0.iter().min_by_key(|worker| worker.connections.load(Ordering::Relaxed))
        else {
            tokio::spawn(connection);
            return;
        };
        let one = One::of(&worker.connections);
        worker.runtime.spawn(async move {
            connection.await;
            drop(one);
        });
    }
}

/// Counts one connection until it is dropped.
struct One(Arc<AtomicUsize>);

impl One {
    fn of(connections: &Arc<AtomicUsize>) -> One {
        connections.fetch_add(1, Ordering::Relaxed);
        One(connections.clone())
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::{self, ThreadId};

    async fn place(workers: &Workers, wait: oneshot::Receiver<()>) -> ThreadId {
        let (told, place) = oneshot::channel();
        workers.spawn(async move {
            let _ = told.send(thread::current().id());
            let _ = wait.await;
        });
        place.await.unwrap()
    }

    #[tokio::test]
    async fn connections_go_where_there_are_fewest_and_stay() {
        let workers = Workers::start(3).unwrap();
        let mut open = Vec::new();
        for _ in 0..6 {
            let (end, wait) = oneshot::channel();
            open.push((place(&workers, wait).await, end));
        }
        let on = |id| open.iter().filter(|(other, _)| *other == id).count();
        assert!(open.iter().all(|(id, _)| on(*id) == 2 && *id != thread::current().id()));
    }

    #[tokio::test]
    async fn one_thread_is_the_main_one() {
        let workers = Workers::start(1).unwrap();
        let (_end, wait) = oneshot::channel();
        assert_eq!(place(&workers, wait).await, thread::current().id());
    }

    #[tokio::test]
    async fn without_the_workers_their_connections_end() {
        let workers = Workers::start(2).unwrap();
        let (held, gone) = oneshot::channel::<()>();
        workers.spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        drop(workers);
        assert!(gone.await.is_err());
    }
}
