//! The whole product as processes: what a user, an operator, a failing disk and an outsider's tool meet.
//!
//! Each test owns its data directory and its port and ends by itself. A test that needs something this machine
//! lacks says SKIPPED with the reason on standard error; it has then shown nothing.

mod bins;
mod http;
mod load;
mod lossy;
mod moto;
mod node;
mod pcs;
mod ports;
mod tools;
mod trio;

mod auditor;
mod bodies;
mod browser;
mod calendars;
mod certificates;
mod clients;
mod containers;
mod copies;
mod cosigners;
mod direct;
mod directories;
mod disk_faults;
mod divergence;
mod drills;
mod framing;
mod full_disk;
mod group;
mod hostile;
mod https;
mod kills;
mod log_on_lossy;
mod logkeys;
mod lossyfs_itself;
mod lost;
mod outsiders;
mod places;
mod readmit;
mod reconcile;
mod region_runbooks;
mod regions;
mod regions2;
mod rot;
mod rotation;
mod runbooks;
mod scrub;
mod seed;
mod slow_disk;
mod snapshot;
mod stamps;
mod times;
mod withheld;
mod witness;
