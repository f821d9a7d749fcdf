//! P10 and P11: how fast one core folds a log again.
//!
//! The log is made here, in memory, record by record as the server writes them, so that the rows hold the work of a
//! replay (decode, judge, decide, apply, compare with what was attested) and not a disk; it is the fold of `worm verify` and
//! `flk replay` that is measured. The references do less: P10's only parses, computes one HMAC
//! and one SHA-256 over the same bodies; P11's are others' own recoveries of as many records of the same size.

use crate::bodies::Bodies;
use crate::context::{Context, remove};
use crate::flkd::{SECRET, Tenant};
use crate::peers;
use crate::process::{Server, free_port};
use crate::rows::{Bound, Row, at_least, command, figure};
use crate::stats::{CoreTime, Pair, Sample, alternate};
use crate::stores::redis_command;
use engine::event::{Envelope, Event, KeyKind, KeySpec, encode_events};
use engine::ids::{KeyId, TenantId};
use engine::ledger::{Ledger, MemTable};
use engine::log::Lsn;
use engine::summary::{Secrets, parse};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::hint::black_box;
use std::io::{self, BufWriter, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};
use tools::audit::fold::{Fold, Unwatched};
use tools::audit::judges::Source;
use tools::audit::{Place, Wrong};
use zeroize::Zeroizing;

/// Submissions of one record: what a group commit of 64 clients gives.
const BATCH: usize = 64;
/// Records of submissions between two `Attested`.
const ATTEST: usize = 16;
/// Log time of the first record, milliseconds.
const START_MS: u64 = 1_767_225_600_000;
/// Bytes of our canonical text, which the HMAC of the reference covers.
const SIGNED: usize = 240;

struct Secret;

impl Secrets for Secret {
    fn hmac(&self, _: &KeySpec) -> Option<Zeroizing<Vec<u8>>> {
        Some(Zeroizing::new(SECRET.as_bytes().to_vec()))
    }
}

/// A log in memory, as a node writes it: settings, submissions, and what the leader attests of them.
struct History {
    /// The payloads of its entries, and whether they hold submissions.
    records: Vec<(bool, Vec<u8>)>,
    submissions: usize,
}

impl History {
    fn new(submissions: usize) -> io::Result<History> {
        let tenant = TenantId::new(Tenant::Hmac.id()).map_err(io::Error::other)?;
        let settings = [
            Event::TenantSet(engine::event::Tenant {
                at_ms: START_MS,
                id: tenant,
                display: "Bench".into(),
                active: true,
                rate_per_s: 1,
                burst: 1,
                daily_quota: 0,
                region: "bench".into(),
            }),
            Event::KeySet(KeySpec {
                at_ms: START_MS,
                tenant,
                key_id: KeyId::new("bench").map_err(io::Error::other)?,
                kind: KeyKind::HmacSealed(vec![1]),
                not_before_ms: 0,
                not_after_ms: u64::MAX,
            }),
        ];
        let mut history = History { records: Vec::new(), submissions: 0 };
        // The leader's own fold, which knows what to attest.
        let source = Source::Secrets(&Secret);
        let mut fold = Fold::new(Ledger::new("bench", MemTable::new()), &source, 1).in_chunks_of(1);
        history.add(&mut fold, false, &settings)?;
        let mut bodies = Bodies::new(Tenant::Hmac.signer(), "replay");
        for n in 0..submissions.div_ceil(BATCH) {
            let received_at_ms = START_MS + n as u64;
            let events: Vec<Event> = (0..BATCH)
                .map(|_| {
                    let body = bodies.body().json;
                    Event::Received(Envelope { tenant, received_at_ms, salt: [7; 16], body })
                })
                .collect();
            history.add(&mut fold, true, &events)?;
            history.submissions += BATCH;
            if n % ATTEST == ATTEST - 1 {
                let attested = fold.ledger().attest();
                history.add(&mut fold, false, &[Event::Attested(attested)])?;
            }
        }
        let attested = fold.ledger().attest();
        history.add(&mut fold, false, &[Event::Attested(attested)])?;
        Ok(history)
    }

    fn add(&mut self, fold: &mut Fold<'_, MemTable>, submissions: bool, events: &[Event]) -> io::Result<()> {
        let mut record = Vec::with_capacity(events.len() * 1024);
        encode_events(1, events, &mut record);
        self.records.push((submissions, record));
        let record = &self.records.last().expect("one was just pushed").1;
        let lsn = Lsn(self.records.len() as u64);
        let pushed = fold.push(lsn, Place::default(), record, &mut Unwatched);
        pushed.and_then(|()| fold.finish(&mut Unwatched)).map_err(|wrong| io::Error::other(wrong.to_string()))
    }

