//! Tenants as configured: the `[[tenant]]` tables, the original's `TENANTS` text, and the single-tenant settings.
//!
//! A tenant whose key cannot be loaded stops the start. There is no fallback key and no fallback verifier.

use super::table::{name, public_key};
use super::{Config, ConfigError, Secret};
use std::path::{Path, PathBuf};

/// How a tenant's submissions are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alg {
    /// HMAC-SHA256 with a shared secret.
    Hmac,
    /// Ed25519, strict verification.
    Ed25519,
    /// Nothing is signed; only with `dev.allow_unsigned`.
    None,
}

impl Alg {
    /// Parses the names the original used.
    pub fn parse(v: &str) -> Result<Alg, String> {
        match v.to_ascii_lowercase().as_str() {
            "hmac" => Ok(Alg::Hmac),
            "ed25519" => Ok(Alg::Ed25519),
            "none" => Ok(Alg::None),
            _ => Err("must be one of hmac, ed25519, none".into()),
        }
    }
}

/// One key of a tenant with the time in which it is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyConfig {
    /// Secret of an HMAC key, or nothing.
    pub hmac: Option<Secret>,
    /// Public Ed25519 key, or nothing. With neither, the tenant's submissions need no signature.
    pub ed25519: Option<[u8; 32]>,
    /// First valid moment, ms since the epoch.
    pub not_before_ms: u64,
    /// Last valid moment, ms since the epoch; `u64::MAX` is open.
    pub not_after_ms: u64,
}

impl KeyConfig {
    fn always(hmac: Option<Secret>, ed25519: Option<[u8; 32]>) -> KeyConfig {
        KeyConfig { hmac, ed25519, not_before_ms: 0, not_after_ms: u64::MAX }
    }
}

/// One tenant as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantConfig {
    /// Name in `X-Tenant-Id`: 1 to 64 of A-Z a-z 0-9 . _ -
    pub id: String,
    /// Name for people.
    pub display: String,
    /// Whether its submissions are taken.
    pub active: bool,
    /// Valid keys, at least one.
    pub keys: Vec<KeyConfig>,
    /// Token bucket, submissions a second; 0 means no limit.
    pub rate_per_s: u32,
    /// Size of the bucket.
    pub burst: u32,
    /// Submissions in a rolling day; 0 means no limit.
    pub daily_quota: u64,
}

/// A `[[tenant]]` table.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantTable {
    id: String,
    #[serde(default)]
    display: String,
    #[serde(default = "yes")]
    active: bool,
    alg: String,
    key: Option<String>,
    key_file: Option<PathBuf>,
    #[serde(default)]
    keys: Vec<KeyTable>,
    rate_per_s: Option<u32>,
    burst: Option<u32>,
    daily_quota: Option<u64>,
}

/// An entry of `keys` in a `[[tenant]]` table.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyTable {
    key: Option<String>,
    key_file: Option<PathBuf>,
    not_before: Option<String>,
    not_after: Option<String>,
}

fn yes() -> bool {
    true
}

fn bad(origin: &str, what: &str, why: impl Into<String>) -> ConfigError {
    ConfigError::Value { origin: origin.to_owned(), name: what.to_owned(), why: why.into() }
}

/// Reads a secret file, without the one newline that editors leave at its end.
pub(super) fn read_secret(path: &Path) -> Result<Secret, String> {
    let mut bytes = std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    if bytes.is_empty() { Err(format!("{} is empty", path.display())) } else { Ok(Secret::new(bytes)) }
}

fn material(alg: Alg, key: Option<&str>, file: Option<&Path>) -> Result<KeyConfig, String> {
    let secret = match (key, file) {
        (Some(_), Some(_)) => return Err("key and key_file are both set".into()),
        (Some(""), None) => return Err("the key is empty".into()),
        (Some(text), None) => Some(Secret::new(text.as_bytes().to_vec())),
        (None, Some(file)) => Some(read_secret(file)?),
        (None, None) => None,
    };
    match (alg, secret) {
        (Alg::None, None) => Ok(KeyConfig::always(None, None)),
        (Alg::None, Some(_)) => Err("algorithm none takes no key".into()),
        (_, None) => Err("no key is set".into()),
        (Alg::Hmac, Some(secret)) => Ok(KeyConfig::always(Some(secret), None)),
        (Alg::Ed25519, Some(secret)) => {
            let text = secret.text().ok_or("the key is not text")?;
            let key = public_key(text)?.ok_or("the key is empty")?;
            Ok(KeyConfig::always(None, Some(key)))
        }
    }
}

