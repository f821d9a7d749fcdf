//! `worm prove` and `worm get`: one entry of the log, its proof, and what it says.

use std::path::{Path, PathBuf};

use engine::checkpoint::{Receipt, Signed};
use engine::leaf::{Leaf, What, outcome_name};
use engine::summary::PcsId;
use serde_json::{Value, json};

use super::evidence::Evidence;
use super::export::{region, write};
use super::find::{Finds, Found, Want, find};
use crate::audit::home::{Home, HomeArgs};
use crate::pack::Pack;
use crate::receipt::proves;
use crate::report::{Exit, Fault, Report, State};
use crate::ui::{Ui, thousands};

/// Writes a proof that an entry stands in the log, and the entry
#[derive(Clone, Debug, clap::Args)]
pub struct ProveArgs {
    #[command(flatten)]
    /// The data directory, or an evidence pack.
    pub home: HomeArgs,
    /// Id of a summary: 64 hex digits
    #[arg(required_unless_present = "seq")]
    pub pcs_id: Option<String>,
    /// Number of the entry instead
    #[arg(long, conflicts_with = "pcs_id")]
    pub seq: Option<u64>,
    /// Region [default: the only one]
    #[arg(long)]
    pub region: Option<String>,
    /// Folder for the two files
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
}

/// Shows what the log says of a summary
#[derive(Clone, Debug, clap::Args)]
pub struct GetArgs {
    #[command(flatten)]
    /// The data directory.
    pub home: HomeArgs,
    /// Id of a summary: 64 hex digits
    pub pcs_id: String,
    /// Region [default: the only one]
    #[arg(long)]
    pub region: Option<String>,
}

/// Reads the id of a summary.
///
/// # Errors
/// It is none.
pub(crate) fn read_id(text: &str) -> Result<PcsId, Fault> {
    PcsId::from_hex(text).ok_or_else(|| {
        Fault::new(
            "this is no id of a summary",
            text,
            "an id has 64 lower-case hex digits",
            "copy it from the answer's pcs_id",
        )
    })
}

/// Proves one entry under the newest checkpoint.
///
/// # Errors
/// There is no such entry, or the entries are not what the checkpoint signs.
pub fn prove(args: &ProveArgs, ui: Ui) -> Result<Report, Fault> {
    if Pack::is_one(&args.home.dir) {
        return prove_from_pack(args, ui);
    }
    let home = Home::open(&args.home)?;
    let region = region(&home, args.region.as_ref())?;
    let (note, signed, by_key) = home.published(&region)?;
    let size = signed.checkpoint.size;
    let (found, name) = match (&args.pcs_id, args.seq) {
        (Some(text), _) => {
            let id = read_id(text)?;
            (find(&home, &region, &signed, Want::First(&id), ui)?, text.clone())
        }
        (None, Some(seq)) if seq < size => {
            (find(&home, &region, &signed, Want::Seq(seq), ui)?, seq.to_string())
        }
        (None, other) => return Err(absent(&home.worm(), &other.unwrap_or_default().to_string(), size)),
    };
    let entry = found.found.into_iter().next().ok_or_else(|| absent(&home.worm(), &name, size))?;
    let receipt = Receipt { extra: None, index: entry.seq, path: entry.path, checkpoint: note };
    written(args, &name, &receipt, &entry.line, &signed, by_key)
}

fn prove_from_pack(args: &ProveArgs, ui: Ui) -> Result<Report, Fault> {
    let evidence = Evidence::open(&args.home, args.region.as_ref(), None)?;
    let size = evidence.signed.checkpoint.size;
    let absent = |name: &str| absent(&args.home.dir, name, size);
    let (seq, name) = match &args.pcs_id {
        Some(text) => {
            let (id, mut first) = (read_id(text)?, None);
            evidence.each(ui, &mut |seq, leaf, _| {
                if matches!(&leaf.what, What::Pcs(pcs) if pcs.pcs_id == id) {
                    first = first.or(Some(seq));
                }
                Ok(())
            })?;
            (first.ok_or_else(|| absent(text))?, text.clone())
        }
        None => {
            let seq = args.seq.unwrap_or_default();
            let here = evidence.plan.entries().contains(&seq);
            (Some(seq).filter(|_| here).ok_or_else(|| absent(&seq.to_string()))?, seq.to_string())
        }
    };
    let (receipt, line) = evidence.receipt(seq, ui)?;
    // Nothing of a pack is believed before it was looked at.
    proves(&receipt, &line, None).map_err(|why| {
        let next = format!("worm verify {}", args.home.dir.display());
        Fault::new("the pack is not what its checkpoint signs", seq, why, next).exit(Exit::Tampered)
    })?;
    written(args, &name, &receipt, &line, &evidence.signed, evidence.by_key)
}