    /// Replays the whole log into an empty ledger on this core, as `worm verify` and `flk replay` do, and hands it to
    /// `then`. The time is this thread's.
    fn replay<T>(
        &self,
        source: &Source<'_>,
        then: impl FnOnce(&Ledger<MemTable>) -> T,
    ) -> io::Result<(f64, T)> {
        let begin = CoreTime::start();
        let mut fold = Fold::new(Ledger::new("bench", MemTable::new()), source, 1);
        let wrong = |wrong: Wrong| io::Error::other(wrong.to_string());
        for (nth, (_, record)) in self.records.iter().enumerate() {
            fold.push(Lsn(nth as u64 + 1), Place::default(), record, &mut Unwatched).map_err(wrong)?;
        }
        fold.finish(&mut Unwatched).map_err(wrong)?;
        let seconds = begin.seconds();
        let counts = fold.counts();
        if counts.submissions != self.submissions as u64 || counts.uncovered != 0 {
            return Err(io::Error::other("a submission was not replayed"));
        }
        Ok((seconds, then(fold.ledger())))
    }

    fn rate(&self, source: &Source<'_>) -> io::Result<Sample> {
        let (seconds, ()) = self.replay(source, |_| ())?;
        Ok(Sample::new(self.submissions as f64 / seconds))
    }

    /// What no replay can be faster than: parse, one HMAC, one SHA-256 of the same bodies.
    fn ceiling(&self) -> io::Result<Sample> {
        let key = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).map_err(io::Error::other)?;
        let begin = CoreTime::start();
        for (_, bytes) in self.records.iter().filter(|(submissions, _)| *submissions) {
            // The bodies are found by their lengths, which costs nothing beside the rest.
            let mut at = 11;
            while at < bytes.len() {
                let len =
                    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize;
                let event = &bytes[at + 4..at + 4 + len];
                let body = &event[1 + 8 + 16 + 1 + usize::from(event[25]) + 4..];
                black_box(parse(body).map_err(io::Error::other)?);
                let mut mac = key.clone();
                mac.update(&body[..SIGNED]);
                black_box(mac.finalize());
                black_box(Sha256::new().chain_update([7; 16]).chain_update(body).finalize());
                at += 4 + len;
            }
        }
        Ok(Sample::new(self.submissions as f64 / begin.seconds()))
    }
}

fn row(id: &'static str, what: &str, pair: &Pair, reference: &str, bound: Bound) -> Row {
    Row {
        id,
        what: what.into(),
        ours: format!("{} records/s", figure(pair.ours())),
        reference: format!("{reference}: {}", figure(pair.reference())),
        value: pair.ratio(),
        bound,
        command: command(id),
        notes: pair.notes(),
        refused: None,
    }
}

/// P10: with signatures, one core.
pub fn signed(context: &Context) -> Vec<Row> {
    let what = "replay on one core: decode, check signatures, decide, apply";
    let measured = || {
        let history = History::new(context.size(400_000, 60_000))?;
        let source = Source::Secrets(&Secret);
        alternate(context.runs, || history.rate(&source), || history.ceiling())
    };
    vec![match measured() {
        Err(why) => Row::refused("P10", what, why),
        Ok(pair) => row("P10", what, &pair, "parse + HMAC + SHA-256", at_least(0.7, 0.9)),
    }]
}

/// P11: signature results from `Attested`, and the index alone.
pub fn attested(context: &Context) -> Vec<Row> {
    let submissions = context.size(400_000, 60_000);
    let history = match History::new(submissions) {
        Ok(history) => history,
        Err(why) => return vec![Row::refused("P11", "replay", why)],
    };
    let fold = || history.rate(&Source::Attested);
    let mut rows = Vec::new();
    let mut add = |what: &str, name: &str, bound: Bound, measured: io::Result<Pair>| {
        rows.push(match measured {
            Err(why) => Row::refused("P11", what, why),
            Ok(pair) => row("P11", what, &pair, name, bound),
        });
    };
    let ten = Bound::AtLeast { floor: 10.0, moonshot: None };
    for batch in [1, 256] {
        let what =
            format!("replay with outcomes from Attested, against raft-engine written in batches of {batch}");
        let measured = raft_engine(context, submissions, batch, fold);
        // A batch of one is how the figure of the target was measured; large ones show its best side.
        add(&what, "raft-engine opens and reads all", if batch == 1 { ten } else { Bound::Told }, measured);
    }
    let measured = redis_load(context, submissions, fold);
    add("replay with outcomes from Attested, against Redis loading its file", "Redis", ten, measured);
    rows.push(index(context, &history));
    rows
}

