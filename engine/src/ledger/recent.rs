//! The keys of recent rows, in memory: eight bytes a slot, nine to ten a key.
//!
//! A tag's first [`PARTITION_BITS`] choose a partition, its next 24 stand in the slot beside the row number.
//! Inside a partition the slots are kept in the order of those 24 bits, near the place the bits themselves
//! point to, so a partition grows without asking for the keys again, and a miss ends at the first larger
//! neighbour. Both parts together tell 2^36 tags apart: with 16 million keys about one miss in 4,000 yields a
//! candidate, which the whole key in its row then refutes.

use alloc::vec::Vec;

use crate::limits::ROWS_MAX;

const PARTITION_BITS: u32 = 12;
const PRINT_BITS: u32 = 24;
const ROW_BITS: u32 = 40;
const ROW_MASK: u64 = (1 << ROW_BITS) - 1;

/// No slot: a row number of all ones is never given out.
const EMPTY: u64 = u64::MAX;

const _: () = {
    assert!(PRINT_BITS + ROW_BITS == u64::BITS);
    assert!(ROWS_MAX == 1 << ROW_BITS);
};

/// By how many slots the end of a partition grows when its last cluster runs over.
const SPILL: usize = 8;

/// Slots that are looked at together: a line of the cache.
const LINE: usize = 8;

/// Which recent rows may have a tag.
#[derive(Clone, Debug)]
pub(crate) struct Recent {
    partitions: Vec<Partition>,
    keys: u64,
    /// The partition that [`Recent::forget_some_below`] goes on with.
    next: usize,
    /// Up to where the rounds begun so far forget, and the partitions still to visit for it.
    forgetting: (u64, usize),
}

#[derive(Clone, Debug, Default)]
struct Partition {
    /// Slots in ascending order, `EMPTY` between them. The last cluster may run over the last home.
    slots: Vec<u64>,
    /// Places that prints point to.
    homes: u32,
    used: u32,
}

impl Recent {
    pub(crate) fn new() -> Recent {
        let partitions = alloc::vec![Partition::default(); 1 << PARTITION_BITS];
        Recent { partitions, keys: 0, next: 0, forgetting: (0, 0) }
    }

    /// Keys held.
    pub(crate) fn len(&self) -> u64 {
        self.keys
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> usize {
        let slots: usize = self.partitions.iter().map(|partition| partition.slots.capacity()).sum();
        8 * slots + self.partitions.capacity() * size_of::<Partition>()
    }

    /// Adds a row under its tag. The same tag may be added again with another row.
    pub(crate) fn insert(&mut self, tag: u64, row: u64) {
        assert!(row < ROWS_MAX - 1, "L1: a row number fits its slot");
        let (partition, print) = place(tag);
        self.partitions[partition].insert(print << ROW_BITS | row);
        self.keys += 1;
    }

    /// Appends the rows that may have this tag to `out`, oldest first.
    pub(crate) fn find(&self, tag: u64, out: &mut Vec<u64>) {
        let (partition, print) = place(tag);
        self.partitions[partition].find(print, out);
    }

    /// Forgets the rows below `row` in at most `partitions` of the partitions; the others follow when it is
    /// called again. Rows below `row` may therefore be found for a while longer.
    pub(crate) fn forget_some_below(&mut self, row: u64, partitions: usize) {
        let (target, left) = &mut self.forgetting;
        if row > *target {
            (*target, *left) = (row, self.partitions.len());
        }
        for _ in 0..partitions.min(*left) {
            let partition = &mut self.partitions[self.next];
            self.keys -= partition.forget_below(*target);
            self.next = (self.next + 1) % self.partitions.len();
            *left -= 1;
        }
    }
}

fn place(tag: u64) -> (usize, u64) {
    let partition = tag >> (u64::BITS - PARTITION_BITS);
    let print = tag << PARTITION_BITS >> (u64::BITS - PRINT_BITS);
    (partition as usize, print)
}

impl Partition {
    fn home(homes: u32, slot: u64) -> usize {
        (((slot >> ROW_BITS) * u64::from(homes)) >> PRINT_BITS) as usize
    }

