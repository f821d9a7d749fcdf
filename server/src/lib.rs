//! What is asked: admission, the HTTP surface, and the fold that answers it.
//!
//! The path of one submission, in the order of the modules: [`http`] reads at most the limit and parses
//! nothing; [`door`] admits, stamps and queues; [`proposer`] hands batches to the log; while the log writes
//! and syncs, [`verdicts`] judges each submission alone; [`fold`] applies committed records in order and tells
//! the requests that wait. Nothing is answered before its record is durable and agreed (I6).

pub mod anchor;
pub mod answers;
pub mod background;
pub mod checkup;
pub mod clock;
pub mod config;
mod confirm;
pub mod cosign;
pub mod decision;
pub mod disk;
pub mod door;
mod first;
pub mod fold;
mod group_time;
pub mod http;
pub mod identity;
pub mod index;
pub mod keys;
mod lead;
pub mod logkeys;
pub mod metrics;
pub mod mtls;
pub mod node;
pub mod outbound;
pub mod peers;
pub mod projections;
pub mod proposer;
pub mod queue;
pub mod quota;
pub mod receipts;
pub mod scrub;
pub mod seed;
pub mod serve;
pub mod ship;
mod start;
pub mod survivor;
mod tally;
pub mod tenants;
pub mod verdicts;
