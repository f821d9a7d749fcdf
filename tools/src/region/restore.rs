//! `flk region restore`: the log of a region that is lost, made again from what it had shipped, or from what a survivor took in.
//!
//! What a region ships is its log, event by event; only what it had imported of others does not travel twice, and is put in
//! again from their shipments. So every record gets the events that it had, at the place where it was, and outcomes,
//! leaves and the tree are those of before: the log goes on where its last bill ends. What it had after that is gone.
//! Only who proposed a record, terms and votes are not known any more; nothing follows from them.
//!
//! - Nothing is believed. Bills stand under the log's keys, ranges are what their bills say, and what was written is folded from
//!   nothing and compared with every `Attested` and checkpoint in it, and with what other regions cosigned of it.
//! - A log must never show two histories under one key. So a checkpoint that is known to be over more than was found is a loss that is
//!   proven: it is told, it needs `--accept-loss`, and it stands in the log for good. What another region holds
//!   beyond the place is no loss but a place that is not whole, and is refused.
//!
//! The identity is written last: a directory in which this was interrupted has a log of nobody, and is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine::checkpoint::{Signed, Verifier};
use engine::event::{Declaration, Declared, Event, Imported, Item, Payload, Position, Record, WHY_MAX};
use engine::limits::{RECORD_EVENTS_MAX, TIME_MAX_MS};
use engine::log::{Digest, Lsn};
use segments::copy::NewLog;
use segments::{Frame, Identity, Owner};
use serde_json::json;

use super::place::Shipments;
use super::sources::{Lost, again, sources, withheld};
use crate::audit::Wrong;
use crate::audit::fold::{Appended, Counts, Fold, Watch};
use crate::audit::home::read_checkpoint;
use crate::audit::judges::Source;
use crate::audit::scratch::Scratch;
use crate::audit::source::{Begin, Faulty, LogFiles};
use crate::report::{Exit, Fault, Report, State};
use crate::snapshot::{membership, own, random, taken};
use crate::ui::{Ui, thousands};

/// Keys without which the log cannot go on as it was.
const KEYS: [&str; 3] = ["kek", "log.key", "mirror.key"];
/// The term of everything that is written: nobody voted.
const TERM: u64 = 1;

/// Makes the log of a lost region again, from its shipments or from a survivor
///
/// --place is the directory of regions.place; copy a bucket to a directory first, everything is checked anyway. --survivor is the data directory of a
/// node of a region that had taken it in, or a copy of one: the way where regions ask each other and there is no place. The region must be
/// gone for good: its old nodes must never run beside the restored one. Copy keys/kek, keys/log.key and keys/mirror.key into
/// DIR/keys before the node starts, with the region.id and the regions settings of before. Without them the directory is an
/// archive that `worm` reads. Exit codes: 0 restored, 1 usage or input/output, 2 something is not what it must be, 3 something is missing,
/// 5 it is proven that entries are lost.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where the region shipped its log to
    #[arg(long, value_name = "DIR", required_unless_present = "survivor", conflicts_with = "survivor")]
    pub(crate) place: Option<PathBuf>,
    /// A data directory of another region, which had taken its log in
    #[arg(long, value_name = "DIR")]
    pub(crate) survivor: Option<PathBuf>,
    /// Its name
    #[arg(long, value_name = "NAME")]
    pub(crate) region: String,
    /// A copy of its keys/region.vkey
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: PathBuf,
    /// Another region: its name, the directory it ships to and its keys/region.vkey; one for each that this one had imported and the survivor, if there is one, has not
    #[arg(long, value_name = "NAME PLACE VKEY_FILE")]
    pub(crate) peer: Vec<String>,
    /// A checkpoint of the lost log that somebody still has: a witness, an auditor, a place for copies
    #[arg(long, value_name = "FILE")]
    pub(crate) known: Vec<PathBuf>,
    /// Go on although checkpoints are known that are over more entries than were found
    #[arg(long)]
    pub(crate) accept_loss: bool,
    /// Why, in one line; it stands in the log
    #[arg(long, value_name = "TEXT", default_value = "the region was lost")]
    pub(crate) why: String,
    /// The data directory: one that is not there, or holds nothing but keys
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Its node.id
    #[arg(long, value_name = "NODE", default_value_t = 1)]
    pub(crate) node: u64,
    /// Its cluster.advertise, if others are to join its group
    #[arg(long, value_name = "HOST:PORT", default_value = "", hide_default_value = true)]
    pub(crate) address: String,
    /// Its data.segment_bytes
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    pub(crate) segment_bytes: u64,
}