/// Writes proof and entry.
fn written(
    args: &ProveArgs,
    name: &str,
    receipt: &Receipt,
    line: &[u8],
    signed: &Signed,
    by_key: bool,
) -> Result<Report, Fault> {
    let (seq, size, hashes) = (receipt.index, signed.checkpoint.size, receipt.path.len());
    let proof_file = args.out.join(format!("{name}.tlog-proof"));
    let entry_file = args.out.join(format!("{name}.entry"));
    write(&proof_file, &receipt.encode())?;
    write(&entry_file, line)?;
    let mut report = Report::new("worm prove");
    report.check(
        "entry",
        State::Ok,
        format!("{} of {}, saved {}", thousands(seq), thousands(size), entry_file.display()),
    );
    report.check(
        "proof",
        State::Ok,
        format!("{hashes} hashes to root {}, saved {}", signed.checkpoint.root, proof_file.display()),
    );
    report.check("checkpoint", state(by_key), signature(by_key));
    report.data = json!({"seq": seq, "size": size, "root": signed.checkpoint.root.to_string(),
        "proof": proof_file, "entry": entry_file, "origin": signed.checkpoint.origin});
    report.verdict = format!(
        "entry {seq} stands in {} under its checkpoint over {}",
        signed.checkpoint.origin,
        thousands(size)
    );
    Ok(report)
}

fn state(by_key: bool) -> State {
    if by_key { State::Ok } else { State::Warn }
}

fn signature(by_key: bool) -> &'static str {
    if by_key {
        "signed by the directory's key"
    } else {
        "its signature was not checked: the directory has no keys/log.vkey"
    }
}

fn absent(place: &Path, what: &str, size: u64) -> Fault {
    let why = format!("none of the {} signed entries is it", thousands(size));
    Fault::new(
        "no such entry",
        format!("{what} in {}", place.display()),
        why,
        "entries appear here with the next checkpoint; check the id and the directory",
    )
}

/// Shows everything the signed entries say of a summary.
///
/// # Errors
/// As [`prove`].
pub fn get(args: &GetArgs, ui: Ui) -> Result<Report, Fault> {
    let home = Home::open(&args.home)?;
    let region = region(&home, args.region.as_ref())?;
    let (_, signed, by_key) = home.published(&region)?;
    let id = read_id(&args.pcs_id)?;
    let Finds { found, more } = find(&home, &region, &signed, Want::All(&id), ui)?;
    if found.is_empty() {
        return Err(absent(&home.worm(), &args.pcs_id, signed.checkpoint.size));
    }
    let mut report = Report::new("worm get");
    let mut entries = Vec::new();
    report.lines.push(format!("{id}"));
    for entry in &found {
        let leaf = Leaf::parse(&entry.line).map_err(|error| {
            Fault::new(
                "not an audit leaf",
                format!("{}, offset {:#x}", entry.place.path.display(), entry.place.offset),
                format!("{error:?}"),
                "worm verify names what is wrong",
            )
            .exit(Exit::Tampered)
        })?;
        tree(&leaf, entry, &args.home.dir, &mut report.lines);
        entries.push(json!({"seq": entry.seq, "leaf": serde_json::from_slice::<Value>(&entry.line).unwrap_or(Value::Null),
            "file": entry.place.path, "offset": entry.place.offset}));
    }
    if more > 0 {
        report.lines.push(format!("  and {} more entries that are not shown", thousands(more)));
    }
    report.data = json!({"pcs_id": args.pcs_id, "entries": entries, "not_shown": more,
        "checkpoint_size": signed.checkpoint.size});
    if !by_key {
        report.check("checkpoint", state(by_key), signature(by_key));
    }
    report.verdict = format!(
        "{} under the checkpoint over {} entries; receipt: worm prove {} {id}",
        if found.len() == 1 {
            "one entry".to_owned()
        } else {
            format!("{} entries", thousands(found.len() as u64 + more))
        },
        thousands(signed.checkpoint.size),
        args.home.dir.display()
    );
    Ok(report)
}

