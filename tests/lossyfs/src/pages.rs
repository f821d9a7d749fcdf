//! The bytes of one file as shared pages.
//!
//! A file has two contents at once: what a reader sees and what would be there after a power loss. They are
//! almost always nearly equal, and pre-allocated segments are mostly zero, so pages are shared between the two
//! and a page of zeros is not stored. Dense copies of a few images are enough to exhaust a small machine.

use std::collections::BTreeMap;
use std::sync::Arc;

const PAGE: usize = 4096;

/// A sparse, copy-on-write byte array. Reading past the end gives nothing; a hole reads as zeros.
#[derive(Clone, Default)]
pub struct Pages {
    length: u64,
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
}

impl Pages {
    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Copies what exists of `[at, at + want)`.
    pub fn read(&self, at: u64, want: usize) -> Vec<u8> {
        let end = self.length.min(at.saturating_add(want as u64));
        if at >= end {
            return Vec::new();
        }
        let mut out = vec![0u8; (end - at) as usize];
        let mut done = 0usize;
        while done < out.len() {
            let position = at + done as u64;
            let (page, inside) = (position / PAGE as u64, (position % PAGE as u64) as usize);
            let take = (PAGE - inside).min(out.len() - done);
            if let Some(bytes) = self.pages.get(&page) {
                out[done..done + take].copy_from_slice(&bytes[inside..inside + take]);
            }
            done += take;
        }
        out
    }

    /// Puts `bytes` at `at`, growing the file when they reach past its end.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        let mut done = 0usize;
        while done < bytes.len() {
            let position = at + done as u64;
            let (page, inside) = (position / PAGE as u64, (position % PAGE as u64) as usize);
            let take = (PAGE - inside).min(bytes.len() - done);
            let piece = &bytes[done..done + take];
            let zeros = piece.iter().all(|byte| *byte == 0);
            if !zeros || self.pages.contains_key(&page) {
                let slot = self.pages.entry(page).or_insert_with(|| Arc::new([0u8; PAGE]));
                Arc::make_mut(slot)[inside..inside + take].copy_from_slice(piece);
            }
            done += take;
        }
        self.length = self.length.max(at + bytes.len() as u64);
    }

    /// Cuts or extends the file with zeros.
    pub fn set_length(&mut self, length: u64) {
        if length < self.length {
            let (page, inside) = (length / PAGE as u64, (length % PAGE as u64) as usize);
            self.pages.split_off(&(page + u64::from(inside > 0)));
            if inside > 0
                && let Some(slot) = self.pages.get_mut(&page)
            {
                Arc::make_mut(slot)[inside..].fill(0);
            }
        }
        self.length = length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_across_pages_reads_back() {
        let mut pages = Pages::default();
        let bytes: Vec<u8> = (0..10_000u32).map(|n| (n % 251 + 1) as u8).collect();
        pages.write(4000, &bytes);
        assert_eq!(pages.length(), 14_000);
        assert_eq!(pages.read(4000, 10_000), bytes);
        assert_eq!(pages.read(0, 4000), vec![0u8; 4000], "a hole reads as zeros");
        assert_eq!(pages.read(13_999, 50), vec![bytes[9_999]], "a read stops at the end");
        assert!(pages.read(14_000, 1).is_empty());
    }

    #[test]
    fn zeros_are_not_stored_but_do_overwrite() {
        let mut pages = Pages::default();
        pages.write(0, &[0u8; 1 << 20]);
        assert_eq!((pages.pages.len(), pages.length()), (0, 1 << 20));
        pages.write(100, b"text");
        pages.write(100, &[0u8; 4]);
        assert_eq!(pages.read(100, 4), [0u8; 4]);
    }

    #[test]
    fn a_cut_forgets_the_tail_for_good() {
        let mut pages = Pages::default();
        pages.write(0, &[7u8; 9000]);
        pages.set_length(4097);
        pages.set_length(9000);
        assert_eq!(pages.read(4096, 3), [7, 0, 0]);
        assert_eq!(pages.read(8999, 10), [0]);
    }

    #[test]
    fn a_copy_does_not_follow_its_origin() {
        let mut first = Pages::default();
        first.write(0, b"before");
        let second = first.clone();
        first.write(0, b"after!");
        assert_eq!(second.read(0, 6), b"before");
    }
}
