//! What is broken on purpose.
//!
//! - [`fuzz`]: decoders against any bytes.
//! - [`manners`]: the house rules, checked on the tree.
//! - [`rt`]: the deterministic runtime under the simulator.
//! - [`table`]: the contract of the index's table, for each that keeps it.

pub mod fuzz;
pub mod manners;
pub mod rt;
pub mod table;
