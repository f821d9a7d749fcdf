//! The table of settings. Help text, flags, environment names, `--print-config` and the tests read it.

use super::{Alg, Config, DiskChoice, HmacMode, LogFormat, PeerRegion, Secret};
use base64::Engine as _;
use std::path::PathBuf;
use std::time::Duration;

/// One setting: its name in TOML and on the command line, its variables, its default and why it exists.
pub struct Setting {
    /// `section.name` in TOML, `--section.name` on the command line.
    pub name: &'static str,
    /// Environment variables, strongest first; the last ones are the original system's.
    pub env: &'static [&'static str],
    /// Default as text; empty means "not set".
    pub default: &'static str,
    /// Unit or form of the value.
    pub unit: &'static str,
    /// Why the setting exists and why the default is what it is.
    pub why: &'static str,
    /// Whether the value is masked wherever settings are shown.
    pub secret: bool,
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
}

macro_rules! settings {
    ($( $name:literal [$($env:literal),*] = $default:literal, $unit:literal, $why:literal, |$c:ident, $v:ident| $body:expr; )*) => {
        &[$( Setting {
            name: $name, env: &[$($env),*], default: $default, unit: $unit, why: $why,
            secret: matches!($unit.as_bytes(), [b's', b'e', b'c', b'r', b'e', b't', ..]),
            set: |$c, $v| { $body; Ok(()) },
        } ),*]
    };
}

