//! The frames that stand until replaced: the last vote and the last purge. They are written again at the
//! beginning of every segment, so that a reader that begins at any segment knows them.

use engine::log::Lsn;

use crate::frame::{FRAME_HEADER, Frame, Kind};

/// One frame with its payload.
#[derive(Clone, Debug)]
pub(crate) struct Owned {
    pub kind: Kind,
    lsn: Lsn,
    term: u64,
    payload: Vec<u8>,
}

impl Owned {
    pub(crate) fn borrow(&self) -> Frame<'_> {
        Frame { kind: self.kind, lsn: self.lsn, term: self.term, payload: &self.payload }
    }

    pub(crate) fn size(&self) -> usize {
        self.borrow().size()
    }
}

/// The last frame of each standing kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    vote: Option<Owned>,
    purged: Option<Owned>,
}

impl Standing {
    /// Largest payload of a frame that is not an entry, bytes: a term and a node.
    pub(crate) const PAYLOAD_MAX: usize = 256;

    /// What they take at the beginning of a segment, bytes, at most.
    pub(crate) const BYTES_MAX: usize = 2 * (FRAME_HEADER + Standing::PAYLOAD_MAX);

    pub(crate) fn fits(frame: &Frame<'_>) -> bool {
        frame.kind == Kind::Entry || frame.payload.len() <= Standing::PAYLOAD_MAX
    }

    pub(crate) fn note(&mut self, frame: &Frame<'_>) {
        let stands = match frame.kind {
            Kind::Vote => &mut self.vote,
            Kind::Purged => &mut self.purged,
            Kind::Entry | Kind::Truncate => return,
        };
        let Frame { kind, lsn, term, payload } = *frame;
        *stands = Some(Owned { kind, lsn, term, payload: payload.to_vec() });
    }

    pub(crate) fn has_purged(&self) -> bool {
        self.purged.is_some()
    }

    pub(crate) fn has_vote(&self) -> bool {
        self.vote.is_some()
    }

    pub(crate) fn vote(&self) -> Option<Frame<'_>> {
        self.vote.as_ref().map(Owned::borrow)
    }

    pub(crate) fn frames(&self) -> Vec<Owned> {
        self.vote.iter().chain(&self.purged).cloned().collect()
    }
}
