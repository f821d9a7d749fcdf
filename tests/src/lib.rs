//! What is broken on purpose.
//!
//! - [`fuzz`]: decoders against any bytes.
//! - [`manners`]: the house rules, checked on the tree.
//! - [`rt`]: the deterministic runtime under the simulator.

pub mod fuzz;
pub mod manners;
pub mod rt;