/// Every setting of the process.
#[rustfmt::skip]
pub static SETTINGS: &[Setting] = settings! {
    "http.host" ["FLK_HTTP_HOST"] = "0.0.0.0", "IP address", "all interfaces, as the original listened; a reverse proxy on the same host wants 127.0.0.1", |c, v| c.host = parse(v)?;
    "http.port" ["FLK_HTTP_PORT", "PORT"] = "8080", "TCP port", "the original's port; 0 lets the kernel choose", |c, v| c.port = parse(v)?;
    "http.workers" ["FLK_HTTP_WORKERS"] = "0", "threads", "threads that serve connections; 0 means one a core, 1 the main one", |c, v| c.workers = within(v, 0, 1024)?;
    "http.max_connections" ["FLK_HTTP_MAX_CONNECTIONS"] = "8192", "connections", "bounds memory and descriptors: about 20 KiB each", |c, v| c.max_connections = within(v, 1, 1 << 20)?;
    "http.max_connections_per_ip" ["FLK_HTTP_MAX_CONNECTIONS_PER_IP"] = "2048", "connections", "one client must not take every slot; raise it behind a proxy", |c, v| c.max_connections_per_ip = within(v, 1, 1 << 20)?;
    "http.header_timeout_ms" ["FLK_HTTP_HEADER_TIMEOUT_MS"] = "10000", "ms", "whole request head from its first byte; a dripped head must not hold a slot", |c, v| c.header_timeout = millis(v)?;
    "http.body_timeout_ms" ["FLK_HTTP_BODY_TIMEOUT_MS"] = "10000", "ms", "whole request body from the end of its head, however slowly it drips", |c, v| c.body_timeout = millis(v)?;
    "http.idle_timeout_ms" ["FLK_HTTP_IDLE_TIMEOUT_MS"] = "60000", "ms", "a kept-alive connection without a request", |c, v| c.idle_timeout = millis(v)?;
    "http.drain_timeout_ms" ["FLK_HTTP_DRAIN_TIMEOUT_MS"] = "10000", "ms", "how long a stopping process waits for requests in flight", |c, v| c.drain_timeout = millis(v)?;
    "http.body_max_bytes" ["FLK_HTTP_BODY_MAX_BYTES"] = "1048576", "bytes", "one submission; larger ones are refused with 413, never truncated", |c, v| c.body_max = within(v, 1, engine::limits::BODY_MAX)?;
    "http.batch_max_bytes" ["FLK_HTTP_BATCH_MAX_BYTES"] = "8388608", "bytes", "one NDJSON batch; held in memory until all its records are durable", |c, v| c.batch_max_bytes = within(v, 1, 64 << 20)?;
    "http.batch_max_records" ["FLK_HTTP_BATCH_MAX_RECORDS"] = "1024", "records", "one NDJSON batch; bounds what one request may queue", |c, v| c.batch_max_records = within(v, 1, 65_536)?;
    "http.cors_origin" ["FLK_HTTP_CORS_ORIGIN"] = "*", "origin", "browser SDKs send a preflight; no cookies are used, so any origin may ask", |c, v| c.cors_origin = header_text(v)?;
    "data.dir" ["FLK_DATA_DIR"] = "./flk-data", "path", "everything the node keeps; one process a directory", |c, v| c.data_dir = PathBuf::from(v);
    "data.log_dir" ["FLK_LOG_DIR", "WAL_DIR"] = "", "path", "segments elsewhere than data.dir/log, for example on the fastest device", |c, v| c.log_dir = path(v);
    "data.worm_dir" ["FLK_WORM_DIR", "AUDIT_WORM_DIR"] = "", "path", "audit files elsewhere than data.dir/worm", |c, v| c.worm_dir = path(v);
    "data.segment_bytes" ["FLK_SEGMENT_BYTES"] = "67108864", "bytes", "zero-filled ahead of time; bounds the scan after a crash", |c, v| c.segment_bytes = within(v, 65_536, 1 << 30)?;
    "data.disk" ["FLK_DISK"] = "auto", "auto|uring|posix", "io_uring where the kernel and its seccomp profile allow it", |c, v| c.disk = one_of(v, &[("auto", DiskChoice::Auto), ("uring", DiskChoice::Uring), ("posix", DiskChoice::Posix)])?;
    "node.id" ["FLK_NODE_ID"] = "1", "number", "this node's name in its group; it stands in every record it leads", |c, v| c.node_id = within(v, 1, u64::MAX)?;
    "cluster.listen" ["FLK_CLUSTER_LISTEN"] = "", "host:port", "where other nodes of the group connect; not set means a group of one that nobody joins", |c, v| c.cluster_listen = text(v);
    "cluster.advertise" ["FLK_CLUSTER_ADVERTISE"] = "", "host:port", "where the others find this node; default cluster.listen, as bound", |c, v| c.cluster_advertise = text(v);
    "cluster.join" ["FLK_CLUSTER_JOIN"] = "", "list of id=host:port, comma separated", "members to join with a new data directory; then `flk cluster add` takes the node in", |c, v| c.cluster_join = seeds(v)?;
    "cluster.ca_file" ["FLK_CLUSTER_CA_FILE"] = "", "path", "certificate of the authority that signs the nodes' certificates, PEM", |c, v| c.cluster_ca = path(v);
    "cluster.cert_file" ["FLK_CLUSTER_CERT_FILE"] = "", "path", "this node's certificate, for the name node-ID.flk, PEM", |c, v| c.cluster_cert = path(v);
    "cluster.key_file" ["FLK_CLUSTER_KEY_FILE"] = "", "path", "the key of that certificate, PEM", |c, v| c.cluster_key = path(v);
    "cluster.slow_sync_ms" ["FLK_CLUSTER_SLOW_SYNC_MS"] = "500", "ms", "a leader whose syncs stay above this (more than one in a hundred, for some seconds) hands over to a voter whose disk is faster; taken as the next of 1, 2, 5, 10, 50, 100, 500 and 1000; by default about as long as clients would wait for an election, which costs them that once; 0 never hands over", |c, v| c.slow_sync = Some(within(v, 0, 1000)?).filter(|ms| *ms > 0).map(Duration::from_millis);
    "admin.token" ["FLK_ADMIN_TOKEN"] = "", "secret text", "bearer token that may ask and change the group; not set means nobody may", |c, v| c.admin_token = secret(v);
    "region.id" ["FLK_REGION", "REGION_ID"] = "default", "[A-Za-z0-9._-]{1,64}", "names the log; part of its checkpoints' origin, so it never changes", |c, v| c.region = name(v)?;
    "region.origin_host" ["FLK_ORIGIN_HOST"] = "localhost", "host[:port]", "first part of the checkpoint origin; a public log uses its public host name", |c, v| c.origin_host = origin_host(v)?;
    "keys.kek_file" ["FLK_KEK_FILE"] = "", "path", "key that seals tenants' HMAC secrets in the log; default data.dir/keys/kek", |c, v| c.kek_file = path(v);
    "keys.log_key_file" ["FLK_LOG_KEY_FILE"] = "", "path", "Ed25519 seed that signs checkpoints; default data.dir/keys/log.key", |c, v| c.log_key_file = path(v);
    "keys.create" ["FLK_KEYS_CREATE"] = "true", "true|false", "make missing keys (mode 0600) on a new data directory; false where an operator provides them", |c, v| c.create_keys = switch(v)?;
    "auth.alg" ["FLK_AUTH_ALG", "PCS_SIGN_ALG"] = "", "hmac|ed25519|none", "of the tenant 'default'; not set means by the key that is set; none needs dev.allow_unsigned", |c, v| c.alg = if v.is_empty() { None } else { Some(Alg::parse(v)?) };
    "auth.hmac_key" ["FLK_HMAC_KEY", "PCS_HMAC_KEY"] = "", "secret text", "HMAC key of the tenant 'default'; prefer auth.hmac_key_file", |c, v| c.hmac_key = secret(v);
    "auth.hmac_keys" ["FLK_HMAC_KEYS", "PCS_HMAC_KEYS"] = "", "secret list, comma separated", "several keys valid at once while clients move from the old to the new one", |c, v| c.hmac_keys = v.split(',').filter(|k| !k.is_empty()).map(|k| Secret::new(k.as_bytes().to_vec())).collect();
    "auth.hmac_key_file" ["FLK_HMAC_KEY_FILE", "PCS_HMAC_KEY_FILE"] = "", "path", "file of the HMAC key, as orchestrators mount secrets; one trailing newline is dropped", |c, v| c.hmac_key_file = path(v);
    "auth.ed25519_pub" ["FLK_ED25519_PUB", "PCS_ED25519_PUB_B64"] = "", "base64 of 32 bytes", "public key of the tenant 'default'", |c, v| c.ed25519_pub = public_key(v)?;
    "auth.hmac_mode" ["FLK_HMAC_MODE", "SIGN_HMAC_MODE"] = "any", "any|standard|legacy", "standard: over the canonical text; legacy: over its SHA-256; clients in the field use both", |c, v| c.hmac_mode = one_of(v, &[("any", HmacMode::Any), ("standard", HmacMode::Standard), ("legacy", HmacMode::Legacy)])?;
    "dev.allow_unsigned" ["FLK_DEV_ALLOW_UNSIGNED"] = "false", "true|false", "lets a tenant have algorithm none; for development only", |c, v| c.allow_unsigned = switch(v)?;
    "tenants.multi" ["FLK_MULTI_TENANT", "MULTI_TENANT"] = "false", "true|false", "true: X-Tenant-Id must name a tenant; false: everything belongs to 'default'", |c, v| c.multi_tenant = switch(v)?;
    "tenants.list" ["FLK_TENANTS", "TENANTS"] = "", "secret list id:alg:key, comma separated", "the original's form; a [[tenant]] table in the file can also name rates and key windows", |c, v| c.tenants_text = secret(v);
    "quota.rate_per_s" ["FLK_RATE", "TOKEN_RATE"] = "100", "submissions/s", "a tenant's token bucket unless its table says otherwise; 0 means no limit", |c, v| c.rate_per_s = parse(v)?;
    "quota.burst" ["FLK_BURST"] = "0", "submissions", "size of the bucket; 0 means twice the rate", |c, v| c.burst = parse(v)?;
    "quota.daily" ["FLK_DAILY_QUOTA"] = "0", "submissions/24 h", "rolling day from the first submission; 0 means no limit", |c, v| c.daily_quota = parse(v)?;
    "policy.version" ["FLK_POLICY_VERSION", "POLICY_VERSION"] = "1.0.0", "version", "rules that judge submissions; this build knows 1.0.0", |c, v| c.policy_version = if v == "1.0.0" { v.to_owned() } else { return Err("this build knows only policy 1.0.0".into()) };
    "ingest.queue_bytes" ["FLK_QUEUE_BYTES"] = "67108864", "bytes", "submissions waiting for the log; above it the answer is 503 with Retry-After", |c, v| c.queue_bytes = within(v, 2 << 20, 4 << 30)?;
    "ingest.batches_in_flight" ["FLK_BATCHES_IN_FLIGHT"] = "4", "batches", "log entries proposed and not yet applied; more hides the sync, too many makes small batches", |c, v| c.batches_in_flight = within(v, 1, 64)?;
    "verify.threads" ["FLK_VERIFY_THREADS"] = "0", "threads", "signature checks beside the sync; 0 means one a core", |c, v| c.verify_threads = within(v, 0, 1024)?;
    "dedup.answers_cached" ["FLK_ANSWERS_CACHED"] = "16384", "answers", "first answers kept for duplicates; others are read back from the log and judged again", |c, v| c.answers_cached = within(v, 1, 1 << 24)?;
    "scrub.bytes_per_s" ["FLK_SCRUB_BYTES_PER_S"] = "8388608", "bytes/s", "sealed segments are read again in the background and compared with their sums, no faster than this; 0 turns it off", |c, v| c.scrub_bytes_per_s = within(v, 0, 1 << 40)?;
    "scrub.every_ms" ["FLK_SCRUB_EVERY_MS"] = "3600000", "ms", "a pass over all sealed segments begins at most this often: a short log is not read all day", |c, v| c.scrub_every = millis(v)?;
    "attest.records" ["FLK_ATTEST_RECORDS"] = "4096", "submissions", "at most this many between two Attested and Checkpoint events", |c, v| c.attest_records = within(v, 1, 1 << 20)?;
    "attest.idle_ms" ["FLK_ATTEST_IDLE_MS"] = "500", "ms", "attest and checkpoint what is there when nothing new arrives for this long", |c, v| c.attest_idle = millis(v)?;
    "snapshot.records" ["FLK_SNAPSHOT_RECORDS"] = "32000", "submissions", "ledger snapshot after this many, so that a restart replays less than a second of log", |c, v| c.snapshot_records = within(v, 1, 1 << 40)?;
    "worm.box_s" ["FLK_WORM_BOX_S"] = "3600", "s", "event time covered by one WORM file", |c, v| c.worm_box = Duration::from_secs(within(v, 1, 86_400)?);
    "worm.max_bytes" ["FLK_WORM_MAX_BYTES"] = "33554432", "bytes", "a WORM file is closed at this size even inside its time box, so that its root is quick to recompute", |c, v| c.worm_bytes = within(v, 65_536, 1 << 30)?;
    "audit.token" ["FLK_AUDIT_TOKEN"] = "", "secret text", "bearer token that may read entry bundles; not set means nobody may", |c, v| c.audit_token = secret(v);
    "witness.policy_file" ["FLK_WITNESS_POLICY_FILE"] = "", "path", "witnesses that are asked for cosignatures, and how many are enough (C2SP tlog-policy); not set means that nobody outside watches the log", |c, v| c.witness_policy = path(v);
    "witness.every_ms" ["FLK_WITNESS_EVERY_MS"] = "5000", "ms", "witnesses are asked about a newer checkpoint at most this often; each cosignature is a record of the log", |c, v| c.witness_every = millis(v)?;
    "witness.logs_file" ["FLK_WITNESS_LOGS_FILE"] = "", "path", "other logs that this one is a witness of: the log lines of a policy (C2SP tlog-policy); not set means of none", |c, v| c.witness_logs = path(v);
    "witness.name" ["FLK_WITNESS_NAME"] = "", "key name", "of the key that cosigns other logs; default origin_host/witness/region; it never changes", |c, v| c.witness_own_name = text(v);
    "witness.key_file" ["FLK_WITNESS_KEY_FILE"] = "", "path", "Ed25519 seed that cosigns other logs, the same on every node of a group and never the log's; default data.dir/keys/witness.key", |c, v| c.witness_key_file = path(v);
    "anchor.targets_file" ["FLK_ANCHOR_TARGETS_FILE"] = "", "path", "time-stamp authorities, calendars and places for copies of checkpoints, TOML (docs/AUDIT.md)", |c, v| c.anchor_targets = path(v);
    "anchor.ca_file" ["FLK_ANCHOR_CA_FILE"] = "/etc/ssl/certs/ca-certificates.crt", "path", "authorities that witnesses and others with https addresses are held to, PEM; read only if there is one", |c, v| c.anchor_ca = PathBuf::from(v);
    "anchor.tries" ["FLK_ANCHOR_TRIES"] = "8", "tries", "failed tries in a row before a target's task counts as given up (flk audit dlq); newer checkpoints are tried all the same", |c, v| c.anchor_tries = within(v, 1, 1000)?;
    "regions.place" ["FLK_REGIONS_PLACE"] = "", "path", "directory, or s3://bucket/prefix or gs://bucket/prefix, that other regions can read, where this one's log is shipped to; direct lets them ask this region's nodes; not set means that nothing is shipped", |c, v| c.regions_place = text(v);
    "regions.stores_file" ["FLK_REGIONS_STORES_FILE"] = "", "path", "where the buckets of s3:// and gs:// places are and the keys to them, TOML (docs/REGIONS.md)", |c, v| c.regions_stores = path(v);
    "regions.peers" ["FLK_REGIONS_PEERS"] = "", "list of 'name place vkey_file', comma separated", "other regions whose logs are taken in: where their shipments lie (for one that is asked, https://host:port of each of its nodes), and a copy of their keys/region.vkey", |c, v| c.regions_peers = regions(v)?;
    "regions.listen" ["FLK_REGIONS_LISTEN"] = "", "host:port", "where other regions ask this node, if regions.place is direct", |c, v| c.regions_listen = text(v);
    "regions.ca_file" ["FLK_REGIONS_CA_FILE"] = "", "path", "certificate of the authority that signs the regions' certificates, PEM", |c, v| c.regions_ca = path(v);
    "regions.cert_file" ["FLK_REGIONS_CERT_FILE"] = "", "path", "this region's certificate, for the name region-NAME.flk, PEM", |c, v| c.regions_cert = path(v);
    "regions.key_file" ["FLK_REGIONS_KEY_FILE"] = "", "path", "the key of that certificate, PEM", |c, v| c.regions_key = path(v);
    "regions.bytes_per_s" ["FLK_REGIONS_BYTES_PER_S"] = "0", "bytes/s", "packed ranges leave no faster than this, so that shipping leaves room on the line; 0 means no limit", |c, v| c.regions_bytes_per_s = match within(v, 0, 1 << 40)? { 1..65_536 => return Err("0, or at least 65536".into()), most => most };
    "regions.withhold" ["FLK_REGIONS_WITHHOLD"] = "", "list of tenants, comma separated", "what these tenants send from the next start on stays in this region; others hold what they need to prove the tree and the order (docs/REGIONS.md). It is logged, and has no end", |c, v| c.regions_withhold = v.split(',').map(str::trim).filter(|v| !v.is_empty()).map(name).collect::<Result<_, _>>()?;
    "regions.reconcile_above" ["FLK_REGIONS_RECONCILE_ABOVE"] = "0.95", "0 to 1", "where regions differ, proposals with a score above this are approved by themselves (flk reconcile); by default only fetching again is; 1 leaves everything to people", |c, v| c.reconcile_above = (within::<f64>(v, 0.0, 1.0)? * 1000.0).round() as u16;
    "metrics.user" ["FLK_METRICS_USER", "METRICS_USER"] = "", "text", "basic auth on /metrics when not empty", |c, v| c.metrics_user = Some(v.to_owned()).filter(|v| !v.is_empty());
    "metrics.pass" ["FLK_METRICS_PASS", "METRICS_PASS"] = "", "secret text", "the password of metrics.user", |c, v| c.metrics_pass = secret(v);
    "metrics.tenants" ["FLK_METRICS_TENANTS"] = "64", "tenants", "tenants with a label value of their own; later ones share 'other', so that series stay bounded", |c, v| c.metrics_tenants = within(v, 0, 10_000)?;
    "log.filter" ["FLK_LOG", "RUST_LOG"] = "info,openraft=warn,openraft::core::heartbeat=error,openraft::core::raft_core=error", "filter", "which log lines are written, in tracing's filter syntax; a peer that is away is not worth a line for each heartbeat, nor an answer that comes after a change of leader", |c, v| c.log_filter = v.to_owned();
    "log.format" ["FLK_LOG_FORMAT"] = "json", "json|text", "json for collectors, text for people", |c, v| c.log_format = one_of(v, &[("json", LogFormat::Json), ("text", LogFormat::Text)])?;
};

