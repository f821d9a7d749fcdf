//! This node's certificates, read again when their files change.
//!
//! Connections that are open go on with what they began with; the next ones use what is in force. Files that cannot
//! be used, or that the others would refuse, change nothing and are said so until they are mended.

use super::{MtlsError, tls};
use arc_swap::ArcSwap;
use rustls::pki_types::{ServerName, UnixTime};
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Between two looks at the files.
const TICK: Duration = Duration::from_secs(1);

/// Where the files are, and whose they are to be.
#[derive(Clone, Debug)]
pub struct Files {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// This node's.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whose the certificate is to be.
    pub name: ServerName<'static>,
}

impl Files {
    /// Reads what is in the files now.
    ///
    /// # Errors
    /// [`MtlsError`], naming the file.
    pub fn load(&self) -> Result<tls::Tls, MtlsError> {
        tls::Tls::load(&self.ca, &self.certificate, &self.key, &self.name)
    }

    /// What is in them, as one number; files that are not there count, too.
    fn sum(&self) -> [u8; 32] {
        let mut sum = Sha256::new();
        for path in [&self.ca, &self.certificate, &self.key] {
            match std::fs::read(path) {
                Ok(bytes) => sum.update(Sha256::digest(&bytes)),
                Err(error) => sum.update(error.kind().to_string()),
            }
        }
        sum.finalize().into()
    }
}

/// The certificates in force.
pub struct Certificates {
    files: Files,
    now: ArcSwap<tls::Tls>,
    seen: Mutex<Seen>,
}

struct Seen {
    /// What was tried last, used or refused.
    tried: [u8; 32],
    /// What was there at the last look: several files are never replaced at once.
    last: [u8; 32],
    refused: Option<String>,
}

/// What a look at the files came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing new, or not yet all of it.
    Same,
    /// New ones are in force.
    Changed,
    /// New ones are there and cannot be used.
    Refused(String),
}

impl Certificates {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// [`MtlsError`].
    pub fn open(files: Files) -> Result<Certificates, MtlsError> {
        let sum = files.sum();
        let now = ArcSwap::from_pointee(files.load()?);
        let seen = Mutex::new(Seen { tried: sum, last: sum, refused: None });
        Ok(Certificates { files, now, seen })
    }

    /// What is in force now.
    pub fn now(&self) -> Arc<tls::Tls> {
        self.now.load_full()
    }

    /// When this node's certificate ends, seconds since the epoch if that can be read, and why newer files were
    /// refused, if they were.
    pub fn state(&self) -> (Option<i64>, Option<String>) {
        (self.now().ends_s, self.seen().refused.clone())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Looks at the files; what is new must have been there at the last look, too.
    pub fn look(&self) -> Look {
        let sum = self.files.sum();
        let mut seen = self.seen();
        let still = std::mem::replace(&mut seen.last, sum) == sum;
        if sum == seen.tried || !still {
            return Look::Same;
        }
        seen.tried = sum;
        match self.files.load().and_then(|tls| tls.check(&self.files.name, UnixTime::now()).map(|()| tls)) {
            Ok(tls) => {
                self.now.store(Arc::new(tls));
                seen.refused = None;
                Look::Changed
            }
            Err(error) => {
                seen.refused = Some(error.to_string());
                Look::Refused(error.to_string())
            }
        }
    }
}

/// Looks again and again, and says what changed, until the task is dropped.
pub async fn watch(all: Vec<Arc<Certificates>>, refused: prometheus::IntGauge, ends: prometheus::IntGauge) {
    let first_end = || all.iter().filter_map(|one| one.state().0).min();
    ends.set(first_end().unwrap_or(0));
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for certificates in &all {
            let looked = certificates.clone();
            let Ok(look) = tokio::task::spawn_blocking(move || looked.look()).await else { continue };
            let ends_s = certificates.state().0;
            match look {
                Look::Same => {}
                Look::Changed => tracing::info!(ends_s, "new certificates: the next connections use them"),
                Look::Refused(why) => {
                    tracing::error!(why, "the new certificates are refused; the old ones stay in force");
                }
            }
        }
        refused.set(i64::from(all.iter().any(|one| one.state().1.is_some())));
        ends.set(first_end().unwrap_or(0));
    }
}
