//! Folding records into a ledger and comparing with what the log says of itself.
//!
//! Without secrets a submission can be judged only once an `Attested` behind it has said whether its signature was
//! good. So records wait, in order, until that is known; how many may wait is bounded by how far an `Attested` may
//! lie behind what it covers.

use std::collections::VecDeque;

use engine::checkpoint::Signed;
use engine::event::{Attested, Event, Payload, Record};
use engine::ledger::{Ledger, Table};
use engine::log::{Digest, Lsn};
use engine::summary::signature::Algorithm;
use engine::summary::{Judged, SignatureForm, Unsigned};
use engine::tree::Tree;

use super::judges::{Judges, Source};
use super::{Place, Wrong};

/// Bytes of records judged together. Bounds memory and gives every thread work.
const CHUNK_BYTES: usize = 4 << 20;

/// Bytes of records that may wait for an `Attested`. Leaders attest after thousands of records at most.
const WAITING_BYTES: usize = 512 << 20;

/// Tree heads kept to compare checkpoints with, which lie some records behind the head they sign.
const HEADS: usize = 8192;

/// A leaf that was just appended.
#[derive(Clone, Copy, Debug)]
pub struct Appended<'a> {
    /// Its index.
    pub seq: u64,
    /// The record it comes from.
    pub lsn: Lsn,
    /// Log time, milliseconds.
    pub time_ms: u64,
    /// The line.
    pub line: &'a [u8],
    /// The tree, with it.
    pub tree: &'a Tree,
}

/// Who wants to know about what is folded.
pub trait Watch {
    /// A leaf was appended.
    ///
    /// # Errors
    /// Stops the fold.
    fn leaf(&mut self, leaf: &Appended<'_>) -> Result<(), Wrong>;

    /// A record was folded in whole; `digest` computes the ledger's digest after it.
    ///
    /// # Errors
    /// Stops the fold.
    fn record(&mut self, lsn: Lsn, digest: &dyn Fn() -> Digest) -> Result<(), Wrong> {
        let _ = (lsn, digest);
        Ok(())
    }

    /// A logged checkpoint agrees with the tree computed here.
    ///
    /// # Errors
    /// Stops the fold.
    fn checkpoint(&mut self, lsn: Lsn, signed: &Signed) -> Result<(), Wrong>;
}

/// Nobody does.
pub struct Unwatched;

impl Watch for Unwatched {
    fn leaf(&mut self, _: &Appended<'_>) -> Result<(), Wrong> {
        Ok(())
    }

    fn checkpoint(&mut self, _: Lsn, _: &Signed) -> Result<(), Wrong> {
        Ok(())
    }
}

/// What was folded, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Records folded.
    pub records: u64,
    /// Events in them.
    pub events: u64,
    /// Submissions among the events.
    pub submissions: u64,
    /// Submissions whose HMAC result was taken from `Attested`.
    pub hmac_taken: u64,
    /// Signatures checked here.
    pub signatures_checked: u64,
    /// `Attested` events that agreed.
    pub attested: u64,
    /// `Checkpoint` events that agreed.
    pub checkpoints: u64,
    /// Records at the end that no `Attested` covers: their bytes are checked, what they mean is not.
    pub uncovered: u64,
}

struct Waiting {
    lsn: Lsn,
    place: Place,
    record: Record,
    bytes: usize,
    /// One for each submission, as far as known.
    signatures: Vec<u8>,
    submissions: usize,
}

impl Waiting {
    fn is_known(&self) -> bool {
        self.signatures.len() == self.submissions
    }
}

/// A fold in progress.
pub struct Fold<'a, T> {
    ledger: Ledger<T>,
    source: &'a Source<'a>,
    judges: Judges<'a>,
    threads: usize,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Records at the front of `waiting` that can be folded, and their bytes.
    known: usize,
    known_bytes: usize,
    heads: VecDeque<Tree>,
    next: Lsn,
    counts: Counts,
    last_attested: Option<(Lsn, Attested)>,
}