fn parse<T: std::str::FromStr>(v: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    v.trim().parse().map_err(|e| format!("{e}"))
}

fn within<T: std::str::FromStr + PartialOrd + std::fmt::Display>(
    v: &str,
    low: T,
    high: T,
) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    let n: T = parse(v)?;
    if n < low || n > high { Err(format!("must be from {low} to {high}")) } else { Ok(n) }
}

/// Deadlines: at least a millisecond and at most an hour.
fn millis(v: &str) -> Result<Duration, String> {
    Ok(Duration::from_millis(within(v, 1, 3_600_000)?))
}

fn switch(v: &str) -> Result<bool, String> {
    one_of(&v.to_ascii_lowercase(), &[("true", true), ("1", true), ("false", false), ("0", false)])
}

fn one_of<T: Copy>(v: &str, choices: &[(&str, T)]) -> Result<T, String> {
    choices.iter().find(|(name, _)| *name == v).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        format!("must be one of {}", names.join(", "))
    })
}

fn text(v: &str) -> Option<String> {
    if v.is_empty() { None } else { Some(v.to_owned()) }
}

/// `1=host:port,2=host:port`.
fn seeds(v: &str) -> Result<Vec<(u64, String)>, String> {
    let one = |part: &str| {
        let (node, address) = part.trim().split_once('=').ok_or("must be id=host:port")?;
        let node: u64 = node.trim().parse().map_err(|_| "the id before '=' is a number")?;
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if node == 0 || port.is_none() {
            return Err("must be id=host:port");
        }
        Ok((node, address.trim().to_owned()))
    };
    v.split(',').filter(|part| !part.trim().is_empty()).map(|part| one(part).map_err(str::to_owned)).collect()
}

