//! `worm export`: the published part of a log as plain files, for programs that we did not write.
//!
//! What it writes is an evidence pack ([`crate::pack`]) of the whole log, its tiles made from the lines of the WORM
//! files, whatever tiles the directory holds.

use std::path::{Path, PathBuf};

use engine::checkpoint::Signed;
use engine::log::Digest;
use engine::tree::tiles::{Kind, LEVEL_MAX, Tile, WIDTH, bundle_push};
use serde_json::json;

use super::lines::Place;
use super::tree::{Nodes, insist, pass};
use crate::audit::home::{Home, HomeArgs, read_vkey};
use crate::audit::keychain::{self, STATEMENT_MAX};
use crate::pack::plan::Plan;
use crate::pack::tiles::read_file;
use crate::pack::write::finish;
use crate::pack::{Claim, FORMAT, put};
use crate::report::{Fault, Report, State};
use crate::ui::{Ui, bytes, thousands};

/// Writes checkpoint, tiles, entries and a few receipts as plain files
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    /// The data directory.
    pub home: HomeArgs,
    /// Folder to write; it must not exist or be empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Region [default: the only one]
    #[arg(long)]
    pub region: Option<String>,
    /// Receipts to write, spread over the log
    #[arg(long, default_value_t = 8)]
    pub proofs: u64,
    /// Copy the segments, too: then every entry is made again from them when the pack is checked
    #[arg(long)]
    pub segments: bool,
}

/// The region asked for, or the only one there is.
///
/// # Errors
/// There is none, or more than one and none was named.
pub fn region(home: &Home, asked: Option<&String>) -> Result<String, Fault> {
    if let Some(region) = asked {
        return Ok(region.clone());
    }
    let regions = home.regions();
    match regions.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Fault::new(
            "no published tree",
            home.dir().join("tlog").display(),
            "there is no region in it",
            "start flkd once and submit something",
        )
        .exit(crate::report::Exit::Missing)),
        many => Err(Fault::new(
            "which region?",
            home.dir().join("tlog").display(),
            many.join(", "),
            "give --region NAME",
        )),
    }
}

/// Tiles of one pass, written as they fill.
struct Rows {
    out: PathBuf,
    size: u64,
    hashes: Vec<Vec<u8>>,
    bundle: Vec<u8>,
    files: u64,
}

impl Rows {
    fn write(&mut self, kind: Kind, index: u64, bytes: &[u8]) -> Result<(), Fault> {
        let Some(tile) = Tile::at(kind, index, self.size) else { return Ok(()) };
        write(&self.out.join(tile.path()), bytes)?;
        self.files += 1;
        Ok(())
    }

    fn leaf(&mut self, seq: u64, line: &[u8], made: &[(u8, u64, Digest)]) -> Result<(), Fault> {
        bundle_push(&mut self.bundle, line);
        let last = seq + 1 == self.size;
        if (seq + 1).is_multiple_of(WIDTH) || last {
            let bundle = std::mem::take(&mut self.bundle);
            self.write(Kind::Entries, seq / WIDTH, &bundle)?;
        }
        for (level, index, hash) in made.iter().filter(|(level, ..)| level % 8 == 0) {
            let row = usize::from(level / 8);
            self.hashes[row].extend_from_slice(&hash.0);
            if (index + 1).is_multiple_of(WIDTH) {
                let bytes = std::mem::take(&mut self.hashes[row]);
                self.write(Kind::Hashes { level: level / 8 }, index / WIDTH, &bytes)?;
            }
        }
        if last {
            for level in 0..=LEVEL_MAX {
                let bytes = std::mem::take(&mut self.hashes[usize::from(level)]);
                if !bytes.is_empty() {
                    self.write(
                        Kind::Hashes { level },
                        (self.size >> (8 * u32::from(level))) / WIDTH,
                        &bytes,
                    )?;
                }
            }
        }
        Ok(())
    }
}

/// Writes a file and the folders it stands in.
///
/// # Errors
/// The file system refuses.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(|error| Fault::write(folder, error))?;
    std::fs::write(path, bytes).map_err(|error| Fault::write(path, error))
}

/// Copies the segments of a log into a pack, whose claim then says so. Bytes copied.
///
/// # Errors
/// The file system refuses.
pub fn copy_segments(log: &Path, out: &Path, claim: &Claim) -> Result<u64, Fault> {
    let to = out.join("log");
    std::fs::create_dir_all(&to).map_err(|error| Fault::write(&to, error))?;
    let mut copied = 0;
    for entry in std::fs::read_dir(log).map_err(|error| Fault::read(log, error))? {
        let entry = entry.map_err(|error| Fault::read(log, error))?;
        let name = entry.file_name();
        let wanted =
            name.to_str().is_some_and(|name| name == "MANIFEST" || name == "SPARE" || name.ends_with(".seg"));
        if wanted {
            let path = entry.path();
            copied += std::fs::copy(&path, to.join(name)).map_err(|error| Fault::write(&path, error))?;
        }
    }
    put(&out.join("pack.json"), &Claim { segments: true, ..claim.clone() }.encode())?;
    Ok(copied)
}

