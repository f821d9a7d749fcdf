//! Time and witnesses in an evidence pack: stamps that `openssl ts -verify` accepts, and every way to move a time or to forge
//! a witness that was thought of, each refused with the place named.

use crate::node::Start;
use crate::outsiders::run;
use crate::pcs::{hex, submission};
use crate::stamps::Authority;
use crate::tools::{self, Said};
use crate::trio::until;
use engine::checkpoint::{Cosigner, Signed};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Token that may read entry bundles.
const TOKEN: &str = "auditors-token";

fn text(path: &Path) -> &str {
    path.to_str().expect("a text path")
}

/// A pack with two stamped checkpoints and a cosigned one, and what an auditor holds beside it.
struct Scene {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Scene {
    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn new() -> Scene {
        let folder = tempfile::tempdir().expect("a directory");
        let authority = Authority::start(&folder.path().join("tsa"));
        let scene = Scene { folder, authority };
        let targets = scene.at("targets.toml");
        let address = scene.authority.address;
        let list = format!(
            "[[target]]\nname = \"tsa-1\"\nkind = \"rfc3161\"\nurl = \"http://{address}/\"\nevery_s = 1\n"
        );
        std::fs::write(&targets, list).expect("written");
        let data = scene.at("data");
        let node = Start::on(&data)
            .with("FLK_ANCHOR_TARGETS_FILE", text(&targets))
            .with("FLK_AUDIT_TOKEN", TOKEN)
            .ready();
        let stamps = || {
            let list = std::fs::read_dir(data.join("tlog/default/anchors")).into_iter().flatten().flatten();
            list.filter(|entry| entry.path().extension().is_some_and(|end| end == "tsr")).count()
        };
        for n in 0..300 {
            assert_eq!(node.submit(&submission(n).body).status, 200);
        }
        until("a first stamp", || stamps() > 0);
        let had = stamps();
        for n in 300..700 {
            assert_eq!(node.submit(&submission(n).body).status, 200);
        }
        until("a second stamp", || stamps() > had);
        let url = format!("http://{}", node.address);
        std::fs::write(scene.at("token"), TOKEN).expect("written");
        let (out, token) = (scene.at("served"), scene.at("token"));
        let said = tools::worm(&["fetch", &url, "--out", text(&out), "--token-file", text(&token)]);
        assert_eq!(said.code, Some(0), "{}", said.all());
        node.stop();
        std::fs::copy(data.join("keys/log.vkey"), scene.at("keys")).expect("copied");
        let shown = data.join("tlog/default");
        let mut signed =
            Signed::parse(&std::fs::read(shown.join("checkpoint")).expect("a note")).expect("a checkpoint");
        let witness = Cosigner::new("w.example/one", &[3; 32]).expect("a key");
        let policy = format!("witness one {}\nquorum one\n", witness.witness().vkey());
        std::fs::write(scene.at("policy"), policy).expect("written");
        let line = witness.cosign(&signed.checkpoint.text(), 1_790_000_000);
        signed.signatures.push(line);
        std::fs::write(shown.join("checkpoint.witnessed"), signed.encode()).expect("written");
        let said = tools::worm(&["fetch", text(&data), "--out", text(&scene.at("pack"))]);
        assert_eq!(said.code, Some(0), "{}", said.all());
        scene
    }

    fn verify(&self, pack: &Path, more: &[&str]) -> Said {
        let (keys, ca) = (self.at("keys"), self.authority.folder.join("ca.pem"));
        tools::worm(&[&["verify", text(pack), "--vkey", text(&keys), "--tsa-ca", text(&ca)], more].concat())
    }

    /// The stamps of a pack, each with the checkpoint that it is over.
    fn stamps(&self, pack: &Path) -> Vec<(PathBuf, PathBuf)> {
        let list = std::fs::read_dir(pack.join("anchors")).expect("anchors").flatten();
        let mut found: Vec<PathBuf> = list.map(|entry| entry.path()).collect();
        found.retain(|path| path.extension().is_some_and(|end| end == "tsr"));
        found.sort();
        let over = |stamp: &PathBuf| stamp.with_extension("").with_extension("checkpoint");
        found.into_iter().map(|stamp| (stamp.clone(), over(&stamp))).collect()
    }

    /// Whether OpenSSL takes every stamp of a pack.
    fn openssl(&self, pack: &Path) -> bool {
        let ca = self.authority.folder.join("ca.pem");
        self.stamps(pack).iter().all(|(stamp, note)| {
            let mut command = Command::new("openssl");
            command.args(["ts", "-verify", "-data", text(note), "-in", text(stamp), "-CAfile", text(&ca)]);
            run(&mut command).0 == Some(0)
        })
    }

