//! Folding records into a ledger and comparing with what the log says of itself.
//!
//! Without secrets a submission can be judged only once an `Attested` behind it has said whether its signature was
//! good. So records wait, in order, until that is known; how many may wait is bounded by how far an `Attested` may
//! lie behind what it covers.
//!
//! What does not depend on the order is made on all threads: judgements, and the leaves that submissions have if
//! each is the first of its name. The fold decides, and writes again what was not as supposed.

use std::collections::VecDeque;
use std::sync::Arc;

use engine::checkpoint::Signed;
use engine::event::{Anchored, Attested, Event, Payload, Record};
use engine::ledger::{Ledger, Place as Turn, Table};
use engine::log::{Digest, Lsn};
use engine::summary::signature::Algorithm;
use engine::summary::{Judged, SignatureForm, Unsigned};
use engine::tree::Tree;

use super::anchors::Recent;
use super::judges::{Due, Judges, Shares, Source};
use super::{Place, Wrong};

/// Bytes of records judged together: work for every thread, and little enough that what is made of it is still in the
/// processor's cache when it is folded.
const CHUNK_BYTES: usize = 512 << 10;

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

    /// An attestation of a checkpoint that was logged before and agreed; what it proves was not looked at.
    fn anchored(&mut self, anchored: &Anchored, signed: &Signed) {
        let _ = (anchored, signed);
    }
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
    /// Attestations of logged checkpoints by others: witnesses, time stamps and the like.
    pub anchored: u64,
    /// Records at the end that no `Attested` covers: their bytes are checked, what they mean is not.
    pub uncovered: u64,
    /// Events in those records: the most entries they can turn out to add.
    pub uncovered_events: u64,
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

/// Records that were judged and wait for their turn to be folded.
struct Chunk {
    records: Vec<Waiting>,
    /// One for each of their events.
    judged: Vec<Option<Judged>>,
    /// With the keys and policy of this version.
    version: u64,
}

/// A fold in progress.
pub struct Fold<'a, T> {
    ledger: Ledger<T>,
    source: &'a Source<'a>,
    judges: Arc<Judges<'a>>,
    threads: usize,
    chunk_bytes: usize,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Records at the front of `waiting` that can be folded, and their bytes.
    known: usize,
    known_bytes: usize,
    judged: Option<Chunk>,
    /// Log time after the last record that was judged.
    now_ms: u64,
    heads: VecDeque<Tree>,
    anchors: Recent,
    next: Lsn,
    counts: Counts,
    last_attested: Option<(Lsn, Attested)>,
}

