//! Little-endian fields at fixed places, and blocks that carry their own checksum.

use engine::limits::BLOCK;

/// The `N` bytes at `at`. The caller has checked the length: every fixed layout is read from a whole header.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("the header is whole")
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

pub(crate) fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

/// Whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // Sixteen bytes at a time: the compiler vectorises the fold, and most blocks differ early.
    let (heads, tail) = bytes.as_chunks::<64>();
    heads.iter().all(|chunk| chunk.iter().fold(0, |sum, byte| sum | byte) == 0)
        && tail.iter().all(|byte| *byte == 0)
}

/// A block whose bytes 8..12 hold the CRC-32 of all its other bytes. Magic, checksum and version stand at the
/// same place in every kind of block and in every version of the format.
pub(crate) fn close_block(block: &mut [u8; BLOCK]) {
    let crc = block_crc(block);
    put(block, 8, &crc.to_le_bytes());
}

/// Whether [`close_block`] would leave this block as it is.
pub(crate) fn block_holds(block: &[u8; BLOCK]) -> bool {
    u32_at(block, 8) == block_crc(block)
}

fn block_crc(block: &[u8; BLOCK]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..8]);
    hasher.update(&block[12..]);
    hasher.finalize()
}

/// Asks for all of `bytes` at once. Who reads them one after the other otherwise waits for the memory again and again.
pub(crate) fn fetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(64) {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint; the instruction reads nothing that the program could see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_a_block_counts() {
        let mut block = [0; BLOCK];
        block[..8].copy_from_slice(b"FLKSEGMT");
        close_block(&mut block);
        assert!(block_holds(&block));
        for bit in 0..BLOCK * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(!block_holds(&block), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn zero_is_every_byte_zero() {
        let mut bytes = [0; 200];
        assert!(is_zero(&bytes) && is_zero(&[]));
        for at in 0..200 {
            bytes[at] = 1;
            assert!(!is_zero(&bytes));
            bytes[at] = 0;
        }
    }
}