/// A checkpoint that somebody has, and who.
struct Known {
    who: String,
    signed: Signed,
    /// Whether it says that another region holds so much.
    mirror: bool,
}

/// What folding found.
struct Found {
    size: u64,
    counts: Counts,
    watch: Heads,
}

/// The roots of the tree at some sizes, and the newest checkpoint; each must be signed by one of these keys.
#[derive(Default)]
struct Heads {
    keys: Vec<Verifier>,
    wanted: BTreeMap<u64, Option<Digest>>,
    newest: Option<(u64, Digest)>,
}

impl Watch for Heads {
    fn leaf(&mut self, leaf: &Appended<'_>) -> Result<(), Wrong> {
        if let Some(root) = self.wanted.get_mut(&leaf.tree.size()) {
            *root = Some(leaf.tree.root());
        }
        Ok(())
    }

    fn checkpoint(&mut self, lsn: Lsn, signed: &Signed) -> Result<(), Wrong> {
        if !self.keys.iter().any(|key| signed.verify(key).is_ok()) {
            let (expected, found) =
                ("one of the log's keys".into(), "a checkpoint that none has signed".into());
            return Err(Wrong { lsn, place: None, part: "checkpoint", expected, found });
        }
        self.newest = Some((signed.checkpoint.size, signed.checkpoint.root));
        Ok(())
    }
}

/// Restores.
///
/// # Errors
/// The shipments are not whole or not what they must be, or the directory is in use.
pub fn run(args: &Args, ui: Ui) -> Result<Report, Fault> {
    let region = &args.region;
    let bad = |why: &str| Fault::new("cannot restore", region, why, "flk region restore --help");
    if args.node == 0 || args.address.len() > membership::ADDRESS_MAX {
        return Err(bad("a node's name is 1 or more, and an address at most 256 bytes"));
    }
    if args.why.trim().is_empty() || args.why.len() > WHY_MAX || args.why.chars().any(char::is_control) {
        return Err(bad("--why is 1 to 1024 bytes in one line"));
    }
    if let Some(taken) = taken(&args.to) {
        let next = "name another directory; a log is never overwritten";
        let why = format!("it holds {taken}");
        return Err(Fault::new("the directory is in use", args.to.display(), why, next));
    }
    let (mut lost, mut peers) = sources(args, ui)?;
    let log = args.to.join("log");
    let written = write(args, &log, &mut lost, &mut peers, ui);
    let done = written.and_then(|written| prove(args, &log, &lost, &peers, written, ui));
    match done {
        Ok((report, owner)) if report.exit == Exit::Ok => {
            own(&args.to, &owner).map_err(|error| Fault::write(&args.to.join("identity"), error))?;
            Ok(report)
        }
        refused => {
            let removed = std::fs::remove_dir_all(&log);
            if let Err(error) = removed.as_ref()
                && error.kind() != std::io::ErrorKind::NotFound
            {
                return Err(Fault::write(&log, error));
            }
            refused.map(|(report, _)| report)
        }
    }
}

/// A log that was written and not proven.
struct Written {
    new: NewLog,
    owner: Owner,
    /// The last record that was shipped.
    last: Lsn,
    /// Records of others that were put in again.
    imported: u64,
}

