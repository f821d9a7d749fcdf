//! A group of one voter on a real directory: what its users rely on.

use std::path::Path;
use std::sync::{Arc, Mutex};

use engine::event::{Envelope, Event};
use engine::ids::TenantId;
use engine::limits::{BODY_MAX, RECORD_EVENTS_MAX};
use engine::log::Lsn;
use raft::{Batch, Group, GroupConfig, Machine, ProposeError, ReadError, Role, Standing};
use segments::{Identity, Options, PosixDisk};

/// What a [`Recorder`] was given.
#[derive(Default)]
struct Seen {
    applied: Vec<(Lsn, u64, Vec<Event>)>,
    standing: Standing,
    settled: u64,
}

/// A machine that writes down what it is given, and begins where it is told.
#[derive(Clone, Default)]
struct Recorder {
    seen: Arc<Mutex<Seen>>,
    from: Standing,
}

impl Machine for Recorder {
    fn standing(&self) -> Standing {
        self.from.clone()
    }

    fn apply(&mut self, lsn: Lsn, term: u64, batch: &Batch) {
        self.seen.lock().unwrap().applied.push((lsn, term, batch.events.to_vec()));
        if let Some(answers) = batch.local::<Mutex<Vec<Lsn>>>() {
            answers.lock().unwrap().push(lsn);
        }
    }

    fn passed(&mut self, standing: &Standing) {
        self.seen.lock().unwrap().standing = standing.clone();
    }

    fn settled(&mut self) {
        self.seen.lock().unwrap().settled += 1;
    }
}

fn received(n: u64, bytes: usize) -> Event {
    let mut body = vec![b'x'; bytes];
    body[..8].copy_from_slice(&n.to_le_bytes());
    Event::Received(Envelope { tenant: TenantId::new("t").unwrap(), received_at_ms: n, salt: [0; 16], body })
}

fn batch(n: u64) -> Batch {
    Batch { events: vec![received(n, 100)].into(), local: None }
}

async fn open(dir: &Path, machine: &Recorder) -> Group {
    let identity = Identity { cluster: [1; 16], region: "default".into() };
    let options = Options { segment_bytes: 16 << 20, ..Options::new(identity) };
    Group::open(GroupConfig::new(1, options), PosixDisk::open(dir).unwrap(), machine.clone()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_proposed_is_applied_once_in_order_and_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = Recorder::default();
    let group = open(dir.path(), &first).await;
    let answers = Arc::new(Mutex::new(Vec::<Lsn>::new()));
    let mut pending = Vec::new();
    for n in 0..200 {
        let events = vec![received(n, 100), received(n + 1000, 300)];
        pending
            .push(group.submit(Batch { events: events.into(), local: Some(answers.clone()) }).await.unwrap());
    }
    let mut lsns = Vec::new();
    for pending in pending {
        lsns.push(pending.await.unwrap());
    }
    assert!(lsns.windows(2).all(|pair| pair[1] == pair[0].next()), "one task's batches keep their order");
    assert_eq!(*answers.lock().unwrap(), lsns);

    let metrics = group.metrics();
    assert_eq!((metrics.role, metrics.leader, metrics.node), (Role::Leader, Some(1), 1));
    assert_eq!((metrics.durable, metrics.applied), (*lsns.last().unwrap(), *lsns.last().unwrap()));
    assert!(
        metrics.syncs > 0 && metrics.sync.buckets.iter().sum::<u64>() == metrics.syncs && !metrics.failed
    );
    assert_eq!(group.read_index().await, Ok(*lsns.last().unwrap()));
    group.shutdown().await;
    drop(group);

    let second = Recorder::default();
    let group = open(dir.path(), &second).await;
    assert!(first.seen.lock().unwrap().applied == second.seen.lock().unwrap().applied, "replay differs");
    assert!(group.metrics().term > metrics.term, "F15: a new life leads in a new term");
    let after = group.propose(batch(7)).await.unwrap();
    assert!(after > *lsns.last().unwrap());
    group.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_stands_somewhere_is_given_only_what_comes_after() {
    let dir = tempfile::tempdir().unwrap();
    let first = Recorder::default();
    let group = open(dir.path(), &first).await;
    for n in 0..20 {
        group.propose(batch(n)).await.unwrap();
    }
    let from = first.seen.lock().unwrap().standing.clone();
    for n in 20..30 {
        group.propose(batch(n)).await.unwrap();
    }
    group.shutdown().await;
    drop(group);

    let second = Recorder { seen: Arc::default(), from: from.clone() };
    let group = open(dir.path(), &second).await;
    {
        let (first, second) = (first.seen.lock().unwrap(), second.seen.lock().unwrap());
        let rest: Vec<_> = first.applied.iter().filter(|(lsn, ..)| *lsn > from.lsn).cloned().collect();
        assert_eq!(rest.len(), 10);
        assert!(second.applied == rest, "replay differs");
    }
    group.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_out_of_bounds_is_refused_and_what_is_let_in_is_let_out() {
    let dir = tempfile::tempdir().unwrap();
    let group = open(dir.path(), &Recorder::default()).await;
    let refused = |result| matches!(result, Err(ProposeError::OutOfBounds { .. }));
    assert!(refused(group.propose(Batch::default()).await));
    let many = Batch { events: vec![received(0, 8); RECORD_EVENTS_MAX + 1].into(), local: None };
    assert!(refused(group.propose(many).await));
    let large = Batch { events: vec![received(0, BODY_MAX); 4].into(), local: None };
    assert!(refused(group.propose(large).await));
    // More than may be in flight at once, so this ends only if every share is given back.
    for n in 0..40 {
        let batch = Batch { events: vec![received(n, BODY_MAX - 8); 3].into(), local: None };
        drop(group.submit(batch).await.unwrap());
    }
    let end = group.propose(batch(1)).await.unwrap();
    assert_eq!(group.metrics().applied, end);
    group.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_has_shut_down_takes_nothing_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let group = open(dir.path(), &Recorder::default()).await;
    group.shutdown().await;
    assert!(matches!(group.propose(batch(1)).await, Err(ProposeError::Stopped)));
    assert_eq!(group.read_index().await, Err(ReadError::Stopped));
    assert!(!group.failure().await.reason.is_empty());
}
