//! Programs that we did not write judge a live server and an exported log.

use crate::bins;
use crate::load::Load;
use crate::node::{Node, Start};
use crate::pcs::submission;
use crate::tools;
use crate::trio::until;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Token that may read entry bundles.
const TOKEN: &str = "auditors-token";

/// Two tests must not install at the same time.
pub fn installing() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes sure that a tool is there and gives its path; installing is the script's work and may need the network.
pub fn tool(name: &str) -> PathBuf {
    let _held = installing();
    let script = bins::root().join("tests/outsiders/tools.sh");
    let output =
        Command::new("bash").arg(&script).arg(name).stdin(Stdio::null()).output().expect("bash runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{name} is not available:\n{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(said.lines().last().expect("a path").trim())
}

pub fn run(command: &mut Command) -> (Option<i32>, String) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// A node with some history, whose entry bundles may be read with [`TOKEN`].
pub fn busy_node(directory: &Path, count: usize) -> Node {
    let node = Start::on(directory).with("FLK_AUDIT_TOKEN", TOKEN).ready();
    let load = Load::start(node.address, 4, &Arc::new(AtomicU64::new(0)));
    load.wait_for(count);
    drop(load.end());
    node
}

pub fn gotlog() -> PathBuf {
    let go = tool("go");
    let program = bins::root().join("target/outsiders/gotlog");
    let source = bins::root().join("tests/outsiders/gotlog");
    let (code, said) = run(Command::new(go).args(["build", "-o"]).arg(&program).arg(".").current_dir(source));
    assert_eq!(code, Some(0), "gotlog does not build (its one module comes through the go command):\n{said}");
    program
}

#[test]
fn gotlog_passes_its_own_tests() {
    let source = bins::root().join("tests/outsiders/gotlog");
    let (code, said) = run(Command::new(tool("go")).args(["test", "./..."]).current_dir(source));
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn the_go_checksum_database_accepts_an_export_and_refuses_a_tampered_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = busy_node(directory.path(), 600);
    node.stop();
    let export = directory.path().join("export");
    let text = |path: &Path| path.to_str().expect("a text path").to_owned();
    let said = tools::worm(&["export", &text(directory.path()), "--out", &text(&export)]);
    assert_eq!(said.code, Some(0), "worm export: {}", said.all());
    let program = gotlog();
    let judge = || run(Command::new(&program).arg(&export).arg(directory.path().join("keys/log.vkey")));
    let (code, said) = judge();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("OK "), "{said}");
    let is_proof =
        |entry: &std::fs::DirEntry| entry.path().extension().is_some_and(|end| end == "tlog-proof");
    let proofs = std::fs::read_dir(export.join("proofs"))
        .map_or(0, |entries| entries.flatten().filter(is_proof).count());
    assert!(
        proofs > 0 && said.contains(&format!("proofs={proofs}")),
        "every exported proof is judged: {said}"
    );
    for (part, offset) in [("tile/entries/000", 300), ("tile/0/000", 40), ("checkpoint", 30)] {
        let path = export.join(part);
        let whole = std::fs::read(&path).expect("exported");
        let mut bytes = whole.clone();
        bytes[offset] ^= 1;
        std::fs::write(&path, bytes).expect("write");
        let (code, said) = judge();
        assert_eq!(code, Some(2), "{part} tampered: {said}");
        let place = part.split('/').next().expect("a part");
        assert!(said.contains(&format!("FAIL {place}")), "{part} tampered: {said}");
        std::fs::write(&path, whole).expect("write");
    }
}

