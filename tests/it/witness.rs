//! A witness that we did not write watches the log: it cosigns growth, refuses a fork, and everything shows it.

use crate::bins;
use crate::node::{Node, Start};
use crate::outsiders::{installing, run};
use crate::pcs::submission;
use crate::ports;
use crate::runbooks::blocks;
use crate::tools::{self, insist_sound};
use engine::checkpoint::{Receipt, Signed, TrustPolicy};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The program, if this machine can have it.
pub fn program() -> Option<PathBuf> {
    let script = bins::root().join("tests/outsiders/tools.sh");
    let turn = installing();
    let (code, said) = run(Command::new("bash").arg(script).arg("witness"));
    drop(turn);
    match code {
        Some(0) => Some(PathBuf::from(said.lines().last().expect("a path"))),
        Some(3) => {
            let name = std::thread::current().name().unwrap_or("a test").to_owned();
            let line = format!("SKIPPED {name} (counts as not run): {}\n", said.trim());
            let _ = std::io::stderr().write_all(line.as_bytes());
            let list = bins::root().join("target/skipped.txt");
            let list = std::fs::OpenOptions::new().create(true).append(true).open(list);
            list.and_then(|mut list| list.write_all(line.as_bytes())).expect("the list of skipped tests");
            None
        }
        _ => panic!("the witness is not available:\n{said}"),
    }
}

/// A witness with a key of its own, which does not run yet.
struct Aics {
    program: PathBuf,
    config: PathBuf,
    address: SocketAddr,
    vkey: String,
    running: Option<Child>,
}

impl Aics {
    fn new(program: PathBuf, directory: &Path, log_vkey: &str) -> Aics {
        std::fs::create_dir_all(directory).expect("a directory");
        let config = directory.join("witness.json");
        let mut aics = Aics { program, config, address: ports::free(), vkey: String::new(), running: None };
        let said = aics.say(&["init", "--name", "witness.example.org/w1"]);
        let vkey = said.split_whitespace().find(|word| word.starts_with("witness.example.org/w1+"));
        aics.vkey = vkey.unwrap_or_else(|| panic!("no key in {said}")).to_owned();
        aics.say(&["add-log", "--origin", "localhost/pcs/default", "--vkey", log_vkey]);
        aics
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("AICS_WITNESS_CONFIG", &self.config);
        command
    }

    fn say(&self, arguments: &[&str]) -> String {
        let (code, said) = run(self.command().args(arguments));
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
        said
    }

    fn start(&mut self) {
        let mut command = self.command();
        command.args(["serve", "--listen", &self.address.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.running = Some(command.spawn().expect("the witness starts"));
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().expect("it runs");
            child.wait().expect("it ends");
        }
    }
}

impl Drop for Aics {
    fn drop(&mut self) {
        self.stop();
    }
}

fn submit(node: &Node, numbers: std::ops::Range<u64>) {
    for number in numbers {
        assert_eq!(node.submit(&submission(number).body).status, 200);
    }
}

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub fn metric(node: &Node, line: &str) -> bool {
    node.get("/metrics").text().lines().any(|one| one == line)
}

/// The checkpoint with most cosignatures.
fn witnessed(node: &Node) -> Signed {
    let answer = node.get("/tlog/default/checkpoint?witnessed");
    Signed::parse(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.text()))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a text path")
}

/// A directory whose node has made its keys, and the log's public key.
fn founded(directory: &Path) -> String {
    Start::on(directory).ready().stop();
    std::fs::read_to_string(directory.join("keys/log.vkey"))
        .expect("the keys")
        .lines()
        .next()
        .expect("a line")
        .to_owned()
}

