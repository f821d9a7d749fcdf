//! Mutations for the bounded run: what a disk, a network or an adversary does to good bytes.

use proptest::prelude::*;

/// One change of a byte string.
#[derive(Clone, Debug)]
pub enum Mutation {
    /// Flips one bit.
    Flip(prop::sample::Index, u8),
    /// Overwrites with a number at the edge of a width, little-endian.
    Edge(prop::sample::Index, u8, u8),
    /// Cuts the end off.
    Cut(prop::sample::Index),
    /// Repeats a stretch.
    Repeat(prop::sample::Index, prop::sample::Index),
    /// Removes a stretch.
    Remove(prop::sample::Index, prop::sample::Index),
    /// Puts bytes in.
    Insert(prop::sample::Index, Vec<u8>),
}

const EDGES: [u64; 10] =
    [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];
const LONGEST: usize = 1 << 20;

impl Mutation {
    /// Applies the change.
    pub fn apply(&self, bytes: &mut Vec<u8>) {
        let here = |index: &prop::sample::Index, bytes: &[u8]| index.index(bytes.len() + 1);
        match self {
            Mutation::Flip(at, bit) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << (bit % 8);
            }
            Mutation::Flip(..) => {}
            Mutation::Edge(at, which, width) => {
                let at = here(at, bytes);
                let number = EDGES[usize::from(*which) % EDGES.len()].to_le_bytes();
                let width = usize::from(*width % 8 + 1).min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&number[..width]);
            }
            Mutation::Cut(at) => bytes.truncate(here(at, bytes)),
            Mutation::Repeat(one, other) => {
                let (from, to) = ordered(here(one, bytes), here(other, bytes));
                if bytes.len() + (to - from) <= LONGEST {
                    let stretch = bytes[from..to].to_vec();
                    bytes.splice(to..to, stretch);
                }
            }
            Mutation::Remove(one, other) => {
                let (from, to) = ordered(here(one, bytes), here(other, bytes));
                bytes.drain(from..to);
            }
            Mutation::Insert(at, new) => {
                let at = here(at, bytes);
                bytes.splice(at..at, new.iter().copied());
            }
        }
    }
}

fn ordered(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}

/// One to six changes.
pub fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let index = any::<prop::sample::Index>;
    let one = prop_oneof![
        4 => (index(), any::<u8>()).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        3 => (index(), any::<u8>(), any::<u8>()).prop_map(|(at, edge, width)| Mutation::Edge(at, edge, width)),
        1 => index().prop_map(Mutation::Cut),
        1 => (index(), index()).prop_map(|(one, other)| Mutation::Repeat(one, other)),
        1 => (index(), index()).prop_map(|(one, other)| Mutation::Remove(one, other)),
        1 => (index(), prop::collection::vec(any::<u8>(), 1..16)).prop_map(|(at, new)| Mutation::Insert(at, new)),
    ];
    prop::collection::vec(one, 1..6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{TARGETS, Target};
    use proptest::test_runner::{Config, TestRunner};
    use std::path::Path;

    /// Rounds for each target in a normal test run; the long run is libFuzzer's.
    const ROUNDS: u32 = 10_000;

    fn corpus(target: &Target) -> Vec<Vec<u8>> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name);
        let mut paths: Vec<_> = match std::fs::read_dir(&dir) {
            Ok(entries) => entries.map(|entry| entry.expect("a directory entry").path()).collect(),
            Err(_) => Vec::new(),
        };
        paths.sort();
        paths.iter().map(|path| std::fs::read(path).expect("a corpus file")).collect()
    }

    #[test]
    fn no_target_breaks_on_mutated_seeds() {
        for target in TARGETS {
            let mut inputs = (target.seeds)();
            assert!(!inputs.is_empty(), "{} has no seeds", target.name);
            inputs.extend(corpus(target));
            inputs.push(Vec::new());
            for input in &inputs {
                (target.run)(input);
            }
            let mut runner =
                TestRunner::new(Config { cases: ROUNDS, failure_persistence: None, ..Config::default() });
            let changed = (prop::sample::select(inputs), mutations()).prop_map(|(mut bytes, changes)| {
                changes.iter().for_each(|change| change.apply(&mut bytes));
                bytes
            });
            let outcome = runner.run(&changed, |bytes| {
                (target.run)(&bytes);
                Ok(())
            });
            if let Err(error) = outcome {
                panic!("target {}: {error}", target.name);
            }
        }
    }

    #[test]
    fn the_corpus_belongs_to_targets() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let name = entry.expect("a directory entry").file_name();
            let name = name.to_str().expect("a text name");
            assert!(name == "README.md" || crate::fuzz::target(name).is_some(), "{name} is no target");
        }
    }

    #[test]
    fn the_driver_finds_a_planted_defect() {
        let mut runner =
            TestRunner::new(Config { cases: ROUNDS, failure_persistence: None, ..Config::default() });
        let seed = b"\x05\x00\x00\x00hello".to_vec();
        let changed = mutations().prop_map(move |changes| {
            let mut bytes = seed.clone();
            changes.iter().for_each(|change| change.apply(&mut bytes));
            bytes
        });
        let outcome = runner.run(&changed, |bytes| {
            // A decoder that trusts its length field.
            if let [length, 0, 0, 0, rest @ ..] = bytes.as_slice() {
                prop_assert!(usize::from(*length) <= rest.len());
            }
            Ok(())
        });
        assert!(outcome.is_err(), "the mutations never reached a wrong length");
    }
}
