//! Packs of whole logs and of periods, from folders and data directories, interrupted, and from sources that lie.

use std::path::Path;

use super::*;
use crate::pack::plan::Plan;
use crate::report::Exit;
use crate::world::World;
use crate::worm::{export, verify};

struct Made {
    folder: tempfile::TempDir,
    world: World,
}

impl Made {
    /// A data directory in `data`, its export in `export`.
    fn new(records: u64) -> Made {
        let made = Made { folder: tempfile::tempdir().unwrap(), world: World::busy(records) };
        made.world.write(&made.path("data"));
        let args = export::Args {
            home: HomeArgs::of(&made.path("data")),
            out: made.path("export"),
            region: None,
            proofs: 3,
            segments: false,
        };
        export::run(&args, Ui::quiet()).unwrap();
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn args(&self, from: &str, out: &str) -> Args {
        Args::of(self.path(from).to_str().unwrap(), &self.path(out))
    }

    fn time(&self, seq: usize) -> u64 {
        self.world.leaves[seq].0
    }
}

fn check(dir: &Path) -> Report {
    verify::run(&verify::Args::of(dir), Ui::quiet()).unwrap()
}

fn state(report: &Report, name: &str) -> State {
    report
        .checks
        .iter()
        .find(|check| check.name.trim() == name)
        .unwrap_or_else(|| panic!("{name}: {:?}", report.checks))
        .state
}

#[test]
fn packs_from_everywhere_are_the_same_and_hold() {
    let made = Made::new(400);
    for (from, out) in [("data", "a"), ("export", "b"), ("a", "c")] {
        let report = run(&made.args(from, out), Ui::quiet()).unwrap();
        assert_eq!(report.exit, Exit::Ok, "{:?}", report.checks);
        let report = check(&made.path(out));
        assert_eq!(report.exit, Exit::Ok, "{:?}", report.checks);
        assert_eq!(state(&report, "2 bytes -> leaves"), State::Ok);
        assert_eq!(state(&report, "4 signatures"), State::Warn, "its own key");
    }
    for tile in
        Plan::whole(engine::checkpoint::Signed::parse(&made.world.checkpoint).unwrap().checkpoint.size)
            .tiles()
    {
        let read = |out: &str| std::fs::read(made.path(out).join(tile.path())).ok();
        assert_eq!(read("a"), read("export"));
        assert_eq!(read("a"), read("c"));
    }
    let key = made.world.signer.verifier().vkey();
    let own = verify::Args { vkey: Some(key), ..verify::Args::of(&made.path("a")) };
    let report = verify::run(&own, Ui::quiet()).unwrap();
    assert!(report.verdict.contains("signed by your key"), "{}", report.verdict);
}

#[test]
fn a_period_is_complete_or_the_pack_does_not_hold() {
    let made = Made::new(430);
    let last = made.world.leaves.len() - 1;
    assert!(last > 1050, "{last}");
    for (nth, (from, to)) in
        [(600, 610), (0, 5), (700, 1000), (last - 3, last), (255, 256)].into_iter().enumerate()
    {
        for source in ["data", "export"] {
            let out = format!("{source}{nth}");
            let (from, to) = (made.time(from), made.time(to));
            let args = Args { from: Some(from), to: Some(to), ..made.args(source, &out) };
            let report = run(&args, Ui::quiet()).unwrap();
            assert_eq!(report.exit, Exit::Ok);
            let report = check(&made.path(&out));
            assert_eq!(report.exit, Exit::Ok, "{:?}", report.checks);
            assert_eq!(state(&report, "period"), State::Ok);
            let size =
                engine::checkpoint::Signed::parse(&made.world.checkpoint).unwrap().checkpoint.size as usize;
            let count =
                made.world.leaves[..size].iter().filter(|(time, _)| (from..=to).contains(time)).count();
            assert_eq!(report.data["period"]["count"], count as u64, "{from} {to}");
            let entries = report.data["entries"]["hashed"].as_u64().unwrap();
            assert!(entries <= 768, "{entries}: only what is needed");
        }
    }
    // The pack of one period says nothing about another.
    let later = verify::Args { from: Some(made.time(1000)), ..verify::Args::of(&made.path("data0")) };
    let report = verify::run(&later, Ui::quiet()).unwrap();
    assert_eq!((report.exit, state(&report, "period")), (Exit::Missing, State::Fail));
}

#[test]
fn an_interrupted_fetch_goes_on_and_mends_what_was_cut_off() {
    let made = Made::new(400);
    run(&made.args("export", "whole"), Ui::quiet()).unwrap();
    run(&made.args("export", "cut"), Ui::quiet()).unwrap();
    let cut = made.path("cut");
    std::fs::remove_file(cut.join("SHA256SUMS")).unwrap();
    assert_eq!(check(&cut).exit, Exit::Missing, "not finished");
    std::fs::remove_file(cut.join("tile/entries/001")).unwrap();
    std::fs::write(cut.join("tile/entries/002"), b"cut off").unwrap();
    std::fs::write(cut.join("tile/0/001"), b"cut off").unwrap();
    let edge = std::fs::read_dir(cut.join("tile/1")).unwrap().next().unwrap().unwrap().path();
    let edge = std::fs::read_dir(edge).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&edge, [7; 32]).unwrap();
    let report = run(&made.args("export", "cut"), Ui::quiet()).unwrap();
    assert!(report.data["kept"].as_u64().unwrap() > 2 && report.data["fetched"].as_u64().unwrap() >= 4);
    assert_eq!(check(&cut).exit, Exit::Ok);
    // Another period does not go on where this one was.
    let other = Args { from: Some(5), ..made.args("export", "cut") };
    assert_eq!(run(&other, Ui::quiet()).unwrap_err().what, "will not write into a used folder");
}