/// One entry as a branch of the id: what happened, and from what it follows.
fn tree(leaf: &Leaf<'_>, entry: &Found, dir: &Path, out: &mut Vec<String>) {
    let time = super::when(leaf.time_ms);
    let mut branch = |depth: usize, text: String| out.push(format!("{}{text}", "  ".repeat(depth)));
    match &leaf.what {
        What::Pcs(pcs) => {
            let number = |value: &engine::summary::decimal::Decimal| {
                let mut bytes = Vec::new();
                value.write(&mut bytes, engine::summary::decimal::Style::Go);
                String::from_utf8(bytes).unwrap_or_default()
            };
            branch(
                1,
                format!(
                    "outcome   {}, reason {}",
                    outcome_name(pcs.accepted, pcs.escalated),
                    pcs.code.name()
                ),
            );
            branch(2, format!("policy    {}  {}", pcs.policy, pcs.policy_hash));
            branch(3, format!("params    {}", pcs.params_hash));
            branch(
                2,
                format!(
                    "signals   D_hat {}{}  coh* {}  r {}  budget {}  regime {}",
                    number(&pcs.d_hat),
                    pcs.d_hat_recomputed
                        .as_ref()
                        .map(|value| format!(" (recomputed {})", number(value)))
                        .unwrap_or_default(),
                    number(&pcs.coh_star),
                    number(&pcs.r),
                    number(&pcs.budget),
                    pcs.regime.name()
                ),
            );
            branch(
                2,
                format!("signature {} by key {} of tenant {}", pcs.form.name(), pcs.key_id, pcs.tenant),
            );
            branch(2, format!("body      SHA-256(salt || body) {}", pcs.commitment));
        }
        What::Conflict(conflict) => {
            let fields: Vec<&str> = engine::summary::fingerprint::field_names(conflict.fields).collect();
            branch(1, format!("conflict  with entry {}, other {}", conflict.first_seq, fields.join(", ")));
        }
        other => branch(1, other.name().to_owned()),
    }
    branch(2, format!("record    {}.{} at {time} in region {}", leaf.lsn, leaf.nth, leaf.region));
    let file = entry.place.path.strip_prefix(dir).unwrap_or(&entry.place.path);
    branch(
        2,
        format!("entry     {} in {}, offset {:#x}", thousands(entry.seq), file.display(), entry.place.offset),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Format, render};
    use crate::world::World;

    fn data(world: &World) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("log")).unwrap();
        world.write_projections(folder.path());
        folder
    }

    fn first_id(world: &World, nth: usize) -> (u64, String) {
        let mut firsts =
            world.leaves.iter().enumerate().filter_map(|(seq, (_, leaf))| match Leaf::parse(leaf) {
                Ok(Leaf { what: What::Pcs(pcs), .. }) => Some((seq as u64, pcs.pcs_id.to_string())),
                _ => None,
            });
        firsts.nth(nth).unwrap()
    }

    #[test]
    fn every_entry_can_be_proved_by_number_and_summaries_by_id() {
        let world = World::busy(60);
        let folder = data(&world);
        let out = folder.path().join("proofs");
        let (seq, id) = first_id(&world, 40);
        for (pcs_id, number, name) in
            [(Some(id.clone()), None, id), (None, Some(0), "0".into()), (None, Some(seq), seq.to_string())]
        {
            let args = ProveArgs {
                home: HomeArgs::of(folder.path()),
                pcs_id,
                seq: number,
                region: None,
                out: out.clone(),
            };
            prove(&args, Ui::quiet()).unwrap();
            let proof = std::fs::read(out.join(format!("{name}.tlog-proof"))).unwrap();
            let entry = std::fs::read(out.join(format!("{name}.entry"))).unwrap();
            let receipt = Receipt::parse(&proof).unwrap();
            receipt.verify(&entry, &world.signer.verifier()).unwrap();
            assert_eq!(receipt.index, if name == "0" { 0 } else { seq });
        }
        let args = ProveArgs {
            home: HomeArgs::of(folder.path()),
            pcs_id: None,
            seq: Some(1 << 40),
            region: None,
            out,
        };
        assert_eq!(prove(&args, Ui::quiet()).unwrap_err().what, "no such entry");
    }

    #[test]
    fn a_changed_entry_proves_nothing() {
        let world = World::busy(60);
        let folder = data(&world);
        let file = super::super::lines::files(&folder.path().join("worm")).unwrap().remove(0);
        let mut bytes = std::fs::read(&file).unwrap();
        let lines: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').collect();
        let at = (lines[2]..lines[3]).find(|at| bytes[*at].is_ascii_digit()).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let args = ProveArgs {
            home: HomeArgs::of(folder.path()),
            pcs_id: None,
            seq: Some(3),
            region: None,
            out: folder.path().join("p"),
        };
        assert_eq!(prove(&args, Ui::quiet()).unwrap_err().exit, Exit::Tampered);
        std::fs::remove_file(&file).unwrap();
        let other = super::super::lines::files(&folder.path().join("worm")).unwrap();
        other.iter().for_each(|path| std::fs::remove_file(path).unwrap());
        assert_eq!(prove(&args, Ui::quiet()).unwrap_err().exit, Exit::Missing);
    }

    #[test]
    fn a_checkpoint_that_somebody_else_signed_proves_nothing() {
        let world = World::busy(60);
        let folder = data(&world);
        let home = Home::open(&HomeArgs::of(folder.path())).unwrap();
        let args = ProveArgs {
            home: HomeArgs::of(folder.path()),
            pcs_id: None,
            seq: Some(3),
            region: None,
            out: folder.path().join("p"),
        };
        std::fs::create_dir_all(home.vkey().parent().unwrap()).unwrap();
        std::fs::write(home.vkey(), world.signer.vkeys()).unwrap();
        prove(&args, Ui::quiet()).unwrap();
        let path = home.checkpoint(&home.regions().remove(0));
        let mut note = std::fs::read(&path).unwrap();
        let last = note.len() - 6;
        note[last] = if note[last] == b'A' { b'B' } else { b'A' };
        std::fs::write(&path, note).unwrap();
        assert_eq!(prove(&args, Ui::quiet()).unwrap_err().exit, Exit::Tampered);
    }

    #[test]
    fn one_file_and_the_tiles_are_enough_for_an_entry_and_hints_are_not_believed() {
        let world = World::busy(60);
        let folder = data(&world);
        let files = super::super::lines::files(&folder.path().join("worm")).unwrap();
        assert!(files.len() > 2, "{} files", files.len());
        let args = ProveArgs {
            home: HomeArgs::of(folder.path()),
            pcs_id: None,
            seq: Some(1),
            region: None,
            out: folder.path().join("p"),
        };
        // Nothing of the last file is read, not even that it is no WORM file.
        let last = files.last().unwrap();
        let whole = std::fs::read(last).unwrap();
        std::fs::write(last, b"nothing").unwrap();
        prove(&args, Ui::quiet()).unwrap();
        std::fs::write(last, whole).unwrap();
        // A `.root` that sends the search past the entry, and a tile that is none, cost only time.
        let wanted = ProveArgs { seq: Some(world.leaves.len() as u64 - 3), ..args };
        std::fs::write(files[0].with_extension("root"), "{\"first\":0,\"count\":1}").unwrap();
        prove(&wanted, Ui::quiet()).unwrap();
        let region = Home::open(&HomeArgs::of(folder.path())).unwrap().regions().remove(0);
        let size = engine::checkpoint::Signed::parse(&world.checkpoint).unwrap().checkpoint.size;
        for tile in engine::tree::tiles::new_tiles(0, size) {
            std::fs::write(folder.path().join("tlog").join(&region).join(tile.path()), [1; 32]).unwrap();
        }
        prove(&wanted, Ui::quiet()).unwrap();
        let proof = std::fs::read(wanted.out.join(format!("{}.tlog-proof", wanted.seq.unwrap()))).unwrap();
        let entry = std::fs::read(wanted.out.join(format!("{}.entry", wanted.seq.unwrap()))).unwrap();
        Receipt::parse(&proof).unwrap().verify(&entry, &world.signer.verifier()).unwrap();
    }

    #[test]
    fn an_id_is_shown_with_where_its_outcome_comes_from() {
        let world = World::busy(60);
        let folder = data(&world);
        let (_, id) = first_id(&world, 2);
        let args = GetArgs { home: HomeArgs::of(folder.path()), pcs_id: id.clone(), region: None };
        let text = render(&get(&args, Ui::quiet()).unwrap(), Format::Text, false);
        for word in [&id, "outcome   accepted", "policy    1.0.0", "key ", "record    ", "entry     "] {
            assert!(text.contains(word), "{word} in\n{text}");
        }
        let bad = GetArgs { pcs_id: "x".into(), ..args };
        assert_eq!(get(&bad, Ui::quiet()).unwrap_err().what, "this is no id of a summary");
    }
}