/// `eu /mnt/eu /etc/flk/eu.vkey,us /mnt/us /etc/flk/us.vkey`.
fn regions(v: &str) -> Result<Vec<PeerRegion>, String> {
    let one = |part: &str| {
        let words: Vec<&str> = part.split_whitespace().collect();
        let wrong = || format!("'{}' is not: name place vkey_file", part.trim());
        let [region, places @ .., vkeys] = words.as_slice() else { return Err(wrong()) };
        if places.is_empty() || places.len() > 1 && !places.iter().all(|one| one.starts_with("https://")) {
            return Err(wrong());
        }
        let region = name(region).map_err(|why| format!("region {region}: {why}"))?;
        Ok(PeerRegion { region, place: places.join(" "), vkeys: PathBuf::from(vkeys) })
    };
    let all: Vec<PeerRegion> =
        v.split(',').filter(|part| !part.trim().is_empty()).map(one).collect::<Result<_, String>>()?;
    match all.len() > usize::from(engine::limits::ORIGINS_MAX) {
        true => Err(format!("at most {} other regions", engine::limits::ORIGINS_MAX)),
        false => Ok(all),
    }
}

fn path(v: &str) -> Option<PathBuf> {
    if v.is_empty() { None } else { Some(PathBuf::from(v)) }
}

