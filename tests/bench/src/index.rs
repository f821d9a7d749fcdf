//! P13: what a key of the deduplication index costs and how long a lookup takes; and what folding an event costs.

use std::hint::black_box;
use std::io;
use std::path::Path;
use std::time::Instant;

use engine::event::{Envelope, Event};
use engine::ids::{KeyId, TenantId};
use engine::ledger::{First, Ledger};
use engine::limits::{RECENT_KEYS_MAX, RECORD_EVENTS_MAX};
use engine::summary::{
    Fingerprint, Judged, PcsId, ReasonCode, Regime, Signals, SignatureForm, Signed, Sound, Verdict,
};
use engine::tree::{Tree, leaf_hash};
use segments::runs::{DiskTable, Syncing, TableOptions};
use sha2::{Digest, Sha256};

use crate::context::{Context, remove};
use crate::rows::{Bound, Row, command, figure};

/// Lookups of one measurement.
const LOOKUPS: u64 = 1_000_000;

/// Body of an ordinary submission, bytes.
const BODY: usize = 900;

fn id(number: u64) -> PcsId {
    PcsId(Sha256::digest(number.to_le_bytes()).into())
}

/// A submission as the pool hands it over: judged, not yet decided.
fn input(tenant: TenantId, number: u64) -> (Event, Judged) {
    let mut body = vec![b' '; BODY];
    body[..8].copy_from_slice(&number.to_le_bytes());
    let envelope = Envelope { tenant, received_at_ms: number / 50, salt: [7; 16], body };
    let sound = Sound {
        id: id(number),
        key: First::key_of(&tenant, &id(number).0),
        commitment: envelope.commitment(),
        signed: Signed { form: SignatureForm::ALL[0], key_id: KeyId::new("k1").expect("a name"), key: 0 },
        fingerprint: Fingerprint { digest: [number as u8; 16], lanes: [number as u16; 13] },
        verdict: Verdict {
            accepted: true,
            escalated: false,
            code: ReasonCode::Accepted,
            reason: String::new(),
            recomputed_d_hat: Some(1.405),
            recomputed_budget: Some(0.418),
        },
        signals: Signals { d_hat: 1.41, coh_star: 0.73, r: 0.52, budget: 0.418, regime: Regime::Sticky },
        written: None,
    };
    (Event::Received(envelope), Judged::Sound(sound))
}

/// Processor time of this thread, ns. Nothing here waits for a device, and the machine is shared: time on the wall
/// would measure the neighbours.
fn clock() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a whole timespec of ours.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(done, 0, "every Linux has this clock");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

struct Filled {
    ledger: Ledger<DiskTable>,
    tenant: TenantId,
    keys: u64,
}

/// What a lookup takes, ns: the newest keys, keys spread over all, keys that are not there.
struct Lookups {
    recent: f64,
    hit: f64,
    miss: f64,
}

impl Filled {
    /// Applies submissions until there are `keys`, in records as large as they may be. Returns nanoseconds an event,
    /// without the making of the submissions.
    fn fill(&mut self, keys: u64) -> io::Result<f64> {
        let (mut spent, before) = (0, self.keys);
        while self.keys < keys {
            let count = (keys - self.keys).min(RECORD_EVENTS_MAX as u64);
            let inputs: Vec<_> = (self.keys..self.keys + count).map(|n| input(self.tenant, n)).collect();
            let start = clock();
            let lsn = self.ledger.applied().next();
            for (nth, (event, judged)) in inputs.iter().enumerate() {
                let outcome =
                    self.ledger.decide(lsn, nth as u32, event, Some(judged)).map_err(io::Error::other)?;
                black_box(self.ledger.apply(lsn, nth as u32, event, Some(judged), &outcome));
            }
            self.ledger.end_record(lsn);
            spent += clock() - start;
            self.keys += count;
        }
        Ok(spent as f64 / (keys - before) as f64)
    }

    fn look(&self) -> io::Result<Lookups> {
        let stride = 0x9E37_79B9_7F4A_7C15_u64;
        let held = self.ledger.recent_memory().0.min(self.keys);
        Ok(Lookups {
            recent: self.time(|n| self.keys - 1 - n.wrapping_mul(stride) % held, true)?,
            hit: self.time(|n| n.wrapping_mul(stride) % self.keys, true)?,
            miss: self.time(|n| self.keys + n.wrapping_mul(stride) % (1 << 40), false)?,
        })
    }

    /// Nanoseconds to hash tenant and id into a key, which is not the index's work.
    fn hashing(&self, ids: &[PcsId]) -> f64 {
        let start = clock();
        for id in ids {
            black_box(First::key_of(&self.tenant, &id.0));
        }
        (clock() - start) as f64 / ids.len() as f64
    }

