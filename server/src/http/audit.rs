//! What auditors and owners ask: first answers, lineage, receipts, checkpoints, tiles, entry bundles.
//!
//! I7: a summary is looked up under the tenant of the request; what belongs to another tenant is not found.
//! Nothing here is counted against a tenant's rate, because nothing here is logged.

use super::ops::same;
use super::refusal::{Problem, Refusal};
use super::reply::{JSON, Reply, TEXT};
use super::{TENANT, accept, elsewhere};
use crate::door::TenantDoor;
use crate::node::{Node, tile_dir};
use crate::projections::tiles::Published;
use crate::receipts;
use engine::ledger::First;
use engine::summary::PcsId;
use engine::tree::tiles::{Kind, Tile};
use hyper::header::{self, HeaderMap};
use serde_json::json;
use std::io::Write as _;
use std::sync::Arc;

const OCTETS: &str = "application/octet-stream";
const COSE: &str = "application/cose";

/// Runs work that reads files away from the tasks that serve connections.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "reading files failed");
        Problem::from(Refusal::Internal)
    })
}

/// The first row of a summary of the request's tenant.
async fn look_up(
    node: &Node,
    headers: &HeaderMap,
    id: &str,
) -> Result<(Arc<TenantDoor>, PcsId, First), Problem> {
    elsewhere::fresh(node).await?;
    let tenant = node.door.identify(headers.get(TENANT).map(|value| value.as_bytes()))?;
    let id = PcsId::from_hex(id)
        .ok_or_else(|| Problem::from(Refusal::BadRequest).detail("the id is not 64 lower-case hex digits"))?;
    let core = node.fold.core();
    match core.ledger.lineage(&tenant.id, &id) {
        Ok(Some(lineage)) => Ok((tenant, id, lineage.first)),
        Ok(None) => match core.ledger.first_of(&First::key_of(&tenant.id, &id.0)) {
            Ok(Some(first)) => {
                let region = core.ledger.region_of(&first).unwrap_or_default();
                let alone = if first.is_withheld() { ", which alone holds it" } else { "" };
                let detail = format!("its first submission stands in the log of region {region}{alone}");
                Err(Problem::from(Refusal::NotFound).detail(detail))
            }
            _ => Err(Refusal::NotFound.into()),
        },
        Err(error) => {
            tracing::error!(%error, "the index cannot answer");
            Err(Refusal::Internal.into())
        }
    }
}

/// The first that counts over all regions, or, if its time is up, the last that counted here.
async fn first_of(node: &Node, headers: &HeaderMap, id: &str) -> Result<First, Problem> {
    elsewhere::fresh(node).await?;
    let tenant = node.door.identify(headers.get(TENANT).map(|value| value.as_bytes()))?;
    let found = PcsId::from_hex(id)
        .and_then(|id| node.fold.core().ledger.first_of(&First::key_of(&tenant.id, &id.0)).ok().flatten());
    match found {
        Some(first) => Ok(first),
        None => look_up(node, headers, id).await.map(|(_, _, first)| first),
    }
}

pub(super) async fn summary(node: &Node, headers: &HeaderMap, id: &str) -> Result<Reply, Problem> {
    let first = first_of(node, headers, id).await?;
    let (_, body) = node.first_answer(&first).await.map_err(|problem| *problem)?;
    Ok(Reply::new(200, JSON, body))
}

pub(super) async fn lineage(node: &Arc<Node>, headers: &HeaderMap, id: &str) -> Result<Reply, Problem> {
    let (tenant, id, first) = look_up(node, headers, id).await?;
    let (_, answer) = node.first_answer(&first).await.map_err(|problem| *problem)?;
    let answer: serde_json::Value = serde_json::from_slice(&answer).map_err(|_| Refusal::Internal)?;
    let (version, hash, params) = {
        let core = node.fold.core();
        let rule = core.ledger.policy(first.policy).ok_or(Refusal::Internal)?;
        (rule.policy.version.clone(), rule.hash.to_string(), rule.params_hash.to_string())
    };
    let reader = node.clone();
    let leaf = aside(move || reader.fold.projector.leaves(first.seq, first.seq + 1)).await?;
    let leaf: serde_json::Value = match leaf.ok().and_then(|mut leaves| leaves.pop()) {
        Some(leaf) => serde_json::from_slice(&leaf).map_err(|_| Refusal::Internal)?,
        // The file is written a few milliseconds after the answer.
        None => serde_json::Value::Null,
    };
    let document = json!({
        "pcs_id": id.to_string(),
        "tenant": tenant.id.as_str(),
        "lsn": first.lsn.0,
        "nth": first.nth,
        "seq": first.seq,
        "received_at_ms": first.time_ms,
        "accepted": first.accepted(),
        "escalated": first.escalated(),
        "policy_version": version,
        "policy_hash": hash,
        "params_hash": params,
        "leaf": leaf,
        "answer": answer,
        "receipt": format!("/v1/receipts/{id}"),
    });
    Ok(Reply::new(200, JSON, format!("{document}\n")))
}

