//! Virtual time: sleeping, deadlines, instants.

use std::cmp::Reverse;
use std::fmt;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{EXECUTOR, now, with};

/// Wait for `nanos` of virtual time.
pub fn sleep(nanos: u64) -> Sleep {
    Sleep::until(now().saturating_add(nanos))
}

/// `future`, or an error after `nanos` of virtual time.
pub fn timeout<F: Future>(nanos: u64, future: F) -> Timeout<F> {
    Timeout { future: Box::pin(future), sleep: sleep(nanos) }
}

/// Resolves at one moment of virtual time.
pub struct Sleep {
    at: u64,
    timer: Option<u64>,
}

impl Sleep {
    /// Resolves at `at` nanoseconds.
    pub fn until(at: u64) -> Sleep {
        Sleep { at, timer: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        with(|executor| {
            if executor.now >= self.at {
                return Poll::Ready(());
            }
            let at = self.at;
            let timer = *self.timer.get_or_insert_with(|| {
                let timer = executor.next_timer;
                executor.next_timer += 1;
                executor.timers.push(Reverse((at, timer)));
                timer
            });
            executor.sleepers.insert(timer, cx.waker().clone());
            Poll::Pending
        })
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let Some(timer) = self.timer else { return };
        // At the end of the thread the executor may be gone or busy dropping this very task.
        let _ =
            EXECUTOR.try_with(|executor| executor.try_borrow_mut().map(|mut e| e.sleepers.remove(&timer)));
    }
}

/// See [`timeout`].
pub struct Timeout<F: Future> {
    future: Pin<Box<F>>,
    sleep: Sleep,
}

impl<F: Future> Timeout<F> {
    /// `future`, or an error at `at` nanoseconds.
    pub fn until(at: u64, future: F) -> Timeout<F> {
        Timeout { future: Box::pin(future), sleep: Sleep::until(at) }
    }
}

/// The deadline passed.
#[derive(Debug)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the deadline passed")
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(value) = self.future.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        Pin::new(&mut self.sleep).poll(cx).map(|()| Err(Elapsed))
    }
}

/// A moment of virtual time, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SimInstant(pub u64);

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl openraft_rt::Instant for SimInstant {
    fn now() -> SimInstant {
        SimInstant(now())
    }
}

impl Add<Duration> for SimInstant {
    type Output = SimInstant;
    fn add(self, by: Duration) -> SimInstant {
        SimInstant(self.0.saturating_add(nanos(by)))
    }
}

impl AddAssign<Duration> for SimInstant {
    fn add_assign(&mut self, by: Duration) {
        *self = *self + by;
    }
}

impl Sub<Duration> for SimInstant {
    type Output = SimInstant;
    fn sub(self, by: Duration) -> SimInstant {
        SimInstant(self.0.saturating_sub(nanos(by)))
    }
}

impl SubAssign<Duration> for SimInstant {
    fn sub_assign(&mut self, by: Duration) {
        *self = *self - by;
    }
}

impl Sub for SimInstant {
    type Output = Duration;
    fn sub(self, earlier: SimInstant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
