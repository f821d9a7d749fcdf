//! Many endings of one story: copies of a device, and power losses that take exactly what they are told to.

use super::device::{Device, Inode};
use super::faults::Faults;
use crate::rt::Rng;

/// What a power loss takes of what is in doubt: writes that were not synced, oldest first, file by file, then
/// names that were not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All of it.
    Everything,
    /// None of it: every write lands.
    Nothing,
    /// This one only.
    Only(usize),
    /// All but this one.
    AllBut(usize),
}

impl Loss {
    fn takes(self, nth: usize) -> bool {
        match self {
            Loss::Everything => true,
            Loss::Nothing => false,
            Loss::Only(lost) => nth == lost,
            Loss::AllBut(kept) => nth != kept,
        }
    }
}

impl Device {
    /// A copy with everything in it, in doubt or not, to go on in another way with other random choices.
    pub fn fork(&self, seed: u64) -> Device {
        let state = self.lock();
        let copy = Device::new(seed, state.sloppy);
        let mut new = copy.lock();
        new.inodes = state.inodes.iter().map(|(id, inode)| (*id, inode.copy())).collect();
        new.names.clone_from(&state.names);
        new.durable_names.clone_from(&state.durable_names);
        new.next = state.next;
        new.capacity = state.capacity;
        new.rng = Rng(seed);
        drop(new);
        copy
    }

    /// How many writes and names are in doubt.
    pub fn doubts(&self) -> usize {
        let state = self.lock();
        let writes: usize = state.inodes.values().map(|inode| inode.pending.len()).sum();
        let names = state.names.keys().filter(|name| !state.durable_names.contains_key(*name)).count();
        writes + names
    }

    /// Power goes and comes back, and takes what `loss` says.
    pub fn lose(&self, loss: Loss) {
        let mut state = self.lock();
        let state = &mut *state;
        state.dead = true;
        state.faults = Faults::default();
        let mut nth = 0;
        let mut takes = || {
            nth += 1;
            loss.takes(nth - 1)
        };
        for inode in state.inodes.values_mut() {
            for write in std::mem::take(&mut inode.pending) {
                if !takes() {
                    write.land(&mut inode.durable);
                }
            }
            inode.seen.clone_from(&inode.durable);
        }
        for (name, inode) in std::mem::take(&mut state.names) {
            if !state.durable_names.contains_key(&name) && !takes() {
                state.durable_names.insert(name, inode);
            }
        }
        state.names.clone_from(&state.durable_names);
    }

    /// Puts these bytes in the place of a file, synced.
    pub fn replace(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        state.inodes.insert(id, Inode { durable: bytes.clone(), seen: bytes, ..Inode::default() });
        state.names.insert(name.to_owned(), id);
        state.durable_names.insert(name.to_owned(), id);
    }

    /// The names of the files there are.
    pub fn names(&self) -> Vec<String> {
        self.lock().names.keys().cloned().collect()
    }
}
