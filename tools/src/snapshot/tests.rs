//! Snapshots of a directory that a fixture wrote.

use std::path::Path;

use super::{restore, save, verify};
use crate::audit::home::HomeArgs;
use crate::replay;
use crate::report::{Exit, Fault, Report, State};
use crate::ui::Ui;
use crate::world::World;

fn saved(world: &World, root: &Path) -> Report {
    world.write(&root.join("node"));
    save::run(&save::Args { home: HomeArgs::of(&root.join("node")), out: root.join("copy") }, Ui::quiet())
        .unwrap()
}

fn verified(root: &Path) -> Result<Report, Fault> {
    let args = verify::Args { snapshot: root.join("copy"), kek: None, threads: None, scratch: None };
    verify::run(&args, Ui::quiet())
}

fn restored(root: &Path, to: &str, node: u64, member: bool) -> Result<Report, Fault> {
    let (snapshot, dir) = (root.join("copy"), root.join(to));
    restore::run(&restore::Args { snapshot, dir, node, member, address: String::new() }, Ui::quiet())
}

fn replayed(dir: &Path) -> serde_json::Value {
    let report = replay::run(&replay::Args::of(dir), Ui::quiet()).unwrap();
    assert_eq!(report.exit, Exit::Ok, "{:?}", report.checks);
    report.data
}

#[test]
fn what_is_saved_verifies_and_is_restored_with_every_record() {
    let folder = tempfile::tempdir().unwrap();
    let (root, world) = (folder.path(), World::busy(200));
    let report = saved(&world, root);
    assert_eq!(report.data["last"].as_u64(), Some(world.ledger.applied().0));
    assert!(report.data["sealed"].as_u64().unwrap() > 2, "{:?}", report.checks);
    let report = verified(root).unwrap();
    assert_eq!(report.exit, Exit::Ok, "{:?}", report.checks);
    assert_eq!(report.data["replay"]["digest"], world.ledger.digest().to_string().as_str());
    for (to, member) in [("alone", false), ("member", true)] {
        let report = restored(root, to, 9, member).unwrap();
        assert_eq!(report.exit, Exit::Ok, "{:?}", report.checks);
        let (before, after) = (replayed(&root.join("node")), replayed(&root.join(to)));
        assert_eq!(after["root"], before["root"]);
        // A group of its own has one record more, its membership; nothing else differs.
        let more = u64::from(!member);
        assert_eq!(after["applied"].as_u64(), before["applied"].as_u64().map(|lsn| lsn + more));
        assert_eq!(after["digest"] == before["digest"], member);
        assert_eq!(after["projections"]["index"], before["projections"]["index"]);
        let identity = std::fs::read_to_string(root.join(to).join("identity")).unwrap();
        assert_eq!(identity.contains(&"06".repeat(16)), member, "{identity}");
        assert!(
            identity.contains("node = 9\n") && identity.contains(&format!("joined = {member}\n")),
            "{identity}"
        );
    }
    // Each directory is another one.
    let identity = |to: &str| std::fs::read_to_string(root.join(to).join("identity")).unwrap();
    let incarnation =
        |text: String| text.lines().find(|line| line.starts_with("incarnation")).unwrap().to_owned();
    assert_ne!(incarnation(identity("alone")), incarnation(identity("member")));
}

#[test]
fn a_changed_snapshot_is_refused_and_the_place_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    saved(&World::busy(200), root);
    let copy = root.join("copy");
    for (name, at) in [
        ("log/00000000000000000002.seg", 20_000),
        ("log/00000000000000000001.seg", 65_535),
        ("log/MANIFEST", 5_000),
        ("keys/log.vkey", 3),
    ] {
        let path = copy.join(name);
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&path, bad).unwrap();
        let report = verified(root).unwrap();
        assert_eq!(report.exit, Exit::Tampered, "{name}");
        let failed: Vec<_> = report.checks.iter().filter(|check| check.state == State::Fail).collect();
        assert!(failed[0].detail.contains(name), "{failed:?}");
        if name.ends_with("2.seg") {
            assert_eq!(report.data["damage"]["segment"].as_u64(), Some(2), "{failed:?}");
            assert!(report.data["damage"]["offset"].as_u64().is_some_and(|at| at <= 20_000), "{failed:?}");
        }
        let report = restored(root, "new", 2, false).unwrap();
        assert_eq!(report.exit, Exit::Tampered, "{name}");
        assert!(!root.join("new").exists());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(verified(root).unwrap().exit, Exit::Missing, "{name}");
        std::fs::write(&path, good).unwrap();
    }
    let path = copy.join(super::listing::LISTING);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("last = ", "last = 1", 1)).unwrap();
    assert_eq!(verified(root).unwrap_err().exit, Exit::Tampered);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(verified(root).unwrap_err().exit, Exit::Missing);
    assert_eq!(restored(root, "new", 2, false).unwrap_err().exit, Exit::Missing);
}

#[test]
fn nothing_is_overwritten_and_no_name_used_twice() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    saved(&World::busy(60), root);
    let again = save::Args { home: HomeArgs::of(&root.join("node")), out: root.join("copy") };
    assert_eq!(save::run(&again, Ui::quiet()).unwrap_err().exit, Exit::Failed);
    for member in [false, true] {
        assert_eq!(restored(root, "node", 2, member).unwrap_err().exit, Exit::Failed);
    }
    // The log's voter is in it by its name.
    let fault = restored(root, "new", 7, true).unwrap_err();
    assert!(fault.why.contains("mentions a node of that name"), "{}", fault.why);
    assert!(!root.join("new").join("identity").exists());
    // Keys may be there before.
    std::fs::create_dir_all(root.join("new").join("keys")).unwrap();
    assert_eq!(restored(root, "new", 1, false).unwrap().exit, Exit::Ok);
}
