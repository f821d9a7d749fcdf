//! What two nodes are compared by: digests over ranges of the log, and over ranges of what came of it. Nodes of two regions
//! are compared by either region's log as it is shipped, and by first rows (`regions`).
//!
//! `flk divergence` asks two nodes for the digests of the same ranges, goes on with the first that differs, and
//! ends at one record or one leaf, which both then show. A range is read, not looked up: a comparison reads each log
//! about once. L1: one comparison at a time, and a bounded number of parts in each answer.

pub(crate) mod regions;

use super::cluster::authorise;
use super::refusal::{Problem, Refusal};
use super::reply::{JSON, Reply};
use crate::node::Node;
use engine::event::{Declaration, Event, KeyKind, Payload, Record};
use engine::log::{Digest, Lsn};
use hyper::header::HeaderMap;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Parts of one answer.
const PARTS_MAX: u64 = 256;
/// Leaves read from their files at once.
const LEAVES_AT_ONCE: u64 = 4096;

/// Comparisons under way.
static ONE: Semaphore = Semaphore::const_new(1);

/// Where the first four bytes of a key end.
const KEYS_END: u64 = 1 << 32;

/// What is compared.
#[derive(Clone, PartialEq, Eq)]
enum Of {
    /// The log, record by record.
    Records,
    /// The audit log, leaf by leaf.
    Leaves,
    /// A region's log as it is shipped, record by record.
    Shipped(String),
    /// First rows of all regions as far as these logs count, by the first four bytes of their keys.
    Rows(regions::Cut),
}

/// A question: these places, in so many parts.
struct Ask {
    of: Of,
    from: u64,
    to: u64,
    parts: u64,
}

impl Ask {
    fn parse(query: Option<&str>) -> Result<Option<Ask>, Problem> {
        let bad = |what: &str| Problem::from(Refusal::BadRequest).detail(what.to_owned());
        let (mut of, mut numbers, mut log, mut cut) = ("", [None; 3], None, None);
        for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| bad("a parameter has no value"))?;
            let number = || value.parse::<u64>().map_err(|_| bad("from, to and parts are numbers"));
            match name {
                "of" => of = value,
                "log" => {
                    log = Some(crate::config::region_name(value).map_err(|_| bad("log names a region"))?)
                }
                "cut" => cut = Some(regions::cut(value).ok_or_else(|| bad("cut is REGION:RECORD,..."))?),
                "from" => numbers[0] = Some(number()?),
                "to" => numbers[1] = Some(number()?),
                "parts" => numbers[2] = Some(number()?),
                _ => return Err(bad("the parameters are of, from, to, parts, log and cut")),
            }
        }
        let of = match (of, log, cut) {
            ("", None, None) => None,
            ("records", None, None) => Some(Of::Records),
            ("leaves", None, None) => Some(Of::Leaves),
            ("shipped", Some(region), None) => Some(Of::Shipped(region)),
            ("rows", None, Some(cut)) => Some(Of::Rows(cut)),
            _ => return Err(bad("of is records, leaves, shipped with log, or rows with cut")),
        };
        match (of, numbers) {
            (None, [None, None, None]) => Ok(None),
            (Some(of), [Some(from), Some(to), parts]) => {
                let parts = parts.unwrap_or(1);
                if from >= to || parts == 0 || parts > PARTS_MAX {
                    return Err(bad("from lies below to, and parts are 1 to 256"));
                }
                Ok(Some(Ask { of, from, to, parts: parts.min(to - from) }))
            }
            _ => Err(bad("of, from and to belong together")),
        }
    }

    /// Where the parts begin and end: equal on every node that is asked the same.
    fn edges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let at = |n: u64| {
            let share = u128::from(self.to - self.from) * u128::from(n) / u128::from(self.parts);
            self.from + u64::try_from(share).expect("a share is not larger than the whole")
        };
        (0..self.parts).map(move |n| (at(n), at(n + 1)))
    }
}