#[test]
fn a_witness_of_others_cosigns_growth_and_everything_shows_it() {
    let Some(program) = program() else { return };
    let home = tempfile::tempdir().expect("a directory");
    let data = home.path().join("data");
    let vkey = founded(&data);
    let mut aics = Aics::new(program, &home.path().join("witness"), &vkey);
    let policy = home.path().join("policy");
    let known = format!("log {vkey}\nwitness one {} http://{}\n", aics.vkey, aics.address);
    std::fs::write(&policy, format!("{known}quorum one\n")).expect("a file");
    let start = Start::on(&data)
        .with("FLK_WITNESS_POLICY_FILE", text(&policy))
        .with("FLK_WITNESS_EVERY_MS", "100")
        .with("FLK_ANCHOR_TRIES", "1000");

    // Without the witness everything goes on, and says so.
    let node = start.ready();
    submit(&node, 0..5);
    eventually("a receipt", || node.get(&format!("/v1/receipts/{}", submission(0).id)).status == 200);
    let receipt = |node: &Node, number: u64| {
        let answer = node.get(&format!("/v1/receipts/{}", submission(number).id));
        Receipt::parse(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.text()))
    };
    let said = |receipt: &Receipt| {
        let extra = receipt.extra.clone().expect("what opens it");
        let extra: serde_json::Value = serde_json::from_slice(&extra).expect("JSON");
        extra["witnesses"].as_str().expect("a count").to_owned()
    };
    assert_eq!(said(&receipt(&node, 0)), "0/1");
    let ready = node.get("/readyz?verbose");
    assert!(ready.status == 200 && ready.text().contains("witnesses 0/1"), "{}", ready.text());
    assert!(metric(&node, "flk_witness_cosignatures 0") && metric(&node, "flk_witness_policy_met 0"));

    // It comes, and cosigns what is there and what comes after.
    aics.start();
    let entries = || node.get("/metrics").text();
    let leaves = |page: String| {
        let line = page.lines().find_map(|line| line.strip_prefix("flk_tree_leaves ").map(str::to_owned));
        line.and_then(|line| line.parse::<u64>().ok()).expect("a number")
    };
    for part in 1..4 {
        submit(&node, part * 100..part * 100 + 7);
        let all = leaves(entries());
        eventually("growth is cosigned", || {
            let signed = witnessed(&node);
            signed.checkpoint.size == all && signed.signatures.len() == 3
        });
    }
    assert!(metric(&node, "flk_witness_cosignatures 1") && metric(&node, "flk_witness_policy_met 1"));
    let known_policy =
        TrustPolicy::parse(&std::fs::read_to_string(&policy).expect("a file")).expect("a policy");
    let signed = witnessed(&node);
    known_policy.signed_by_a_log(&signed).expect("the log's line");
    assert!(known_policy.standing(&signed).expect("no forgery").met);

    // Others read it: the note as the witness's own library checks it.
    let note = home.path().join("note");
    std::fs::write(&note, node.get("/tlog/default/checkpoint?witnessed").body).expect("a file");
    let judge = |quorum: &str| {
        let tool = aics.program.with_file_name("aics-tlog");
        let mut command = Command::new(tool);
        command.args(["verify-checkpoint", "--note", text(&note), "--log-key", &vkey]);
        run(command.args(["--witness-key", &aics.vkey, "--quorum", quorum])).0
    };
    assert_eq!(judge("1"), Some(0));
    let whole = std::fs::read(&note).expect("a file");
    let lines = String::from_utf8(whole.clone()).expect("text");
    let without: String = lines.split_inclusive('\n').filter(|line| !line.contains("w1 ")).collect();
    std::fs::write(&note, without).expect("a file");
    assert_ne!(judge("1"), Some(0), "without the cosignature the same judge refuses");
    std::fs::write(&note, &whole).expect("a file");

    // The receipt carries the line; `worm check` wants as many as the policy says.
    let held = receipt(&node, 3);
    assert_eq!(said(&held), "1/1");
    assert_eq!(Signed::parse(&held.checkpoint).expect("a checkpoint").signatures.len(), 3);
    let proof = home.path().join("3.tlog-proof");
    std::fs::write(&proof, held.encode()).expect("a file");
    let strict = home.path().join("strict");
    let other = engine::checkpoint::Cosigner::new("other", &[9; 32]).expect("a key").witness().vkey();
    std::fs::write(&strict, format!("{known}witness two {other}\ngroup G all one two\nquorum G\n"))
        .expect("a file");
    let check =
        |policy: &Path| tools::worm(&["check", text(&proof), "--vkey", &vkey, "--policy", text(policy)]);
    let (met, not) = (check(&policy), check(&strict));
    assert_eq!((met.code, not.code), (Some(0), Some(4)), "{}{}", met.all(), not.all());

    // It survives the process, and the witness.
    aics.stop();
    node.kill();
    let node = start.ready();
    eventually("the cosignature is there again", || {
        let receipt = receipt(&node, 3);
        Signed::parse(&receipt.checkpoint).expect("a checkpoint").signatures.len() == 3
    });
    assert_eq!(witnessed(&node), signed);
    node.stop();
    insist_sound(&data);
    let verify = |policy: &Path| tools::worm(&["verify", text(&data), "--policy", text(policy)]);
    let (met, not) = (verify(&policy), verify(&strict));
    assert_eq!((met.code, not.code), (Some(0), Some(4)), "{}{}", met.all(), not.all());
    assert!(met.out.contains("1/1 on"), "{}", met.all());
    assert!(data.join("tlog/default/checkpoint.witnessed").is_file());
}

