//! What stands beside the checkpoint for people and other programs: made from the log on every node, and made again
//! wherever it is missing when the log is read.
//!
//! ```text
//! tlog/REGION/checkpoint.witnessed             the checkpoint with most cosignatures
//! tlog/REGION/anchors/SIZE.checkpoint          a checkpoint that was attested, byte for byte
//! tlog/REGION/anchors/SIZE.NAME.tsr            a time stamp over that file (RFC 3161)
//! tlog/REGION/anchors/SIZE.NAME.ots            an OpenTimestamps file over it
//! ```
//! SIZE has twenty digits, so that the names sort by it.

use super::copy::{ending, plain};
use super::state::State;
use engine::checkpoint::Signed;
use engine::event::Event;
use std::io;
use std::path::Path;

/// Writes what these events are about. What cannot be written is said and made by the next reading of the log.
pub fn keep(dir: &Path, events: &[Event], origin: &str) {
    for event in events {
        let Event::Anchored(anchored) = event else { continue };
        let Some(end) = ending(anchored.kind) else { continue };
        let ours = Signed::parse(&anchored.note).ok().filter(|signed| signed.checkpoint.origin == origin);
        let (Some(signed), true) = (ours, plain(&anchored.target)) else { continue };
        let size = signed.checkpoint.size;
        let folder = dir.join("anchors");
        let files = [
            (folder.join(format!("{size:020}.checkpoint")), &anchored.note),
            (folder.join(format!("{size:020}.{}.{end}", anchored.target)), &anchored.evidence),
        ];
        for (path, bytes) in files {
            let write =
                || std::fs::create_dir_all(&folder).and_then(|()| crate::projections::replace(&path, bytes));
            say(&path, write());
        }
    }
}

/// Writes the checkpoint with most cosignatures.
pub fn witnessed(dir: &Path, state: &State) {
    if let Some(best) = state.witnessed_above(0) {
        let path = dir.join("checkpoint.witnessed");
        let text = best.text();
        say(
            &path,
            std::fs::create_dir_all(dir).and_then(|()| crate::projections::replace(&path, text.as_bytes())),
        );
    }
}

fn say(path: &Path, written: io::Result<()>) {
    if let Err(error) = written {
        tracing::warn!(%error, path = %path.display(), "a file beside the checkpoint is not written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::checkpoint::{Checkpoint, Signer};
    use engine::event::{AnchorKind, Anchored};
    use engine::tree::EMPTY_ROOT;

    #[test]
    fn files_are_named_by_size_and_target_and_stay_in_their_folder() {
        let dir = tempfile::tempdir().unwrap();
        let head = Checkpoint { origin: "a/b".into(), size: 7, root: EMPTY_ROOT };
        let note = head.sign(&Signer::new("a/b", &[1; 32]).unwrap());
        let event = |target: &str| {
            let (target, note, evidence) = (target.to_owned(), note.clone(), b"token".to_vec());
            Event::Anchored(Anchored { at_ms: 1, kind: AnchorKind::TimeStamp, target, note, evidence })
        };
        keep(dir.path(), &[event("tsa-1"), event("../../x")], "a/b");
        keep(dir.path(), &[event("other")], "c/d");
        let names = std::fs::read_dir(dir.path().join("anchors")).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["00000000000000000007.checkpoint", "00000000000000000007.tsa-1.tsr"]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(std::fs::read(dir.path().join("anchors").join(&names[0])).unwrap(), note);
    }
}