impl<'a, T: Table> Fold<'a, T> {
    /// Goes on from `ledger`: an empty one, or one restored from a snapshot.
    pub fn new(ledger: Ledger<T>, source: &'a Source<'a>, threads: usize) -> Fold<'a, T> {
        let judges = Judges::of(&ledger, source);
        let next = ledger.applied().next();
        let heads = VecDeque::from([ledger.tree().clone()]);
        Fold {
            ledger,
            source,
            judges,
            threads,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            known: 0,
            known_bytes: 0,
            heads,
            next,
            counts: Counts::default(),
            last_attested: None,
        }
    }

    /// The ledger as far as folded.
    #[must_use]
    pub fn ledger(&self) -> &Ledger<T> {
        &self.ledger
    }

    /// What was folded so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The last `Attested` that agreed.
    #[must_use]
    pub fn last_attested(&self) -> Option<&(Lsn, Attested)> {
        self.last_attested.as_ref()
    }

    /// Takes the next record; what comes before the ledger's place is skipped.
    ///
    /// # Errors
    /// [`Wrong`]: the first thing that does not hold.
    pub fn push(
        &mut self,
        lsn: Lsn,
        place: Place,
        payload: &[u8],
        watch: &mut dyn Watch,
    ) -> Result<(), Wrong> {
        if lsn < self.next {
            return Ok(());
        }
        let wrong =
            |part, expected: String, found: String| Wrong { lsn, place: Some(place), part, expected, found };
        if lsn > self.next {
            return Err(wrong("log", format!("record {}", self.next), format!("record {lsn}")));
        }
        self.next = lsn.next();
        let record = Record::decode(payload)
            .map_err(|error| wrong("record", "a record of this format".into(), error.to_string()))?;
        let events = events(&record);
        let submissions = events.iter().filter(|event| matches!(event, Event::Received(_))).count();
        if let Source::Attested = self.source {
            for event in events {
                if let Event::Attested(attested) = event {
                    self.learn(attested).map_err(|(expected, found)| wrong("signatures", expected, found))?;
                }
            }
        }
        let mut signatures = Vec::new();
        if let Source::Secrets(_) = self.source {
            signatures = vec![0; submissions];
        }
        self.waiting_bytes += payload.len();
        self.waiting.push_back(Waiting { lsn, place, record, bytes: payload.len(), signatures, submissions });
        self.advance();
        if self.waiting_bytes - self.known_bytes > WAITING_BYTES {
            let expected = format!("an Attested within {WAITING_BYTES} bytes");
            return Err(wrong("signatures", expected, "none".into()));
        }
        if self.known_bytes >= CHUNK_BYTES {
            self.fold_known(watch)?;
        }
        Ok(())
    }

    /// Folds what can be folded at the end of the log. Records behind the last `Attested` stay unfolded when no
    /// secret is at hand.
    ///
    /// # Errors
    /// [`Wrong`].
    pub fn finish(&mut self, watch: &mut dyn Watch) -> Result<(), Wrong> {
        self.fold_known(watch)?;
        self.counts.uncovered = self.waiting.len() as u64;
        Ok(())
    }

    /// Hands the signature results of an `Attested` to the submissions it covers: those up to `upto` that have
    /// none yet are the last it speaks of.
    fn learn(&mut self, attested: &Attested) -> Result<(), (String, String)> {
        let covered = self.waiting.iter().take_while(|waiting| waiting.lsn <= attested.upto);
        let open: usize = covered.map(|waiting| waiting.submissions - waiting.signatures.len()).sum();
        let Some(skip) = attested.signatures.len().checked_sub(open) else {
            let expected = format!("{open} signature results or more up to record {}", attested.upto);
            return Err((expected, attested.signatures.len().to_string()));
        };
        let mut results = attested.signatures[skip..].iter().copied();
        for waiting in self.waiting.iter_mut().take_while(|waiting| waiting.lsn <= attested.upto) {
            let missing = waiting.submissions - waiting.signatures.len();
            waiting.signatures.extend(results.by_ref().take(missing));
        }
        Ok(())
    }

    fn advance(&mut self) {
        while let Some(waiting) = self.waiting.get(self.known).filter(|waiting| waiting.is_known()) {
            self.known_bytes += waiting.bytes;
            self.known += 1;
        }
    }

    fn fold_known(&mut self, watch: &mut dyn Watch) -> Result<(), Wrong> {
        let ready: Vec<Waiting> = self.waiting.drain(..self.known).collect();
        self.waiting_bytes -= self.known_bytes;
        (self.known, self.known_bytes) = (0, 0);
        let mut flat = Vec::new();
        for waiting in &ready {
            let mut bytes = waiting.signatures.iter().copied();
            for event in events(&waiting.record) {
                let byte = if matches!(event, Event::Received(_)) { bytes.next().unwrap_or(0) } else { 0 };
                flat.push((event, byte));
            }
        }
        if self.judges.version() != self.ledger.keys_version() {
            self.judges = Judges::of(&self.ledger, self.source);
        }
        let version = self.judges.version();
        let judged = self.judges.judge_all(&flat, self.threads);
        let mut judged = judged.into_iter().zip(flat.iter().map(|(_, byte)| *byte));
        for waiting in &ready {
            for (nth, event) in events(&waiting.record).iter().enumerate() {
                let (mut result, byte) = judged.next().unwrap_or((None, 0));
                if let Event::Received(envelope) = event {
                    if self.ledger.keys_version() != version {
                        // A key, tenant or policy was set within this chunk: judged with the ones that count now.
                        if self.judges.version() != self.ledger.keys_version() {
                            self.judges = Judges::of(&self.ledger, self.source);
                        }
                        result = Some(self.judges.judge(envelope, byte));
                    }
                    self.count(result.as_ref());
                }
                self.event(waiting, nth as u32, event, result.as_ref(), watch)?;
            }
            self.ledger.end_record(waiting.lsn);
            self.counts.records += 1;
            watch.record(waiting.lsn, &|| self.ledger.digest())?;
            if self.heads.back().is_none_or(|head| head.size() != self.ledger.tree().size()) {
                if self.heads.len() == HEADS {
                    self.heads.pop_front();
                }
                self.heads.push_back(self.ledger.tree().clone());
            }
        }
        self.advance();
        Ok(())
    }

    fn count(&mut self, judged: Option<&Judged>) {
        self.counts.submissions += 1;
        let Some(judged) = judged else { return };
        // The low five bits of the byte are the form. Without one, only a signature that matched nothing was looked at.
        let hmac = match SignatureForm::from_code(judged.signature_byte() & 31) {
            Some(form) => form.algorithm() == Algorithm::Hmac,
            None => matches!(judged, Judged::BadSignature(Unsigned::NoMatch)),
        };
        match self.source {
            Source::Attested if hmac => self.counts.hmac_taken += 1,
            _ => self.counts.signatures_checked += 1,
        }
    }

    fn event(
        &mut self,
        waiting: &Waiting,
        nth: u32,
        event: &Event,
        judged: Option<&Judged>,
        watch: &mut dyn Watch,
    ) -> Result<(), Wrong> {
        let Waiting { lsn, place, .. } = *waiting;
        let wrong =
            |part, expected: String, found: String| Wrong { lsn, place: Some(place), part, expected, found };
        match event {
            Event::Attested(attested) => {
                self.ledger.check_attested(attested).map_err(|divergence| {
                    let expected =
                        format!("{} as attested after record {}", divergence.expected, divergence.upto);
                    wrong(divergence.projection, expected, divergence.found.to_string())
                })?;
                self.counts.attested += 1;
                self.last_attested = Some((lsn, attested.clone()));
            }
            Event::Checkpoint(note) => {
                let signed = Signed::parse(note)
                    .map_err(|error| wrong("checkpoint", "a signed checkpoint".into(), error.to_string()))?;
                self.compare(&signed).map_err(|(expected, found)| wrong("checkpoint", expected, found))?;
                self.counts.checkpoints += 1;
                watch.checkpoint(lsn, &signed)?;
            }
            _ => {}
        }
        let outcome = self
            .ledger
            .decide(lsn, nth, event, judged)
            .map_err(|error| wrong("index", "an answer".into(), error.to_string()))?;
        let applied = self.ledger.apply(lsn, nth, event, judged, &outcome);
        self.counts.events += 1;
        if let Some(line) = &applied.leaf {
            let tree = self.ledger.tree();
            let time_ms = self.ledger.log_time_ms();
            watch.leaf(&Appended { seq: tree.size() - 1, lsn, time_ms, line, tree })?;
        }
        Ok(())
    }

    /// Compares a logged checkpoint with the tree as it was at the record it signs.
    fn compare(&self, signed: &Signed) -> Result<(), (String, String)> {
        let checkpoint = &signed.checkpoint;
        let here = self.ledger.tree();
        if checkpoint.size > here.size() {
            return Err((
                format!("a tree of at most {} leaves", here.size()),
                format!("{} leaves", checkpoint.size),
            ));
        }
        let at = self.heads.binary_search_by_key(&checkpoint.size, Tree::size);
        let Some(head) = at.ok().and_then(|at| self.heads.get(at)) else {
            return Err((
                "the size of the tree after a recent record".into(),
                format!("{} leaves", checkpoint.size),
            ));
        };
        let root = head.root();
        if root != checkpoint.root {
            return Err((
                format!("root {root} over {} leaves", checkpoint.size),
                checkpoint.root.to_string(),
            ));
        }
        Ok(())
    }
}

