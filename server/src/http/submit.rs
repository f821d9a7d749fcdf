//! `POST /v1/pcs/submit`: one body, one record, one answer.

use super::connection::Conn;
use super::refusal::{Problem, Refusal};
use super::reply::{JSON, Reply};
use super::{REPLAYED, TENANT, body, elsewhere};
use crate::decision::{Decided, Decision, Replay, Settled};
use crate::door::TenantDoor;
use crate::node::Node;
use crate::peers::forward::{Ask, Kind};
use crate::quota::Standing;
use engine::summary::fingerprint::field_names;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName};
use serde_json::json;
use std::sync::Arc;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

pub(super) async fn answer(
    node: &Arc<Node>,
    conn: &Conn,
    request: Request<Incoming>,
) -> Result<Reply, Problem> {
    let headers = request.headers();
    let strict = strict(headers);
    let patient = headers.contains_key(header::EXPECT);
    let max = node.config.body_max;
    // In a group whoever leads admits, and the request may have to be made again at another node.
    if node.has_peers() {
        let tenant = headers.get(TENANT).map(|value| value.as_bytes().to_vec());
        let body = body::read(request.into_body(), conn, max, patient).await?;
        conn.answer_begins();
        let ask = Ask { kind: Kind::Submission, strict, tenant, body };
        return elsewhere::ask_leader(node, &ask).await;
    }
    let tenant = node.door.identify(headers.get(TENANT).map(|v| v.as_bytes()))?;
    let standing = node.door.charge(&tenant, 1)?;
    let body = body::read(request.into_body(), conn, max, patient).await?;
    conn.answer_begins();
    record(node, &tenant, standing, strict, body).await
}

/// What the leader does with a submission that was sent to any node.
pub(super) async fn here(node: &Node, ask: &Ask) -> Result<Reply, Problem> {
    let tenant = node.door.identify(ask.tenant.as_deref())?;
    if ask.body.len() > node.config.body_max {
        return Err(Problem::from(Refusal::TooLarge));
    }
    let standing = node.door.charge(&tenant, 1)?;
    record(node, &tenant, standing, ask.strict, ask.body.clone()).await
}

async fn record(
    node: &Node,
    tenant: &TenantDoor,
    standing: Option<Standing>,
    strict: bool,
    body: Vec<u8>,
) -> Result<Reply, Problem> {
    let receiver = node.door.enter(tenant, body)?;
    // The sender goes away without a word only when the batch was dropped on the way to the log.
    let unknown = |_| Err(Box::new(Problem::from(Refusal::OutcomeUnknown).elsewhere()));
    let decided = receiver.await.unwrap_or_else(unknown);
    let mut reply = reply(settle(node, decided, strict).await.map_err(|problem| *problem)?);
    if let Some(standing) = standing {
        reply = limits(reply, tenant, standing);
    }
    Ok(reply)
}

/// `Prefer: handling=strict`, in any of the header's lines.
pub(super) fn strict(headers: &HeaderMap) -> bool {
    const PREFER: HeaderName = HeaderName::from_static("prefer");
    headers
        .get_all(PREFER)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .any(|line| line.split([',', ';']).any(|part| part.trim().eq_ignore_ascii_case("handling=strict")))
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
    fn strict_handling_is_found_among_other_preferences() {
        for (value, want) in [
            ("handling=strict", true),
            ("respond-async, handling=strict", true),
            ("Handling=Strict; foo", true),
            ("handling=lenient", false),
            ("handling=strictly", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("prefer", HeaderValue::from_static(value));
            assert_eq!(strict(&headers), want, "{value}");
        }
    }
}
