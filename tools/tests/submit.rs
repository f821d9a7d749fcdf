//! `flk submit` in front of a server: each answer becomes a screen that says what to do.

mod common;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{Fake, Script};
use engine::checkpoint::{Checkpoint, Receipt, Signer};
use engine::ids::{KeyId, TenantId};
use engine::leaf::{Leaf, Pcs, What};
use engine::log::{Digest, Lsn};
use engine::summary::decimal::Decimal;
use engine::summary::{PcsId, ReasonCode, Regime, SignatureForm};
use engine::tree::leaf_hash;
use sha2::{Digest as _, Sha256};
use tools::cli::Server;
use tools::keys::KeyArgs;
use tools::report::{Exit, Format, Report, render};
use tools::submit::{Args, run};
use tools::ui::Ui;

fn golden() -> &'static str {
    include_str!("golden/agent.ndjson").lines().next().unwrap()
}

fn submit(folder: &Path, script: Script, body: &str) -> (Report, Fake) {
    submit_with(folder, script, body, None)
}

fn submit_with(folder: &Path, script: Script, body: &str, vkey: Option<String>) -> (Report, Fake) {
    let fake = Fake::start(script);
    let file = folder.join("pcs.json");
    std::fs::write(&file, body).unwrap();
    let server =
        Server { ca: None, url: format!("http://{}", fake.address), tenant: "demo".into(), timeout: 5 };
    let args = Args {
        file,
        server,
        key: KeyArgs::default(),
        strict: false,
        receipts: folder.join("receipts"),
        no_receipt: false,
        vkey,
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

/// The log of a server that was asked once: a receipt for the summary in [`golden`].
fn receipt() -> String {
    let signer = signer();
    let pcs = engine::summary::parse(golden().as_bytes()).unwrap();
    let salt = [3; 16];
    let zero = Digest([0; 32]);
    let leaf = Leaf {
        lsn: Lsn(9),
        nth: 0,
        time_ms: 1_763_700_000_000,
        region: "default".into(),
        what: What::Pcs(Pcs {
            tenant: TenantId::new("demo").unwrap(),
            pcs_id: PcsId::from_hex(&pcs.pcs_id).unwrap(),
            commitment: Digest(Sha256::new().chain_update(salt).chain_update(golden()).finalize().into()),
            accepted: true,
            escalated: false,
            code: ReasonCode::ALL[0],
            d_hat: Decimal::shortest(1.0),
            d_hat_recomputed: None,
            coh_star: Decimal::shortest(0.5),
            r: Decimal::shortest(0.5),
            budget: Decimal::shortest(0.5),
            budget_recomputed: None,
            regime: Regime::Sticky,
            policy: "1.0.0".into(),
            policy_hash: zero,
            params_hash: zero,
            form: SignatureForm::Canonical,
            key_id: KeyId::new("aa").unwrap(),
        }),
    }
    .encode();
    let checkpoint =
        Checkpoint { origin: signer.name().into(), size: 1, root: leaf_hash(&leaf) }.sign(&signer);
    let leaf = String::from_utf8(leaf).unwrap();
    let extra = serde_json::json!({"leaf": leaf, "salt": STANDARD.encode(salt)}).to_string().into_bytes();
    String::from_utf8(Receipt { extra: Some(extra), index: 0, path: Vec::new(), checkpoint }.encode())
        .unwrap()
}

fn signer() -> Signer {
    Signer::new("localhost/pcs/default", &[9; 32]).unwrap()
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
    assert!(text.contains("proves entry 0 of 1, signature not checked: give --vkey; saved "), "{text}");
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

#[test]
fn a_receipt_is_proved_by_the_logs_key_or_the_exit_code_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let script: Script = |_, path, body| match path {
        // The log has had one set of keys.
        path if path.starts_with("/tlog/default/keys/") => Some((404, "", String::new())),
        "/v1/pcs/submit" => Some((200, "", answer(body, true))),
        _ => Some((200, "", receipt())),
    };
    let key = |signer: Signer| Some(signer.verifier().vkey());
    let (report, _) = submit_with(folder.path(), script, golden(), key(signer()));
    let text = render(&report, Format::Text, false);
    assert_eq!(report.exit, Exit::Ok, "{text}");
    assert!(text.contains("proves entry 0 of 1, signed by the given key; saved "), "{text}");
    assert_eq!(report.data["receipt"]["same_bytes"], true);

    let stranger = Signer::new("localhost/pcs/default", &[8; 32]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (report, _) = submit_with(folder.path(), script, golden(), key(stranger));
    let text = render(&report, Format::Text, false);
    assert_eq!(report.exit, Exit::Tampered, "{text}");
    assert!(text.contains("not signed by the given key"), "{text}");
    assert!(!folder.path().join("receipts").exists(), "what does not hold is not kept");

    let absent: Script = |_, path, body| match path {
        "/v1/pcs/submit" => Some((200, "", answer(body, true))),
        _ => Some((404, "", String::new())),
    };
    let (report, _) = submit_with(folder.path(), absent, golden(), key(signer()));
    assert_eq!(report.exit, Exit::Failed, "asked to prove it, none is not enough");
}
