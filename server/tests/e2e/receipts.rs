//! Receipts within answers: asked for, they prove the submission under a checkpoint over its own record.

use crate::support::{Answer, Client, SECRET, signed, summary, with_node};
use engine::checkpoint::{Receipt, Verifier};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;

const ASKED: [(&str, &str); 1] = [("Prefer", "receipt")];

fn verifier(client: &mut Client) -> Verifier {
    Verifier::parse(client.get("/tlog/default/vkey").text().lines().next().unwrap()).unwrap()
}

/// Checks the receipt of an answer; gives the size and the root that were signed.
fn proved(answer: &Value, verifier: &Verifier) -> (u64, String) {
    let receipt =
        Receipt::parse(answer["tlog_proof"].as_str().unwrap_or_else(|| panic!("{answer}")).as_bytes());
    let receipt = receipt.unwrap();
    assert_eq!(Some(receipt.index), answer["seq"].as_u64(), "it proves what the answer speaks of");
    let extra: Value = serde_json::from_slice(receipt.extra.as_ref().unwrap()).unwrap();
    let leaf = extra["leaf"].as_str().unwrap();
    if let Some(id) = answer["pcs_id"].as_str() {
        assert_eq!(serde_json::from_str::<Value>(leaf).unwrap()["pcs_id"], id);
    }
    assert!(receipt.verify(leaf.replace("\"lsn\":", "\"lsn\":1").as_bytes(), verifier).is_err());
    let checkpoint = receipt.verify(leaf.as_bytes(), verifier).unwrap().checkpoint;
    (checkpoint.size, checkpoint.root.to_string())
}

fn ask(client: &mut Client, body: &str) -> Answer {
    client.send("POST", "/v1/pcs/submit", &ASKED, body.as_bytes())
}

/// The answer without its last member.
fn without_proof(answer: &Answer) -> String {
    let text = answer.text();
    let at = text.find(",\"tlog_proof\":").expect("a proof");
    format!("{}}}\n", &text[..at])
}

#[test]
fn who_asks_gets_the_proof_with_the_answer_and_nobody_else_does() {
    let dir = tempfile::tempdir().unwrap();
    with_node(dir.path(), &[], |address| {
        let mut client = Client::new(address);
        let verifier = verifier(&mut client);
        let plain = client.submit(&summary(1));
        assert_eq!((plain.header("preference-applied"), plain.json().get("tlog_proof")), (None, None));
        let first = ask(&mut client, &summary(2));
        assert_eq!((first.status, first.header("preference-applied")), (200, Some("receipt")));
        assert!(proved(&first.json(), &verifier).0 > first.json()["seq"].as_u64().unwrap());
        // A duplicate and a conflict carry the receipt of the first one, like its answer.
        let twice = ask(&mut client, &summary(2));
        assert_eq!((twice.status, twice.header("idempotent-replayed")), (200, Some("true")));
        assert_eq!(without_proof(&twice), without_proof(&first));
        proved(&twice.json(), &verifier);
        let other = summary(2).replace("\"seed\":1", "\"seed\":2");
        let conflict = client.send("POST", "/v1/pcs/submit?receipt=1", &[], other.as_bytes());
        assert_eq!(conflict.header("idempotent-replayed"), Some("conflict"));
        proved(&conflict.json(), &verifier);
        let again = client.submit(&summary(2));
        assert_eq!(again.text(), without_proof(&first), "asked without, the answer is the same bytes");
        // What was first answered without has one, too.
        proved(&ask(&mut client, &summary(1)).json(), &verifier);
        // A rejection is a record like any other; what is refused is no answer.
        let rejected = ask(&mut client, &signed(3, "1.5", SECRET));
        assert_eq!(rejected.status, 202);
        proved(&rejected.json(), &verifier);
        let refused = ask(&mut client, &signed(4, "1.0", "wrong"));
        assert_eq!((refused.status, refused.header("preference-applied")), (401, None));
        let page = client.get("/metrics").text();
        assert!(
            page.contains("\nflk_receipts_total 5\n") && page.contains("\nflk_receipts_missing_total 0\n")
        );
    });
}

#[test]
fn every_line_of_a_batch_carries_its_own() {
    let dir = tempfile::tempdir().unwrap();
    with_node(dir.path(), &[], |address| {
        let mut client = Client::new(address);
        let verifier = verifier(&mut client);
        let lines = [summary(1), summary(2), "nonsense".into(), summary(1), summary(3)].join("\n");
        let answer = client.send("POST", "/v1/pcs/batch", &ASKED, lines.as_bytes());
        assert_eq!(answer.header("preference-applied"), Some("receipt"));
        let lines: Vec<Value> =
            answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let sizes: Vec<u64> = [0, 1, 3, 4].map(|n| proved(&lines[n]["answer"], &verifier).0).into();
        assert_eq!(lines[3]["replayed"], "true");
        assert!(lines[2].get("answer").is_none() && sizes.iter().all(|size| *size >= 3), "{sizes:?}");
        let plain = client.send("POST", "/v1/pcs/batch", &[], summary(9).as_bytes());
        assert!(!plain.text().contains("tlog_proof"));
    });
}

/// Many at once: a size is only ever signed with one root, and later checkpoints are over larger trees of the same log.
#[test]
fn one_size_has_one_root() {
    let dir = tempfile::tempdir().unwrap();
    with_node(dir.path(), &[], |address: SocketAddr| {
        let verifier = verifier(&mut Client::new(address));
        let mut roots = BTreeMap::new();
        let threads: Vec<_> = (0..8_u64)
            .map(|thread| {
                let verifier = verifier.clone();
                std::thread::spawn(move || {
                    let mut client = Client::new(address);
                    // Half of the names are sent by two threads.
                    let numbers = (0..40).map(|n| if n % 2 == 0 { n } else { 1000 * thread + n });
                    let answers = numbers.map(|n| ask(&mut client, &summary(n)).json());
                    answers.map(|answer| proved(&answer, &verifier)).collect::<Vec<_>>()
                })
            })
            .collect();
        let signed: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(signed.len(), 320);
        for (size, root) in signed {
            assert_eq!(roots.entry(size).or_insert_with(|| root.clone()), &root, "{size}");
        }
        assert!(roots.len() > 10, "{} signatures for 320 answers", roots.len());
    });
}

#[test]
fn the_form_of_a_receipt_is_the_clients_choice() {
    let dir = tempfile::tempdir().unwrap();
    with_node(dir.path(), &[], |address| {
        let mut client = Client::new(address);
        let path = client.submit(&summary(1)).json()["receipt"].as_str().unwrap().to_owned();
        let text = client.get_soon(&path);
        assert_eq!(
            (text.header("content-type"), text.header("vary")),
            (Some("text/plain; charset=utf-8"), Some("Accept"))
        );
        let mut with = |accept| client.send("GET", &path, &[("Accept", accept)], b"");
        assert_eq!(with("*/*").body, text.body);
        let cose = with("application/cose");
        assert_eq!((cose.status, cose.header("content-type")), (200, Some("application/cose")));
        assert!(cose.body.starts_with(&[0xd2, 0x84]) && cose.header("content-disposition").is_some());
        let neither = with("application/json");
        assert_eq!((neither.status, neither.json()["error"].as_str()), (406, Some("Not Acceptable")));
    });
}