    /// Nanoseconds a lookup, without the making of its id and key.
    fn time(&self, key: impl Fn(u64) -> u64, there: bool) -> io::Result<f64> {
        let ids: Vec<PcsId> = (0..LOOKUPS).map(|n| id(key(n))).collect();
        let mut found = 0;
        let start = clock();
        for id in &ids {
            let first = self.ledger.lineage(&self.tenant, id).map_err(io::Error::other)?;
            found += u64::from(first.is_some());
        }
        let each = (clock() - start) as f64 / LOOKUPS as f64 - self.hashing(&ids);
        if found == if there { LOOKUPS } else { 0 } {
            Ok(each)
        } else {
            Err(io::Error::other("a wrong answer"))
        }
    }
}

/// How fast the audit tree takes leaves of an ordinary size.
fn tree() -> String {
    const LEAVES: u64 = 400_000;
    let mut leaf = [b'x'; 620];
    let mut tree = Tree::new();
    let start = clock();
    for number in 0..LEAVES {
        leaf[..8].copy_from_slice(&number.to_le_bytes());
        tree.append(leaf_hash(&leaf));
    }
    let whole = (clock() - start) as f64 / LEAVES as f64;
    let hash = leaf_hash(&leaf);
    let start = clock();
    for _ in 0..LEAVES {
        tree.append(hash);
    }
    let append = (clock() - start) as f64 / LEAVES as f64;
    black_box(tree.root());
    format!(
        "tree: {} leaves/s of {} bytes on one processor; {append:.0} ns of {whole:.0} ns are nodes",
        figure(1e9 / whole),
        leaf.len()
    )
}

/// Takes a snapshot and opens it again from a copy of the manifest's view: what a restart pays for the index.
fn reopen(filled: &Filled, dir: &Path) -> io::Result<String> {
    let bytes = filled.ledger.snapshot().map_err(io::Error::other)?;
    let start = Instant::now();
    filled.ledger.table().sync().and_then(Syncing::wait).map_err(io::Error::other)?;
    let synced = start.elapsed();
    let (start, spent) = (Instant::now(), clock());
    // Nothing is written to it while both are open.
    let table = DiskTable::open(dir, &TableOptions::new(1)).map_err(io::Error::other)?;
    let again = Ledger::restore(&bytes, table).map_err(io::Error::other)?;
    let (took, spent) = (start.elapsed(), clock() - spent);
    if again.digest() != filled.ledger.digest() {
        return Err(io::Error::other("another ledger came back"));
    }
    Ok(format!(
        "snapshot of {} bytes; rows synced in {:.2} s; opened and restored in {:.2} s, {:.2} s of a processor",
        bytes.len(),
        synced.as_secs_f64(),
        took.as_secs_f64(),
        spent as f64 / 1e9
    ))
}

fn measure(context: &Context) -> io::Result<Vec<Row>> {
    let dir = context.fresh("index")?;
    let keys = context.size(16_000_000, 6_000_000);
    let table = DiskTable::open(&dir, &TableOptions::new(1)).map_err(io::Error::other)?;
    let tenant = TenantId::new("bench").expect("a name");
    let mut filled = Filled { ledger: Ledger::new("default", table), tenant, keys: 0 };

    let apply = filled.fill(RECENT_KEYS_MAX - 1)?;
    let (held, bytes) = filled.ledger.recent_memory();
    let recent_bytes = bytes as f64 / held as f64;
    let young = filled.look()?;
    let later = filled.fill(keys)?;
    // What was asked for in the background must be done before it is measured.
    filled.ledger.settle(DiskTable::settle).map_err(io::Error::other)?;
    let old = filled.look()?;
    let (run_keys, run_bytes) = filled.ledger.table().run_memory();
    let reopened = reopen(&filled, &dir)?;
    let notes = vec![
        tree(),
        reopened,
        format!(
            "apply, leaf and tree included: {apply:.0} ns an event up to {held} keys, {later:.0} ns up to {keys}"
        ),
        format!("{held} keys in memory: hit {:.0} ns, miss {:.0} ns", young.recent, young.miss),
        format!(
            "{run_keys} keys in {} runs, {} in memory: newest {:.0} ns, any {:.0} ns, miss {:.0} ns",
            filled.ledger.table().run_count(),
            filled.ledger.recent_memory().0,
            old.recent,
            old.hit,
            old.miss
        ),
    ];
    drop(filled);
    remove(&dir)?;
    let row = |what: &str, value: f64, unit: &str, floor: f64, moonshot| Row {
        id: "P13",
        what: format!("{what}, {} keys", figure(keys as f64)),
        ours: format!("{value:.2} {unit}"),
        reference: String::new(),
        value,
        bound: Bound::AtMost { floor, moonshot },
        command: command("P13"),
        notes: Vec::new(),
        refused: None,
    };
    let mut rows = vec![
        row("bytes a recent key", recent_bytes, "B", 36.0, Some(10.0)),
        row("bytes a key in runs", run_bytes as f64 / run_keys as f64, "B", 2.5, None),
        row("miss", old.miss, "ns", 250.0, None),
        row("hit anywhere, row confirmed", old.hit, "ns", 1000.0, None),
    ];
    rows[0].notes = notes;
    Ok(rows)
}

/// P13.
pub fn rows(context: &Context) -> Vec<Row> {
    measure(context).unwrap_or_else(|why| vec![Row::refused("P13", "the deduplication index", why)])
}
