//! Whom we ask: the witnesses of a policy file (C2SP tlog-policy), and a list of time-stamp authorities, calendars and places
//! for copies.
//!
//! ```toml
//! [[target]]
//! name = "tsa-1"                        # [A-Za-z0-9._-]{1,64}, for ever: it stands in the log
//! kind = "rfc3161"
//! url = "http://tsa.example/"
//! every_s = 3600                        # at most one attestation in this time
//!
//! [[target]]
//! name = "ots"
//! kind = "opentimestamps"
//! calendars = ["https://a.example", "https://b.example"]
//! need = 2                              # how many must answer; default two, or the one there is
//! upgrade_s = 3600                      # how often they are asked for the way to a block; the default
//! every_s = 86400
//!
//! [[target]]
//! name = "mirror"
//! kind = "directory"
//! path = "/mnt/worm/flk"                # it must be there
//! every_s = 600
//! export = true                         # tiles, bundles and closed audit files, too
//!
//! [[target]]
//! name = "vault"
//! kind = "s3"
//! url = "https://s3.example"
//! bucket = "flk-audit"                  # with Object Lock
//! prefix = "eu"
//! region = "eu-central-1"
//! key_file = "/etc/flk/vault.key"       # two lines: the access key's id, and its secret
//! retain_days = 2555
//! every_s = 3600
//! ```

use super::bucket::{Bucket, check_prefix, read_key};
use super::calendar::Calendars;
use super::copy::plain;
use super::place::Place;
use super::plan::{Goals, PRICED_MAX, Price};
use crate::config::Config;
use crate::outbound::{Outbound, Url};
use engine::checkpoint::{TrustPolicy, Witness};
use engine::event::AnchorKind;
use jiff::SignedDuration;
use object_store::local::LocalFileSystem;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most targets beside witnesses.
const TARGETS_MAX: usize = 32;
/// Most calendars of one target.
const CALENDARS_MAX: usize = 8;
/// Longest retention in a bucket, days.
const RETAIN_MAX_DAYS: u32 = 36_500;
/// Longest period between two attestations, seconds.
const EVERY_MAX_S: u64 = 30 * 86_400;

/// Why the settings about anchors cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}")]
pub struct TargetError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub why: String,
}

/// How a target is asked.
#[derive(Clone, Debug)]
pub enum Way {
    /// A witness, at its submission prefix.
    Witness(Box<Witness>, Url),
    /// A time-stamp authority.
    TimeStamp(Url),
    /// Calendars of OpenTimestamps.
    Calendars(Calendars),
    /// A place for copies.
    Copy {
        /// Which.
        place: Place,
        /// Whether tiles, bundles and audit files go there, too.
        export: bool,
    },
}

/// Somebody who attests our checkpoints.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name in the log; for a witness that of its key.
    pub name: String,
    /// How it is asked.
    pub way: Way,
    /// At most one attestation in this time, milliseconds.
    pub every_ms: u64,
    /// What the plan reckons with; it does not decide about targets without.
    pub price: Option<Price>,
}

impl Target {
    /// What it gives.
    pub fn kind(&self) -> AnchorKind {
        match &self.way {
            Way::Witness(..) => AnchorKind::Cosignature,
            Way::TimeStamp(_) => AnchorKind::TimeStamp,
            Way::Calendars(_) => AnchorKind::OpenTimestamps,
            Way::Copy { .. } => AnchorKind::Copy,
        }
    }

    /// Its kind and name: no two targets have the same.
    pub fn label(&self) -> String {
        format!("{} {}", self.kind().name(), self.name)
    }
}

