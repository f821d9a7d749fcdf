//! W3 and W6: who reads the audit log. One client of each host asks for checkpoints and receipts and checks what it
//! can at once; an auditor takes copies of the directories of running and crashed nodes, and verifies them.

use super::{Actor, Done, Shared, refused};
use crate::check::merkle::{Hash, climb, leaf};
use crate::cluster::{Cluster, HOSTS, text};
use crate::pcs::{self, TENANTS, hex};
use crate::rng::Rng;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

/// Starts the readers.
pub fn start(shared: &Arc<Shared>, seed: u64) -> Vec<JoinHandle<()>> {
    let readers = (1..=HOSTS).map(|host| {
        let (mut log, mut owner) = (Actor::new(shared, host), Actor::new(shared, host));
        let mut rng = Rng::new(seed, &format!("reader {host}"));
        std::thread::spawn(move || {
            while log.shared.go_on() {
                checkpoint(&mut log);
                let newest = log.shared.newest.load(Ordering::SeqCst);
                receipt(&mut owner, rng.below(2) as usize, rng.below(newest + 1));
                std::thread::sleep(Duration::from_millis(rng.between(50, 200)));
            }
        })
    });
    readers.collect()
}

fn checkpoint(actor: &mut Actor) {
    actor.perform("checkpoint", "log", None, |client| match client.get("/tlog/default/checkpoint") {
        Ok(answer) if answer.status == 200 => match note(&answer.text()) {
            Some((size, root)) => Done::ok(Some(format!("{size}:{}", hex(&root)))),
            None => Done::info("unexpected: no checkpoint"),
        },
        // There is none before the first.
        Ok(answer) if answer.status == 404 => Done::fail("none yet"),
        Ok(answer) => refused(&answer),
        Err(silence) => Done::fail(silence.to_string()),
    });
}

fn receipt(actor: &mut Actor, tenant: usize, number: u64) {
    let path = format!("/v1/receipts/{}", pcs::id(number));
    actor.perform("receipt", &pcs::key(tenant, number), None, |client| {
        match client.send("GET", &path, &[("X-Tenant-Id", TENANTS[tenant])], b"") {
            Ok(answer) if answer.status == 404 => Done::ok(None),
            Ok(answer) if answer.status == 200 => match proof(&answer.text(), &pcs::key(tenant, number)) {
                Ok(value) => Done::ok(Some(value)),
                Err(why) => Done::info(format!("unexpected: {why}")),
            },
            Ok(answer) => refused(&answer),
            Err(silence) => Done::fail(silence.to_string()),
        }
    });
}

/// Size and root of a checkpoint (C2SP tlog-checkpoint).
fn note(text: &str) -> Option<(u64, Hash)> {
    let mut lines = text.lines().skip(1);
    let size = lines.next()?.parse().ok()?;
    Some((size, hash(lines.next()?)?))
}

fn hash(line: &str) -> Option<Hash> {
    STANDARD.decode(line).ok()?.try_into().ok()
}

/// What a receipt (C2SP tlog-proof) says, once its path leads from its entry to its checkpoint.
fn proof(text: &str, key: &str) -> Result<String, String> {
    let (head, checkpoint) = text.split_once("\n\n").ok_or("no receipt")?;
    let mut lines = head.lines();
    if lines.next() != Some("c2sp.org/tlog-proof@v1") {
        return Err("no receipt".to_owned());
    }
    let extra = lines.next().and_then(|line| STANDARD.decode(line.strip_prefix("extra ")?).ok());
    let extra: serde_json::Value = serde_json::from_slice(&extra.ok_or("a receipt without its entry")?)
        .map_err(|error| error.to_string())?;
    let entry = extra["leaf"].as_str().ok_or("a receipt without its entry")?;
    let index = lines.next().and_then(|line| line.strip_prefix("index ")?.parse().ok());
    let index: u64 = index.ok_or("a receipt without an index")?;
    let path: Option<Vec<Hash>> = lines.map(hash).collect();
    let (size, root) = note(checkpoint).ok_or("a receipt without a checkpoint")?;
    let leaf = leaf(entry.as_bytes());
    if climb(leaf, index, size, &path.ok_or("a receipt with a bad path")?) != Some(root) {
        return Err(format!("the receipt of entry {index} does not lead to its checkpoint over {size}"));
    }
    let entry: serde_json::Value = serde_json::from_str(entry).map_err(|error| error.to_string())?;
    let about = [&entry["tenant"], &entry["pcs_id"]].map(|part| part.as_str().unwrap_or_default());
    if about.join("/") != key {
        return Err(format!("a receipt about {} was given for {key}", about.join("/")));
    }
    Ok(format!("{index} {} {size}:{}", hex(&leaf), hex(&root)))
}

/// Takes copies until it is over.
pub fn copies(cluster: &Cluster, shared: &Arc<Shared>, seed: u64) {
    let mut rng = Rng::new(seed, "auditor");
    let mut nth = 0;
    while shared.go_on() {
        let host = cluster.host(rng.between(1, HOSTS as u64) as usize);
        if host.spoiled.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(200));
            continue;
        }
        let mut actor = Actor::new(shared, host.number);
        let state = if host.runs() { "running" } else { "crashed" };
        nth += 1;
        let to = cluster.out().join("copy");
        actor.perform("copy", state, None, |_| {
            let _ = std::fs::remove_dir_all(&to);
            if let Err(error) = copy(&host.data(), &to) {
                return Done::fail(error.to_string());
            }
            // It was wiped or cut while the copy was taken.
            if host.spoiled.load(Ordering::SeqCst) {
                return Done::fail("spoiled meanwhile");
            }
            let vkey = cluster.vkey();
            match cluster.worm(&["verify", text(&to), "--vkey", text(&vkey), "--threads", "1"]) {
                Ok(said) => {
                    if said.code != Some(0) {
                        let _ = std::fs::rename(&to, cluster.out().join(format!("copy-refused-{nth}")));
                    }
                    Done::ok(Some(said.brief()))
                }
                Err(why) => Done::fail(why),
            }
        });
        std::thread::sleep(Duration::from_millis(rng.between(1000, 3000)));
    }
}

/// A copy of a directory; what goes away meanwhile is left out, as by any program that copies what is in use.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    let mut entries = std::fs::read_dir(from)?.collect::<std::io::Result<Vec<_>>>()?;
    // What is made from the log first, so that the log in the copy is never behind what says what is in it.
    entries.sort_by_key(|entry| entry.file_name() == "log");
    for entry in entries {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let done =
            if source.is_dir() { copy(&source, &target) } else { std::fs::copy(&source, &target).map(drop) };
        match done {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}