/// Exports.
///
/// # Errors
/// The directory lacks parts, its entries are not what its checkpoint signs, or the files cannot be written.
pub fn run(args: &Args, ui: Ui) -> Result<Report, Fault> {
    let home = Home::open(&args.home)?;
    let region = region(&home, args.region.as_ref())?;
    let (note, signed, _) = home.published(&region)?;
    if std::fs::read_dir(&args.out).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Fault::new(
            "will not write into a used folder",
            args.out.display(),
            "it is not empty",
            "choose another --out",
        ));
    }
    let (rows, copied) = export(&home, args, &note, &signed, ui)?;
    let mut report = Report::new("worm export");
    let size = signed.checkpoint.size;
    report.check(
        "checkpoint",
        State::Ok,
        format!("{} over {} entries", signed.checkpoint.origin, thousands(size)),
    );
    report.check(
        "tiles",
        State::Ok,
        format!("{} files, root {} as signed", thousands(rows), signed.checkpoint.root),
    );
    let proofs = args.proofs.min(size);
    report.check("receipts", State::Ok, format!("{proofs} in {}", args.out.join("proofs").display()));
    if args.segments {
        report.check("segments", State::Ok, format!("{} copied", bytes(copied)));
    }
    report.data = json!({"origin": signed.checkpoint.origin, "size": size, "root": signed.checkpoint.root.to_string(),
        "files": rows, "proofs": proofs, "out": args.out});
    report.verdict =
        format!("{} holds everything that someone else needs to check this log", args.out.display());
    Ok(report)
}

fn export(home: &Home, args: &Args, note: &[u8], signed: &Signed, ui: Ui) -> Result<(u64, u64), Fault> {
    let (size, out) = (signed.checkpoint.size, &args.out);
    let mut rows = Rows {
        out: out.clone(),
        size,
        hashes: vec![Vec::new(); usize::from(LEVEL_MAX) + 1],
        bundle: Vec::new(),
        files: 0,
    };
    let mut each = |seq: u64, line: &[u8], _: &Place, made: &[(u8, u64, Digest)]| rows.leaf(seq, line, made);
    let root = pass(&home.worm(), size, ui, &mut Nodes::default(), &mut each)?;
    insist(signed, root, &home.worm())?;
    let plan = Plan::whole(size);
    let claim = Claim {
        format: FORMAT.into(),
        origin: signed.checkpoint.origin.clone(),
        size,
        root: root.to_string(),
        bundles: (plan.bundles.start, plan.bundles.end),
        period: None,
        since: None,
        source: home.dir().display().to_string(),
        segments: false,
    };
    put(&out.join("pack.json"), &claim.encode())?;
    if let Ok(verifier) = read_vkey(&home.vkey().display().to_string()) {
        write(&out.join("vkey"), verifier.text().as_bytes())?;
    }
    for (step, bytes) in keychain::collect(|name| read_file(&home.statements().join(name), STATEMENT_MAX))? {
        write(&out.join(keychain::name(step.number)), &bytes)?;
    }
    write(&out.join("checkpoint"), note)?;
    let tiles = home.dir().join("tlog").join(region(home, args.region.as_ref())?);
    crate::pack::anchors::copy(crate::pack::anchors::names_in(&tiles)?, 0..=size, out, |name| {
        crate::pack::tiles::read_file(&tiles.join(name), 4 * engine::limits::NOTE_MAX as u64)
    })?;
    let copied = if args.segments { copy_segments(&home.log(), out, &claim)? } else { 0 };
    finish(out, &plan, note, args.proofs)?;
    Ok((rows.files, copied))
}

#[cfg(test)]
mod tests {
    use engine::checkpoint::Receipt;
    use engine::tree::tiles::{TileHashes, bundle_entries};

    use super::*;
    use crate::pack::write::spread;
    use crate::world::World;

    #[test]
    fn an_export_is_the_tree_that_was_signed() {
        let world = World::busy(400);
        let folder = tempfile::tempdir().unwrap();
        let (dir, out) = (folder.path().join("data"), folder.path().join("out"));
        std::fs::create_dir_all(dir.join("log")).unwrap();
        world.write_projections(&dir);
        let args =
            Args { home: HomeArgs::of(&dir), out: out.clone(), region: None, proofs: 5, segments: false };
        run(&args, Ui::quiet()).unwrap();
        let (_, signed) = crate::audit::home::read_checkpoint(&out.join("checkpoint")).unwrap();
        let size = signed.checkpoint.size;
        assert!(size > 900);
        let mut hashes = TileHashes::new(size, |tile: Tile| std::fs::read(out.join(tile.path())));
        assert_eq!(engine::tree::root_at(size, &mut hashes).unwrap(), signed.checkpoint.root);
        let mut all = Vec::new();
        for index in 0..size.div_ceil(WIDTH) {
            let tile = Tile::at(Kind::Entries, index, size).unwrap();
            let bytes = std::fs::read(out.join(tile.path())).unwrap();
            all.extend(bundle_entries(&bytes).unwrap().into_iter().map(<[u8]>::to_vec));
        }
        let leaves: Vec<_> = world.leaves.iter().map(|(_, leaf)| leaf.clone()).collect();
        assert_eq!(all, leaves[..size as usize]);
        for index in spread(0..size, 5) {
            let proof = std::fs::read(out.join(format!("proofs/{index}.tlog-proof"))).unwrap();
            let entry = std::fs::read(out.join(format!("proofs/{index}.entry"))).unwrap();
            Receipt::parse(&proof).unwrap().verify(&entry, &world.signer.verifier()).unwrap();
        }
        assert_eq!(run(&args, Ui::quiet()).unwrap_err().what, "will not write into a used folder");
    }

    #[test]
    fn samples_reach_from_the_first_to_the_last() {
        assert_eq!(spread(0..0, 5), Vec::<u64>::new());
        assert_eq!(spread(0..1, 5), [0]);
        assert_eq!(spread(7..10, 5), [7, 8, 9]);
        assert_eq!(spread(0..1000, 3), [0, 499, 999]);
    }
}
