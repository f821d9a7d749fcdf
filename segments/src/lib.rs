//! What is written: one log, append-only, in segments of fixed size, behind one port to the disk.

mod batch;
mod buffer;
mod bytes;
mod damage;
mod disk;
mod frame;
mod manifest;
mod place;
pub mod runs;
mod segment;

pub use batch::{BATCH_HEADER, BATCH_MAX};
pub use buffer::BlockBuf;
pub use damage::Damage;
pub use disk::{Completion, Counters, Disk, FileId, Map, Slot};
pub use frame::{FRAME_HEADER, Frame, Kind, PAYLOAD_MAX};
pub use manifest::{MANIFEST, Manifest};
pub use place::Identity;
pub use segment::{FORMAT_VERSION, Footer, SegmentHeader, segment_name, segment_number};