fn secret(v: &str) -> Option<Secret> {
    if v.is_empty() { None } else { Some(Secret::new(v.as_bytes().to_vec())) }
}

/// The name of a region, or of anything that is named like one.
///
/// # Errors
/// What is wrong with it.
pub fn name(v: &str) -> Result<String, String> {
    let ok = (1..=64).contains(&v.len())
        && v.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && v != "."
        && v != "..";
    if ok { Ok(v.to_owned()) } else { Err("must be 1 to 64 of A-Z a-z 0-9 . _ -".into()) }
}

/// The origin stands on a line of its own in a signed note and may hold neither spaces nor plus signs.
fn origin_host(v: &str) -> Result<String, String> {
    let ok =
        (1..=253).contains(&v.len()) && v.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:".contains(&b));
    if ok { Ok(v.to_owned()) } else { Err("must be a host name, without scheme or path".into()) }
}

fn header_text(v: &str) -> Result<String, String> {
    if v.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        Ok(v.to_owned())
    } else {
        Err("must be printable ASCII".into())
    }
}

pub(super) fn public_key(v: &str) -> Result<Option<[u8; 32]>, String> {
    if v.is_empty() {
        return Ok(None);
    }
    let bytes =
        base64::engine::general_purpose::STANDARD.decode(v.trim()).map_err(|_| "is not base64".to_owned())?;
    let key: [u8; 32] = bytes.try_into().map_err(|_| "must hold exactly 32 bytes".to_owned())?;
    Ok(Some(key))
}
