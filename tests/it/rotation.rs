//! The log goes over to new keys: while both sign, after that, and for whoever only has the first.

use crate::bins;
use crate::node::{Node, Start};
use crate::outsiders::{gotlog, run, tool};
use crate::pcs::submission;
use crate::tools::{self, Said};
use crate::trio::{Group, text, until};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::checkpoint::{LogKeys, Receipt, Signed, Signer};
use std::path::{Path, PathBuf};
use std::process::Command;

fn size_of(note: &str) -> u64 {
    note.lines().nth(1).and_then(|size| size.parse().ok()).unwrap_or(0)
}

/// Submits so many summaries and waits for a checkpoint over all of them; gives that checkpoint.
fn fill(node: &Node, numbers: std::ops::Range<u64>) -> String {
    let seqs = numbers.filter_map(|n| node.submit(&submission(n).body).json()["seq"].as_u64());
    let last = seqs.max().expect("entries");
    let checkpoint = || node.get("/tlog/default/checkpoint").text();
    until("a checkpoint covers all", || size_of(&checkpoint()) > last);
    checkpoint()
}

fn vkeys(node: &Node) -> String {
    node.get("/tlog/default/vkey").text()
}

fn keys(address: &str, token: &Path, words: &[&str]) -> Said {
    let url = format!("http://{address}");
    tools::flk(&[&["keys"], words, &["--url", &url, "--token-file", text(token)]].concat())
}

fn signer(name: &str, seed_file: &Path) -> Signer {
    let seed = std::fs::read_to_string(seed_file).expect("a seed");
    let seed = STANDARD.decode(seed.trim()).expect("base64").try_into().expect("32 bytes");
    Signer::new(name, &seed).expect("a signer")
}

/// Puts another file into a pack, as somebody would who can write sums, too.
fn replace(pack: &Path, name: &str, bytes: Option<&[u8]>) {
    let sums = pack.join("SHA256SUMS");
    let listed = std::fs::read_to_string(&sums).expect("sums");
    let old = listed.lines().find(|line| line.ends_with(&format!("  {name}"))).expect("its sum").to_owned();
    let sum = |bytes: &[u8]| crate::pcs::hex(&<sha2::Sha256 as sha2::Digest>::digest(bytes));
    let new = bytes.map(|bytes| format!("{}  {name}\n", sum(bytes))).unwrap_or_default();
    std::fs::write(&sums, listed.replace(&format!("{old}\n"), &new)).expect("written");
    match bytes {
        Some(bytes) => std::fs::write(pack.join(name), bytes).expect("written"),
        None => std::fs::remove_file(pack.join(name)).expect("removed"),
    }
}

