//! What operators ask about the group, and how they change it.
//!
//! Every request needs the administrator's token. The node that is asked checks it and passes the request
//! on to the leader; what comes from another node was checked there.

use super::body;
use super::connection::Conn;
use super::elsewhere;
use super::ops::same;
use super::refusal::{Problem, Refusal};
use super::reply::{JSON, Reply};
use crate::anchor::Act;
use crate::node::Node;
use crate::peers::forward::{Ask, Kind, Wishes};
use engine::event::Step;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use raft::{Member, MembersError, Peer, Unreached};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Largest request, bytes.
const BODY_MAX: usize = 4096;
/// How long a new node may take to answer a greeting; less than a request that was passed on may take.
const GREETING_PATIENCE: Duration = Duration::from_secs(2);
/// How long a node that is added may take until it listens.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// Between two greetings.
const PAUSE: Duration = Duration::from_millis(50);
/// How long another node may take to take over.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(5);

/// A change, as it is asked for and as it is passed on.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Change {
    /// Nothing: how does the group stand?
    Show {},
    /// Take a node in as a learner, or correct its address.
    Add { node: u64, address: String },
    /// Give a learner a vote.
    Promote { node: u64 },
    /// Take a node out.
    Remove { node: u64 },
    /// Let another node lead.
    Transfer { to: Option<u64> },
    /// How do the targets of anchors stand?
    Anchors {},
    /// Try what was given up again, for one target or for all.
    Retry { target: Option<String> },
    /// Give it up for good.
    Drop { target: Option<String> },
    /// Cosign a checkpoint of another log.
    Cosign { request: String },
    /// Where do regions differ, and what was decided?
    Cases {},
    /// One of these cases.
    Case { case: String },
    /// It may be done, or is known.
    Approve { case: String, reason: String },
    /// It is not to be done.
    Refuse { case: String, reason: String },
    /// How do the log's own keys stand?
    #[serde(rename = "log-keys")]
    LogKeys {},
    /// Go over to a new one; for so many seconds the one before signs, too.
    #[serde(rename = "rotate-log-key")]
    RotateLogKey { both_s: u64 },
    /// Take another region's log in again, which contradicted itself.
    #[serde(rename = "readmit-region")]
    ReadmitRegion { region: String, why: String },
}

/// Bearer token of the administrator.
pub(super) fn authorise(node: &Node, headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .unwrap_or_default();
    match &node.config.admin_token {
        Some(token) if same(token.bytes(), given) => Ok(()),
        _ => {
            let mut problem = Problem::from(Refusal::Unauthorized);
            problem.challenge = Some("Bearer realm=\"admin\"");
            Err(problem)
        }
    }
}

/// `GET /v1/cluster`: the group as its leader sees it, and the node that was asked.
pub(super) async fn show(node: &Arc<Node>, headers: &HeaderMap) -> Result<Reply, Problem> {
    authorise(node, headers)?;
    let ask = ask(b"{\"do\":\"show\"}".to_vec());
    let told = elsewhere::ask_leader(node, &ask).await.ok().filter(|reply| reply.status == 200);
    // Without a leader that answers, what this node knows is better than nothing.
    let group = told.and_then(|reply| serde_json::from_slice(&reply.body).ok());
    let group = group.unwrap_or_else(|| group_of(node));
    let document = json!({ "asked": crate::checkup::own(node), "group": group });
    Ok(Reply::new(200, JSON, format!("{document}\n")))
}

/// `GET /v1/cluster/checkup`: every node of the group as it sees itself, asked by this one.
pub(super) async fn checkup(node: &Arc<Node>, headers: &HeaderMap) -> Result<Reply, Problem> {
    authorise(node, headers)?;
    Ok(Reply::new(200, JSON, format!("{}\n", crate::checkup::all(node).await)))
}

/// `POST /v1/cluster`: one change.
pub(super) async fn change(
    node: &Arc<Node>,
    conn: &Conn,
    request: Request<Incoming>,
) -> Result<Reply, Problem> {
    pass_on(node, conn, request, |_| Ok(())).await
}

/// Passes the administrator's request on to the leader. What cannot be read, or is not `meant` for this route, is refused here.
pub(super) async fn pass_on(
    node: &Arc<Node>,
    conn: &Conn,
    request: Request<Incoming>,
    meant: fn(&Change) -> Result<(), &'static str>,
) -> Result<Reply, Problem> {
    authorise(node, request.headers())?;
    let body = body::read(request.into_body(), conn, BODY_MAX, false).await?;
    conn.answer_begins();
    meant(&read(&body)?).map_err(|why| Problem::from(Refusal::BadRequest).detail(why))?;
    elsewhere::ask_leader(node, &ask(body)).await
}

/// `POST /v1/cluster/drain`: this node, whatever it is, leads no more until it is started again.
pub(super) async fn drain(node: &Arc<Node>, headers: &HeaderMap) -> Result<Reply, Problem> {
    authorise(node, headers)?;
    if node.group.members().iter().filter(|member| member.voter).count() > 1 {
        node.group.stand_back();
        node.group.hand_over(None, HAND_OVER_PATIENCE).await.map_err(refused)?;
    }
    Ok(Reply::new(200, JSON, format!("{}\n", crate::checkup::own(node))))
}

