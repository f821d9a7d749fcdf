//! A bucket of Google Cloud Storage: `object_store` says what to ask, through its XML interface, under a token that is made of the service
//! account's key here; nothing is asked of anybody else.

use crate::anchor::bucket::{Connect, PATIENCE, plain};
use crate::outbound::{Outbound, Url};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use std::path::Path;

/// Longest key file, bytes.
const KEY_MAX: u64 = 64 << 10;

/// Whether the bucket's name can be part of an address.
///
/// # Errors
/// What it may be.
pub fn check(bucket: &str) -> Result<(), String> {
    if bucket.is_empty() || !plain(bucket, b".-_") {
        return Err("bucket is of A-Z a-z 0-9 . - _".into());
    }
    Ok(())
}

/// A store for the objects of this bucket; `key_file` is a service account's key as it is given out, JSON.
///
/// # Errors
/// What is wrong with the key; never what stands in it.
pub fn open(url: &Url, bucket: &str, key_file: &Path, out: Outbound) -> Result<Box<dyn ObjectStore>, String> {
    let at = |why: &str| format!("{}: {why}", key_file.display());
    let size = std::fs::metadata(key_file).map_err(|error| at(&error.to_string()))?.len();
    if size > KEY_MAX {
        return Err(at("it is too large for a key"));
    }
    let key = std::fs::read_to_string(key_file).map_err(|error| at(&error.to_string()))?;
    let store = GoogleCloudStorageBuilder::new()
        .with_base_url(&url.origin())
        .with_bucket_name(bucket)
        .with_service_account_key(key)
        // Trying again is the shipper's work.
        .with_retry(RetryConfig { max_retries: 0, retry_timeout: PATIENCE, ..RetryConfig::default() })
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .with_http_connector(Connect::unsigned(out, url.clone()))
        .build();
    // What the library says of a key that it cannot read may hold a part of it.
    store
        .map(|store| Box::new(store) as Box<dyn ObjectStore>)
        .map_err(|_| at("it is no key of a service account"))
}
