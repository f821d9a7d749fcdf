//! Where shipping meets the outside: the region it works for, and places.
//!
//! A [`Node`] is a [`Home`] and a [`Way`](super::way::Way) is a [`Place`]; the simulator has others, on which everything else here runs
//! unchanged, under virtual time and under places that lie.

use super::bill::Bill;
use super::remote::Bills;
use crate::fold::Index;
use crate::node::Node;
use bytes::Bytes;
use engine::checkpoint::Verifier;
use engine::event::{Event, Record};
use engine::ledger::{Ledger, Table};
use engine::log::Lsn;
use raft::Batch;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// A record of the log, and about how many bytes it has there.
pub type Stored = (Lsn, Record, usize);

/// The region that is worked for, as one of its nodes sees it.
pub trait Home: Send + Sync + 'static {
    /// Where its ledger keeps its rows.
    type Table: Table;

    /// Whether this node leads.
    fn leads(&self) -> bool;

    /// Looks at the ledger: what is agreed and applied here.
    fn ledger<T>(&self, look: impl FnOnce(&Ledger<Self::Table>) -> T) -> T;

    /// Records from `from` on, at most up to `to`; one at least.
    ///
    /// # Errors
    /// Why they cannot be read.
    fn read(&self, from: Lsn, to: Lsn) -> impl Future<Output = Result<Vec<Stored>, String>> + Send;

    /// Leaves that can be read.
    fn written(&self) -> u64;

    /// The leaves of these records, the last of them written, in order.
    ///
    /// # Errors
    /// Why they cannot be read.
    fn leaves(&self, from: Lsn, to: Lsn) -> impl Future<Output = Result<Vec<Vec<u8>>, String>> + Send;

    /// Puts an event into the log and returns when it is agreed and applied.
    ///
    /// # Errors
    /// Why that may not be so; it may be all the same.
    fn propose(&self, event: Event) -> impl Future<Output = Result<(), String>> + Send;

    /// Most bytes of a record.
    fn record_max(&self) -> usize;

    /// Milliseconds since the Unix epoch.
    fn wall_ms(&self) -> u64;

    /// Time that never goes back, since some moment.
    fn up(&self) -> Duration;

    /// Waits.
    fn sleep(&self, pause: Duration) -> impl Future<Output = ()> + Send;

    /// Any byte, to spread pauses.
    fn any_byte(&self) -> u8;

    /// Does what takes long beside everything else.
    ///
    /// # Errors
    /// When it does not come to its end.
    fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, String>> + Send;

    /// The key that has signed all of this log's bills.
    fn bill_key(&self) -> Verifier;

    /// Signs with all keys of this log.
    ///
    /// # Errors
    /// When one of them is not here.
    fn sign(&self, bill: &Bill) -> Result<Vec<u8>, String>;

    /// The key that signs trees of so many leaves.
    ///
    /// # Errors
    /// When it is not here.
    fn key_of(&self, size: u64) -> Result<Verifier, String>;

    /// Leaves under the newest checkpoint of ours.
    fn newest(&self) -> u64;

    /// Leaves under the newest checkpoint of ours that our log says a mirror of this name holds.
    fn proven(&self, mirror: &str) -> u64;

    /// Whether [`Home::proven`] has read the log to its end.
    fn knows_proven(&self) -> bool;

    /// [`Home::propose`] for what changes [`Home::proven`], which knows it afterwards.
    ///
    /// # Errors
    /// As there.
    fn note_proven(&self, event: Event) -> impl Future<Output = Result<(), String>> + Send;
}

