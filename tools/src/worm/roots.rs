//! The RFC 6962 roots over the lines of the WORM files, hashed on all cores.
//!
//! The files are cut into windows. A thread takes the next window, counts its lines, learns from the window before how
//! many lines come before its own, hashes them where they lie, and joins what it has to the one tree when its turn
//! comes. Memory: for each thread one window and one line, and less than 100 bytes for each line in it, whatever the files' size.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use engine::limits::LEAF_MAX;
use engine::log::Digest;
use engine::tree::{Range, Tree, leaf_hashes};
use memchr::{memchr, memchr_iter};

use super::lines::Place;

/// Bytes of a window: the lines that begin in it are hashed in one go.
const WINDOW: u64 = 256 << 10;

/// Bytes read at once to find the end of a window's last line.
const MORE: usize = 4 << 10;

/// What somebody says the root over so many lines is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// How many lines, from the first.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
}

/// Between which lines the first one that differs must be: the roots over `from` lines agree, those over `to` do not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Between {
    /// The first line in question.
    pub from: u64,
    /// The line after the last one in question.
    pub to: u64,
    /// Where the first one begins.
    pub begin: Place,
    /// Where the last one ends.
    pub end: Place,
}

/// What the lines come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Lines there are.
    pub lines: u64,
    /// For each claim the root computed; `None` where there are fewer lines.
    pub computed: Vec<Option<Digest>>,
    /// Around the first claim that does not hold, unless a later one does.
    pub between: Option<Between>,
    /// A last line without an end, which a writer may be about to finish.
    pub torn: Option<Place>,
}

/// Why the lines cannot be hashed.
#[derive(Debug)]
pub enum Unreadable {
    /// The file system.
    Io(PathBuf, io::Error),
    /// Something that is no line stands where a line should.
    NoLine(u64, Place, &'static str),
}

/// A piece of a file.
#[derive(Clone, Copy, Debug)]
struct Window {
    file: usize,
    from: u64,
    to: u64,
    len: u64,
}

/// Where a window stands in its hashing.
struct Hashed {
    range: Range,
    /// The range up to each claim in it, and the offset after the claim's last line.
    cuts: Vec<(u64, Range)>,
}

/// A place in the files: which one, and the offset in it.
type Spot = (usize, u64);

/// What the threads share.
struct Shared {
    next: usize,
    counted: (usize, u64),
    joined: usize,
    tree: Tree,
    claim: usize,
    computed: Vec<Option<Digest>>,
    good: (u64, Spot),
    between: Option<(u64, u64, Spot, Spot)>,
    torn: Option<Spot>,
    failed: Option<(usize, Unreadable)>,
}

struct Pass<'a> {
    files: &'a [PathBuf],
    windows: Vec<Window>,
    claims: &'a [Claim],
    shared: Mutex<Shared>,
    moved: Condvar,
}

/// Hashes the lines of `files`, one file after the other, on so many threads, and compares with `claims`, which are in
/// the order of their sizes. `done` hears how many bytes more were hashed, from any thread.
///
/// # Errors
/// [`Unreadable`]: of several the first in the order of the lines.
///
/// # Panics
/// If the claims are in no order.
pub fn roots(
    files: &[PathBuf],
    claims: &[Claim],
    threads: usize,
    done: &(dyn Fn(u64) + Sync),
) -> Result<Roots, Unreadable> {
    assert!(claims.is_sorted_by_key(|claim| claim.size), "claims come in the order of their sizes");
    let mut windows = Vec::new();
    for (file, path) in files.iter().enumerate() {
        let meta = std::fs::metadata(path).map_err(|error| Unreadable::Io(path.clone(), error))?;
        let cuts = (0..meta.len()).step_by(WINDOW as usize);
        windows.extend(cuts.map(|from| Window {
            file,
            from,
            to: (from + WINDOW).min(meta.len()),
            len: meta.len(),
        }));
    }
    let mut shared = Shared {
        next: 0,
        counted: (0, 0),
        joined: 0,
        tree: Tree::new(),
        claim: 0,
        computed: vec![None; claims.len()],
        good: (0, (0, 0)),
        between: None,
        torn: None,
        failed: None,
    };
    shared.settle(claims, 0, &Tree::new(), (0, 0));
    let pass = Pass { files, windows, claims, shared: Mutex::new(shared), moved: Condvar::new() };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(pass.windows.len()) {
            scope.spawn(|| pass.work(done));
        }
        pass.work(done);
    });
    let shared = pass.shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, unreadable)) = shared.failed {
        return Err(unreadable);
    }
    let place = |(file, offset): Spot| Place { path: files[file].clone(), offset };
    Ok(Roots {
        lines: shared.tree.size(),
        computed: shared.computed,
        between: shared.between.map(|(from, to, begin, end)| Between {
            from,
            to,
            begin: place(begin),
            end: place(end),
        }),
        torn: shared.torn.map(place),
    })
}

