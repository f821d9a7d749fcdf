//! The segments of a log, as an auditor reads them: every byte against its own sums, then record by record.

use std::path::{Path, PathBuf};

use engine::log::Lsn;
use segments::{Damage, Identity, Log, OpenError, Options, segment_number};

use super::quiet::QuietDisk;
use super::resolve::{Each, Resolver};
use super::{Place, Wrong};
use crate::report::{Exit, Fault};

/// Why a log is not sound, or cannot be looked at.
#[derive(Debug)]
pub enum Faulty {
    /// It cannot be read here, or not by this program.
    Unusable(Fault),
    /// Something that must be there is not.
    Missing(String),
    /// Bytes are not what was written.
    Damaged(Damage),
    /// The bytes hold, what they say does not.
    Wrong(Wrong),
}

/// What a pass over the bytes found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// Frames.
    pub frames: u64,
    /// Bytes read.
    pub bytes: u64,
    /// A tail that a crash left, in words.
    pub torn: Option<String>,
}

/// A log's directory.
#[derive(Debug)]
pub struct LogFiles {
    dir: PathBuf,
    identity: Identity,
    segments: u64,
    sealed: u64,
    bytes: u64,
}

fn fault(dir: &Path, error: &OpenError) -> Faulty {
    let next = match error {
        OpenError::Limits { .. } | OpenError::Version { .. } => {
            "use the program that wrote it, or a newer one"
        }
        _ => "check the directory and its permissions",
    };
    Faulty::Unusable(Fault::new("cannot read the log", dir.display(), error, next))
}

fn faulty(dir: &Path, error: OpenError) -> Faulty {
    match error {
        OpenError::Corrupt(damage) => Faulty::Damaged(damage),
        OpenError::MissingSegment { .. } | OpenError::MissingManifest => Faulty::Missing(error.to_string()),
        other => fault(dir, &other),
    }
}

impl LogFiles {
    /// Looks at the manifest and which segments there are.
    ///
    /// # Errors
    /// [`Faulty`].
    pub fn open(dir: &Path) -> Result<LogFiles, Faulty> {
        let list = || -> std::io::Result<(u64, u64)> {
            let (mut segments, mut bytes) = (0, 0);
            for entry in std::fs::read_dir(dir)? {
                let entry = entry?;
                if segment_number(&entry.file_name().to_string_lossy()).is_some() {
                    segments += 1;
                    bytes += entry.metadata()?.len();
                }
            }
            Ok((segments, bytes))
        };
        let (segments, bytes) = list().map_err(|error| Faulty::Unusable(Fault::read(dir, error)))?;
        if segments == 0 {
            return Err(Faulty::Missing(format!("{} holds no segment", dir.display())));
        }
        let identity = identity(dir)?;
        Ok(LogFiles { dir: dir.to_owned(), identity, segments, sealed: segments.saturating_sub(1), bytes })
    }

    /// Segments there are.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.segments
    }

    /// Of these, sealed.
    #[must_use]
    pub fn sealed(&self) -> u64 {
        self.sealed
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The log's region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.identity.region
    }

    /// Bytes up to a place, of [`LogFiles::bytes`].
    #[must_use]
    pub fn read_up_to(&self, place: Place) -> u64 {
        self.bytes / self.segments.max(1) * place.segment.saturating_sub(1) + place.offset
    }

    /// Every segment against its own sums. `done` hears how many bytes more were read.
    ///
    /// # Errors
    /// [`Faulty`].
    pub fn check(&self, _threads: usize, done: &mut dyn FnMut(u64)) -> Result<Bytes, Faulty> {
        let (disk, progress) = QuietDisk::new(&self.dir);
        let mut heard = 0;
        let options = Options::new(self.identity.clone());
        let each = |_: &segments::Frame<'_>| {
            let read = progress.bytes.get();
            done(read - heard);
            heard = read;
            Ok::<(), std::convert::Infallible>(())
        };
        let (_, recovery) = Log::open(disk, &options, each).map_err(|error| faulty(&self.dir, error))?;
        let torn = recovery.torn.map(|torn| {
            format!("a tail of {} bytes at offset {:#x} of segment {} was being written when the node stopped, nobody was promised it", torn.erased, torn.offset, torn.segment)
        });
        Ok(Bytes { frames: recovery.frames, bytes: progress.bytes.get(), torn })
    }

    /// Every record that counts, in order.
    ///
    /// # Errors
    /// [`Faulty`]; what `each` says comes back as [`Faulty::Wrong`].
    pub fn records(&self, each: &mut Each<'_>) -> Result<(), Faulty> {
        let (disk, progress) = QuietDisk::new(&self.dir);
        let options = Options::new(self.identity.clone());
        let mut resolver = Resolver::default();
        let mut wrong = None;
        let visit = |frame: &segments::Frame<'_>| {
            let place = Place { segment: progress.segment.get(), offset: 0 };
            resolver.frame(frame, place, Lsn::ZERO, each).map_err(|found| {
                let text = found.to_string();
                wrong = Some(found);
                text
            })
        };
        let result = Log::open(disk, &options, visit);
        if let Some(wrong) = wrong {
            return Err(Faulty::Wrong(wrong));
        }
        result.map_err(|error| faulty(&self.dir, error))?;
        resolver.finish(each).map_err(Faulty::Wrong)
    }
}

/// Whose log it is, from its manifest: opening as a stranger says whose it is.
fn identity(dir: &Path) -> Result<Identity, Faulty> {
    let (disk, _) = QuietDisk::new(dir);
    let stranger = Identity { cluster: [0; 16], region: "-".into() };
    let open = Log::open(disk, &Options::new(stranger), |_: &segments::Frame<'_>| {
        Ok::<(), std::convert::Infallible>(())
    });
    match open.map(|_| ()) {
        Err(OpenError::Foreign { cluster, region }) => {
            let cluster = engine::codec::unhex(&cluster).unwrap_or_default();
            Ok(Identity { cluster, region })
        }
        Err(error) => Err(faulty(dir, error)),
        Ok(()) => {
            Err(Faulty::Unusable(Fault::read(dir, "the manifest names no cluster").exit(Exit::Tampered)))
        }
    }
}
