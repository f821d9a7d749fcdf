//! The machine's side: bytes that are seen, bytes that are durable, and what a power loss leaves.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use segments::Counters;

use super::faults::{AfterFailure, Death, Faults, Point, SECTOR, Sloppy, Suffered};
use super::process::SimDisk;
use crate::rt::Rng;

#[derive(Clone)]
pub(super) struct Pending {
    id: u64,
    offset: usize,
    bytes: Vec<u8>,
}

#[derive(Default)]
pub(super) struct Inode {
    /// What a reader sees.
    pub(super) seen: Vec<u8>,
    /// What a power loss leaves.
    pub(super) durable: Vec<u8>,
    /// Writes that are seen and not durable, oldest first.
    pub(super) pending: Vec<Pending>,
    /// There was no room for it, and a sloppy disk made it all the same.
    pub(super) phantom: bool,
    /// Sectors that can not be read until they are written again, by number.
    pub(super) bad: BTreeSet<usize>,
}

impl Inode {
    pub(super) fn copy(&self) -> Inode {
        let Inode { seen, durable, pending, phantom, bad } = self;
        let (seen, durable) = (seen.clone(), durable.clone());
        Inode { seen, durable, pending: pending.clone(), phantom: *phantom, bad: bad.clone() }
    }
}

impl Pending {
    pub(super) fn land(self, bytes: &mut [u8]) {
        bytes[self.offset..self.offset + self.bytes.len()].copy_from_slice(&self.bytes);
    }
}

pub(super) struct State {
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) names: BTreeMap<String, u64>,
    pub(super) durable_names: BTreeMap<String, u64>,
    pub(super) next: u64,
    pub(super) life: u64,
    pub(super) dead: bool,
    /// A write or sync of this life has failed, and the process has been told.
    pub(super) failed: bool,
    pub(super) faults: Faults,
    pub(super) sloppy: Sloppy,
    pub(super) capacity: u64,
    pub(super) rng: Rng,
    pub(super) suffered: Suffered,
    pub(super) counters: Counters,
    /// Of the last submission that was synced: its file, its place, and what stood there before.
    pub(super) before_last: Option<(u64, usize, Vec<u8>)>,
}

/// The machine's disk.
#[derive(Clone)]
pub struct Device(Arc<Mutex<State>>);

