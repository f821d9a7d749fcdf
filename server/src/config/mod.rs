//! What one process may tune: every setting once, with its default, unit and reason.
//!
//! A value comes from the last layer that names it: built-in default, TOML file, environment, command line.
//! Each setting remembers the layer it came from, and `flkd --print-config` shows the result with secrets
//! masked. A name that no setting knows is refused in every layer, because a misspelt limit that is silently
//! ignored is worse than a process that does not start.
//!
//! What all nodes must share is not here: it stands in `engine::limits` and is part of the format.

mod foreign;
mod load;
mod secret;
mod table;
mod tenants;

pub use load::{Layer, Loaded, load, load_from};
pub use secret::Secret;
pub use table::{SETTINGS, Setting, name as region_name};
pub use tenants::{Alg, KeyConfig, TenantConfig};

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// A setting that cannot be used, with the name an operator can look for.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A name that no setting has.
    #[error("{origin}: unknown setting '{name}' (flkd --help lists them all)")]
    Unknown {
        /// Layer and place where the name was found.
        origin: String,
        /// The name as written.
        name: String,
    },
    /// A value that its setting cannot take.
    #[error("{origin}: {name}: {why}")]
    Value {
        /// Layer and place where the value was found.
        origin: String,
        /// The setting.
        name: String,
        /// What is wrong with the value; never the value of a secret.
        why: String,
    },
    /// The configuration file cannot be read or is not TOML.
    #[error("configuration file {path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
    /// Settings that are fine alone but not together.
    #[error("{0}")]
    Together(String),
    /// A variable of the original system whose feature is not part of this build.
    #[error("environment: {name} is set, but {why}; unset it to start without that feature")]
    NotBuilt {
        /// The variable.
        name: String,
        /// What it would have asked for.
        why: &'static str,
    },
}

/// Another region, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRegion {
    /// Its name.
    pub region: String,
    /// Where its shipments lie: a directory, or `s3://bucket/prefix`.
    pub place: String,
    /// A copy of its `keys/region.vkey`.
    pub vkeys: PathBuf,
}

/// Which disk implementation writes the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskChoice {
    /// io_uring where the kernel allows it, otherwise pwrite and fdatasync.
    Auto,
    /// io_uring or no start.
    Uring,
    /// pwrite and fdatasync.
    Posix,
}

/// Which of the two HMAC inputs of the clients in the field are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HmacMode {
    /// Over the canonical text and over its SHA-256.
    Any,
    /// Only over the canonical text.
    Standard,
    /// Only over the SHA-256 of the canonical text.
    Legacy,
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people at a terminal.
    Text,
}

