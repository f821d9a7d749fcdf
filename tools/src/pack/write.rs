//! Making a pack: every file is held against the signed root before it is written, so that a pack which is whole holds.
//!
//! What is there already is checked like what comes in, and fetched again if it does not hold: an interrupted fetch
//! goes on with the checkpoint it began with. Memory: one tile of each level and one bundle.

use std::path::Path;

use engine::checkpoint::{KeyStep, LogKeys, Receipt, Signed, VERIFY_PAGE};
use engine::log::Digest;
use engine::tree::tiles::{Kind, Tile, TileHashes};
use engine::tree::{inclusion_proof, leaf_hash};

use super::plan::Plan;
use super::source::Source;
use super::tiles::{BadTile, Checked, Folder, Refused, Tiles, digest, read_file, tile_max};
use super::{Claim, FORMAT, Pack, put, write_sums};
use crate::audit::keychain;
use crate::report::{Exit, Fault};
use crate::ui::{Ui, Unit};

/// What is to be in a pack.
#[derive(Clone, Debug, Default)]
pub struct Want {
    /// Only the entries of this period, and the ones right before and after it; milliseconds, both ends included.
    pub period: Option<(u64, u64)>,
    /// Size of an older checkpoint that the pack must connect with the new one.
    pub since: Option<u64>,
    /// The key that must have signed; the one that the source claims if there is none.
    pub vkey: Option<LogKeys>,
    /// Receipts to write, spread over the entries.
    pub proofs: u64,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// What the pack says of itself.
    pub claim: Claim,
    /// The checkpoint.
    pub signed: Signed,
    /// Whether the caller's own key signed it; else the one that came with it.
    pub own_key: bool,
    /// Files fetched, and files that were there.
    pub files: (u64, u64),
    /// Bytes of them.
    pub bytes: u64,
}

/// An entry that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadEntry {
    /// Its number.
    pub seq: u64,
    /// Where it begins in its bundle.
    pub offset: usize,
    /// What is wrong.
    pub why: String,
}

/// The entries of a bundle, each of which hashes to what the tile over them says, with the offsets of their bytes.
///
/// # Errors
/// The first one that does not.
pub fn entries<'a>(bundle: Tile, bytes: &'a [u8], hashes: &[u8]) -> Result<Vec<(usize, &'a [u8])>, BadEntry> {
    let width = usize::from(bundle.width);
    let mut found = Vec::with_capacity(width);
    let (mut offset, mut cut) = (0, None);
    while found.len() < width {
        let length = bytes.get(offset..offset + 2).map(|length| u16::from_be_bytes([length[0], length[1]]));
        let from = offset + 2;
        let Some(entry) = length.and_then(|length| bytes.get(from..from + usize::from(length))) else {
            cut = Some(format!("the bundle ends after {} of {width} entries", found.len()));
            break;
        };
        found.push((from, entry));
        offset = from + entry.len();
    }
    if cut.is_none() && offset != bytes.len() {
        cut = Some(format!("{} bytes after the last of {width} entries", bytes.len() - offset));
    }
    // An entry that is another comes first: what stands behind it may only follow from its length.
    for (nth, ((_, entry), want)) in found.iter().zip(hashes.chunks_exact(32)).enumerate() {
        let have = leaf_hash(entry);
        if have.0 != want {
            let why = format!("leaf {have}, expected {}", digest(want));
            return Err(BadEntry { seq: bundle.first() + nth as u64, offset: found[nth].0 - 2, why });
        }
    }
    match cut {
        Some(why) => Err(BadEntry { seq: bundle.first() + found.len() as u64, offset, why }),
        None => Ok(found),
    }
}

/// What is in the pack already, then the source.
struct Both<'a> {
    source: &'a mut Source,
    out: &'a Path,
    counts: (u64, u64),
    bytes: u64,
}

impl Tiles for Both<'_> {
    fn tile(&mut self, tile: Tile) -> Result<Option<Vec<u8>>, Fault> {
        if let Some(bytes) = read_file(&self.out.join(tile.path()), tile_max(tile))? {
            return Ok(Some(bytes));
        }
        let bytes = self.source.tile(tile)?;
        self.counts.0 += 1;
        self.bytes += bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        Ok(bytes)
    }
}

