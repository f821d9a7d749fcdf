//! Populations, samples, lists and lineages, from data directories and from packs alike.

use std::path::PathBuf;

use super::*;
use crate::report::{Format, render};
use crate::world::World;
use crate::worm::{export, fetch, lineage, population, reconcile};

struct Made {
    folder: tempfile::TempDir,
    world: World,
}

impl Made {
    fn new() -> Made {
        let made = Made { folder: tempfile::tempdir().unwrap(), world: World::busy(300) };
        made.world.write(&made.path("data"));
        let home = HomeArgs::of(&made.path("data"));
        let args = export::Args { home, out: made.path("pack"), region: None, proofs: 1, segments: false };
        export::run(&args, Ui::quiet()).unwrap();
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn set(&self, of: &str, filter: Filter) -> population::Set {
        let home = HomeArgs::of(&self.path(of));
        population::Set { home, region: None, vkey: None, filter, control: Some("CC7.2".into()) }
    }

    /// Numbers and ids of the first submissions under the checkpoint.
    fn summaries(&self) -> Vec<(u64, String)> {
        let size = Signed::parse(&self.world.checkpoint).unwrap().checkpoint.size as usize;
        let leaves = self.world.leaves[..size].iter().enumerate();
        leaves
            .filter_map(|(seq, (_, line))| match Leaf::parse(line).unwrap().what {
                engine::leaf::What::Pcs(pcs) => Some((seq as u64, pcs.pcs_id.to_string())),
                _ => None,
            })
            .collect()
    }
}

#[test]
fn a_population_is_whole_from_both_kinds_of_evidence() {
    let made = Made::new();
    let (from, to) = (made.world.leaves[100].0, made.world.leaves[400].0);
    let filter =
        Filter { from: Some(from), to: Some(to), kind: Some("accepted".into()), ..Filter::default() };
    let mut tables = Vec::new();
    for of in ["data", "pack"] {
        let out = made.path(&format!("{of}-out"));
        let args = population::Args { set: made.set(of, filter.clone()), out: out.clone() };
        let report = population::run(&args, Ui::quiet()).unwrap();
        assert_eq!(report.exit, Exit::Ok);
        assert_eq!(
            (report.data["entry_before"].as_u64(), report.data["period"]["first"].as_u64()),
            (Some(99), Some(100))
        );
        tables.push(std::fs::read_to_string(out.join("population.csv")).unwrap());
        for seq in report.data["proofs"].as_array().unwrap() {
            let proof = std::fs::read(out.join(format!("proofs/{seq}.tlog-proof"))).unwrap();
            let entry = std::fs::read(out.join(format!("proofs/{seq}.entry"))).unwrap();
            Receipt::parse(&proof).unwrap().verify(&entry, &made.world.signer.verifier()).unwrap();
        }
    }
    assert_eq!(tables[0], tables[1]);
    let accepted = made.world.leaves[100..=400]
        .iter()
        .filter(|(_, line)| kind_of(&Leaf::parse(line).unwrap().what) == "accepted");
    assert_eq!(tables[0].lines().count() - 1, accepted.count());
    // A pack of a part does not pass for the whole.
    let part = made.path("part");
    let data = made.path("data");
    let args = fetch::Args { from: Some(to), ..fetch::Args::of(data.to_str().unwrap(), &part) };
    fetch::run(&args, Ui::quiet()).unwrap();
    let args = population::Args { set: made.set("part", filter), out: made.path("no") };
    assert_eq!(population::run(&args, Ui::quiet()).unwrap_err().exit, Exit::Missing);
    let file = made.path("pack/tile/entries/000");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let args = population::Args { set: made.set("pack", Filter::default()), out: made.path("bent") };
    assert_eq!(population::run(&args, Ui::quiet()).unwrap_err().exit, Exit::Tampered);
    assert!(!made.path("bent/population.csv").exists());
}

#[test]
fn a_sample_depends_on_words_and_checkpoint_alone() {
    let made = Made::new();
    let sample = |of: &str, seed: &str, out: Option<PathBuf>| {
        let set = made.set(of, Filter { kind: Some("accepted".into()), ..Filter::default() });
        population::sample(&population::SampleArgs { set, n: 12, seed: seed.into(), out }, Ui::quiet())
            .unwrap()
    };
    let out = made.path("sample");
    let one = sample("data", "my words", Some(out.clone()));
    assert_eq!(one.data["entries"], sample("pack", "my words", None).data["entries"]);
    assert_ne!(one.data["entries"], sample("pack", "other words", None).data["entries"]);
    assert_eq!(std::fs::read_to_string(out.join("sample.csv")).unwrap().lines().count(), 13);
    assert_eq!(std::fs::read_dir(out.join("proofs")).unwrap().count(), 24);
}

#[test]
fn a_list_is_reconciled_by_id_and_by_number() {
    let made = Made::new();
    let all = made.summaries();
    let run = |text: String, of: &str, range: Option<(u64, u64)>| {
        let list = made.path("list");
        std::fs::write(&list, text).unwrap();
        let args = reconcile::Args {
            home: HomeArgs::of(&made.path(of)),
            list,
            region: None,
            vkey: None,
            filter: Filter::default(),
            range,
            out: Some(made.path("out.csv")),
        };
        reconcile::run(&args, Ui::quiet()).unwrap()
    };
    let ids: String = all.iter().map(|(_, id)| format!("{id}\n")).collect();
    assert_eq!(run(ids.clone(), "data", None).exit, Exit::Ok);
    let missing = ids.replacen(&format!("{}\n", all[5].1), "", 1);
    let report = run(missing, "pack", None);
    assert_eq!((report.exit, report.data["lacking_entries"][0].as_u64()), (Exit::Missing, Some(all[5].0)));
    let written = std::fs::read_to_string(made.path("out.csv")).unwrap();
    assert_eq!(written, format!("what,seq,pcs_id\nlacking,{},{}\n", all[5].0, all[5].1));
    let extra = format!("{ids}{}\n", "0".repeat(64));
    let report = run(extra, "data", None);
    assert_eq!((report.exit, report.data["too_much"].as_u64()), (Exit::Tampered, Some(1)));
    let numbers: String =
        (60..=70).filter(|seq| *seq != 64).map(|seq| format!("{{\"seq\":{seq}}}\n")).collect();
    let report = run(numbers, "pack", Some((60, 70)));
    assert_eq!((report.exit, report.data["lacking_entries"][0].as_u64()), (Exit::Missing, Some(64)));
}

#[test]
fn a_lineage_is_a_tree_from_parameters_to_anchors() {
    let made = Made::new();
    let (seq, id) = made.summaries()[40].clone();
    for of in ["data", "pack"] {
        let home = HomeArgs::of(&made.path(of));
        let args = lineage::Args { home, pcs_id: id.clone(), tenant: None, region: None, vkey: None };
        let report = lineage::run(&args, Ui::quiet()).unwrap();
        let text = render(&report, Format::Text, false);
        let mut at = 0;
        for word in [
            id.as_str(),
            "parameters  ",
            "policy   1.0.0",
            "outcome  accepted",
            "signature  ",
            "receipt    ",
            "checkpoint  ",
            "witnesses   none",
            "anchors     none",
            "VERDICT  accepted as entry",
        ] {
            at += text[at..].find(word).unwrap_or_else(|| panic!("{word} in\n{text}"));
        }
        assert_eq!(report.data["summaries"][0]["seq"], seq);
        assert!(report.data["summaries"][0]["key_entry"].is_u64());
        let proof = crate::worm::prove::ProveArgs {
            home: args.home.clone(),
            pcs_id: Some(id.clone()),
            seq: None,
            region: None,
            out: made.path("proof"),
        };
        assert_eq!(crate::worm::prove::prove(&proof, Ui::quiet()).unwrap().data["seq"], seq);
        let nobody = lineage::Args { tenant: Some("nobody".into()), ..args };
        assert_eq!(lineage::run(&nobody, Ui::quiet()).unwrap_err().what, "no such summary");
    }
}
