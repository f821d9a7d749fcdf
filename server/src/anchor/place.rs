//! A place for copies: a directory, or a bucket with Object Lock. Objects are put if they are absent, and read back.
//!
//! Put-if-absent makes a repeated task harmless: what lies there already and is the same is as good as put, what is
//! something else was not put by this log. Nothing is believed to be there that was not read back whole; in a bucket the
//! lock is read back, too.
//!
//! L1: a place has [`TOGETHER`] requests under way; one that hangs in the kernel holds the place, not one more thread for each
//! try.

use super::bucket::{KeepUntil, Kept};
use super::lane::Failure;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectStore, PutMode, PutOptions, PutPayload};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long one object may take, put and read back.
const PATIENCE: Duration = Duration::from_secs(150);

/// Objects that may be put together. Their syncs meet in the device's queue, so that a disk does few of them for many objects.
pub const TOGETHER: usize = 16;

/// A place.
#[derive(Clone, Debug)]
pub struct Place {
    store: Arc<dyn ObjectStore>,
    /// How the place is written for people and in the log: `file:///dir` or `s3://bucket`.
    root: String,
    prefix: String,
    /// How long the store must keep each object, where it can be told.
    keep: Option<SignedDuration>,
    one: Arc<Semaphore>,
    patience: Duration,
}

/// An object as it was read back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The store's name of this version, where it has versions.
    pub version: Option<String>,
    /// Until when nobody can remove it.
    pub until: Option<Timestamp>,
}

impl Place {
    /// A place below `prefix` of a store. With `keep`, what is put must be locked for so long.
    pub fn new(
        store: Box<dyn ObjectStore>,
        root: String,
        prefix: &str,
        keep: Option<SignedDuration>,
    ) -> Place {
        let one = Arc::new(Semaphore::new(1));
        Place { store: store.into(), root, prefix: prefix.to_owned(), keep, one, patience: PATIENCE }
    }

    fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }

    /// Where an object lies, for people.
    pub fn address(&self, name: &str) -> String {
        format!("{}/{}", self.root, self.key(name))
    }

    /// Makes sure that these bytes lie there under this name.
    ///
    /// # Errors
    /// [`Failure::Contradicted`] when something else lies there, [`Failure::Refused`] when the store does not do what it
    /// must, else [`Failure::Later`].
    pub async fn put(&self, name: &str, bytes: Bytes, now: Timestamp) -> Result<Held, Failure> {
        let mut held = self.put_all(vec![(name.to_owned(), bytes)], now).await?;
        Ok(held.pop().unwrap_or_default())
    }

    /// Makes sure of each of these, [`TOGETHER`] at most, at the same time.
    ///
    /// # Errors
    /// That of the first one that has one; the others may lie there or not.
    pub async fn put_all(&self, objects: Vec<(String, Bytes)>, now: Timestamp) -> Result<Vec<Held>, Failure> {
        debug_assert!(objects.len() <= TOGETHER, "that many wait for each other's syncs");
        let Ok(held) = self.one.clone().try_acquire_owned() else {
            return Err(Failure::Later("the request before this one has not come back".into(), None));
        };
        let held = Arc::new(held);
        let tasks = objects.into_iter().map(|(name, bytes)| {
            let (this, held) = (self.clone(), held.clone());
            tokio::spawn(async move {
                let _held = held;
                this.put_now(&name, bytes, now).await
            })
        });
        let tasks: Vec<_> = tasks.collect();
        drop(held);
        let all = async {
            let mut all = Vec::with_capacity(tasks.len());
            for task in tasks {
                all.push(task.await.unwrap_or_else(|error| Err(Failure::Later(error.to_string(), None))));
            }
            all.into_iter().collect()
        };
        match tokio::time::timeout(self.patience, all).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Later(format!("no answer within {:?}", self.patience), None)),
        }
    }

    async fn put_now(&self, name: &str, bytes: Bytes, now: Timestamp) -> Result<Held, Failure> {
        let key = Path::parse(self.key(name)).map_err(|error| Failure::Refused(error.to_string()))?;
        let until = match self.keep {
            None => None,
            Some(keep) => {
                let until = now.checked_add(keep).map_err(|error| Failure::Refused(error.to_string()))?;
                // Locks are told in whole seconds.
                let whole = Timestamp::from_second(until.as_second());
                Some(whole.map_err(|error| Failure::Refused(error.to_string()))?)
            }
        };
        let mut options = PutOptions::from(PutMode::Create);
        if let Some(until) = until {
            options.extensions.insert(KeepUntil(until));
        }
        let fresh = match self.store.put_opts(&key, PutPayload::from_bytes(bytes.clone()), options).await {
            Ok(_) => true,
            // Perhaps a try of ours whose answer was lost.
            Err(Error::AlreadyExists { .. }) => false,
            Err(error) => return Err(failed(&error)),
        };
        let answer = self.store.get_opts(&key, GetOptions::default()).await;
        let answer = match answer {
            Err(Error::NotFound { .. }) => {
                return Err(Failure::Refused(format!("{name} was taken and is not there")));
            }
            answer => answer.map_err(|error| failed(&error))?,
        };
        let version = answer.meta.version.clone();
        let kept = answer.extensions.get().map(|Kept(until)| *until);
        let lies = if answer.meta.size == bytes.len() as u64 {
            answer.bytes().await.map_err(|error| failed(&error))? == bytes
        } else {
            false
        };
        match (lies, fresh) {
            (true, _) => {}
            (false, true) => {
                return Err(Failure::Refused(format!("{name} was taken and something else is read back")));
            }
            (false, false) => {
                return Err(Failure::Contradicted(format!("something else lies at {}", self.address(name))));
            }
        }
        let enough = |wanted: Timestamp| match kept {
            Some(kept) if fresh => kept >= wanted,
            // It was locked when it was put; the time that is left is shorter by now.
            Some(kept) => kept > now,
            None => false,
        };
        if let Some(wanted) = until.filter(|wanted| !enough(*wanted)) {
            let has = kept.map_or_else(|| "no lock".into(), |kept| format!("a lock until {kept}"));
            let why = format!("{name} must be locked (COMPLIANCE) until {wanted} and has {has}");
            return Err(Failure::Refused(why));
        }
        Ok(Held { version, until: kept })
    }
}

fn failed(error: &Error) -> Failure {
    // Only the reason: the whole chain repeats addresses and may hold pages of text.
    let mut why = error.to_string();
    let mut inner = std::error::Error::source(error);
    while let Some(error) = inner {
        why = error.to_string();
        inner = error.source();
    }
    let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            Failure::Refused(format!("the store denies it: {why}"))
        }
        Error::NotFound { .. } => Failure::Refused(format!("there is no such place: {why}")),
        _ => Failure::Later(why, None),
    }
}

#[cfg(test)]
mod tests;
