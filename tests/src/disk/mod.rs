//! A disk that knows the difference between written and durable, and fails on command.
//!
//! A [`Device`] outlives processes; a [`SimDisk`] is one process's hold on it. What a process wrote and
//! did not sync survives a [`Device::kill`] and is at the mercy of a [`Device::power_loss`], sector by
//! sector. Everything random comes from the device's own seeded generator.

mod device;
mod faults;
mod fork;
mod process;

pub use device::Device;
pub use faults::{AfterFailure, Death, Faults, Point, SECTOR, Sloppy, Suffered};
pub use fork::Loss;
pub use process::SimDisk;
