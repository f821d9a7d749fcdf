//! One process's hold on a device: the port to the log.

use std::collections::VecDeque;
use std::io;

use segments::{Completion, Counters, Disk, FileId, Map, Slot};

use super::device::{Device, Inode, due, eio};
use super::faults::{Death, Point, SECTOR};

/// A submission on its way.
struct Flight {
    slot: Slot,
    inode: u64,
    written: io::Result<u64>,
    only_a_vote: bool,
    point: Point,
}

/// One process's hold on a [`Device`].
pub struct SimDisk {
    device: Device,
    life: u64,
    open: Vec<Option<u64>>,
    buffers: Vec<Vec<u8>>,
    flights: VecDeque<Flight>,
    preparing: Option<io::Result<()>>,
}

impl SimDisk {
    pub(super) fn new(device: Device, life: u64) -> SimDisk {
        SimDisk {
            device,
            life,
            open: Vec::new(),
            buffers: Vec::new(),
            flights: VecDeque::new(),
            preparing: None,
        }
    }

    fn inode(&self, file: FileId) -> io::Result<u64> {
        self.open.get(file.0 as usize).copied().flatten().ok_or_else(|| eio("a file that is not open"))
    }
}

impl Disk for SimDisk {
    fn list(&mut self) -> io::Result<Vec<String>> {
        let mut state = self.device.lock();
        match state.begin(self.life)? {
            None => Ok(state.names.keys().cloned().collect()),
            Some(_) => Err(eio("died")),
        }
    }

    fn open(&mut self, name: &str) -> io::Result<FileId> {
        let mut state = self.device.lock();
        if state.begin(self.life)?.is_some() {
            return Err(eio("died"));
        }
        let inode = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        self.open.push(Some(inode));
        Ok(FileId(self.open.len() as u32 - 1))
    }

    fn close(&mut self, file: FileId) {
        self.open[file.0 as usize] = None;
    }

    fn len(&mut self, file: FileId) -> io::Result<u64> {
        let inode = self.inode(file)?;
        Ok(self.device.lock().inodes[&inode].seen.len() as u64)
    }

    fn read(&mut self, file: FileId, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let inode = self.inode(file)?;
        let mut state = self.device.lock();
        if state.begin(self.life)?.is_some() {
            return Err(eio("died"));
        }
        if due(&mut state.faults.read_fails_in) {
            return Err(eio("EIO on read"));
        }
        let Inode { seen, bad, .. } = &state.inodes[&inode];
        let sectors = offset as usize / SECTOR..(offset as usize + buf.len()).div_ceil(SECTOR);
        if bad.range(sectors).next().is_some() {
            return Err(eio("EIO on read, and on every other"));
        }
        let from = seen.get(offset as usize..).unwrap_or_default();
        let len = from.len().min(buf.len());
        buf[..len].copy_from_slice(&from[..len]);
        Ok(len)
    }

    fn write(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let inode = self.inode(file)?;
        let mut state = self.device.lock();
        let mut death = state.begin(self.life)?;
        if death.is_none() && state.faults.die_at.is_some() {
            let point = state.point_of(inode);
            death = state.reach(point);
        }
        death = death.or_else(|| state.reach_in_repair_of(inode));
        let written = state.write(inode, offset as usize, bytes, death).map(drop);
        // Nobody was promised anything of a file that is still being made.
        state.failed |= written.is_err() && !state.is_repair(inode);
        written
    }

    fn sync(&mut self, file: FileId) -> io::Result<()> {
        let inode = self.inode(file)?;
        let mut state = self.device.lock();
        let death = state.begin(self.life)?;
        let death = death.or_else(|| state.reach_in_repair_of(inode));
        state.sync(inode, u64::MAX, death)
    }

    fn prepare(&mut self, name: &str, bytes: u64) -> io::Result<()> {
        let mut state = self.device.lock();
        let mut death = state.begin(self.life)?;
        if death.is_none() {
            death = state.reach(Point::Prepare).or_else(|| state.reach_in_repair(name));
        }
        if self.preparing.is_some() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        if matches!(death, Some(Death::NothingLands | Death::HalfLands)) {
            return Err(eio("died"));
        }
        let no_room = match &mut state.faults.no_room_in {
            Some((0, 1)) => {
                state.faults.no_room_in = None;
                true
            }
            Some((0, more)) => {
                *more -= 1;
                true
            }
            Some((countdown, _)) => {
                *countdown -= 1;
                false
            }
            None => false,
        };
        let phantom = no_room || state.used() + bytes > state.capacity;
        state.suffered.refusals += u64::from(phantom);
        if phantom && !state.sloppy.full_is_success {
            self.preparing = Some(Err(io::ErrorKind::StorageFull.into()));
            return Ok(());
        }
        if state.sloppy.edits_sealed && segments::segment_number(name) == Some(3) {
            let first = state.names.get(&segments::segment_name(1)).copied();
            let first =
                first.and_then(|first| state.inodes.get_mut(&first)).expect("the first segment is there");
            // In the zeros before the footer, where no record stands.
            let at = first.seen.len() - 4097;
            first.seen[at] ^= 1;
            first.durable[at] ^= 1;
        }
        let inode = state.next;
        state.next += 1;
        let zeros = vec![0; bytes as usize];
        state
            .inodes
            .insert(inode, Inode { seen: zeros.clone(), durable: zeros, phantom, ..Inode::default() });
        state.names.insert(name.into(), inode);
        if !state.sloppy.no_directory_sync {
            state.durable_names.insert(name.into(), inode);
        }
        state.counters.bytes_zeroed += bytes;
        state.counters.syncs += 1;
        self.preparing = Some(Ok(()));
        if death.is_some() { Err(eio("died")) } else { Ok(()) }
    }

