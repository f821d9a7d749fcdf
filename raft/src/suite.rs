//! openraft's own suite for stores, over real segments in temporary directories.
//!
//! It runs twice: once as it is, and once with a store that forgets entries as soon as they
//! are durable, so that every read comes back from the segments. The suite also exercises a state
//! machine with snapshots; ours has none, so a small one stands in for it.

use std::io;
use std::sync::Arc;

use futures_util::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{OptionalSend, StorageError};
use openraft_rt::AsyncRuntime;

use segments::{Identity, Options, PosixDisk};

use crate::log_actor::{self, LogActor};
use crate::log_store::{LogStore, Recovered, Shared};
use crate::mailbox::Bound;
use crate::repair::Mender;
use crate::transport::Alone;
use crate::types::{CommittedLeaderId, LogId, Payload, StoredMembership, Tokio, Types};

type Meta = SnapshotMeta<CommittedLeaderId, u64, crate::types::Member>;
type Taken = Snapshot<CommittedLeaderId, u64, crate::types::Member, ()>;

struct Builder {
    forgetful: bool,
}

/// Stops the log thread and removes the directory when a test is over.
struct Guard {
    shared: Arc<Shared<Tokio>>,
    _dir: tempfile::TempDir,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.mailbox.close();
    }
}

impl StoreBuilder<Types<Tokio>, LogStore<Tokio>, Model, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, LogStore<Tokio>, Model), StorageError<Types<Tokio>>> {
        let dir = tempfile::tempdir().unwrap();
        let disk = PosixDisk::open(dir.path()).unwrap();
        let identity = Identity { cluster: [1; 16], region: "default".into() };
        let options = Options { segment_bytes: 64 << 10, ..Options::new(identity) };
        let mender = Mender::new(0, Arc::new(Alone), Vec::new());
        let Ok((log, recovered, _)) = Recovered::open(disk, &options, &mender) else { panic!("it opens") };
        let shared = Shared::new(0, Bound { items: 64, bytes: 1 << 20 }, recovered, mender);
        if self.forgetful {
            shared.forget_early();
        }
        log_actor::spawn_thread(LogActor::new(log, options.depth, shared.clone())).unwrap();
        Ok((Guard { shared: shared.clone(), _dir: dir }, LogStore(shared), Model::default()))
    }
}

#[test]
fn the_store_passes_openrafts_suite() {
    Tokio::run(Suite::test_all(Builder { forgetful: false })).unwrap();
}

#[test]
fn the_store_passes_openrafts_suite_reading_back_from_segments() {
    Tokio::run(Suite::test_all(Builder { forgetful: true })).unwrap();
}

/// A state machine that remembers how far it is, and can say so in a snapshot.
#[derive(Clone, Default)]
struct Model {
    applied: Option<LogId>,
    membership: StoredMembership,
    taken: Arc<std::sync::Mutex<Option<Meta>>>,
}

impl RaftSnapshotBuilder<Types<Tokio>> for Model {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<Taken> {
        let meta = Meta { last_log_id: self.applied, last_membership: self.membership.clone() };
        *self.taken.lock().unwrap() = Some(meta.clone());
        Ok(Taken { meta, snapshot: () })
    }
}

impl RaftStateMachine<Types<Tokio>> for Model {
    type SnapshotData = ();
    type SnapshotBuilder = Model;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types<Tokio>>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            self.applied = Some(entry.log_id);
            if let Payload::Membership(membership) = entry.payload {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            responder.into_iter().for_each(|responder| responder.send(()));
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Model> {
        Some(self.clone())
    }

    async fn get_snapshot_builder(&mut self) -> Model {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &Meta, (): ()) -> io::Result<()> {
        (self.applied, self.membership) = (meta.last_log_id, meta.last_membership.clone());
        *self.taken.lock().unwrap() = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Taken>> {
        Ok(self.taken.lock().unwrap().clone().map(|meta| Taken { meta, snapshot: () }))
    }
}
