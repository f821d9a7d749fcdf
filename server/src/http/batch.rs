//! `POST /v1/pcs/batch`: NDJSON in, one verdict line for each record out, in the same order.
//!
//! The batch is admitted as a whole or not at all; after that each line stands for itself, and its line says
//! so. Lines become durable together with whatever else is in flight, but not atomically.

use super::connection::Conn;
use super::refusal::{Problem, Refusal};
use super::reply::Reply;
use super::submit::{PREFERENCE_APPLIED, settle, wishes};
use super::{TENANT, body, elsewhere};
use crate::decision::Settled;
use crate::node::Node;
use crate::peers::forward::{Ask, Kind};
use crate::receipts::{self, PATIENCE};
use hyper::Request;
use hyper::body::Incoming;
use hyper::header;
use std::sync::Arc;
use tokio::time::Instant;

const NDJSON: &str = "application/x-ndjson";
/// Receipts in one answer: about three megabytes (L1).
const RECEIPTS_MAX: usize = 1024;
/// What the lines after those say.
const TOO_MANY: &str = "one answer carries at most 1024 receipts";

pub(super) async fn answer(
    node: &Arc<Node>,
    conn: &Conn,
    request: Request<Incoming>,
) -> Result<Reply, Problem> {
    let headers = request.headers();
    let tenant = headers.get(TENANT).map(|value| value.as_bytes().to_vec());
    if !node.has_peers() {
        // Nobody reads a batch for a tenant that is not there.
        node.door.identify(tenant.as_deref())?;
    }
    let wishes = wishes(headers, request.uri().query());
    let patient = headers.contains_key(header::EXPECT);
    let body = body::read(request.into_body(), conn, node.config.batch_max_bytes, patient).await?;
    conn.answer_begins();
    let ask = Ask { kind: Kind::Batch, wishes, tenant, body };
    if node.has_peers() { elsewhere::ask_leader(node, &ask).await } else { here(node, &ask).await }
}

/// What the leader does with a batch that was sent to any node.
pub(super) async fn here(node: &Arc<Node>, ask: &Ask) -> Result<Reply, Problem> {
    let tenant = node.door.identify(ask.tenant.as_deref())?;
    let bodies = split(&ask.body, node.config.batch_max_records, node.config.body_max)?;
    node.door.charge(&tenant, bodies.len() as u64)?;
    let lines = node.door.enter_all(&tenant, bodies, ask.wishes.receipt)?;
    let decided = lines.wait().await;
    let mut out = Vec::with_capacity(decided.len() * 512);
    let end = Instant::now() + PATIENCE;
    let (mut proofs, mut all) = (0, true);
    for line in decided {
        let mut line = settle(node, line, ask.wishes.strict).await;
        if let (Ok(settled), true) = (&mut line, ask.wishes.receipt) {
            proofs += 1;
            if proofs > RECEIPTS_MAX {
                receipts::decline(node, settled, TOO_MANY);
                all = false;
            } else {
                all &= receipts::attach(node, settled, end).await;
            }
        }
        match line {
            // The whole batch is made again elsewhere: lines that were recorded give their first answers.
            Err(problem) if problem.elsewhere && node.has_peers() => return Err(*problem),
            line => write(&mut out, line),
        }
    }
    let reply = Reply::new(200, NDJSON, out);
    Ok(if all && proofs > 0 { reply.with(PREFERENCE_APPLIED, "receipt") } else { reply })
}

/// Splits the lines; blank ones are passed over, as NDJSON readers do.
fn split(text: &[u8], max_records: usize, max_bytes: usize) -> Result<Vec<Vec<u8>>, Problem> {
    let mut bodies = Vec::new();
    for (nth, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        if bodies.len() == max_records {
            let detail = format!("at most {max_records} records are taken in one batch");
            return Err(Problem::from(Refusal::BadRequest).detail(detail));
        }
        if line.len() > max_bytes {
            let detail = format!("line {} is longer than {max_bytes} bytes; nothing was recorded", nth + 1);
            return Err(Problem::from(Refusal::TooLarge).detail(detail));
        }
        bodies.push(line.to_vec());
    }
    if bodies.is_empty() {
        return Err(Problem::from(Refusal::BadRequest).detail("the batch holds no record"));
    }
    Ok(bodies)
}

fn write(out: &mut Vec<u8>, settled: Result<Settled, Box<Problem>>) {
    match settled {
        Ok(decision) => {
            out.extend_from_slice(format!("{{\"status\":{}", decision.status).as_bytes());
            if let Some(replayed) = decision.replay.header() {
                out.extend_from_slice(format!(",\"replayed\":\"{replayed}\"").as_bytes());
            }
            out.extend_from_slice(b",\"answer\":");
            out.extend_from_slice(decision.body.trim_ascii_end());
        }
        Err(problem) => {
            out.extend_from_slice(
                format!("{{\"status\":{},\"problem\":", problem.refusal.status()).as_bytes(),
            );
            out.extend_from_slice(problem.body().trim_ascii_end());
        }
    }
    out.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::{Replay, Stands};

    #[test]
    fn lines_are_split_and_bounded() {
        let bodies = split(b"{\"a\":1}\r\n\n  {\"b\":2}\n{}", 3, 100).unwrap();
        assert_eq!(bodies, [b"{\"a\":1}".to_vec(), b"{\"b\":2}".to_vec(), b"{}".to_vec()]);
        assert_eq!(split(b"{}\n{}\n", 1, 100).unwrap_err().refusal, Refusal::BadRequest);
        assert_eq!(split(b"\n \n", 1, 100).unwrap_err().refusal, Refusal::BadRequest);
        assert_eq!(split(b"{}\n{\"long\":1}", 9, 5).unwrap_err().refusal, Refusal::TooLarge);
    }

    #[test]
    fn each_line_is_one_json_object() {
        let mut out = Vec::new();
        let settled = |replay| {
            let stands = Stands::Now { round: None, nth: 0, seq: 0 };
            Ok(Settled { status: 202, body: "{\"accepted\":false}\n".into(), replay, stands })
        };
        write(&mut out, settled(Replay::First));
        write(&mut out, settled(Replay::Different(1)));
        write(&mut out, Err(Refusal::InvalidJson.into()));
        let lines: Vec<serde_json::Value> = out
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| serde_json::from_slice(l).unwrap())
            .collect();
        assert_eq!(lines[0]["answer"]["accepted"], false);
        assert_eq!(lines[1]["replayed"], "conflict");
        assert_eq!(lines[2]["status"], 400);
        assert_eq!(lines[2]["problem"]["error"], "Invalid JSON");
    }
}
