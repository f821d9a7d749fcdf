//! What is broken on purpose.
//!
//! - [`fuzz`]: decoders against any bytes.

pub mod fuzz;
