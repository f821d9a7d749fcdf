//! One node of a group: what the server holds.
//!
//! [`Group::open`] recovers the log. A node that is alone in its group then brings the machine up to the
//! log's end and leads; with others it returns at once, and the group elects. [`Group::submit`] hands a batch to Raft and returns; the [`Pending`] it returns resolves
//! when the machine has applied the batch. Batches are agreed in the order in which they were
//! submitted from one task.
//!
//! - L1: what is proposed and not yet out of memory is bounded in bytes and in batches.
//! - S1, F15: a restarted leader never resumes its old term (`enable_leader_restore` is off and
//!   asserted), because its log may have lost entries whose ids it would give away again.
//! - Whatever fails, fails for good: [`Group::failure`] resolves and the process must end.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use engine::event;
use engine::limits::{RECORD_BYTES_MAX, RECORD_EVENTS_MAX};
use engine::log::Lsn;
use openraft::async_runtime::{WatchReceiver, watch::RecvError};
use openraft::errors::{InitializeError, LinearizableReadError, RaftError};
use openraft::impls::OneshotResponder;
use openraft::{Instant as _, Raft, ReadPolicy, ServerState};
use segments::{Disk, FRAME_HEADER};
use tokio::sync::{Semaphore, watch};

use crate::batch::Batch;
use crate::error::{Failure, OpenError, ProposeError, ReadError};
use crate::log_actor::{self, Command, LogActor};
use crate::log_store::{LogStore, Shared};
use crate::machine::Machine;
use crate::mailbox::Bound;
use crate::message::{Answer, Request};
use crate::metrics::{ALONE_AFTER, Metrics, Role};
use crate::network::{self, Network};
use crate::pending::Pending;
use crate::repair::{self, InRepair, Mender};
use crate::room::{self, Promise};
use crate::settings::raft_config;
use crate::state_machine::{StateMachine, standing_membership};
use crate::transport::{Alone, Peer, Transport};
use crate::turns::Turns;
use crate::types::{CommittedLeaderId, Data, Member, Runtime, Tokio, Types, index_of, lsn_of};

/// Permits of the byte budget stand for this many bytes.
const BUDGET_UNIT: usize = 1024;

/// How long a batch waits before it asks for room again.
const ROOM_PAUSE: Duration = Duration::from_millis(1);

/// How long a read on a follower may wait for the leader, and then for what the leader knows.
const READ_PATIENCE: Duration = Duration::from_secs(2);

/// What one node of a group is told.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// This node. Never reused with another disk.
    pub node: u64,
    /// What the membership says of this node when it founds a group.
    pub me: Member,
    /// What a disk without a log means: `false` a new group of one, `true` a node that waits until a group
    /// takes it in.
    pub join: bool,
    /// The way to other nodes.
    pub transport: Arc<dyn Transport>,
    /// Who may be asked for what a damaged log lacks, besides those whom the log itself names.
    pub seeds: Vec<Peer>,
    /// Which log to open, and how. Where replay begins and how far the log must reach, the machine says.
    pub log: segments::Options,
    /// Encoded bytes of batches submitted and not yet out of memory, at most. At least one largest
    /// record.
    pub in_flight_bytes: usize,
    /// Batches submitted and not yet out of memory, at most.
    pub in_flight_batches: usize,
    /// Told what the opening of a damaged log waits for, for people.
    pub waits: Arc<watch::Sender<String>>,
    /// Who answers other nodes while the opening waits for a repair.
    pub in_repair: Arc<InRepair>,
    /// Name of the disk given to [`Group::open`], for [`Metrics`].
    pub backend: &'static str,
}

impl GroupConfig {
    /// The defaults: a group of one, 64 MiB and 1024 batches in flight.
    pub fn new(node: u64, log: segments::Options) -> GroupConfig {
        GroupConfig {
            node,
            me: Member::default(),
            join: false,
            transport: Arc::new(Alone),
            seeds: Vec::new(),
            log,
            in_flight_bytes: 64 << 20,
            in_flight_batches: 1024,
            waits: Arc::default(),
            in_repair: Arc::default(),
            backend: "",
        }
    }
}

/// One node of a group, on runtime `R`. Dropping it does not stop it; see [`Group::shutdown`].
pub struct Group<R: Runtime = Tokio> {
    pub(crate) node: u64,
    pub(crate) raft: Raft<Types<R>, StateMachine<R>>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) turns: Turns,
    pub(crate) back: AtomicBool,
    pub(crate) shared: Arc<Shared<R>>,
    bytes: Arc<Semaphore>,
    batches: Arc<Semaphore>,
    thread: Mutex<Option<JoinHandle<()>>>,
    backend: &'static str,
    /// Largest record that fits the log's segments.
    record_max: usize,
    recovery: segments::Recovery,
}

