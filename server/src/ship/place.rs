//! What `regions.place` and the places of peers mean: a directory, `s3://bucket/prefix` or `gs://bucket/prefix`.
//!
//! Where a bucket is and who may use it stands in a file of its own, so that a setting which is printed holds no secret:
//!
//! ```toml
//! [[store]]
//! bucket = "flk-eu"
//! url = "https://s3.example"
//! region = "eu-central-1"
//! key_file = "/etc/flk/eu.key"          # two lines: the access key's id, and its secret
//!
//! [[store]]
//! kind = "gcs"
//! bucket = "flk-us"
//! url = "https://storage.googleapis.com"
//! key_file = "/etc/flk/us.json"         # the service account's key
//! ```

use super::RegionError;
use super::google;
use super::remote::Remote;
use crate::anchor::bucket::{self, Bucket, check_prefix, read_key};
use crate::config::Config;
use crate::outbound::{Outbound, Url};
use serde::Deserialize;
use std::path::PathBuf;

/// Most buckets: one for each region there may be.
const STORES_MAX: usize = engine::limits::ORIGINS_MAX as usize + 1;

/// Which protocol a bucket speaks.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    S3,
    Gcs,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    #[serde(default)]
    kind: Kind,
    bucket: String,
    url: String,
    /// Which requests are signed for; Google's are not.
    region: Option<String>,
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
        let (kind, rest) = match place.split_once("://") {
            None => return Remote::directory(place.as_ref(), region),
            Some(("s3", rest)) => (Kind::S3, rest),
            Some(("gs", rest)) => (Kind::Gcs, rest),
            Some(("https", _)) => {
                let files = "regions.ca_file, regions.cert_file and regions.key_file";
                return Err(format!("https://host:port needs {files}"));
            }
            Some((scheme, _)) => {
                let places = "a place is a directory, s3://bucket/prefix or gs://bucket/prefix";
                return Err(format!("{places}, not {scheme}://"));
            }
        };
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        check_prefix(prefix)?;
        let row = self.rows.iter().find(|row| row.kind == kind && row.bucket == name);
        let row = row.ok_or_else(|| {
            let of = if kind == Kind::Gcs { " of kind gcs" } else { "" };
            format!("no [[store]]{of} of regions.stores_file has the bucket '{name}'")
        })?;
        let store = match row.known()? {
            Known::S3(known) => bucket::open(&known, read_key(&row.key_file)?, self.out.clone())?,
            Known::Gcs(url) => google::open(&url, &row.bucket, &row.key_file, self.out.clone())?,
        };
        Ok(Remote::of(store, prefix, region))
    }
}

/// A bucket whose settings can be used.
enum Known {
    S3(Bucket),
    Gcs(Url),
}

impl Row {
    fn known(&self) -> Result<Known, String> {
        let url = Url::parse(&self.url)?;
        match (self.kind, &self.region) {
            (Kind::S3, Some(region)) => {
                let known = Bucket { url, name: self.bucket.clone(), region: region.clone() };
                known.check().map(|()| Known::S3(known))
            }
            (Kind::S3, None) => Err("region is missing: requests are signed for one".into()),
            (Kind::Gcs, None) => google::check(&self.bucket).map(|()| Known::Gcs(url)),
            (Kind::Gcs, Some(_)) => Err("region means nothing for kind gcs".into()),
        }
    }
}

fn parse(text: &str) -> Result<Vec<Row>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    if file.store.len() > STORES_MAX {
        return Err(format!("at most {STORES_MAX} buckets"));
    }
    for (nth, row) in file.store.iter().enumerate() {
        row.known().map_err(|why| format!("bucket '{}': {why}", row.bucket))?;
        if file.store[..nth].iter().any(|other| other.bucket == row.bucket && other.kind == row.kind) {
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
            (GOOD.replace("region = 'r'\n", ""), "region is missing"),
            (format!("{GOOD}kind = 'gcs'\n"), "region means nothing"),
            (format!("{GOOD}kind = 'azure'\n"), "unknown variant"),
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
            ("gs://eu", "of kind gcs"),
            ("az://eu", "not az://"),
            ("/no/such/place", "No such file"),
        ] {
            let error = stores.open(place, "r").map(drop).unwrap_err();
            assert!(error.contains(why), "{place}: {error}");
        }
    }
}