impl<'a, T: Table> Fold<'a, T> {
    /// Goes on from `ledger`: an empty one, or one restored from a snapshot.
    pub fn new(ledger: Ledger<T>, source: &'a Source<'a>, threads: usize) -> Fold<'a, T> {
        let judges = Arc::new(Judges::of(&ledger, source));
        let next = ledger.applied().next();
        let heads = VecDeque::from([ledger.tree().clone()]);
        let now_ms = ledger.log_time_ms();
        Fold {
            ledger,
            now_ms,
            source,
            judges,
            threads,
            chunk_bytes: CHUNK_BYTES,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            known: 0,
            known_bytes: 0,
            judged: None,
            heads,
            anchors: Recent::new(next == Lsn(1)),
            next,
            counts: Counts::default(),
            last_attested: None,
        }
    }

    /// Sets how many bytes of records are judged together; changes nothing but speed and memory.
    #[must_use]
    pub fn in_chunks_of(mut self, bytes: usize) -> Fold<'a, T> {
        self.chunk_bytes = bytes;
        self
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
        if self.known_bytes >= self.chunk_bytes {
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
        if let Some(chunk) = self.judged.take() {
            self.fold_chunk(&chunk, watch)?;
        }
        self.counts.uncovered = self.waiting.len() as u64;
        self.counts.uncovered_events =
            self.waiting.iter().map(|waiting| events(&waiting.record).len() as u64).sum();
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

    /// Judges what is known now on all threads but this one, which meanwhile folds what was judged before and then
    /// helps: whichever of the two takes longer, no thread waits for the other.
    fn fold_known(&mut self, watch: &mut dyn Watch) -> Result<(), Wrong> {
        let ready: Vec<Waiting> = self.waiting.drain(..self.known).collect();
        self.waiting_bytes -= self.known_bytes;
        (self.known, self.known_bytes) = (0, 0);
        self.refresh();
        let judges = self.judges.clone();
        let before = self.judged.take();
        let events = flat(&ready, &mut self.now_ms);
        let shares = Shares::new(&judges, &events);
        let helpers = (self.threads - 1).min(shares.count().saturating_sub(1));
        let done = std::thread::scope(|scope| {
            let helpers: Vec<_> = (0..helpers).map(|_| scope.spawn(|| shares.work())).collect();
            if let Some(chunk) = before {
                self.fold_chunk(&chunk, watch)?;
            }
            let mut done = shares.work();
            for helper in helpers {
                done.extend(helper.join().expect("judging does not panic"));
            }
            Ok(done)
        })?;
        drop(events);
        self.judged =
            Some(Chunk { records: ready, judged: Shares::collect(done), version: judges.version() });
        Ok(())
    }

    /// Takes up the keys and policy that count now.
    fn refresh(&mut self) {
        if self.judges.version() != self.ledger.keys_version() {
            self.judges = Arc::new(Judges::of(&self.ledger, self.source));
        }
    }

    fn fold_chunk(&mut self, chunk: &Chunk, watch: &mut dyn Watch) -> Result<(), Wrong> {
        let mut judged = chunk.judged.iter();
        for waiting in &chunk.records {
            let mut bytes = waiting.signatures.iter().copied();
            for (nth, event) in events(&waiting.record).iter().enumerate() {
                let mut result = judged.next().and_then(Option::as_ref);
                let again;
                if let Event::Received(envelope) = event {
                    let byte = bytes.next().unwrap_or(0);
                    if self.ledger.keys_version() != chunk.version {
                        // A key, tenant or policy was set since: judged with the ones that count now.
                        self.refresh();
                        again = self.judges.judge(envelope, byte);
                        result = Some(&again);
                    }
                    self.count(result);
                }
                self.event(waiting, nth as u32, event, result, watch)?;
            }
            self.end_record(waiting.lsn, watch)?;
        }
        Ok(())
    }

    fn end_record(&mut self, lsn: Lsn, watch: &mut dyn Watch) -> Result<(), Wrong> {
        self.ledger.end_record(lsn);
        self.counts.records += 1;
        watch.record(lsn, &|| self.ledger.digest())?;
        if self.heads.back().is_none_or(|head| head.size() != self.ledger.tree().size()) {
            if self.heads.len() == HEADS {
                self.heads.pop_front();
            }
            self.heads.push_back(self.ledger.tree().clone());
        }
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
                self.anchors.agreed(&signed);
                watch.checkpoint(lsn, &signed)?;
            }
            Event::Anchored(anchored) => {
                let signed = self
                    .anchors
                    .find(anchored)
                    .map_err(|(expected, found)| wrong("anchor", expected, found))?;
                self.counts.anchored += 1;
                watch.anchored(anchored, &signed);
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

/// All events of a run of records, in the order in which they will be folded. `now_ms` is the log time before them, and
/// then the one after them.
fn flat<'r>(records: &'r [Waiting], now_ms: &mut u64) -> Vec<Due<'r>> {
    let mut all = Vec::new();
    for waiting in records {
        let mut bytes = waiting.signatures.iter().copied();
        for (nth, event) in events(&waiting.record).iter().enumerate() {
            let signature = if matches!(event, Event::Received(_)) { bytes.next().unwrap_or(0) } else { 0 };
            *now_ms = (*now_ms).max(event.at_ms().unwrap_or(0));
            let place = Turn { lsn: waiting.lsn, nth: nth as u32, time_ms: *now_ms };
            all.push(Due { event, signature, place });
        }
    }
    all
}

fn events(record: &Record) -> &[Event] {
    match &record.payload {
        Payload::Events(events) => events,
        Payload::Blank | Payload::Membership(_) => &[],
    }
}

#[cfg(test)]
mod tests;
