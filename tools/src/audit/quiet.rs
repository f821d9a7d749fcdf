//! A log's directory that can be opened and never changes: whatever recovery would write is dropped.
//!
//! Opening a log on it asks the very code that a node recovers with whether the log would open, and where not.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use segments::{Completion, Counters, Disk, FileId, Map, Slot};

/// The read side of a log's directory.
pub struct QuietDisk {
    dir: PathBuf,
    files: Vec<Option<File>>,
    buffers: Vec<Vec<u8>>,
}

impl QuietDisk {
    /// Reads `dir`, which nobody needs to hold.
    #[must_use]
    pub fn new(dir: &Path) -> QuietDisk {
        QuietDisk { dir: dir.to_owned(), files: Vec::new(), buffers: Vec::new() }
    }

    fn file(&self, file: FileId) -> io::Result<&File> {
        self.files.get(file.0 as usize).and_then(Option::as_ref).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for QuietDisk {
    fn list(&mut self) -> io::Result<Vec<String>> {
        std::fs::read_dir(&self.dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn open(&mut self, name: &str) -> io::Result<FileId> {
        self.files.push(Some(File::open(self.dir.join(name))?));
        Ok(FileId(self.files.len() as u32 - 1))
    }

    fn close(&mut self, file: FileId) {
        if let Some(slot) = self.files.get_mut(file.0 as usize) {
            *slot = None;
        }
    }

    fn len(&mut self, file: FileId) -> io::Result<u64> {
        Ok(self.file(file)?.metadata()?.len())
    }

    fn read(&mut self, file: FileId, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.file(file)?.read_at(&mut buf[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write(&mut self, _: FileId, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn sync(&mut self, _: FileId) -> io::Result<()> {
        Ok(())
    }

    fn prepare(&mut self, _: &str, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn prepared(&mut self, _: bool) -> Option<io::Result<()>> {
        None
    }

    fn remove(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&mut self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn map(&mut self, _: &str) -> io::Result<Option<Map>> {
        Ok(None)
    }

    fn reserve(&mut self, slots: u16, bytes: usize) -> io::Result<()> {
        self.buffers = vec![vec![0; bytes]; usize::from(slots)];
        Ok(())
    }

    fn buffer(&mut self, slot: Slot) -> &mut [u8] {
        &mut self.buffers[usize::from(slot.0)]
    }

    fn submit(&mut self, _: Slot, _: FileId, _: u64, _: usize) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn complete(&mut self, _: bool) -> io::Result<Option<Completion>> {
        Ok(None)
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }
}
