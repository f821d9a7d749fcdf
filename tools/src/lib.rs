//! What is checked: the commands of operators and clients (`flk`) and of auditors (`worm`).
//!
//! Every command is a function from its arguments to a [`report::Report`] or a [`report::Fault`]; printing is
//! separate. Nothing here can write to a log that is there: of the segment log only the read side is used, but for
//! `snapshot`, which makes new ones that repeat another.

pub mod agent;
pub mod anchors;
pub mod audit;
pub mod bench;
pub mod blocks;
pub mod cli;
pub mod cluster;
pub mod divergence;
pub mod doctor;
pub mod drill;
pub mod http;
pub mod keygen;
pub mod keys;
pub mod logkeys;
pub mod object;
pub mod pack;
pub mod page;
pub mod receipt;
pub mod reconcile;
pub mod region;
pub mod replay;
pub mod report;
pub mod sign;
pub mod snapshot;
pub mod stamp;
pub mod submit;
pub mod ui;
#[cfg(test)]
mod world;
pub mod worm;
