//! `POST /v1/pcs/submit`: one body, one record, one answer.

use super::connection::Conn;
use super::refusal::{Problem, Refusal};
use super::reply::{JSON, Reply};
use super::{REPLAYED, TENANT, body, elsewhere};
use crate::decision::{Decided, Decision, Replay, Settled};
use crate::door::TenantDoor;
use crate::node::Node;
use crate::peers::forward::{Ask, Kind, Wishes};
use crate::quota::Standing;
use crate::receipts::{self, PATIENCE};
use engine::summary::fingerprint::field_names;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName};
use serde_json::json;
use std::sync::Arc;
use tokio::time::Instant;

/// Which preferences were honoured, RFC 7240.
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

pub(super) async fn answer(
    node: &Arc<Node>,
    conn: &Conn,
    request: Request<Incoming>,
) -> Result<Reply, Problem> {
    let headers = request.headers();
    let wishes = wishes(headers, request.uri().query());
    let patient = headers.contains_key(header::EXPECT);
    let max = node.config.body_max;
    // In a group whoever leads admits, and the request may have to be made again at another node.
    if node.has_peers() {
        let tenant = headers.get(TENANT).map(|value| value.as_bytes().to_vec());
        let body = body::read(request.into_body(), conn, max, patient).await?;
        conn.answer_begins();
        let ask = Ask { kind: Kind::Submission, wishes, tenant, body };
        return elsewhere::ask_leader(node, &ask).await;
    }
    let tenant = node.door.identify(headers.get(TENANT).map(|v| v.as_bytes()))?;
    let standing = node.door.charge(&tenant, 1)?;
    let body = body::read(request.into_body(), conn, max, patient).await?;
    conn.answer_begins();
    record(node, &tenant, standing, wishes, body).await
}

/// What the leader does with a submission that was sent to any node.
pub(super) async fn here(node: &Arc<Node>, ask: &Ask) -> Result<Reply, Problem> {
    let tenant = node.door.identify(ask.tenant.as_deref())?;
    if ask.body.len() > node.config.body_max {
        return Err(Problem::from(Refusal::TooLarge));
    }
    let standing = node.door.charge(&tenant, 1)?;
    record(node, &tenant, standing, ask.wishes, ask.body.clone()).await
}

async fn record(
    node: &Arc<Node>,
    tenant: &TenantDoor,
    standing: Option<Standing>,
    wishes: Wishes,
    body: Vec<u8>,
) -> Result<Reply, Problem> {
    let receiver = node.door.enter(tenant, body, wishes.receipt)?;
    // The sender goes away without a word only when the batch was dropped on the way to the log.
    let unknown = |_| Err(Box::new(Problem::from(Refusal::OutcomeUnknown).elsewhere()));
    let decided = receiver.await.unwrap_or_else(unknown);
    let mut settled = settle(node, decided, wishes.strict).await.map_err(|problem| *problem)?;
    let proved = wishes.receipt && receipts::attach(node, &mut settled, Instant::now() + PATIENCE).await;
    let mut reply = reply(settled);
    if proved {
        reply = reply.with(PREFERENCE_APPLIED, "receipt");
    }
    if let Some(standing) = standing {
        reply = limits(reply, tenant, standing);
    }
    Ok(reply)
}

/// What `Prefer` (RFC 7240), in any of its lines, and the query ask for. What nobody here knows is passed over.
pub(super) fn wishes(headers: &HeaderMap, query: Option<&str>) -> Wishes {
    const PREFER: HeaderName = HeaderName::from_static("prefer");
    let lines = headers.get_all(PREFER);
    let prefers = |wish: &str| {
        lines
            .iter()
            .filter_map(|line| line.to_str().ok())
            .any(|line| line.split([',', ';']).any(|part| part.trim().eq_ignore_ascii_case(wish)))
    };
    let asked = query.is_some_and(|query| query.split('&').any(|part| part == "receipt=1"));
    Wishes { strict: prefers("handling=strict"), receipt: asked || prefers("receipt") }
}

/// The answer of a settled decision.
pub(super) fn reply(settled: Settled) -> Reply {
    let reply = Reply::new(settled.status, JSON, settled.body);
    match settled.replay.header() {
        Some(text) => reply.with(REPLAYED, text),
        None => reply,
    }
}

/// A conflict is an answer unless the client asked for strict handling.
pub(super) async fn settle(node: &Node, decided: Decided, strict: bool) -> Result<Settled, Box<Problem>> {
    match decided {
        Ok(Decision { replay: Replay::Different(fields), .. }) if strict => {
            let names: Vec<&str> = field_names(fields).collect();
            Err(Box::new(Problem::from(Refusal::PcsIdConflict).member("fields", json!(names))))
        }
        decided => node.settle(decided).await,
    }
}

fn limits(reply: Reply, tenant: &TenantDoor, standing: Standing) -> Reply {
    let (rate, burst, daily) = (tenant.limits.rate_per_s, tenant.limits.burst, tenant.limits.daily);
    let mut policy = Vec::new();
    let mut left = Vec::new();
    if rate != 0 {
        let window = u64::from(burst).div_ceil(u64::from(rate)).max(1);
        policy.push(format!("\"tenant\";q={burst};w={window}"));
        left.push(format!("\"tenant\";r={};t={window}", standing.tokens));
    }
    if let Some(today) = standing.today {
        policy.push(format!("\"daily\";q={daily};w=86400"));
        left.push(format!("\"daily\";r={today};t={}", standing.day_s));
    }
    reply.with_text(RATE_POLICY, policy.join(",")).with_text(RATE_LIMIT, left.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn wishes_are_found_among_other_preferences() {
        for (value, query, strict, receipt) in [
            ("handling=strict", None, true, false),
            ("respond-async, handling=strict", None, true, false),
            ("Handling=Strict; foo", None, true, false),
            ("handling=lenient", None, false, false),
            ("handling=strictly", None, false, false),
            ("receipt", None, false, true),
            ("handling=strict, Receipt", None, true, true),
            ("receipts", Some("a=b"), false, false),
            ("", Some("receipt=1"), false, true),
            ("handling=strict", Some("x&receipt=1&y"), true, true),
            ("", Some("receipt=0"), false, false),
            ("", Some("xreceipt=1"), false, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("prefer", HeaderValue::from_static(value));
            assert_eq!(wishes(&headers, query), Wishes { strict, receipt }, "{value} {query:?}");
        }
    }
}
