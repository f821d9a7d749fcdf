//! `flk agent`: turns a stream of events into signed summaries and sees each of them answered.

pub mod events;
pub mod measure;
pub mod outbox;
pub mod send;
pub mod window;
