//! Power loss: which of the changes that no `fsync` covered are still there afterwards.
//!
//! Two kinds. *Drop* loses all of them, the kindest outcome for a checker that asks "was it synced?". *Torn*
//! lets each 512-byte sector, each length and each name survive by its own coin, so that any subset can be met;
//! the same seed gives the same subset.

use crate::disk::{Dir, Disk, File, FileChange, Ino, NameChange, Node, ROOT, SECTOR, Tally, apply};
use std::collections::BTreeSet;

/// What a power loss leaves of un-synced changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// Nothing.
    Drop,
    /// A subset drawn from this seed.
    Torn(u64),
}

/// SplitMix64: small, seedable, and the same on every machine.
struct Coin(u64);

impl Coin {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn heads(&mut self) -> bool {
        self.next() & 1 == 0
    }
}

impl Loss {
    fn coin(self, ino: Ino) -> Option<Coin> {
        match self {
            Loss::Drop => None,
            Loss::Torn(seed) => Some(Coin(seed ^ ino.wrapping_mul(0xD6E8_FEB8_6659_FD93))),
        }
    }
}

impl Disk {
    /// Cuts the power: every file and directory falls back to what survived, and every handle is stale.
    pub fn crash(&mut self, loss: Loss) {
        self.tally.crashes += 1;
        self.life += 1;
        let tally = &mut self.tally;
        for (ino, node) in &mut self.nodes {
            let mut coin = loss.coin(*ino);
            match node {
                Node::File(file) => settle_file(file, coin.as_mut(), tally),
                Node::Dir(dir) => settle_dir(dir, coin.as_mut(), tally),
            }
        }
        self.forget_nameless();
    }

    /// A picture of one file as a power loss now would leave it, under a new name in the root.
    pub fn snapshot(&mut self, path: &str, name: &str, loss: Loss) -> Result<(), i32> {
        let ino = self.resolve(path)?;
        let mut copy = self.file(ino)?.clone();
        let mut unused = Tally::default();
        settle_file(&mut copy, loss.coin(ino).as_mut(), &mut unused);
        self.plant(name, Node::File(copy));
        Ok(())
    }

    fn forget_nameless(&mut self) {
        let mut named = BTreeSet::new();
        let mut open = vec![ROOT];
        while let Some(ino) = open.pop() {
            if named.insert(ino)
                && let Some(Node::Dir(dir)) = self.nodes.get(&ino)
            {
                open.extend(dir.durable.values().copied());
            }
        }
        self.nodes.retain(|ino, _| named.contains(ino));
    }
}

fn settle_file(file: &mut File, coin: Option<&mut Coin>, tally: &mut Tally) {
    let pending = std::mem::take(&mut file.pending);
    match coin {
        None => {
            tally.lost_changes += pending.len() as u64;
            tally.lost_bytes += pending.iter().map(size).sum::<u64>();
        }
        Some(coin) => {
            for change in &pending {
                match change {
                    FileChange::Bytes(at, bytes) => tear(file, *at, bytes, coin, tally),
                    FileChange::Length(_) if coin.heads() => apply(&mut file.durable, change),
                    FileChange::Length(_) => tally.lost_changes += 1,
                }
            }
        }
    }
    file.seen = file.durable.clone();
}

fn size(change: &FileChange) -> u64 {
    match change {
        FileChange::Bytes(_, bytes) => bytes.len() as u64,
        FileChange::Length(_) => 0,
    }
}

fn tear(file: &mut File, at: u64, bytes: &[u8], coin: &mut Coin, tally: &mut Tally) {
    let mut done = 0usize;
    let mut lost = 0u64;
    while done < bytes.len() {
        let position = at + done as u64;
        let take = ((SECTOR - position % SECTOR) as usize).min(bytes.len() - done);
        if coin.heads() {
            file.durable.write(position, &bytes[done..done + take]);
        } else {
            lost += take as u64;
        }
        done += take;
    }
    tally.lost_bytes += lost;
    tally.torn_writes += u64::from(lost > 0);
}

fn settle_dir(dir: &mut Dir, coin: Option<&mut Coin>, tally: &mut Tally) {
    let pending = std::mem::take(&mut dir.pending);
    match coin {
        None => tally.lost_changes += pending.len() as u64,
        Some(coin) => {
            for change in pending {
                if !coin.heads() {
                    tally.lost_changes += 1;
                    continue;
                }
                match change {
                    NameChange::Remove(name) => {
                        dir.durable.remove(&name);
                    }
                    NameChange::Put { name, ino, gone } => {
                        if let Some(gone) = gone {
                            dir.durable.remove(&gone);
                        }
                        dir.durable.insert(name, ino);
                    }
                }
            }
        }
    }
    dir.seen = dir.durable.clone();
}