impl Group<Tokio> {
    /// Open the group on `disk` with the log on a thread of its own.
    ///
    /// Recovers the log. The only voter of its group applies what the machine does not hold yet, and leads
    /// when this returns; so does a disk without a log, which becomes a fresh group, unless
    /// [`GroupConfig::join`] says that it waits to be taken in. Among several voters this returns at once.
    /// Reading the log blocks the calling task; open before serving.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing has been promised to anybody then.
    pub async fn open<D>(
        config: GroupConfig,
        disk: D,
        machine: impl Machine,
    ) -> Result<Group<Tokio>, OpenError>
    where
        D: Disk + Send + 'static,
    {
        let mut thread = None;
        let group = Group::open_on(config, disk, machine, |actor| {
            thread = Some(log_actor::spawn_thread(actor)?);
            Ok(())
        })
        .await?;
        *group.thread.lock().expect("nobody else has it yet") = thread;
        Ok(group)
    }
}

impl<R: Runtime> Group<R> {
    /// The same on any runtime; `host` must see to it that the actor runs: step whenever it is ready,
    /// until it says that it never will be again.
    ///
    /// # Errors
    /// See [`Group::open`].
    pub async fn open_on<D: Disk>(
        config: GroupConfig,
        disk: D,
        machine: impl Machine,
        host: impl FnOnce(LogActor<D, R>) -> io::Result<()>,
    ) -> Result<Group<R>, OpenError> {
        assert!(
            config.in_flight_bytes >= RECORD_BYTES_MAX && config.in_flight_batches > 0,
            "L1: no room for one batch"
        );
        // What the machine holds need not be read again, and proves how far the log once was.
        let from = machine.standing().lsn;
        let options = segments::Options { replay_from: from, at_least: from, ..config.log };
        let mender = Mender::new(config.node, config.transport.clone(), config.seeds);
        if let Some((at, membership)) = standing_membership(&machine.standing())? {
            mender.begin_with(from, at, &membership);
        }
        let beside = (&*config.waits, &*config.in_repair);
        let (log, recovered, recovery) = repair::open::<D, R>(disk, &options, &mender, beside).await?;
        let fresh = recovered.last.is_none();
        let end = log.tip();
        let record_max = RECORD_BYTES_MAX.min(log.largest_frame() - FRAME_HEADER);
        // Twice what is let in: votes and the like must never wait behind proposals.
        let bound = Bound { items: 2 * config.in_flight_batches, bytes: 2 * config.in_flight_bytes };
        let shared = Shared::new(config.node, bound, recovered, mender);
        let machine = StateMachine::new(Box::new(machine), shared.clone())?;
        host(LogActor::new(log, options.depth, shared.clone()))?;

        let store = LogStore(shared.clone());
        let network = Network::new(config.transport.clone());
        let raft = Raft::new(config.node, Arc::new(raft_config()?), network, store, machine)
            .await
            .map_err(|fatal| OpenError::Raft(fatal.to_string()))?;
        let group = Group {
            node: config.node,
            raft,
            transport: config.transport,
            turns: Turns::default(),
            back: AtomicBool::new(false),
            shared,
            bytes: Arc::new(Semaphore::new(config.in_flight_bytes / BUDGET_UNIT)),
            batches: Arc::new(Semaphore::new(config.in_flight_batches)),
            thread: Mutex::new(None),
            backend: config.backend,
            record_max,
            recovery,
        };
        // A group that has just been founded elects its only voter by itself; a second election would outrun the first.
        let electing = fresh && !config.join && group.found(config.me).await?;
        if group.is_alone().await? {
            if !electing {
                group.elect().await?;
            }
            group.lead(end).await?;
        }
        Ok(group)
    }

    /// Is this node the only voter, by the newest membership in its log?
    async fn is_alone(&self) -> Result<bool, OpenError> {
        let node = self.node;
        let voters = self
            .raft
            .with_raft_state(move |state| {
                state.membership_state.effective().voter_ids().eq(std::iter::once(node))
            })
            .await;
        voters.map_err(|fatal| OpenError::Raft(fatal.to_string()))
    }

    /// Found the group: this node is its only voter. Whether that began an election.
    async fn found(&self, me: Member) -> Result<bool, OpenError> {
        let members = BTreeMap::from([(self.node, me)]);
        match self.raft.initialize(members).await {
            Ok(()) => Ok(true),
            // A crash between the first vote and the first entry leaves a vote alone; go on from it.
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(false),
            Err(error) => Err(OpenError::Raft(error.to_string())),
        }
    }

    /// Stand for election now, without waiting for a timeout.
    async fn elect(&self) -> Result<(), OpenError> {
        self.raft.trigger().elect(false).await.map_err(|fatal| OpenError::Raft(fatal.to_string()))
    }

