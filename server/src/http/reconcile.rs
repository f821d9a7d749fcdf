//! Where regions differ, and what is decided about it: `/v1/reconcile`. The leader answers and decides.

use super::cluster::{Change, ask, authorise, pass_on};
use super::compare::regions::show_first;
use super::connection::Conn;
use super::elsewhere;
use super::refusal::{Problem, Refusal};
use super::reply::{JSON, Reply};
use crate::node::Node;
use crate::ship::reconcile;
use engine::event::{CaseId, REASON_MAX, Remedy, Step};
use engine::ledger::{Case, CaseState, First};
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a decision that is agreed may take until it is folded.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);
/// First rows shown of one name.
const SHOWN_MAX: usize = 16;

/// `GET /v1/reconcile`: all cases that are remembered.
pub(super) async fn list(node: &Arc<Node>, headers: &HeaderMap) -> Result<Reply, Problem> {
    authorise(node, headers)?;
    elsewhere::ask_leader(node, &ask(b"{\"do\":\"cases\"}".to_vec())).await
}

/// `GET /v1/reconcile/{case}`: one, with what both sides hold.
pub(super) async fn show(node: &Arc<Node>, headers: &HeaderMap, case: &str) -> Result<Reply, Problem> {
    authorise(node, headers)?;
    id(case)?;
    elsewhere::ask_leader(node, &ask(json!({"do": "case", "case": case}).to_string().into_bytes())).await
}

/// `POST /v1/reconcile/change`.
pub(super) async fn change(
    node: &Arc<Node>,
    conn: &Conn,
    request: Request<Incoming>,
) -> Result<Reply, Problem> {
    pass_on(node, conn, request, |change| match change {
        Change::Approve { .. } | Change::Refuse { .. } => Ok(()),
        _ => Err("do is approve or refuse"),
    })
    .await
}

fn id(text: &str) -> Result<CaseId, Problem> {
    let wrong = || Problem::from(Refusal::BadRequest).detail("a case is named by sixteen hex digits");
    CaseId::parse(text).ok_or_else(wrong)
}

fn row(region: &str, case: &Case) -> Value {
    json!({
        "case": case.id.to_string(), "region": region, "remedy": case.remedy.name(),
        "score": reconcile::decimal(case.score), "subject": case.subject, "reason": case.reason,
        "state": case.state.name(), "waits": case.waits(), "proposed_ms": case.proposed_ms,
        "decided_ms": Some(case.decided_ms).filter(|ms| *ms > 0),
        "by": (case.state != CaseState::Open).then_some(if case.by_person { "administrator" } else { "rule" }),
        "decision": Some(&case.decision).filter(|decision| !decision.is_empty()),
    })
}

/// Every case, of this log and of those of other regions as far as they are here.
fn rows(node: &Node) -> Vec<Value> {
    let core = node.fold.core();
    let ledger = &core.ledger;
    let mut rows: Vec<Value> = ledger.cases().map(|case| row(ledger.region(), case)).collect();
    for origin in ledger.origins() {
        rows.extend(origin.cases().map(|case| row(origin.region(), case)));
    }
    rows
}

fn document(node: &Node) -> Value {
    let above = node.regions.as_ref().map(|regions| reconcile::decimal(regions.above()));
    let (own, settled) = {
        let core = node.fold.core();
        let others = core.ledger.origins().map(engine::ledger::Origin::settled_conflicts);
        (core.ledger.region().to_owned(), core.ledger.settled_conflicts() + others.sum::<u64>())
    };
    json!({"own": own, "above": above, "settled": settled, "cases": rows(node)})
}

/// What the leader says of all.
pub(super) fn all(node: &Node) -> Reply {
    Reply::new(200, JSON, format!("{}\n", document(node)))
}

/// What the leader says of one.
pub(super) async fn one(node: &Arc<Node>, case: &str) -> Result<Reply, Problem> {
    let name = id(case)?.to_string();
    let found = rows(node).into_iter().find(|row| row["case"] == name);
    let mut found = found.ok_or_else(|| Problem::from(Refusal::NotFound).detail("there is no such case"))?;
    if found["remedy"] == Remedy::ChooseFirst.name() {
        found["firsts"] = firsts(node, found["subject"].as_str().unwrap_or_default()).await;
    }
    Ok(Reply::new(200, JSON, format!("{found}\n")))
}

/// All firsts of the name that a conflict is about.
async fn firsts(node: &Arc<Node>, subject: &str) -> Value {
    let key = subject.split(' ').nth(1).and_then(engine::codec::unhex::<32>);
    let Some(key) = key else { return Value::Null };
    let found: Vec<(First, String)> = {
        let core = node.fold.core();
        let region = |first: &First| core.ledger.region_of(first).unwrap_or(core.ledger.region()).to_owned();
        let firsts = core.ledger.firsts_of(&key).unwrap_or_default();
        firsts.into_iter().take(SHOWN_MAX).map(|first| (first, region(&first))).collect()
    };
    let mut shown = Vec::new();
    for (first, region) in &found {
        shown.push(show_first(node, first, region).await);
    }
    Value::Array(shown)
}

/// The leader decides as it was told.
pub(super) async fn decide(
    node: &Arc<Node>,
    case: &str,
    step: Step,
    reason: String,
) -> Result<Reply, Problem> {
    let id = id(case)?;
    let reason = reason.trim().to_owned();
    if reason.is_empty() || reason.len() > REASON_MAX || reason.chars().any(char::is_control) {
        let detail = format!("a decision has a reason: 1 to {REASON_MAX} bytes on one line");
        return Err(Problem::from(Refusal::BadRequest).detail(detail));
    }
    let state = || node.fold.core().ledger.cases().find(|case| case.id == id).map(|case| case.state);
    match state() {
        Some(CaseState::Open) => {}
        Some(state) => {
            return Err(Problem::from(Refusal::NotNow).detail(format!("it is {} already", state.name())));
        }
        None => {
            let elsewhere = {
                let core = node.fold.core();
                let mut origins = core.ledger.origins();
                let region = origins.find(|origin| origin.cases().any(|case| case.id == id));
                region.map(|origin| origin.region().to_owned())
            };
            return Err(match elsewhere {
                Some(region) => Problem::from(Refusal::NotNow)
                    .detail(format!("it stands in the log of region {region}: decide it there")),
                None => Problem::from(Refusal::NotFound).detail("there is no such case"),
            });
        }
    }
    let wanted = if step == Step::Approved { CaseState::Approved } else { CaseState::Refused };
    reconcile::log(node, vec![(id, step, reason)], true).await.map_err(|error| {
        Problem::from(Refusal::LogUnavailable).detail(format!("it is not agreed: {error}")).retry_after(1)
    })?;
    let end = Instant::now() + PATIENCE;
    while state() == Some(CaseState::Open) && Instant::now() < end {
        tokio::time::sleep(PAUSE).await;
    }
    match state() {
        // What was approved may have been done since.
        Some(CaseState::Effected) => {}
        Some(state) if state == wanted => {}
        _ => return Err(Problem::from(Refusal::NotNow).detail("it was decided otherwise at the same time")),
    }
    if let Some(regions) = &node.regions
        && wanted == CaseState::Approved
    {
        regions.look_again();
    }
    one(node, case).await
}
