//! P10 and P11: how fast one core folds a log again.
//!
//! The log is made here, in memory, record by record as the server writes them, so that the rows hold the work of a
//! replay (decode, judge, decide, apply) and not a disk. The references do less: P10's only parses, computes one HMAC
//! and one SHA-256 over the same bodies; P11's are others' own recoveries of as many records of the same size.

use crate::bodies::Bodies;
use crate::context::{Context, remove};
use crate::flkd::{SECRET, Tenant};
use crate::peers;
use crate::process::{Server, free_port};
use crate::rows::{Bound, Row, at_least, command, figure};
use crate::stats::{CoreTime, Pair, Sample, alternate};
use crate::stores::redis_command;
use engine::event::{Envelope, Event, KeyKind, KeySpec, Payload, Record, encode_events};
use engine::ids::{KeyId, TenantId};
use engine::ledger::{Ledger, MemTable};
use engine::log::Lsn;
use engine::summary::{Judged, KeyRing, Policy, Secrets, judge, judge_presigned, parse};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::hint::black_box;
use std::io::{self, BufWriter, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Submissions of one record: what a group commit of 64 clients gives.
const BATCH: usize = 64;
/// Bytes of our canonical text, which the HMAC of the reference covers.
const SIGNED: usize = 240;

struct Secret;

impl Secrets for Secret {
    fn hmac(&self, _: &KeySpec) -> Option<Zeroizing<Vec<u8>>> {
        Some(Zeroizing::new(SECRET.as_bytes().to_vec()))
    }
}

/// A log in memory: the payloads of its entries, and how many submissions they hold.
struct History {
    records: Vec<Vec<u8>>,
    submissions: usize,
    keys: KeyRing,
    public: KeyRing,
    policy: Policy,
}

impl History {
    fn new(submissions: usize) -> io::Result<History> {
        let tenant = TenantId::new(Tenant::Hmac.id()).map_err(io::Error::other)?;
        let mut bodies = Bodies::new(Tenant::Hmac.signer(), "replay");
        let records = (0..submissions.div_ceil(BATCH))
            .map(|n| {
                let events: Vec<Event> = (0..BATCH)
                    .map(|_| {
                        let received_at_ms = 1_767_225_600_000 + n as u64;
                        let body = bodies.body().json;
                        Event::Received(Envelope { tenant, received_at_ms, salt: [7; 16], body })
                    })
                    .collect();
                let mut record = Vec::with_capacity(BATCH * 1024);
                encode_events(1, &events, &mut record);
                record
            })
            .collect();
        let spec = KeySpec {
            at_ms: 0,
            tenant,
            key_id: KeyId::new("bench").map_err(io::Error::other)?,
            kind: KeyKind::HmacSealed(vec![1]),
            not_before_ms: 0,
            not_after_ms: u64::MAX,
        };
        let specs = [spec];
        Ok(History {
            records,
            submissions: submissions.div_ceil(BATCH) * BATCH,
            keys: KeyRing::new(&specs, &Secret).map_err(io::Error::other)?,
            public: KeyRing::public(&specs).map_err(io::Error::other)?,
            policy: Policy::default_1_0_0(),
        })
    }

    /// Folds the whole log into an empty ledger on this core, judging each submission with `judge`.
    fn fold(&self, judge: impl Fn(&Envelope) -> Judged) -> io::Result<Sample> {
        let begin = CoreTime::start();
        let mut ledger = Ledger::new("bench", MemTable::new());
        let mut lsn = Lsn::ZERO;
        for bytes in &self.records {
            lsn = lsn.next();
            let record = Record::decode(bytes).map_err(io::Error::other)?;
            let Payload::Events(events) = record.payload else { continue };
            for (nth, event) in events.iter().enumerate() {
                let judged = if let Event::Received(envelope) = event { Some(judge(envelope)) } else { None };
                let nth = nth as u32;
                let outcome = ledger.decide(lsn, nth, event, judged.as_ref()).map_err(io::Error::other)?;
                black_box(ledger.apply(lsn, nth, event, judged.as_ref(), &outcome));
            }
            ledger.end_record(lsn);
        }
        if ledger.tree().size() != self.submissions as u64 {
            return Err(io::Error::other("a replayed submission has no leaf"));
        }
        Ok(Sample::new(self.submissions as f64 / begin.seconds()))
    }

    /// What no replay can be faster than: parse, one HMAC, one SHA-256 of the same bodies.
    fn ceiling(&self) -> io::Result<Sample> {
        let key = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).map_err(io::Error::other)?;
        let begin = CoreTime::start();
        for bytes in &self.records {
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
        alternate(
            context.runs,
            || history.fold(|envelope| judge(envelope, Some(&history.keys), &history.policy)),
            || history.ceiling(),
        )
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
    let form = engine::summary::SignatureForm::Canonical;
    let byte = presigned_byte(&history, form);
    let fold =
        || history.fold(|envelope| judge_presigned(envelope, byte, Some(&history.public), &history.policy));
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
    rows.push(index(context, &history, byte));
    rows
}

/// The byte an `Attested` event carries for a good signature of `form` by the only key.
fn presigned_byte(history: &History, form: engine::summary::SignatureForm) -> u8 {
    let first = Record::decode(&history.records[0]).ok().map(|record| record.payload);
    let judged = match &first {
        Some(Payload::Events(events)) => match &events[0] {
            Event::Received(envelope) => {
                judge(envelope, Some(&history.keys), &history.policy).signature_byte()
            }
            _ => 0,
        },
        _ => 0,
    };
    if judged == 0 { form.code() } else { judged }
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
fn index(context: &Context, history: &History, byte: u8) -> Row {
    let what = "index rebuilt from its rows, M records/s";
    let measured = || -> io::Result<Sample> {
        let mut ledger = Ledger::new("bench", MemTable::new());
        let mut lsn = Lsn::ZERO;
        for bytes in &history.records {
            lsn = lsn.next();
            let record = Record::decode(bytes).map_err(io::Error::other)?;
            let Payload::Events(events) = record.payload else { continue };
            for (nth, event) in events.iter().enumerate() {
                let Event::Received(envelope) = event else { continue };
                let judged = Some(judge_presigned(envelope, byte, Some(&history.public), &history.policy));
                let outcome =
                    ledger.decide(lsn, nth as u32, event, judged.as_ref()).map_err(io::Error::other)?;
                ledger.apply(lsn, nth as u32, event, judged.as_ref(), &outcome);
            }
            ledger.end_record(lsn);
        }
        let snapshot = ledger.snapshot().map_err(io::Error::other)?;
        let mut best = Vec::new();
        for _ in 0..context.runs {
            let table = ledger.table().clone();
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
