//! What `regions.place` and the places of peers mean: a directory, or `s3://bucket/prefix`.
//!
//! Where a bucket is and who may use it stands in a file of its own, so that a setting which is printed holds no secret:
//!
//! ```toml
//! [[store]]
//! bucket = "flk-eu"
//! url = "https://s3.example"
//! region = "eu-central-1"
//! key_file = "/etc/flk/eu.key"          # two lines: the access key's id, and its secret
//! ```

use super::RegionError;
use super::remote::Remote;
use crate::anchor::bucket::{self, Bucket, check_prefix, read_key};
use crate::config::Config;
use crate::outbound::{Outbound, Url};
use serde::Deserialize;
use std::path::PathBuf;

/// Most buckets: one for each region there may be.
const STORES_MAX: usize = engine::limits::ORIGINS_MAX as usize + 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    bucket: String,
    url: String,
    region: String,
    key_file: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    store: Vec<Row>,
}

/// The buckets that the settings know.
#[derive(Default)]
pub struct Stores {
    rows: Vec<Row>,
    out: Outbound,
}

impl Stores {
    /// Reads the file that the settings name.
    ///
    /// # Errors
    /// [`RegionError::Stores`].
    pub fn load(config: &Config) -> Result<Stores, RegionError> {
        let Some(path) = &config.regions_stores else { return Ok(Stores::default()) };
        let at = |why: String| RegionError::Stores { path: path.clone(), why };
        let text = std::fs::read_to_string(path).map_err(|error| at(error.to_string()))?;
        let rows = parse(&text).map_err(at)?;
        let tls = rows.iter().any(|row| row.url.starts_with("https:"));
        let authorities = tls.then_some(config.anchor_ca.as_path());
        let out = Outbound::new(authorities)
            .map_err(|why| at(format!("anchor.ca_file {}: {why}", config.anchor_ca.display())))?;
        Ok(Stores { rows, out })
    }

    /// The shipments of a region at a place.
    ///
    /// # Errors
    /// Why the place cannot be used.
    pub fn open(&self, place: &str, region: &str) -> Result<Remote, String> {
        let Some(rest) = place.strip_prefix("s3://") else {
            if let Some((scheme, _)) = place.split_once("://") {
                return Err(format!("a place is a directory or s3://bucket/prefix, not {scheme}://"));
            }
            return Remote::directory(place.as_ref(), region);
        };
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        check_prefix(prefix)?;
        let row = self.rows.iter().find(|row| row.bucket == name);
        let row =
            row.ok_or_else(|| format!("no [[store]] of regions.stores_file has the bucket '{name}'"))?;
        let known = row.known()?;
        let key = read_key(&row.key_file)?;
        Ok(Remote::of(bucket::open(&known, key, self.out.clone())?, prefix, region))
    }
}

impl Row {
    fn known(&self) -> Result<Bucket, String> {
        let known =
            Bucket { url: Url::parse(&self.url)?, name: self.bucket.clone(), region: self.region.clone() };
        known.check().map(|()| known)
    }
}

fn parse(text: &str) -> Result<Vec<Row>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    if file.store.len() > STORES_MAX {
        return Err(format!("at most {STORES_MAX} buckets"));
    }
    for (nth, row) in file.store.iter().enumerate() {
        row.known().map_err(|why| format!("bucket '{}': {why}", row.bucket))?;
        if file.store[..nth].iter().any(|other| other.bucket == row.bucket) {
            return Err(format!("bucket '{}' stands twice", row.bucket));
        }
    }
    Ok(file.store)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[[store]]\nbucket = 'eu'\nurl = 'http://h:1'\nregion = 'r'\nkey_file = '/no/such'\n";

    #[test]
    fn a_file_that_cannot_be_used_says_which_bucket() {
        assert_eq!(parse(GOOD).map(|rows| rows.len()), Ok(1));
        for (text, why) in [
            (format!("{GOOD}{GOOD}"), "stands twice"),
            (GOOD.replace("'eu'", "'e u'"), "bucket 'e u'"),
            (GOOD.replace("'eu'", "''"), "A-Z"),
            (GOOD.replace("http:", "gopher:"), "bucket 'eu'"),
            (GOOD.replace("key_file", "key"), "unknown field"),
            (GOOD.replace("region = 'r'\n", ""), "missing field"),
        ] {
            let error = parse(&text).map(drop).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_place_that_cannot_be_used_says_why() {
        let stores = Stores { rows: parse(GOOD).unwrap(), out: Outbound::default() };
        for (place, why) in [
            ("s3://us/x", "bucket 'us'"),
            ("s3://eu/../x", "prefix"),
            ("s3://eu/x/", "prefix"),
            ("s3://eu", "/no/such"),
            ("gs://eu", "not gs://"),
            ("/no/such/place", "No such file"),
        ] {
            let error = stores.open(place, "r").map(drop).unwrap_err();
            assert!(error.contains(why), "{place}: {error}");
        }
    }
}
