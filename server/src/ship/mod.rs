//! Other regions: our log goes to a place they can read, theirs come from such places into our log, and each says of the
//! other's how far it holds it.
//!
//! ```text
//! our log -> plan -> chunk, then bill -> PLACE/US      (shipper)
//! PLACE/THEM -> bill, chunk -> checks -> Imported      (receiver)
//! their checkpoint agrees -> cosignature -> PLACE/US/mirrors/THEM       (receiver)
//! PLACE/THEM/mirrors/US -> Anchored in our log         (mirrors)
//! where we stand -> PLACE/US/standing; PLACE/THEM/standing -> is it the same here?      (standing)
//! ```
//! PLACE is a directory or a bucket (remote), or there is none, and each region asks the other's nodes (direct).
//! Only the node that leads its group does any of it, beside everything that anybody waits for: a place that hangs delays
//! nothing but itself. How far the log is shipped is what the place says, and how far another log came is what our ledger
//! says; so a restart or a change of leader goes on where the last one was.
//!
//! - G1 ship-in-order: bills are made in the order of the log and taken in the order of the log; one that is missing or is not
//!   what it must be holds up everything behind it, and is told.

mod cut;
pub mod direct;
mod google;
mod mirrors;
mod place;
pub mod plan;
pub mod ports;
mod receiver;
pub mod reconcile;
pub mod remote;
mod routing;
mod shipper;
mod show;
pub mod standing;
pub mod tail;
mod way;
pub mod withhold;

use crate::background;
use crate::config::Config;
use crate::keys::{self, KeyError};
use crate::node::Node;
use bill::Bill;
use direct::{Door, Shelf, There};
use engine::checkpoint::{Cosigner, LogKeys, NoteError, Signer, Verifier, Witness};
use engine::ledger::{Ledger, Table};
use engine::log::Lsn;
use place::Stores;
use ports::{Home, Place};
pub use routing::routing;
use segments::shipment::keys::{KEYS_MAX, RegionKeys};
pub use segments::shipment::{bill, chunk};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use way::Way;

/// What `regions.place` says when other regions ask our nodes.
pub const DIRECT: &str = "direct";
/// How often places and the log are looked at when nothing happens.
const TICK: Duration = Duration::from_millis(200);
/// How often the same trouble is told.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// First and longest pause after a failure.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Why the settings about regions cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum RegionError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("regions.place {path}: {why}")]
    Place { path: String, why: String },
    #[error("regions.stores_file {path}: {why}")]
    Stores { path: PathBuf, why: String },
    #[error("regions.peers: region {region}: {why}")]
    Peer { region: String, why: String },
    #[error("regions.listen: {0}")]
    Certificate(String),
    #[error("the mirror's name: {0}")]
    Name(NoteError),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
}

/// Another region.
pub struct Peer<P = Way> {
    region: String,
    remote: P,
    /// Its log's key.
    key: Verifier,
    /// The key it cosigns with what it holds of ours.
    mirror: Witness,
    /// Somebody decided that it is to be fetched again, now.
    again: Notify,
}

impl<P> Peer<P> {
    /// The region of this name, what its log's key is, and what it cosigns with.
    pub fn new(region: &str, remote: P, key: Verifier, mirror: Witness) -> Peer<P> {
        Peer { region: region.to_owned(), remote, key, mirror, again: Notify::new() }
    }

    /// The key that must have signed a tree of theirs of `size` leaves: the one we were given, or what their log says has followed it.
    fn key_at<T: Table>(&self, ledger: &Ledger<T>, size: u64) -> Verifier {
        let changes = ledger.origin(&self.region).map_or(&[][..], |origin| origin.log_keys());
        let mut key = self.key.clone();
        for change in changes.iter().filter(|change| change.seq < size) {
            let of = |text: &str| LogKeys::parse_set(text).ok();
            let follows = of(&change.follows).is_some_and(|set| set.keys().any(|old| *old == key));
            if let Some(next) = of(&change.keys).filter(|_| follows)
                && let Some(first) = next.keys().next()
            {
                key = first.clone();
            }
        }
        key
    }
}

/// What happened with another region since this process began to lead.
#[derive(Clone, Debug, Default)]
struct Imports {
    /// Records taken in.
    records: u64,
    /// Ranges that were refused.
    refused: u64,
    /// Tries in a row that failed.
    in_a_row: u64,
    /// Why nothing comes, if so.
    why: Option<String>,
    /// Since when there is something that was not taken in, milliseconds; 0 when there is nothing.
    behind_ms: u64,
    /// When it last said something new of where it stands, milliseconds; 0 while this node does not lead.
    heard_ms: u64,
    /// When what it says was last found equal, milliseconds.
    equal_ms: u64,
    /// What became of comparing it.
    compared: standing::Compared,
    /// Since when there is a checkpoint of ours that it has not cosigned, milliseconds; 0 when there is none.
    unproven_ms: u64,
}

