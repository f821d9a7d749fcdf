//! What is broken on purpose.
//!
//! - [`fuzz`]: decoders against any bytes.
//! - [`manners`]: the house rules, checked on the tree.

pub mod fuzz;
pub mod manners;