/// The settings of one process, after all layers.
///
/// The meaning, unit, default and reason of each field stand in [`SETTINGS`], once.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Config {
    pub host: IpAddr,
    pub port: u16,
    pub workers: usize,
    pub max_connections: usize,
    pub max_connections_per_ip: usize,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
    pub drain_timeout: Duration,
    pub body_max: usize,
    pub batch_max_bytes: usize,
    pub batch_max_records: usize,
    pub cors_origin: String,
    pub data_dir: PathBuf,
    pub log_dir: Option<PathBuf>,
    pub worm_dir: Option<PathBuf>,
    pub segment_bytes: u64,
    pub disk: DiskChoice,
    pub node_id: u64,
    pub cluster_listen: Option<String>,
    pub cluster_advertise: Option<String>,
    pub cluster_join: Vec<(u64, String)>,
    pub cluster_ca: Option<PathBuf>,
    pub cluster_cert: Option<PathBuf>,
    pub cluster_key: Option<PathBuf>,
    pub slow_sync: Option<Duration>,
    pub admin_token: Option<Secret>,
    pub region: String,
    pub origin_host: String,
    pub kek_file: Option<PathBuf>,
    pub log_key_file: Option<PathBuf>,
    pub create_keys: bool,
    pub alg: Option<Alg>,
    pub hmac_key: Option<Secret>,
    pub hmac_keys: Vec<Secret>,
    pub hmac_key_file: Option<PathBuf>,
    pub ed25519_pub: Option<[u8; 32]>,
    pub hmac_mode: HmacMode,
    pub allow_unsigned: bool,
    pub multi_tenant: bool,
    pub tenants_text: Option<Secret>,
    pub rate_per_s: u32,
    pub burst: u32,
    pub daily_quota: u64,
    pub policy_version: String,
    pub queue_bytes: usize,
    pub batches_in_flight: usize,
    pub verify_threads: usize,
    pub answers_cached: usize,
    pub scrub_bytes_per_s: u64,
    pub scrub_every: Duration,
    pub attest_records: u64,
    pub attest_idle: Duration,
    pub snapshot_records: u64,
    pub worm_box: Duration,
    pub worm_bytes: u64,
    pub audit_token: Option<Secret>,
    pub witness_policy: Option<PathBuf>,
    pub witness_every: Duration,
    pub witness_logs: Option<PathBuf>,
    pub witness_own_name: Option<String>,
    pub witness_key_file: Option<PathBuf>,
    pub anchor_targets: Option<PathBuf>,
    pub anchor_ca: PathBuf,
    pub anchor_tries: u32,
    pub regions_place: Option<String>,
    pub regions_stores: Option<PathBuf>,
    pub regions_peers: Vec<PeerRegion>,
    pub regions_withhold: Vec<String>,
    pub regions_listen: Option<String>,
    pub regions_ca: Option<PathBuf>,
    pub regions_cert: Option<PathBuf>,
    pub regions_key: Option<PathBuf>,
    pub regions_bytes_per_s: u64,
    /// Proposals with a score above this, in thousandths, are approved by themselves.
    pub reconcile_above: u16,
    pub metrics_user: Option<String>,
    pub metrics_pass: Option<Secret>,
    pub metrics_tenants: usize,
    pub log_filter: String,
    pub log_format: LogFormat,
    /// Tenants after reconciling `[[tenant]]`, `TENANTS` and the single-tenant variables. Never empty.
    pub tenants: Vec<TenantConfig>,
}

impl Config {
    /// Address the HTTP listener binds.
    pub fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }

    /// Directory of the log's segments.
    pub fn log_path(&self) -> PathBuf {
        self.log_dir.clone().unwrap_or_else(|| self.data_dir.join("log"))
    }

    /// Directory of the WORM files.
    pub fn worm_path(&self) -> PathBuf {
        self.worm_dir.clone().unwrap_or_else(|| self.data_dir.join("worm"))
    }

    /// File of the key-encryption key.
    pub fn kek_path(&self) -> PathBuf {
        self.kek_file.clone().unwrap_or_else(|| self.data_dir.join("keys").join("kek"))
    }

    /// File of the log's signing seed.
    pub fn log_key_path(&self) -> PathBuf {
        self.log_key_file.clone().unwrap_or_else(|| self.data_dir.join("keys").join("log.key"))
    }

    /// File of the seed that cosigns other logs' checkpoints.
    pub fn witness_key_path(&self) -> PathBuf {
        self.witness_key_file.clone().unwrap_or_else(|| self.data_dir.join("keys").join("witness.key"))
    }

    /// Name of the key that cosigns other logs' checkpoints.
    pub fn witness_name(&self) -> String {
        let own = self.witness_own_name.clone();
        own.unwrap_or_else(|| format!("{}/witness/{}", self.origin_host, self.region))
    }

    /// Origin line of the log's checkpoints.
    pub fn origin(&self) -> String {
        format!("{}/pcs/{}", self.origin_host, self.region)
    }

    /// Threads that serve connections.
    pub fn worker_count(&self) -> usize {
        if self.workers == 0 { cores() } else { self.workers }
    }

    /// Threads of the main runtime. What a record passes on its way is one thing after the other, and one thread needs no
    /// scheduler that others steal from. But other nodes must be answered also while the fold waits for its disk.
    pub fn main_count(&self) -> usize {
        let alone = self.cluster_listen.is_none() && self.regions_listen.is_none();
        if alone { 1 } else { cores().max(2) }
    }

    /// Threads of the verification pool.
    pub fn verify_count(&self) -> usize {
        if self.verify_threads == 0 { cores() } else { self.verify_threads }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map(|n| n.get()).unwrap_or(1)
}
