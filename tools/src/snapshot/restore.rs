//! `flk snapshot restore`: a data directory that a node can start from.
//!
//! A directory that was restored must never vote in the name of the node it was saved from: it knows nothing of what that
//! node promised since (F16, F17 of the fault model).
//! - Restored as a group of its own, it gets a new cluster, so that no node of the old group speaks with it. Whose log it
//!   is stands in every checksum of a segment, so the log is written anew; positions, terms and records stay the same.
//!   Votes are left out, and behind the last record stands a membership of one.
//! - Restored as a new member of its group, it must have a name that the log never mentions. Its segments are copied, as
//!   a new node fetches them from a member, and it waits to be taken in.
//!
//! The identity is written last: a directory in which this was interrupted has a log of nobody, and is refused.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use engine::codec::hex;
use segments::copy::{CopyError, NewLog};
use segments::{Frame, Identity, Kind, Owner, Scan};
use serde_json::json;

use super::listing::Listing;
use super::membership::{self, ADDRESS_MAX};
use super::save::{failed, repeat, unreadable, unwritable};
use super::verify;
use crate::report::{Exit, Fault, Report, State};
use crate::ui::{Ui, Unit};

/// Makes a data directory of a snapshot, for a new group of one or for a new member of the group it is from
///
/// The first is for a log whose nodes are all lost; whatever was acknowledged after the snapshot is not in it. It must not
/// run beside the group that it was saved from: both would sign checkpoints of one log. Copy keys/kek and keys/log.key
/// into DIR/keys before the node starts.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The snapshot
    pub snapshot: PathBuf,
    /// The data directory: one that is not there, or holds nothing but keys
    pub dir: PathBuf,
    /// Its node.id
    #[arg(long, value_name = "NODE")]
    pub node: u64,
    /// Keep the cluster: the node waits until `flk cluster add` takes it into its group, under a name never used
    #[arg(long)]
    pub member: bool,
    /// Its cluster.advertise, if others are to join its new group
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "",
        hide_default_value = true,
        conflicts_with = "member"
    )]
    pub address: String,
}

