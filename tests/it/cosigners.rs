//! This product as a witness of other logs: growth and forks, races, and death between the record and the signature.

use crate::bins;
use crate::http::{Connection, Response};
use crate::node::{Node, Start};
use crate::outsiders::run;
use crate::pcs::submission;
use crate::tools::insist_sound;
use crate::witness::{eventually, metric, program};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::checkpoint::{Checkpoint, NoteSignature, Signer, Witness};
use engine::log::Digest;
use engine::tree::{MemHashes, consistency_proof, leaf_hash};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

fn text(path: &Path) -> &str {
    path.to_str().expect("a text path")
}

fn key(node: &Node) -> Witness {
    Witness::parse(node.get("/witness/vkey").text().trim()).expect("a cosignature key")
}

/// A log of a test: its key, and any tree it likes to show.
struct Log {
    signer: Signer,
}

impl Log {
    fn new(number: u8) -> Log {
        Log { signer: Signer::new(&format!("log-{number}.example/x"), &[number; 32]).expect("a key") }
    }

    fn line(&self) -> String {
        format!("log {}\n", self.signer.verifier().vkey())
    }

    /// A tree of so many leaves; `story` changes all of them.
    fn tree(story: u64, size: u64) -> MemHashes {
        let mut hashes = MemHashes::default();
        for n in 0..size {
            hashes.append(leaf_hash(format!("{story} {n}").as_bytes()));
        }
        hashes
    }

    /// A request that goes from `old` leaves of a story to `size` of the same.
    fn request(&self, story: u64, old: u64, size: u64) -> (Checkpoint, Vec<u8>) {
        let mut hashes = Log::tree(story, size);
        let proof = consistency_proof(old, size, &mut hashes).expect("a proof");
        let head = Checkpoint { origin: self.signer.name().into(), size, root: hashes.tree().root() };
        let lines: String = proof.iter().map(|Digest(hash)| STANDARD.encode(hash) + "\n").collect();
        let mut out = format!("old {old}\n{lines}\n").into_bytes();
        out.extend(head.sign(&self.signer));
        (head, out)
    }
}

fn add(address: SocketAddr, request: &[u8]) -> std::io::Result<Response> {
    Connection::open(address)?.send("POST", "/witness/add-checkpoint", &[], request)
}

/// The time of a good cosignature in an answer.
fn cosigned(witness: &Witness, head: &Checkpoint, answer: &Response) -> u64 {
    let line = answer.text();
    let line = NoteSignature::parse(line.strip_suffix('\n').expect("a line")).expect("a signature line");
    witness.verify(&head.text(), &line).expect("a good cosignature")
}

#[test]
fn a_node_cosigns_for_another_node_and_for_the_client_of_others() {
    let home = tempfile::tempdir().expect("a directory");
    let (log, watcher) = (home.path().join("log"), home.path().join("watcher"));
    // The log's key first, then the witness's, then the log knows its witness.
    Start::on(&log).ready().stop();
    let vkey = std::fs::read_to_string(log.join("keys/log.vkey")).expect("the key");
    let other = Log::new(7);
    let logs = home.path().join("logs");
    std::fs::write(
        &logs,
        format!("log {}\n{}quorum none\n", vkey.lines().next().expect("a line"), other.line()),
    )
    .expect("a file");
    let watcher_start =
        Start::on(&watcher).with("FLK_REGION", "other").with("FLK_WITNESS_LOGS_FILE", text(&logs));
    let witness = watcher_start.ready();
    let policy = home.path().join("policy");
    let line =
        format!("witness one {} http://{}/witness\nquorum one\n", key(&witness).vkey(), witness.address);
    std::fs::write(&policy, line).expect("a file");
    let node = Start::on(&log)
        .with("FLK_WITNESS_POLICY_FILE", text(&policy))
        .with("FLK_WITNESS_EVERY_MS", "100")
        .ready();
    for number in 0..20 {
        assert_eq!(node.submit(&submission(number).body).status, 200);
    }
    eventually("our witness cosigns our log", || {
        let backlog =
            format!("flk_anchor_backlog_leaves{{kind=\"witness\",target=\"{}\"}} 0", key(&witness).name());
        metric(&node, "flk_witness_policy_met 1") && metric(&node, &backlog)
    });
    node.stop();

    // What is no request, or not of a log it watches, is refused by its kind.
    let (_, good) = other.request(1, 0, 5);
    let (_, stranger) = Log::new(8).request(1, 0, 5);
    let mut forged = good.clone();
    let at = forged.len() - 10;
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    let lower = String::from_utf8(good.clone()).expect("text").replace("old 0", "old 9").into_bytes();
    for (request, status) in
        [(&b"nonsense"[..], 400), (&stranger, 404), (&forged, 403), (&lower, 400), (&vec![b'x'; 80_000], 413)]
    {
        assert_eq!(add(witness.address, request).expect("an answer").status, status);
    }
    if let Some(program) = program() {
        let mut command = Command::new(program.with_file_name("python"));
        command.arg(bins::root().join("tests/outsiders/feeder.py"));
        command.arg(format!("http://{}/witness", witness.address)).arg(key(&witness).vkey());
        let seed: String = [7_u8; 32].iter().map(|byte| format!("{byte:02x}")).collect();
        let (code, said) = run(command.args([seed.as_str(), other.signer.name()]));
        assert_eq!(code, Some(0), "{said}");
    }
    witness.stop();
    insist_sound(&watcher);
    // A witness never signs with a log's key.
    std::fs::copy(watcher.join("keys/log.key"), watcher.join("keys/witness.key")).expect("a key");
    let (_, said) = watcher_start.refused();
    assert!(said.contains("a key of its own"), "{said}");
}