#[test]
fn promtool_finds_no_fault_in_the_canonical_metrics() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = busy_node(directory.path(), 50);
    let page = node.get("/metrics?names=canonical");
    assert_eq!(page.status, 200);
    let mut promtool = Command::new(tool("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    use std::io::Write;
    promtool.stdin.take().expect("piped").write_all(&page.body).expect("written");
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "promtool: {}", String::from_utf8_lossy(&said));
    let text = page.text();
    for name in ["flk_ingest_total", "flk_accepted_total"] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} is missing:\n{text}");
    }
    let both = node.get("/metrics").text();
    for name in [
        "flk_ingest_total",
        "flk_dedup_hits",
        "flk_accepted",
        "flk_escalated",
        "flk_signature_errors",
        "flk_wal_errors",
    ] {
        assert!(
            both.lines().any(|line| line.split([' ', '{']).next() == Some(name)),
            "the original's {name} is missing"
        );
    }
}

#[test]
fn promtool_finds_no_fault_in_the_alerts_and_their_metrics_are_there() {
    let alerts = bins::root().join("deploy/prometheus");
    for (check, file) in [("check", "alerts.yml"), ("test", "alerts_test.yml")] {
        let (code, said) =
            run(Command::new(tool("promtool")).args([check, "rules", file]).current_dir(&alerts));
        assert_eq!(code, Some(0), "{said}");
    }
    // A metric that was renamed would silence its alert for ever.
    let directory = tempfile::tempdir().expect("a directory");
    let page = busy_node(directory.path(), 10).get("/metrics").text();
    let rules = std::fs::read_to_string(alerts.join("alerts.yml")).expect("the alerts");
    let mut names: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "))
        .flat_map(|expression| expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
        .filter(|word| word.starts_with("flk_"))
        .collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() >= 8, "{names:?}");
    // Only a leader of several knows how far the others are, and only where there are regions something is said of them;
    // `group` and `regions` look at those.
    let elsewhere = |name: &&str| {
        *name == "flk_raft_peer_lag_records"
            || name.starts_with("flk_region_")
            || name.starts_with("flk_reconcile_")
    };
    for name in names.into_iter().filter(|name| !elsewhere(name)) {
        assert!(page.lines().any(|line| line.split(' ').next() == Some(name)), "{name} is missing:\n{page}");
    }
}

/// The public key of a log as OpenSSL writes it: the SubjectPublicKeyInfo of RFC 8410.
fn pem(vkey: &str) -> String {
    // Its base64 may hold a plus sign, too.
    let key = vkey.lines().next().expect("a line").splitn(3, '+').nth(2).expect("name, id and key");
    let key = BASE64.decode(key).expect("base64");
    assert_eq!((key.len(), key[0]), (33, 1), "an Ed25519 key");
    let head = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let text = BASE64.encode([&head[..], &key[1..]].concat());
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
}

#[test]
fn a_verifier_of_cose_receipts_accepts_ours_and_refuses_an_altered_leaf() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = busy_node(directory.path(), 300);
    let answer = node.submit(&submission(7_000_000).body).json();
    let path = format!("/v1/receipts/{}", answer["pcs_id"].as_str().expect("an id"));
    until("a checkpoint covers it", || node.get(&path).status == 200);
    let accept = [("Accept", "application/cose")];
    let receipt = node.connect().send("GET", &path, &accept, b"").expect("an answer");
    assert_eq!(receipt.header("content-type"), Some("application/cose"));
    let lineage = format!("/v1/lineage/{}", answer["pcs_id"].as_str().expect("an id"));
    // Canonical JSON is what serde_json writes of it, too: sorted, integers and strings only.
    let leaf = node.get(&lineage).json()["leaf"].to_string();
    let (key, file) = (directory.path().join("key.pem"), directory.path().join("receipt.cose"));
    std::fs::write(&key, pem(&node.get("/tlog/default/vkey").text())).expect("a file");
    let scitt = tool("python").with_file_name("scitt-cose");
    let judge = |receipt: &[u8], leaf: &str| {
        std::fs::write(&file, receipt).expect("a file");
        let leaf = crate::pcs::hex(leaf.as_bytes());
        let mut command = Command::new(&scitt);
        command.arg("--receipt").arg(&file).arg("--receipt-log-pubkey").arg(&key);
        run(command.args(["--leaf-entry-hex", &leaf, "--json"]))
    };
    let (code, said) = judge(&receipt.body, &leaf);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = judge(&receipt.body, &leaf.replace("accepted", "rejected"));
    assert_eq!(code, Some(1), "an altered leaf: {said}");
    let mut bent = receipt.body.clone();
    let last = bent.len() - 1;
    bent[last] ^= 1;
    let (code, said) = judge(&bent, &leaf);
    assert_eq!(code, Some(1), "an altered signature: {said}");
}

