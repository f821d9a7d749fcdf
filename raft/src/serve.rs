//! The other end of a [`Transport`](crate::Transport): what a node does with its peers' requests.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use openraft::raft::TransferLeaderRequest;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};

use crate::error::ReadError;
use crate::group::Group;
use crate::message::{Answer, Append, Appended, Ballot, Request};
use crate::types::{Runtime, Types};

impl<R: Runtime> Group<R> {
    /// Answers a peer's request. `from` is the node that the transport knows to be speaking; what it says
    /// in another's name is refused.
    pub async fn serve(&self, from: u64, request: &[u8]) -> Vec<u8> {
        let answer = match Request::decode(request) {
            Err(error) => Answer::Refused(format!("a message that cannot be read: {error}")),
            Ok(request) if request.speaker().is_some_and(|speaker| speaker != from) => {
                Answer::Refused(format!("node {from} speaks in the name of another"))
            }
            Ok(request) => self.act(from, request).await,
        };
        answer.encode()
    }

    async fn act(&self, from: u64, request: Request) -> Answer {
        let raft = &self.raft;
        match request {
            Request::Append(Append { place, vote, previous, committed, entries }) => {
                let last = entries.last().map(|entry| entry.log_id).or(previous);
                let request =
                    AppendEntriesRequest { vote, prev_log_id: previous, entries, leader_commit: committed };
                if let Some(place) = place {
                    self.turns.wait::<R>(from, place).await;
                }
                let mut answer = pin!(raft.append_entries(request));
                // Its first poll hands the request to Raft, whose answer comes with the sync.
                let first = poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx))).await;
                if let Some(place) = place {
                    self.turns.done(from, place);
                }
                let answer = match first {
                    Poll::Ready(answer) => answer,
                    Poll::Pending => answer.await,
                };
                match answer {
                    Ok(AppendEntriesResponse::Success) => Answer::Appended(Appended::Upto(last)),
                    Ok(AppendEntriesResponse::PartialSuccess(upto)) => Answer::Appended(Appended::Upto(upto)),
                    Ok(AppendEntriesResponse::Conflict) => match previous {
                        Some(at) => Answer::Appended(Appended::Conflict(at)),
                        None => Answer::Refused("a conflict before the first entry".into()),
                    },
                    Ok(AppendEntriesResponse::HigherVote(vote)) => {
                        Answer::Appended(Appended::HigherVote(vote))
                    }
                    Err(error) => Answer::Refused(error.to_string()),
                }
            }
            Request::Vote(ballot) => voted(raft.vote(asked::<R>(ballot)).await),
            Request::PreVote(ballot) => voted(raft.pre_vote(asked::<R>(ballot)).await),
            Request::TakeOver { .. } if self.stands_back() => Answer::TakeOver { accepted: false },
            Request::MayLead => Answer::TakeOver { accepted: !self.stands_back() },
            Request::TakeOver { from, to, last } => {
                match raft.handle_transfer_leader(TransferLeaderRequest::new(from, to, last)).await {
                    Ok(result) => Answer::TakeOver { accepted: result.is_ok() },
                    Err(fatal) => Answer::Refused(fatal.to_string()),
                }
            }
            Request::Fetch { from, to } => self.give(from, to).await,
            Request::ReadIndex => match self.read_index_here().await {
                Ok(lsn) => Answer::ReadIndex(Ok(lsn)),
                Err(ReadError::NotLeader { leader }) => Answer::ReadIndex(Err(leader)),
                Err(ReadError::Stopped) => Answer::Refused(ReadError::Stopped.to_string()),
            },
        }
    }
}

fn asked<R: Runtime>(ballot: Ballot) -> VoteRequest<Types<R>> {
    let mut request = VoteRequest::new(ballot.vote, ballot.last);
    request.leadership_transfer = ballot.told;
    request
}

fn voted<R: Runtime, E: ToString>(result: Result<VoteResponse<Types<R>>, E>) -> Answer {
    match result {
        Ok(VoteResponse { vote, vote_granted, last_log_id }) => {
            Answer::Voted { vote, granted: vote_granted, last: last_log_id }
        }
        Err(error) => Answer::Refused(error.to_string()),
    }
}