/// `GET /v1/cluster/compare`: how far this node is, and with parameters the digests of ranges; a range of one is shown.
pub(super) async fn answer(
    node: &Arc<Node>,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<Reply, Problem> {
    authorise(node, headers)?;
    let ask = Ask::parse(query)?;
    let mut document = standing(node);
    document["regions"] = regions::standing(node).await;
    if let Some(ask) = ask {
        let (begin, end) = match &ask.of {
            Of::Records => (1, records_end(node)),
            Of::Leaves => (0, node.fold.projector.written()),
            Of::Shipped(region) => (1, regions::end(node, region).unwrap_or(0)),
            Of::Rows(_) => (0, KEYS_END),
        };
        if ask.to > end || ask.from < begin {
            let detail = format!("there is nothing at {} and after", end);
            return Err(Problem::from(Refusal::NotFound).detail(detail));
        }
        let Ok(_one) = ONE.try_acquire() else {
            let detail = "another comparison is under way";
            return Err(Problem::from(Refusal::NotNow).detail(detail).retry_after(1));
        };
        let mut parts = Vec::new();
        let mut part = |(from, to), digest: Digest| {
            parts.push(json!({"from": from, "to": to, "digest": digest.to_string()}));
        };
        let single = ask.to - ask.from == 1;
        if let Of::Rows(cut) = &ask.of {
            // Rows are in no order of their keys: all parts come of one look at them.
            let (digests, shown) = regions::rows(node, &ask, cut).await?;
            ask.edges().zip(digests).for_each(|(edge, digest)| part(edge, digest));
            if single {
                document["shown"] = shown;
            }
        }
        for (from, to) in ask.edges() {
            let (digest, last) = match &ask.of {
                Of::Records => records(node, from, to).await?,
                Of::Leaves => leaves(node, from, to).await?,
                Of::Shipped(region) => regions::shipped(node, region, from, to).await?,
                Of::Rows(_) => break,
            };
            part((from, to), digest);
            if single {
                document["shown"] = last;
            }
        }
        document["parts"] = Value::Array(parts);
    }
    Ok(Reply::new(200, JSON, format!("{document}\n")))
}

/// One more than the last agreed record that this disk holds for good.
fn records_end(node: &Node) -> u64 {
    let log = node.log_metrics();
    log.committed.0.min(log.durable.0) + 1
}

fn standing(node: &Node) -> Value {
    let said = node.fold.core().ledger.attest();
    let digests = |list: &[(&'static str, Digest)]| {
        list.iter()
            .map(|(name, digest)| ((*name).to_owned(), json!(digest.to_string())))
            .collect::<Map<_, _>>()
    };
    let diverged = node.fold.diverged().map(|found| {
        json!({
            "attested_in": found.attested_in.map(|lsn| lsn.0),
            "after": found.divergence.upto.0,
            "projection": found.divergence.projection,
            "attested": found.divergence.expected.to_string(),
            "computed": found.divergence.found.to_string(),
            "projections": digests(&found.projections),
        })
    });
    json!({
        "node": node.config.node_id,
        "cluster": engine::codec::hex(&node.hello.cluster),
        "version": env!("CARGO_PKG_VERSION"),
        "records": records_end(node),
        "leaves": node.fold.projector.written(),
        "applied": said.upto.0,
        "ledger": said.ledger.to_string(),
        "agreed_after": node.metrics.attested_lsn.get(),
        "diverged": diverged,
    })
}

fn unreadable(error: &std::io::Error) -> Problem {
    tracing::error!(%error, "a range that is to be compared cannot be read");
    Problem::from(Refusal::Internal).detail("the range cannot be read: the node's log says why")
}

/// Digest over places, terms and bytes of records, and the last of them, shown.
async fn records(node: &Node, from: u64, to: u64) -> Result<(Digest, Value), Problem> {
    let (mut sum, mut last) = (Sha256::new(), Value::Null);
    let mut at = from;
    while at < to {
        let read = node.group.read_range(Lsn(at), Lsn(to)).await.map_err(|error| unreadable(&error))?;
        for (lsn, term, bytes) in &read {
            sum.update(lsn.0.to_le_bytes());
            sum.update(term.to_le_bytes());
            sum.update((bytes.len() as u64).to_le_bytes());
            sum.update(bytes);
        }
        let Some((lsn, term, bytes)) = read.last() else { return Err(Refusal::Internal.into()) };
        at = lsn.0 + 1;
        if at == to {
            last = show(*lsn, *term, bytes);
        }
    }
    Ok((Digest(sum.finalize().into()), last))
}

/// Digest over leaves, and the last of them.
async fn leaves(node: &Arc<Node>, from: u64, to: u64) -> Result<(Digest, Value), Problem> {
    let (mut sum, mut last) = (Sha256::new(), Value::Null);
    let mut at = from;
    while at < to {
        let next = to.min(at + LEAVES_AT_ONCE);
        let reader = node.clone();
        let read = tokio::task::spawn_blocking(move || reader.fold.projector.leaves(at, next));
        let read = read.await.map_err(|_| Refusal::Internal)?.map_err(|error| unreadable(&error))?;
        for leaf in &read {
            sum.update((leaf.len() as u64).to_le_bytes());
            sum.update(leaf);
        }
        at = next;
        if let Some(leaf) = read.last() {
            last = serde_json::from_slice(leaf).unwrap_or(Value::Null);
        }
    }
    Ok((Digest(sum.finalize().into()), last))
}

/// A record for people. No body, no secret: of each event its digest and what may be known.
fn show(lsn: Lsn, term: u64, bytes: &[u8]) -> Value {
    let record = match Record::decode(bytes) {
        Ok(record) => record,
        Err(error) => return json!({"lsn": lsn.0, "term": term, "undecodable": error.to_string()}),
    };
    let (kind, events) = match &record.payload {
        Payload::Blank => ("blank", Vec::new()),
        Payload::Membership(_) => ("membership", Vec::new()),
        Payload::Events(events) => ("events", events.iter().map(show_event).collect()),
    };
    json!({
        "lsn": lsn.0, "term": term, "leader": record.leader, "kind": kind, "bytes": bytes.len(),
        "sha256": Digest(Sha256::digest(bytes).into()).to_string(), "events": events,
    })
}

fn show_event(event: &Event) -> Value {
    let mut bytes = Vec::new();
    event.encode(&mut bytes);
    let mut out = match event {
        Event::Received(envelope) => json!({
            "event": "Received", "tenant": envelope.tenant.as_str(), "received_at_ms": envelope.received_at_ms,
            "body_bytes": envelope.body.len(), "commitment": envelope.commitment().to_string(),
        }),
        Event::TenantSet(tenant) => json!({
            "event": "TenantSet", "at_ms": tenant.at_ms, "tenant": tenant.id.as_str(), "active": tenant.active,
            "rate_per_s": tenant.rate_per_s, "burst": tenant.burst, "daily_quota": tenant.daily_quota,
        }),
        Event::KeySet(key) => json!({
            "event": "KeySet", "at_ms": key.at_ms, "tenant": key.tenant.as_str(), "key_id": key.key_id.as_str(),
            "kind": match key.kind {
                KeyKind::HmacSealed(_) => "hmac",
                KeyKind::Ed25519(_) => "ed25519",
                KeyKind::Unsigned => "none",
            },
            "not_before_ms": key.not_before_ms, "not_after_ms": key.not_after_ms,
        }),
        Event::PolicySet(set) => {
            json!({"event": "PolicySet", "at_ms": set.at_ms, "version": set.policy.version.as_str()})
        }
        Event::Attested(attested) => json!({
            "event": "Attested", "upto": attested.upto.0, "signatures": attested.signatures.len(),
            "outcomes": attested.outcomes.to_string(), "ledger": attested.ledger.to_string(),
        }),
        Event::Checkpoint(note) => json!({"event": "Checkpoint", "note_bytes": note.len()}),
        Event::Anchored(anchored) => json!({
            "event": "Anchored", "at_ms": anchored.at_ms, "kind": anchored.kind.name(), "target": anchored.target.as_str(),
            "note_bytes": anchored.note.len(), "evidence_bytes": anchored.evidence.len(),
        }),
        Event::Witnessed(witnessed) => json!({
            "event": "Witnessed", "at_ms": witnessed.at_ms, "old": witnessed.old, "note_bytes": witnessed.note.len(),
        }),
        Event::LogKeySet(set) => json!({
            "event": "LogKeySet", "at_ms": set.at_ms, "both_until_ms": set.both_until_ms, "keys": set.keys.as_str(),
        }),
        Event::Imported(imported) => json!({
            "event": "Imported", "origin": imported.origin.as_str(), "from": imported.from.lsn.0,
            "items": imported.items.len(),
        }),
        Event::Declared(declared) => json!({
            "event": "Declared", "at_ms": declared.at_ms, "region": declared.region.as_str(), "record": declared.at.lsn.0,
            "why": declared.why.as_str(), "what": match &declared.what {
                Declaration::Readmitted { .. } => "readmitted",
                Declaration::Restored { .. } => "restored",
                Declaration::Withheld { .. } => "withheld",
            },
        }),
        Event::Reconciled(step) => json!({
            "event": "Reconciled", "at_ms": step.at_ms, "case": step.case.to_string(), "step": step.step.name(),
            "by_person": step.by_person,
        }),
    };
    out["sha256"] = json!(Digest(Sha256::digest(&bytes).into()).to_string());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_range_in_order_and_are_as_equal_as_they_can_be() {
        for (from, to, parts) in [(1, 2, 1), (5, 14, 4), (0, 1000, 256), (u64::MAX - 9, u64::MAX, 3)] {
            let query = format!("of=leaves&from={from}&to={to}&parts={parts}");
            let ask = Ask::parse(Some(&query)).unwrap().unwrap();
            let edges: Vec<(u64, u64)> = ask.edges().collect();
            assert_eq!((edges[0].0, edges[edges.len() - 1].1), (from, to));
            assert!(edges.windows(2).all(|pair| pair[0].1 == pair[1].0));
            let sizes = edges.iter().map(|(from, to)| to - from);
            assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1, "{edges:?}");
        }
    }

    #[test]
    fn questions_that_make_no_sense_are_refused() {
        assert!(Ask::parse(None).unwrap().is_none());
        for query in [
            "of=records",
            "of=votes&from=1&to=2",
            "from=1&to=2",
            "of=records&from=2&to=2",
            "of=records&from=x&to=2",
            "of=records&from=1&to=9&parts=0",
            "of=records&from=1&to=9&parts=257",
            "of=records&from=1&to",
            "a=b",
            "of=shipped&from=1&to=2",
            "of=shipped&log=e%20u&from=1&to=2",
            "of=records&log=eu&from=1&to=2",
            "of=rows&from=1&to=2",
            "of=rows&cut=eu&from=1&to=2",
            "log=eu",
        ] {
            assert!(Ask::parse(Some(query)).is_err(), "{query}");
        }
    }
}