fn bad_tile(source: &str, bad: BadTile) -> Fault {
    let exit = if bad.missing { Exit::Missing } else { Exit::Tampered };
    Fault::new(
        "what came is not what the checkpoint signs",
        format!("{} of {source}", bad.place),
        bad.why,
        "nothing of it was kept; ask another copy of the log, and keep the checkpoint as evidence",
    )
    .exit(exit)
}

fn refused(source: &str, refused: Refused) -> Fault {
    match refused {
        Refused::Bad(bad) => bad_tile(source, bad),
        Refused::Fault(fault) => fault,
    }
}

/// The keys to hold the checkpoint against, whether the caller's own is among them, and the bytes to keep: those of the key, and
/// the statements by which the others follow.
struct Key {
    keys: Option<LogKeys>,
    own: bool,
    bytes: Option<Vec<u8>>,
    statements: Vec<(KeyStep, Vec<u8>)>,
}

fn key(source: &mut Source, want: &Want) -> Result<Key, Fault> {
    let bytes = source.vkey()?;
    let claimed = bytes.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok());
    let claimed = claimed.and_then(|text| LogKeys::parse(text).ok());
    let (own, bytes) = match &want.vkey {
        Some(own) => (true, Some(own.text().into_bytes())),
        None => (false, bytes),
    };
    let statements = source.statements()?;
    let keys = want.vkey.clone().or(claimed).map(|keys| keychain::follow(&keys, &statements)).transpose()?;
    Ok(Key { keys, own, bytes, statements })
}

fn head(note: &[u8], key: Option<&LogKeys>, place: &str) -> Result<Signed, Fault> {
    let bad = |why: String| {
        let next = "compare the key with a copy from elsewhere; keep what came as evidence";
        Fault::new("this checkpoint is not the log's", place, why, next).exit(Exit::Tampered)
    };
    let signed = Signed::parse(note).map_err(|error| bad(error.to_string()))?;
    if let Some(key) = key {
        key.verify(&signed).map_err(|error| bad(error.to_string()))?;
    }
    Ok(signed)
}

/// What an interrupted fetch left: its checkpoint and its claim.
fn begun(out: &Path, want: &Want) -> Result<Option<(Vec<u8>, Claim)>, Fault> {
    if !std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        return Ok(None);
    }
    let pack = Pack::of(out);
    let used = |why: &str| {
        Fault::new("will not write into a used folder", out.display(), why, "choose another folder")
    };
    let claim = pack.claim()?.ok_or_else(|| used("it is not empty, and no fetch of a pack began there"))?;
    let note = read_file(&pack.checkpoint(), engine::limits::NOTE_MAX as u64)?
        .ok_or_else(|| used("it has no checkpoint to go on with"))?;
    if claim.period != want.period || claim.since != want.since {
        return Err(used("a fetch of another period, or since another checkpoint, began there"));
    }
    Ok(Some((note, claim)))
}

/// Makes a pack in `out`, or finishes one.
///
/// # Errors
/// The source cannot be read, or what it gives is not what its checkpoint signs; or `out` cannot be written.
pub fn make(source: &mut Source, out: &Path, want: &Want, ui: Ui) -> Result<Made, Fault> {
    let name = source.name();
    let key = key(source, want)?;
    let begun = begun(out, want)?;
    let note = match &begun {
        Some((note, _)) => note.clone(),
        None => source.checkpoint()?,
    };
    let signed = head(&note, key.keys.as_ref(), &format!("checkpoint of {name}"))?;
    let size = signed.checkpoint.size;
    let bundles = match (&begun, want.period) {
        (Some((_, claim)), _) => claim.bundles.0..claim.bundles.1,
        (None, Some(period)) => source.bundles_of(period, size)?,
        (None, None) => 0..u64::MAX,
    };
    let plan = Plan::new(size, bundles, want.since);
    let claim = Claim {
        format: FORMAT.into(),
        origin: signed.checkpoint.origin.clone(),
        size,
        root: signed.checkpoint.root.to_string(),
        bundles: (plan.bundles.start, plan.bundles.end),
        period: want.period,
        since: want.since,
        source: name.clone(),
        segments: false,
    };
    if let Err(error) = std::fs::remove_file(out.join("SHA256SUMS"))
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(Fault::write(out, error));
    }
    put(&out.join("checkpoint"), &note)?;
    put(&out.join("pack.json"), &claim.encode())?;
    if let Some(bytes) = key.bytes {
        put(&out.join("vkey"), &bytes)?;
    }
    for (step, bytes) in &key.statements {
        put(&out.join(keychain::name(step.number)), bytes)?;
    }
    for (name, bytes) in source.stamps()? {
        put(&out.join(name), &bytes)?;
    }
    // Those of other periods would hang in the air: the tiles in the pack do not lead to them.
    let entries = plan.entries();
    source.anchors(entries.start + 1..=entries.end, out)?;
    let (files, bytes) = fill(source, out, &plan, &signed.checkpoint.root, ui)?;
    finish(out, &plan, &note, want.proofs)?;
    Ok(Made { claim, signed, own_key: key.own, files, bytes })
}

