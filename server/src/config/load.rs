//! Layers: default, development preset, TOML file, environment, command line. The last that names a setting wins.

use super::table::SETTINGS;
use super::tenants::{TenantTable, reconcile};
use super::{Config, ConfigError, Setting, foreign};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layer {
    /// The table's default.
    Default,
    /// What `flkd dev` presets.
    Dev,
    /// The TOML file.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// The command line.
    Flag,
}

impl std::fmt::Display for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Layer::Default => f.write_str("default"),
            Layer::Dev => f.write_str("flkd dev"),
            Layer::File(path) => write!(f, "{}", path.display()),
            Layer::Env(name) => write!(f, "environment {name}"),
            Layer::Flag => f.write_str("command line"),
        }
    }
}

/// A configuration with the origin of every value.
#[derive(Debug)]
pub struct Loaded {
    /// The result.
    pub config: Config,
    /// Things an operator should read at start.
    pub warnings: Vec<String>,
    values: BTreeMap<&'static str, (Layer, String)>,
}

/// Reads the file and the process environment and puts the layers together.
pub fn load(
    dev: &[(&'static str, String)],
    file: Option<&Path>,
    flags: &[(String, String)],
) -> Result<Loaded, ConfigError> {
    let text = match file {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|e| ConfigError::File { path: path.to_owned(), why: e.to_string() })?;
            Some((path.to_owned(), text))
        }
        None => None,
    };
    let env: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    load_from(dev, text, &env, flags)
}