fn raft_engine(
    context: &Context,
    records: usize,
    batch: usize,
    fold: impl Fn() -> io::Result<Sample>,
) -> io::Result<Pair> {
    let dir = context.fresh("raft-engine")?;
    let text = dir.to_string_lossy().into_owned();
    // One sync a record takes long: fewer records give the same rate.
    let records = if batch == 1 { records.min(60_000) } else { records };
    peers::run(context, &["fill", "raft-engine", &text, &records.to_string(), &batch.to_string()])?;
    let recover = || {
        let line = peers::run(context, &["recover", "raft-engine", &text])?;
        let number = |name: &str| line[name].as_f64().unwrap_or(f64::NAN);
        Ok(Sample::new(number("rate")).with("open s", number("open_seconds")))
    };
    let pair = alternate(context.runs, fold, recover)?;
    remove(&dir)?;
    Ok(pair)
}

/// Writes `records` commands in the form Redis keeps them, starts it on them, and waits until it serves.
fn redis_load(context: &Context, records: usize, fold: impl Fn() -> io::Result<Sample>) -> io::Result<Pair> {
    let dir = context.fresh("redis-load")?;
    write_aof(&dir, records)?;
    let load = || {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let log = context.dir.join("redis-load.log");
        let begin = Instant::now();
        let server = Server::start("redis", &mut redis_command(&dir, addr.port()), addr, &log)?;
        while !serves(addr, records)? {
            std::thread::sleep(Duration::from_millis(1));
        }
        let sample = Sample::new(records as f64 / begin.elapsed().as_secs_f64());
        server.kill()?;
        Ok(sample)
    };
    let pair = alternate(context.runs, fold, load)?;
    remove(&dir)?;
    Ok(pair)
}

fn write_aof(dir: &Path, records: usize) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(dir.join("appendonly.aof"))?);
    let mut bodies = Bodies::new(Tenant::Unsigned.signer(), "aof");
    for _ in 0..records {
        let body = bodies.body();
        write!(file, "*3\r\n$5\r\nSETNX\r\n$64\r\n{}\r\n${}\r\n", body.id, body.json.len())?;
        file.write_all(&body.json)?;
        file.write_all(b"\r\n")?;
    }
    file.flush()
}

/// Whether Redis has loaded all keys. While it loads, it answers with an error.
fn serves(addr: SocketAddr, records: usize) -> io::Result<bool> {
    let mut socket = TcpStream::connect(addr)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.write_all(b"DBSIZE\r\n")?;
    let mut answer = [0; 64];
    let n = socket.read(&mut answer)?;
    let text = String::from_utf8_lossy(&answer[..n]);
    match text.strip_prefix(':') {
        None => Ok(false),
        Some(keys) if keys.trim().parse() == Ok(records) => Ok(true),
        Some(keys) => Err(io::Error::other(format!("Redis loaded {} of {records} keys", keys.trim()))),
    }
}

/// The index alone: a ledger taken up from its snapshot and rows inserts every key again.
fn index(context: &Context, history: &History) -> Row {
    let what = "index rebuilt from its rows, M records/s";
    let measured = || -> io::Result<Sample> {
        let (_, (snapshot, table)) =
            history.replay(&Source::Attested, |ledger| (ledger.snapshot(), ledger.table().clone()))?;
        let snapshot = snapshot.map_err(io::Error::other)?;
        let mut best = Vec::new();
        for _ in 0..context.runs {
            let table = table.clone();
            let begin = CoreTime::start();
            black_box(Ledger::restore(&snapshot, table).map_err(|e| io::Error::other(format!("{e}")))?);
            best.push(history.submissions as f64 / begin.seconds() / 1e6);
        }
        Ok(Sample::new(crate::stats::median(best.into_iter())))
    };
    match measured() {
        Err(why) => Row::refused("P11", what, why),
        Ok(sample) => Row {
            id: "P11",
            what: what.into(),
            ours: format!("{} M records/s", figure(sample.value)),
            reference: "a fixed figure of the target".into(),
            value: sample.value,
            bound: at_least(2.0, 2.5),
            command: command("P11"),
            notes: Vec::new(),
            refused: None,
        },
    }
}