#[test]
fn of_two_stories_told_at_once_one_is_cosigned() {
    let home = tempfile::tempdir().expect("a directory");
    let all: Vec<Log> = (1..=24).map(Log::new).collect();
    let file = home.path().join("logs");
    let lines: String = all.iter().map(Log::line).collect();
    std::fs::write(&file, lines + "quorum none\n").expect("a file");
    let data = home.path().join("data");
    let node = Start::on(&data).with("FLK_WITNESS_LOGS_FILE", text(&file)).ready();
    let witness = key(&node);
    let told = |log: &Log, old: u64, size: u64| -> u64 {
        let barrier = Barrier::new(2);
        let one = |story: u64| {
            let (head, request) = log.request(story, old, size);
            let address = node.address;
            let (barrier, witness) = (&barrier, &witness);
            move || {
                barrier.wait();
                let answer = add(address, &request).expect("an answer");
                match answer.status {
                    200 => assert!(cosigned(witness, &head, &answer) > 0),
                    409 => assert_eq!(answer.header("content-type"), Some("text/x.tlog.size")),
                    status => panic!("{status}: {}", answer.text()),
                }
                answer.status
            }
        };
        std::thread::scope(|scope| {
            let (a, b) = (scope.spawn(one(1)), scope.spawn(one(2)));
            let both = (a.join().expect("an answer"), b.join().expect("an answer"));
            assert!(matches!(both, (200, 409) | (409, 200)), "{both:?}");
            if both.0 == 200 { 1 } else { 2 }
        })
    };
    for log in &all {
        let story = told(log, 0, 9);
        let went_on = |story: u64| {
            let (_, request) = log.request(story, 9, 20);
            add(node.address, &request).expect("an answer").status
        };
        assert_eq!(went_on(3 - story), 422, "the other story is a fork");
        assert_eq!(went_on(story), 200);
        assert_eq!(went_on(story), 409, "that size does not stand any more");
    }
    node.stop();
    insist_sound(&data);
}

#[test]
fn a_witness_that_dies_again_and_again_never_signs_two_stories() {
    let home = tempfile::tempdir().expect("a directory");
    let log = Log::new(1);
    let file = home.path().join("logs");
    std::fs::write(&file, log.line() + "quorum none\n").expect("a file");
    let data = home.path().join("data");
    let start = Start::on(&data).with("FLK_WITNESS_LOGS_FILE", text(&file));
    // What was cosigned, by size.
    let signed: Arc<Mutex<BTreeMap<u64, Digest>>> = Arc::default();
    let mut witness = None;
    for life in 0..6_u64 {
        let node = start.ready();
        let known = witness.get_or_insert_with(|| key(&node)).clone();
        assert_eq!(known, key(&node), "its key outlives it");
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for story in [1, 2] {
                let (log, stop, signed, known, address) = (&log, &stop, &signed, &known, node.address);
                scope.spawn(move || {
                    let mut old = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let size = old + 1 + (old + story) % 3;
                        let (head, request) = log.request(story, old, size);
                        // It may be dead; what it said before counts.
                        let Ok(answer) = add(address, &request) else { return };
                        match answer.status {
                            200 => {
                                cosigned(known, &head, &answer);
                                let before = signed.lock().expect("the list").insert(size, head.root);
                                assert!(before.is_none_or(|root| root == head.root), "two roots over {size}");
                                old = size;
                            }
                            409 => old = answer.text().trim().parse().expect("a size"),
                            // The size that stands belongs to the other story.
                            422 => return,
                            503 => std::thread::sleep(Duration::from_millis(5)),
                            status => panic!("{status}: {}", answer.text()),
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(40 + 35 * life));
            node.kill();
            stop.store(true, Ordering::Relaxed);
        });
    }
    let signed = signed.lock().expect("the list").clone();
    assert!(signed.len() > 10, "it signed {} times", signed.len());
    // All of them are of one story, the one whose first was agreed.
    let of = |story: u64| signed.iter().all(|(size, root)| Log::tree(story, *size).tree().root() == *root);
    assert!(of(1) != of(2), "one story is signed, and one only");
    let node = start.ready();
    let (story, last) = (if of(1) { 1 } else { 2 }, *signed.keys().last().expect("some"));
    // What stands may be one ahead of what was signed: agreed, and not yet signed when it died.
    let (_, request) = log.request(story, 0, last);
    let stands: u64 = add(node.address, &request).expect("an answer").text().trim().parse().expect("a size");
    assert!(stands >= last, "{stands} stands, {last} was signed");
    let (_, request) = log.request(story, stands, stands + 5);
    assert_eq!(add(node.address, &request).expect("an answer").status, 200);
    node.stop();
    insist_sound(&data);
}