impl Shared {
    /// Compares the claims over `size` lines with the tree over them, which end at `place`.
    fn settle(&mut self, claims: &[Claim], size: u64, tree: &Tree, place: Spot) {
        let mut root = None;
        while let Some(claim) = claims.get(self.claim).filter(|claim| claim.size == size) {
            let root = *root.get_or_insert_with(|| tree.root());
            self.computed[self.claim] = Some(root);
            self.claim += 1;
            if root == claim.root {
                // Lines under a root that agrees are right: an earlier claim that did not is wrong itself.
                (self.good, self.between) = ((size, place), None);
            } else if self.between.is_none() && self.good.0 < size {
                self.between = Some((self.good.0, size, self.good.1, place));
            }
        }
    }
}

impl Pass<'_> {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `ready`; `None` once an earlier window failed.
    fn until(&self, nth: usize, ready: impl Fn(&Shared) -> bool) -> Option<MutexGuard<'_, Shared>> {
        let mut shared = self.lock();
        loop {
            if shared.failed.as_ref().is_some_and(|(failed, _)| *failed < nth) {
                return None;
            }
            if ready(&shared) {
                return Some(shared);
            }
            shared = self.moved.wait(shared).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Hashes window after window until none is left.
    fn work(&self, done: &(dyn Fn(u64) + Sync)) {
        let mut bytes = Vec::new();
        let mut open: Option<(usize, File)> = None;
        loop {
            let nth = {
                let mut shared = self.lock();
                if shared.next == self.windows.len() || shared.failed.is_some() {
                    return;
                }
                shared.next += 1;
                shared.next - 1
            };
            let window = self.windows[nth];
            let result = self.window(nth, window, &mut open, &mut bytes);
            if let Err(unreadable) = result {
                let mut shared = self.lock();
                if shared.failed.as_ref().is_none_or(|(failed, _)| nth < *failed) {
                    shared.failed = Some((nth, unreadable));
                }
                self.moved.notify_all();
                return;
            }
            done(window.to - window.from);
        }
    }

    fn window(
        &self,
        nth: usize,
        window: Window,
        open: &mut Option<(usize, File)>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), Unreadable> {
        let path = &self.files[window.file];
        let io = |error| Unreadable::Io(path.clone(), error);
        let file = match open {
            Some((number, file)) if *number == window.file => file,
            _ => &open.insert((window.file, File::open(path).map_err(io)?)).1,
        };
        let (start, whole) = read(file, window, bytes).map_err(io)?;
        let lines = &bytes[start..whole];
        let ends: Vec<usize> = memchr_iter(b'\n', lines).collect();
        let count = ends.len() as u64;
        let Some(mut shared) = self.until(nth, |shared| shared.counted.0 == nth) else { return Ok(()) };
        let first = shared.counted.1;
        shared.counted = (nth + 1, first + count);
        drop(shared);
        self.moved.notify_all();

        let begin = window.from - u64::from(window.from > 0);
        let at = |offset: usize| Place { path: path.clone(), offset: begin + offset as u64 };
        let hashed = self
            .hash(first, lines, &ends, begin + start as u64)
            .map_err(|(seq, offset)| Unreadable::NoLine(seq, at(start + offset), "an endless line"))?;
        let torn = whole < bytes.len();
        let last = self.windows.last().is_some_and(|last| last.file == window.file);
        if torn && (!last || bytes.len() - whole > LEAF_MAX) {
            let what =
                if bytes.len() - whole > LEAF_MAX { "an endless line" } else { "a line without an end" };
            return Err(Unreadable::NoLine(first + count, at(whole), what));
        }
        let Some(mut shared) = self.until(nth, |shared| shared.joined == nth) else { return Ok(()) };
        for (offset, range) in hashed.cuts {
            let mut tree = shared.tree.clone();
            range.join(&mut tree);
            shared.settle(self.claims, range.end(), &tree, (window.file, offset));
        }
        hashed.range.join(&mut shared.tree);
        if torn {
            shared.torn = Some((window.file, begin + whole as u64));
        }
        shared.joined = nth + 1;
        drop(shared);
        self.moved.notify_all();
        Ok(())
    }

    /// Hashes whole lines that have these ends, the first of which is number `first` and stands at `offset` of its file. A
    /// line that is too long is named by its number and where it begins.
    fn hash(&self, first: u64, lines: &[u8], ends: &[usize], offset: u64) -> Result<Hashed, (u64, usize)> {
        let spans = || std::iter::once(0).chain(ends.iter().map(|end| end + 1)).zip(ends);
        if let Some((nth, (begin, _))) = spans().enumerate().find(|(_, (begin, end))| *end - begin > LEAF_MAX)
        {
            return Err((first + nth as u64, begin));
        }
        let hashes = leaf_hashes(spans().map(|(begin, end)| &lines[begin..*end]));
        let mut range = Range::from(first);
        let mut cuts: Vec<(u64, Range)> = Vec::new();
        let last = first + hashes.len() as u64;
        let from = self.claims.partition_point(|claim| claim.size <= first);
        for size in self.claims[from..].iter().map(|claim| claim.size).take_while(|size| *size <= last) {
            if size > range.end() {
                range.append_all(&hashes[(range.end() - first) as usize..(size - first) as usize]);
                let after = ends[(size - first) as usize - 1] + 1;
                cuts.push((offset + after as u64, range.clone()));
            }
        }
        range.append_all(&hashes[(range.end() - first) as usize..]);
        Ok(Hashed { range, cuts })
    }
}