    /// A copy of the pack, changed, with its sums made again.
    fn changed(&self, change: impl FnOnce(&Path)) -> PathBuf {
        let pack = self.at("changed");
        let _ = std::fs::remove_dir_all(&pack);
        let (code, said) = run(Command::new("cp").args(["-r", text(&self.at("pack")), text(&pack)]));
        assert_eq!(code, Some(0), "{said}");
        change(&pack);
        let sums = std::fs::read_to_string(pack.join("SHA256SUMS")).expect("sums");
        let again = sums.lines().filter_map(|line| {
            let name = line.split_once("  ").expect("a sum").1;
            let bytes = std::fs::read(pack.join(name)).ok()?;
            Some(format!("{}  {name}\n", hex(&Sha256::digest(bytes))))
        });
        std::fs::write(pack.join("SHA256SUMS"), again.collect::<String>()).expect("written");
        pack
    }
}

#[test]
fn a_pack_says_before_when_its_entries_existed_and_nobody_moves_that() {
    let scene = Scene::new();
    let pack = scene.at("pack");
    assert!(scene.stamps(&pack).len() >= 2 && scene.openssl(&pack));
    // What a server gives is the same, but for what came since.
    let served = scene.at("served");
    let said = scene.verify(&served, &[]);
    assert!(
        said.code == Some(0) && scene.openssl(&served) && scene.stamps(&served).len() >= 2,
        "{}",
        said.all()
    );

    let policy = scene.at("policy");
    let said = scene.verify(&pack, &["--policy", text(&policy)]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert!(
        said.out.contains("chain to your authority ok") && said.out.contains("existed before"),
        "{}",
        said.all()
    );
    assert!(said.out.contains("the policy is met"), "{}", said.all());

    let newest = scene.stamps(&pack).pop().expect("a stamp").0.file_name().expect("a name").to_owned();
    let place = format!("anchors/{}", newest.to_str().expect("text"));
    let refused = |what: &str, code: i32, names: &str, change: &dyn Fn(&Path)| {
        let pack = scene.changed(change);
        let said = scene.verify(&pack, &["--policy", text(&policy)]);
        assert!(said.code == Some(code) && said.out.contains(names), "{what}: {}", said.all());
        pack
    };
    // A digit of the time: whoever reads the stamp without its signature would believe it.
    let moved = refused("a moved time", 2, &place, &|pack| {
        let path = pack.join(&place);
        let mut bytes = std::fs::read(&path).expect("a stamp");
        let at = bytes.windows(2).position(|two| two == [0x18, 0x0f]).expect("a time") + 5;
        bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        std::fs::write(path, bytes).expect("written");
    });
    assert!(!scene.openssl(&moved), "OpenSSL refuses it, too");
    let swapped = refused("the stamp of another checkpoint", 2, "about something else", &|pack| {
        let stamps = scene.stamps(pack);
        std::fs::copy(&stamps[0].0, &stamps[stamps.len() - 1].0).expect("copied");
    });
    assert!(!scene.openssl(&swapped));
    refused("a checkpoint without its stamped text", 3, &place, &|pack| {
        std::fs::remove_file(scene.stamps(pack).pop().expect("a stamp").1).expect("removed");
    });
    refused("no stamp at all", 4, "no time stamp", &|pack| {
        std::fs::remove_dir_all(pack.join("anchors")).expect("removed");
    });
    // The operator's own authority says whatever he likes.
    let other = Authority::start(&scene.at("other"));
    let own = refused(
        "an authority that the auditor does not know",
        4,
        "by an authority of yours",
        &|pack| {
            for (stamp, note) in scene.stamps(pack) {
                std::fs::copy(note, other.folder.join("note")).expect("copied");
                for line in [
                    "ts -query -data note -sha256 -cert -out own.tsq",
                    "ts -reply -config tsa.cnf -section here -queryfile own.tsq -inkey tsa.key -signer tsa.pem -out own.tsr",
                ] {
                    let (code, said) =
                        run(Command::new("openssl").args(line.split(' ')).current_dir(&other.folder));
                    assert_eq!(code, Some(0), "{said}");
                }
                std::fs::copy(other.folder.join("own.tsr"), stamp).expect("copied");
            }
        },
    );
    assert!(!scene.openssl(&own));
    // A history that was made later cannot stand before an old stamp: the stamped checkpoint is not its own.
    refused("a stamped checkpoint that the operator did not sign", 2, "anchors/", &|pack| {
        let (stamp, note) = scene.stamps(pack).pop().expect("a stamp");
        let forged = std::fs::read_to_string(&note).expect("a note").replacen('\n', "\n9", 1);
        std::fs::write(&note, &forged).expect("written");
        std::fs::remove_file(&stamp).expect("removed");
        std::fs::write(scene.authority.folder.join("note"), forged).expect("written");
        for line in [
            "ts -query -data note -sha256 -cert -out own.tsq",
            "ts -reply -config tsa.cnf -section here -queryfile own.tsq -inkey tsa.key -signer tsa.pem -out own.tsr",
        ] {
            let folder = &scene.authority.folder;
            let (code, said) = run(Command::new("openssl").args(line.split(' ')).current_dir(folder));
            assert_eq!(code, Some(0), "{said}");
        }
        std::fs::copy(scene.authority.folder.join("own.tsr"), &stamp).expect("copied");
    });

    // The witness's line, with its own name and id, of somebody else's hand; and one that says another time.
    refused("a forged witness", 2, "checkpoint.witnessed", &|pack| {
        let path = pack.join("checkpoint.witnessed");
        let mut signed = Signed::parse(&std::fs::read(&path).expect("a note")).expect("a checkpoint");
        let thief = Cosigner::new("w.example/one", &[4; 32]).expect("a key");
        let own = signed.signatures.pop().expect("a line");
        let mut line = thief.cosign(&signed.checkpoint.text(), 1_790_000_000);
        line.key_id = own.key_id;
        signed.signatures.push(line);
        std::fs::write(path, signed.encode()).expect("written");
    });
    refused("a witness's time moved", 2, "checkpoint.witnessed", &|pack| {
        let path = pack.join("checkpoint.witnessed");
        let mut signed = Signed::parse(&std::fs::read(&path).expect("a note")).expect("a checkpoint");
        signed.signatures.last_mut().expect("a line").signature[7] ^= 1;
        std::fs::write(path, signed.encode()).expect("written");
    });
    refused("no witness", 4, "NOT met", &|pack| {
        std::fs::remove_file(pack.join("checkpoint.witnessed")).expect("removed");
    });
    // Without roots nothing is called checked that was not.
    let keys = scene.at("keys");
    let said = tools::worm(&["verify", text(&pack), "--vkey", text(&keys)]);
    assert!(said.code == Some(0) && said.out.contains("give the authority's root"), "{}", said.all());
}
