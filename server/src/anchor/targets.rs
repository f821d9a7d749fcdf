//! Whom we ask: the witnesses of a policy file (C2SP tlog-policy), and the time-stamp authorities of a list.
//!
//! ```toml
//! [[target]]
//! name = "tsa-1"                        # [A-Za-z0-9._-]{1,64}, for ever: it stands in the log
//! kind = "rfc3161"
//! url = "http://tsa.example/"
//! every_s = 3600                        # at most one attestation in this time
//! ```

use crate::config::Config;
use crate::outbound::{Outbound, Url};
use engine::checkpoint::{TrustPolicy, Witness};
use engine::event::AnchorKind;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Most targets beside witnesses.
const TARGETS_MAX: usize = 32;
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
}

impl Target {
    /// What it gives.
    pub fn kind(&self) -> AnchorKind {
        match &self.way {
            Way::Witness(..) => AnchorKind::Cosignature,
            Way::TimeStamp(_) => AnchorKind::TimeStamp,
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
    /// The way to them.
    pub outbound: Outbound,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    target: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    kind: String,
    url: String,
    every_s: u64,
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
        if let Some(path) = &config.anchor_targets {
            let text = std::fs::read_to_string(path).map_err(|error| at(path, error.to_string()))?;
            list.extend(others(&text).map_err(|why| at(path, why))?);
        }
        let tls = list.iter().any(|target| match &target.way {
            Way::Witness(_, url) | Way::TimeStamp(url) => url.is_tls(),
        });
        let authorities = tls.then_some(config.anchor_ca.as_path());
        let outbound = Outbound::new(authorities).map_err(|why| at(&config.anchor_ca, why))?;
        Ok(Targets { list, policy, outbound })
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
        out.push(Target { name, way: Way::Witness(Box::new(known.witness.clone()), url), every_ms });
    }
    Ok(out)
}

fn others(text: &str) -> Result<Vec<Target>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    if file.target.len() > TARGETS_MAX {
        return Err(format!("at most {TARGETS_MAX} targets"));
    }
    let mut out: Vec<Target> = Vec::new();
    for Row { name, kind, url, every_s } in file.target {
        let wrong = |why: &str| format!("target '{name}': {why}");
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) || name.starts_with('.') {
            return Err(wrong("a name is 1 to 64 of A-Z a-z 0-9 . _ - and does not begin with a dot"));
        }
        if every_s == 0 || every_s > EVERY_MAX_S {
            return Err(wrong("every_s is from 1 to 2592000"));
        }
        let way = match kind.as_str() {
            "rfc3161" => Way::TimeStamp(Url::parse(&url).map_err(|why| wrong(&why))?),
            _ => return Err(wrong("kind must be rfc3161")),
        };
        if out.iter().any(|target| target.name == name) {
            return Err(wrong("two targets have this name"));
        }
        out.push(Target { name, way, every_ms: every_s * 1000 });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[[target]]\nname = 'a'\nkind = 'rfc3161'\nurl = 'http://h/t'\nevery_s = 60\n";

    #[test]
    fn a_list_is_read_and_a_wrong_one_names_its_target() {
        let list = others(GOOD).unwrap();
        assert_eq!((list[0].label().as_str(), list[0].every_ms), ("rfc3161 a", 60_000));
        for (text, why) in [
            (format!("{GOOD}{GOOD}"), "two targets"),
            (GOOD.replace("'a'", "'../a'"), "1 to 64"),
            (GOOD.replace("'a'", "'.a'"), "dot"),
            (GOOD.replace("rfc3161", "fax"), "kind"),
            (GOOD.replace("60", "0"), "every_s"),
            (GOOD.replace("http:", "gopher:"), "http://"),
            (GOOD.replace("every_s", "every"), "unknown field"),
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