    /// Wait until this node leads and the machine has applied what the log held.
    async fn lead(&self, end: Lsn) -> Result<(), OpenError> {
        let stopped = |error: &dyn ToString| OpenError::Raft(error.to_string());
        let led = self.raft.wait(None).state(ServerState::Leader, "the only voter leads").await;
        led.map_err(|error| stopped(&error))?;
        // One more than what was there: the new leader's own first entry.
        let applied = self
            .raft
            .wait(None)
            .applied_index_at_least(index_of(end.next()), "the machine is caught up")
            .await;
        applied.map_err(|error| stopped(&error))?;
        Ok(())
    }

    /// What opening the log found and did.
    pub fn recovery(&self) -> &segments::Recovery {
        &self.recovery
    }

    /// Largest batch that one record of this log can hold, as [`Batch::weight`] measures it, bytes.
    pub fn record_max(&self) -> usize {
        self.record_max
    }

    /// This node.
    pub fn node(&self) -> u64 {
        self.node
    }

    /// Hand `batch` to the group. Returns once it is queued for the log, in the order of the calls
    /// of one task; waits while too much is in flight. The [`Pending`] may be dropped: the batch
    /// takes its way all the same, and those who wait in `batch.local` are answered.
    ///
    /// # Errors
    /// Every error but [`ProposeError::Unknown`] means that nothing was or will be written.
    pub async fn submit(&self, batch: Batch) -> Result<Pending<R>, ProposeError> {
        self.write(batch, None).await
    }

    /// [`Group::submit`], but only as the leader of `term`: what was stamped while another one's stamps could not be known
    /// is not logged behind them. A node that waits for room may lose the lead and have it again.
    ///
    /// # Errors
    /// As there; [`ProposeError::NotLeader`] also when it leads another term.
    pub async fn submit_in(&self, term: u64, batch: Batch) -> Result<Pending<R>, ProposeError> {
        self.write(batch, Some(term)).await
    }

    async fn write(&self, batch: Batch, term: Option<u64>) -> Result<Pending<R>, ProposeError> {
        let data = self.encode(batch).await?;
        let (responder, answer) = OneshotResponder::new_pair();
        let mut write = self.raft.write(data).responder(responder);
        if let Some(term) = term {
            write = write.with_leader(CommittedLeaderId::new(term));
        }
        write.await.map_err(|_| ProposeError::Stopped)?;
        Ok(Pending { answer })
    }

