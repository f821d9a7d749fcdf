//! openraft's runtime trait on the deterministic executor.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use openraft_rt::{AsyncRuntime, OptionalSend};
use openraft_rt_tokio::{TokioMpsc, TokioMutex, TokioOneshot};
use rand::{SeedableRng, rngs::SmallRng};
use tokio::sync::oneshot;

use super::time::{Elapsed, SimInstant, Sleep, Timeout, nanos};
use super::watch::SimWatch;
use super::{current, now, rand as draw, sleep, spawn};

/// The deterministic runtime. Channels and locks are tokio's, which need no tokio runtime and wake in
/// order; its `watch` wakes in no fixed order, so that one is ours.
#[derive(Debug)]
pub struct SimRt;

/// The task was killed, or panicked.
#[derive(Debug)]
pub struct Killed;

impl fmt::Display for Killed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("killed")
    }
}

/// Resolves to what a task returned.
pub struct JoinHandle<T>(oneshot::Receiver<T>);

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, Killed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_err(|_| Killed)
    }
}

impl AsyncRuntime for SimRt {
    type JoinError = Killed;
    type JoinHandle<T: OptionalSend + 'static> = JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = SimInstant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = SmallRng;
    type Mpsc = TokioMpsc;
    type Watch = SimWatch;
    type Oneshot = TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

    fn spawn<T>(future: T) -> JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        let (done, handle) = oneshot::channel();
        // A task belongs to the process that spawned it.
        spawn(current(), async move {
            let _ = done.send(future.await);
        });
        JoinHandle(handle)
    }

    fn sleep(duration: Duration) -> Sleep {
        sleep(nanos(duration))
    }

    fn sleep_until(deadline: SimInstant) -> Sleep {
        Sleep::until(deadline.0)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Timeout<F> {
        Timeout::until(now().saturating_add(nanos(duration)), future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: SimInstant, future: F) -> Timeout<F> {
        Timeout::until(deadline.0, future)
    }

    fn is_panic(_: &Killed) -> bool {
        false
    }

    fn thread_rng() -> SmallRng {
        SmallRng::seed_from_u64(draw())
    }

    fn new(_threads: usize) -> SimRt {
        SimRt
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        let mut future = std::pin::pin!(future);
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return value;
            }
            assert!(super::step(u64::MAX), "the future waits for something that never comes");
        }
    }

    fn spawn_blocking<F, T>(f: F) -> impl Future<Output = Result<T, io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let value = f();
        async move { Ok(value) }
    }
}
