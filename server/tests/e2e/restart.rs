//! What a node knows after it was stopped, and after its caches were lost or damaged.

use crate::support::{Client, signed, summary, with_node};
use server::http::Stage;
use server::node::Node;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Everything below a directory.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(here) = open.pop() {
        for entry in std::fs::read_dir(&here).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.clone(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn fill(dir: &Path) -> Vec<Vec<u8>> {
    let (sender, receiver) = std::sync::mpsc::channel();
    with_node(dir, &[], move |address| {
        let mut client = Client::new(address);
        let answers = (0..600).map(|n| {
            client.submit(&signed(n, if n % 3 == 0 { "1.5" } else { "1.0" }, crate::support::SECRET)).body
        });
        sender.send(answers.collect()).unwrap();
    });
    receiver.recv().unwrap()
}

/// Every answer comes back byte for byte, and new submissions find their place.
fn insist(dir: &Path, answers: Vec<Vec<u8>>) {
    with_node(dir, &[], move |address| {
        let mut client = Client::new(address);
        for (n, answer) in answers.iter().enumerate() {
            let again = client.submit(&signed(
                n as u64,
                if n % 3 == 0 { "1.5" } else { "1.0" },
                crate::support::SECRET,
            ));
            assert_eq!(again.header("idempotent-replayed"), Some("true"), "{n}");
            assert_eq!(&again.body, answer, "{n}");
        }
        let first: serde_json::Value = serde_json::from_slice(&answers[599]).unwrap();
        let new = client.submit(&summary(100_000)).json();
        assert!(new["seq"].as_u64() > first["seq"].as_u64());
        assert_eq!(client.get_soon(first["receipt"].as_str().unwrap()).status, 200);
    });
}

#[test]
fn a_restart_remembers_everything() {
    let dir = tempfile::tempdir().unwrap();
    let answers = fill(dir.path());
    assert!(dir.path().join("proj/snapshot").exists());
    insist(dir.path(), answers);
}

#[test]
fn lost_and_damaged_projections_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let answers = fill(dir.path());
    let worm = files(&dir.path().join("worm"));
    let tiles = files(&dir.path().join("tlog/default/tile"));
    let damage: &[fn(&Path)] = &[
        |dir| std::fs::remove_file(dir.join("proj/snapshot")).unwrap(),
        |dir| std::fs::write(dir.join("proj/snapshot"), b"nonsense").unwrap(),
        |dir| std::fs::remove_dir_all(dir.join("proj")).unwrap(),
        |dir| std::fs::remove_dir_all(dir.join("worm")).unwrap(),
        |dir| std::fs::remove_dir_all(dir.join("tlog")).unwrap(),
        |dir| {
            let (path, bytes) = files(&dir.join("worm")).pop_last().unwrap();
            std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        },
    ];
    for damage in damage {
        damage(dir.path());
        with_node(dir.path(), &[], |_| {});
        for (path, bytes) in &worm {
            assert!(std::fs::read(path).unwrap() == *bytes, "{} is made again", path.display());
        }
        for (path, bytes) in tiles.iter().filter(|(path, _)| !path.to_string_lossy().contains(".p/")) {
            assert!(std::fs::read(path).unwrap() == *bytes, "{} is made again", path.display());
        }
    }
    insist(dir.path(), answers);
}

#[test]
fn a_directory_of_others_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    with_node(dir.path(), &[], |_| {});
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let open = |more: &[(&str, &str)]| {
        let config = crate::support::config(dir.path(), more);
        runtime.block_on(Node::open(config, &Stage::default())).map(|_| ()).unwrap_err().to_string()
    };
    assert!(open(&[("region.id", "elsewhere")]).contains("'default'"));
    std::fs::rename(dir.path().join("keys/kek"), dir.path().join("aside")).unwrap();
    assert!(open(&[]).contains("restore the key"), "a lost key is not replaced");
}