fn events(record: &Record) -> &[Event] {
    match &record.payload {
        Payload::Events(events) => events,
        Payload::Blank | Payload::Membership(_) => &[],
    }
}

#[cfg(test)]
mod tests {
    use engine::event::Event;
    use engine::ledger::MemTable;

    use super::super::home::Kek;
    use super::*;
    use crate::world::{REGION, World};

    #[derive(Default)]
    struct Seen(Vec<Vec<u8>>, u64);

    impl Watch for Seen {
        fn leaf(&mut self, leaf: &Appended<'_>) -> Result<(), Wrong> {
            assert_eq!(leaf.seq, self.0.len() as u64);
            self.0.push(leaf.line.to_vec());
            Ok(())
        }

        fn checkpoint(&mut self, _: Lsn, _: &Signed) -> Result<(), Wrong> {
            self.1 += 1;
            Ok(())
        }
    }

    fn fold(records: &[(Lsn, Vec<u8>)], source: &Source<'_>) -> Result<(Counts, Digest, Seen), Wrong> {
        let mut fold = Fold::new(Ledger::new(REGION, MemTable::default()), source, 2);
        let mut seen = Seen::default();
        for (lsn, payload) in records {
            fold.push(*lsn, Place { segment: 1, offset: lsn.0 }, payload, &mut seen)?;
        }
        fold.finish(&mut seen)?;
        Ok((fold.counts(), fold.ledger().digest(), seen))
    }