/// One region's shipments at a place.
pub trait Place: Send + Sync + 'static {
    /// Whether ranges lie there, and have to be put; otherwise they are made when they are asked for.
    fn keeps(&self) -> bool {
        true
    }

    /// Puts an object unless there is one of this name; `false` if there is.
    ///
    /// # Errors
    /// Why the place may not have taken it.
    fn put_new(&self, name: &str, bytes: Bytes) -> impl Future<Output = Result<bool, String>> + Send;

    /// Puts an object in the place of any other.
    ///
    /// # Errors
    /// Why the place may not have taken it.
    fn put(&self, name: &str, bytes: Bytes) -> impl Future<Output = Result<(), String>> + Send;

    /// An object of at most `most` bytes, if it is there.
    ///
    /// # Errors
    /// Why it cannot be read, or that it is larger.
    fn get(&self, name: &str, most: u64) -> impl Future<Output = Result<Option<Bytes>, String>> + Send;

    /// The records at which bills begin.
    ///
    /// # Errors
    /// Why the place cannot be listed.
    fn bills(&self, at: u64) -> impl Future<Output = Result<Bills, String>> + Send;
}

impl Home for Node {
    type Table = Index;

    fn leads(&self) -> bool {
        Node::leads(self)
    }

    fn ledger<T>(&self, look: impl FnOnce(&Ledger<Index>) -> T) -> T {
        look(&self.fold.core().ledger)
    }

    async fn read(&self, from: Lsn, to: Lsn) -> Result<Vec<Stored>, String> {
        let recent = self.fold.tail.read(from, to);
        if !recent.is_empty() {
            return Ok(recent);
        }
        let records = self.group.read_range(from, to.next()).await.map_err(|error| error.to_string())?;
        let decode = |(lsn, _, bytes): (Lsn, u64, Vec<u8>)| match Record::decode(&bytes) {
            Ok(record) => Ok((lsn, record, bytes.len())),
            Err(error) => Err(format!("record {lsn}: {error}")),
        };
        records.into_iter().map(decode).collect()
    }

    fn written(&self) -> u64 {
        self.fold.projector.written()
    }

    async fn leaves(&self, from: Lsn, to: Lsn) -> Result<Vec<Vec<u8>>, String> {
        let read = self.fold.projector.leaves_of(from, to);
        self.aside(read).await?.map_err(|error| error.to_string())
    }

    async fn propose(&self, event: Event) -> Result<(), String> {
        if self.fold.stalled() || self.fold.damages.any() {
            return Err("our log takes nothing now".into());
        }
        let batch = Batch { events: Arc::new(vec![event]), local: None };
        self.group.propose(batch).await.map(drop).map_err(|error| error.to_string())
    }

    fn record_max(&self) -> usize {
        self.group.record_max()
    }

    fn wall_ms(&self) -> u64 {
        self.clock.wall_ms()
    }

    fn up(&self) -> Duration {
        static BEGUN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        BEGUN.get_or_init(std::time::Instant::now).elapsed()
    }

    async fn sleep(&self, pause: Duration) {
        tokio::time::sleep(pause).await;
    }

    fn any_byte(&self) -> u8 {
        let mut byte = [0];
        // Without randomness pauses are not spread.
        let _ = getrandom::fill(&mut byte);
        byte[0]
    }

    async fn aside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())
    }

    fn bill_key(&self) -> Verifier {
        self.fold.terms.signer.verifier()
    }

    fn sign(&self, bill: &Bill) -> Result<Vec<u8>, String> {
        Ok(bill.sign(&self.fold.signers.load().all()?))
    }

    fn key_of(&self, size: u64) -> Result<Verifier, String> {
        Ok(self.fold.signers.load().main(size)?.verifier())
    }

    fn newest(&self) -> u64 {
        self.fold.projector.tiles().published().map_or(0, |published| published.size)
    }

    fn proven(&self, mirror: &str) -> u64 {
        self.anchors.cosigned_by(mirror).map_or(0, |(size, _)| size)
    }

    fn knows_proven(&self) -> bool {
        self.anchors.is_ready()
    }

    async fn note_proven(&self, event: Event) -> Result<(), String> {
        self.log_anchor(event).await.map(drop)
    }
}