/// What the settings say.
pub struct Targets {
    /// Whom we ask.
    pub list: Vec<Target>,
    /// Whose cosignatures count, and how many are enough.
    pub policy: Option<TrustPolicy>,
    /// What a plan is to reach.
    pub goals: Option<Goals>,
    /// The way to them.
    pub outbound: Outbound,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    plan: Option<Goals>,
    #[serde(default)]
    target: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum Row {
    Rfc3161 {
        name: String,
        every_s: u64,
        url: String,
        price: Option<Price>,
    },
    OpenTimestamps {
        name: String,
        every_s: u64,
        calendars: Vec<String>,
        need: Option<usize>,
        #[serde(default = "hourly")]
        upgrade_s: u64,
        price: Option<Price>,
    },
    Directory {
        name: String,
        every_s: u64,
        path: PathBuf,
        #[serde(default)]
        export: bool,
        price: Option<Price>,
    },
    S3(Box<S3>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct S3 {
    name: String,
    every_s: u64,
    url: String,
    bucket: String,
    #[serde(default)]
    prefix: String,
    region: String,
    key_file: PathBuf,
    retain_days: u32,
    #[serde(default)]
    export: bool,
    price: Option<Price>,
}

impl Row {
    fn name(&self) -> &str {
        match self {
            Row::Rfc3161 { name, .. } | Row::OpenTimestamps { name, .. } | Row::Directory { name, .. } => {
                name
            }
            Row::S3(s3) => &s3.name,
        }
    }

    fn every_s(&self) -> u64 {
        match self {
            Row::Rfc3161 { every_s, .. }
            | Row::OpenTimestamps { every_s, .. }
            | Row::Directory { every_s, .. } => *every_s,
            Row::S3(s3) => s3.every_s,
        }
    }

    fn price(&self) -> Option<Price> {
        match self {
            Row::Rfc3161 { price, .. } | Row::OpenTimestamps { price, .. } | Row::Directory { price, .. } => {
                *price
            }
            Row::S3(s3) => s3.price,
        }
    }

    /// Whether an address that is asked needs certificates of authorities.
    fn is_tls(&self) -> bool {
        match self {
            Row::Rfc3161 { url, .. } => url.starts_with("https:"),
            Row::OpenTimestamps { calendars, .. } => calendars.iter().any(|url| url.starts_with("https:")),
            Row::Directory { .. } => false,
            Row::S3(s3) => s3.url.starts_with("https:"),
        }
    }

    fn way(self, out: &Outbound) -> Result<Way, String> {
        match self {
            Row::Rfc3161 { url, .. } => Ok(Way::TimeStamp(Url::parse(&url)?)),
            Row::OpenTimestamps { calendars: list, need, upgrade_s, .. } => {
                calendars(list, need, upgrade_s).map(Way::Calendars)
            }
            Row::Directory { path, export, .. } => Ok(Way::Copy { place: directory(&path)?, export }),
            Row::S3(s3) => Ok(Way::Copy { export: s3.export, place: bucket(&s3, out)? }),
        }
    }
}

fn hourly() -> u64 {
    3600
}

fn calendars(list: Vec<String>, need: Option<usize>, upgrade_s: u64) -> Result<Calendars, String> {
    // Two, where there are two: a calendar may lose its promises.
    let need = need.unwrap_or(2.min(list.len()));
    if list.is_empty() || list.len() > CALENDARS_MAX || need == 0 || need > list.len() {
        return Err(format!("there are 1 to {CALENDARS_MAX} calendars, and need is at most as many"));
    }
    if upgrade_s == 0 || upgrade_s > EVERY_MAX_S {
        return Err("upgrade_s is from 1 to 2592000".into());
    }
    let known = |text: String| Ok((text.trim_end_matches('/').to_owned(), Url::parse(&text)?));
    let list = list.into_iter().map(known).collect::<Result<_, String>>()?;
    Ok(Calendars { list, need, upgrade: Duration::from_secs(upgrade_s) })
}

fn directory(path: &Path) -> Result<Place, String> {
    let path = path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?;
    let store = LocalFileSystem::new_with_prefix(&path).map_err(|error| error.to_string())?;
    Ok(Place::new(Box::new(store.with_fsync(true)), format!("file://{}", path.display()), "", None))
}

fn bucket(s3: &S3, out: &Outbound) -> Result<Place, String> {
    let known = Bucket { url: Url::parse(&s3.url)?, name: s3.bucket.clone(), region: s3.region.clone() };
    known.check()?;
    check_prefix(&s3.prefix)?;
    if s3.retain_days == 0 || s3.retain_days > RETAIN_MAX_DAYS {
        return Err(format!("retain_days is from 1 to {RETAIN_MAX_DAYS}"));
    }
    let key = read_key(&s3.key_file)?;
    let store = super::bucket::open(&known, key, out.clone())?;
    let keep = SignedDuration::from_hours(24 * i64::from(s3.retain_days));
    Ok(Place::new(store, format!("s3://{}", s3.bucket), &s3.prefix, Some(keep)))
}

impl Targets {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn load(config: &Config) -> Result<Targets, TargetError> {
        let mut list = Vec::new();
        let policy = match &config.witness_policy {
            None => None,
            Some(path) => {
                let every_ms = u64::try_from(config.witness_every.as_millis()).unwrap_or(u64::MAX);
                let policy = read_policy(path)?;
                list.extend(witnesses(&policy, every_ms).map_err(|why| at(path, why))?);
                Some(policy)
            }
        };
        let File { plan: goals, target: rows } = match &config.anchor_targets {
            None => File::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| at(path, error.to_string()))?;
                read(&text).map_err(|why| at(path, why))?
            }
        };
        let witness = |target: &Target| matches!(&target.way, Way::Witness(_, url) if url.is_tls());
        let tls = list.iter().any(witness) || rows.iter().any(Row::is_tls);
        let authorities = tls.then_some(config.anchor_ca.as_path());
        let outbound = Outbound::new(authorities).map_err(|why| at(&config.anchor_ca, why))?;
        let path = config.anchor_targets.as_deref().unwrap_or(Path::new(""));
        list.extend(others(rows, &outbound).map_err(|why| at(path, why))?);
        Ok(Targets { list, policy, goals, outbound })
    }
}

fn at(path: &Path, why: String) -> TargetError {
    TargetError { path: path.to_owned(), why }
}

/// Reads a policy file.
///
/// # Errors
/// [`TargetError`] with the line.
pub fn read_policy(path: &Path) -> Result<TrustPolicy, TargetError> {
    let text = std::fs::read_to_string(path).map_err(|error| at(path, error.to_string()))?;
    TrustPolicy::parse(&text).map_err(|error| at(path, error.to_string()))
}

/// The witnesses that have an address. One without counts when it has signed, and nobody asks it.
fn witnesses(policy: &TrustPolicy, every_ms: u64) -> Result<Vec<Target>, String> {
    let mut out: Vec<Target> = Vec::new();
    for known in &policy.witnesses {
        let Some(url) = &known.url else { continue };
        let url = Url::parse(url).map_err(|why| format!("witness {}: {why}", known.name))?;
        let name = known.witness.name().to_owned();
        if out.iter().any(|target| target.name == name) {
            return Err(format!("two witnesses have the key name {name}"));
        }
        out.push(Target {
            name,
            way: Way::Witness(Box::new(known.witness.clone()), url),
            every_ms,
            price: None,
        });
    }
    Ok(out)
}

fn read(text: &str) -> Result<File, String> {
    let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    if file.target.len() > TARGETS_MAX {
        return Err(format!("at most {TARGETS_MAX} targets"));
    }
    file.plan.map_or(Ok(()), |goals| goals.check())?;
    if file.target.iter().filter(|row| row.price().is_some()).count() > PRICED_MAX {
        return Err(format!("at most {PRICED_MAX} targets have a price"));
    }
    if file.plan.is_none() && file.target.iter().any(|row| row.price().is_some()) {
        return Err("targets have prices and there is no [plan]".into());
    }
    Ok(file)
}

fn others(rows: Vec<Row>, out: &Outbound) -> Result<Vec<Target>, String> {
    let mut list: Vec<Target> = Vec::new();
    for row in rows {
        let (name, every_s) = (row.name().to_owned(), row.every_s());
        let wrong = |why: &str| format!("target '{name}': {why}");
        if name.is_empty() || name.len() > 64 || !plain(&name) || name.starts_with('.') {
            return Err(wrong("a name is 1 to 64 of A-Z a-z 0-9 . _ - and does not begin with a dot"));
        }
        if every_s == 0 || every_s > EVERY_MAX_S {
            return Err(wrong("every_s is from 1 to 2592000"));
        }
        if list.iter().any(|target| target.name == name) {
            return Err(wrong("two targets have this name"));
        }
        let price = row.price();
        price.map_or(Ok(()), |price| price.check()).map_err(|why| wrong(&why))?;
        let way = row.way(out).map_err(|why| wrong(&why))?;
        list.push(Target { name, way, every_ms: every_s * 1000, price });
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[[target]]\nname = 'a'\nkind = 'rfc3161'\nurl = 'http://h/t'\nevery_s = 60\n";

    #[test]
    fn a_list_is_read_and_a_wrong_one_names_its_target() {
        let others = |text: &str| others(read(text)?.target, &Outbound::default());
        let list = others(GOOD).unwrap();
        assert_eq!((list[0].label().as_str(), list[0].every_ms), ("rfc3161 a", 60_000));
        for (text, why) in [
            (format!("{GOOD}{GOOD}"), "two targets"),
            (GOOD.replace("'a'", "'../a'"), "1 to 64"),
            (GOOD.replace("'a'", "'.a'"), "dot"),
            (GOOD.replace("rfc3161", "fax"), "unknown variant"),
            (GOOD.replace("kind", "sort"), "kind"),
            (GOOD.replace("60", "0"), "every_s"),
            (GOOD.replace("http:", "gopher:"), "http://"),
            (GOOD.replace("every_s", "every"), "unknown field"),
            (
                GOOD.to_owned() + "price = { cost = 1, delay_s = 1, reliability = 0.5, durability = 0.5 }\n",
                "no [plan]",
            ),
            (GOOD.to_owned() + "price = { cost = 1 }\n", "missing field"),
            ("[plan]\nreliability = 1.0\n".to_owned() + GOOD, "from 0 to below 1"),
            (
                GOOD.replace("rfc3161", "directory").replace("url = 'http://h/t'", "path = '/no/such'"),
                "/no/such",
            ),
            (
                GOOD.replace("rfc3161", "opentimestamps").replace("url = 'http://h/t'", "calendars = []"),
                "calendars",
            ),
            (GOOD.replace("rfc3161", "s3"), "missing field"),
        ] {
            let error = others(&text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn witnesses_without_an_address_are_not_asked() {
        let vkey =
            |n: u8| engine::checkpoint::Cosigner::new(&format!("w{n}"), &[n; 32]).unwrap().witness().vkey();
        let text =
            format!("witness A {} http://h:1/w\nwitness B {}\ngroup G 2 A B\nquorum G\n", vkey(1), vkey(2));
        let list = witnesses(&TrustPolicy::parse(&text).unwrap(), 5).unwrap();
        assert_eq!((list.len(), list[0].name.as_str()), (1, "w1"));
        let bad = text.replace("http:", "ws:");
        assert!(witnesses(&TrustPolicy::parse(&bad).unwrap(), 5).is_err());
    }
}
