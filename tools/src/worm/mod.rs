//! The auditor's commands: everything they say follows from the bytes of a log and public keys.

pub mod check;
pub mod compare;
pub mod export;
pub mod find;
pub mod lines;
pub mod prove;
pub mod roots;
pub mod tamper;
pub mod tree;
pub mod verify;