pub(super) fn ask(body: Vec<u8>) -> Ask {
    Ask { kind: Kind::Administration, wishes: Wishes::default(), tenant: None, body }
}

fn read(body: &[u8]) -> Result<Change, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::from(Refusal::BadRequest).detail(error.to_string()))
}

/// What the leader does.
pub(super) async fn here(node: &Arc<Node>, ask: &Ask) -> Result<Reply, Problem> {
    match read(&ask.body)? {
        Change::Show {} => {}
        Change::Anchors {} => return Ok(super::anchors::here(node, None)),
        Change::Cosign { request } => return super::cosign::here(node, &request).await,
        Change::ReadmitRegion { region, why } => super::regions::readmit(node, &region, why).await?,
        Change::Cases {} => return Ok(super::reconcile::all(node)),
        Change::Case { case } => return super::reconcile::one(node, &case).await,
        Change::Approve { case, reason } => {
            return super::reconcile::decide(node, &case, Step::Approved, reason).await;
        }
        Change::Refuse { case, reason } => {
            return super::reconcile::decide(node, &case, Step::Refused, reason).await;
        }
        Change::LogKeys {} => return Ok(super::logkeys::here(node)),
        Change::RotateLogKey { both_s } => return super::logkeys::rotate(node, both_s).await,
        Change::Retry { target } => return Ok(super::anchors::here(node, Some((Act::Retry, target)))),
        Change::Drop { target } => return Ok(super::anchors::here(node, Some((Act::Drop, target)))),
        Change::Add { node: id, address } => add(node, id, address).await?,
        Change::Promote { node: id } => node.group.promote(id).await.map_err(refused)?,
        Change::Remove { node: id } => node.group.remove(id).await.map_err(refused)?,
        Change::Transfer { to } => node.group.hand_over(to, HAND_OVER_PATIENCE).await.map_err(refused)?,
    }
    Ok(Reply::new(200, JSON, format!("{}\n", group_of(node))))
}

/// A node is taken in only if it is there, answers, and is what it says.
async fn add(node: &Arc<Node>, id: u64, address: String) -> Result<(), Problem> {
    let Some(peers) = &node.peers else {
        return Err(
            Problem::from(Refusal::BadRequest).detail("this node listens to no peers: set cluster.listen")
        );
    };
    if id == node.config.node_id {
        return Err(Problem::from(Refusal::BadRequest).detail("this node is in the group"));
    }
    let peer = Peer { node: id, address: address.clone(), incarnation: 0 };
    // It may have been started a moment ago.
    let end = Instant::now() + START_PATIENCE;
    let hello = loop {
        match peers.wire.greet(&node.hello, &peer, GREETING_PATIENCE).await {
            Ok(hello) => break hello,
            Err(_) if Instant::now() < end => tokio::time::sleep(PAUSE).await,
            // It listens, and is still fetching its files.
            Err(error @ Unreached::NoAnswer(_)) => {
                return Err(Problem::from(Refusal::NotNow).detail(error.to_string()).retry_after(1));
            }
            Err(error) => return Err(Problem::from(Refusal::BadRequest).detail(error.to_string())),
        }
    };
    let member = Member { address, incarnation: hello.incarnation };
    node.group.add(id, member).await.map_err(refused)
}

fn refused(error: MembersError) -> Problem {
    match error {
        MembersError::NotLeader { .. } => {
            Problem::from(Refusal::LogUnavailable).detail("this node does not lead").elsewhere()
        }
        MembersError::Stopped => Problem::from(Refusal::LogUnavailable).detail(error.to_string()),
        MembersError::Unknown(_) => Problem::from(Refusal::NotFound).detail(error.to_string()),
        MembersError::Behind { .. } => {
            Problem::from(Refusal::NotNow).detail(error.to_string()).retry_after(1)
        }
        MembersError::Refused(_) => Problem::from(Refusal::NotNow).detail(error.to_string()),
    }
}

/// The group as this node sees it.
fn group_of(node: &Node) -> Value {
    let log = node.log_metrics();
    let members: Vec<Value> = node
        .group
        .members()
        .into_iter()
        .map(|member| {
            let leads = log.leader == Some(member.node);
            let matched = member.matched.map(|lsn| lsn.0);
            json!({
                "node": member.node,
                "address": member.member.address,
                "incarnation": format!("{:016x}", member.member.incarnation),
                "role": match (leads, member.voter) { (true, _) => "leader", (_, true) => "voter", _ => "learner" },
                "matched": matched,
                "lag": matched.map(|matched| log.last.0.saturating_sub(matched)),
                "silent_ms": member.silent.map(|silent| silent.as_millis() as u64),
            })
        })
        .collect();
    json!({
        "seen_by": log.node,
        "leader": log.leader,
        "alone": log.alone,
        "term": log.term,
        "last": log.last.0,
        "committed": log.committed.0,
        "members": members,
        "regions": node.regions.as_ref().map(|regions| regions.show(node)),
    })
}
