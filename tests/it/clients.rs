//! The operator's and the client's commands against a live node: signing, keys, the doctor, the load, and the agent
//! while its server is away.

use crate::bins;
use crate::node::Start;
use crate::pcs::{Draft, SECRET};
use crate::ports;
use crate::tools::{self, Said};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn text(path: &Path) -> &str {
    path.to_str().expect("a text path")
}

fn json(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.all()))
}

fn secret(folder: &Path, secret: &str) -> PathBuf {
    let path = folder.join(format!("{secret}.hmac"));
    std::fs::write(&path, secret).expect("written");
    path
}

#[test]
fn a_summary_is_signed_submitted_and_its_receipt_proved() {
    let directory = tempfile::tempdir().expect("a directory");
    let (data, folder) = (directory.path().join("data"), directory.path());
    let node = Start::on(&data).ready();
    let url = format!("http://{}", node.address);
    let draft = Draft::accepted(1);
    let file = folder.join("pcs.json");
    std::fs::write(&file, draft.body("")).expect("written");

    let shown = json(&tools::flk(&["sign", "--show-bytes", text(&file), "--json"]));
    let bytes = shown["data"]["bytes"].as_str().expect("the bytes");
    assert!(bytes.starts_with("{\"D_hat\":1.000000000,\"budget\":0.400000000,"), "{bytes}");
    assert_eq!(shown["data"]["sha256"], crate::pcs::hex(&Sha256::digest(bytes)));

    let unsigned = tools::flk(&["submit", text(&file), "--url", &url, "--no-receipt"]);
    assert!(unsigned.code == Some(1) && unsigned.out.contains("carries no signature"), "{}", unsigned.all());
    let (right, wrong) = (secret(folder, SECRET), secret(folder, "wrong"));
    let receipts = folder.join("receipts");
    let submit = |key: &Path, more: &[&str]| {
        let base =
            ["submit", text(&file), "--url", &url, "--hmac-key", text(key), "--receipts", text(&receipts)];
        tools::flk(&[&base, more].concat())
    };
    let said = submit(&wrong, &[]);
    assert!(said.code == Some(1) && said.out.contains("bytes that a signature must cover"), "{}", said.all());
    let vkey = data.join("keys/log.vkey");
    let said = submit(&right, &["--vkey", text(&vkey)]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert!(said.out.contains("signed by the given key"), "{}", said.all());
    let kept = receipts.join(format!("{}.tlog-proof", draft.id()));
    assert_eq!(tools::worm(&["check", text(&kept), "--vkey", text(&vkey)]).code, Some(0));
    let stranger = engine::checkpoint::Signer::new("elsewhere", &[4; 32]).expect("a key").verifier().vkey();
    let said = submit(&right, &["--vkey", &stranger]);
    assert!(said.code == Some(2) && said.out.contains("not signed by the given key"), "{}", said.all());
    assert_eq!(submit(&right, &["--vkey", "/nowhere"]).code, Some(1));
}

#[test]
fn new_keys_are_private_never_overwritten_and_sign() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("pcs.json");
    std::fs::write(&file, Draft::accepted(1).body("")).expect("written");
    for (kind, flag, length) in [("hmac", "--hmac-key", 44), ("ed25519", "--ed25519-key", 88)] {
        let key = directory.path().join(kind);
        let made = tools::flk(&["keygen", kind, "--out", text(&key)]);
        assert_eq!(made.code, Some(0), "{}", made.all());
        let mode = std::fs::metadata(&key).expect("the key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{kind}");
        let again = tools::flk(&["keygen", kind, "--out", text(&key)]);
        assert!(again.code == Some(1) && again.err.contains("will not overwrite"), "{}", again.all());
        let signed = tools::flk(&["sign", text(&file), flag, text(&key)]);
        let signed: Value = serde_json::from_str(&signed.out).expect("a summary");
        assert_eq!(signed["sig"].as_str().map(str::len), Some(length), "{kind}");
    }
    let none = tools::flk(&["sign", text(&file)]);
    assert!(none.code == Some(1) && none.err.contains("no key to sign with"), "{}", none.all());
}

#[test]
fn the_doctor_sees_a_node_that_is_there_and_one_that_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let node = Start::on(&data).ready();
    let url = format!("http://{}", node.address);
    let doctor = |more: &[&str]| {
        let base = ["doctor", text(&data), "--syncs", "5", "--json"];
        tools::flk(&[&base, more].concat())
    };
    let state = |said: &Said, name: &str| {
        let checks = json(said)["checks"].as_array().cloned().unwrap_or_default();
        let found =
            checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{}", said.all()));
        found["state"].as_str().map(str::to_owned)
    };
    let said = doctor(&["--url", &url]);
    assert_eq!((said.code, state(&said, "server").as_deref()), (Some(0), Some("ok")), "{}", said.all());
    assert!(said.out.contains("in use by a running flkd"), "{}", said.all());
    node.stop();
    let said = doctor(&["--url", &url]);
    assert_ne!(state(&said, "server").as_deref(), Some("ok"), "{}", said.all());
    let said = doctor(&["--offline"]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(data.join("keys/kek"), open).expect("changed");
    assert_ne!(state(&doctor(&["--offline"]), "keys").as_deref(), Some("ok"), "a secret that all can read");
}

