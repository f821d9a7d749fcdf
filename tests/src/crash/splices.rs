//! T5: good bytes in wrong places. Every block and batch of a log is whole; its place is not.

use super::flips::{Reference, Seen};
use super::world::Op;
use crate::disk::Device;

const BLOCK: usize = 4096;

/// One change: whose block goes where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    from: (String, usize),
    to: (String, usize),
    swaps: bool,
}

/// Every copy and swap of two blocks within and between files, where the blocks differ.
fn splices(log: &Device, other: &Device) -> Vec<Splice> {
    let blocks = |device: &Device| {
        let mut blocks = Vec::new();
        for name in device.names() {
            let bytes = device.bytes(&name).expect("it is there");
            blocks.extend((0..bytes.len() / BLOCK).map(|nth| (name.clone(), nth)));
        }
        blocks
    };
    let differ = |from: &(String, usize), to: &(String, usize)| block(other, from) != block(log, to);
    let mut splices = Vec::new();
    for to in blocks(log) {
        for from in blocks(other) {
            if differ(&from, &to) {
                splices.push(Splice { from: from.clone(), to: to.clone(), swaps: false });
                splices.push(Splice { from, to: to.clone(), swaps: true });
            }
        }
    }
    splices
}

fn block(device: &Device, (name, nth): &(String, usize)) -> Vec<u8> {
    device.bytes(name).expect("it is there")[nth * BLOCK..][..BLOCK].to_vec()
}

fn put(device: &Device, (name, nth): &(String, usize), block: &[u8]) {
    let mut bytes = device.bytes(name).expect("it is there");
    bytes[nth * BLOCK..][..BLOCK].copy_from_slice(block);
    device.replace(name, bytes);
}

/// Tries every splice of `other`'s blocks into `log`: how many were refused, repaired and harmless.
///
/// # Errors
/// In words, when a spliced log opens and is another.
pub fn all(log: &Reference, other: &Device, every: usize) -> Result<[usize; 3], String> {
    let mut seen = [0; 3];
    for splice in splices(&log.device, other).into_iter().step_by(every) {
        let device = log.device.fork(1);
        let (new, old) = (block(other, &splice.from), block(&device, &splice.to));
        put(&device, &splice.to, &new);
        // A swap within one log; into another it would be a copy again.
        if splice.swaps && device.bytes(&splice.from.0).is_some() {
            put(&device, &splice.from, &old);
        }
        match log.judge(&device).map_err(|error| format!("{splice:?}: {error}"))? {
            Seen::Refused => seen[0] += 1,
            Seen::Repaired => seen[1] += 1,
            Seen::Harmless => seen[2] += 1,
        }
    }
    Ok(seen)
}

/// The log that the others are spliced into.
pub const STORY: [Op; 7] = [Op::One, Op::Three, Op::Vote, Op::Fill, Op::One, Op::Three, Op::One];

#[cfg(test)]
mod tests {
    use super::super::stride;
    use super::*;

    fn insist(what: &str, other: &Device, every: usize) {
        let [refused, repaired, harmless] =
            all(&Reference::new(&STORY), other, every).unwrap_or_else(|error| panic!("{error}"));
        println!("T5 {what}: {refused} refused, {repaired} repaired, {harmless} harmless");
        assert!(refused > 0);
    }

    #[test]
    fn blocks_of_the_same_log() {
        insist("same log", &Reference::new(&STORY).device, stride(17));
    }

    /// The same log some steps earlier: every block of it was once right, many at this very place.
    #[test]
    fn blocks_of_its_own_past() {
        for steps in 1..STORY.len() {
            insist(&format!("{steps} steps"), &Reference::new(&STORY[..steps]).device, stride(17));
        }
    }

    /// The same cluster and region with another history, as after a restore from a backup that went on by itself.
    #[test]
    fn blocks_of_another_history() {
        let other = [Op::Vote, Op::Three, Op::Fill, Op::Three, Op::Vote, Op::One];
        insist("another history", &Reference::new(&other).device, stride(17));
    }
}
