//! What is true.
//!
//! Bytes become an [`event::Event`]; [`summary`] says what one submission means judged alone;
//! [`ledger::Ledger`] says what all of them add up to, in the order of the log. Nothing here touches a
//! disk, a socket, a clock, a thread or a random number, and `no_std` is how the compiler holds us to it:
//! equal logs give equal bytes on any machine.
//!
//! - [`limits`]: every bound that nodes, regions and auditors share.
//! - [`log`], [`ids`], [`event`]: the words of the log and their pinned encoding.
//! - [`tree`]: the RFC 6962 tree over the audit leaves, its proofs and its tiles.
//! - [`checkpoint`]: signed tree heads and receipts in the formats of C2SP.
//! - [`ots`]: OpenTimestamps files over checkpoints.
//! - [`summary`]: one submission judged alone. [`ledger`]: all of them, in order. [`leaf`]: what the audit log
//!   says of each.
//! - [`lanes`]: SHA-256 of many messages at once.
//! - [`codec`]: the byte reader all decoders here share.
#![no_std]
extern crate alloc;

pub mod checkpoint;
pub mod codec;
pub mod event;
pub mod ids;
pub mod lanes;
pub mod leaf;
pub mod ledger;
pub mod limits;
pub mod log;
pub mod ots;
pub mod summary;
pub mod tree;
