//! `flk submit` in front of a server: each answer becomes a screen that says what to do.

mod common;

use std::path::Path;

use common::{Fake, Script};
use engine::checkpoint::{Checkpoint, Receipt, Signer};
use engine::tree::leaf_hash;
use tools::cli::Server;
use tools::keys::KeyArgs;
use tools::report::{Exit, Format, Report, render};
use tools::submit::{Args, run};
use tools::ui::Ui;

fn golden() -> &'static str {
    include_str!("golden/agent.ndjson").lines().next().unwrap()
}

fn submit(folder: &Path, script: Script, body: &str) -> (Report, Fake) {
    let fake = Fake::start(script);
    let file = folder.join("pcs.json");
    std::fs::write(&file, body).unwrap();
    let server = Server { url: format!("http://{}", fake.address), tenant: "demo".into(), timeout: 5 };
    let args = Args {
        file,
        server,
        key: KeyArgs::default(),
        strict: false,
        receipts: folder.join("receipts"),
        no_receipt: false,
        tries: 2,
    };
    (run(&args, Ui::quiet()).unwrap(), fake)
}

fn answer(body: &serde_json::Value, accepted: bool) -> String {
    let id = body["pcs_id"].as_str().unwrap();
    format!(
        "{{\"accepted\":{accepted},\"recomputed_D_hat\":1.008105369,\"escalated\":{},\"pcs_id\":\"{id}\",\"D_hat\":1.008105369,\
         \"regime\":\"mixed\",\"budget\":0.370716725,\"seq\":7,\"lsn\":9,\"policy_version\":\"1.0.0\",\"receipt\":\"/v1/receipts/{id}\"}}\n",
        !accepted
    )
}

fn receipt() -> String {
    let signer = Signer::new("localhost/pcs/default", &[9; 32]).unwrap();
    let root = leaf_hash(b"leaf");
    let checkpoint = Checkpoint { origin: signer.name().into(), size: 1, root }.sign(&signer);
    String::from_utf8(Receipt { extra: None, index: 0, path: Vec::new(), checkpoint }.encode()).unwrap()
}

#[test]
fn an_accepted_summary_ends_with_its_receipt_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let (report, fake) = submit(
        folder.path(),
        |n, path, body| match (n, path) {
            (0, "/v1/pcs/submit") => Some((200, "", answer(body, true))),
            // No checkpoint covers it yet.
            (1, _) => Some((503, "Retry-After: 0\r\n", String::new())),
            _ if path.starts_with("/v1/receipts/") => Some((200, "", receipt())),
            _ => None,
        },
        golden(),
    );
    let text = render(&report, Format::Text, false);
    assert!(
        text.starts_with("200 accepted  regime mixed  budget 0.371  D_hat sent 1.008 recomputed 1.008\n"),
        "{text}"
    );
    assert!(text.contains("entry 0 of 1, saved "), "{text}");
    assert!(
        text.ends_with("VERDICT  accepted, durable as entry 7, record 9, judged by policy 1.0.0\n"),
        "{text}"
    );
    let id = fake.ids().remove(0);
    let saved = std::fs::read(folder.path().join("receipts").join(format!("{id}.tlog-proof"))).unwrap();
    assert_eq!(saved, receipt().into_bytes());
    assert_eq!(fake.seen.lock().unwrap()[0], serde_json::from_str::<serde_json::Value>(golden()).unwrap());
}

#[test]
fn a_wrong_signature_is_explained_by_the_bytes_it_must_cover() {
    let folder = tempfile::tempdir().unwrap();
    let body = golden().replace("\"r\":0.378860918", "\"r\":1");
    let problem = |_: usize, _: &str, _: &serde_json::Value| {
        Some((401, "", "{\"type\":\"/problems/signature-invalid\",\"title\":\"signature invalid\"}".into()))
    };
    let (report, _) = submit(folder.path(), problem, &body);
    let text = render(&report, Format::Text, false);
    assert_eq!(report.exit, Exit::Failed);
    assert!(text.starts_with("401 signature invalid  /problems/signature-invalid\n"), "{text}");
    assert!(text.contains("{\"D_hat\":1.008105369,\"budget\":0.370716725,"), "{text}");
    assert!(text.contains("1.000000000") && text.contains("signed with nine decimals"), "{text}");
    assert!(text.contains("flk sign --show-bytes"), "{text}");
}

#[test]
fn a_replay_and_a_conflict_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let of = |script: Script| render(&submit(folder.path(), script, golden()).0, Format::Text, false);
    let replayed: Script = |_, path, body| match path {
        "/v1/pcs/submit" => Some((200, "Idempotent-Replayed: true\r\n", answer(body, true))),
        _ => Some((200, "", receipt())),
    };
    let conflict: Script = |_, path, body| match path {
        "/v1/pcs/submit" => Some((202, "Idempotent-Replayed: conflict\r\n", answer(body, false))),
        _ => Some((404, "", String::new())),
    };
    assert!(of(replayed).contains("nothing was added"));
    let text = of(conflict);
    assert!(text.contains("202 rejected") && text.contains("noted as a conflict"), "{text}");
    assert!(text.contains("the server answered 404"), "{text}");
}

#[test]
fn a_refusal_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let (report, _) =
        submit(folder.path(), |_, _, _| Some((413, "", "{\"title\":\"too large\"}".into())), golden());
    assert_eq!(report.exit, Exit::Failed);
    assert!(report.verdict.contains("1 MiB"), "{}", report.verdict);
}
