//! What other logs ask of us as their witness: `/witness/add-checkpoint` and our key.

use super::connection::Conn;
use super::refusal::{Problem, Refusal};
use super::reply::{Reply, SIZE, TEXT};
use super::{body, cluster, elsewhere};
use crate::cosign::{Answer, REQUEST_MAX};
use crate::node::Node;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Request;
use hyper::body::Incoming;
use serde_json::json;
use std::sync::Arc;

/// `GET /witness/vkey`.
pub(super) fn key(node: &Node) -> Result<Reply, Problem> {
    let cosigning = node.cosigning.as_ref().ok_or(Refusal::NotFound)?;
    Ok(Reply::new(200, TEXT, format!("{}\n", cosigning.vkey())))
}

/// `POST /witness/add-checkpoint`. The leader's log decides, so the leader answers.
pub(super) async fn add(node: &Arc<Node>, conn: &Conn, request: Request<Incoming>) -> Result<Reply, Problem> {
    if node.cosigning.is_none() {
        return Err(Refusal::NotFound.into());
    }
    let request = body::read(request.into_body(), conn, REQUEST_MAX, false).await?;
    conn.answer_begins();
    let ask = json!({"do": "cosign", "request": STANDARD.encode(request)});
    elsewhere::ask_leader(node, &cluster::ask(ask.to_string().into_bytes())).await
}

/// What the leader says.
pub(super) async fn here(node: &Node, request: &str) -> Result<Reply, Problem> {
    let cosigning = node.cosigning.as_ref().ok_or(Refusal::NotFound)?;
    let request = STANDARD.decode(request).map_err(|_| Refusal::BadRequest)?;
    match cosigning.answer(node, &request).await {
        Answer::Cosigned(line) => Ok(Reply::new(200, TEXT, line)),
        Answer::Conflict(size) => Ok(Reply::new(409, SIZE, format!("{size}\n"))),
        Answer::Malformed(why) => Err(Problem::from(Refusal::BadRequest).detail(why)),
        Answer::Unknown => {
            Err(Problem::from(Refusal::NotFound).detail("this witness does not watch that log"))
        }
        Answer::Unsigned => Err(Problem::from(Refusal::NotSignedByLog)),
        Answer::Inconsistent => Err(Problem::from(Refusal::Inconsistent)),
        Answer::Later(why) => Err(Problem::from(Refusal::LogUnavailable).detail(why).retry_after(1)),
    }
}
