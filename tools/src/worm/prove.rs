//! `worm prove` and `worm get`: one entry of the log, its proof, and what it says.

use std::path::{Path, PathBuf};

use engine::checkpoint::Receipt;
use engine::leaf::{Leaf, What, outcome_name};
use engine::log::Digest;
use engine::summary::PcsId;
use engine::tree::inclusion_proof;
use serde_json::{Value, json};

use super::export::{region, write};
use super::lines::Place;
use super::tree::{Nodes, insist, pass};
use crate::audit::home::{Home, HomeArgs, read_checkpoint};
use crate::report::{Exit, Fault, Report, State};
use crate::ui::{Ui, thousands};

/// Writes a proof that an entry stands in the log, and the entry
#[derive(Clone, Debug, clap::Args)]
pub struct ProveArgs {
    #[command(flatten)]
    /// The data directory.
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

/// An entry found in the WORM files.
struct Found {
    seq: u64,
    line: Vec<u8>,
    place: Place,
}

fn read_id(text: &str) -> Result<PcsId, Fault> {
    PcsId::from_hex(text).ok_or_else(|| {
        Fault::new(
            "this is no id of a summary",
            text,
            "an id has 64 lower-case hex digits",
            "copy it from the answer's pcs_id",
        )
    })
}

/// The id's text as it stands in a leaf.
fn needle(id: &PcsId) -> Vec<u8> {
    format!("\"pcs_id\":\"{id}\"").into_bytes()
}

fn contains(line: &[u8], needle: &[u8]) -> bool {
    line.windows(needle.len()).any(|bytes| bytes == needle)
}

/// One pass over the signed entries: those `want` accepts, and the nodes that prove entry `seq` if it is known
/// beforehand.
fn search(
    home: &Home,
    size: u64,
    ui: Ui,
    nodes: &mut Nodes,
    want: &dyn Fn(u64, &[u8]) -> bool,
) -> Result<(Vec<Found>, Digest), Fault> {
    let mut found = Vec::new();
    let mut each = |seq: u64, line: &[u8], place: &Place, _: &[(u8, u64, Digest)]| {
        if want(seq, line) {
            found.push(Found { seq, line: line.to_vec(), place: place.clone() });
        }
        Ok(())
    };
    let root = pass(&home.worm(), size, ui, nodes, &mut each)?;
    Ok((found, root))
}

/// Proves one entry under the newest checkpoint.
///
/// # Errors
/// There is no such entry, or the entries are not what the checkpoint signs.
pub fn prove(args: &ProveArgs, ui: Ui) -> Result<Report, Fault> {
    let home = Home::open(&args.home)?;
    let region = region(&home, args.region.as_ref())?;
    let (note, signed) = read_checkpoint(&home.checkpoint(&region))?;
    let size = signed.checkpoint.size;
    let (seq, name) = match (&args.pcs_id, args.seq) {
        (Some(text), _) => {
            let id = read_id(text)?;
            let needle = needle(&id);
            let first = |_: u64, line: &[u8]| contains(line, &needle) && is_first(line);
            let (found, _) = search(&home, size, ui, &mut Nodes::default(), &first)?;
            let found = found.into_iter().next_back().ok_or_else(|| absent(&home, text, size))?;
            (found.seq, text.clone())
        }
        (None, Some(seq)) if seq < size => (seq, seq.to_string()),
        (None, other) => return Err(absent(&home, &other.unwrap_or_default().to_string(), size)),
    };
    let mut nodes = Nodes::default();
    nodes.want_inclusion(seq, size);
    let (found, root) = search(&home, size, ui, &mut nodes, &|at, _| at == seq)?;
    insist(&signed, root, &home.worm())?;
    let defect = || Fault::new("cannot prove an entry", seq, "a node is missing", "report this as a defect");
    let path = inclusion_proof(seq, size, &mut nodes).map_err(|_| defect())?;
    let entry = found.into_iter().next().ok_or_else(defect)?;
    let hashes = path.len();
    let receipt = Receipt { extra: None, index: seq, path, checkpoint: note };
    let proof_file = args.out.join(format!("{name}.tlog-proof"));
    let entry_file = args.out.join(format!("{name}.entry"));
    write(&proof_file, &receipt.encode())?;
    write(&entry_file, &entry.line)?;
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
    report.data = json!({"seq": seq, "size": size, "root": signed.checkpoint.root.to_string(),
        "proof": proof_file, "entry": entry_file, "origin": signed.checkpoint.origin});
    report.verdict = format!(
        "entry {seq} stands in {} under its checkpoint over {}",
        signed.checkpoint.origin,
        thousands(size)
    );
    Ok(report)
}

/// Whether a leaf is a summary's first submission, not a later conflict.
fn is_first(line: &[u8]) -> bool {
    Leaf::parse(line).is_ok_and(|leaf| matches!(leaf.what, What::Pcs(_)))
}

fn absent(home: &Home, what: &str, size: u64) -> Fault {
    let why = format!("none of the {} signed entries is it", thousands(size));
    Fault::new(
        "no such entry",
        format!("{what} in {}", home.worm().display()),
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
    let (_, signed) = read_checkpoint(&home.checkpoint(&region))?;
    let id = read_id(&args.pcs_id)?;
    let needle = needle(&id);
    let (found, root) =
        search(&home, signed.checkpoint.size, ui, &mut Nodes::default(), &|_, line| contains(line, &needle))?;
    insist(&signed, root, &home.worm())?;
    if found.is_empty() {
        return Err(absent(&home, &args.pcs_id, signed.checkpoint.size));
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
    report.data =
        json!({"pcs_id": args.pcs_id, "entries": entries, "checkpoint_size": signed.checkpoint.size});
    report.verdict = format!(
        "{} under the checkpoint over {} entries; receipt: worm prove {} {id}",
        if found.len() == 1 { "one entry".to_owned() } else { format!("{} entries", found.len()) },
        thousands(signed.checkpoint.size),
        args.home.dir.display()
    );
    Ok(report)
}

/// One entry as a branch of the id: what happened, and from what it follows.
fn tree(leaf: &Leaf<'_>, entry: &Found, dir: &Path, out: &mut Vec<String>) {
    let time = jiff::Timestamp::from_millisecond(leaf.time_ms.cast_signed()).map_or_else(
        |_| leaf.time_ms.to_string(),
        |stamp| stamp.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
    );
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
        let mut firsts = world.leaves.iter().enumerate().filter(|(_, (_, leaf))| is_first(leaf));
        let (seq, (_, leaf)) = firsts.nth(nth).unwrap();
        let Ok(Leaf { what: What::Pcs(pcs), .. }) = Leaf::parse(leaf) else { panic!() };
        (seq as u64, pcs.pcs_id.to_string())
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
        let at = bytes.len() / 2;
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
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
