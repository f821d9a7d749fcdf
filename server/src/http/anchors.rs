//! What operators ask about witnesses and other targets: `/v1/anchors`. The leader works, so the leader answers.

use super::cluster::{Change, ask, authorise, pass_on};
use super::connection::Conn;
use super::elsewhere;
use super::refusal::Problem;
use super::reply::{JSON, Reply};
use crate::anchor::Act;
use crate::node::Node;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use serde_json::json;
use std::sync::Arc;

/// `GET /v1/anchors`.
pub(super) async fn show(node: &Arc<Node>, headers: &HeaderMap) -> Result<Reply, Problem> {
    authorise(node, headers)?;
    elsewhere::ask_leader(node, &ask(b"{\"do\":\"anchors\"}".to_vec())).await
}

/// `POST /v1/anchors/change`.
pub(super) async fn change(
    node: &Arc<Node>,
    conn: &Conn,
    request: Request<Incoming>,
) -> Result<Reply, Problem> {
    pass_on(node, conn, request, |change| match change {
        Change::Anchors {} | Change::Retry { .. } | Change::Drop { .. } => Ok(()),
        _ => Err("do is anchors, retry or drop"),
    })
    .await
}

/// What the leader does and says.
pub(super) fn here(node: &Node, act: Option<(Act, Option<String>)>) -> Reply {
    let acted = act.map(|(act, target)| node.anchors.act(act, target.as_deref()));
    let newest = node.fold.projector.tiles().published().map_or(0, |published| published.size);
    let mut document = node.anchors.show(newest, node.clock.wall_ms());
    document["node"] = json!(node.config.node_id);
    if let Some(acted) = acted {
        document["acted"] = json!(acted);
    }
    Reply::new(200, JSON, format!("{document}\n"))
}