fn moment(text: &Option<String>, open: u64) -> Result<u64, String> {
    let Some(text) = text else { return Ok(open) };
    let time: jiff::Timestamp = text.parse().map_err(|_| format!("'{text}' is not an RFC 3339 time"))?;
    u64::try_from(time.as_millisecond()).map_err(|_| format!("'{text}' is before 1970"))
}

impl TenantTable {
    fn build(self, config: &Config, origin: &str) -> Result<TenantConfig, ConfigError> {
        let id = name(&self.id).map_err(|why| bad(origin, "tenant.id", why))?;
        let at = |what: &str| format!("tenant '{id}' {what}");
        let alg = Alg::parse(&self.alg).map_err(|why| bad(origin, &at("alg"), why))?;
        let mut keys = Vec::new();
        if self.key.is_some() || self.key_file.is_some() || self.keys.is_empty() {
            keys.push(
                material(alg, self.key.as_deref(), self.key_file.as_deref())
                    .map_err(|why| bad(origin, &at("key"), why))?,
            );
        }
        for table in &self.keys {
            let mut key = material(alg, table.key.as_deref(), table.key_file.as_deref())
                .map_err(|why| bad(origin, &at("keys"), why))?;
            key.not_before_ms =
                moment(&table.not_before, 0).map_err(|why| bad(origin, &at("not_before"), why))?;
            key.not_after_ms =
                moment(&table.not_after, u64::MAX).map_err(|why| bad(origin, &at("not_after"), why))?;
            if key.not_before_ms > key.not_after_ms {
                return Err(bad(origin, &at("keys"), "not_before is after not_after"));
            }
            keys.push(key);
        }
        let rate = self.rate_per_s.unwrap_or(config.rate_per_s);
        let display = if self.display.is_empty() { id.clone() } else { self.display };
        Ok(TenantConfig {
            display,
            active: self.active,
            keys,
            rate_per_s: rate,
            burst: self.burst.unwrap_or(burst(config, rate)),
            daily_quota: self.daily_quota.unwrap_or(config.daily_quota),
            id,
        })
    }
}

fn burst(config: &Config, rate: u32) -> u32 {
    if config.burst == 0 { rate.saturating_mul(2) } else { config.burst }
}

fn plain(config: &Config, id: &str, keys: Vec<KeyConfig>) -> TenantConfig {
    TenantConfig {
        id: id.to_owned(),
        display: id.to_owned(),
        active: true,
        keys,
        rate_per_s: config.rate_per_s,
        burst: burst(config, config.rate_per_s),
        daily_quota: config.daily_quota,
    }
}

/// `id:alg:key,…`; the key is everything after the second colon, because base64 and passphrases hold colons.
fn parse_list(config: &Config, text: &str) -> Result<Vec<TenantConfig>, ConfigError> {
    let origin = "tenants.list (TENANTS)";
    let mut out = Vec::new();
    for (nth, part) in text.split(',').enumerate().filter(|(_, part)| !part.trim().is_empty()) {
        let part = part.trim();
        let mut fields = part.splitn(3, ':');
        let id = fields.next().unwrap_or_default();
        let place = format!("entry {}", nth + 1);
        let id = name(id).map_err(|why| bad(origin, &place, why))?;
        let place = format!("tenant '{id}'");
        let alg = fields.next().ok_or_else(|| bad(origin, &place, "must read id:alg:key"))?;
        let alg = Alg::parse(alg).map_err(|why| bad(origin, &place, why))?;
        let key = fields.next().filter(|key| !(alg == Alg::None && key.is_empty()));
        let key = material(alg, key, None).map_err(|why| bad(origin, &place, why))?;
        out.push(plain(config, &id, vec![key]));
    }
    Ok(out)
}

