//! What a region says of all logs it knows, and what another one makes of it.
//!
//! ```text
//! flk standing 1
//! region NAME
//! time MS
//! merged DIGEST
//! log REGION RECORD OUTCOMES LEDGER SUM        a line for each log it knows, its own too, in the order of their names
//!
//! — <key name> <base64(key id 4 || signature)>
//! ```
//! It lies at `standing`, signed as a bill is, and another takes its place every few seconds: who reads it knows that the
//! region lives. RECORD is the last one of that log which is there whole, OUTCOMES and LEDGER are the digests after it, SUM what the
//! log adds up to without its places.
//!
//! Two regions never need to stand at the same place: each keeps the digests after the last few thousand records of every log, so
//! that what one said of a log is compared with what the other computed after the same record (G2). This finds what shipping
//! cannot: a log that was rewritten or rolled back after it was shipped, and a region that tells two others two histories.

use super::bill::{open, seal};
use super::ports::Place as _;
use super::{Peer, Regions, TICK, Told};
use crate::fold::Known;
use crate::node::Node;
use bytes::Bytes;
use engine::checkpoint::{Signer, Verifier};
use engine::ledger::Ledger;
use engine::limits::ORIGINS_MAX;
use engine::log::{Digest, Lsn};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Longest standing, bytes.
const STANDING_MAX: usize = 64 << 10;
/// Its name in the place.
const NAME: &str = "standing";
/// It is said again after this time, and after the shorter one if there is anything new.
const SAY_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// Between two looks at what another region says.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One log, as a region knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Whose log.
    pub region: String,
    /// Its last record there.
    pub record: Lsn,
    /// Chain over all outcomes up to there.
    pub outcomes: Digest,
    /// Over all projections after it.
    pub ledger: Digest,
    /// What the log adds up to.
    pub sum: Digest,
}

/// What a region says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which.
    pub region: String,
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Over all logs.
    pub merged: Digest,
    /// The logs.
    pub logs: Vec<Line>,
}

impl Standing {
    fn of(region: &str, at_ms: u64, known: &Known) -> Standing {
        let line = |log: &crate::fold::KnownLog| {
            let (outcomes, ledger) = log.computed?;
            Some(Line { region: log.region.clone(), record: log.records, outcomes, ledger, sum: log.digest })
        };
        let logs = known.logs.iter().filter_map(line).collect();
        Standing { region: region.to_owned(), at_ms, merged: known.merged, logs }
    }

    fn text(&self) -> String {
        let Standing { region, at_ms, merged, logs } = self;
        let line = |log: &Line| {
            let Line { region, record, outcomes, ledger, sum } = log;
            format!("log {region} {record} {outcomes} {ledger} {sum}\n")
        };
        let logs: String = logs.iter().map(line).collect();
        format!("flk standing 1\nregion {region}\ntime {at_ms}\nmerged {merged}\n{logs}")
    }

    /// The note, signed by all of these.
    pub fn sign(&self, signers: &[&Signer]) -> Vec<u8> {
        seal(&self.text(), signers)
    }

    /// Reads one that this key signed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(note: &[u8], key: &Verifier) -> Result<Standing, &'static str> {
        let text = open(note, STANDING_MAX, key)?;
        let standing = Standing::parse(&text).ok_or("it is no standing")?;
        if standing.text() == text { Ok(standing) } else { Err("it is not in its one form") }
    }

    fn parse(text: &str) -> Option<Standing> {
        let mut lines = text.lines();
        (lines.next()? == "flk standing 1").then_some(())?;
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let region = field("region")?.to_owned();
        let at_ms = field("time")?.parse().ok()?;
        let merged = Digest::from_hex(field("merged")?)?;
        let mut logs = Vec::new();
        for line in lines {
            let words: Vec<&str> = line.strip_prefix("log ")?.split(' ').collect();
            let [region, record, outcomes, ledger, sum] = words.as_slice() else { return None };
            logs.push(Line {
                region: (*region).to_owned(),
                record: Lsn(record.parse().ok()?),
                outcomes: Digest::from_hex(outcomes)?,
                ledger: Digest::from_hex(ledger)?,
                sum: Digest::from_hex(sum)?,
            });
        }
        let bounded = logs.len() <= usize::from(ORIGINS_MAX) + 1;
        bounded.then_some(Standing { region, at_ms, merged, logs })
    }
}

/// Where another region and we differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// In whose log; empty if all logs are the same and what is made of them together is not.
    pub log: String,
    /// After which of its records.
    pub record: Lsn,
    /// What differs.
    pub part: &'static str,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.log.as_str() {
            "" => write!(f, "all logs are the same, and the {} are not", self.part),
            log => write!(f, "{} differ after record {} of the log of {log}", self.part, self.record),
        }
    }
}

/// What became of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// The first difference.
    pub differs: Option<Difference>,
    /// Logs that were equal where the other region stands; an empty name for what all of them make together.
    pub equal: Vec<String>,
    /// Logs that cannot be compared yet, and why: one of the two lacks too much of them.
    pub not_yet: Vec<String>,
}

