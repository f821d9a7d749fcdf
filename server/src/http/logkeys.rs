//! What operators ask about the log's own keys, and how they change them: `/v1/log-keys`. The leader does it.

use super::cluster::{Change, ask, authorise, pass_on};
use super::connection::Conn;
use super::elsewhere;
use super::refusal::{Problem, Refusal};
use super::reply::{JSON, Reply};
use crate::clock::Clock as _;
use crate::keys::draw_seed;
use crate::node::Node;
use engine::checkpoint::Signer;
use engine::event::{Event, LogKeySet};
use engine::limits::TIME_MAX_MS;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use raft::Batch;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long the first checkpoint that both keys signed is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);
/// Longest time for which two keys sign: ten years.
const BOTH_MAX_S: u64 = 10 * 366 * 86_400;

/// `GET /v1/log-keys`.
pub(super) async fn show(node: &Arc<Node>, headers: &HeaderMap) -> Result<Reply, Problem> {
    authorise(node, headers)?;
    elsewhere::ask_leader(node, &ask(b"{\"do\":\"log-keys\"}".to_vec())).await
}

/// `POST /v1/log-keys/change`.
pub(super) async fn change(
    node: &Arc<Node>,
    conn: &Conn,
    request: Request<Incoming>,
) -> Result<Reply, Problem> {
    pass_on(node, conn, request, |change| match change {
        Change::LogKeys {} | Change::RotateLogKey { .. } => Ok(()),
        _ => Err("do is log-keys or rotate-log-key"),
    })
    .await
}

/// What the leader says.
pub(super) fn here(node: &Node) -> Reply {
    Reply::new(200, JSON, format!("{}\n", document(node)))
}

fn document(node: &Node) -> Value {
    let core = node.fold.core();
    let now_ms = core.ledger.log_time_ms();
    let signers = node.fold.signers.load();
    let (number, both_until_ms) = signers.standing(now_ms);
    let (ok, line) = signers.line(now_ms);
    let row = |change: &engine::ledger::KeyChange| {
        json!({
            "number": change.number, "seq": change.seq, "both_until_ms": change.both_until_ms, "keys": change.keys,
            "follows": change.follows, "whole": !change.note.is_empty(),
            "statement": format!("/tlog/{}/keys/{}.tlog-proof", core.ledger.region(), change.number),
        })
    };
    let changes: Vec<Value> = core.ledger.log_keys().iter().map(row).collect();
    json!({
        "node": node.config.node_id, "number": number, "both_until_ms": both_until_ms, "log_time_ms": now_ms, "usable": ok,
        "line": line, "vkeys": signers.vkeys(now_ms), "changes": changes,
    })
}

/// The log goes over to a key that is drawn here; for `both_s` seconds the one before signs, too.
pub(super) async fn rotate(node: &Arc<Node>, both_s: u64) -> Result<Reply, Problem> {
    if both_s > BOTH_MAX_S {
        return Err(Problem::from(Refusal::BadRequest).detail("two keys sign for ten years at most"));
    }
    let signers = node.fold.signers.load();
    let (log_time_ms, size, pending) = {
        let core = node.fold.core();
        let last = core.ledger.log_keys().last();
        (core.ledger.log_time_ms(), core.ledger.tree().size(), last.is_some_and(|last| last.note.is_empty()))
    };
    if pending {
        return Err(
            Problem::from(Refusal::NotNow).detail("the last change of keys is not signed by both yet")
        );
    }
    // Who cannot sign with the key of now could not say that another one follows.
    signers
        .main(size.saturating_add(1))
        .map_err(|why| Problem::from(Refusal::Internal).detail(why.to_owned()))?;
    let follows = signers.newest();
    let internal = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "the log's keys cannot be changed");
        Problem::from(Refusal::Internal)
    };
    let seed = draw_seed().map_err(|error| internal(&error))?;
    let keys = Signer::new(&node.fold.terms.origin, &seed).map_err(|error| internal(&error))?.vkeys();
    let sealed = node.fold.terms.kek.seal_log_key(&keys, &seed).map_err(|error| internal(&error))?;
    let at_ms = node.time.wall_ms().max(log_time_ms).min(TIME_MAX_MS);
    let both_until_ms = at_ms.saturating_add(both_s.saturating_mul(1000)).min(TIME_MAX_MS);
    let event = Event::LogKeySet(LogKeySet { at_ms, both_until_ms, follows, keys: keys.clone(), sealed });
    let proposed = node.group.propose(Batch { events: Arc::new(vec![event]), local: None }).await;
    proposed.map_err(|error| {
        Problem::from(Refusal::LogUnavailable).detail(format!("it is not agreed: {error}")).retry_after(1)
    })?;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let found = {
            let core = node.fold.core();
            let ours = core.ledger.log_keys().iter().find(|change| change.keys == keys);
            ours.map(|change| change.note.is_empty())
        };
        match found {
            Some(false) => break,
            Some(true) => {
                let fold = node.fold.clone();
                // It signs, which takes milliseconds.
                let _ = tokio::task::spawn_blocking(move || fold.attest()).await;
            }
            None => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
    let document = document(node);
    let there = document["changes"].as_array().is_some_and(|all| all.iter().any(|row| row["keys"] == keys));
    if there {
        Ok(Reply::new(200, JSON, format!("{document}\n")))
    } else {
        // Another one was asked for at the same time, and came first.
        Err(Problem::from(Refusal::NotNow).detail("other keys follow the ones of before"))
    }
}