/// The tree's part of a pack.
fn fill(
    source: &mut Source,
    out: &Path,
    plan: &Plan,
    root: &Digest,
    ui: Ui,
) -> Result<((u64, u64), u64), Fault> {
    let name = source.name();
    let both = Both { source, out, counts: (0, 0), bytes: 0 };
    let mut checked = Checked::new(plan.size, both);
    let bundles = plan.bundles.end - plan.bundles.start;
    let total = if plan.is_whole() { bundles + bundles.div_ceil(255) } else { 2 * bundles };
    let mut progress = ui.progress("fetch  ", total, Unit::Items("files"));
    edge(&mut checked, out, plan, root, &name)?;
    let edge = plan.edge().count();
    progress.add(edge as u64);
    for tile in plan.tiles().skip(edge) {
        let path = out.join(tile.path());
        let had = path.is_file();
        match checked.insist(tile) {
            Ok(bytes) if !had => put(&path, bytes)?,
            Ok(_) => checked.source().counts.1 += 1,
            // It was cut off or changed while it lay here.
            Err(Refused::Bad(_)) if had => {
                std::fs::remove_file(&path).map_err(|error| Fault::write(&path, error))?;
                checked.forget(tile);
                put(&path, checked.insist(tile).map_err(|bad| refused(&name, bad))?)?;
            }
            Err(bad) => return Err(refused(&name, bad)),
        }
        progress.add(1);
    }
    for tile in plan.entry_tiles() {
        bundle(&mut checked, out, tile, &name)?;
        progress.add(1);
    }
    progress.finish();
    let both = checked.source();
    Ok((both.counts, both.bytes))
}

fn edge(
    checked: &mut Checked<Both<'_>>,
    out: &Path,
    plan: &Plan,
    root: &Digest,
    name: &str,
) -> Result<(), Fault> {
    let had = plan.edge().filter(|tile| out.join(tile.path()).is_file()).count();
    let mut have = checked.root();
    if had > 0 && !have.as_ref().is_ok_and(|have| have == root) {
        for tile in plan.edge() {
            let _ = std::fs::remove_file(out.join(tile.path()));
            checked.forget(tile);
        }
        have = checked.root();
    }
    let have = have.map_err(|bad| refused(name, bad))?;
    if have != *root {
        let why = format!("the tiles give root {have}, the checkpoint over {} signs {root}", plan.size);
        return Err(bad_tile(name, BadTile { place: "tile".into(), why, missing: false }));
    }
    for tile in plan.edge() {
        let path = out.join(tile.path());
        if path.is_file() {
            checked.source().counts.1 += 1;
        } else {
            put(&path, checked.read(tile).map_err(|bad| refused(name, bad))?)?;
        }
    }
    Ok(())
}

fn bundle(checked: &mut Checked<Both<'_>>, out: &Path, tile: Tile, name: &str) -> Result<(), Fault> {
    let path = out.join(tile.path());
    let over = Tile { kind: Kind::Hashes { level: 0 }, ..tile };
    let hashes = checked.read(over).map_err(|bad| refused(name, bad))?.to_vec();
    if path.is_file() {
        let held = read_file(&path, tile_max(tile))?;
        if held.is_some_and(|bytes| entries(tile, &bytes, &hashes).is_ok()) {
            checked.source().counts.1 += 1;
            return Ok(());
        }
        std::fs::remove_file(&path).map_err(|error| Fault::write(&path, error))?;
    }
    let missing = || BadTile { place: tile.path(), why: "it is missing".into(), missing: true };
    let bytes = checked.source().tile(tile)?.ok_or_else(|| bad_tile(name, missing()))?;
    if let Err(bad) = entries(tile, &bytes, &hashes) {
        let place = format!("{tile} entry {} offset {:#x}", bad.seq, bad.offset);
        return Err(bad_tile(name, BadTile { place, why: bad.why, missing: false }));
    }
    put(&path, &bytes)
}

