//! Whether what was fetched is what it should be: against the list, its own sums, the file before it, and what its frames
//! say of the group.

use super::ledger::Known;
use super::{Have, SeedError, Terms, Trouble, remove};
use crate::peers::files::Listed;
use raft::Member;
use segments::seed::follows;
use segments::{CheckError, Checked, Frame, Kind};
use std::io;
use std::path::PathBuf;

impl Terms<'_> {
    /// Whether a file is the segment that was listed and that comes next. The inner error says what is wrong with it.
    pub(super) async fn check(
        &self,
        path: PathBuf,
        number: u64,
        listed: &Listed,
        before: &Have,
    ) -> Result<Result<Have, String>, Trouble> {
        let (node, incarnation) = (self.me.node, self.me.incarnation);
        let known = before.known.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let mut seen = Seen { known, ..Seen::default() };
            let mut each = |_: u64, frame: &Frame<'_>| seen.frame(frame, node, incarnation);
            segments::check_copy(&path, number, &mut each).map(|good| (good, seen))
        });
        let (good, seen) = match checked.await.map_err(|error| self.here(io::Error::other(error)))? {
            Ok(checked) => checked,
            Err(CheckError::Io(error)) if error.kind() != io::ErrorKind::InvalidData => {
                return Err(self.here(error));
            }
            Err(error) => return Ok(Err(format!("segment {number}: {error}"))),
        };
        if seen.used {
            return Err(Trouble::Here(SeedError::Used(node)));
        }
        let Checked { header, footer, committed } = good;
        let mut known = seen.known;
        known.committed = known.committed.max(committed);
        known.bytes += header.bytes;
        Ok(if header.identity != self.identity {
            Err(format!("segment {number} belongs to another log"))
        } else if !follows(&header, before.last.as_ref()) {
            Err(format!("segment {number} does not follow the one before it"))
        } else if seen.ahead {
            Err(format!("segment {number} has entries of a term that its votes do not reach"))
        } else if footer.digest != listed.digest || header.bytes != listed.bytes {
            Err(format!("segment {number} has digest {}, and {} was listed", footer.digest, listed.digest))
        } else {
            Ok(Have { last: Some((header, footer)), known })
        })
    }

    /// What an earlier process fetched whole.
    pub(super) async fn present(&self) -> Result<Have, Trouble> {
        let mut have = Have::default();
        loop {
            let number = have.segments() + 1;
            let path = self.path(number);
            let Ok((header, footer)) = segments::seed::read_sealed(&self.dir, number) else {
                // What cannot even be begun to read is fetched again.
                return remove(&path).map(|()| have).map_err(|error| self.here(error));
            };
            let listed = Listed { bytes: header.bytes, digest: footer.digest };
            match self.check(path.clone(), number, &listed, &have).await? {
                Ok(more) => have = more,
                Err(why) => {
                    tracing::warn!(why, "a file that was fetched before does not hold: it is fetched again");
                    return remove(&path).map(|()| have).map_err(|error| self.here(error));
                }
            }
        }
    }
}

/// What the frames of a segment say that its sums do not.
#[derive(Default)]
struct Seen {
    /// This node's name belonged to another directory.
    used: bool,
    /// The vote that stands: each segment begins with it.
    vote: u64,
    /// An entry is newer than the vote: its owner would follow leaders who never saw it.
    ahead: bool,
    known: Known,
}

impl Seen {
    fn frame(&mut self, frame: &Frame<'_>, node: u64, incarnation: u64) {
        self.known.frame(frame);
        match frame.kind {
            Kind::Entry => {
                self.ahead |= frame.term > self.vote;
                let other = |member: Member| member.incarnation != incarnation;
                self.used |= raft::member_in(frame.payload, node).is_some_and(other);
            }
            Kind::Vote => self.vote = frame.term,
            Kind::Truncate | Kind::Purged => {}
        }
    }
}
