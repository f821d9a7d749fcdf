//! SHA-256 of many short messages: four of them at a time where the processor has the instructions for it.
//!
//! One step of SHA-256 waits for the step before it, so a single message keeps a processor's SHA unit busy for less than half of
//! the time. Messages that do not depend on each other fill it: four take 1.75 times as long as one. What comes out is
//! what `sha2` gives; where the instructions are missing, `sha2` is what is asked.

use alloc::vec;
use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use crate::log::Digest;

/// A message in parts that follow each other.
pub type Message<'a> = [&'a [u8]; 3];

/// SHA-256 of each message, in their order.
#[must_use]
pub fn sha256(messages: &[Message<'_>]) -> Vec<Digest> {
    let mut hashes = vec![Digest::ZERO; messages.len()];
    sha256_into(messages, &mut hashes);
    hashes
}

/// SHA-256 of each message into the hash of the same place.
///
/// # Panics
/// Unless there are as many of the one as of the other.
pub fn sha256_into(messages: &[Message<'_>], hashes: &mut [Digest]) {
    assert_eq!(messages.len(), hashes.len(), "each message has its hash");
    #[cfg(target_arch = "x86_64")]
    if messages.len() > 1 && x86::sha256(messages, hashes) {
        return;
    }
    for (message, hash) in messages.iter().zip(hashes) {
        *hash = alone(message);
    }
}

fn alone(message: &Message<'_>) -> Digest {
    let mut hasher = Sha256::new();
    message.iter().for_each(|part| hasher.update(part));
    Digest(hasher.finalize().into())
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! With the SHA instructions of x86-64.

    use core::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_cvtsi128_si64, _mm_extract_epi64, _mm_set_epi32,
        _mm_set_epi64x, _mm_setzero_si128, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32,
        _mm_shuffle_epi8, _mm_shuffle_epi32,
    };

    use super::{Message, alone};
    use crate::log::Digest;

    cpufeatures::new!(instructions, "sha", "sse2", "ssse3", "sse4.1");

    const BLOCK: usize = 64;

    /// Blocks of the longest message that is hashed beside others. A longer one fills the unit no worse by itself
    /// than the memory for its copy would cost.
    const BLOCKS_MAX: usize = 32;

    /// Messages under way at once: with more of them the registers no longer suffice.
    const LANES: usize = 4;

    type State = [u32; 8];
    type Blocks = [[u8; BLOCK]; BLOCKS_MAX];

    const START: State = [
        0x6a09_e667,
        0xbb67_ae85,
        0x3c6e_f372,
        0xa54f_f53a,
        0x510e_527f,
        0x9b05_688c,
        0x1f83_d9ab,
        0x5be0_cd19,
    ];

    #[rustfmt::skip]
    const ROUNDS: [[u32; 4]; 16] = [
        [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5], [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
        [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3], [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
        [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc], [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
        [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7], [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
        [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13], [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
        [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3], [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
        [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5], [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
        [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208], [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
    ];

    /// A message under way.
    struct Lane {
        /// Its place among the messages.
        message: usize,
        state: State,
        /// It and its padding.
        blocks: Blocks,
        /// Blocks of it that are hashed, and how many there are.
        done: usize,
        count: usize,
    }

    /// Whether the processor can; then the hashes are written.
    pub(super) fn sha256(messages: &[Message<'_>], hashes: &mut [Digest]) -> bool {
        if !instructions::get() {
            return false;
        }
        let idle = || Lane { message: 0, state: START, blocks: [[0; BLOCK]; BLOCKS_MAX], done: 0, count: 0 };
        let mut lanes: [Lane; LANES] = core::array::from_fn(|_| idle());
        let mut next = 0;
        // Those of the lanes that have something to do come first.
        let mut active = 0;
        while active < LANES && lanes[active].fill(messages, &mut next, hashes) {
            active += 1;
        }
        while let Some(step) = lanes[..active].iter().map(|lane| lane.count - lane.done).min() {
            // SAFETY: the instructions that `advance` is compiled for are there, as was asked above.
            unsafe {
                match active {
                    1 => advance::<1>(&mut lanes, step),
                    2 => advance::<2>(&mut lanes, step),
                    3 => advance::<3>(&mut lanes, step),
                    _ => advance::<LANES>(&mut lanes, step),
                }
            }
            let mut at = 0;
            while at < active {
                let lane = &mut lanes[at];
                if lane.done == lane.count {
                    hashes[lane.message] = lane.hash();
                    if !lane.fill(messages, &mut next, hashes) {
                        active -= 1;
                        lanes.swap(at, active);
                        continue;
                    }
                }
                at += 1;
            }
        }
        true
    }

    impl Lane {
        /// Takes up the next message that fits, if there is one, and hashes those before it that do not.
        fn fill(&mut self, messages: &[Message<'_>], next: &mut usize, hashes: &mut [Digest]) -> bool {
            while let Some(message) = messages.get(*next) {
                let place = *next;
                *next += 1;
                if self.begin(place, message) {
                    return true;
                }
                hashes[place] = alone(message);
            }
            false
        }

        /// Takes up a message; `false` if it is too long to be copied.
        fn begin(&mut self, place: usize, message: &Message<'_>) -> bool {
            let length: usize = message.iter().map(|part| part.len()).sum();
            // A bit that ends the message, and its length in bits in eight bytes, fill up its last block.
            let count = (length + 9).div_ceil(BLOCK);
            if count > BLOCKS_MAX {
                return false;
            }
            let bytes = self.blocks[..count].as_flattened_mut();
            let mut at = 0;
            for part in message {
                bytes[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
            bytes[at] = 0x80;
            let end = bytes.len() - 8;
            bytes[at + 1..end].fill(0);
            bytes[end..].copy_from_slice(&(8 * length as u64).to_be_bytes());
            (self.message, self.state, self.done, self.count) = (place, START, 0, count);
            true
        }

        fn hash(&self) -> Digest {
            let mut digest = Digest::ZERO;
            for (bytes, word) in digest.0.chunks_exact_mut(4).zip(self.state) {
                bytes.copy_from_slice(&word.to_be_bytes());
            }
            digest
        }
    }

    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn four(words: [u32; 4]) -> __m128i {
        _mm_set_epi32(
            words[3].cast_signed(),
            words[2].cast_signed(),
            words[1].cast_signed(),
            words[0].cast_signed(),
        )
    }

    /// Bytes 16 `nth` to 16 `nth` + 15 of a block, as words whose bytes come in the order of the message.
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn load(block: &[u8; BLOCK], nth: usize) -> __m128i {
        let half = |at: usize| {
            let bytes = block[16 * nth + 8 * at..].first_chunk::<8>().expect("a block has eight halves");
            i64::from_le_bytes(*bytes)
        };
        let order = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        _mm_shuffle_epi8(_mm_set_epi64x(half(1), half(0)), order)
    }

    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn words(four: __m128i) -> [u32; 4] {
        let low = _mm_cvtsi128_si64(four).cast_unsigned();
        let high = _mm_extract_epi64::<1>(four).cast_unsigned();
        [low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32]
    }

    /// Hashes the next `step` blocks of the first `N` lanes.
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn advance<const N: usize>(lanes: &mut [Lane; LANES], step: usize) {
        // The instructions want the eight words as two fours: a, b, e, f and c, d, g, h.
        let (mut abef, mut cdgh) = ([_mm_setzero_si128(); N], [_mm_setzero_si128(); N]);
        for lane in 0..N {
            let [a, b, c, d, e, f, g, h] = lanes[lane].state;
            abef[lane] = four([f, e, b, a]);
            cdgh[lane] = four([h, g, d, c]);
        }
        for nth in 0..step {
            let (abef_before, cdgh_before) = (abef, cdgh);
            let mut message = [[_mm_setzero_si128(); 4]; N];
            for lane in 0..N {
                let block = &lanes[lane].blocks[lanes[lane].done + nth];
                message[lane] = [load(block, 0), load(block, 1), load(block, 2), load(block, 3)];
            }
            for (round, constants) in ROUNDS.iter().enumerate() {
                let constants = four(*constants);
                for lane in 0..N {
                    let w = &mut message[lane];
                    let at = |ahead: usize| (round + ahead) % 4;
                    if round >= 4 {
                        let sum = _mm_add_epi32(
                            _mm_sha256msg1_epu32(w[at(0)], w[at(1)]),
                            _mm_alignr_epi8::<4>(w[at(3)], w[at(2)]),
                        );
                        w[at(0)] = _mm_sha256msg2_epu32(sum, w[at(3)]);
                    }
                    let sum = _mm_add_epi32(w[at(0)], constants);
                    cdgh[lane] = _mm_sha256rnds2_epu32(cdgh[lane], abef[lane], sum);
                    let sum = _mm_shuffle_epi32::<0x0e>(sum);
                    abef[lane] = _mm_sha256rnds2_epu32(abef[lane], cdgh[lane], sum);
                }
            }
            for lane in 0..N {
                abef[lane] = _mm_add_epi32(abef[lane], abef_before[lane]);
                cdgh[lane] = _mm_add_epi32(cdgh[lane], cdgh_before[lane]);
            }
        }
        for lane in 0..N {
            let ([f, e, b, a], [h, g, d, c]) = (words(abef[lane]), words(cdgh[lane]));
            lanes[lane].state = [a, b, c, d, e, f, g, h];
            lanes[lane].done += step;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(bodies: &[(Vec<u8>, Vec<u8>)]) {
        let messages: Vec<Message<'_>> =
            bodies.iter().map(|(first, rest)| [&first[..], rest, first]).collect();
        let expected: Vec<Digest> = messages.iter().map(alone).collect();
        assert_eq!(sha256(&messages), expected);
    }

    proptest! {
        /// Lanes end at different blocks, some messages are too long for a lane, some lists do not fill the lanes.
        #[test]
        fn many_at_once_are_hashed_like_each_alone(
            bodies in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..20), prop::collection::vec(any::<u8>(), 0..2200)),
                0..12,
            ),
        ) {
            check(&bodies);
        }
    }

    /// The padding of a message ends in its last block or needs one more.
    #[test]
    fn every_length_is_padded_as_it_should_be() {
        let bodies: Vec<_> = (0..200).map(|n| (vec![n as u8; n % 3], vec![0xa5; n])).collect();
        check(&bodies);
        check(&[2036, 2037, 2038, 2039, 2048].map(|n| (vec![1], vec![2; n])));
    }

    #[test]
    #[should_panic(expected = "each message has its hash")]
    fn a_message_without_a_place_for_its_hash_is_a_mistake() {
        sha256_into(&[[b"", b"", b""]], &mut []);
    }
}
