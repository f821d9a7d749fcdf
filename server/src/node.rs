//! The wiring: what a node is made of, in which order it starts and stops.

use crate::anchor::{Anchors, TargetError};
use crate::answers::Answers;
use crate::checkup::{room, segments_line};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, ConfigError, DiskChoice};
use crate::cosign::{CosignError, Cosigning};
use crate::decision::{Decided, Decision, Settled, Source, Stands};
use crate::disk::Disk;
use crate::door::Door;
use crate::fold::{Fold, Outset, Shared, Terms};
use crate::group_time::GroupTime;
use crate::http::refusal::{Problem, Refusal};
use crate::http::{Slots, Stage};
use crate::identity::{self, Birth, Held, IdentityError};
use crate::keys::{self, Kek, KeyError};
use crate::metrics::Metrics;
use crate::mtls::certificates::Certificates;
use crate::peers::given::Lease;
use crate::peers::{Hello, Host, PeerError, Peers, join};
use crate::projections::projector::Projector;
use crate::projections::tiles::Tiles;
use crate::queue::Queue;
use crate::seed::{self, SeedError};
use crate::ship::{RegionError, Regions};
use crate::start::{Start, index_id, rotation};
use crate::tenants::TenantError;
use crate::verdicts::Pool;
use engine::checkpoint::{NoteError, Signer};
use engine::ledger::TableError;
use raft::{Group, GroupConfig, Member, Metrics as LogMetrics, ProposeError};
use segments::{AnyDisk, Backend, Identity, Prefer};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Tenant(#[from] TenantError),
    #[error(transparent)]
    Anchor(#[from] TargetError),
    #[error(transparent)]
    Cosign(#[from] CosignError),
    #[error(transparent)]
    Region(#[from] RegionError),
    #[error("the log's name: {0}")]
    Name(NoteError),
    #[error("the log's disk: {0}")]
    Disk(std::io::Error),
    #[error("the index: {0}")]
    Index(#[from] TableError),
    #[error("the log: {0}")]
    Log(#[from] raft::OpenError),
    #[error("replaying the log: {0}")]
    Replay(String),
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error(transparent)]
    Seed(#[from] SeedError),
    #[error("logging the tenants: {0}")]
    Propose(#[from] ProposeError),
    #[error("listening on {address}: {source}")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error("starting a thread: {0}")]
    Thread(std::io::Error),
}

/// One line of `/readyz?verbose`.
pub struct Check {
    /// Whether it holds.
    pub ok: bool,
    /// What was looked at.
    pub name: &'static str,
    /// What was seen.
    pub detail: String,
}

/// A node that is open: everything requests need.
#[allow(missing_docs)]
pub struct Node {
    pub config: Config,
    pub door: Arc<Door>,
    pub queue: Arc<Queue>,
    pub slots: Slots,
    pub metrics: Arc<Metrics>,
    pub disk: Disk,
    pub fold: Arc<Shared>,
    /// Judges submissions.
    pub pool: Arc<Pool>,
    pub anchors: Anchors,
    /// What this node is as a witness of other logs.
    pub cosigning: Option<Cosigning>,
    /// Other regions, if there are any.
    pub regions: Option<Arc<Regions>>,
    pub backend: Backend,
    pub(crate) group: Arc<Group>,
    pub(crate) answers: Answers,
    pub(crate) draining: AtomicBool,
    /// This node leads and takes submissions.
    pub(crate) leading: AtomicBool,
    /// The term in which it led when it was open, as the only voter of its group does.
    pub(crate) led: Option<u64>,
    pub(crate) clock: Arc<dyn Clock>,
    /// What submissions are stamped with.
    pub(crate) time: Arc<GroupTime>,
    /// What this node says to others.
    pub hello: Hello,
    /// The way to others; `None` in a group of one that nobody may join.
    pub peers: Option<Peers>,
    /// Keeps the ledger that another node fetches.
    pub(crate) given: Lease,
    _held: Held,
}

/// Bytes of a record beside the one body in it, with room to spare.
const AROUND_A_BODY: usize = 1024;

impl Node {
    /// Opens a node: keys, snapshot, log, replay, tenants; `stage` hears what it is at.
    ///
    /// # Errors
    /// [`StartError`] says what an operator has to look at.
    pub async fn open(mut config: Config, stage: &Stage) -> Result<Node, StartError> {
        stage.say("keys and identity");
        let log_dir = config.log_path();
        let peers = Peers::open(&config).await?;
        let (held, terms, hello) = Node::enter(&config, &log_dir, peers.as_ref()).await?;
        let metrics = Arc::new(Metrics::new(config.metrics_tenants, config.multi_tenant));
        stage.say("the files of a member are fetched");
        seed(&config, &held, &hello, peers.as_ref(), &metrics).await?;
        let proj = config.data_dir.join("proj");
        std::fs::create_dir_all(&proj).map_err(StartError::Disk)?;

        stage.say("the log is opened and what came after the last snapshot is read");
        let start = Start::find(&config, &proj, index_id(&held))?;
        let worm_dir = config.worm_path();
        let tiles = Tiles::new(tile_dir(&config), start.marks.edge, start.marks.published.clone());
        let projector = Projector::start(
            start.worm,
            worm_dir,
            start.spans,
            tiles,
            proj.join("snapshot"),
            metrics.clone(),
        )
        .map_err(StartError::Thread)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let time = Arc::new(GroupTime::new(clock.clone()));
        let queue = Arc::new(Queue::new(config.queue_bytes, start.ledger.log_time_ms(), time.clone()));
        let door = Arc::new(Door::new(config.multi_tenant, queue.clone(), clock.clone(), metrics.clone()));
        let noted = start.marks.published.as_ref().map_or(0, |published| published.size);
        let outset = Outset { ledger: start.ledger, standing: start.standing, noted };
        let fetched = seed::Unconfirmed::open(&proj);
        let fold =
            Shared::new(outset, terms, projector, fetched, door.clone(), queue.clone(), metrics.clone());

        let (disk, backend) = AnyDisk::open(&log_dir, prefer(&config)).map_err(StartError::Disk)?;
        let mut options =
            segments::Options::new(Identity { cluster: held.cluster, region: config.region.clone() });
        options.segment_bytes = config.segment_bytes;
        let mut terms = GroupConfig::new(config.node_id, options);
        terms.backend = backend.name;
        terms.waits = stage.0.clone();
        terms.join = held.joined;
        if let Some(peers) = &peers {
            peers.wire.born(hello.clone());
            terms.transport = Arc::new(peers.wire.clone());
            let seed = |(node, address): &(u64, String)| raft::Peer {
                node: *node,
                address: address.clone(),
                incarnation: 0,
            };
            terms.seeds = config.cluster_join.iter().map(seed).collect();
            terms.me = Member { address: peers.advertise.clone(), incarnation: held.incarnation };
            peers.answer(Host::new(&hello, &metrics, stage, &terms.in_repair));
        }
        let pool = Pool::start(config.verify_count(), metrics.clone()).map_err(StartError::Thread)?;
        let pool = Arc::new(pool);
        let group = Group::open(terms, disk, Fold::new(fold.clone(), pool.clone())).await?;
        // With others to go on without it a node that computes something else stays, to be looked at.
        if let Some(why) = fold.fatal().filter(|_| fold.diverged().is_none() || peers.is_none()) {
            return Err(StartError::Replay(why.to_owned()));
        }
        let fits = group.record_max() - AROUND_A_BODY;
        if config.body_max > fits {
            tracing::warn!(
                fits,
                "segments are too small for http.body_max_bytes; larger bodies are refused with 413"
            );
            config.body_max = fits;
        }
        let written = fold.write_vkeys();
        written.map_err(|source| KeyError::File { path: fold.terms.vkey_path.clone(), source })?;
        let led = group.leads();
        let anchors = Anchors::open(&config, fold.anchored.clone())?;
        let cosigning = Cosigning::open(&config)?;
        let regions = Regions::open(&config, &fold.terms.signer).await?.map(Arc::new);
        let node = Node {
            anchors,
            cosigning,
            regions,
            answers: Answers::new(config.answers_cached),
            config,
            door,
            queue,
            slots: Slots::default(),
            metrics,
            disk: Disk::default(),
            fold,
            pool,
            backend,
            group: Arc::new(group),
            draining: AtomicBool::new(false),
            leading: AtomicBool::new(false),
            led,
            clock,
            time,
            hello,
            peers,
            given: Lease::default(),
            _held: held,
        };
        if let Some(term) = led {
            node.take_lead(term).await?;
        }
        node.fold.go_live();
        Ok(node)
    }

    /// Takes the data directory and reads the keys. A new directory that is to join a group first asks a
    /// member which cluster that is.
    async fn enter(
        config: &Config,
        log_dir: &Path,
        peers: Option<&Peers>,
    ) -> Result<(Held, Terms, Hello), StartError> {
        let hello = |terms: &Terms, cluster, incarnation| {
            let log_key: [u8; 32] = Sha256::digest(terms.signer.verifier().vkey().as_bytes()).into();
            Hello {
                cluster,
                node: config.node_id,
                incarnation,
                limits: engine::limits::fingerprint(),
                kek: terms.kek.check(),
                log_key: *log_key.first_chunk().expect("a digest has 32 bytes"),
                region: config.region.clone(),
            }
        };
        let take = |birth| identity::hold(&config.data_dir, &config.region, config.node_id, birth);
        let Some(peers) = peers.filter(|_| !config.cluster_join.is_empty()) else {
            let held = take(Birth::Found)?;
            let terms = terms(config, log_dir, None)?;
            let hello = hello(&terms, held.cluster, held.incarnation);
            return Ok((held, terms, hello));
        };
        let terms = terms(
            config,
            log_dir,
            Some("a node that joins a group needs the group's: copy them from a member"),
        )?;
        let held = if identity::is_born(&config.data_dir) {
            take(Birth::Found)?
        } else {
            let incarnation = identity::draw()?;
            let unborn = hello(&terms, [0; 16], incarnation);
            let cluster = join::cluster(&peers.wire, &unborn, &config.cluster_join).await?;
            take(Birth::Join { cluster, incarnation })?
        };
        let hello = hello(&terms, held.cluster, held.incarnation);
        Ok((held, terms, hello))
    }

    /// How the log stands.
    pub fn log_metrics(&self) -> LogMetrics {
        self.group.metrics()
    }

    /// Whether submissions are refused because a disk is full.
    pub fn full(&self, log: &LogMetrics) -> bool {
        log.full.is_some() || self.fold.stalled()
    }

    /// What `/readyz` looks at.
    pub fn checks(&self) -> Vec<Check> {
        let log = self.group.metrics();
        let waiting = self.queue.bytes();
        let projector = &self.fold.projector;
        let waiting_for_room = || projector.paused().map(|why| format!("waiting for room: {why}"));
        let projections = projector.failed().or_else(waiting_for_room).unwrap_or_else(|| "written".into());
        let draining = self.draining.load(Ordering::Relaxed);
        let check = |ok, name, detail: String| Check { ok, name, detail };
        let [witnesses, anchors] = self.anchors.lines();
        let keys = self.fold.signers.load().line(self.fold.core().ledger.log_time_ms());
        vec![
            check(
                !log.failed,
                "log",
                format!("durable {} committed {} on {}", log.durable, log.committed, self.backend),
            ),
            // A slow disk is a reason not to lead, none to turn submissions away.
            check(true, "disk", self.disk.line()),
            check(!self.fold.damages.any(), "segments", segments_line(&log, self.fold.damages.first())),
            check(!self.full(&log), "room", room(&log, self.fold.stalled())),
            self.group_check(&log),
            check(
                self.fold.fatal().is_none(),
                "ledger",
                self.fold.fatal().map_or_else(|| self.fold.where_it_is(), str::to_owned),
            ),
            check(self.fold.diverged().is_none(), "attested", self.fold.agreement()),
            check(keys.0, "log keys", keys.1),
            check(
                waiting < self.config.queue_bytes,
                "queue",
                format!("{waiting} of {} bytes", self.config.queue_bytes),
            ),
            check(true, "certificates", self.certificates_line()),
            check(!draining, "process", if draining { "draining" } else { "running" }.to_owned()),
            // Files that can be made again are no reason to turn submissions away; they show, and alert.
            check(true, "projections", projections),
            // Nothing waits for what others say of the log; it shows, and alerts.
            check(true, "witnesses", witnesses),
            check(true, "anchors", anchors),
        ]
    }

    fn certificates_line(&self) -> String {
        let line = |(whom, certificates): (&str, Arc<Certificates>)| {
            let (ends, refused) = certificates.state();
            let ends = ends.and_then(|second| jiff::Timestamp::from_second(second).ok());
            let ends = ends.map_or_else(|| "end unknown".to_owned(), |end| format!("valid until {end}"));
            let said = refused.map_or_else(|| ends.clone(), |why| format!("NEW ONES REFUSED, {ends}: {why}"));
            format!("{whom}: {said}")
        };
        let lines: Vec<String> = self.certificates().into_iter().map(line).collect();
        if lines.is_empty() { "none: nobody is spoken to with one".to_owned() } else { lines.join("; ") }
    }

    /// The certificates that this node shows, and to whom.
    pub fn certificates(&self) -> Vec<(&'static str, Arc<Certificates>)> {
        let to_nodes = self.peers.as_ref().map(|peers| ("nodes", peers.certificates.clone()));
        let regions = self.regions.as_ref().and_then(|regions| regions.certificates().cloned());
        to_nodes.into_iter().chain(regions.map(|certificates| ("regions", certificates))).collect()
    }

    fn group_check(&self, log: &LogMetrics) -> Check {
        let (role, term) = (log.role, log.term);
        let detail = match log.leader {
            Some(leader) if leader == log.node && log.alone => {
                format!("{role} in term {term}, and no quorum answers it: nothing is agreed")
            }
            Some(leader) if leader == log.node && self.leads() => format!("{role} in term {term}"),
            Some(leader) if leader == log.node => format!("{role} in term {term}, not yet at work"),
            Some(leader) => {
                let lag = log.committed.0.saturating_sub(log.applied.0);
                format!("{role} in term {term}, node {leader} leads, {lag} records to fold")
            }
            None if self.group.member(self.config.node_id).is_none() => {
                "waits to be taken in: flk cluster add".to_owned()
            }
            None => format!("{role} in term {term}, nobody leads"),
        };
        let elsewhere = log.leader.is_some_and(|leader| leader != log.node) && self.has_peers();
        Check { ok: (self.leads() && !log.alone) || elsewhere, name: "group", detail }
    }

    /// Turns a decision into the bytes a client gets.
    ///
    /// # Errors
    /// The refusal that was decided, or 500 when a first answer cannot be read back.
    pub async fn settle(&self, decided: Decided) -> Result<Settled, Box<Problem>> {
        let Decision { replay, source, round } = decided?;
        let ((status, body), stands) = match source {
            Source::Judged { kept, lsn, nth, seq } => {
                let (status, body) = kept.answer(lsn, seq)?;
                self.answers.put((0, lsn, nth), status, body.clone());
                ((status, body), Stands::Now { round, nth, seq })
            }
            Source::First(first) => {
                let replayed = |problem: Box<Problem>| match problem.refusal {
                    Refusal::HeldElsewhere => {
                        Box::new(problem.member("replayed", replay.header().unwrap_or_default().into()))
                    }
                    _ => problem,
                };
                (self.first_answer(&first).await.map_err(replayed)?, Stands::Before(first))
            }
        };
        Ok(Settled { status, body, replay, stands })
    }
}

fn prefer(config: &Config) -> Prefer {
    match config.disk {
        DiskChoice::Auto => Prefer::Auto,
        DiskChoice::Uring => Prefer::Uring,
        DiskChoice::Posix => Prefer::Posix,
    }
}

/// A node that joins and has no log yet begins with a member's files.
async fn seed(
    config: &Config,
    held: &Held,
    hello: &Hello,
    peers: Option<&Peers>,
    metrics: &Arc<Metrics>,
) -> Result<(), SeedError> {
    let Some(peers) = peers.filter(|_| held.joined && !config.cluster_join.is_empty()) else { return Ok(()) };
    peers.wire.born(hello.clone());
    let terms = seed::Terms {
        dir: config.log_path(),
        identity: Identity { cluster: held.cluster, region: config.region.clone() },
        me: hello,
        segment_bytes: config.segment_bytes,
        prefer: prefer(config),
        members: &config.cluster_join,
        wire: &peers.wire,
        metrics,
        places: seed::Places {
            proj: config.data_dir.join("proj"),
            worm: (config.worm_path(), rotation(config)),
            tiles: tile_dir(config),
            id: index_id(held),
        },
    };
    seed::fetch(&terms).await.map(|_| ())
}

/// Directory of the tiles and checkpoints.
pub fn tile_dir(config: &Config) -> std::path::PathBuf {
    config.data_dir.join("tlog").join(&config.region)
}

fn terms(config: &Config, log_dir: &Path, never: Option<&'static str>) -> Result<Terms, StartError> {
    let log_exists = std::fs::read_dir(log_dir).is_ok_and(|mut list| {
        list.any(|entry| entry.is_ok_and(|e| e.path().extension().is_some_and(|x| x == "seg")))
    });
    // A new key beside an old log would only hide that the right one is missing.
    let may_create = match (never, config.create_keys, log_exists) {
        (Some(why), ..) => Err(why),
        (None, false, _) => Err("keys.create is false"),
        (None, true, true) => Err("the log exists already: restore the key it was written with"),
        (None, true, false) => Ok(()),
    };
    let kek = Kek::new(keys::load_or_create(&config.kek_path(), may_create)?);
    let seed = keys::load_or_create(&config.log_key_path(), may_create)?;
    let signer = Signer::new(&config.origin(), &seed).map_err(StartError::Name)?;
    Ok(Terms {
        origin: config.origin(),
        signer,
        vkey_path: config.log_key_path().with_extension("vkey"),
        kek,
        attest_records: config.attest_records,
        snapshot_records: config.snapshot_records,
    })
}
