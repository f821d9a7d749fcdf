//! What is agreed: one Raft group over the segment log.
//!
//! Raft's log IS the segment log: one entry is one record, one frame, one [`engine::log::Lsn`], and a
//! group commit is one write and one sync. openraft does the agreeing and none of its types leave this
//! crate.
//!
//! Read in this order: `batch` (what is proposed), `machine` (what it is applied to), `group` (what
//! holds them together), `log_actor` (the one writer of the log), `log_store` (Raft's view of it),
//! `transport` and `message` (what goes between nodes), `members` (who they are).

mod batch;
mod codec;
mod error;
mod group;
mod log_actor;
mod log_store;
mod machine;
mod mailbox;
mod members;
mod message;
mod metrics;
mod network;
mod pending;
mod progress;
mod reads;
mod repair;
mod room;
mod serve;
mod settings;
mod state_machine;
mod survivor;
mod transport;
mod turns;
mod types;

pub use batch::{Batch, Local, weight, weight_of_item};
pub use codec::member_in;
pub use error::{Failure, MembersError, OpenError, ProposeError, ReadError};
pub use group::{Group, GroupConfig};
pub use log_actor::LogActor;
pub use machine::{Machine, Standing};
pub use members::MemberStanding;
pub use message::MESSAGE_MAX;
pub use metrics::{ALONE_AFTER, Metrics, Role, SYNC_EDGES_US, SyncHistogram};
pub use pending::Pending;
pub use repair::{InRepair, Repairs, Rot};
pub use survivor::{Survived, survive};
pub use transport::{Alone, Peer, Transport, Unreached};
pub use types::{Member, Runtime, Tokio};

#[cfg(test)]
mod suite;
