//! What a node says to others while its own log is being repaired at its start.
//!
//! Raft does not run, and every question but one is refused: what stands before the damage is given to whoever lacks it. It
//! is the log as it once was (see [`Prefix`]), read again and checked for every answer; nothing behind the damage is given,
//! and no more is called committed than the good batches call so. The answer says that it comes from a node in repair.
//!
//! The disk belongs to whoever opens the log: questions wait for it in a short queue, and are refused when that is full, or
//! while a segment is being written (L1).

use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use engine::log::Lsn;
use futures_util::future::{Either, select};
use segments::{Disk, Prefix};
use tokio::sync::{mpsc, oneshot};

use super::votes::nobody;
use crate::codec;
use crate::log_actor::READ_BYTES_MAX;
use crate::message::{Answer, ENTRIES_MAX, Fetched, Request};
use crate::types::{Membership, Vote};

/// Questions that wait, at most: every member asks one at a time.
const QUESTIONS_MAX: usize = 64;

/// What is good of a log that does not open.
pub(crate) struct Good<D: Disk> {
    /// What stands before the damage.
    pub(crate) prefix: Prefix<D>,
    /// The last vote there.
    pub(crate) vote: Option<Vote>,
    /// The newest membership that is known, and where it stands.
    pub(crate) members: Option<(Lsn, Membership)>,
}

/// Somebody wants these positions, first and last.
struct Question {
    from: Lsn,
    to: Lsn,
    done: oneshot::Sender<Answer>,
}

/// See the module. Given to [`Group::open`](crate::Group::open), and asked by the transport until that returns.
#[derive(Debug, Default)]
pub struct InRepair {
    /// To whoever opens the log, while it waits for others.
    questions: Mutex<Option<mpsc::Sender<Question>>>,
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", self.from, self.to)
    }
}

impl InRepair {
    fn questions(&self) -> MutexGuard<'_, Option<mpsc::Sender<Question>>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a peer's request, as [`Group::serve`](crate::Group::serve) does later. Nothing is promised to anybody, so it
    /// does not matter who asks.
    pub async fn serve(&self, request: &[u8]) -> Vec<u8> {
        let answer = match Request::decode(request) {
            Err(error) => Answer::Refused(format!("a message that cannot be read: {error}")),
            Ok(Request::Fetch { from, to }) => self.ask(from, to).await,
            Ok(_) => Answer::Refused("this node is starting and takes no part yet".into()),
        };
        answer.encode()
    }

    async fn ask(&self, from: Lsn, to: Lsn) -> Answer {
        let (done, answer) = oneshot::channel();
        let question = Question { from, to, done };
        // One that is not taken is dropped here, and with it the other end of its answer.
        let taken = self.questions().as_ref().is_some_and(|waiting| waiting.try_send(question).is_ok());
        match answer.await {
            Ok(answer) if taken => answer,
            _ => Answer::Refused("this node is starting and cannot be asked at the moment".into()),
        }
    }

    /// Answers from what is good until `asking` is done.
    pub(super) async fn answer_while<D: Disk, T>(
        &self,
        good: &mut Good<D>,
        asking: impl Future<Output = T>,
    ) -> T {
        let (sender, mut questions) = mpsc::channel(QUESTIONS_MAX);
        *self.questions() = Some(sender);
        let mut asking = pin!(asking);
        let done = loop {
            match select(asking.as_mut(), pin!(questions.recv())).await {
                Either::Left((done, _)) => break done,
                Either::Right((Some(Question { from, to, done }), _)) => {
                    // Whoever asked may have given up.
                    let _ = done.send(good.give(from, to));
                }
                Either::Right((None, _)) => unreachable!("its sender is kept here"),
            }
        };
        *self.questions() = None;
        done
    }
}

impl<D: Disk> Good<D> {
    /// Entries from `from` on, up to `to` or what one message holds.
    fn give(&mut self, from: Lsn, to: Lsn) -> Answer {
        if from == Lsn::ZERO || from > to {
            return Answer::Refused("positions that cannot be".into());
        }
        let committed = self.prefix.committed();
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let read = self.prefix.read(from, &mut |frame| {
            let fits = bytes == 0 || bytes + frame.payload.len() <= READ_BYTES_MAX;
            if frame.lsn > to || entries.len() == ENTRIES_MAX || !fits {
                return false;
            }
            bytes += frame.payload.len();
            entries.push((frame.lsn, frame.term, frame.payload.to_vec()));
            true
        });
        if let Err(error) = read {
            return Answer::Refused(error.to_string());
        }
        let (members_at, members) = match &self.members {
            Some((at, membership)) => (*at, codec::encode_membership(membership)),
            None => (Lsn::ZERO, Vec::new()),
        };
        let vote = self.vote.unwrap_or_else(|| nobody(0));
        Answer::Fetched(Fetched { in_repair: true, vote, committed, members_at, members, entries })
    }
}