#[test]
fn a_source_that_lies_is_refused_and_named() {
    let made = Made::new(400);
    for (nth, (path, place)) in [
        ("tile/entries/001", "tile/entries/001 entry"),
        ("tile/0/001", "tile/0/001"),
        ("checkpoint", "checkpoint"),
    ]
    .into_iter()
    .enumerate()
    {
        let file = made.path("export").join(path);
        let good = std::fs::read(&file).unwrap();
        let mut bent = good.clone();
        bent[60] ^= 1;
        std::fs::write(&file, bent).unwrap();
        let fault = run(&made.args("export", &format!("out{nth}")), Ui::quiet()).unwrap_err();
        assert_eq!(fault.exit, Exit::Tampered, "{fault:?}");
        assert!(fault.place.contains(place), "{fault:?}");
        std::fs::write(&file, good).unwrap();
    }
    let stranger = engine::checkpoint::Signer::new(made.world.signer.name(), &[1; 32]).unwrap();
    let args = Args { vkey: Some(stranger.verifier().vkey()), ..made.args("export", "other") };
    assert_eq!(run(&args, Ui::quiet()).unwrap_err().exit, Exit::Tampered);
    std::fs::remove_file(made.path("export/tile/entries/001")).unwrap();
    assert_eq!(run(&made.args("export", "out"), Ui::quiet()).unwrap_err().exit, Exit::Missing);
}

#[test]
fn a_saved_checkpoint_is_continued_or_the_difference_is_told() {
    let made = Made::new(430);
    let saved = made.path("saved");
    let mut tree = engine::tree::Tree::new();
    made.world.leaves[..300].iter().for_each(|(_, leaf)| {
        tree.append(engine::tree::leaf_hash(leaf));
    });
    let head = |size: u64, root| {
        let origin = made.world.signer.name().to_owned();
        engine::checkpoint::Checkpoint { origin, size, root }.sign(&made.world.signer)
    };
    std::fs::write(&saved, head(300, tree.root())).unwrap();
    let period = Some(made.time(1000));
    let args = Args { from: period, saved: Some(saved.clone()), ..made.args("export", "with") };
    run(&args, Ui::quiet()).unwrap();
    run(&Args { from: period, ..made.args("export", "without") }, Ui::quiet()).unwrap();
    let ask = |pack: &str| {
        let args = verify::Args { checkpoint: Some(saved.clone()), ..verify::Args::of(&made.path(pack)) };
        verify::run(&args, Ui::quiet()).unwrap()
    };
    assert_eq!((ask("with").exit, state(&ask("with"), "6 append-only")), (Exit::Ok, State::Ok));
    assert_eq!(ask("without").exit, Exit::Missing, "{:?}", ask("without").checks);
    // A fork, and a log that was longer.
    std::fs::write(&saved, head(300, engine::tree::EMPTY_ROOT)).unwrap();
    assert_eq!(ask("with").exit, Exit::Inconsistent);
    std::fs::write(&saved, head(1 << 30, tree.root())).unwrap();
    assert_eq!(ask("with").exit, Exit::Inconsistent);
    assert!(ask("with").checks.iter().any(|check| check.detail.contains("it has ")));
}

