//! What another region is given of one: its `keys/region.vkey`.

use engine::checkpoint::{LogKeys, Verifier, Witness};
use engine::event::LogKeySet;

/// Largest file of keys, bytes.
pub const KEYS_MAX: u64 = 64 << 10;

/// Whose bills and checkpoints count, and whose word that something is stored there.
#[derive(Clone, Debug)]
pub struct RegionKeys {
    /// The Ed25519 key that the region's log began with.
    pub log: Verifier,
    /// The key it cosigns with what it holds of others.
    pub mirror: Witness,
}

impl RegionKeys {
    /// Reads the text of a region's file.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with its name.
    pub fn parse(text: &str, region: &str) -> Result<RegionKeys, String> {
        let lines = || text.lines().filter(|line| !line.trim().is_empty());
        let mut keys = lines().filter_map(|line| Verifier::parse(line).ok());
        let log = keys.find(|key| key.algorithm() == "Ed25519").ok_or("holds no key of a log")?;
        if !log.name().ends_with(&format!("/pcs/{region}")) {
            return Err(format!("holds the key of {}", log.name()));
        }
        let mirror = lines().find_map(|line| Witness::parse(line).ok());
        let mirror = mirror.ok_or("holds no mirror's key: it is not a keys/region.vkey")?;
        Ok(RegionKeys { log, mirror })
    }
}

/// The key that signs after this change of a log's keys; the one before it, if the change is of others.
#[must_use]
pub fn following(key: &Verifier, change: &LogKeySet) -> Verifier {
    let of = |text: &str| LogKeys::parse_set(text).ok();
    let follows = of(&change.follows).is_some_and(|set| set.keys().any(|old| old == key));
    let next = of(&change.keys).filter(|_| follows).and_then(|set| set.keys().next().cloned());
    next.unwrap_or_else(|| key.clone())
}
