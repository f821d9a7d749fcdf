//! The queue in front of the log thread: many senders, one receiver, bounded in items and bytes (L1).
//!
//! Both sides wait through [`std::task::Waker`]s, so the receiver may be a thread that parks or a
//! task of a simulated runtime, and nothing here knows which.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard};
use std::task::{Poll, Waker};

/// What a mailbox may hold before senders have to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
}

/// The receiver is gone; nothing sent from now on is read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

pub(crate) struct Mailbox<T> {
    bound: Bound,
    inner: Mutex<Inner<T>>,
}

struct Inner<T> {
    queue: VecDeque<T>,
    bytes: usize,
    closed: bool,
    receiver: Option<Waker>,
    senders: Vec<Waker>,
}

impl<T> Mailbox<T> {
    pub(crate) fn new(bound: Bound) -> Mailbox<T> {
        let inner =
            Inner { queue: VecDeque::new(), bytes: 0, closed: false, receiver: None, senders: Vec::new() };
        Mailbox { bound, inner: Mutex::new(inner) }
    }

    /// Put `item` at the end, waiting while the mailbox is full. An item larger than the whole
    /// bound passes alone.
    pub(crate) async fn send(&self, item: T, bytes: usize) -> Result<(), Closed> {
        let mut item = Some(item);
        poll_fn(|cx| {
            let mut inner = self.lock();
            if inner.closed {
                return Poll::Ready(Err(Closed));
            }
            let full = inner.queue.len() >= self.bound.items || inner.bytes + bytes > self.bound.bytes;
            if full && !inner.queue.is_empty() {
                inner.senders.push(cx.waker().clone());
                return Poll::Pending;
            }
            inner.bytes += bytes;
            inner.queue.push_back(item.take().expect("polled after it was ready"));
            let receiver = inner.receiver.take();
            drop(inner);
            if let Some(receiver) = receiver {
                receiver.wake();
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Move everything that is queued to the end of `into` and let waiting senders in.
    pub(crate) fn drain(&self, into: &mut VecDeque<T>) {
        let mut inner = self.lock();
        into.append(&mut inner.queue);
        inner.bytes = 0;
        let senders = std::mem::take(&mut inner.senders);
        drop(inner);
        senders.into_iter().for_each(Waker::wake);
    }

    /// Wait until something is queued (`true`) or the mailbox is closed and empty (`false`).
    pub(crate) async fn ready(&self) -> bool {
        poll_fn(|cx| {
            let mut inner = self.lock();
            if !inner.queue.is_empty() {
                return Poll::Ready(true);
            }
            if inner.closed {
                return Poll::Ready(false);
            }
            inner.receiver = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Is everything refused?
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Is nothing queued right now?
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().queue.is_empty()
    }

    /// Refuse everything from now on. What is queued already can still be drained.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        let receiver = inner.receiver.take();
        let senders = std::mem::take(&mut inner.senders);
        drop(inner);
        receiver.into_iter().chain(senders).for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // Nothing inside the lock can panic half way through a change.
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn senders_wait_for_room_in_items_and_in_bytes() {
        for (bound, sizes) in
            [(Bound { items: 2, bytes: 100 }, [1, 1]), (Bound { items: 9, bytes: 10 }, [6, 4])]
        {
            let mailbox = Mailbox::new(bound);
            for size in sizes {
                assert_eq!(poll(&mut pin!(mailbox.send(size, size))), Poll::Ready(Ok(())));
            }
            let mut third = pin!(mailbox.send(3, 1));
            assert_eq!(poll(&mut third), Poll::Pending);
            let mut taken = VecDeque::new();
            mailbox.drain(&mut taken);
            assert_eq!(taken, sizes);
            assert_eq!(poll(&mut third), Poll::Ready(Ok(())));
        }
    }

    #[test]
    fn an_item_larger_than_the_bound_passes_alone() {
        let mailbox = Mailbox::new(Bound { items: 9, bytes: 10 });
        assert_eq!(poll(&mut pin!(mailbox.send((), 1000))), Poll::Ready(Ok(())));
        assert_eq!(poll(&mut pin!(mailbox.send((), 1))), Poll::Pending);
    }

    #[test]
    fn a_closed_mailbox_refuses_and_still_gives_out_what_it_holds() {
        let mailbox = Mailbox::new(Bound { items: 9, bytes: 10 });
        assert_eq!(poll(&mut pin!(mailbox.ready())), Poll::Pending);
        assert_eq!(poll(&mut pin!(mailbox.send(7, 1))), Poll::Ready(Ok(())));
        mailbox.close();
        assert_eq!(poll(&mut pin!(mailbox.send(8, 1))), Poll::Ready(Err(Closed)));
        assert_eq!(poll(&mut pin!(mailbox.ready())), Poll::Ready(true));
        let mut taken = VecDeque::new();
        mailbox.drain(&mut taken);
        assert_eq!(taken, [7]);
        assert_eq!(poll(&mut pin!(mailbox.ready())), Poll::Ready(false));
    }
}
