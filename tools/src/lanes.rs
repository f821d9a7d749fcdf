//! SHA-256 of many leaves at once, one in each of the 16 lanes of an AVX-512 register: about twice as fast as one after
//! the other with the processor's own SHA instructions. A lane whose leaf is done takes the next one, so leaves of any
//! lengths keep all lanes busy. Processors without AVX-512 hash one after the other; the results are the same bytes,
//! which a property test holds against `engine`'s own hash.

use engine::log::Digest;
use engine::tree::leaf_hash;

/// The RFC 6962 hashes of these leaves, in their order.
#[must_use]
pub fn leaf_hashes(leaves: &[&[u8]]) -> Vec<Digest> {
    // Few leaves leave most lanes empty.
    #[cfg(target_arch = "x86_64")]
    if leaves.len() >= 8 && wide::here() {
        return wide::leaf_hashes(leaves);
    }
    leaves.iter().map(|leaf| leaf_hash(leaf)).collect()
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::{
        __m512i, _mm512_add_epi32, _mm512_loadu_si512, _mm512_ror_epi32, _mm512_set1_epi32,
        _mm512_set4_epi32, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_shuffle_i32x4,
        _mm512_srli_epi32, _mm512_storeu_si512, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32,
        _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    };

    use engine::log::Digest;

    /// Hashes at a time.
    const LANES: usize = 16;

    /// Bytes of a block.
    const BLOCK: usize = 64;

    const START: [u32; 8] =
        [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

    const ROUND: [u32; 64] = [
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
    ];

    /// Whether the processor has what this needs.
    pub(super) fn here() -> bool {
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
    }

    /// A leaf on its way through a lane.
    #[derive(Clone, Copy)]
    struct Lane<'a> {
        /// Which one; `None` where there is none left.
        leaf: Option<usize>,
        bytes: &'a [u8],
        /// Blocks hashed so far.
        done: usize,
        /// The first block, which begins with the zero byte before a leaf, and the last one or two, with the padding.
        first: [u8; BLOCK],
        last: [u8; 2 * BLOCK],
        /// Blocks in all, and the number of the first one in `last`.
        blocks: usize,
        tail: usize,
    }

    impl<'a> Lane<'a> {
        const IDLE: Lane<'static> = Lane {
            leaf: None,
            bytes: &[],
            done: 0,
            first: [0; BLOCK],
            last: [0; 2 * BLOCK],
            blocks: 0,
            tail: 0,
        };

        fn new(leaf: usize, bytes: &'a [u8]) -> Lane<'a> {
            let length = bytes.len() + 1;
            let blocks = (length + 9).div_ceil(BLOCK);
            let tail = length / BLOCK;
            let mut lane = Lane { leaf: Some(leaf), bytes, blocks, tail, ..Lane::IDLE };
            // The message is a zero byte and the leaf: byte n of it is byte n - 1 of the leaf.
            let rest = &bytes[(tail * BLOCK).saturating_sub(1)..];
            let begin = usize::from(tail == 0);
            lane.last[begin..begin + rest.len()].copy_from_slice(rest);
            lane.last[begin + rest.len()] = 0x80;
            let end = (blocks - tail) * BLOCK;
            lane.last[end - 8..end].copy_from_slice(&(8 * length as u64).to_be_bytes());
            if tail > 0 {
                lane.first[1..].copy_from_slice(&bytes[..BLOCK - 1]);
            }
            lane
        }

        /// The next block.
        fn block(&self) -> &[u8; BLOCK] {
            let bytes = if self.done >= self.tail {
                &self.last[(self.done - self.tail) * BLOCK..]
            } else if self.done == 0 {
                &self.first[..]
            } else {
                &self.bytes[self.done * BLOCK - 1..]
            };
            bytes.first_chunk().expect("a block is whole")
        }
    }

    pub(super) fn leaf_hashes(leaves: &[&[u8]]) -> Vec<Digest> {
        assert!(here(), "asked for only where the processor has it");
        let mut hashes = vec![Digest::ZERO; leaves.len()];
        let mut rest = leaves.iter().enumerate().map(|(leaf, bytes)| Lane::new(leaf, bytes));
        let mut lanes: [Lane<'_>; LANES] = std::array::from_fn(|_| rest.next().unwrap_or(Lane::IDLE));
        // state[word][lane]
        let mut state: [[u32; LANES]; 8] = START.map(|word| [word; LANES]);
        while lanes.iter().any(|lane| lane.leaf.is_some()) {
            // As many steps as no lane needs to be looked at in between.
            let steps =
                lanes.iter().filter(|lane| lane.leaf.is_some()).map(|lane| lane.blocks - lane.done).min();
            for _ in 0..steps.unwrap_or(0) {
                let blocks: [&[u8; BLOCK]; LANES] = std::array::from_fn(|lane| lanes[lane].block());
                // SAFETY: `here` was asserted: the processor has AVX-512 F and BW.
                unsafe { compress(&mut state, &blocks) };
                lanes.iter_mut().filter(|lane| lane.leaf.is_some()).for_each(|lane| lane.done += 1);
            }
            for (nth, lane) in lanes.iter_mut().enumerate() {
                let Some(leaf) = lane.leaf.filter(|_| lane.done == lane.blocks) else { continue };
                for (word, chunk) in state.iter().zip(hashes[leaf].0.chunks_exact_mut(4)) {
                    chunk.copy_from_slice(&word[nth].to_be_bytes());
                }
                *lane = rest.next().unwrap_or(Lane::IDLE);
                state.iter_mut().zip(START).for_each(|(word, start)| word[nth] = start);
            }
        }
        hashes
    }

    /// Rows of 16 words to columns: word w of all lanes in register w.
    #[target_feature(enable = "avx512f,avx512bw")]
    fn transpose(rows: [__m512i; LANES]) -> [__m512i; LANES] {
        let mut pairs = rows;
        for i in 0..8 {
            pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
            pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
        }
        let mut fours = pairs;
        for i in 0..4 {
            fours[4 * i] = _mm512_unpacklo_epi64(pairs[4 * i], pairs[4 * i + 2]);
            fours[4 * i + 1] = _mm512_unpackhi_epi64(pairs[4 * i], pairs[4 * i + 2]);
            fours[4 * i + 2] = _mm512_unpacklo_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
            fours[4 * i + 3] = _mm512_unpackhi_epi64(pairs[4 * i + 1], pairs[4 * i + 3]);
        }
        let mut out = fours;
        for k in 0..4 {
            let a = _mm512_shuffle_i32x4::<0x44>(fours[k], fours[4 + k]);
            let b = _mm512_shuffle_i32x4::<0xEE>(fours[k], fours[4 + k]);
            let c = _mm512_shuffle_i32x4::<0x44>(fours[8 + k], fours[12 + k]);
            let d = _mm512_shuffle_i32x4::<0xEE>(fours[8 + k], fours[12 + k]);
            out[k] = _mm512_shuffle_i32x4::<0x88>(a, c);
            out[4 + k] = _mm512_shuffle_i32x4::<0xDD>(a, c);
            out[8 + k] = _mm512_shuffle_i32x4::<0x88>(b, d);
            out[12 + k] = _mm512_shuffle_i32x4::<0xDD>(b, d);
        }
        out
    }

    /// One block of every lane (FIPS 180-4, 6.2.2).
    #[target_feature(enable = "avx512f,avx512bw")]
    fn compress(state: &mut [[u32; LANES]; 8], blocks: &[&[u8; BLOCK]; LANES]) {
        const XOR: i32 = 0x96;
        const CHOOSE: i32 = 0xCA;
        const MAJORITY: i32 = 0xE8;
        // Words stand in a block with their highest byte first.
        let swap = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
        let mut rows = [_mm512_setzero_si512(); LANES];
        for (row, block) in rows.iter_mut().zip(blocks) {
            // SAFETY: 64 bytes are read from an array of 64, wherever it lies.
            let bytes = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
            *row = _mm512_shuffle_epi8(bytes, swap);
        }
        let mut words = transpose(rows);
        let mut now = [_mm512_setzero_si512(); 8];
        for (word, lanes) in now.iter_mut().zip(state.iter()) {
            // SAFETY: 16 words of 4 bytes are read from an array of 16.
            *word = unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) };
        }
        let before = now;
        for round in 0..64 {
            let slot = round % 16;
            if round >= 16 {
                let (w15, w2) = (words[(round + 1) % 16], words[(round + 14) % 16]);
                let s0 = _mm512_ternarylogic_epi32::<XOR>(
                    _mm512_ror_epi32::<7>(w15),
                    _mm512_ror_epi32::<18>(w15),
                    _mm512_srli_epi32::<3>(w15),
                );
                let s1 = _mm512_ternarylogic_epi32::<XOR>(
                    _mm512_ror_epi32::<17>(w2),
                    _mm512_ror_epi32::<19>(w2),
                    _mm512_srli_epi32::<10>(w2),
                );
                let older = _mm512_add_epi32(words[slot], words[(round + 9) % 16]);
                words[slot] = _mm512_add_epi32(older, _mm512_add_epi32(s0, s1));
            }
            let [a, b, c, d, e, f, g, h] = now;
            let s1 = _mm512_ternarylogic_epi32::<XOR>(
                _mm512_ror_epi32::<6>(e),
                _mm512_ror_epi32::<11>(e),
                _mm512_ror_epi32::<25>(e),
            );
            let choose = _mm512_ternarylogic_epi32::<CHOOSE>(e, f, g);
            let constant = _mm512_add_epi32(words[slot], _mm512_set1_epi32(ROUND[round].cast_signed()));
            let t1 = _mm512_add_epi32(_mm512_add_epi32(h, s1), _mm512_add_epi32(choose, constant));
            let s0 = _mm512_ternarylogic_epi32::<XOR>(
                _mm512_ror_epi32::<2>(a),
                _mm512_ror_epi32::<13>(a),
                _mm512_ror_epi32::<22>(a),
            );
            let majority = _mm512_ternarylogic_epi32::<MAJORITY>(a, b, c);
            let t2 = _mm512_add_epi32(s0, majority);
            now = [_mm512_add_epi32(t1, t2), a, b, c, _mm512_add_epi32(d, t1), e, f, g];
        }
        for ((word, before), lanes) in now.into_iter().zip(before).zip(state.iter_mut()) {
            let sum = _mm512_add_epi32(word, before);
            // SAFETY: 16 words of 4 bytes are written to an array of 16.
            unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), sum) };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn same(leaves: &[Vec<u8>]) {
        let slices: Vec<&[u8]> = leaves.iter().map(Vec::as_slice).collect();
        let want: Vec<Digest> = slices.iter().map(|leaf| leaf_hash(leaf)).collect();
        assert_eq!(leaf_hashes(&slices), want);
    }

    /// Every length around the borders of blocks, in every lane, each with its own bytes.
    #[test]
    fn every_length_in_every_lane() {
        let leaf = |length: usize, seed: usize| -> Vec<u8> {
            (0..length).map(|at| (at * 31 + seed * 17 + length) as u8).collect()
        };
        same(&(0..300).map(|length| leaf(length, length)).collect::<Vec<_>>());
        same(&(0..300).rev().map(|length| leaf(length, 3)).collect::<Vec<_>>());
        for count in 0..40 {
            same(&(0..count).map(|nth| leaf(600 + 7 * nth, nth)).collect::<Vec<_>>());
        }
        same(&[vec![leaf(65_535, 1)], vec![leaf(0, 0); 33], vec![leaf(64, 2); 5]].concat());
    }

    proptest! {
        #[test]
        fn lanes_give_what_one_after_the_other_gives(
            leaves in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..700), 0..70)
        ) {
            same(&leaves);
        }
    }
}