pub(super) async fn receipt(node: &Arc<Node>, headers: &HeaderMap, id: &str) -> Result<Reply, Problem> {
    let Some(media) = accept::choose(headers, &[TEXT, COSE]) else {
        let detail = "a receipt is text/plain (C2SP tlog-proof) or application/cose (RFC 9942)";
        return Err(Problem::from(Refusal::NotAcceptable).detail(detail));
    };
    let (_, id, first) = look_up(node, headers, id).await?;
    let receipt = receipts::of_first(node, &first).await?;
    let (body, ending) = match media {
        COSE => (receipts::cose(&receipt, &id, &node.fold)?, "cose"),
        _ => (receipt.encode(), "tlog-proof"),
    };
    let name = format!("inline; filename=\"{id}.{ending}\"");
    let reply = Reply::new(200, media, body).with_text(header::CONTENT_DISPOSITION, name);
    Ok(reply.with(header::VARY, "Accept"))
}

/// The published checkpoint of the region in the path.
fn published(node: &Node, region: &str) -> Result<Published, Problem> {
    if region != node.config.region {
        return Err(Refusal::NotFound.into());
    }
    node.fold.projector.tiles().published().ok_or(Refusal::NotFound.into())
}

pub(super) fn checkpoint(node: &Node, region: &str, query: Option<&str>) -> Result<Reply, Problem> {
    let witnessed = query.is_some_and(|query| query.split('&').any(|part| part == "witnessed"));
    let published = node.anchors.shown(published(node, region)?, witnessed);
    Ok(Reply::new(200, TEXT, published.note).with(header::CACHE_CONTROL, "max-age=1"))
}

pub(super) fn verifier_key(node: &Node, region: &str) -> Result<Reply, Problem> {
    if region != node.config.region {
        return Err(Refusal::NotFound.into());
    }
    let now_ms = node.fold.core().ledger.log_time_ms();
    Ok(Reply::new(200, TEXT, node.fold.signers.load().vkeys(now_ms)))
}

/// `GET /tlog/{region}/keys/{name}`: why a set of the log's keys is believed.
pub(super) async fn statement(node: &Arc<Node>, region: &str, name: &str) -> Result<Reply, Problem> {
    let number = name
        .strip_suffix(".tlog-proof")
        .filter(|number| (1..=4).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit()));
    if region != node.config.region || number.is_none() {
        return Err(Refusal::NotFound.into());
    }
    let path = tile_dir(&node.config).join("keys").join(name);
    let bytes = aside(move || std::fs::read(path)).await?.map_err(|error| unreadable(&error))?;
    Ok(cached(Reply::new(200, TEXT, bytes), true))
}

/// Names of the attested checkpoints and of what was said of them. L1: they grow with the stamps that were asked for, an hour
/// apart where nobody set less; the newest are listed.
const STAMPS_MAX: usize = 4096;

/// Where they are, of the region in the path.
fn stamps_of(node: &Node, region: &str) -> Result<std::path::PathBuf, Problem> {
    if region == node.config.region {
        Ok(tile_dir(&node.config).join("anchors"))
    } else {
        Err(Refusal::NotFound.into())
    }
}

fn unreadable(error: &std::io::Error) -> Problem {
    if error.kind() == std::io::ErrorKind::NotFound {
        return Refusal::NotFound.into();
    }
    tracing::error!(%error, "a file beside the checkpoint cannot be read");
    Refusal::Internal.into()
}