    /// [`Group::submit`], then wait until the batch is applied; returns its place in the log.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose(&self, batch: Batch) -> Result<Lsn, ProposeError> {
        self.submit(batch).await?.await
    }

    /// Check the bounds of `batch`, encode it, and take its share of what may be in flight.
    async fn encode(&self, batch: Batch) -> Result<Data, ProposeError> {
        let (events, bytes) = (batch.events.len(), batch.weight());
        if events == 0 || events > RECORD_EVENTS_MAX || bytes > self.record_max {
            return Err(ProposeError::OutOfBounds { events, bytes });
        }
        // Units round up, so that many small batches cannot outgrow the budget.
        let units = u32::try_from(bytes.div_ceil(BUDGET_UNIT)).expect("a record is within its bound");
        let one = self.batches.clone().acquire_owned().await.map_err(|_| ProposeError::Stopped)?;
        let share = self.bytes.clone().acquire_many_owned(units).await.map_err(|_| ProposeError::Stopped)?;
        let mut record = Vec::with_capacity(bytes);
        event::encode_events(self.node, &batch.events, &mut record);
        let room = self.room(record.len()).await?;
        Ok(Data::new(record, batch, Some((one, share, room))))
    }

    /// Room on the disk for one entry, promised. Waits while a segment is being made ready.
    async fn room(&self, payload: usize) -> Result<Promise, ProposeError> {
        loop {
            match self.shared.room.ask(payload) {
                room::Answer::Promised(promise) => return Ok(promise),
                room::Answer::Full => {
                    self.look_for_room().await?;
                    return Err(ProposeError::NoSpace);
                }
                room::Answer::Later if self.shared.progress.failed() => return Err(ProposeError::Stopped),
                room::Answer::Later => {
                    self.look_for_room().await?;
                    R::sleep(ROOM_PAUSE).await;
                }
            }
        }
    }

    /// Has the log look whether the disk has room again, if it had none. For those who wait for that without
    /// submitting anything.
    ///
    /// # Errors
    /// [`ProposeError::Stopped`] after a shutdown.
    pub async fn look_for_room(&self) -> Result<(), ProposeError> {
        self.shared.mailbox.send(Command::Look, 0).await.map_err(|_| ProposeError::Stopped)
    }

    /// Wait until this node may answer a read: a quorum confirms who leads (ReadIndex, no leases), and the
    /// machine here has applied everything that was agreed before. A node that does not lead asks the one
    /// that does. Returns how far that is.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_index(&self) -> Result<Lsn, ReadError> {
        let leader = match self.read_index_here().await {
            Err(ReadError::NotLeader { leader: Some(leader) }) => leader,
            other => return other,
        };
        let Some(member) = self.member(leader) else {
            return Err(ReadError::NotLeader { leader: Some(leader) });
        };
        let peer = network::peer(leader, &member);
        match network::ask(&*self.transport, &peer, &Request::ReadIndex, READ_PATIENCE).await {
            Ok(Answer::ReadIndex(Ok(lsn))) => self.applied_at_least(lsn).await.map(|()| lsn),
            Ok(Answer::ReadIndex(Err(leader))) => Err(ReadError::NotLeader { leader }),
            Ok(_) | Err(_) => Err(ReadError::NotLeader { leader: Some(leader) }),
        }
    }

    /// The same on the node that leads.
    pub(crate) async fn read_index_here(&self) -> Result<Lsn, ReadError> {
        match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(read) => Ok(lsn_of(read.log_id().index)),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(ReadError::NotLeader { leader: forward.leader_id })
            }
            // A leader that has lost its quorum leads no more, whatever it still thinks.
            Err(RaftError::APIError(_)) => Err(ReadError::NotLeader { leader: None }),
            Err(RaftError::Fatal(_)) => Err(ReadError::Stopped),
        }
    }

    async fn applied_at_least(&self, lsn: Lsn) -> Result<(), ReadError> {
        let wait = self.raft.wait(Some(READ_PATIENCE));
        let applied = wait.applied_index_at_least(index_of(lsn), "a read waits for what it must see").await;
        applied.map(|_| ()).map_err(|_| ReadError::NotLeader { leader: None })
    }

    /// How this node stands now.
    pub fn metrics(&self) -> Metrics {
        let watch = self.raft.metrics();
        let raft = watch.borrow_watched();
        let lsn = |index: Option<u64>| index.map_or(Lsn::ZERO, lsn_of);
        let progress = &self.shared.progress;
        let (room, refused) = self.shared.room.left();
        Metrics {
            node: self.node,
            role: match raft.state {
                ServerState::Learner => Role::Learner,
                ServerState::Follower => Role::Follower,
                ServerState::Candidate => Role::Candidate,
                ServerState::Leader => Role::Leader,
                ServerState::Shutdown => Role::Stopped,
            },
            term: raft.current_term,
            alone: raft.state == ServerState::Leader
                && raft.membership_config.membership().voter_ids().count() > 1
                && raft.last_quorum_acked.as_ref().is_none_or(|at| at.elapsed() > ALONE_AFTER),
            leader: raft.current_leader,
            last: lsn(raft.last_log_index),
            durable: progress.durable(),
            committed: lsn(raft.local_committed.map(|id| id.index)),
            applied: progress.applied(),
            sealed: progress.sealed(),
            syncs: progress.batches(),
            frames: progress.frames(),
            bytes: progress.bytes(),
            sync: progress.sync_histogram(),
            backend: self.backend,
            full: self.shared.room.full(),
            room,
            refused,
            failed: progress.failed(),
            repairs: self.shared.mender.repairs(),
        }
    }

    /// Resolves when the group can no longer go on, for whatever reason, also
    /// [`Group::shutdown`]: the process must then end.
    pub async fn failure(&self) -> Failure {
        let mut metrics = self.raft.metrics();
        loop {
            if let Err(fatal) = &metrics.borrow_watched().running_state {
                return Failure { reason: fatal.to_string() };
            }
            if let Err(RecvError(())) = metrics.changed().await {
                return Failure { reason: "raft has gone away".into() };
            }
        }
    }

    /// Take no part any more: no votes, no entries, neither sent nor received. The log can still be read. Nothing
    /// undoes it but a restart.
    pub async fn halt(&self) {
        // An error here means that the core had died before, and with it its part.
        let _ = self.raft.shutdown().await;
    }

    /// Stop: finish what was taken, write it, and let go of the disk. Proposals that were not
    /// answered by then end as [`ProposeError::Unknown`].
    pub async fn shutdown(&self) {
        // An error here means that the core had died before, which `failure` reports.
        let _ = self.raft.shutdown().await;
        self.shared.mailbox.close();
        let thread = self.thread.lock().expect("taking a handle does not panic").take();
        if let Some(thread) = thread
            && !matches!(R::spawn_blocking(move || thread.join()).await, Ok(Ok(())))
        {
            tracing::error!("the log thread panicked");
        }
    }
}