/// Reads a window with the byte before it, and on to the end of its last line. Gives where in `bytes` its first line
/// begins and where its last whole line ends; what stands after that has no end, or none within a line's bound.
fn read(file: &File, window: Window, bytes: &mut Vec<u8>) -> io::Result<(usize, usize)> {
    let before = u64::from(window.from > 0);
    let inside = (window.to - window.from + before) as usize;
    bytes.resize(inside, 0);
    file.read_exact_at(bytes, window.from - before)?;
    // A line begins after the newline before it. Where there is none, all of this is the line of an earlier window.
    let start = if before == 0 { Some(0) } else { memchr(b'\n', bytes).map(|at| at + 1) };
    let Some(start) = start.filter(|start| *start < inside) else {
        bytes.truncate(inside);
        return Ok((inside, inside));
    };
    let mut at = window.to;
    let mut newline = (bytes.last() == Some(&b'\n')).then(|| inside - 1);
    while newline.is_none() && at < window.len && bytes.len() - inside <= LEAF_MAX {
        let have = bytes.len();
        let more = MORE.min((window.len - at) as usize);
        bytes.resize(have + more, 0);
        file.read_exact_at(&mut bytes[have..], at)?;
        newline = memchr(b'\n', &bytes[have..]).map(|found| have + found);
        at += more as u64;
    }
    let whole = match newline {
        Some(newline) => {
            bytes.truncate(newline + 1);
            newline + 1
        }
        None => memchr::memrchr(b'\n', bytes).map_or(start, |found| (found + 1).max(start)),
    };
    Ok((start, whole))
}

#[cfg(test)]
mod tests;
