//! What is broken on purpose.
//!
//! - [`fuzz`]: decoders against any bytes.
//! - [`manners`]: the house rules, checked on the tree.
//! - [`rt`]: the deterministic runtime under the simulator.
//! - [`table`]: the contract of the index's table, for each that keeps it.
//! - [`disk`]: a disk that loses what was not synced.
//! - [`sim`]: the simulator; [`checkers`]: what it holds every history against.

pub mod checkers;
pub mod disk;
pub mod fuzz;
pub mod manners;
pub mod rt;
pub mod sim;
pub mod table;
