//! What regions say of each other, asked again and again while everything is happening.

use super::Two;
use crate::cluster::{Cluster, Host, TOKEN};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What one node says of its region and of the other one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Entries under its newest checkpoint.
    pub newest: u64,
    /// Entries of the other region's log that it has folded.
    pub leaves: u64,
    /// Entries of its own that the other one is proven to hold.
    pub proven: u64,
    /// Digest over both.
    pub merged: String,
    /// Why the other one is believed no further.
    pub quarantine: Option<String>,
}

/// Asks one node.
pub fn ask(host: &Host) -> Option<Page> {
    let token = format!("Bearer {TOKEN}");
    let mut client = host.client(Duration::from_secs(2));
    let answer = client.send("GET", "/v1/cluster", &[("Authorization", &token)], b"").ok()?;
    let page: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    let page = &page["group"]["regions"];
    let peer = &page["peers"][0];
    let quarantine = Some(&peer["quarantine"]).filter(|why| !why.is_null()).map(ToString::to_string);
    Some(Page {
        newest: page["newest"].as_u64()?,
        leaves: peer["leaves"].as_u64()?,
        proven: peer["proven"].as_u64()?,
        merged: page["merged"].as_str().unwrap_or_default().to_owned(),
        quarantine,
    })
}

/// Everything that the watcher found.
#[derive(Debug, Default)]
pub struct Found {
    /// Looks that could be compared.
    pub looks: u64,
    /// A mirror's word that came before what it speaks of.
    pub early: Vec<String>,
    /// The most that each region has said to be proven.
    pub proven: [u64; 2],
}

/// Watches until it is told to stop.
pub struct Watch {
    found: Mutex<Found>,
    stop: AtomicBool,
}

impl Watch {
    /// Has seen nothing.
    pub fn new() -> Watch {
        Watch { found: Mutex::default(), stop: AtomicBool::new(false) }
    }

    /// No more looks.
    pub fn end(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// What was found.
    pub fn take(&self) -> Found {
        std::mem::take(&mut *self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// First what a region says is proven, then what the other one has: that can only be more.
    pub fn run(&self, two: &Two) {
        while !self.stop.load(Ordering::SeqCst) {
            for (at, other) in [(0, 1), (1, 0)] {
                let first = pages(&two.regions[at]);
                let then = pages(&two.regions[other]);
                let proven = first.values().map(|page| page.proven).max();
                let Some(proven) = proven else { continue };
                let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
                found.proven[at] = found.proven[at].max(proven);
                // A node that has just been started may not have read its log yet, and one that is behind knows less.
                if then.len() < two.regions[other].hosts.len() {
                    continue;
                }
                found.looks += 1;
                let held = then.values().map(|page| page.leaves).max().unwrap_or(0);
                if held < proven && found.early.len() < 8 {
                    let who = two.regions[at].region_name();
                    found
                        .early
                        .push(format!("{who} says {proven} entries are proven, the other one has {held}"));
                }
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

/// What every node says that is ready.
pub fn pages(region: &Cluster) -> BTreeMap<usize, Page> {
    let ready = region.hosts.iter().filter(|host| host.runs() && host.ready());
    ready.filter_map(|host| Some((host.number, ask(host)?))).collect()
}
