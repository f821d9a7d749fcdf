//! What operators and their probes ask: ready, metrics.

use super::refusal::{Problem, Refusal};
use super::reply::{Reply, TEXT};
use crate::metrics::Sampled;
use crate::node::Node;
use base64::Engine as _;
use hyper::header::{self, HeaderMap};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use subtle::ConstantTimeEq;

/// 200 when the node can take submissions; the checks one by one with `?verbose`.
pub(super) fn ready(node: &Node, query: Option<&str>) -> Reply {
    let checks = node.checks();
    let ok = checks.iter().all(|check| check.ok);
    let verbose =
        query.is_some_and(|query| query.split('&').any(|part| part == "verbose" || part == "verbose=1"));
    let mut out = String::new();
    for check in checks.iter().filter(|check| verbose || !check.ok) {
        let _ = writeln!(out, "[{}] {}: {}", if check.ok { "+" } else { "-" }, check.name, check.detail);
    }
    out.push_str(if ok { "ok\n" } else { "not ready\n" });
    let reply = Reply::new(if ok { 200 } else { 503 }, TEXT, out);
    if ok { reply } else { reply.with(header::RETRY_AFTER, "1") }
}

/// The metrics page, behind basic auth when that is configured.
pub(super) fn metrics(node: &Node, headers: &HeaderMap, query: Option<&str>) -> Result<Reply, Problem> {
    if let (Some(user), Some(pass)) = (&node.config.metrics_user, &node.config.metrics_pass) {
        let want = [user.as_bytes(), b":", pass.bytes()].concat();
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().strip_prefix(b"Basic "))
            .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok())
            .unwrap_or_default();
        if !same(&want, &given) {
            let mut problem = Problem::from(Refusal::Unauthorized);
            problem.challenge = Some("Basic realm=\"Metrics\"");
            return Err(problem);
        }
    }
    let originals = !query.is_some_and(|query| query.split('&').any(|part| part == "names=canonical"));
    let log = node.log_metrics();
    let sampled = Sampled {
        connections: node.slots.open(),
        queue_bytes: node.queue.bytes(),
        full: node.full(&log),
        log: Some(log),
        members: node.group.members(),
    };
    let mut page = node.metrics.page(&sampled, originals);
    let newest = node.fold.projector.tiles().published().map_or(0, |published| published.size);
    page.push_str(&node.anchors.page(newest, node.clock.wall_ms()));
    if let Some(regions) = &node.regions {
        page.push_str(&regions.page(node));
    }
    Ok(Reply::new(200, "text/plain; version=0.0.4; charset=utf-8", page))
}

/// Compares secrets by their digests, so that neither content nor length shows in the time taken.
pub(super) fn same(want: &[u8], given: &[u8]) -> bool {
    Sha256::digest(want).ct_eq(&Sha256::digest(given)).into()
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn secrets_are_equal_or_not() {
        assert!(same(b"a:b", b"a:b"));
        for other in [b"".as_slice(), b"a:", b"a:bb", b"A:b"] {
            assert!(!same(b"a:b", other));
        }
    }
}