#[test]
fn a_fork_is_refused_by_the_witness_and_pages_somebody_while_submissions_go_on() {
    let Some(program) = program() else { return };
    let home = tempfile::tempdir().expect("a directory");
    let (data, fork) = (home.path().join("data"), home.path().join("fork"));
    let vkey = founded(&data);
    let mut aics = Aics::new(program, &home.path().join("witness"), &vkey);
    aics.start();
    let policy = home.path().join("policy");
    let text_of = format!("witness one {} http://{}\nquorum one\n", aics.vkey, aics.address);
    std::fs::write(&policy, text_of).expect("a file");
    let start = |data: &Path| {
        Start::on(data)
            .with("FLK_WITNESS_POLICY_FILE", text(&policy))
            .with("FLK_WITNESS_EVERY_MS", "100")
            .with("FLK_ANCHOR_TRIES", "1000")
            .with("FLK_ADMIN_TOKEN", "operator")
    };
    let node = start(&data).ready();
    submit(&node, 0..9);
    eventually("it is cosigned", || metric(&node, "flk_witness_cosignatures 1"));
    assert!(metric(&node, "flk_witness_contradicted 0"));
    node.stop();

    // The same keys tell another story.
    std::fs::create_dir_all(fork.join("keys")).expect("a directory");
    for key in ["kek", "log.key"] {
        std::fs::copy(data.join("keys").join(key), fork.join("keys").join(key)).expect("a key");
    }
    let node = start(&fork).ready();
    submit(&node, 1000..1030);
    eventually("the contradiction shows", || metric(&node, "flk_witness_contradicted 1"));
    let ready = node.get("/readyz?verbose");
    let line = ready.text();
    assert!(ready.status == 200 && line.contains("CONTRADICTED by witness.example.org/w1"), "{line}");
    submit(&node, 2000..2003);
    let token = home.path().join("token");
    std::fs::write(&token, "operator\n").expect("a file");
    let url = format!("http://{}", node.address);
    let audit = |more: &[&str]| {
        tools::flk(&[&["audit"], more, &["--url", &url, "--token-file", text(&token)]].concat())
    };
    let said = audit(&["dlq", "list", "--json"]);
    assert_eq!(said.code, Some(6), "{}", said.all());
    assert!(said.out.contains("contradicted"), "{}", said.all());
    assert_eq!(audit(&["status"]).code, Some(6));
    // The runbook, as it is written.
    let page = std::fs::read_to_string(bins::root().join("docs/runbooks/contradicted.md")).expect("the page");
    let programs = bins::path("flk");
    let programs = programs.parent().expect("a folder").display();
    let seen = data.join("tlog/default/checkpoint.witnessed");
    let blocks = blocks(&page);
    assert_eq!(blocks.len(), 3, "every block of the page is run");
    for (code, block) in blocks {
        let mut shell = Command::new("bash");
        shell.arg("-euc").arg(&block).env("PATH", format!("{programs}:/usr/bin:/bin"));
        shell
            .env("FLK_URL", &url)
            .env("FLK_ADMIN_TOKEN", "operator")
            .env("DATA", &fork)
            .env("WITNESSED", &seen);
        let (found, said) = run(&mut shell);
        assert_eq!(found, Some(code), "{block}: {said}");
    }
    eventually("it is tried again, and refused again", || metric(&node, "flk_witness_contradicted 1"));
    let said = audit(&["dlq", "drop", "witness.example.org/w1"]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let said = audit(&["dlq", "drop", "nobody"]);
    assert_eq!(said.code, Some(1), "{}", said.all());
    // Nothing of the fork was cosigned, and the witness kept what the log signed.
    assert!(metric(&node, "flk_witness_cosignatures 0"));
    let evidence = aics.say(&["evidence"]);
    assert!(evidence.contains("localhost/pcs/default"), "{evidence}");
}