fn write(
    args: &Args,
    log: &Path,
    lost: &mut Lost,
    peers: &mut [Shipments],
    ui: Ui,
) -> Result<Written, Fault> {
    let unwritable = |error: &dyn std::fmt::Display| Fault::write(log, error.to_string());
    let identity = Identity { cluster: random()?, region: args.region.clone() };
    let incarnation = u64::from_le_bytes(random()?).max(1);
    let owner = Owner { identity: identity.clone(), node: args.node, incarnation, joined: false };
    let new = NewLog::begin(log, identity, args.segment_bytes, (log, 0), &mut |_| {});
    let mut written =
        Written { new: new.map_err(|error| unwritable(&error))?, owner, last: Lsn::ZERO, imported: 0 };
    let mut progress = ui.progress("restore", 0, crate::ui::Unit::Items("records"));
    let (mut events, mut bytes) = (Vec::new(), Vec::new());
    loop {
        let item = match lost.log.next()? {
            Some(item) => item,
            // A survivor that had a part of a record goes on behind that part.
            None if !events.is_empty() => Item::End,
            None => break,
        };
        match item {
            Item::Event { event, .. } => events.push(event),
            Item::Withheld(_) => return Err(withheld(lost)),
            Item::Seen { origin, from, to } => {
                let items = again(peers, &origin, from, to, written.last.next())?;
                written.imported += items.iter().filter(|item| **item == Item::End).count() as u64;
                events.push(Event::Imported(Imported { origin, from, items }));
            }
            Item::End => {
                let events = std::mem::take(&mut events);
                let payload = if events.is_empty() { Payload::Blank } else { Payload::Events(events) };
                bytes.clear();
                Record { leader: args.node, payload }.encode(&mut bytes);
                let lsn = written.last.next();
                written.new.push(&Frame::entry(lsn, TERM, &bytes)).map_err(|error| unwritable(&error))?;
                written.last = lsn;
                progress.add(1);
            }
        }
        if events.len() > RECORD_EVENTS_MAX {
            let why = format!("record {} never ends", written.last.next());
            let next = "keep the place for whoever finds out why";
            return Err(Fault::new("a bad range", lost.place.display(), why, next).exit(Exit::Tampered));
        }
    }
    progress.finish();
    if written.last == Lsn::ZERO {
        let why = "there is no bill from record 1";
        let next = "name the place that the lost region shipped to";
        return Err(Fault::new("nothing to restore", lost.place.display(), why, next).exit(Exit::Missing));
    }
    written.new.commit(written.last).map_err(|error| unwritable(&error))?;
    Ok(written)
}

/// Folds what was written and holds it against everything that is known of the lost log.
fn prove(
    args: &Args,
    log: &Path,
    lost: &Lost,
    peers: &[Shipments],
    mut written: Written,
    ui: Ui,
) -> Result<(Report, Owner), Fault> {
    let mut known = Vec::new();
    for peer in peers {
        if let Some(signed) = peer.mirrored(&args.region)? {
            known.push(Known { who: format!("region {}", peer.region), signed, mirror: true });
        }
    }
    for path in &args.known {
        let (_, signed) = read_checkpoint(path)?;
        known.push(Known { who: path.display().to_string(), signed, mirror: false });
    }
    for Known { who, signed, .. } in &known {
        if !lost.log.log_keys.iter().any(|key| signed.verify(key).is_ok()) {
            let why = "no key of the lost log has signed it";
            return Err(Fault::new("no checkpoint of it", who, why, "leave it out").exit(Exit::Tampered));
        }
    }
    let mut report = Report::new("flk region restore");
    let last = written.last;
    let survivor = lost.held.as_ref().map(|held| &held.survivor);
    let detail = match survivor {
        None => format!("{} ranges, {} records", thousands(lost.log.bills), thousands(last.0)),
        Some(survivor) => format!("{} records that region {survivor} had taken in", thousands(last.0)),
    };
    report.check(if survivor.is_none() { "shipments" } else { "survivor" }, State::Ok, detail);
    if written.imported > 0 {
        let detail = format!("{} records of others, from their shipments", thousands(written.imported));
        report.check("imports", State::Ok, detail);
    }
    let newest = known.iter().filter(|known| !known.mirror).max_by_key(|known| known.signed.checkpoint.size);
    // What was shipped is folded before anything of ours stands behind it.
    let found = match fold(log, &args.region, &known, &lost.log.log_keys, ui) {
        Ok(found) => found,
        Err(Faulty::Unusable(fault)) => return Err(fault),
        Err(Faulty::Wrong(wrong)) => {
            report.fail("replay", Exit::Tampered, wrong.to_string());
            report.verdict = "nothing was restored: the shipments are not what the log says of itself".into();
            return Ok((report, written.owner));
        }
        Err(Faulty::Damaged(damage)) => return Err(Fault::read(log, damage.to_string())),
        Err(Faulty::Missing(what)) => return Err(Fault::read(log, what)),
    };
    let Found { size, counts, watch } = &found;
    let detail = format!(
        "{} entries; {} Attested and {} checkpoints agree",
        thousands(*size),
        thousands(counts.attested),
        thousands(counts.checkpoints)
    );
    report.check("replay", if counts.attested > 0 { State::Ok } else { State::Warn }, detail);
    let signed = watch.newest.map_or(0, |(size, _)| size);
    if let Some(survivor) = survivor.filter(|_| *size > signed) {
        let detail = format!(
            "the last {} entries stand under no checkpoint: they are the word of region {survivor}",
            size - signed
        );
        report.check("tail", State::Warn, detail);
    }
    let gone = newest.map_or(0, |known| known.signed.checkpoint.size.saturating_sub(*size));
    report.data = json!({
        "region": args.region, "records": last.0, "entries": size, "proven_lost": gone,
        "checkpoint": watch.newest.map(|(size, root)| json!({"size": size, "root": root.to_string()})),
        "attested": counts.attested, "checkpoints": counts.checkpoints, "imported": written.imported,
    });
    for Known { who, signed, mirror } in &known {
        let (theirs, root) = (signed.checkpoint.size, signed.checkpoint.root);
        let held = watch.wanted.get(&theirs).copied().flatten();
        match (theirs.checked_sub(*size).filter(|lost| *lost > 0), held) {
            (Some(more), _) if *mirror => {
                let why = format!("it holds {} entries more than the place: the place is not whole", more);
                report.fail(who, Exit::Missing, why);
            }
            (Some(more), _) => {
                let what = format!("entries {size} to {} ({}) are proven lost", theirs - 1, thousands(more));
                if args.accept_loss {
                    report.check(who.clone(), State::Warn, what);
                } else {
                    report.fail(
                        who,
                        Exit::Inconsistent,
                        format!("{what}; --accept-loss goes on without them"),
                    );
                }
            }
            (None, Some(ours)) if ours != root => {
                report.fail(who, Exit::Tampered, format!("over {theirs} entries the tree is another"));
            }
            (None, _) => {
                report.check(
                    who.clone(),
                    State::Ok,
                    format!("the same tree over {} entries", thousands(theirs)),
                );
            }
        }
    }
    if report.exit != Exit::Ok {
        report.verdict = "nothing was restored".into();
        return Ok((report, written.owner));
    }
    let note = newest.filter(|_| gone > 0).map_or_else(Vec::new, |known| known.signed.encode());
    end(args, &mut written, note).map_err(|error| Fault::write(log, error.to_string()))?;
    let keys = args.to.join("keys");
    let missing: Vec<&str> = KEYS.into_iter().filter(|name| !keys.join(name).exists()).collect();
    if !missing.is_empty() {
        let detail = format!("copy {} into {} before the node starts", missing.join(", "), keys.display());
        report.check("keys", State::Warn, detail);
    }
    report.data["keys_missing"] = json!(missing);
    report.verdict = format!(
        "restored up to record {last}; next: flkd --data.dir {} --node.id {}, and never the nodes of before",
        args.to.display(),
        args.node
    );
    Ok((report, written.owner))
}