/// Entries spread evenly over a range, the first and the last among them.
#[must_use]
pub fn spread(range: std::ops::Range<u64>, count: u64) -> Vec<u64> {
    let size = range.end - range.start;
    let count = count.min(size);
    let mut all: Vec<u64> = (0..count)
        .map(|n| range.start + (u128::from(n) * u128::from(size - 1) / u128::from(count.max(2) - 1)) as u64)
        .collect();
    all.dedup();
    all
}

/// The receipt of an entry in a pack, and the entry.
///
/// # Errors
/// The pack lacks a tile or the entry's bundle, or they do not hold.
pub fn receipt(dir: &Path, size: u64, note: &[u8], index: u64) -> Result<(Receipt, Vec<u8>), Fault> {
    let lost = |place: String| {
        Fault::new(
            "cannot prove an entry from this pack",
            place,
            "a tile or bundle is missing or wrong",
            format!("worm verify {}", dir.display()),
        )
        .exit(Exit::Missing)
    };
    let mut folder = Folder(dir.to_owned());
    let mut hashes = TileHashes::new(size, |tile| match folder.tile(tile) {
        Ok(Some(bytes)) => Ok(bytes),
        _ => Err(()),
    });
    let path = inclusion_proof(index, size, &mut hashes).map_err(|_| lost(format!("entry {index}")))?;
    let tile = Tile::at(Kind::Entries, index / engine::tree::tiles::WIDTH, size)
        .ok_or_else(|| lost(index.to_string()))?;
    let bytes = read_file(&dir.join(tile.path()), tile_max(tile))?.ok_or_else(|| lost(tile.path()))?;
    let all = engine::tree::tiles::bundle_entries(&bytes).ok_or_else(|| lost(tile.path()))?;
    let entry = all.get((index - tile.first()) as usize).ok_or_else(|| lost(tile.path()))?.to_vec();
    Ok((Receipt { extra: None, index, path, checkpoint: note.to_vec() }, entry))
}

/// What stands beside the tree: receipts, the page, how to check all of it, and the sums, which say that it is whole.
///
/// # Errors
/// The file system refuses, or the tree's part is not there.
pub fn finish(out: &Path, plan: &Plan, note: &[u8], proofs: u64) -> Result<(), Fault> {
    for index in spread(plan.entries(), proofs) {
        let (receipt, entry) = receipt(out, plan.size, note, index)?;
        put(&out.join(format!("proofs/{index}.tlog-proof")), &receipt.encode())?;
        put(&out.join(format!("proofs/{index}.entry")), &entry)?;
    }
    put(&out.join("verify.html"), VERIFY_PAGE.as_bytes())?;
    put(&out.join("README.txt"), README.as_bytes())?;
    write_sums(out)
}

/// How to check a pack without us.
pub const README: &str = include_str!("README.txt");

#[cfg(test)]
mod tests {
    use engine::tree::tiles::bundle_push;

    use super::*;

    #[test]
    fn a_bundle_is_its_entries_and_nothing_else() {
        let lines: [&[u8]; 3] = [b"one", b"", b"three"];
        let (mut bytes, mut hashes) = (Vec::new(), Vec::new());
        for line in lines {
            bundle_push(&mut bytes, line);
            hashes.extend_from_slice(&leaf_hash(line).0);
        }
        let tile = Tile { kind: Kind::Entries, index: 2, width: 3 };
        let found: Vec<&[u8]> =
            entries(tile, &bytes, &hashes).unwrap().into_iter().map(|(_, line)| line).collect();
        assert_eq!(found, lines);
        let bad = |bytes: &[u8]| entries(tile, bytes, &hashes).unwrap_err();
        assert_eq!((bad(&bytes[..3]).seq, bad(&bytes[..3]).offset), (512, 0));
        assert!(bad(&bytes[..7]).why.contains("ends after 2"));
        assert!(bad(&[&bytes[..], b"x"].concat()).why.contains("1 bytes after the last"));
        for at in 0..8 * bytes.len() {
            let mut bent = bytes.clone();
            bent[at / 8] ^= 1 << (at % 8);
            bad(&bent);
        }
    }

    #[test]
    fn what_is_spread_stays_inside() {
        assert_eq!(spread(u64::MAX - 3..u64::MAX, 2), [u64::MAX - 3, u64::MAX - 1]);
        assert_eq!(spread(5..5, 3), Vec::<u64>::new());
    }
}