    #[test]
    fn with_and_without_secrets_the_same_log_means_the_same() {
        let world = World::busy(200);
        let kek = Kek::read(&world.kek()).unwrap();
        let leaves: Vec<_> = world.leaves.iter().map(|(_, leaf)| leaf.clone()).collect();
        for source in [Source::Attested, Source::Secrets(&kek)] {
            let (counts, digest, seen) = fold(&world.records, &source).unwrap();
            assert_eq!(digest, world.ledger.digest());
            assert_eq!((seen.0, seen.1), (leaves.clone(), counts.checkpoints));
            assert_eq!((counts.submissions, counts.uncovered), (600, 0));
            assert!(counts.attested > 20);
            match source {
                Source::Attested => assert!(counts.hmac_taken > 100 && counts.signatures_checked > 100),
                Source::Secrets(_) => assert_eq!((counts.hmac_taken, counts.signatures_checked), (0, 600)),
            }
        }
    }

    #[test]
    fn what_no_attested_covers_is_counted_and_not_guessed() {
        let mut world = World::busy(20);
        world.submit(3);
        world.submit(1);
        let (counts, ..) = fold(&world.records, &Source::Attested).unwrap();
        assert_eq!(counts.uncovered, 2);
        let kek = Kek::read(&world.kek()).unwrap();
        let (counts, digest, _) = fold(&world.records, &Source::Secrets(&kek)).unwrap();
        assert_eq!((counts.uncovered, digest), (0, world.ledger.digest()));
    }

    /// A log that was written anew with one thing changed, all sums made again: only folding finds that.
    #[test]
    fn every_kind_of_lie_is_found_at_its_record() {
        let world = World::busy(60);
        type Lie = fn(&mut Event) -> bool;
        let lies: [(&str, Lie); 5] = [
            ("outcomes", |event| match event {
                Event::Attested(attested) if attested.upto > Lsn(5) => {
                    attested.outcomes = Digest::ZERO;
                    true
                }
                _ => false,
            }),
            ("ledger", |event| match event {
                Event::Attested(attested) if attested.upto > Lsn(5) => {
                    attested.ledger = Digest::ZERO;
                    true
                }
                _ => false,
            }),
            ("signatures", |event| match event {
                Event::Attested(attested) => attested.signatures.pop().is_some(),
                _ => false,
            }),
            ("checkpoint", |event| match event {
                Event::Checkpoint(note) => {
                    let at = note.iter().position(|byte| *byte == b'\n').unwrap() + 1;
                    note[at] = if note[at] == b'1' { b'2' } else { b'1' };
                    true
                }
                _ => false,
            }),
            ("outcomes", |event| match event {
                Event::Received(envelope) => {
                    envelope.salt[0] ^= 1;
                    true
                }
                _ => false,
            }),
        ];
        for (part, lie) in lies {
            let mut records = world.records.clone();
            let changed = records.iter_mut().find_map(|(lsn, bytes)| {
                let mut record = Record::decode(bytes).unwrap();
                let Payload::Events(events) = &mut record.payload else { return None };
                if !events.iter_mut().any(lie) {
                    return None;
                }
                bytes.clear();
                record.encode(bytes);
                Some(*lsn)
            });
            let wrong = fold(&records, &Source::Attested).err().expect("a lie is found");
            assert_eq!(wrong.part, part, "{wrong}");
            assert!(wrong.lsn >= changed.unwrap() && wrong.lsn.0 <= changed.unwrap().0 + 20, "{wrong}");
        }
        let mut records = world.records.clone();
        records.remove(10);
        let wrong = fold(&records, &Source::Attested).err().unwrap();
        assert_eq!((wrong.part, wrong.lsn), ("log", Lsn(12)));
    }
}
