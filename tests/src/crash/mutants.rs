//! Bugs planted in the steps of the log, from outside: a disk that forgets to do what the log asked for.

use std::collections::BTreeMap;
use std::io;

use segments::{Completion, Counters, Disk, FileId, MANIFEST, Map, SPARE, Slot};

use crate::disk::Sloppy;

/// Which step is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Step {
    /// None: a true disk.
    #[default]
    None,
    /// Zeroing what a torn tail left.
    Erase,
    /// Writing again what nothing proves to be durable.
    Rewrite,
    /// Writing the copy before that.
    Copy,
    /// Writing the manifest again that a failed sync may have left in the page cache only.
    ManifestAgain,
    /// Syncing what recovery wrote.
    RecoverySync,
    /// Syncing the manifest.
    ManifestSync,
    /// The second slot of the manifest: both generations go to one.
    SecondSlot,
    /// Syncing headers and footers.
    BlockSync,
    /// Writing the footer.
    Footer,
    /// Telling of a failed sync or write.
    Failure,
    /// Waiting for all of a batch: its last block is not written.
    LastBlock,
    /// Writing a segment's header.
    Header,
}

/// A disk that leaves out one step.
pub struct Forgetful<D> {
    disk: D,
    step: Step,
    names: BTreeMap<FileId, String>,
    /// A batch was submitted: recovery is over.
    running: bool,
}

impl<D: Disk> Forgetful<D> {
    /// Leaves out `step`.
    pub fn new(disk: D, step: Step) -> Forgetful<D> {
        Forgetful { disk, step, names: BTreeMap::new(), running: false }
    }

    fn is_manifest(&self, file: FileId) -> bool {
        self.is_called(MANIFEST, file)
    }

    fn is_called(&self, name: &str, file: FileId) -> bool {
        self.names.get(&file).is_some_and(|found| found == name)
    }

    /// Whether these bytes are read there already.
    fn is_there(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> bool {
        let mut found = vec![0; bytes.len()];
        self.disk.read(file, offset, &mut found).is_ok_and(|_| found == bytes)
    }
}

impl<D: Disk> Disk for Forgetful<D> {
    fn list(&mut self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn open(&mut self, name: &str) -> io::Result<FileId> {
        let file = self.disk.open(name)?;
        self.names.insert(file, name.to_owned());
        Ok(file)
    }

    fn close(&mut self, file: FileId) {
        self.disk.close(file);
    }

    fn len(&mut self, file: FileId) -> io::Result<u64> {
        self.disk.len(file)
    }

    fn read(&mut self, file: FileId, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.disk.read(file, offset, buf)
    }

    fn write(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let zeros = bytes.iter().all(|byte| *byte == 0);
        let left_out = match self.step {
            Step::Erase => zeros,
            Step::Rewrite => !self.running && bytes.starts_with(b"FLKB") && !self.is_called(SPARE, file),
            Step::Copy => self.is_called(SPARE, file),
            Step::ManifestAgain => {
                !self.running && self.is_manifest(file) && self.is_there(file, offset, bytes)
            }
            Step::Footer => bytes.starts_with(b"FLKSEAL"),
            Step::Header => bytes.starts_with(b"FLKSEGMT"),
            _ => false,
        };
        if left_out {
            return Ok(());
        }
        let offset = if self.step == Step::SecondSlot && self.is_manifest(file) { 4096 } else { offset };
        self.disk.write(file, offset, bytes)
    }

    fn sync(&mut self, file: FileId) -> io::Result<()> {
        let left_out = match self.step {
            Step::RecoverySync => !self.running && !self.is_manifest(file),
            Step::ManifestSync => self.is_manifest(file),
            Step::BlockSync => self.running && !self.is_manifest(file),
            _ => false,
        };
        if left_out { Ok(()) } else { self.disk.sync(file) }
    }

    fn prepare(&mut self, name: &str, bytes: u64) -> io::Result<()> {
        self.disk.prepare(name, bytes)
    }

    fn prepared(&mut self, wait: bool) -> Option<io::Result<()>> {
        self.disk.prepared(wait)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn map(&mut self, name: &str) -> io::Result<Option<Map>> {
        self.disk.map(name)
    }

    fn reserve(&mut self, slots: u16, bytes: usize) -> io::Result<()> {
        self.disk.reserve(slots, bytes)
    }

    fn buffer(&mut self, slot: Slot) -> &mut [u8] {
        self.disk.buffer(slot)
    }

    fn submit(&mut self, slot: Slot, file: FileId, offset: u64, len: usize) -> io::Result<()> {
        self.running = true;
        let len = if self.step == Step::LastBlock && len > 4096 { len - 4096 } else { len };
        self.disk.submit(slot, file, offset, len)
    }

    fn complete(&mut self, wait: bool) -> io::Result<Option<Completion>> {
        let completion = self.disk.complete(wait)?;
        Ok(completion.map(|completion| match self.step {
            Step::Failure => Completion { result: Ok(()), ..completion },
            _ => completion,
        }))
    }

    fn counters(&self) -> Counters {
        self.disk.counters()
    }
}

/// Every planted bug: its name, what the device does wrong, which step is left out.
pub fn all() -> Vec<(&'static str, Sloppy, Step)> {
    let disk = Sloppy::default();
    let sloppy = [
        ("batches are not synced", Sloppy { no_sync: true, ..disk }),
        ("votes are not synced", Sloppy { no_sync_of_votes: true, ..disk }),
        ("names are not synced", Sloppy { no_directory_sync: true, ..disk }),
        ("a failed sync is tried again", Sloppy { retry_failed_sync: true, ..disk }),
        ("a short write counts as whole", Sloppy { short_writes_are_whole: true, ..disk }),
        ("writes are misplaced", Sloppy { misplaces: true, ..disk }),
        ("a sealed segment is edited", Sloppy { edits_sealed: true, ..disk }),
    ];
    let steps = [
        ("a torn tail is not erased", Step::Erase),
        ("an unproven batch is not written again", Step::Rewrite),
        ("it is written again without a copy", Step::Copy),
        ("a manifest in doubt is not written again", Step::ManifestAgain),
        ("recovery does not sync", Step::RecoverySync),
        ("the manifest is not synced", Step::ManifestSync),
        ("the manifest has one slot", Step::SecondSlot),
        ("headers and footers are not synced", Step::BlockSync),
        ("no footer is written", Step::Footer),
        ("failures are not told", Step::Failure),
        ("the last block of a batch is not written", Step::LastBlock),
        ("no header is written", Step::Header),
    ];
    let disks = sloppy.into_iter().map(|(name, sloppy)| (name, sloppy, Step::None));
    disks.chain(steps.into_iter().map(|(name, step)| (name, disk, step))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{failures, histories};
    use super::*;

    /// A suite that a planted bug passes shows nothing.
    #[test]
    fn the_suite_sees_every_mutant() {
        for (name, sloppy, step) in all() {
            let short = |depth| {
                let (worlds, violation) = histories::first_violation(depth, sloppy, step)?;
                Some(format!("T1, world {worlds}: {violation}"))
            };
            let failing = || failures::first_violation(sloppy, step).map(|found| format!("T4, {found}"));
            let seen = short(2).or_else(failing).or_else(|| short(3));
            let seen = seen.unwrap_or_else(|| panic!("nobody notices that {name}"));
            println!("{name}: {seen}");
        }
        println!("{} of {} planted bugs seen", all().len(), all().len());
    }
}
