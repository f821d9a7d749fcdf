//! How often what happened: counted from outcomes, once, in total and for each tenant.

use alloc::vec::Vec;

use super::outcome::{Outcome, RefusedReason};
use crate::codec::{DecodeError, Reader};

/// Counts of submissions. Configuration and notes are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Submissions received.
    pub received: u64,
    /// Bytes of their bodies.
    pub body_bytes: u64,
    /// First of their name, accepted and not escalated.
    pub accepted: u64,
    /// First of their name, accepted and escalated.
    pub escalated: u64,
    /// First of their name, not accepted.
    pub rejected: u64,
    /// The same again.
    pub duplicates: u64,
    /// Another content under a taken name.
    pub conflicts: u64,
    /// Not readable.
    pub malformed: u64,
    /// No key, or no signature that verifies.
    pub unsigned: u64,
    /// Well signed, but without what a summary needs.
    pub structure: u64,
}

impl Tally {
    /// Encoded size, bytes.
    pub const SIZE: usize = 80;

    /// Counts one submission. `verdict` is (accepted, escalated) of a first one.
    pub(super) fn count(&mut self, body: usize, outcome: &Outcome, verdict: (bool, bool)) {
        self.received += 1;
        self.body_bytes += body as u64;
        let counter = match (outcome, verdict) {
            (Outcome::First { .. }, (true, false)) => &mut self.accepted,
            (Outcome::First { .. }, (true, true)) => &mut self.escalated,
            (Outcome::First { .. }, (false, _)) => &mut self.rejected,
            (Outcome::Duplicate { .. }, _) => &mut self.duplicates,
            (Outcome::Conflict { .. }, _) => &mut self.conflicts,
            (Outcome::Refused { reason, .. }, _) => match reason {
                RefusedReason::Malformed => &mut self.malformed,
                RefusedReason::Structure => &mut self.structure,
                _ => &mut self.unsigned,
            },
            (Outcome::Configured { .. } | Outcome::Noted, _) => {
                unreachable!("a submission has its own outcomes")
            }
        };
        *counter += 1;
    }

    /// First submissions: the rows this gave.
    #[must_use]
    pub fn firsts(&self) -> u64 {
        self.accepted + self.escalated + self.rejected
    }

    fn fields(&self) -> [u64; 10] {
        [
            self.received,
            self.body_bytes,
            self.accepted,
            self.escalated,
            self.rejected,
            self.duplicates,
            self.conflicts,
            self.malformed,
            self.unsigned,
            self.structure,
        ]
    }

    /// Appends the counts, little-endian, in the order of the fields.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.fields().iter().for_each(|field| out.extend_from_slice(&field.to_le_bytes()));
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Tally, DecodeError> {
        Ok(Tally {
            received: reader.u64("received")?,
            body_bytes: reader.u64("body bytes")?,
            accepted: reader.u64("accepted")?,
            escalated: reader.u64("escalated")?,
            rejected: reader.u64("rejected")?,
            duplicates: reader.u64("duplicates")?,
            conflicts: reader.u64("conflicts")?,
            malformed: reader.u64("malformed")?,
            unsigned: reader.u64("unsigned")?,
            structure: reader.u64("structure")?,
        })
    }
}
