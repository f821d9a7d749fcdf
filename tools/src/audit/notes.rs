//! The checkpoints that stand in a log, picked out of its frames without decoding anything else.
//!
//! A truncation voids the records after its position, and the checkpoints in them.

use engine::checkpoint::Signed;
use engine::event::checkpoint_notes;
use engine::log::Lsn;
use segments::{Frame, Kind};

/// A checkpoint of the log, or why a record that may hold one cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// The record.
    pub lsn: Lsn,
    /// What it says.
    pub signed: Result<Signed, String>,
}

/// The checkpoints of a run of frames, in order. Memory grows with them, some 200 bytes each, and with nothing else.
#[derive(Debug, Default)]
pub struct Notes {
    list: Vec<Logged>,
    /// The lowest position a truncation went back to: records before this run may be void.
    back_to: Option<Lsn>,
}

impl Notes {
    /// Takes up the next frame.
    pub fn frame(&mut self, frame: &Frame<'_>) {
        let lsn = frame.lsn;
        match frame.kind {
            Kind::Entry => {
                let list = &mut self.list;
                let read = checkpoint_notes(frame.payload, |note| {
                    let signed = Signed::parse(&note).map_err(|error| error.to_string());
                    list.push(Logged { lsn, signed });
                });
                if let Err(error) = read {
                    self.list.push(Logged { lsn, signed: Err(error.to_string()) });
                }
            }
            Kind::Truncate => self.truncate(lsn),
            Kind::Vote | Kind::Purged => {}
        }
    }

    fn truncate(&mut self, lsn: Lsn) {
        let keep = self.list.partition_point(|logged| logged.lsn <= lsn);
        self.list.truncate(keep);
        self.back_to = Some(self.back_to.map_or(lsn, |back| back.min(lsn)));
    }

    /// Takes up what a later run of frames found.
    pub fn append(&mut self, later: &mut Notes) {
        if let Some(lsn) = later.back_to.take() {
            self.truncate(lsn);
        }
        self.list.append(&mut later.list);
    }

    /// All that count.
    #[must_use]
    pub fn list(&self) -> &[Logged] {
        &self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    #[test]
    fn truncations_void_checkpoints_of_earlier_runs_too() {
        let world = World::busy(30);
        let (lsn, payload) = world.records.last().unwrap();
        let entry = Frame::entry(*lsn, 1, payload);
        let found = |frames: &[Frame<'_>]| {
            let mut notes = Notes::default();
            frames.iter().for_each(|frame| notes.frame(frame));
            notes
        };
        let mut notes = found(&[entry]);
        assert_eq!(notes.list()[0].signed, Ok(Signed::parse(&world.checkpoint).unwrap()));
        notes.append(&mut found(&[Frame::truncate(*lsn)]));
        assert_eq!(notes.list().len(), 1);
        notes.append(&mut found(&[Frame::truncate(Lsn(lsn.0 - 1)), entry]));
        assert_eq!(notes.list().len(), 1);
        notes.append(&mut found(&[Frame::truncate(Lsn(1))]));
        assert_eq!(notes.list(), []);
    }
}