/// Restores.
///
/// # Errors
/// The snapshot is not what was saved (exit codes 2 and 3), or the directory is in use.
pub fn run(args: &Args, ui: Ui) -> Result<Report, Fault> {
    let (from, to) = (args.snapshot.join("log"), args.dir.join("log"));
    if args.node == 0 || args.address.len() > ADDRESS_MAX {
        let why = format!("a name is 1 or more, an address at most {ADDRESS_MAX} bytes");
        return Err(Fault::new("no such node", args.node, why, "give --node NODE as in its settings"));
    }
    if let Some(taken) = taken(&args.dir) {
        let next = "name another directory; a log is never overwritten";
        return Err(Fault::new(
            "the directory is in use",
            args.dir.display(),
            format!("it holds {taken}"),
            next,
        ));
    }
    let listing = Listing::read(&args.snapshot)?;
    let mut report = Report::new("flk snapshot restore");
    if !verify::files(&args.snapshot, &listing, ui, &mut report)? {
        verify::place(&args.snapshot, None, &mut report);
        report.verdict = "nothing was restored: the snapshot is not what was saved".into();
        return Ok(report);
    }
    let scan = Scan::open(&from).map_err(|error| unreadable(&from, &error))?;
    let old = scan.identity().clone();
    if (old.cluster, &old.region) != (listing.cluster, &listing.region) {
        return Err(Fault::read(&from, "it is another log than the listing says").exit(Exit::Tampered));
    }
    let incarnation = u64::from_le_bytes(random()?).max(1);
    let cluster = if args.member { old.cluster } else { random()? };
    let owner = Owner {
        identity: Identity { cluster, region: old.region },
        node: args.node,
        incarnation,
        joined: args.member,
    };
    let copied = if args.member { scan.sealed() } else { 0 };
    let bytes = scan.length(scan.last()).map_err(|error| unreadable(&from, &error))?;
    let mut progress = ui.progress("copy", listing.bytes(), Unit::Bytes);
    let begun =
        NewLog::begin(&to, owner.identity.clone(), bytes, (&from, copied), &mut |bytes| progress.add(bytes));
    let mut new = begun.map_err(|error| unwritable(&to, &error))?;
    let keep = |frame: &Frame<'_>| args.member || frame.kind != Kind::Vote;
    let facts = repeat((&scan, copied), &mut new, keep).map_err(|error| failed(&from, &to, &error))?;
    progress.finish();
    if facts.tip.0 != listing.last {
        let why = format!("it ends at record {}, and the listing says {}", facts.tip, listing.last);
        return Err(Fault::read(&from, why).exit(Exit::Tampered));
    }
    if args.member && facts.members.contains(&args.node) {
        // Whoever had that name may have promised something that this copy does not know.
        drop(new);
        remove(&to)?;
        let why = "the log mentions a node of that name";
        return Err(Fault::new(
            "the name was used",
            args.node,
            why,
            "choose one that was never used, with a certificate of its own",
        ));
    }
    let write = |new: &mut NewLog| -> Result<(), CopyError> {
        new.commit(facts.tip)?;
        if !args.member {
            let (vote, alone) = (
                membership::vote(facts.term(), args.node),
                membership::alone(args.node, &args.address, incarnation),
            );
            new.push(&Frame::vote(facts.term(), &vote))?;
            new.push(&Frame::entry(facts.tip.next(), facts.term(), &alone))?;
            new.commit(facts.tip.next())?;
        }
        Ok(())
    };
    write(&mut new).map_err(|error| unwritable(&to, &error))?;
    drop(new);
    own(&args.dir, &owner).map_err(|error| Fault::write(&args.dir.join("identity"), error))?;

    let last = listing.last;
    report.check("log", State::Ok, format!("up to record {last}, region {}", owner.identity.region));
    let group = if args.member { "its group's" } else { "a new one" };
    report.check("cluster", State::Ok, format!("{}, {group}", hex(&cluster)));
    report.check("node", State::Ok, format!("{}, incarnation {incarnation:016x}", args.node));
    let keys = args.dir.join("keys");
    let missing: Vec<&str> =
        ["kek", "log.key"].into_iter().filter(|name| !keys.join(name).exists()).collect();
    if !missing.is_empty() {
        let detail = format!("copy {} into {} before the node starts", missing.join(" and "), keys.display());
        report.check("keys", State::Warn, detail);
    }
    report.data["restored"] = json!({
        "last": last, "node": args.node, "member": args.member, "cluster": hex(&cluster),
        "incarnation": format!("{incarnation:016x}"), "keys_missing": missing,
    });
    let dir = args.dir.display();
    report.verdict = if args.member {
        format!(
            "restored; next: flkd --data.dir {dir} --node.id {0} ..., then flk cluster add {0} ADDRESS",
            args.node
        )
    } else {
        format!(
            "restored; next: flkd --data.dir {dir} --node.id {}, and never the group it was saved from",
            args.node
        )
    };
    Ok(report)
}

/// What of a node is in a directory, beside keys.
pub(crate) fn taken(dir: &Path) -> Option<String> {
    let list = std::fs::read_dir(dir).ok()?;
    let names = list.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.into_iter().find(|name| name != "keys")
}

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Fault::new("no randomness", "the operating system", error, "try again"))?;
    Ok(bytes)
}

fn remove(dir: &Path) -> Result<(), Fault> {
    std::fs::remove_dir_all(dir).map_err(|error| Fault::write(dir, error))
}

/// Says whose directory it is, durably.
pub(crate) fn own(dir: &Path, owner: &Owner) -> std::io::Result<()> {
    let path = dir.join("identity");
    let mut file = File::create_new(&path)?;
    file.write_all(owner.text().as_bytes())?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
}