#[test]
fn a_load_is_measured_beside_an_echo_or_refused_in_words() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Start::on(&directory.path().join("data")).ready();
    let url = format!("http://{}", node.address);
    let bench = |key: &str| {
        let key = secret(directory.path(), key);
        let load =
            ["--seconds", "0.5", "--warm-up", "0.1", "--bodies", "5000", "--connections", "8", "--json"];
        tools::flk(&[&["bench", "--url", &url, "--hmac-key", text(&key)], load.as_slice()].concat())
    };
    let said = bench(SECRET);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let data = json(&said)["data"].clone();
    for number in ["records_per_second", "p50_ns", "p99_ns", "p999_ns", "syncs", "echo_records_per_second"] {
        assert!(data[number].as_f64().is_some_and(|value| value > 0.0), "{number} in {}", said.all());
    }
    let said = bench("wrong");
    assert_eq!(
        (said.code, json(&said)["data"]["records_per_second"].as_f64()),
        (Some(1), None),
        "{}",
        said.all()
    );
    assert!(said.out.contains("401"), "{}", said.all());
}

/// An agent over the real input in small windows, so that a run takes a while.
struct Agent {
    folder: PathBuf,
    url: String,
    key: PathBuf,
}

impl Agent {
    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(bins::path("flk"));
        command.arg("agent").arg(bins::root().join("tools/data/earthquakes-2011.csv"));
        command.args(["--columns", "latitude,longitude,depth,mag", "--window", "16", "--directions", "4"]);
        command.args(["--url", &self.url, "--hmac-key", text(&self.key), "--json"]).args(more);
        command.arg("--outbox").arg(self.outbox()).stdin(Stdio::null());
        command
    }

    fn outbox(&self) -> PathBuf {
        self.folder.join("outbox.jsonl")
    }

    fn run(&self, more: &[&str]) -> (Option<i32>, Value) {
        let output = self.command(more).output().expect("the agent runs");
        ended(&output)
    }

    /// Waits until so many answers are noted in the outbox.
    fn wait_for(&self, child: &mut Child, answers: usize) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let outbox = std::fs::read_to_string(self.outbox()).unwrap_or_default();
            if outbox.lines().filter(|line| line.starts_with("{\"ack\"")).count() >= answers {
                return;
            }
            assert!(Instant::now() < deadline, "the agent does not get on");
            assert!(child.try_wait().expect("wait").is_none(), "the agent ended early");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn ended(output: &std::process::Output) -> (Option<i32>, Value) {
    let said = String::from_utf8_lossy(&output.stdout);
    let value = serde_json::from_str(&said)
        .unwrap_or_else(|error| panic!("{error}: {said}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), value)
}

fn count(report: &Value, name: &str) -> u64 {
    report["data"]["counts"][name].as_u64().unwrap_or_else(|| panic!("{name} in {report}"))
}

#[test]
fn an_agent_goes_on_when_its_server_is_killed_and_comes_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    // The node must come back under the address that the agent knows.
    let port = ports::free().port();
    let start = Start::on(&data).with("FLK_HTTP_PORT", &port.to_string());
    let agent = Agent {
        folder: directory.path().to_owned(),
        url: format!("http://127.0.0.1:{port}"),
        key: secret(directory.path(), SECRET),
    };
    // Nobody is there yet: what was made stays in the outbox, nothing is a dead letter.
    let (code, report) = agent.run(&["--tries", "1", "--limit", "3"]);
    assert_eq!((code, count(&report, "pending")), (Some(1), 3), "{report}");
    let node = start.ready();
    let mut child = agent
        .command(&["--tries", "20"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    agent.wait_for(&mut child, 100);
    node.kill();
    assert!(child.try_wait().expect("wait").is_none(), "it had more to send");
    let node = start.ready();
    let (code, report) = ended(&child.wait_with_output().expect("it ends"));
    assert_eq!((code, count(&report, "pending"), count(&report, "dead")), (Some(0), 0, 0), "{report}");
    let windows = count(&report, "windows");
    assert_eq!(windows, 15_813 / 16);
    // Every summary stands in the log, once, and its receipt holds.
    let vkey = data.join("keys/log.vkey");
    let (code, report) = agent.run(&["--vkey", text(&vkey)]);
    assert_eq!(
        (code, count(&report, "known"), count(&report, "receipts")),
        (Some(0), windows, windows),
        "{report}"
    );
    assert_eq!(count(&report, "accepted"), 0, "nothing is sent twice");
    node.stop();
    let verified = json(&tools::worm(&["verify", text(&data), "--json"]));
    assert_eq!(verified["exit"], 0, "{verified}");
    assert!(!directory.path().join("outbox.dead.jsonl").exists());
}

#[test]
fn what_a_server_refuses_for_good_is_a_dead_letter() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Start::on(&directory.path().join("data")).ready();
    let agent = Agent {
        folder: directory.path().to_owned(),
        url: format!("http://{}", node.address),
        key: secret(directory.path(), "wrong"),
    };
    let (code, report) = agent.run(&["--limit", "5"]);
    assert_eq!((code, count(&report, "dead"), count(&report, "pending")), (Some(1), 5, 0), "{report}");
    let dead = std::fs::read_to_string(directory.path().join("outbox.dead.jsonl")).expect("dead letters");
    let letters: Vec<Value> = dead.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(letters.len(), 5);
    assert!(
        letters.iter().all(|letter| letter["error"].as_str().is_some_and(|error| error.starts_with("401 ")))
    );
    assert!(!dead.contains("wrong"), "no secret is written");
}