/// The same from explicit layers, which is what tests use.
pub fn load_from(
    dev: &[(&'static str, String)],
    file: Option<(PathBuf, String)>,
    env: &[(String, String)],
    flags: &[(String, String)],
) -> Result<Loaded, ConfigError> {
    let mut values: BTreeMap<&'static str, (Layer, String)> =
        SETTINGS.iter().map(|s| (s.name, (Layer::Default, s.default.to_owned()))).collect();
    let mut warnings = Vec::new();
    for (name, value) in dev {
        values.insert(known(name, "flkd dev")?.name, (Layer::Dev, value.clone()));
    }
    let mut tables = Vec::new();
    if let Some((path, text)) = file {
        tables = from_file(&path, &text, &mut values)?;
    }
    from_env(env, &mut values, &mut warnings)?;
    for (name, value) in flags {
        values.insert(known(name, "command line")?.name, (Layer::Flag, value.clone()));
    }
    let mut config = blank();
    for setting in SETTINGS {
        let (layer, value) = &values[setting.name];
        (setting.set)(&mut config, value).map_err(|why| ConfigError::Value {
            origin: layer.to_string(),
            name: setting.name.to_owned(),
            why,
        })?;
    }
    if config.metrics_user.is_some() != config.metrics_pass.is_some() {
        return Err(ConfigError::Together("metrics.user and metrics.pass must be set together".into()));
    }
    let files = [&config.cluster_ca, &config.cluster_cert, &config.cluster_key];
    if config.cluster_listen.is_some() && files.iter().any(|file| file.is_none()) {
        let all = "cluster.listen needs cluster.ca_file, cluster.cert_file and cluster.key_file (flk cluster certs)";
        return Err(ConfigError::Together(all.into()));
    }
    if config.cluster_listen.is_none() && !config.cluster_join.is_empty() {
        return Err(ConfigError::Together("cluster.join needs cluster.listen".into()));
    }
    if config.regions_place.is_none() && !config.regions_peers.is_empty() {
        let both = "regions.peers needs regions.place: what is held of them is said there";
        return Err(ConfigError::Together(both.into()));
    }
    let files = [&config.regions_ca, &config.regions_cert, &config.regions_key];
    let (some, all) = (files.iter().any(|file| file.is_some()), files.iter().all(|file| file.is_some()));
    let direct = config.regions_place.as_deref() == Some(crate::ship::DIRECT);
    let together = |why: &str| Err(ConfigError::Together(why.into()));
    match () {
        () if some && !all => {
            return together(
                "regions.ca_file, regions.cert_file and regions.key_file are set together (flk cluster certs)",
            );
        }
        () if direct && (config.regions_listen.is_none() || !all) => {
            return together(
                "regions.place direct needs regions.listen, regions.ca_file, regions.cert_file and regions.key_file",
            );
        }
        () if config.regions_listen.is_some() && !direct => {
            return together(
                "regions.listen needs regions.place direct: otherwise other regions read the place",
            );
        }
        () => {}
    }
    reconcile(&mut config, tables, &mut warnings)?;
    for name in &config.regions_withhold {
        if !config.tenants.iter().any(|tenant| tenant.id == *name) {
            let none = format!("regions.withhold names '{name}', which is no tenant of this region");
            return Err(ConfigError::Together(none));
        }
    }
    Ok(Loaded { config, warnings, values })
}

fn known(name: &str, origin: &str) -> Result<&'static Setting, ConfigError> {
    SETTINGS
        .iter()
        .find(|s| s.name == name)
        .ok_or_else(|| ConfigError::Unknown { origin: origin.to_owned(), name: name.to_owned() })
}

fn from_file(
    path: &Path,
    text: &str,
    values: &mut BTreeMap<&'static str, (Layer, String)>,
) -> Result<Vec<TenantTable>, ConfigError> {
    let wrong = |why: String| ConfigError::File { path: path.to_owned(), why };
    let mut root: toml::Table = text.parse().map_err(|e: toml::de::Error| wrong(e.to_string()))?;
    let tables = match root.remove("tenant") {
        None => Vec::new(),
        Some(value) => {
            value.try_into::<Vec<TenantTable>>().map_err(|e| wrong(format!("[[tenant]]: {}", e.message())))?
        }
    };
    for (section, inner) in root {
        let toml::Value::Table(inner) = inner else {
            return Err(ConfigError::Unknown { origin: path.display().to_string(), name: section });
        };
        for (key, value) in inner {
            let name = format!("{section}.{key}");
            let setting = known(&name, &path.display().to_string())?;
            let value = scalar(&value)
                .ok_or_else(|| wrong(format!("{name} must be a text, a number or a switch")))?;
            values.insert(setting.name, (Layer::File(path.to_owned()), value));
        }
    }
    Ok(tables)
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(v) => Some(v.clone()),
        toml::Value::Integer(v) => Some(v.to_string()),
        toml::Value::Boolean(v) => Some(v.to_string()),
        toml::Value::Array(items) => {
            items.iter().map(|item| item.as_str()).collect::<Option<Vec<_>>>().map(|items| items.join(","))
        }
        _ => None,
    }
}

/// Variables with our prefix that the client programs, the demo and the tests read; they may be set for a whole shell.
const NOT_OURS: &[&str] =
    &["FLK_URL", "FLK_TENANT", "FLK_BIN_DIR", "FLK_DEMO_PORT", "FLK_DEMO_DIR", "FLK_DEMO_EXIT"];

/// An empty variable counts as unset, as it did in the original. A variable that begins with our own prefix
/// must be one we know; variables of others are none of our business.
fn from_env(
    env: &[(String, String)],
    values: &mut BTreeMap<&'static str, (Layer, String)>,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    for (name, value) in env.iter().filter(|(_, value)| !value.is_empty()) {
        let ours = name.starts_with("FLK_") && !NOT_OURS.contains(&name.as_str());
        if ours && !SETTINGS.iter().any(|s| s.env.contains(&name.as_str())) {
            return Err(ConfigError::Unknown { origin: "environment".into(), name: name.clone() });
        }
        warnings.extend(foreign::check(name, value)?);
    }
    for setting in SETTINGS {
        let hit = setting.env.iter().find_map(|want| {
            env.iter()
                .find(|(name, value)| name == want && !value.is_empty())
                .map(|(name, value)| (name, value))
        });
        if let Some((name, value)) = hit {
            values.insert(setting.name, (Layer::Env(name.clone()), value.clone()));
        }
    }
    Ok(())
}