fn fold(log: &Path, region: &str, known: &[Known], keys: &[Verifier], ui: Ui) -> Result<Found, Faulty> {
    let files = LogFiles::open(log)?;
    let mut watch = Heads { keys: keys.to_vec(), ..Heads::default() };
    watch.wanted.extend(known.iter().map(|known| (known.signed.checkpoint.size, None)));
    let scratch = Scratch::new(None).map_err(Faulty::Unusable)?;
    let ledger = scratch.ledger(region).map_err(Faulty::Unusable)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut fold = Fold::new(ledger, &Source::Attested, threads);
    files.fold("verify", Begin::FIRST, ui, &mut fold, &mut watch)?;
    let (size, counts) = (fold.ledger().tree().size(), fold.counts());
    Ok(Found { size, counts, watch })
}

/// What a new group of one begins with, and what was done.
fn end(args: &Args, written: &mut Written, note: Vec<u8>) -> Result<(), segments::copy::CopyError> {
    let (alone, declared) = (written.last.next(), written.last.next().next());
    let vote = membership::vote(TERM, args.node);
    written.new.push(&Frame::vote(TERM, &vote))?;
    let member = membership::alone(args.node, &args.address, written.owner.incarnation);
    written.new.push(&Frame::entry(alone, TERM, &member))?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let event = Event::Declared(Declared {
        at_ms: now.map_or(0, |now| now.as_millis() as u64).min(TIME_MAX_MS),
        region: args.region.clone(),
        at: Position::of(alone),
        why: args.why.clone(),
        what: Declaration::Restored { note },
    });
    let mut bytes = Vec::new();
    Record { leader: args.node, payload: Payload::Events(vec![event]) }.encode(&mut bytes);
    written.new.push(&Frame::entry(declared, TERM, &bytes))?;
    written.new.commit(declared)
}
