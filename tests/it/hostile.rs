//! The hostile auditor: from an evidence pack alone, without a network, with programs that we did not write and with
//! ours. The clean pack is accepted by all; whatever somebody does to it is refused, and the place is named.

use crate::load::Load;
use crate::node::Start;
use crate::outsiders::{gotlog, run, tool};
use crate::tools::{self, Said};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::checkpoint::{Checkpoint, Signer};
use engine::tree::tiles::{Kind, Tile, WIDTH, bundle_entries, bundle_push, new_tiles, tile_bytes};
use engine::tree::{MemHashes, leaf_hash};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

const TOKEN: &str = "auditors-token";

fn text(path: &Path) -> &str {
    path.to_str().expect("a text path")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// What the auditor has: the pack, the key from elsewhere, a checkpoint of an earlier visit, an older pack.
struct Scene {
    folder: tempfile::TempDir,
    /// The operator's own signing key: the operator is the attacker, too.
    operator: Signer,
    stranger: Signer,
    programs: (PathBuf, PathBuf),
}

impl Scene {
    fn new() -> Scene {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let node =
            Start::on(&data).with("FLK_AUDIT_TOKEN", TOKEN).with("FLK_SEGMENT_BYTES", "1048576").ready();
        let numbers = Arc::new(AtomicU64::new(0));
        let fill = |count| {
            let load = Load::start(node.address, 4, &numbers);
            load.wait_for(count);
            let last = load
                .end()
                .iter()
                .filter_map(|acked| acked.answer.json()["seq"].as_u64())
                .max()
                .expect("entries");
            let deadline = Instant::now() + Duration::from_secs(60);
            loop {
                let note = node.get("/tlog/default/checkpoint").text();
                if note.lines().nth(1).and_then(|size| size.parse().ok()).is_some_and(|size: u64| size > last)
                {
                    return note;
                }
                assert!(Instant::now() < deadline, "no checkpoint covers entry {last}");
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("token"), TOKEN).expect("written");
        let url = format!("http://{}", node.address);
        let fetch = |from: &str, out: &Path, more: &[&str]| {
            let token = at("token");
            let mut words = vec!["fetch", from, "--out", text(out), "--token-file", text(&token)];
            words.extend_from_slice(more);
            let said = tools::worm(&words);
            assert_eq!(said.code, Some(0), "{}", said.all());
        };
        fill(300);
        fetch(&url, &at("older"), &[]);
        std::fs::write(at("saved"), fill(400)).expect("written");
        fill(300);
        fetch(&url, &at("server"), &[]);
        // Without the token nobody sees entries.
        let said = tools::worm(&["fetch", &url, "--out", text(&at("nobody"))]);
        assert!(said.code == Some(1) && said.err.contains("auditor's token"), "{}", said.all());
        node.stop();
        fetch(text(&data), &at("pack"), &["--segments"]);
        std::fs::copy(data.join("keys/log.vkey"), at("vkey")).expect("copied");
        let seed = STANDARD
            .decode(std::fs::read_to_string(data.join("keys/log.key")).expect("a key").trim())
            .expect("base64");
        let name =
            std::fs::read_to_string(at("vkey")).expect("a key").split('+').next().expect("a name").to_owned();
        let operator = Signer::new(&name, &seed.try_into().expect("32 bytes")).expect("a signer");
        let stranger = Signer::new(&name, &[7; 32]).expect("a signer");
        Scene { operator, stranger, programs: (gotlog(), tool("python")), folder }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn worm(&self, pack: &Path) -> Said {
        let (key, saved) = (self.at("vkey"), self.at("saved"));
        tools::worm(&["verify", text(pack), "--vkey", text(&key), "--saved", text(&saved)])
    }

    fn go(&self, pack: &Path) -> (Option<i32>, String) {
        run(Command::new(&self.programs.0).arg(pack).arg(self.at("vkey")))
    }

    fn python(&self, pack: &Path) -> (Option<i32>, String) {
        let script = crate::bins::root().join("tests/outsiders/pack.py");
        let mut command = Command::new(&self.programs.1);
        run(command.arg(script).arg("check").arg(pack).arg(self.at("vkey")).arg(self.at("saved")))
    }
}

/// A pack that somebody changes.
struct Victim(PathBuf);

impl Victim {
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn size(&self) -> u64 {
        let note = std::fs::read_to_string(self.path("checkpoint")).expect("a checkpoint");
        note.lines().nth(1).and_then(|size| size.parse().ok()).expect("a size")
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(self.path(name)).expect(name);
        change(&mut bytes);
        std::fs::write(self.path(name), bytes).expect("written");
    }

    /// The entries of a bundle, changed.
    fn bundle(&self, name: &str, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
        self.change(name, |bytes| {
            let mut entries: Vec<Vec<u8>> =
                bundle_entries(bytes).expect("a bundle").into_iter().map(<[u8]>::to_vec).collect();
            change(&mut entries);
            bytes.clear();
            entries.iter().for_each(|entry| bundle_push(bytes, entry));
        });
    }

    fn entries(&self) -> Vec<Vec<u8>> {
        let size = self.size();
        (0..size.div_ceil(WIDTH))
            .flat_map(|index| {
                let tile = Tile::at(Kind::Entries, index, size).expect("a bundle");
                let bytes = std::fs::read(self.path(&tile.path())).expect("a bundle");
                bundle_entries(&bytes).expect("a bundle").into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Makes everything again over other entries, as the one who runs the log could: tiles, checkpoint, sums.
    fn rebuild(&self, entries: &[Vec<u8>], signer: &Signer) {
        let size = entries.len() as u64;
        let mut hashes = MemHashes::default();
        entries.iter().for_each(|entry| {
            hashes.append(leaf_hash(entry));
        });
        std::fs::remove_dir_all(self.path("tile")).expect("removed");
        let put = |name: String, bytes: Vec<u8>| {
            let path = self.path(&name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, bytes).expect("written");
        };
        for tile in new_tiles(0, size) {
            put(tile.path(), tile_bytes(tile, &mut hashes).expect("hashes"));
        }
        for (index, part) in entries.chunks(WIDTH as usize).enumerate() {
            let mut bundle = Vec::new();
            part.iter().for_each(|entry| bundle_push(&mut bundle, entry));
            put(Tile::at(Kind::Entries, index as u64, size).expect("a bundle").path(), bundle);
        }
        let root = hashes.tree().root();
        put("checkpoint".into(), Checkpoint { origin: signer.name().into(), size, root }.publish(signer));
        std::fs::remove_dir_all(self.path("proofs")).expect("removed");
        self.change("pack.json", |bytes| {
            let mut claim: serde_json::Value = serde_json::from_slice(bytes).expect("a claim");
            claim["size"] = size.into();
            claim["segments"] = self.path("log").is_dir().into();
            claim["root"] = root.to_string().into();
            claim["bundles"] = serde_json::json!([0, size.div_ceil(WIDTH)]);
            *bytes = serde_json::to_vec(&claim).expect("json");
        });
        self.sums();
    }

    fn sums(&self) {
        let made = "find . -type f -not -path './tile/*' -not -path './log/*' -not -name SHA256SUMS -printf '%P\\0' \
                    | sort -z | xargs -0 sha256sum > sums.new && mv sums.new SHA256SUMS && sed -i '/sums.new/d' SHA256SUMS";
        let (code, said) = run(Command::new("bash").args(["-c", made]).current_dir(&self.0));
        assert_eq!(code, Some(0), "{said}");
    }
}

/// Who must refuse it: `Tree` by all three programs, `Ours` by worm alone, because the others read no segments and no
/// files beside the tree, `Late` by worm and Python, because Go's code keeps no earlier checkpoint and reads no times.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Tree,
    Late,
    Ours,
}

type Case = (&'static str, Who, i32, &'static str, fn(&Scene, &Victim));

fn edit(entries: &mut [Vec<u8>], nth: usize, from: &str, to: &str) {
    let line = String::from_utf8(entries[nth].clone()).expect("text");
    assert!(line.contains(from), "{line}");
    entries[nth] = line.replacen(from, to, 1).into_bytes();
}

/// An entry in the first bundle that is an accepted summary.
fn accepted(entries: &[Vec<u8>]) -> usize {
    entries
        .iter()
        .position(|entry| entry.windows(20).any(|bytes| bytes == b"\"outcome\":\"accepted\""))
        .expect("one")
}

fn body(segment: &[u8]) -> usize {
    segment.windows(9).rposition(|bytes| bytes == b"\"pcs_id\":").expect("a body in the log")
}

const FIRST: &str = "log/00000000000000000001.seg";

const CASES: &[Case] = &[
    ("a byte of a body", Who::Ours, 2, "segment", |_, pack| {
        pack.change(FIRST, |bytes| {
            let at = body(bytes);
            bytes[at] ^= 1;
        })
    }),
    ("a segment cut short", Who::Ours, 2, "segment", |_, pack| {
        pack.change(FIRST, |bytes| bytes.truncate(bytes.len() / 2))
    }),
    ("a segment gone", Who::Ours, 3, "segment", |_, pack| {
        std::fs::remove_file(pack.path(FIRST)).expect("removed")
    }),
    ("two segments in each other's place", Who::Ours, 2, "segment", |_, pack| {
        let other = FIRST.replace("1.seg", "2.seg");
        std::fs::rename(pack.path(FIRST), pack.path("log/x")).expect("renamed");
        std::fs::rename(pack.path(&other), pack.path(FIRST)).expect("a second segment");
        std::fs::rename(pack.path("log/x"), pack.path(&other)).expect("renamed");
    }),
    ("the manifest of another log", Who::Ours, 2, "segments", |_, pack| {
        pack.change("log/MANIFEST", |bytes| {
            let at = bytes.len() / 4;
            bytes.iter_mut().skip(at).step_by(7).for_each(|byte| *byte ^= 0x40);
            bytes[40] ^= 1;
        })
    }),
    ("a leaf", Who::Tree, 2, "tile/entries/000, offset", |_, pack| {
        pack.bundle("tile/entries/000", |entries| {
            let nth = accepted(entries);
            edit(entries, nth, "\"outcome\":\"accepted\"", "\"outcome\":\"rejected\"");
        })
    }),
    ("a leaf, with its tile", Who::Tree, 2, "tile/0/000", |_, pack| {
        pack.bundle("tile/entries/000", |entries| edit(entries, 0, "\"v\":1", "\"v\":2"));
        let entries = pack.entries();
        pack.change("tile/0/000", |bytes| bytes[..32].copy_from_slice(&leaf_hash(&entries[0]).0));
    }),
    ("a leaf, with every hash and sum made again", Who::Tree, 2, "4 signatures", |scene, pack| {
        let mut entries = pack.entries();
        let nth = accepted(&entries);
        edit(&mut entries, nth, "\"outcome\":\"accepted\"", "\"outcome\":\"rejected\"");
        let good = std::fs::read_to_string(pack.path("checkpoint")).expect("a checkpoint");
        pack.rebuild(&entries, &scene.stranger);
        // The new root under the old signature.
        let (text, _) = std::fs::read_to_string(pack.path("checkpoint"))
            .expect("a checkpoint")
            .split_once("\n\n")
            .map(|(text, _)| (text.to_owned(), ()))
            .expect("a note");
        let signature = good.split_once("\n\n").expect("a note").1;
        std::fs::write(pack.path("checkpoint"), format!("{text}\n\n{signature}")).expect("written");
        pack.sums();
    }),
    (
        "a leaf, with every hash, sum and signature made again by a stranger",
        Who::Tree,
        2,
        "4 signatures",
        |scene, pack| {
            let mut entries = pack.entries();
            let nth = accepted(&entries);
            edit(&mut entries, nth, "\"outcome\":\"accepted\"", "\"outcome\":\"rejected\"");
            pack.rebuild(&entries, &scene.stranger);
            std::fs::write(pack.path("vkey"), scene.stranger.verifier().vkey() + "\n").expect("written");
            pack.sums();
        },
    ),
    ("entries in another order", Who::Tree, 2, "entry 7", |_, pack| {
        pack.bundle("tile/entries/000", |entries| entries.swap(7, 9))
    }),
    ("an entry dropped", Who::Tree, 2, "entry 20", |_, pack| {
        pack.bundle("tile/entries/000", |entries| {
            entries.remove(20);
        })
    }),
    ("an entry twice", Who::Tree, 2, "entry 31", |_, pack| {
        pack.bundle("tile/entries/000", |entries| {
            let again = entries[30].clone();
            entries.insert(31, again);
        })
    }),
    ("a bundle gone", Who::Tree, 3, "tile/entries/001", |_, pack| {
        std::fs::remove_file(pack.path("tile/entries/001")).expect("removed");
    }),
    ("a bundle in the place of another", Who::Tree, 2, "tile/entries/001", |_, pack| {
        std::fs::copy(pack.path("tile/entries/000"), pack.path("tile/entries/001")).expect("copied");
    }),
    ("the last entries gone, signed by the operator", Who::Late, 5, "6 append-only", |scene, pack| {
        let entries = pack.entries();
        pack.rebuild(&entries[..400], &scene.operator);
    }),
    ("the checkpoint rolled back", Who::Late, 5, "6 append-only", |scene, pack| {
        std::fs::remove_dir_all(&pack.0).expect("removed");
        copy(&scene.at("older"), &pack.0);
    }),
    ("a forked history, signed by the operator", Who::Late, 5, "6 append-only", |scene, pack| {
        let mut entries = pack.entries();
        let nth = accepted(&entries);
        edit(&mut entries, nth, "\"outcome\":\"accepted\"", "\"outcome\":\"rejected\"");
        std::fs::remove_dir_all(pack.path("log")).expect("removed");
        pack.rebuild(&entries, &scene.operator);
    }),
    (
        "a new entry that the records do not make, signed by the operator",
        Who::Ours,
        2,
        "segments: record",
        |scene, pack| {
            let mut entries = pack.entries();
            let last = entries.len() - 1;
            edit(&mut entries, last, "\"nth\":", "\"nth\":9");
            pack.rebuild(&entries, &scene.operator);
        },
    ),
    ("a time moved, signed by the operator", Who::Late, 2, "7 continuity", |scene, pack| {
        let mut entries = pack.entries();
        let last = entries.len() - 2;
        edit(&mut entries, last, "\"time\":1", "\"time\":");
        std::fs::remove_dir_all(pack.path("log")).expect("removed");
        pack.rebuild(&entries, &scene.operator);
    }),
    ("the claim of another period", Who::Ours, 2, "pack.json", |_, pack| {
        pack.change("pack.json", |bytes| {
            *bytes = String::from_utf8(bytes.clone())
                .expect("text")
                .replace("\"period\": null", "\"period\": [1, 2]")
                .into_bytes();
        })
    }),
    ("a file slipped in", Who::Ours, 2, "note.txt", |_, pack| {
        std::fs::write(pack.path("note.txt"), "trust me").expect("written")
    }),
];

#[test]
fn the_clean_pack_is_accepted_by_all_and_whatever_is_done_to_it_is_refused_and_named() {
    let scene = Scene::new();
    for name in ["server", "pack"] {
        let pack = scene.at(name);
        let said = scene.worm(&pack);
        assert_eq!(said.code, Some(0), "{}", said.all());
        for words in [
            "1 format",
            "re-hashed",
            "log key",
            "witnesses none",
            "consistent with your saved checkpoint",
            "VERDICT  intact",
        ] {
            assert!(said.out.contains(words), "{words} in {}", said.all());
        }
        let (code, said) = scene.go(&pack);
        assert!(code == Some(0) && said.starts_with("OK "), "{said}");
        let (code, said) = scene.python(&pack);
        assert!(code == Some(0) && said.starts_with("OK "), "{said}");
    }
    the_readme_is_right(&scene.at("pack"));
    reports_are_accepted(&scene);
    a_sample_is_drawn_again(&scene);
    let mut ours = 0;
    for (nth, (name, who, exit, place, tamper)) in CASES.iter().enumerate() {
        let pack = Victim(scene.at(&format!("case{nth}")));
        copy(&scene.at("pack"), &pack.0);
        tamper(&scene, &pack);
        let said = scene.worm(&pack.0);
        assert_eq!(said.code, Some(*exit), "{name}: {}", said.all());
        let failed = said.out.lines().filter(|line| line.contains("FAIL")).collect::<Vec<_>>().join("\n");
        assert!(failed.contains(place), "{name}: {place} in {}", said.all());
        if *who == Who::Tree {
            let (code, said) = scene.go(&pack.0);
            assert!(code != Some(0) && said.contains("FAIL"), "{name}: {said}");
        }
        if *who != Who::Ours {
            let (code, said) = scene.python(&pack.0);
            assert!(code == Some(2) && said.contains("FAIL"), "{name}: {said}");
        } else {
            ours += 1;
        }
        std::fs::remove_dir_all(&pack.0).expect("removed");
    }
    println!(
        "{} kinds of tampering refused, {} of them by others' programs, too",
        CASES.len(),
        CASES.len() - ours
    );
}

/// OSCAL's own tool takes the assessment results, and refuses them when a member it wants is gone.
fn reports_are_accepted(scene: &Scene) {
    let file = |name: &str| scene.at(&format!("report.{name}"));
    let (pack, key) = (scene.at("pack"), scene.at("vkey"));
    let mut words = vec!["verify", text(&pack), "--vkey", text(&key)];
    let files = ["html", "json", "csv", "oscal.json"].map(file);
    files.iter().for_each(|path| words.extend(["--report", text(path)]));
    let said = tools::worm(&words);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let page = std::fs::read_to_string(&files[0]).expect("a page");
    assert!(page.contains("<svg") && page.contains("NOT EVALUATED") && !page.contains("<script"), "{page}");
    let trestle = tool("trestle");
    let workspace = scene.at("trestle");
    std::fs::create_dir_all(&workspace).expect("a folder");
    let ask = |words: &[&str]| run(Command::new(&trestle).args(words).current_dir(&workspace));
    assert_eq!(ask(&["init", "--local"]).0, Some(0));
    let (code, said) = ask(&["import", "-f", text(&files[3]), "-o", "good"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = ask(&["validate", "-t", "assessment-results", "-n", "good"]);
    assert!(code == Some(0) && said.contains("VALID"), "{said}");
    let broken = std::fs::read_to_string(&files[3]).expect("a report").replace("\"import-ap\"", "\"import\"");
    std::fs::write(&files[3], broken).expect("written");
    assert_ne!(ask(&["import", "-f", text(&files[3]), "-o", "bad"]).0, Some(0));
}

/// Python draws the same sample from the same words.
fn a_sample_is_drawn_again(scene: &Scene) {
    let (pack, out) = (scene.at("server"), scene.at("drawn"));
    let set = ["--kind", "accepted", "--out", text(&out)];
    let mut words = vec!["sample", text(&pack), "--n", "25", "--seed", "the auditor's own words"];
    words.extend(set);
    assert_eq!(tools::worm(&words).code, Some(0), "{}", tools::worm(&words).all());
    let mut words = vec!["population", text(&pack)];
    words.extend(set);
    assert_eq!(tools::worm(&words).code, Some(0), "{}", tools::worm(&words).all());
    let script = crate::bins::root().join("tests/outsiders/pack.py");
    let mut command = Command::new(&scene.programs.1);
    command.arg(script).arg("redraw").arg(out.join("sample.json")).arg(out.join("population.csv"));
    let (code, said) = run(&mut command);
    assert!(code == Some(0) && said.starts_with("OK 25 of "), "{said}");
}

/// Every indented command of the pack's own README.txt but the last, as a reader types them, one after the other.
fn the_readme_is_right(pack: &Path) {
    let readme = std::fs::read_to_string(pack.join("README.txt")).expect("a README");
    let commands: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| !line.starts_with("worm ") && !line.starts_with(' '))
        .collect();
    assert!(commands.len() >= 8, "{commands:?}");
    let script = format!("set -euo pipefail\n{}\n", commands.join("\n"));
    let (code, said) = run(Command::new("bash").args(["-c", &script]).current_dir(pack));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Signature Verified Successfully"), "{said}");
    // The hash of the entry, and the first hash of the tile.
    let hex = |line: &str| line.chars().filter(char::is_ascii_hexdigit).collect::<String>();
    let lines: Vec<&str> = said.lines().collect();
    let tail = hex(&lines[lines.len() - 2..].concat());
    assert!(lines.iter().any(|line| line.len() > 64 && hex(&line[..64]) == tail), "{said}");
}
