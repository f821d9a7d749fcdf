//! The tree over the WORM files' lines, in memory that does not grow with them: one pass that keeps only the nodes
//! somebody asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use engine::checkpoint::Signed;
use engine::log::Digest;
use engine::tree::{Hashes, Tree, consistency_proof, inclusion_proof, leaf_hash};

use super::lines::{Lines, Next, Place, files};
use crate::report::{Exit, Fault};
use crate::ui::{Progress, Ui, Unit};

/// A proof is made from nodes; this remembers which it asks for.
#[derive(Debug, Default)]
struct Asked(BTreeSet<(u8, u64)>);

impl Hashes for Asked {
    type Error = std::convert::Infallible;

    fn hash(&mut self, level: u8, index: u64) -> Result<Digest, Self::Error> {
        self.0.insert((level, index));
        Ok(Digest::ZERO)
    }
}

/// Nodes kept during a pass.
#[derive(Debug, Default)]
pub struct Nodes(BTreeMap<(u8, u64), Option<Digest>>);

impl Nodes {
    /// Keeps what the audit path of leaf `index` in a tree of `size` leaves needs.
    pub fn want_inclusion(&mut self, index: u64, size: u64) {
        let mut asked = Asked::default();
        let _ = inclusion_proof(index, size, &mut asked);
        self.0.extend(asked.0.into_iter().map(|node| (node, None)));
    }

    /// Keeps what connects a tree of `from` leaves with one of `to`.
    pub fn want_consistency(&mut self, from: u64, to: u64) {
        let mut asked = Asked::default();
        let _ = consistency_proof(from, to, &mut asked);
        self.0.extend(asked.0.into_iter().map(|node| (node, None)));
    }

    fn note(&mut self, level: u8, index: u64, hash: Digest) {
        if let Some(slot) = self.0.get_mut(&(level, index)) {
            *slot = Some(hash);
        }
    }
}

/// The pass did not come to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSeen;

impl Hashes for Nodes {
    type Error = NotSeen;

    fn hash(&mut self, level: u8, index: u64) -> Result<Digest, NotSeen> {
        self.0.get(&(level, index)).copied().flatten().ok_or(NotSeen)
    }
}

/// Visits a line: its number, its bytes, where it stands, and the nodes (level, index, hash) it completes.
pub type Each<'a> = dyn FnMut(u64, &[u8], &Place, &[(u8, u64, Digest)]) -> Result<(), Fault> + 'a;

/// Goes through the first `size` lines of the WORM files in `dir`, hands each to `each` with the nodes it completes,
/// and gives the root over them.
///
/// # Errors
/// Lines are missing (exit code 3), or are not lines (2), or a file cannot be read.
pub fn pass(dir: &Path, size: u64, ui: Ui, nodes: &mut Nodes, each: &mut Each<'_>) -> Result<Digest, Fault> {
    let list = files(dir).map_err(|error| {
        Fault::new(
            "cannot read the WORM files",
            dir.display(),
            error,
            "restart flkd: it makes them again from the log",
        )
        .exit(Exit::Missing)
    })?;
    let mut lines = Lines::new(list);
    let mut tree = Tree::new();
    let mut progress: Progress = ui.progress("leaves", size, Unit::Items("entries"));
    let mut made = Vec::new();
    while tree.size() < size {
        let seq = tree.size();
        match lines.next_line().map_err(|error| Fault::read(dir, error))? {
            Next::Line(line, place) => {
                made.clear();
                tree.append_with(leaf_hash(line), |level, index, hash| {
                    nodes.note(level, index, hash);
                    made.push((level, index, hash));
                });
                each(seq, line, &place, &made)?;
            }
            Next::TooLong(place) => {
                let why = format!("entry {seq} is longer than any leaf");
                return Err(Fault::new(
                    "not a WORM file",
                    format!("{}, offset {:#x}", place.path.display(), place.offset),
                    why,
                    "worm verify names what is wrong",
                )
                .exit(Exit::Tampered));
            }
            Next::Torn(_) | Next::End => {
                let why = format!("they hold {seq} entries, the checkpoint is over {size}");
                return Err(Fault::new(
                    "the WORM files end too early",
                    dir.display(),
                    why,
                    "restart flkd: it makes them again from the log",
                )
                .exit(Exit::Missing));
            }
        }
        progress.add(1);
    }
    progress.finish();
    Ok(tree.root())
}

/// That the lines are what the checkpoint signs.
///
/// # Errors
/// They are not: exit code 2.
pub fn insist(signed: &Signed, root: Digest, dir: &Path) -> Result<(), Fault> {
    if root == signed.checkpoint.root {
        return Ok(());
    }
    let why = format!(
        "the entries give root {root}, the checkpoint over {} signs {}",
        signed.checkpoint.size, signed.checkpoint.root
    );
    Err(Fault::new(
        "the WORM files are not what the checkpoint signs",
        dir.display(),
        why,
        "worm verify names the first bad entry",
    )
    .exit(Exit::Tampered))
}
