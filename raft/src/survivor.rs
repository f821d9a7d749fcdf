//! A group of one, begun with the log of a node whose group is lost.
//!
//! When most disks of a group are gone for good, nobody can say what was agreed after the last record that the disk
//! that is left knows of. The only safe thing that can be done with that log is a new group of its own: this one
//! writes it again, record by record, under another cluster's name, followed by a membership of one. Nothing in the
//! old directory is changed, and no node of the old group can ever take the new one for its own.
//!
//! - S2: every entry of the old log is kept, in its place and under its term, those above the commit mark too: they may have
//!   been acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use engine::event::{Payload, Record};
use engine::log::Lsn;
use segments::{Disk, Frame, Log, LogError, Options};

use crate::codec;
use crate::error::OpenError;
use crate::log_store::Recovered;
use crate::repair::Mender;
use crate::transport::Alone;
use crate::types::{Member, Membership, lsn_of};

/// Entries read before they are written, bytes.
const CHUNK: usize = 4 << 20;

/// What a log was begun with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survived {
    /// The last record of the old log.
    pub last: Lsn,
    /// The last that the old log knew to be agreed; what stands above it may or may not have been acknowledged.
    pub committed: Lsn,
}

fn wrong(why: &str) -> OpenError {
    OpenError::Io(io::Error::other(why.to_owned()))
}

fn failed(error: LogError) -> OpenError {
    OpenError::Io(io::Error::other(error.to_string()))
}

/// Writes the log on `old` to the empty disk `new`, as the log of a group of which `node` is the only voter.
///
/// # Errors
/// [`OpenError`]; the old log is as a start of its node would have left it, and the new one is of no use.
pub fn survive<D: Disk>(
    (old, old_options): (D, &Options),
    (new, new_options): (D, &Options),
    node: u64,
    me: Member,
) -> Result<Survived, OpenError> {
    // The others are gone for good: what this log has lost, it has lost.
    let nobody = Mender::new(node, Arc::new(Alone), Vec::new());
    let (mut log, found, _) = Recovered::open(old, old_options, &nobody).map_err(|refused| refused.error)?;
    let (Some(vote), Some(last)) = (found.vote, found.last) else {
        return Err(wrong("the log holds nothing"));
    };
    let (tip, committed) = (log.tip(), log.committed());
    if log.first() != Lsn(1) || lsn_of(last.index) != tip {
        return Err(wrong("the log does not begin at record 1"));
    }
    let nothing = |_: &Frame<'_>| Err::<(), _>("the new log is not empty");
    let (mut out, _) = Log::open(new, new_options, nothing)?;
    out.append(Frame::vote(vote.leader_id.term, &codec::encode_vote(&vote))).map_err(failed)?;
    let mut next = Lsn(1);
    while next <= tip {
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        log.read(next, &mut |frame| {
            bytes += frame.payload.len();
            chunk.push((frame.lsn, frame.term, frame.payload.to_vec()));
            bytes < CHUNK
        })
        .map_err(failed)?;
        let Some((end, ..)) = chunk.last() else { return Err(wrong("a record of the log cannot be read")) };
        next = end.next();
        for (lsn, term, payload) in &chunk {
            out.append(Frame::entry(*lsn, *term, payload)).map_err(failed)?;
            out.set_committed(committed.min(*lsn));
        }
        out.flush().map_err(failed)?;
    }
    let alone = Membership::new(vec![BTreeSet::from([node])], BTreeMap::from([(node, me)]))
        .map_err(|error| wrong(&error.to_string()))?;
    let mut record = Vec::new();
    Record { leader: node, payload: Payload::Membership(codec::encode_membership(&alone)) }
        .encode(&mut record);
    out.append(Frame::entry(tip.next(), last.leader_id.term, &record)).map_err(failed)?;
    out.flush().map_err(failed)?;
    Ok(Survived { last: tip, committed })
}
