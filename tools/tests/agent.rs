//! The agent over real input, against servers that behave and servers that do not.

mod common;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use common::Fake;
use serde_json::Value;
use tools::agent::{Args, run_at};
use tools::cli::Server;
use tools::keys::KeyArgs;
use tools::report::{Exit, Report};
use tools::ui::Ui;

fn accepted(n: usize) -> (u16, &'static str, String) {
    (200, "", format!("{{\"accepted\":true,\"escalated\":false,\"seq\":{n},\"lsn\":{n}}}\n"))
}

fn input() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/earthquakes-2011.csv")
}

fn args(folder: &Path, address: Option<SocketAddr>) -> Args {
    let key = folder.join("key");
    std::fs::write(&key, "testsecret").unwrap();
    Args {
        input: input(),
        format: None,
        time: "time".into(),
        columns: ["latitude", "longitude", "depth", "mag"].map(str::to_owned).to_vec(),
        window: 256,
        window_time: None,
        partial: false,
        limit: Some(6),
        scales: vec![2, 4, 8, 16, 32],
        directions: 100,
        bins: 20,
        seed: 42,
        raw: false,
        chunk: 1024,
        shard: None,
        dry_run: address.is_none(),
        key: KeyArgs { hmac_key: Some(key), ed25519_key: None },
        server: Server {
            url: address.map_or_else(String::new, |address| format!("http://{address}")),
            ca: None,
            tenant: "demo".into(),
            timeout: 5,
        },
        outbox: Some(folder.join("outbox.jsonl")),
        dead: None,
        receipts: None,
        vkey: None,
        tries: 1,
    }
}

fn run(args: &Args) -> Report {
    let mut now = 1_763_700_000.0;
    run_at(args, Ui::quiet(), &mut || {
        now += 1.0;
        now
    })
    .unwrap()
}

/// The summaries of the first windows of the real input, byte for byte. `FLK_BLESS=1` writes the file anew; look at
/// the difference before you commit it: clients' ids and signatures depend on every byte.
#[test]
fn golden_summaries_of_real_input() {
    let folder = tempfile::tempdir().unwrap();
    let report = run(&args(folder.path(), None));
    let text = report.lines.join("\n") + "\n";
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/agent.ndjson");
    if std::env::var_os("FLK_BLESS").is_some() {
        std::fs::write(&golden, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(golden).unwrap());
    assert!(!folder.path().join("outbox.jsonl").exists(), "a dry run leaves nothing behind");
}

/// Each summary judged by the engine as a server judges it.
#[test]
fn what_the_agent_makes_a_server_accepts() {
    let folder = tempfile::tempdir().unwrap();
    let report = run(&Args { limit: None, ..args(folder.path(), None) });
    assert_eq!(report.lines.len(), 61);
    let policy = engine::summary::Policy::default_1_0_0();
    for line in &report.lines {
        let pcs = engine::summary::parse(line.as_bytes()).unwrap();
        engine::summary::verdict::structure(&pcs).unwrap();
        let verdict = engine::summary::verdict::numbers(&pcs, &policy);
        assert!(verdict.is_clean(), "{verdict:?} {line}");
    }
}

#[test]
fn a_second_run_sends_nothing_and_a_longer_stream_only_what_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(|n, _, _| Some(accepted(n)));
    let first = args(folder.path(), Some(fake.address));
    let report = run(&first);
    assert_eq!((report.exit, report.data["counts"]["accepted"].as_u64()), (Exit::Ok, Some(6)));
    let report = run(&first);
    assert_eq!((report.data["counts"]["known"].as_u64(), fake.ids().len()), (Some(6), 6));
    let report = run(&Args { limit: Some(8), ..first });
    assert_eq!(report.data["counts"]["accepted"].as_u64(), Some(2));
    let mut ids = fake.ids();
    assert_eq!(ids.len(), 8);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 8, "none was sent twice");
}

/// The server takes the third submission and breaks the connection before it answers. The next run sends exactly that
/// one and what lies behind it, the same bytes, and accepts that the server had it.
#[test]
fn an_answer_that_never_came_is_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(|n, _, _| match n {
        2 => None,
        3 => Some((200, "Idempotent-Replayed: true\r\n", accepted(2).2)),
        _ => Some(accepted(n)),
    });
    let args = args(folder.path(), Some(fake.address));
    let report = run(&args);
    assert_eq!(report.exit, Exit::Failed);
    assert_eq!(report.data["counts"]["pending"].as_u64(), Some(4), "{}", report.verdict);
    assert_eq!(fake.ids().len(), 3, "after one is lost no other is tried in this run");
    let report = run(&args);
    assert_eq!(report.exit, Exit::Ok, "{}", report.verdict);
    assert_eq!(report.data["counts"]["replayed"].as_u64(), Some(1));
    let (ids, seen) = (fake.ids(), fake.seen.lock().unwrap());
    assert_eq!((ids.len(), &ids[2]), (7, &ids[3]));
    assert_eq!(seen[2], seen[3], "the same bytes are sent again");
}

#[test]
fn what_is_refused_for_good_is_kept_apart_and_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(|n, _, _| match n {
        1 => Some((
            401,
            "",
            "{\"title\":\"signature-invalid\",\"error\":\"Signature verification failed\"}".into(),
        )),
        4 => Some((
            202,
            "",
            "{\"accepted\":false,\"escalated\":true,\"reason\":\"D_hat out of tolerance\",\"seq\":4}".into(),
        )),
        _ => Some(accepted(n)),
    });
    let args = args(folder.path(), Some(fake.address));
    let report = run(&args);
    let count = |name: &str| report.data["counts"][name].as_u64().unwrap();
    assert_eq!((count("dead"), count("rejected"), count("accepted")), (1, 1, 4));
    assert_eq!(report.exit, Exit::Failed);
    let dead = std::fs::read_to_string(folder.path().join("outbox.dead.jsonl")).unwrap();
    let line: Value = serde_json::from_str(dead.trim()).unwrap();
    assert_eq!(line["pcs_id"], fake.ids()[1]);
    assert_eq!(line["error"], "401 Signature verification failed");
    assert_eq!(run(&args).exit, Exit::Ok);
    assert_eq!(fake.ids().len(), 6);
}
