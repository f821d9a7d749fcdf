//! What is broken on purpose.
//!
//! - [`fuzz`]: decoders against any bytes.
//! - [`manners`]: the house rules, checked on the tree.
//! - [`rt`]: the deterministic runtime under the simulator.
//! - [`table`]: the contract of the index's table, for each that keeps it; [`disk_contract`]: that of the log's disk.
//! - [`disk`]: a disk that loses what was not synced; [`crash`]: the segment log on it, stopped everywhere.
//! - [`regions`]: regions that import each other's logs, in any order.
//! - [`geo`]: the same in the simulator, with the production shipping between them.
//! - [`sim`]: the simulator; [`checkers`]: what it holds every history against.

pub mod checkers;
pub mod crash;
pub mod disk;
pub mod disk_contract;
pub mod fuzz;
pub mod geo;
pub mod manners;
pub mod regions;
#[cfg(test)]
mod repair;
pub mod rt;
pub mod sim;
pub mod table;
pub mod trio;