    fn find(&self, print: u64, out: &mut Vec<u64>) {
        let wanted = print << ROW_BITS;
        let slots = self.slots.get(Partition::home(self.homes, wanted)..).unwrap_or_default();
        // Most lookups end within a few slots without a match, at a place nobody can predict. Looking at a
        // whole line of them and deciding once lets the processor go on to the runs while memory answers.
        if let Some(line) = slots.first_chunk::<LINE>() {
            let (mut met, mut passed) = (false, false);
            for slot in line {
                met |= slot >> ROW_BITS == print;
                passed |= slot >> ROW_BITS > print;
            }
            if passed && !met {
                return;
            }
        }
        for &slot in slots {
            // EMPTY has the largest print, so the order ends the search there, too.
            match slot >> ROW_BITS {
                other if other < print => {}
                other if other == print && slot != EMPTY => out.push(slot & ROW_MASK),
                _ => return,
            }
        }
    }

    fn insert(&mut self, slot: u64) {
        // Seven eighths full keeps clusters to a few slots; growing by little keeps a key below ten bytes.
        if self.used * 8 >= self.homes * 7 {
            self.rebuild((self.homes + self.homes / 16).max(16), |_| true);
        }
        let mut at = Partition::home(self.homes, slot);
        while self.slots.get(at).is_some_and(|&other| other < slot) {
            at += 1;
        }
        match self.slots[at..].iter().position(|&other| other == EMPTY) {
            Some(free) => {
                self.slots.copy_within(at..at + free, at + 1);
                self.slots[at] = slot;
            }
            // Prints that agree cannot be spread by growing: the last cluster gets longer instead.
            None => {
                self.slots.reserve_exact(SPILL);
                self.slots.insert(at, slot);
            }
        }
        self.used += 1;
    }

    /// Returns how many it forgot.
    fn forget_below(&mut self, row: u64) -> u64 {
        let live = |slot: u64| slot & ROW_MASK >= row;
        let kept = self.slots.iter().filter(|&&slot| slot != EMPTY && live(slot)).count() as u32;
        let forgotten = self.used - kept;
        if forgotten > 0 {
            self.used = kept;
            self.rebuild((kept / 6 * 7).max(16), live);
        }
        forgotten.into()
    }

    fn rebuild(&mut self, homes: u32, keep: impl Fn(u64) -> bool) {
        let old = core::mem::replace(&mut self.slots, alloc::vec![EMPTY; homes as usize]);
        self.homes = homes;
        let mut next = 0;
        for slot in old.into_iter().filter(|&slot| slot != EMPTY && keep(slot)) {
            // In ascending order each takes its home or the place after its neighbour.
            next = next.max(Partition::home(homes, slot));
            match self.slots.get_mut(next) {
                Some(free) => *free = slot,
                None => {
                    self.slots.reserve_exact(SPILL);
                    self.slots.push(slot);
                }
            }
            next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Few partitions and few prints, so that clusters, equal tags and spills happen.
    fn crowded(n: u16) -> u64 {
        u64::from(n % 3) << 52 | u64::from(n / 3 % 40) << 28 | u64::from(n)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn finds_what_a_map_finds(tags in proptest::collection::vec(any::<u16>(), 1..600), cut in 0_u64..700) {
            let mut recent = Recent::new();
            let mut model: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
            for (row, &n) in tags.iter().enumerate() {
                recent.insert(crowded(n), row as u64);
                model.entry(crowded(n) >> 28).or_default().push(row as u64);
            }
            for pass in 0..2 {
                for n in 0..=u16::MAX / 64 {
                    let mut found = Vec::new();
                    recent.find(crowded(n), &mut found);
                    let expected = model.get(&(crowded(n) >> 28)).cloned().unwrap_or_default();
                    prop_assert_eq!(found, expected);
                }
                if pass == 0 {
                    for _ in 0..4 {
                        recent.forget_some_below(cut, 1 << (PARTITION_BITS - 2));
                    }
                    model.values_mut().for_each(|rows| rows.retain(|&row| row >= cut));
                    prop_assert_eq!(recent.len(), model.values().map(|rows| rows.len() as u64).sum::<u64>());
                }
            }
        }
    }

    #[test]
    fn the_largest_print_is_told_from_an_empty_slot() {
        let mut recent = Recent::new();
        let mut found = Vec::new();
        recent.find(u64::MAX, &mut found);
        for row in 0..100 {
            recent.insert(u64::MAX, row);
        }
        recent.find(u64::MAX, &mut found);
        assert_eq!(found, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_million_keys_take_ten_bytes_each_at_most() {
        let mut recent = Recent::new();
        let mut tag = 1_u64;
        for row in 0..1_000_000 {
            tag = tag.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ tag >> 29;
            recent.insert(tag.wrapping_mul(0xd134_2543_de82_ef95), row);
        }
        let each = recent.memory() as f64 / 1e6;
        assert!(each <= 10.0, "{each} bytes a key");
    }
}