    fn prepared(&mut self, wait: bool) -> Option<io::Result<()>> {
        if !wait && self.device.lock().rng.chance(50) {
            return None;
        }
        self.preparing.take()
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut state = self.device.lock();
        let death = state.begin(self.life)?;
        if matches!(death, Some(Death::NothingLands | Death::HalfLands)) {
            return Err(eio("died"));
        }
        state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        state.durable_names.remove(name);
        if death.is_some() { Err(eio("died")) } else { Ok(()) }
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.device.lock();
        let death = state.begin(self.life)?.or_else(|| state.reach_in_repair(from));
        if matches!(death, Some(Death::NothingLands | Death::HalfLands)) {
            return Err(eio("died"));
        }
        let inode = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.into(), inode);
        if !state.sloppy.no_directory_sync {
            state.durable_names.remove(from);
            state.durable_names.insert(to.into(), inode);
        }
        if death.is_some() { Err(eio("died")) } else { Ok(()) }
    }

    fn map(&mut self, name: &str) -> io::Result<Option<Map>> {
        let mut state = self.device.lock();
        if state.begin(self.life)?.is_some() {
            return Err(eio("died"));
        }
        // One with a latent error can not be held whole.
        let bad = state.names.get(name).is_some_and(|inode| !state.inodes[inode].bad.is_empty());
        if state.rng.chance(50) || bad {
            return Ok(None);
        }
        let inode = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Some(Map::Held(state.inodes[&inode].seen.clone())))
    }

    fn reserve(&mut self, slots: u16, bytes: usize) -> io::Result<()> {
        self.buffers = (0..slots).map(|_| vec![0; bytes]).collect();
        Ok(())
    }

    fn buffer(&mut self, slot: Slot) -> &mut [u8] {
        &mut self.buffers[usize::from(slot.0)]
    }

    fn submit(&mut self, slot: Slot, file: FileId, offset: u64, len: usize) -> io::Result<()> {
        let inode = self.inode(file)?;
        let mut state = self.device.lock();
        let death = state.begin(self.life)?;
        let bytes = &self.buffers[usize::from(slot.0)][..len];
        // The kind of the first frame, and how many there are.
        let only_a_vote = bytes[segments::BATCH_HEADER + 8] == segments::Kind::Vote as u8 && bytes[16] == 1;
        let point = match bytes[segments::BATCH_HEADER + 8] {
            kind if kind == segments::Kind::Vote as u8 => Point::Vote,
            kind if kind == segments::Kind::Truncate as u8 => Point::Truncate,
            _ => Point::Append,
        };
        let written = state.write(inode, offset as usize, bytes, death);
        self.flights.push_back(Flight { slot, inode, written, only_a_vote, point });
        Ok(())
    }

    fn complete(&mut self, wait: bool) -> io::Result<Option<Completion>> {
        if self.flights.is_empty() {
            return Ok(None);
        }
        let mut state = self.device.lock();
        if !wait && state.rng.chance(50) {
            return Ok(None);
        }
        let mut death = state.begin(self.life)?;
        let nth = state.rng.below(self.flights.len() as u64) as usize;
        let flight = self.flights.remove(nth).expect("it is in range");
        if death.is_none() {
            death = state.reach(flight.point);
        }
        let sloppy = state.sloppy;
        let result = flight.written.and_then(|id| {
            if sloppy.no_sync || (sloppy.no_sync_of_votes && flight.only_a_vote) {
                return if death.is_some() { Err(eio("died")) } else { Ok(()) };
            }
            state.sync(flight.inode, id, death)
        });
        state.failed |= result.is_err();
        Ok(Some(Completion { slot: flight.slot, result, nanos: 0 }))
    }

    fn counters(&self) -> Counters {
        self.device.lock().counters
    }
}