#[test]
fn who_has_only_the_first_key_comes_to_the_newest_and_a_thief_of_an_old_one_comes_nowhere() {
    let folder = tempfile::tempdir().expect("a directory");
    let at = |name: &str| -> PathBuf { folder.path().join(name) };
    let (data, token) = (at("data"), at("token"));
    std::fs::write(&token, "operator\n").expect("a file");
    let start = Start::on(&data).with("FLK_ADMIN_TOKEN", "operator");
    let node = start.ready();
    let address = node.address.to_string();
    std::fs::write(at("saved"), fill(&node, 0..30)).expect("written");
    let founding = vkeys(&node);
    std::fs::write(at("first"), &founding).expect("written");
    // Without the token nobody changes anything.
    std::fs::write(at("guess"), "guess\n").expect("a file");
    assert_eq!(keys(&address, &at("guess"), &["rotate"]).code, Some(1));

    let said = keys(&address, &token, &["rotate", "--both", "1h"]);
    assert!(said.code == Some(0) && said.out.contains("set 2"), "{}", said.all());
    let both = vkeys(&node);
    assert!(both.starts_with(&founding) && both.lines().count() == 4, "{both}");
    std::fs::write(at("second"), &both[founding.len()..]).expect("written");
    std::fs::write(at("both"), &both).expect("written");
    std::fs::write(at("note"), fill(&node, 30..60)).expect("written");
    let others = |keys: &str| {
        let script = bins::root().join("tests/outsiders/mldsa.py");
        run(Command::new(tool("python")).arg(script).arg(at("note")).arg(at(keys)))
    };
    let (code, said) = others("both");
    assert!(code == Some(0) && said.matches(" ok").count() == 4, "all four lines hold for OpenSSL: {said}");
    let ready = node.get("/readyz?verbose").text();
    assert!(ready.contains("set 2") && ready.contains("beside set 1 until"), "{ready}");
    let page = node.get("/metrics").text();
    assert!(page.contains("\nflk_log_key_set 2\n") && page.contains("\nflk_log_key_unusable 0\n"), "{page}");
    until("the file of public keys follows", || {
        std::fs::read_to_string(data.join("keys/log.vkey")).ok().as_ref() == Some(&both)
    });
    let program = gotlog();
    let fetch = |out: &str, more: &[&str]| {
        let out = at(out);
        tools::worm(&[&["fetch", text(&data), "--out", text(&out)], more].concat())
    };
    assert_eq!(fetch("window", &[]).code, Some(0));
    let go = |pack: &str, keys: &str| run(Command::new(&program).arg(at(pack)).arg(at(keys)));
    for keys in ["first", "second"] {
        let (code, said) = go("window", keys);
        assert_eq!(code, Some(0), "Go's note package with the {keys} key: {said}");
    }

    // It comes back with the log, and from nothing but the log.
    node.stop();
    let statement = data.join("tlog/default/keys/2.tlog-proof");
    let shown = std::fs::read(&statement).expect("a statement");
    std::fs::remove_dir_all(data.join("tlog")).expect("removed");
    std::fs::remove_dir_all(data.join("proj")).expect("removed");
    let node = start.ready();
    let address = node.address.to_string();
    assert_eq!(vkeys(&node), both);
    until("the statement is made again", || std::fs::read(&statement).ok().as_ref() == Some(&shown));
    assert_eq!(node.get("/tlog/default/keys/2.tlog-proof").body, shown);
    assert_eq!(node.get("/tlog/default/keys/3.tlog-proof").status, 404);

    // A window that is over at once: from then on the old key is silent.
    let said = keys(&address, &token, &["rotate", "--both", "0s"]);
    assert!(said.code == Some(0) && said.out.contains("set 3"), "{}", said.all());
    fill(&node, 60..90);
    until("the window ends with log time", || vkeys(&node).lines().count() == 2);
    std::fs::write(at("third"), vkeys(&node)).expect("written");
    let shown = keys(&address, &token, &["show"]);
    assert!(
        shown.code == Some(0) && shown.out.contains("/tlog/default/keys/3.tlog-proof"),
        "{}",
        shown.all()
    );
    let asked = [("Prefer", "receipt")];
    let answer =
        node.connect().send("POST", "/v1/pcs/submit", &asked, &submission(99).body).expect("an answer");
    std::fs::write(at("answer.tlog-proof"), answer.json()["tlog_proof"].as_str().expect("a proof"))
        .expect("written");
    fill(&node, 90..95);
    until("the files follow", || data.join("tlog/default/keys/3.tlog-proof").is_file());
    // Who submits has the first key alone: the server says what followed it, and is not believed for less than its proof.
    std::fs::write(at("one.json"), submission(96).body).expect("written");
    let stranger = Signer::new(LogKeys::parse(&founding).expect("keys").name(), &[1; 32]).expect("a signer");
    std::fs::write(at("stranger"), stranger.vkeys()).expect("written");
    for (key, code) in [("first", 0), ("stranger", 2)] {
        let (url, receipts) = (format!("http://{address}"), at("receipts"));
        let (file, key_file) = (at("one.json"), at(key));
        let words = ["submit", text(&file), "--url", &url, "--receipts", text(&receipts)];
        let said = tools::flk(&[&words[..], &["--vkey", text(&key_file)]].concat());
        assert_eq!(said.code, Some(code), "{key}: {}", said.all());
    }
    // From the server and from the stick, with the first key alone.
    std::fs::write(at("newest"), node.get("/tlog/default/checkpoint").body).expect("written");
    let (first, saved) = (at("first"), at("saved"));
    node.stop();
    let said = fetch("pack", &["--vkey", text(&first), "--saved", text(&saved)]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert_eq!(go("pack", "third").0, Some(0));
    assert_eq!(go("pack", "first").0, Some(2), "whoever knows no chain needs the new key now");
    let verify = |place: &Path, key: &str| {
        tools::worm(&["verify", text(place), "--vkey", text(&at(key)), "--saved", text(&saved)])
    };
    for key in ["first", "second", "both", "third"] {
        let said = verify(&at("pack"), key);
        assert!(said.code == Some(0) && said.out.contains("one of 3 sets"), "{key}: {}", said.all());
        let said = tools::worm(&["verify", text(&data), "--vkey", text(&at(key))]);
        assert!(
            said.code == Some(0) && said.out.contains("3 sets follow each other"),
            "{key}: {}",
            said.all()
        );
    }
    let said = tools::worm(&["verify", text(&data), "--depth", "leaves", "--vkey", text(&first)]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    tools::insist_sound(&data);
    let (answer, pack) = (at("answer.tlog-proof"), at("pack"));
    let check =
        |more: &[&str]| tools::worm(&[&["check", text(&answer), "--vkey", text(&first)], more].concat());
    assert_eq!(check(&[]).code, Some(2), "the first key did not sign this");
    let said = check(&["--keys", text(&pack)]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let second = pack.join("keys/2.tlog-proof");
    assert_eq!(
        tools::worm(&["check", text(&second), "--vkey", text(&first)]).code,
        Some(0),
        "itself a receipt"
    );
    for command in [&["population", "--out"][..], &["sample", "--n", "3", "--seed", "words", "--out"]] {
        let out = at(command[0]);
        let words =
            [&[command[0], text(&pack), "--vkey", text(&first)], &command[1..], &[text(&out)]].concat();
        let said = tools::worm(&words);
        assert_eq!(said.code, Some(0), "{}", said.all());
    }
    let copy = at("copy");
    let said = tools::flk(&["snapshot", "save", text(&data), text(&copy)]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let said = tools::worm(&["verify", text(&copy), "--vkey", text(&first)]);
    assert!(said.code == Some(0) && said.out.contains("3 sets"), "{}", said.all());
    let said = tools::flk(&["doctor", text(&data), "--offline", "--syncs", "2"]);
    assert!(said.out.contains("set 3 of the log's keys"), "{}", said.all());

    hostile(&folder, &data, &verify);
    another_kek(&data, &at("wrong"));
}

/// What somebody does who can write every file of a pack, and has the seed of the first key.
fn hostile(folder: &tempfile::TempDir, data: &Path, verify: &dyn Fn(&Path, &str) -> Said) {
    let pack = folder.path().join("pack");
    let founding = std::fs::read_to_string(folder.path().join("first")).expect("keys");
    let name = LogKeys::parse(&founding).expect("keys").name().to_owned();
    let thief = signer(&name, &data.join("keys/log.key"));
    assert_eq!(thief.vkeys(), founding);
    let refused = |what: &str, file: &str, bytes: Option<Vec<u8>>, why: &str| {
        let victim = tempfile::tempdir_in(folder.path()).expect("a directory");
        let copy = victim.path().join("pack");
        let copied = Command::new("cp").arg("-r").arg(&pack).arg(&copy).status().expect("cp");
        assert!(copied.success());
        replace(&copy, file, bytes.as_deref());
        let said = verify(&copy, "first");
        assert!(said.code == Some(2) && said.out.contains(why), "{what}: {}", said.all());
    };
    let second = std::fs::read(pack.join("keys/2.tlog-proof")).expect("a statement");
    let third = std::fs::read(pack.join("keys/3.tlog-proof")).expect("a statement");
    refused("the chain is cut", "keys/2.tlog-proof", None, "no signature of this key");
    refused("the end of the chain is cut", "keys/3.tlog-proof", None, "no signature of this key");
    refused(
        "a statement in another's place",
        "keys/2.tlog-proof",
        Some(third.clone()),
        "keys/2.tlog-proof: its entry introduces set 3",
    );
    let changed = |statement: &[u8], change: &dyn Fn(&mut Receipt)| {
        let mut receipt = Receipt::parse(statement).expect("a receipt");
        change(&mut receipt);
        Some(receipt.encode())
    };
    let lines = |receipt: &mut Receipt, change: &dyn Fn(&mut Signed)| {
        let mut signed = Signed::parse(&receipt.checkpoint).expect("a note");
        change(&mut signed);
        receipt.checkpoint = signed.encode();
    };
    for line in 0..4 {
        let without =
            changed(&third, &|receipt| lines(receipt, &|signed| drop(signed.signatures.remove(line))));
        refused(
            "one of the four did not sign",
            "keys/3.tlog-proof",
            without,
            "keys/3.tlog-proof: no signature of this key",
        );
        let bent =
            changed(&third, &|receipt| lines(receipt, &|signed| signed.signatures[line].signature[9] ^= 1));
        refused(
            "one signature is bent",
            "keys/3.tlog-proof",
            bent,
            "keys/3.tlog-proof: a signature of this key does not verify",
        );
    }
    let stranger = Signer::new(&name, &[9; 32]).expect("a signer").vkeys();
    let other = changed(&second, &|receipt| {
        let extra = String::from_utf8(receipt.extra.clone().expect("an entry")).expect("text");
        let now = LogKeys::parse(&std::fs::read_to_string(folder.path().join("second")).expect("keys"))
            .expect("keys");
        let line = |text: &str| text.trim_end().replace('\n', " ");
        receipt.extra = Some(extra.replace(&line(&now.text()), &line(&stranger)).into_bytes());
    });
    refused(
        "another key in the entry",
        "keys/2.tlog-proof",
        other,
        "keys/2.tlog-proof: its entry does not lead",
    );
    // The old key signs a tree that holds its successor: nobody believes it any more.
    let head =
        Signed::parse(&std::fs::read(pack.join("checkpoint")).expect("a note")).expect("a note").checkpoint;
    refused(
        "an old key goes on signing",
        "checkpoint",
        Some(head.publish(&thief)),
        "no signature of this key",
    );
}

/// A node that cannot open the seeds signs nothing, and says so; it takes submissions to nobody's harm.
fn another_kek(data: &Path, wrong: &Path) {
    let copied = Command::new("cp").arg("-r").arg(data).arg(wrong).status().expect("cp");
    assert!(copied.success());
    std::fs::write(wrong.join("keys/kek"), STANDARD.encode([3; 32]) + "\n").expect("written");
    let node = Start::on(wrong).alive();
    until("it says so", || node.get("/readyz?verbose").text().contains("NO CHECKPOINTS ARE SIGNED"));
    assert_eq!(node.get("/readyz").status, 503);
    let page = node.get("/metrics").text();
    assert!(page.contains("\nflk_log_key_unusable 1\n"), "{page}");
    node.kill();
}

#[test]
fn every_node_of_a_group_signs_with_the_new_key_whoever_leads() {
    let mut group = Group::with(3, Default::default(), &[]);
    let token = group.directory.path().join("token");
    for number in 0..30 {
        group.nodes[&(number % 3 + 1)].submit(&submission(number).body);
    }
    let follower = group.leader() % 3 + 1;
    let address = group.nodes[&follower].address.to_string();
    let said = keys(&address, &token, &["rotate", "--both", "0s"]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let leader = group.leader();
    group.nodes.remove(&leader).expect("it runs").kill();
    let next = group.leader();
    assert_ne!(next, leader);
    let note = fill(&group.nodes[&next], 30..60);
    let newest = LogKeys::parse(&vkeys(&group.nodes[&next])).expect("keys");
    assert_eq!(newest.keys().count(), 2, "the window is over");
    assert_eq!(
        newest.verify(&Signed::parse(note.as_bytes()).expect("a note")).expect("signed").spoke.len(),
        2
    );
    group.start(leader);
    for node in group.nodes.values() {
        until("all say the same", || vkeys(node) == newest.text());
        let ready = || node.get("/readyz?verbose").text();
        until("all have the key", || ready().contains("set 2, key"));
        until("all show why", || node.get("/tlog/default/keys/2.tlog-proof").status == 200);
    }
    let shown: Vec<Vec<u8>> =
        group.nodes.values().map(|node| node.get("/tlog/default/keys/2.tlog-proof").body).collect();
    assert!(shown.windows(2).all(|pair| pair[0] == pair[1]), "one statement, the same bytes everywhere");
    group.insist_sound(&[]);
}