#[derive(Debug, Default)]
struct Inner {
    /// The last record that a bill covers, as far as this node knows.
    shipped: u64,
    bills: u64,
    bytes: u64,
    errors: u64,
    why: Option<String>,
    /// Since when there is something to ship, milliseconds; 0 when there is nothing.
    behind_ms: u64,
    peers: Vec<Imports>,
}

/// Everything about other regions that a node has.
pub struct Regions<P = Way> {
    own: String,
    remote: P,
    peers: Vec<Peer<P>>,
    cosigner: Cosigner,
    /// Proposals with a score above this go by themselves, in thousandths.
    reconcile_above: u16,
    /// Bytes of ranges that leave in a second; 0 for as many as there are.
    bytes_per_s: u64,
    /// Where other regions ask, and what they get.
    door: Option<Door>,
    shelf: Option<Arc<Shelf>>,
    inner: Mutex<Inner>,
}

impl Regions {
    /// Reads the settings; `None` if there is one region.
    ///
    /// # Errors
    /// [`RegionError`], naming the setting.
    pub async fn open(config: &Config, founding: &Signer) -> Result<Option<Regions>, RegionError> {
        let Some(place) = &config.regions_place else { return Ok(None) };
        let (stores, door) = (Stores::load(config)?, Door::open(config).await?);
        let store = |place: &str, region: &str| stores.open(place, region).map(Way::Store);
        let shelf = (place == DIRECT).then(|| Arc::new(Shelf::new(config.regions_peers.len())));
        let own = match &shelf {
            Some(shelf) => Ok(Way::Here(shelf.clone())),
            None => store(place, &config.region),
        };
        let own = own.map_err(|why| RegionError::Place { path: place.clone(), why })?;
        let mut peers: Vec<Peer> = Vec::new();
        for peer in &config.regions_peers {
            let wrong = |why: String| RegionError::Peer { region: peer.region.clone(), why };
            if peer.region == config.region {
                return Err(wrong("that is this region".into()));
            }
            if peers.iter().any(|other| other.region == peer.region) {
                return Err(wrong("it stands twice".into()));
            }
            let RegionKeys { log: key, mirror } = keys_of(&peer.vkeys, &peer.region).map_err(wrong)?;
            let remote = match &door {
                Some(door) if peer.place.starts_with("https://") => {
                    There::open(&peer.place, &peer.region, door.certificates.clone()).map(Way::There)
                }
                _ => store(&peer.place, &peer.region),
            };
            let remote = remote.map_err(|why| wrong(format!("{}: {why}", peer.place)))?;
            peers.push(Peer::new(&peer.region, remote, key, mirror));
        }
        let may_create = match (config.cluster_join.is_empty(), config.create_keys) {
            (false, _) => Err("all nodes of a group cosign with one key: copy it from a member"),
            (true, false) => Err("keys.create is false"),
            (true, true) => Ok(()),
        };
        let path = config.data_dir.join("keys").join("mirror.key");
        let seed = keys::load_or_create(&path, may_create)?;
        let name = format!("{}/mirror/{}", config.origin_host, config.region);
        let cosigner = Cosigner::new(&name, &seed).map_err(RegionError::Name)?;
        publish(config, founding, &cosigner)?;
        let regions = Regions::new(&config.region, own, peers, cosigner, config.reconcile_above);
        Ok(Some(Regions { bytes_per_s: config.regions_bytes_per_s, door, shelf, ..regions }))
    }
}

impl<P> Regions<P> {
    /// The region `own`, which ships to `remote`, knows these others and cosigns their logs.
    pub fn new(
        own: &str,
        remote: P,
        peers: Vec<Peer<P>>,
        cosigner: Cosigner,
        reconcile_above: u16,
    ) -> Regions<P> {
        let inner = Inner { peers: vec![Imports::default(); peers.len()], ..Inner::default() };
        let inner = Mutex::new(inner);
        Regions {
            own: own.to_owned(),
            remote,
            peers,
            cosigner,
            reconcile_above,
            bytes_per_s: 0,
            door: None,
            shelf: None,
            inner,
        }
    }

    /// Our own name.
    pub fn own(&self) -> &str {
        &self.own
    }

    /// The certificates that other regions are shown, if they are asked or ask.
    pub fn certificates(&self) -> Option<&Arc<crate::mtls::certificates::Certificates>> {
        self.door.as_ref().map(|door| &door.certificates)
    }