pub(super) async fn stamps(node: &Arc<Node>, region: &str) -> Result<Reply, Problem> {
    let folder = stamps_of(node, region)?;
    let names = aside(move || {
        let list = std::fs::read_dir(folder)?;
        let names = list.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter(|name| is_stamp(name)).collect::<Vec<_>>())
    });
    let mut names = names.await?.map_err(|error: std::io::Error| unreadable(&error))?;
    names.sort();
    let newest = names.split_off(names.len().saturating_sub(STAMPS_MAX));
    Ok(Reply::new(200, TEXT, newest.join("\n") + "\n").with(header::CACHE_CONTROL, "max-age=1"))
}

pub(super) async fn stamp(node: &Arc<Node>, region: &str, name: &str) -> Result<Reply, Problem> {
    let path = stamps_of(node, region)?.join(name);
    if !is_stamp(name) {
        return Err(Refusal::NotFound.into());
    }
    let bytes = aside(move || std::fs::read(path)).await?.map_err(|error| unreadable(&error))?;
    Ok(cached(Reply::new(200, OCTETS, bytes), true))
}

/// Whether this is how a file there may be called, and none that is being written.
fn is_stamp(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let known = [".checkpoint", ".tsr", ".ots"].iter().any(|end| name.ends_with(end));
    known && name.len() <= 300 && name.as_bytes()[0].is_ascii_digit() && name.bytes().all(plain)
}

/// A tile of the path that the published tree holds, whole or as a part.
fn wanted(published: &Published, path: &str) -> Result<Tile, Problem> {
    let tile = Tile::parse(path).ok_or(Refusal::NotFound)?;
    let there = Tile::at(tile.kind, tile.index, published.size).ok_or(Refusal::NotFound)?;
    if tile.width > there.width { Err(Refusal::NotFound.into()) } else { Ok(tile) }
}

fn cached(reply: Reply, public: bool) -> Reply {
    let scope =
        if public { "public, max-age=31536000, immutable" } else { "private, max-age=31536000, immutable" };
    reply.with(header::CACHE_CONTROL, scope)
}

pub(super) async fn tile(node: &Arc<Node>, region: &str, path: &str) -> Result<Reply, Problem> {
    let published = published(node, region)?;
    let tile = wanted(&published, &format!("tile/{path}"))?;
    if tile.kind == Kind::Entries {
        return Err(Refusal::NotFound.into());
    }
    let reader = node.clone();
    let bytes = aside(move || reader.fold.projector.tiles().bytes(tile)).await?;
    let bytes = bytes.map_err(|error| {
        tracing::error!(%error, %tile, "a tile cannot be read");
        Problem::from(Refusal::Internal)
    })?;
    Ok(cached(Reply::new(200, OCTETS, bytes), true))
}

pub(super) async fn entries(
    node: &Arc<Node>,
    headers: &HeaderMap,
    region: &str,
    path: &str,
) -> Result<Reply, Problem> {
    authorise(node, headers)?;
    let published = published(node, region)?;
    let tile = wanted(&published, &format!("tile/entries/{path}"))?;
    let reader = node.clone();
    let bundle = aside(move || reader.fold.projector.bundle(tile)).await?;
    let bundle = bundle.map_err(|error| {
        tracing::error!(%error, %tile, "leaves cannot be read");
        Problem::from(Refusal::Internal)
    })?;
    let reply = if accept::gzip(headers) {
        let packed = aside(move || gzip(&bundle)).await?;
        Reply::new(200, OCTETS, packed).with(header::CONTENT_ENCODING, "gzip")
    } else {
        Reply::new(200, OCTETS, bundle)
    };
    Ok(cached(reply, false).with(header::VARY, "Accept-Encoding"))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing into memory cannot fail.
    encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default()
}

/// Entry bundles show every tenant's leaves: only who holds the token may read them.
fn authorise(node: &Node, headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .unwrap_or_default();
    match &node.config.audit_token {
        Some(token) if same(token.bytes(), given) => Ok(()),
        _ => {
            let mut problem = Problem::from(Refusal::Unauthorized);
            problem.challenge = Some("Bearer realm=\"audit\"");
            Err(problem)
        }
    }
}