impl Compared {
    /// Takes up what is newer. A difference stays until the same log is found equal: that it cannot be compared now is no
    /// news.
    fn follow(self, newer: Compared) -> Compared {
        let stays = self.differs.filter(|found| !newer.equal.contains(&found.log));
        Compared { differs: newer.differs.or(stays), ..newer }
    }
}

/// One log here: its last record, and the digests after any of them that are kept.
type Held<'a> = dyn Fn(&str, Lsn) -> (Lsn, Option<(Digest, Digest)>) + 'a;

/// Compares what another region says with what is known here. `sums` are those of all logs here, `merged` is over them.
fn compare(said: &Standing, held: &Held<'_>, sums: &[(String, Digest)], merged: Digest) -> Compared {
    let mut out = Compared::default();
    for line in &said.logs {
        let Line { region, record, .. } = line;
        let (here, computed) = held(region, *record);
        match computed {
            _ if *record == Lsn::ZERO => {}
            _ if here < *record => {
                out.not_yet.push(format!("records {} to {record} of {region} are not here yet", here.next()));
            }
            None => {
                let lacks = record.next();
                out.not_yet.push(format!("{} lacks records {lacks} to {here} of {region}", said.region));
            }
            Some((outcomes, ledger)) if (outcomes, ledger) == (line.outcomes, line.ledger) => {
                out.equal.push(region.clone());
            }
            Some((outcomes, _)) => {
                let part = if outcomes == line.outcomes { "ledgers" } else { "outcomes" };
                let found = Difference { log: region.clone(), record: *record, part };
                out.differs.get_or_insert(found);
            }
        }
    }
    let same = said.logs.len() == sums.len()
        && said.logs.iter().zip(sums).all(|(line, (region, sum))| line.region == *region && line.sum == *sum);
    if same && said.merged == merged {
        out.equal.push(String::new());
    } else if same {
        let found = Difference { log: String::new(), record: Lsn::ZERO, part: "conflicts" };
        out.differs.get_or_insert(found);
    }
    out
}

fn compare_here(node: &Node, said: &Standing) -> Option<Compared> {
    let known = node.fold.known()?;
    let sums: Vec<(String, Digest)> = known.logs.iter().map(|log| (log.region.clone(), log.digest)).collect();
    let core = node.fold.core();
    let ledger: &Ledger<_> = &core.ledger;
    let held = |region: &str, lsn: Lsn| {
        if region == ledger.region() {
            return (ledger.applied(), ledger.computed_after(lsn));
        }
        ledger.origin(region).map_or((Lsn::ZERO, None), |origin| {
            (Lsn(origin.position().lsn.0 - 1), origin.computed_after(lsn))
        })
    };
    Some(compare(said, &held, &sums, known.merged))
}

/// Says where we stand, again and again, while this node leads.
pub async fn say(node: Arc<Node>) {
    let Some(regions) = &node.regions else { return };
    let mut last: Option<(Instant, Vec<Line>)> = None;
    let mut told = Told::default();
    loop {
        tokio::time::sleep(TICK).await;
        if !node.leads() {
            last = None;
            continue;
        }
        if last.as_ref().is_some_and(|(at, _)| at.elapsed() < SAY_EVERY.0) {
            continue;
        }
        let Some(known) = node.fold.known() else { continue };
        let standing = Standing::of(&regions.own, node.clock.wall_ms(), &known);
        let due = |(at, logs): &(Instant, Vec<Line>)| at.elapsed() >= SAY_EVERY.1 || *logs != standing.logs;
        if !last.as_ref().is_none_or(due) {
            continue;
        }
        let signers = node.fold.signers.load();
        let note = signers.all().map(|all| standing.sign(&all));
        let put = match note {
            Ok(note) => regions.remote.put(NAME, Bytes::from(note)).await,
            Err(why) => Err(why.to_string()),
        };
        match put {
            Ok(()) => last = Some((Instant::now(), standing.logs)),
            Err(why) => {
                if told.anew(&*node, &why) {
                    tracing::warn!(why, "other regions are not told where this one stands");
                }
                tokio::time::sleep(SAY_EVERY.1).await;
            }
        }
    }
}