    /// Where other regions ask this node, if they do.
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.door.as_ref().and_then(|door| door.address)
    }

    /// How long so many bytes take that leave no faster than they may.
    fn pace(&self, bytes: usize) -> Duration {
        match self.bytes_per_s {
            0 => Duration::ZERO,
            most => Duration::from_secs_f64(bytes as f64 / most as f64),
        }
    }

    /// Proposals with a score above this go by themselves, in thousandths.
    pub fn above(&self) -> u16 {
        self.reconcile_above
    }

    /// What is missing is fetched again, without waiting for the end of a pause.
    pub fn look_again(&self) {
        self.peers.iter().for_each(|peer| peer.again.notify_one());
    }

    /// Why nothing is shipped, and why nothing comes from each other region, where that is so.
    pub fn waits(&self) -> Vec<String> {
        let inner = self.lock();
        inner
            .why
            .iter()
            .chain(inner.peers.iter().filter_map(|imports| imports.why.as_ref()))
            .cloned()
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn imports<T>(&self, nth: usize, look: impl FnOnce(&mut Imports) -> T) -> T {
        look(&mut self.lock().peers[nth])
    }
}

/// Writes `keys/region.vkey`: what other regions are given of this one. Of the log's keys it holds those that the log began
/// with: a region reads the log from its beginning, which tells of all later ones.
fn publish(config: &Config, founding: &Signer, cosigner: &Cosigner) -> Result<(), RegionError> {
    let text = format!("{}\n{}\n", founding.vkeys().trim_end(), cosigner.witness().vkey());
    let path = config.data_dir.join("keys").join("region.vkey");
    if std::fs::read(&path).ok().as_deref() == Some(text.as_bytes()) {
        return Ok(());
    }
    crate::projections::replace(&path, text.as_bytes()).map_err(|source| RegionError::File { path, source })
}

/// What another region's `keys/region.vkey` says.
fn keys_of(path: &Path, region: &str) -> Result<RegionKeys, String> {
    let shown = path.display();
    let size = std::fs::metadata(path).map_err(|error| format!("{shown}: {error}"))?.len();
    if size > KEYS_MAX {
        return Err(format!("{shown} is too large for a file of keys"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
    RegionKeys::parse(&text, region).map_err(|why| format!("{shown} {why}"))
}

/// Ships, receives and mirrors while this node leads, until the task is dropped.
pub async fn run(node: Arc<Node>) {
    let Some(regions) = node.regions.clone() else { return };
    node.fold.tail.want();
    let mut tasks = JoinSet::new();
    // Packing and unpacking take a core for a while.
    work(node.clone(), &regions, |task| background::spawn(&mut tasks, task));
    for nth in 0..regions.peers.len() {
        tasks.spawn(standing::watch(node.clone(), nth));
    }
    tasks.spawn(standing::say(node.clone()));
    tasks.spawn(reconcile::run(node.clone()));
    let asked = regions.clone();
    tasks.spawn(async move {
        let (Some(door), Some(shelf)) = (&asked.door, &asked.shelf) else {
            return std::future::pending().await;
        };
        tokio::join!(direct::serve(node.clone(), door, shelf.clone()), shelf.watch(&*node, &asked));
    });
    // None of them ends by itself.
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a task for other regions ended");
        }
    }
}

/// Something to do beside everything else, until it is dropped.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Everything that a node of a region does for others, each a task that never ends by itself.
pub fn work<H: Home, P: Place>(home: Arc<H>, regions: &Arc<Regions<P>>, mut spawn: impl FnMut(Task)) {
    if regions.remote.keeps() {
        spawn(Box::pin(shipper::run(home.clone(), regions.clone())));
    }
    for nth in 0..regions.peers.len() {
        spawn(Box::pin(receiver::run(home.clone(), regions.clone(), nth)));
        spawn(Box::pin(mirrors::run(home.clone(), regions.clone(), nth)));
    }
}

/// The bill of this region from this record, signed with its log's key.
fn read_bill(note: &[u8], key: &Verifier, region: &str, from: Lsn) -> Result<Bill, String> {
    let name = Bill::name(from);
    let bill = Bill::open(note, key).map_err(|why| format!("{name}: {why}"))?;
    if bill.region != region || bill.from != from {
        return Err(format!("{name} is a bill of region {} from record {}", bill.region, bill.from));
    }
    Ok(bill)
}

/// What was told last: the same is worth a log line a minute, however often it is tried.
#[derive(Default)]
struct Told(Option<(String, Duration)>);

impl Told {
    /// Whether to tell this.
    fn anew<H: Home>(&mut self, home: &H, why: &str) -> bool {
        let now = home.up();
        let anew = self.0.as_ref().is_none_or(|(last, at)| last != why || now > *at + TELL_EVERY);
        if anew {
            self.0 = Some((why.to_owned(), now));
        }
        anew
    }
}

/// Pauses that double, each shortened by a random part, so that regions that failed together do not come back together.
struct Backoff(Duration);

impl Backoff {
    fn new() -> Backoff {
        Backoff(PAUSES.0)
    }

    async fn wait<H: Home>(&mut self, home: &H) {
        home.sleep(self.0.mul_f64(0.5 + f64::from(home.any_byte()) / 512.0)).await;
        self.0 = (self.0 * 2).min(PAUSES.1);
    }
}
