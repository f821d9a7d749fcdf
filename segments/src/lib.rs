//! What is written: one log, append-only, in segments of fixed size, behind one port to the disk.
//!
//! Invariants, each with its module:
//! - S1 durable (`log`): what a completed sync covered survives any crash.
//! - S2 prefix (`recover`, `open`): after a crash the log is a prefix of what was appended.
//! - S3 once failed, stays failed (`log`): after a failed write or sync nothing is accepted until reopened.
//! - S4 sealed is committed (`rotate`): a segment is sealed when nothing in it can be voided any more.
//! - S5 sealed is final (`segment`): a sealed segment's bytes never change.
//! - S6 chained (`batch`): every batch carries its place and the digest of all before it.
//!
//! The tour: a [`Frame`] goes into a batch (`batch`), a batch into a segment (`segment`), and the `manifest` says
//! which segments exist. [`Log`] appends; `rotate` goes from one segment to the next; `open` finds after a crash
//! what survived, by the table in `recover`; `repair` makes a segment again with what other nodes hold; `read` finds an
//! entry again. `walk` is the one reader of the format.
//! [`Disk`] is the port to the machine: [`UringDisk`], [`PosixDisk`], and a simulated one in the tests.

mod batch;
mod buffer;
mod bytes;
mod check;
mod choose;
pub mod copy;
mod damage;
mod disk;
mod error;
mod files;
mod frame;
mod fuzz;
mod index;
mod log;
mod manifest;
mod open;
mod place;
mod posix;
mod read;
mod recover;
mod repair;
mod rotate;
pub mod runs;
mod scan;
pub mod seed;
mod segment;
pub mod shipment;
mod source;
mod standing;
mod stats;
mod steps;
mod uring;
mod walk;

pub use batch::{BATCH_HEADER, BATCH_MAX};
pub use buffer::BlockBuf;
pub use check::{
    CheckError, Checked, check_copy, check_sealed, check_sealed_bytes, check_sealed_paced, check_sealed_with,
};
pub use choose::{AnyDisk, Backend, Prefer};
pub use damage::Damage;
pub use disk::{Completion, Counters, Disk, FileId, Map, Slot};
pub use error::{LogError, OpenError};
pub use files::{DirLock, create_dir_synced};
pub use frame::{FRAME_HEADER, Frame, Kind, PAYLOAD_MAX};
pub use fuzz::{block_seeds, fuzz_block, fuzz_segment, segment_seeds};
pub use log::{Log, Ticket};
pub use manifest::{MANIFEST, Manifest};
pub use open::{Options, Recovery, Refused, SEGMENT_SIZE_MAX, SPARE, Torn};
pub use place::{Identity, Owner};
pub use posix::PosixDisk;
pub use read::Prefix;
pub use repair::{Fill, Gap, Known, Mended, Repair, RepairError, glean};
pub use rotate::Room;
pub use scan::{Scan, ScanError, Scanned};
pub use segment::{FORMAT_VERSION, Footer, SegmentHeader, segment_name, segment_number};
pub use stats::{SYNC_BUCKETS, Stats};
pub use steps::write_out;
pub use uring::UringDisk;
