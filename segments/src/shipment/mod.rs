//! The objects in which a region's log lies at a place that other regions read: ranges ([`chunk`]), and what the region says
//! of each ([`bill`]); [`known`] is about which records may be in them. Here stand their bytes; where they go and come from is for others to say.

pub mod bill;
pub mod chunk;
pub mod keys;
pub mod known;
