//! A new log that repeats another one: for snapshots and what is restored from them. It never touches a log that is there.

use std::fs::File;
use std::io;
use std::path::Path;

use engine::log::Lsn;

use crate::check::{CheckError, check_copy};
use crate::choose::{AnyDisk, Prefer};
use crate::error::{LogError, OpenError};
use crate::files::create_dir_synced;
use crate::frame::Frame;
use crate::log::Log;
use crate::open::Options;
use crate::place::Identity;
use crate::seed;
use crate::segment::{Footer, SegmentHeader, segment_name};

/// Bytes of frames between two syncs.
const SYNC_EVERY: usize = 8 << 20;

/// Why a log could not be repeated.
#[derive(Debug)]
pub enum CopyError {
    /// There is a log, or something else, where the new one should be.
    Taken,
    /// A segment that is repeated as a file is not what was sealed.
    Check(u64, CheckError),
    /// It is whole and not the next one of this log.
    Stranger(u64),
    /// The file system refused.
    Io(io::Error),
    /// The new log cannot be opened.
    Open(OpenError),
    /// The new log does not take a frame.
    Log(LogError),
}

impl std::fmt::Display for CopyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CopyError::Taken => f.write_str("there is something already"),
            CopyError::Check(number, error) => write!(f, "segment {number}: {error}"),
            CopyError::Stranger(number) => write!(f, "segment {number} does not follow the one before it"),
            CopyError::Io(error) => error.fmt(f),
            CopyError::Open(error) => error.fmt(f),
            CopyError::Log(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CopyError {}

impl From<io::Error> for CopyError {
    fn from(error: io::Error) -> CopyError {
        CopyError::Io(error)
    }
}

/// A log that is being written.
pub struct NewLog {
    log: Log<AnyDisk>,
    unsynced: usize,
}

impl NewLog {
    /// Begins a log in a directory that is empty or not there: with copies of the sealed segments 1 to `sealed` of the log
    /// in `from`, or with nothing. `done` hears how many bytes were copied.
    ///
    /// # Errors
    /// [`CopyError`]. What was copied by then is left, and is no log.
    pub fn begin(
        dir: &Path,
        identity: Identity,
        segment_bytes: u64,
        (from, sealed): (&Path, u64),
        done: &mut dyn FnMut(u64),
    ) -> Result<NewLog, CopyError> {
        create_dir_synced(dir)?;
        if std::fs::read_dir(dir)?.next().is_some() {
            return Err(CopyError::Taken);
        }
        let mut last: Option<(SegmentHeader, Footer)> = None;
        for number in 1..=sealed {
            let (source, copy) = (from.join(segment_name(number)), dir.join(segment_name(number)));
            std::fs::copy(source, &copy)?;
            File::open(&copy)?.sync_all()?;
            let checked = check_copy(&copy, number, &mut |_, _| {});
            let checked = checked.map_err(|error| CopyError::Check(number, error))?;
            let good = (checked.header, checked.footer);
            if good.0.identity != identity || !seed::follows(&good.0, last.as_ref()) {
                return Err(CopyError::Stranger(number));
            }
            done(good.0.bytes);
            last = Some(good);
        }
        let (mut disk, _) = AnyDisk::open(dir, Prefer::Posix)?;
        if let Some(last) = &last {
            seed::begin_after(&mut disk, last, segment_bytes).map_err(CopyError::Open)?;
        }
        let options = Options { segment_bytes, ..Options::new(identity) };
        let nothing = |_: &Frame<'_>| Ok::<(), std::convert::Infallible>(());
        let (log, _) = Log::open(disk, &options, nothing).map_err(CopyError::Open)?;
        Ok(NewLog { log, unsynced: 0 })
    }

    /// Repeats a frame: of a log that was begun with copies, one that stood after them.
    ///
    /// # Errors
    /// [`CopyError::Log`].
    pub fn push(&mut self, frame: &Frame<'_>) -> Result<(), CopyError> {
        self.log.append(*frame).map_err(CopyError::Log)?;
        self.unsynced += frame.size();
        if self.unsynced >= SYNC_EVERY {
            self.sync()?;
        }
        Ok(())
    }

    /// Everything up to `committed` counts, and what stands after it is void. Segments may be sealed up to there.
    ///
    /// # Errors
    /// [`CopyError::Log`].
    pub fn commit(&mut self, committed: Lsn) -> Result<(), CopyError> {
        self.sync()?;
        self.log.set_committed(committed);
        // The mark stands in a batch of its own: one after what it speaks about.
        self.log.append(Frame::truncate(committed)).map_err(CopyError::Log)?;
        self.sync()
    }

    fn sync(&mut self) -> Result<(), CopyError> {
        self.unsynced = 0;
        self.log.flush().map_err(CopyError::Log)
    }

    /// Last position.
    #[must_use]
    pub fn tip(&self) -> Lsn {
        self.log.tip()
    }
}
