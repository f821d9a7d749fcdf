//! Leaves written before their turn: what a replay can do on all cores.
//!
//! Nearly every submission is the first of its name, and then its leaf follows from its judgement, its place, log time
//! and the policy. [`Ahead`] writes it on that supposition, beside the judgement and with the hashes of many leaves made
//! together. The ledger takes it only where all of that is so when its turn comes, and writes it itself otherwise: what was
//! written ahead changes no leaf (I3).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::fold::pcs;
use super::{Ledger, Outcome, Rule, Table};
use crate::event::Envelope;
use crate::leaf::{Leaf, What};
use crate::log::{Digest, Lsn};
use crate::summary::{Judged, Sound};
use crate::tree::leaf_hashes;

/// The leaf that a submission has if it is the first of its name, at a supposed place, log time and policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    place: Place,
    commitment: Digest,
    rules: u64,
    pub(super) line: Vec<u8>,
    pub(super) hash: Digest,
}

/// Where and when a submission is supposed to be folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The record.
    pub lsn: Lsn,
    /// The event's place in it.
    pub nth: u32,
    /// Log time then: the largest that any event up to and with this one carries, milliseconds.
    pub time_ms: u64,
}

/// What leaves say besides what a judgement and a place do.
#[derive(Clone, Debug)]
pub struct Ahead {
    region: String,
    rules: u64,
    rule: Rule,
}

impl Ahead {
    /// Writes the leaf of every sound submission.
    pub fn write(&self, submissions: &mut [(Place, &Envelope, &mut Judged)]) {
        let mut written: Vec<(&mut Sound, Place, Vec<u8>)> = Vec::with_capacity(submissions.len());
        for (place, envelope, judged) in submissions {
            let Judged::Sound(sound) = &mut **judged else { continue };
            let Place { lsn, nth, time_ms } = *place;
            let what = What::Pcs(pcs(&self.rule, envelope.tenant, sound));
            let line = Leaf { lsn, nth, time_ms, region: self.region.as_str().into(), what }.encode();
            written.push((sound, *place, line));
        }
        let hashes = leaf_hashes(written.iter().map(|(_, _, line)| line.as_slice()));
        for ((sound, place, line), hash) in written.into_iter().zip(hashes) {
            let (commitment, rules) = (sound.commitment, self.rules);
            sound.written = Some(Box::new(Written { place, commitment, rules, line, hash }));
        }
    }
}

impl<T: Table> Ledger<T> {
    /// For writing leaves ahead, under the policy that counts now.
    #[must_use]
    pub fn ahead(&self) -> Ahead {
        Ahead { region: self.region.clone(), rules: self.rules_version, rule: self.rules.current().1.clone() }
    }

    /// The leaf of this event if it was written ahead and everything is as was supposed.
    pub(super) fn written<'a>(
        &self,
        lsn: Lsn,
        nth: u32,
        judged: Option<&'a Judged>,
        outcome: &Outcome,
    ) -> Option<&'a Written> {
        let (Some(Judged::Sound(sound)), Outcome::First { .. }) = (judged, outcome) else { return None };
        let place = Place { lsn, nth, time_ms: self.now_ms };
        sound.written.as_deref().filter(|written| {
            written.place == place
                && written.rules == self.rules_version
                && written.commitment == sound.commitment
        })
    }
}