/// Looks at what another region says, and compares, while this node leads.
pub async fn watch(node: Arc<Node>, nth: usize) {
    let Some(regions) = &node.regions else { return };
    let peer = &regions.peers[nth];
    let mut last = Bytes::new();
    let (mut told, mut trouble): (Option<Difference>, _) = (None, Told::default());
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if !node.leads() {
            regions.imports(nth, |imports| (imports.heard_ms, imports.compared) = (0, Compared::default()));
            last = Bytes::new();
            continue;
        }
        let now_ms = node.clock.wall_ms();
        regions.imports(nth, |imports| {
            if imports.heard_ms == 0 {
                imports.heard_ms = now_ms;
            }
        });
        match look(&node, peer, &mut last).await {
            // What was said is compared again: what was not here yet may be here now.
            Ok((new, Some(compared))) => {
                let before = regions.imports(nth, |imports| imports.compared.clone());
                let compared = before.follow(compared);
                if compared.differs.is_some() && told != compared.differs {
                    let found = compared.differs.as_ref().map(ToString::to_string);
                    tracing::error!(region = peer.region, found, "REGIONS DIFFER: flk divergence says where");
                }
                told.clone_from(&compared.differs);
                regions.imports(nth, |imports| {
                    if new {
                        imports.heard_ms = now_ms;
                    }
                    if compared.differs.is_none() && !compared.equal.is_empty() {
                        imports.equal_ms = now_ms;
                    }
                    imports.compared = compared;
                });
            }
            Ok((_, None)) => {}
            Err(why) => {
                if trouble.anew(&*node, &why) {
                    tracing::warn!(why, region = peer.region, "where another region stands is not known");
                }
                tokio::time::sleep(SAY_EVERY.1).await;
            }
        }
    }
}

/// What the other region says now, compared, and whether it is something else than before.
async fn look(node: &Node, peer: &Peer, last: &mut Bytes) -> Result<(bool, Option<Compared>), String> {
    let Some(found) = peer.remote.get(NAME, STANDING_MAX as u64).await? else { return Ok((false, None)) };
    let key = peer.key_at(&node.fold.core().ledger, u64::MAX);
    let said = Standing::open(&found, &key).map_err(|why| format!("{NAME}: {why}"))?;
    if said.region != peer.region {
        return Err(format!("{NAME} is of region {}", said.region));
    }
    let new = found != *last;
    *last = found;
    Ok((new, compare_here(node, &said)))
}

impl Regions {
    /// Where regions differ: with which, and where.
    pub(super) fn differences(&self) -> Vec<(String, Difference)> {
        let inner = self.lock();
        let rows = self.peers.iter().zip(&inner.peers);
        rows.filter_map(|(peer, imports)| Some((peer.region.clone(), imports.compared.differs.clone()?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest([n; 32])
    }

    fn standing() -> Standing {
        let line = |region: &str, n: u64| Line {
            region: region.into(),
            record: Lsn(n),
            outcomes: digest(n as u8),
            ledger: digest(n as u8 + 1),
            sum: digest(n as u8 + 2),
        };
        Standing {
            region: "b".into(),
            at_ms: 5,
            merged: digest(9),
            logs: vec![line("a", 10), line("b", 20), line("c", 30)],
        }
    }

    #[test]
    fn a_standing_comes_back_under_its_key_and_no_other() {
        let signer = Signer::new("host/pcs/b", &[1; 32]).unwrap();
        let other = Signer::new("host/pcs/b", &[2; 32]).unwrap();
        let note = standing().sign(&[&signer]);
        assert_eq!(Standing::open(&note, &signer.verifier()), Ok(standing()));
        assert!(Standing::open(&note, &other.verifier()).is_err());
        for at in 0..note.len() {
            let mut bent = note.clone();
            bent[at] ^= 1;
            assert!(Standing::open(&bent, &signer.verifier()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn logs_are_compared_after_the_same_record_wherever_both_stand() {
        let said = standing();
        let sums: Vec<_> = said.logs.iter().map(|line| (line.region.clone(), line.sum)).collect();
        // Of `a` there is more here, of `b` less, of `c` so much more that the digests are gone.
        let held = |region: &str, lsn: Lsn| match region {
            "a" => (Lsn(15), Some((digest(lsn.0 as u8), digest(lsn.0 as u8 + 1)))),
            "b" => (Lsn(12), None),
            _ => (Lsn(90_000), None),
        };
        let found = compare(&said, &held, &sums, digest(9));
        assert_eq!((found.differs, found.equal), (None, vec!["a".to_owned(), String::new()]));
        let want = ["records 13 to 20 of b are not here yet", "b lacks records 31 to 90000 of c"];
        assert_eq!(found.not_yet, want);
        for (outcomes, part) in [(digest(10), "ledgers"), (digest(77), "outcomes")] {
            let held = |region: &str, _: Lsn| match region {
                "a" => (Lsn(15), Some((outcomes, digest(78)))),
                _ => (Lsn(12), None),
            };
            let differs = compare(&said, &held, &[], digest(9)).differs;
            assert_eq!(differs, Some(Difference { log: "a".into(), record: Lsn(10), part }));
        }
        // What was found stays until that log is equal.
        let found =
            compare(&said, &|_: &str, _: Lsn| (Lsn(90), Some((digest(77), digest(78)))), &[], digest(9));
        let silent = found.clone().follow(Compared { equal: vec!["b".into()], ..Compared::default() });
        assert_eq!(silent.differs, found.differs);
        assert_eq!(found.follow(Compared { equal: vec!["a".into()], ..Compared::default() }).differs, None);
        // The same logs, and another number of conflicts.
        let differs = compare(&said, &held, &sums, digest(8)).differs;
        assert_eq!(differs.map(|found| found.part), Some("conflicts"));
        assert_eq!(compare(&said, &held, &sums[1..], digest(8)).differs, None);
    }
}
