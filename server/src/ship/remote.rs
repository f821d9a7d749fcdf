//! The place where a region's shipments lie: a directory or a bucket that another region can read, through `object_store`.
//!
//! ```text
//! PLACE/REGION/chunks/FROM-DIGEST   ranges of REGION's log
//! PLACE/REGION/bills/FROM           what it says of them; put last, and never again
//! PLACE/REGION/mirrors/ORIGIN       the newest checkpoint of ORIGIN that REGION holds durably, cosigned by it
//! PLACE/REGION/standing             where REGION stands, said again and again
//! ```
//! Each region writes below its own name only.
//!
//! A place is not believed when it says that it has taken something: what is put is read back, and what does not come back as it
//! was is a refusal that names it. Nor is a listing believed to be whole. It is where the search begins; what lies behind
//! it is asked for by name.

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// One region's shipments at a place.
#[derive(Clone, Debug)]
pub struct Remote {
    store: Arc<dyn ObjectStore>,
    /// Folder of the region.
    root: String,
}

impl Remote {
    /// The shipments of `region` in a directory, which must be there.
    ///
    /// # Errors
    /// What is wrong with the directory.
    pub fn directory(path: &std::path::Path, region: &str) -> Result<Remote, String> {
        let store = LocalFileSystem::new_with_prefix(path).map_err(|error| plain(&error))?;
        Ok(Remote::of(Box::new(store.with_fsync(true)), "", region))
    }

    /// The shipments of `region` below a prefix of a store; an empty one means the whole store.
    pub fn of(store: Box<dyn ObjectStore>, prefix: &str, region: &str) -> Remote {
        let root = if prefix.is_empty() { region.to_owned() } else { format!("{prefix}/{region}") };
        Remote { store: store.into(), root }
    }

    fn path(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.root))
    }

    /// Puts an object unless there is one of this name; `false` if there is.
    ///
    /// # Errors
    /// Why the place does not take it.
    pub async fn put_new(&self, name: &str, bytes: Bytes) -> Result<bool, String> {
        let path = self.path(name);
        let put = self.store.put_opts(&path, PutPayload::from_bytes(bytes.clone()), PutMode::Create.into());
        match within(put).await? {
            Ok(_) => self.insist(name, &bytes).await.map(|()| true),
            Err(Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(plain(&error)),
        }
    }

    /// Puts an object in the place of any other.
    ///
    /// # Errors
    /// Why the place does not take it.
    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<(), String> {
        let path = self.path(name);
        let options = PutOptions::from(PutMode::Overwrite);
        let put = self.store.put_opts(&path, PutPayload::from_bytes(bytes.clone()), options);
        within(put).await?.map_err(|error| plain(&error))?;
        self.insist(name, &bytes).await
    }

    /// What was put lies there.
    async fn insist(&self, name: &str, bytes: &Bytes) -> Result<(), String> {
        match self.get(name, bytes.len() as u64).await {
            Ok(Some(lies)) if lies == *bytes => Ok(()),
            Ok(None) => Err(format!("the place lies: {name} was taken and is not there")),
            Ok(Some(_)) => Err(format!("the place lies: {name} was taken and something else is read back")),
            Err(why) => Err(format!("{name} was taken and cannot be read back: {why}")),
        }
    }

    /// An object of at most `most` bytes, if it is there.
    ///
    /// # Errors
    /// Why it cannot be read, or that it is larger.
    pub async fn get(&self, name: &str, most: u64) -> Result<Option<Bytes>, String> {
        let path = self.path(name);
        let read = async {
            let found = self.store.get(&path).await?;
            if found.meta.size > most {
                return Ok(Err(format!("{name} has {} bytes", found.meta.size)));
            }
            found.bytes().await.map(Ok)
        };
        match within(read).await? {
            Ok(bytes) => bytes.map(Some),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(plain(&error)),
        }
    }

    /// The records at which bills begin: the largest of all, the largest that are not above `at`, and the smallest above it.
    ///
    /// # Errors
    /// Why the place cannot be listed.
    pub async fn bills(&self, at: u64) -> Result<Bills, String> {
        let prefix = self.path("bills");
        let list =
            self.store.list(Some(&prefix)).try_fold(Bills::default(), |mut bills, object| async move {
                let number = object.location.filename().filter(|name| name.len() == 20);
                if let Some(from) = number.and_then(|name| name.parse::<u64>().ok()) {
                    bills.take(from, at);
                }
                Ok(bills)
            });
        match within(list).await? {
            Err(Error::NotFound { .. }) => Ok(Bills::default()),
            found => found.map_err(|error| plain(&error)),
        }
    }
}

/// Bills before a record that a listing names: more than are put while nobody notices that the place lost one.
const BEFORE_MAX: usize = 64;

/// Where bills begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bills {
    /// The last one.
    pub last: Option<u64>,
    /// Those that do not begin above the record that was asked for, the last ones, at most 64.
    pub before: BTreeSet<u64>,
    /// The first one above it.
    pub after: Option<u64>,
}

impl Bills {
    /// One begins at `from`; `at` is what was asked for.
    pub fn take(&mut self, from: u64, at: u64) {
        self.last = self.last.max(Some(from));
        if from > at {
            self.after = Some(self.after.map_or(from, |after| after.min(from)));
            return;
        }
        self.before.insert(from);
        if self.before.len() > BEFORE_MAX {
            self.before.pop_first();
        }
    }
}

async fn within<T>(work: impl Future<Output = T>) -> Result<T, String> {
    tokio::time::timeout(PATIENCE, work).await.map_err(|_| format!("no answer within {PATIENCE:?}"))
}

/// The innermost reason, in one line.
fn plain(error: &Error) -> String {
    let mut why = error.to_string();
    let mut inner = std::error::Error::source(error);
    while let Some(error) = inner {
        why = error.to_string();
        inner = error.source();
    }
    why.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_there_stays_and_what_is_not_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let remote = Remote::directory(dir.path(), "eu").unwrap();
        assert_eq!(remote.bills(1).await, Ok(Bills::default()));
        assert_eq!(remote.get("bills/x", 10).await, Ok(None));
        for from in [1, 5, 9] {
            let name = super::super::bill::Bill::name(engine::log::Lsn(from));
            assert_eq!(remote.put_new(&name, Bytes::from_static(b"one")).await, Ok(true));
            assert_eq!(remote.put_new(&name, Bytes::from_static(b"two")).await, Ok(false));
            assert_eq!(remote.get(&name, 3).await, Ok(Some(Bytes::from_static(b"one"))));
            assert!(remote.get(&name, 2).await.is_err());
        }
        let bills = Bills { last: Some(9), before: [1, 5].into(), after: Some(9) };
        assert_eq!(remote.bills(8).await, Ok(bills));
        remote.put("mirrors/us", Bytes::from_static(b"a")).await.unwrap();
        remote.put("mirrors/us", Bytes::from_static(b"b")).await.unwrap();
        assert_eq!(remote.get("mirrors/us", 9).await, Ok(Some(Bytes::from_static(b"b"))));
        assert!(Remote::directory(&dir.path().join("none"), "eu").is_err());
    }
}
