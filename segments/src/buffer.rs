//! Memory aligned to the block, for direct I/O.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use engine::limits::BLOCK;
use memmap2::{Advice, MmapMut};

/// From here on a buffer is pages of its own, bytes.
const LARGE: usize = 8 << 20;

/// Zeroed memory, aligned to [`BLOCK`] and a whole number of blocks long.
pub struct BlockBuf {
    start: NonNull<u8>,
    len: usize,
    /// What holds a large buffer's memory.
    pages: Option<MmapMut>,
}

// SAFETY: the buffer owns its memory alone, like a `Vec<u8>`.
unsafe impl Send for BlockBuf {}
// SAFETY: shared access only reads.
unsafe impl Sync for BlockBuf {}

impl BlockBuf {
    /// Zeroed memory of at least `bytes`, rounded up to whole blocks, and never empty.
    #[must_use]
    pub fn new(bytes: usize) -> BlockBuf {
        let len = bytes.max(1).next_multiple_of(BLOCK);
        let layout = BlockBuf::layout(len);
        if len >= LARGE {
            return BlockBuf::large(layout);
        }
        // SAFETY: the layout's size is not zero.
        let raw = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(raw) else { handle_alloc_error(layout) };
        BlockBuf { start, len, pages: None }
    }

    /// Whole segments. Their 16,384 small pages would cost as much as reading them does, so the system is asked for large
    /// ones, which it may decline; and pages fresh from it are zeros already.
    fn large(layout: Layout) -> BlockBuf {
        let Ok(mut pages) = MmapMut::map_anon(layout.size()) else { handle_alloc_error(layout) };
        let _ = pages.advise(Advice::HugePage);
        let start = NonNull::from(&mut pages[..]).cast::<u8>();
        assert!(start.as_ptr().addr().is_multiple_of(BLOCK), "a page begins at a block");
        BlockBuf { start, len: layout.size(), pages: Some(pages) }
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, BLOCK).expect("a buffer is far smaller than the address space")
    }
}

impl Drop for BlockBuf {
    fn drop(&mut self) {
        if self.pages.is_none() {
            // SAFETY: allocated in `new` with this layout, and dropped once.
            unsafe { dealloc(self.start.as_ptr(), BlockBuf::layout(self.len)) }
        }
    }
}

impl Deref for BlockBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` is valid for `len` initialised bytes as long as `self` lives.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for BlockBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_zeroed_and_whole() {
        for bytes in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 10 * BLOCK, LARGE, LARGE + 1] {
            let mut buf = BlockBuf::new(bytes);
            assert_eq!(buf.as_ptr() as usize % BLOCK, 0);
            assert!(buf.len() >= bytes && buf.len().is_multiple_of(BLOCK) && !buf.is_empty());
            assert!(buf.iter().all(|byte| *byte == 0));
            buf.fill(7);
        }
    }
}