#[test]
fn segments_in_a_pack_make_its_entries_again() {
    let made = Made::new(200);
    run(&Args { segments: true, ..made.args("data", "pack") }, Ui::quiet()).unwrap();
    let report = check(&made.path("pack"));
    assert_eq!(report.exit, Exit::Ok, "{:?}", report.checks);
    assert!(
        report.checks.iter().any(|check| check.detail.contains("made again from")),
        "{:?}",
        report.checks
    );
    let fault = run(&Args { segments: true, ..made.args("export", "no") }, Ui::quiet()).unwrap_err();
    assert_eq!(fault.what, "no segments to copy");
}

#[test]
fn a_part_is_looked_at_and_said_to_be_one_and_a_check_goes_on_where_it_was() {
    let made = Made::new(430);
    let pack = made.path("export");
    let part = |text: &str| {
        let args = verify::Args { read_subset: Some(text.parse().unwrap()), ..verify::Args::of(&pack) };
        verify::run(&args, Ui::quiet()).unwrap()
    };
    let whole = check(&pack).data["entries"]["hashed"].as_u64().unwrap();
    let parts: u64 =
        (1..=3).map(|nth| part(&format!("{nth}/3")).data["entries"]["hashed"].as_u64().unwrap()).sum();
    assert_eq!(parts, whole);
    assert!(part("1/3").verdict.contains("not looked at") && part("100%").exit == Exit::Ok);
    for bad in ["0/3", "4/3", "x", "0%", "101%", "/"] {
        assert!(bad.parse::<verify::Share>().is_err(), "{bad}");
    }
    let file = made.path("state");
    let args = verify::Args { resume: Some(file.clone()), ..verify::Args::of(&pack) };
    assert_eq!(verify::run(&args, Ui::quiet()).unwrap().exit, Exit::Ok);
    assert!(!file.exists(), "all is done");
    std::fs::write(&file, "{}").unwrap();
    assert_eq!(verify::run(&args, Ui::quiet()).unwrap_err().what, "cannot go on from this file");
}

/// One bit changed anywhere: in the checkpoint, the key, a tile, a bundle, the claim, the sums, and everywhere else.
#[test]
fn no_changed_bit_of_a_pack_goes_unnoticed() {
    let made = Made::new(1);
    let pack = made.path("export");
    let key = made.world.signer.verifier().vkey();
    let args = verify::Args { vkey: Some(key), threads: Some(1), ..verify::Args::of(&pack) };
    // Receipts, page and README are only under the sums, like the claim: some of their bits stand for all.
    std::fs::remove_dir_all(pack.join("proofs")).unwrap();
    write_sums(&pack).unwrap();
    let verdict = || verify::run(&args, Ui::quiet()).map_or_else(|fault| fault.exit, |report| report.exit);
    assert_eq!(verdict(), Exit::Ok);
    let mut files = vec![pack.clone()];
    let (mut bits, mut nth) = (0_u64, 0);
    while nth < files.len() {
        let path = files[nth].clone();
        nth += 1;
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let good = std::fs::read(&path).unwrap();
        let tree = path.starts_with(pack.join("tile"));
        let step = if good.len() > 1500 && !tree { 997 } else { 1 };
        for bit in (0..good.len() * 8).step_by(step) {
            let mut bent = good.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bent).unwrap();
            assert_ne!(verdict(), Exit::Ok, "bit {bit} of {}", path.display());
            bits += 1;
        }
        std::fs::write(&path, good).unwrap();
    }
    assert_eq!(verdict(), Exit::Ok);
    println!("{bits} changed bits of {} files, none unnoticed", files.len());
    assert!(bits > 12_000, "{bits}");
}