impl Device {
    /// An empty one.
    pub fn new(seed: u64, sloppy: Sloppy) -> Device {
        Device(Arc::new(Mutex::new(State {
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            next: 1,
            life: 0,
            dead: true,
            failed: false,
            faults: Faults::default(),
            sloppy,
            capacity: u64::MAX,
            rng: Rng(seed),
            suffered: Suffered::default(),
            counters: Counters::default(),
            before_last: None,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("one thread")
    }

    /// A new process takes hold of it; an older one can do nothing with it any more.
    pub fn attach(&self) -> SimDisk {
        let mut state = self.lock();
        state.life += 1;
        state.dead = false;
        state.failed = false;
        let life = state.life;
        drop(state);
        SimDisk::new(self.clone(), life)
    }

    /// The process dies, the machine does not: whatever was written is still there.
    pub fn kill(&self) {
        let mut state = self.lock();
        state.dead = true;
        state.faults = Faults::default();
        state.suffered.kills += 1;
    }

    /// Power goes and comes back. Of what was not synced, each sector survives in `keep` of a hundred cases;
    /// with `garble`, one that did not may hold anything.
    pub fn power_loss(&self, keep: u64, garble: bool) {
        let mut state = self.lock();
        let state = &mut *state;
        state.dead = true;
        state.faults = Faults::default();
        state.suffered.power_losses += 1;
        if let Some((inode, at, old)) = state.before_last.take()
            && let Some(inode) = state.inodes.get_mut(&inode)
        {
            inode.durable[at..at + old.len()].copy_from_slice(&old);
        }
        for inode in state.inodes.values_mut() {
            for write in std::mem::take(&mut inode.pending) {
                let sectors = write.bytes.len().div_ceil(SECTOR);
                let mut survived = 0;
                for (n, sector) in write.bytes.chunks(SECTOR).enumerate() {
                    let place = write.offset + n * SECTOR;
                    let old = &mut inode.durable[place..place + sector.len()];
                    if state.rng.chance(keep) {
                        old.copy_from_slice(sector);
                        survived += 1;
                    } else if garble && state.rng.chance(5) {
                        old.iter_mut().zip(sector).for_each(|(old, new)| *old ^= new.rotate_left(3));
                    }
                }
                state.suffered.lost_writes += u64::from(survived == 0);
                state.suffered.torn_writes += u64::from(survived > 0 && survived < sectors);
            }
            inode.seen.clone_from(&inode.durable);
        }
        let rng = &mut state.rng;
        let names = std::mem::take(&mut state.names);
        for (name, inode) in names {
            let Entry::Vacant(undecided) = state.durable_names.entry(name) else { continue };
            if rng.chance(keep) {
                undecided.insert(inode);
            } else {
                state.suffered.lost_names += 1;
            }
        }
        state.names.clone_from(&state.durable_names);
    }

    /// A copy of what a power loss that takes everything unsynced would leave, as a device of its own.
    pub fn image(&self) -> Device {
        let state = self.lock();
        let durable = |inode: &Inode| Inode {
            seen: inode.durable.clone(),
            durable: inode.durable.clone(),
            bad: inode.bad.clone(),
            ..Inode::default()
        };
        let copy = Device::new(0, Sloppy::default());
        let mut new = copy.lock();
        new.inodes = state.inodes.iter().map(|(id, inode)| (*id, durable(inode))).collect();
        new.names.clone_from(&state.durable_names);
        new.durable_names.clone_from(&state.durable_names);
        new.next = state.next;
        drop(new);
        copy
    }

    /// What goes wrong next.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Whether something planned has not gone wrong yet.
    pub fn faults_pending(&self) -> bool {
        self.lock().faults.pending()
    }

    /// How many bytes all files may have together.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().capacity = bytes;
    }

    /// Bytes of all files together.
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    /// Has the process that holds it died in an operation?
    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// What went wrong so far.
    pub fn suffered(&self) -> Suffered {
        self.lock().suffered
    }

    /// The bytes of a file as a reader sees them.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        state.names.get(name).map(|inode| state.inodes[inode].seen.clone())
    }

    /// Changes one byte of a file behind everybody's back.
    pub fn rot(&self, name: &str, offset: usize, xor: u8) {
        let mut state = self.lock();
        let inode = state.names[name];
        let inode = state.inodes.get_mut(&inode).expect("a name has an inode");
        inode.seen[offset] ^= xor;
        inode.durable[offset] ^= xor;
    }
}

impl Device {
    /// These bytes of a file can not be read until they are written again: a latent error.
    pub fn make_unreadable(&self, name: &str, range: std::ops::Range<usize>) {
        let mut state = self.lock();
        let inode = state.names[name];
        let inode = state.inodes.get_mut(&inode).expect("a name has an inode");
        inode.bad.extend(range.start / SECTOR..range.end.div_ceil(SECTOR));
    }

    /// A file is gone behind everybody's back.
    pub fn lose_file(&self, name: &str) {
        let mut state = self.lock();
        state.names.remove(name);
        state.durable_names.remove(name);
    }
}

/// What the names end with of files in which a segment is made again.
const REPAIR: &str = ".repair";

pub(super) fn eio(what: &str) -> io::Error {
    io::Error::other(format!("simulated: {what}"))
}

/// Count down to a fault; true when it is due.
pub(super) fn due(countdown: &mut Option<u64>) -> bool {
    match countdown {
        Some(0) => {
            *countdown = None;
            true
        }
        Some(n) => {
            *n -= 1;
            false
        }
        None => false,
    }
}

impl State {
    pub(super) fn used(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[inode].seen.len() as u64).sum()
    }

    /// Every operation begins here. `Some` death is to be died by the caller.
    pub(super) fn begin(&mut self, life: u64) -> io::Result<Option<Death>> {
        if self.dead || self.life != life {
            return Err(eio("the process is dead"));
        }
        self.suffered.operations += 1;
        match &mut self.faults.die_in {
            Some((0, death)) => {
                let death = *death;
                self.faults.die_in = None;
                self.dead = true;
                self.suffered.deaths += 1;
                Ok(Some(death))
            }
            Some((n, _)) => {
                *n -= 1;
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// The death that waits at this moment, if one does.
    pub(super) fn reach(&mut self, point: Point) -> Option<Death> {
        let (_, death) = self.faults.die_at.take_if(|(at, _)| *at == point)?;
        self.dead = true;
        self.suffered.deaths += 1;
        self.suffered.points += 1;
        Some(death)
    }

    /// The death that waits in a repair, if this operation is one of it.
    pub(super) fn reach_in_repair(&mut self, name: &str) -> Option<Death> {
        let (left, death) = self.faults.die_in_repair.filter(|_| name.ends_with(REPAIR))?;
        if left > 0 {
            self.faults.die_in_repair = Some((left - 1, death));
            return None;
        }
        self.faults.die_in_repair = None;
        self.dead = true;
        self.suffered.deaths += 1;
        self.suffered.deaths_in_repair += 1;
        Some(death)
    }

    /// The same for an operation on an open file.
    pub(super) fn reach_in_repair_of(&mut self, inode: u64) -> Option<Death> {
        self.faults.die_in_repair?;
        let name = self.name_of(inode)?;
        self.reach_in_repair(&name)
    }

    pub(super) fn is_repair(&self, inode: u64) -> bool {
        self.name_of(inode).is_some_and(|name| name.ends_with(REPAIR))
    }

    fn name_of(&self, inode: u64) -> Option<String> {
        self.names.iter().find_map(|(name, of)| (*of == inode).then(|| name.clone()))
    }

    /// What a direct write to this file is for.
    pub(super) fn point_of(&self, inode: u64) -> Point {
        let manifest = self.names.get(segments::MANIFEST);
        if manifest == Some(&inode) { Point::Manifest } else { Point::Mark }
    }

    /// Write into the page cache; returns the number of the write.
    pub(super) fn write(
        &mut self,
        inode: u64,
        offset: usize,
        bytes: &[u8],
        death: Option<Death>,
    ) -> io::Result<u64> {
        self.suffered.writes_after_failure += u64::from(self.failed);
        let landing = match death {
            None | Some(Death::AllLands) => bytes.len(),
            Some(Death::HalfLands) => bytes.len() / 2 / SECTOR * SECTOR,
            Some(Death::NothingLands) => 0,
        };
        if death.is_none() && due(&mut self.faults.write_fails_in) {
            self.suffered.failed_writes += 1;
            return Err(eio("EIO on write"));
        }
        if death.is_none() && due(&mut self.faults.write_full_in) {
            self.suffered.failed_writes += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        let short = death.is_none() && due(&mut self.faults.short_write_in);
        let landing = if short { landing / 2 / SECTOR * SECTOR } else { landing };
        let offset = if self.sloppy.misplaces && self.rng.chance(3) { offset + 4096 } else { offset };
        let id = self.next;
        self.next += 1;
        let inode = self.inodes.get_mut(&inode).ok_or_else(|| eio("no such file"))?;
        if !inode.bad.is_empty() {
            inode.bad.retain(|sector| !(offset..offset + landing).contains(&(sector * SECTOR)));
        }
        assert!(
            offset + bytes.len() <= inode.seen.len() || self.sloppy.misplaces,
            "a write stays inside its file"
        );
        let landing = landing.min(inode.seen.len().saturating_sub(offset));
        inode.seen[offset..offset + landing].copy_from_slice(&bytes[..landing]);
        inode.pending.push(Pending { id, offset, bytes: bytes[..landing].to_vec() });
        self.counters.bytes_written += landing as u64;
        if short {
            self.suffered.short_writes += 1;
            if !self.sloppy.short_writes_are_whole {
                return Err(io::Error::new(io::ErrorKind::WriteZero, "simulated: a short write"));
            }
            // Nobody will be told, and everything that follows is built on it.
            self.failed = true;
        }
        if death.is_some() { Err(eio("died in a write")) } else { Ok(id) }
    }

    /// Make writes of `inode` up to number `upto` durable.
    pub(super) fn sync(&mut self, inode: u64, upto: u64, death: Option<Death>) -> io::Result<()> {
        if matches!(death, Some(Death::NothingLands | Death::HalfLands)) {
            return Err(eio("died in a sync"));
        }
        if self.sloppy.no_sync_of_repairs && self.is_repair(inode) {
            return if death.is_some() { Err(eio("died after a sync")) } else { Ok(()) };
        }
        let fails = match &mut self.faults.sync_fails_in {
            Some((0, after)) => Some(*after),
            Some((n, _)) => {
                *n -= 1;
                None
            }
            None => None,
        };
        let in_repair = self.is_repair(inode);
        let file = self.inodes.get_mut(&inode).ok_or_else(|| eio("no such file"))?;
        if let Some(after) = fails {
            self.faults.sync_fails_in = None;
            self.failed |= !in_repair;
            self.suffered.failed_syncs += 1;
            file.pending.clear();
            if after == AfterFailure::Reverts {
                file.seen.clone_from(&file.durable);
            }
            // The kernel has reported it; the next sync has nothing to say.
            return if self.sloppy.retry_failed_sync {
                self.sync(inode, upto, None)
            } else {
                Err(eio("EIO on sync"))
            };
        }
        let (now, later): (Vec<Pending>, _) =
            std::mem::take(&mut file.pending).into_iter().partition(|write| write.id <= upto);
        file.pending = later;
        for Pending { offset, bytes, .. } in now.into_iter().filter(|_| !file.phantom) {
            if self.sloppy.loses_last_sync {
                self.before_last = Some((inode, offset, file.durable[offset..offset + bytes.len()].to_vec()));
            }
            file.durable[offset..offset + bytes.len()].copy_from_slice(&bytes);
        }
        self.counters.syncs += 1;
        if death.is_some() { Err(eio("died after a sync")) } else { Ok(()) }
    }
}