/// Keys of the tenant `default` from the settings of section `auth`.
fn default_keys(config: &Config) -> Result<Vec<KeyConfig>, ConfigError> {
    let origin = "auth";
    let mut hmac: Vec<Secret> = config.hmac_key.iter().chain(&config.hmac_keys).cloned().collect();
    if let Some(file) = &config.hmac_key_file {
        hmac.push(read_secret(file).map_err(|why| bad(origin, "auth.hmac_key_file", why))?);
    }
    let alg = match config.alg {
        Some(alg) => alg,
        None if !hmac.is_empty() && config.ed25519_pub.is_some() => {
            return Err(ConfigError::Together(
                "an HMAC key and an Ed25519 key are both set; say auth.alg (PCS_SIGN_ALG) too".into(),
            ));
        }
        None if !hmac.is_empty() => Alg::Hmac,
        None if config.ed25519_pub.is_some() => Alg::Ed25519,
        None if config.allow_unsigned => Alg::None,
        None => {
            return Err(ConfigError::Together(
                "no key is set for the tenant 'default': set auth.hmac_key_file (PCS_HMAC_KEY_FILE), \
                 auth.hmac_key (PCS_HMAC_KEY) or auth.ed25519_pub (PCS_ED25519_PUB_B64), or start 'flkd dev'"
                    .into(),
            ));
        }
    };
    match alg {
        Alg::Hmac if hmac.is_empty() => {
            Err(bad(origin, "auth.alg", "hmac needs auth.hmac_key or auth.hmac_key_file"))
        }
        Alg::Hmac => {
            hmac.dedup();
            Ok(hmac.into_iter().map(|secret| KeyConfig::always(Some(secret), None)).collect())
        }
        Alg::Ed25519 => match config.ed25519_pub {
            Some(key) => Ok(vec![KeyConfig::always(None, Some(key))]),
            None => Err(bad(origin, "auth.alg", "ed25519 needs auth.ed25519_pub")),
        },
        Alg::None => Ok(vec![KeyConfig::always(None, None)]),
    }
}

/// Builds the list of tenants and checks it as a whole.
pub(super) fn reconcile(
    config: &mut Config,
    tables: Vec<TenantTable>,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let mut tenants = Vec::new();
    if config.multi_tenant {
        for table in tables {
            tenants.push(table.build(config, "configuration file")?);
        }
        if let Some(text) = config.tenants_text.clone() {
            let text = text.text().ok_or_else(|| bad("tenants.list", "value", "is not text"))?.to_owned();
            tenants.extend(parse_list(config, &text)?);
        }
    } else {
        if !tables.is_empty() {
            return Err(ConfigError::Together("[[tenant]] needs tenants.multi = true".into()));
        }
        if config.tenants_text.is_some() {
            warnings.push("TENANTS has no effect without MULTI_TENANT=true".into());
        }
    }
    if tenants.is_empty() {
        let keys = default_keys(config)?;
        tenants.push(plain(config, "default", keys));
    }
    for (n, tenant) in tenants.iter().enumerate() {
        if tenants[..n].iter().any(|other| other.id == tenant.id) {
            return Err(ConfigError::Together(format!("tenant '{}' is configured twice", tenant.id)));
        }
        if tenant.keys.len() > engine::limits::KEYS_PER_TENANT_MAX {
            return Err(ConfigError::Together(format!("tenant '{}' has too many keys", tenant.id)));
        }
        let unsigned = tenant.keys.iter().any(|key| key.hmac.is_none() && key.ed25519.is_none());
        if unsigned && !config.allow_unsigned {
            return Err(ConfigError::Together(format!(
                "tenant '{}' has algorithm none, which exists only for development: set dev.allow_unsigned = true",
                tenant.id
            )));
        }
        if unsigned {
            warnings.push(format!("tenant '{}' accepts unsigned submissions", tenant.id));
        }
    }
    config.tenants = tenants;
    Ok(())
}