impl Loaded {
    /// The result as TOML, with the origin of each value and with secrets masked.
    pub fn print(&self) -> String {
        let mut out = String::new();
        let mut section = "";
        for setting in SETTINGS {
            let (layer, value) = &self.values[setting.name];
            let (here, key) = setting.name.split_once('.').unwrap_or(("", setting.name));
            if here != section {
                let _ = writeln!(out, "{}[{here}]", if section.is_empty() { "" } else { "\n" });
                section = here;
            }
            let shown = if setting.secret && !value.is_empty() { "***" } else { value };
            let _ = writeln!(out, "{key} = {shown:?}  # {layer}; {}", setting.unit);
        }
        for tenant in &self.config.tenants {
            let _ = write!(
                out,
                "\n[[tenant]]  # in effect\nid = {:?}\nactive = {}\nrate_per_s = {}\nburst = {}\ndaily_quota = {}\nkeys = {}\n",
                tenant.id,
                tenant.active,
                tenant.rate_per_s,
                tenant.burst,
                tenant.daily_quota,
                tenant.keys.len()
            );
        }
        out
    }
}

/// Something to write the table's values into; every field is overwritten by its setting.
fn blank() -> Config {
    use std::time::Duration;
    Config {
        host: std::net::Ipv4Addr::UNSPECIFIED.into(),
        port: 0,
        workers: 0,
        max_connections: 0,
        max_connections_per_ip: 0,
        header_timeout: Duration::ZERO,
        body_timeout: Duration::ZERO,
        idle_timeout: Duration::ZERO,
        drain_timeout: Duration::ZERO,
        body_max: 0,
        batch_max_bytes: 0,
        batch_max_records: 0,
        cors_origin: String::new(),
        data_dir: PathBuf::new(),
        log_dir: None,
        worm_dir: None,
        segment_bytes: 0,
        disk: super::DiskChoice::Auto,
        node_id: 0,
        cluster_listen: None,
        cluster_advertise: None,
        cluster_join: Vec::new(),
        cluster_ca: None,
        cluster_cert: None,
        cluster_key: None,
        slow_sync: None,
        admin_token: None,
        region: String::new(),
        origin_host: String::new(),
        kek_file: None,
        log_key_file: None,
        create_keys: false,
        alg: None,
        hmac_key: None,
        hmac_keys: Vec::new(),
        hmac_key_file: None,
        ed25519_pub: None,
        hmac_mode: super::HmacMode::Any,
        allow_unsigned: false,
        multi_tenant: false,
        tenants_text: None,
        rate_per_s: 0,
        burst: 0,
        daily_quota: 0,
        policy_version: String::new(),
        queue_bytes: 0,
        batches_in_flight: 0,
        verify_threads: 0,
        answers_cached: 0,
        scrub_bytes_per_s: 0,
        scrub_every: Duration::ZERO,
        attest_records: 0,
        attest_idle: Duration::ZERO,
        snapshot_records: 0,
        worm_box: Duration::ZERO,
        worm_bytes: 0,
        audit_token: None,
        witness_policy: None,
        witness_every: Duration::ZERO,
        witness_logs: None,
        witness_own_name: None,
        witness_key_file: None,
        anchor_targets: None,
        anchor_ca: PathBuf::new(),
        anchor_tries: 0,
        regions_place: None,
        regions_stores: None,
        regions_peers: Vec::new(),
        regions_withhold: Vec::new(),
        regions_listen: None,
        regions_ca: None,
        regions_cert: None,
        regions_key: None,
        regions_bytes_per_s: 0,
        reconcile_above: 950,
        metrics_user: None,
        metrics_pass: None,
        metrics_tenants: 0,
        log_filter: String::new(),
        log_format: super::LogFormat::Json,
        tenants: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
