//! The first submission of a name: read back from the log, and the answer it got made again from it, byte for byte. It
//! may stand in another region's log, of which ours holds a copy.

use crate::decision::make;
use crate::http::refusal::{Problem, Refusal};
use crate::node::Node;
use engine::event::{Envelope, Event, Imported, Item, Payload, Position, Record, positioned};
use engine::ledger::First;
use engine::summary::{Regime, Signals, parse, verdict};
use serde_json::json;
use std::io;

impl Node {
    /// The answer the first submission of an id got: kept, or made again from the log, byte for byte.
    ///
    /// # Errors
    /// 421 when its region alone holds it, 500 when the record cannot be read, or does not say what the index says of it.
    pub async fn first_answer(&self, first: &First) -> Result<(u16, bytes::Bytes), Box<Problem>> {
        let place = (first.origin(), first.lsn, first.nth);
        if let Some(kept) = self.answers.get(place) {
            return Ok(kept);
        }
        if first.origin() != 0 && first.is_withheld() {
            return Err(Box::new(held_elsewhere(self, first)));
        }
        self.metrics.answers_reread.inc();
        let envelope = self.envelope(first).await?;
        let policy = self.fold.core().ledger.rule_of(first).map(|rule| rule.policy.clone());
        let policy = policy.ok_or(Refusal::Internal)?;
        let pcs = parse(&envelope.body).map_err(|_| Refusal::Internal)?;
        let id = verdict::structure(&pcs).map_err(|_| Refusal::Internal)?;
        let verdict = verdict::numbers(&pcs, &policy);
        if (verdict.accepted, verdict.escalated) != (first.accepted(), first.escalated()) {
            tracing::error!(
                lsn = first.lsn.0,
                nth = first.nth,
                "I3: a verdict made again differs from the first"
            );
            return Err(Refusal::Internal.into());
        }
        let signals = Signals {
            d_hat: pcs.d_hat,
            coh_star: pcs.coh_star,
            r: pcs.r,
            budget: pcs.budget,
            regime: Regime::of(pcs.d_hat, pcs.coh_star, &policy),
        };
        let (status, body) = make(&verdict, Some((id, signals)), &policy, first.lsn, first.seq);
        self.answers.put(place, status, body.clone());
        Ok((status, body))
    }

    /// The submission a first row speaks about, read from the log.
    ///
    /// # Errors
    /// 500 when the log does not hold it there.
    pub async fn envelope(&self, first: &First) -> Result<Envelope, Box<Problem>> {
        if first.origin() != 0 {
            return elsewhere(self, first).await.map_err(|error| {
                tracing::error!(%error, lsn = first.lsn.0, "a record of another region cannot be read back");
                Box::from(Refusal::Internal)
            });
        }
        let record = self.group.read(first.lsn).await.map_err(|error| {
            tracing::error!(%error, lsn = first.lsn.0, "a record cannot be read back");
            match raft::Rot::of(&error) {
                // It is being repaired, if there are other nodes.
                Some(_) => {
                    let detail = "the record stands in a damaged part of this node's log";
                    Box::new(Problem::from(Refusal::LogUnavailable).detail(detail).retry_after(10))
                }
                None => Box::from(Refusal::Internal),
            }
        })?;
        let Payload::Events(events) = record.payload else { return Err(Refusal::Internal.into()) };
        match events.into_iter().nth(first.nth as usize) {
            Some(Event::Received(envelope)) => Ok(envelope),
            _ => Err(Refusal::Internal.into()),
        }
    }
}

/// What is said of a submission that stays in another region.
fn held_elsewhere(node: &Node, first: &First) -> Problem {
    let region = node.fold.core().ledger.region_of(first).unwrap_or_default().to_owned();
    let detail = format!("its first submission is held by region {region} alone: ask there");
    Problem::from(Refusal::HeldElsewhere)
        .detail(detail)
        .member("region", json!(region))
        .member("lsn", json!(first.lsn.0))
        .member("seq", json!(first.seq))
        .member("accepted", json!(first.accepted()))
        .member("escalated", json!(first.escalated()))
}

/// The submission a first row of another region speaks about. The ledger knows a record of ours shortly before the one that
/// holds it; from there on the log is read.
///
/// # Errors
/// When the log cannot be read, or does not hold it.
async fn elsewhere(node: &Node, first: &First) -> io::Result<Envelope> {
    let place = Position { lsn: first.lsn, nth: first.nth };
    let found = {
        let core = node.fold.core();
        let region = core.ledger.region_of(first).map(str::to_owned);
        let at = region.as_deref().and_then(|region| core.ledger.imported_at(region, place));
        // The record that is being folded just now has not been applied, and its rows can be seen.
        region.zip(at).map(|(region, at)| (region, at, core.ledger.applied().next()))
    };
    let missing = || io::Error::new(io::ErrorKind::NotFound, "the log does not say where it stands");
    let (region, mut at, end) = found.ok_or_else(missing)?;
    // Mostly it is that very record; only where places have been thinned out it is one behind it.
    let mut to = at.next();
    while at <= end {
        let records = node.group.read_range(at, to).await?;
        if records.is_empty() {
            break;
        }
        for (lsn, _, bytes) in records {
            let record = Record::decode(&bytes)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            if let Some(envelope) = in_record(record, &region, place) {
                return Ok(envelope);
            }
            at = lsn.next();
        }
        to = end.next();
    }
    Err(missing())
}

fn in_record(record: Record, region: &str, place: Position) -> Option<Envelope> {
    let Payload::Events(events) = record.payload else { return None };
    events.into_iter().find_map(|event| match event {
        Event::Imported(imported) if imported.origin == region => in_range(&imported, place),
        _ => None,
    })
}

fn in_range(imported: &Imported, place: Position) -> Option<Envelope> {
    let mut items = positioned(imported.from, &imported.items);
    match items.find(|(at, item)| *at == place && **item != Item::End)?.1 {
        Item::Event { event: Event::Received(envelope), .. } => Some(envelope.clone()),
        _ => None,
    }
}
