//! Where a restore takes things from: the lost log, and the logs of others that it had taken in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine::event::{Item, Position};
use engine::ids::TenantId;
use engine::log::Lsn;

use super::held::Held;
use super::place::{Shipments, keys};
use super::restore::Args;
use crate::report::{Exit, Fault};
use crate::ui::{Ui, thousands};

/// Where a lost region's log is.
pub(super) struct Lost {
    pub log: Shipments,
    /// What a survivor holds, if there are no bills.
    pub held: Option<Held>,
    pub place: PathBuf,
}

/// The lost log, and those of others that it may have taken in.
pub(super) fn sources(args: &Args, ui: Ui) -> Result<(Lost, Vec<Shipments>), Fault> {
    let (region, mut peers) = (&args.region, peers(args)?);
    if let Some(place) = &args.place {
        let log = Shipments::open(place, region, &args.keys)?;
        return Ok((Lost { log, held: None, place: place.clone() }, peers));
    }
    let Some(data) = &args.survivor else {
        let next = "flk region restore --help";
        return Err(Fault::new("nothing to restore from", region, "neither --place nor --survivor", next));
    };
    let key = keys(&args.keys, region)?.log;
    let held = Held::read(data, ui)?;
    if !held.logs.contains_key(region) || held.survivor == *region {
        let why = format!("it is of region {} and has taken in nothing of {region}", held.survivor);
        let next = "name the data directory of a region that had";
        return Err(Fault::new("nothing to restore", data.display(), why, next).exit(Exit::Missing));
    }
    let log = Shipments::held(&held, region, vec![key])?;
    for other in held.logs.keys().filter(|other| *other != region) {
        if !peers.iter().any(|peer| peer.region == *other) {
            peers.push(Shipments::held(&held, other, Vec::new())?);
        }
    }
    Ok((Lost { log, held: Some(held), place: data.clone() }, peers))
}

fn peers(args: &Args) -> Result<Vec<Shipments>, Fault> {
    let mut peers: Vec<Shipments> = Vec::new();
    for text in &args.peer {
        let words: Vec<&str> = text.split_whitespace().collect();
        let next = "give --peer 'NAME PLACE VKEY_FILE'";
        let &[name, place, vkeys] = words.as_slice() else {
            return Err(Fault::new("no peer", text, "it is not: name place vkey_file", next));
        };
        if name == args.region || peers.iter().any(|peer| peer.region == name) {
            return Err(Fault::new("no peer", text, "it stands twice, or is the lost region", next));
        }
        peers.push(Shipments::open(Path::new(place), name, Path::new(vkeys))?);
    }
    Ok(peers)
}

/// What is withheld is nowhere but in the region's own log: there is no other place from which it could be made again.
pub(super) fn withheld(lost: &mut Lost) -> Fault {
    let mut tenants: BTreeMap<TenantId, u64> = BTreeMap::new();
    let counted = lost.log.seek(Position::FIRST).and_then(|_| {
        while let Some(item) = lost.log.next()? {
            if let Item::Withheld(withheld) = item {
                *tenants.entry(withheld.tenant).or_default() += 1;
            }
        }
        Ok(())
    });
    let all: u64 = tenants.values().sum();
    let names: Vec<String> = tenants.iter().map(|(tenant, count)| format!("{tenant} ({count})")).collect();
    let least = if counted.is_ok() { "" } else { "at least " };
    let why = format!(
        "{least}{} submissions of {} were withheld: region {} alone has them, and without them there is no log",
        thousands(all),
        names.join(", "),
        lost.log.region
    );
    let next = "restore a copy of that region's own data: flk snapshot, or a disk of one of its nodes";
    Fault::new("cannot restore", lost.place.display(), why, next).exit(Exit::Missing)
}

/// What the lost region had imported, from the shipments of whose it was.
pub(super) fn again(
    peers: &mut [Shipments],
    origin: &str,
    from: Position,
    to: Position,
    lsn: Lsn,
) -> Result<Vec<Item>, Fault> {
    let fault = |why: String, next: String| {
        Fault::new("an import is missing", format!("record {lsn}"), why, next).exit(Exit::Missing)
    };
    let Some(peer) = peers.iter_mut().find(|peer| peer.region == origin) else {
        let why = format!("it took in records of region {origin}, which is not named");
        return Err(fault(why, format!("give --peer '{origin} PLACE VKEY_FILE'")));
    };
    // A range that came twice, or again after a readmission, begins before the end of the last one.
    if from != peer.position() && !peer.seek(from)? || to <= from {
        let why = format!("it took in region {origin} from record {}, where none begins", from.lsn);
        return Err(fault(why, "keep the place for whoever finds out why".into()).exit(Exit::Tampered));
    }
    let mut items = Vec::new();
    while peer.position() < to {
        let Some(item) = peer.next()? else {
            let (ends, wanted) = (peer.position().lsn.0 - 1, to.lsn);
            let why = format!("region {origin}'s place ends at record {ends}, and {wanted} is needed");
            return Err(fault(why, "wait until that region has shipped, or restore its place".into()));
        };
        items.push(item);
    }
    Ok(items)
}