/// Whoever serves an export serves the files that the node serves.
#[test]
fn an_export_and_the_node_give_the_same_bytes() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = busy_node(directory.path(), 700);
    let checkpoint = || node.get("/tlog/default/checkpoint").text();
    let on_disk = directory.path().join("tlog/default/checkpoint");
    let settled = || {
        let now = checkpoint();
        std::thread::sleep(Duration::from_millis(600));
        now == checkpoint() && std::fs::read_to_string(&on_disk).is_ok_and(|file| file == now)
    };
    until("the last checkpoint is written", settled);
    let export = directory.path().join("export");
    let text = |path: &Path| path.to_str().expect("a text path").to_owned();
    let said = tools::worm(&["export", &text(directory.path()), "--out", &text(&export)]);
    assert_eq!(said.code, Some(0), "worm export: {}", said.all());
    assert_eq!(std::fs::read_to_string(export.join("checkpoint")).expect("a file"), checkpoint());
    let bearer = format!("Bearer {TOKEN}");
    let mut folders = vec![export.join("tile")];
    let (mut full, mut partial, mut bundles) = (0, 0, 0);
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path())
        {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = text(path.strip_prefix(&export).expect("within it"));
            let headers = [("Authorization", bearer.as_str())];
            let url = format!("/tlog/default/{name}");
            let answer = node.connect().send("GET", &url, &headers, b"").expect("an answer");
            assert_eq!(answer.status, 200, "{name}");
            assert!(answer.header("cache-control").is_some_and(|text| text.contains("immutable")), "{name}");
            let bytes = std::fs::read(&path).expect("a file");
            assert!(answer.body == bytes, "{name} differs");
            match (name.contains("/entries/"), name.contains(".p/")) {
                (true, _) => bundles += 1,
                (false, true) => partial += 1,
                (false, false) => full += 1,
            }
            if name.contains("/entries/") {
                let headers = [headers[0], ("Accept-Encoding", "br, gzip")];
                let packed = node.connect().send("GET", &url, &headers, b"").expect("an answer");
                assert_eq!(packed.header("content-encoding"), Some("gzip"));
                assert!(packed.body.len() < bytes.len() / 2 && packed.body.starts_with(&[0x1f, 0x8b]));
                assert_eq!(node.get(&url).status, 401, "{name} is not for everybody");
            } else {
                let served = directory.path().join("tlog/default").join(&name);
                assert!(std::fs::read(served).is_ok_and(|file| file == bytes), "{name} as a file");
            }
        }
    }
    assert!(full >= 2 && partial >= 2 && bundles >= 3, "{full} {partial} {bundles}");
}

fn python(script: &str, arguments: &[&str]) {
    let (code, said) = run(Command::new(tool("python"))
        .arg(bins::root().join("tests/outsiders").join(script))
        .args(arguments));
    assert_eq!(code, Some(0), "{script}: {said}");
}

#[test]
fn the_openapi_document_is_valid_and_holds_against_the_live_server() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = busy_node(directory.path(), 50);
    python("openapi.py", &[&format!("http://{}", node.address)]);
    assert_eq!(node.get("/readyz").status, 200, "the server is well after the run");
}

#[test]
fn python_clients_of_the_original_work_unmodified() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Start::on(directory.path()).ready();
    python("clients.py", &[&format!("http://{}", node.address), crate::pcs::SECRET]);
}
