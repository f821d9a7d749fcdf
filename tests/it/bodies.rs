//! Bodies that clients in the field send, and bodies that two parsers could read differently.

use crate::node::{Node, Start};
use crate::pcs::{Draft, SECRET, submission};
use serde_json::Value;

fn node() -> (tempfile::TempDir, Node) {
    let directory = tempfile::tempdir().expect("a directory");
    // A body of the largest size fits a segment only if the segment is larger than it.
    let node = Start::on(directory.path()).with("FLK_SEGMENT_BYTES", "4194304").ready();
    (directory, node)
}

/// A fresh good body as text, changed.
fn changed(number: u64, from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(submission(number).body).expect("text");
    assert!(text.contains(from), "{from} is not in the body");
    text.replacen(from, to, 1).into_bytes()
}

#[test]
fn every_way_of_writing_the_body_has_its_status() {
    let (_directory, node) = node();
    let good = |number| submission(number).body;
    let appended = |number, tail: &[u8]| [good(number), tail.to_vec()].concat();
    let deep = format!("{{\"x\": {}{}, \"pcs_id\"", "[".repeat(200), "]".repeat(200));
    let cases: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("as the original agent writes it", good(1), &[200]),
        ("trailing white space", appended(2, b" \r\n\t"), &[200]),
        (
            "pretty printed",
            String::from_utf8(good(3)).expect("text").replace(", \"", ",\n  \"").into_bytes(),
            &[200],
        ),
        (
            "an unknown field",
            changed(4, "{\"pcs_id\"", "{\"extra\": {\"a\": [1, 2.5, null]}, \"pcs_id\""),
            &[200],
        ),
        ("keys in another case", changed(5, "\"epoch\"", "\"EPOCH\""), &[200]),
        ("the alias d_hat", changed(6, "\"D_hat\"", "\"d_hat\""), &[200]),
        ("the alias n_j", changed(7, "\"N_j\"", "\"n_j\""), &[200]),
        (
            "null for an optional field",
            changed(8, "\"sent_at\": \"2026-01-01T00:00:00Z\"", "\"sent_at\": null"),
            &[200],
        ),
        ("a key twice", changed(9, "\"epoch\": 9", "\"epoch\": 9, \"epoch\": 9"), &[400]),
        ("a key twice in two cases", changed(10, "\"epoch\": 10", "\"epoch\": 10, \"Epoch\": 10"), &[400]),
        ("a key and its alias", changed(11, "\"D_hat\": 1.0", "\"D_hat\": 1.0, \"d_hat\": 1.0"), &[400]),
        ("a scale twice in N_j", changed(12, "{\"2\": 3", "{\"2\": 3, \"2\": 3"), &[400]),
        ("a fraction for an integer", changed(13, "\"epoch\": 13", "\"epoch\": 13.0"), &[400]),
        ("an exponent for an integer", changed(14, "\"epoch\": 14", "\"epoch\": 14e0"), &[400]),
        (
            "an integer beyond 64 bits",
            changed(15, "\"epoch\": 15", "\"epoch\": 18446744073709551616"),
            &[400],
        ),
        ("a leading zero", changed(16, "\"epoch\": 16", "\"epoch\": 016"), &[400]),
        ("text for an integer", changed(17, "\"epoch\": 17", "\"epoch\": \"17\""), &[400]),
        ("text for a number", changed(18, "\"r\": 0.5", "\"r\": \"0.5\""), &[400]),
        ("NaN", changed(19, "\"r\": 0.5", "\"r\": NaN"), &[400]),
        ("NaN as text", changed(20, "\"r\": 0.5", "\"r\": \"NaN\""), &[400]),
        ("Infinity", changed(21, "\"r\": 0.5", "\"r\": Infinity"), &[400]),
        ("a number beyond every double", changed(22, "\"r\": 0.5", "\"r\": 1e400"), &[400]),
        (
            "a list for an object",
            changed(23, "{\"2\": 3, \"4\": 6, \"8\": 12, \"16\": 24}", "[3, 6]"),
            &[400],
        ),
        ("a lone surrogate", changed(24, "it-shard", "it-\\ud800"), &[400, 401]),
        ("a NUL in a text", changed(25, "it-shard", "it\\u0000shard"), &[400, 401]),
        ("a byte order mark", [b"\xef\xbb\xbf".to_vec(), good(26)].concat(), &[400]),
        ("something after the end", appended(27, b" x"), &[400]),
        ("a second document", appended(28, &good(29)), &[400]),
        (
            "bytes that are no UTF-8",
            changed(30, "it-shard", "it-shard\u{fffd}")
                .iter()
                .map(|b| if *b == 0xbd { 0xff } else { *b })
                .collect(),
            &[400, 401],
        ),
        ("deep nesting in an unknown field", changed(31, "{\"pcs_id\"", &deep), &[200, 400]),
        ("nothing", Vec::new(), &[400]),
        ("a list", b"[]".to_vec(), &[400]),
        ("a text", b"\"x\"".to_vec(), &[400]),
        ("an unfinished object", good(32)[..200].to_vec(), &[400]),
        ("an empty object", b"{}".to_vec(), &[401]),
        ("null", b"null".to_vec(), &[401]),
        ("no signature", changed(33, "\"sig\"", "\"signature\""), &[401]),
        ("a signature that is no base64", Draft::accepted(34).body("not base64!"), &[401]),
        ("an empty signature", Draft::accepted(35).body(""), &[401]),
        ("a short signature", Draft::accepted(36).body("AAAA"), &[401]),
        ("a signature by another key", Draft::accepted(37).signed_with("other").body, &[401]),
        ("HMAC over the digest, as the Python SDK does", Draft::accepted(38).signed_like_sdk().body, &[200]),
        ("two MiB", appended(39, &vec![b' '; 2 << 20]), &[413]),
        ("one byte above the limit", appended(40, &vec![b' '; (1 << 20) + 1 - good(40).len()]), &[413]),
        ("exactly the limit", appended(41, &vec![b' '; (1 << 20) - good(41).len()]), &[200]),
    ];
    let mut wrong = Vec::new();
    for (name, body, expected) in &cases {
        let answer = node.submit(body);
        let mut complaint = !expected.contains(&answer.status);
        if answer.status >= 400 {
            let problem = answer.header("content-type") == Some("application/problem+json");
            let error = serde_json::from_slice::<Value>(&answer.body)
                .ok()
                .and_then(|json| json["error"].as_str().map(str::len));
            complaint |= !problem || error.is_none_or(|length| length == 0);
        }
        if complaint {
            wrong.push(format!(
                "{name}: {} {:?} {}; expected {expected:?}",
                answer.status,
                answer.header("content-type"),
                answer.text()
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn each_signed_field_is_covered_by_the_signature_and_a_verdict_covers_the_rest() {
    let (_directory, node) = node();
    let signed = [
        ("\"epoch\": 1", "\"epoch\": 2"),
        ("\"shard_id\": \"it-shard\"", "\"shard_id\": \"it-sharf\""),
        ("\"D_hat\": 1.0", "\"D_hat\": 1.000000001"),
        ("\"coh_star\": 0.75", "\"coh_star\": 0.750000001"),
        ("\"r\": 0.5", "\"r\": 0.500000001"),
        ("\"budget\": 0.4", "\"budget\": 0.400000001"),
        ("\"merkle_root\": \"7", "\"merkle_root\": \"8"),
        ("\"pcs_id\": \"", "\"pcs_id\": \"0"),
    ];
    let mut first = submission(1).body;
    let text = String::from_utf8(first.clone()).expect("text");
    for (from, to) in signed {
        // The root is a hash: its first digit is whatever it is.
        let (from, to) = if from.starts_with("\"merkle") {
            let at = text.find("\"merkle_root\": \"").expect("there") + 16;
            let digit = &text[at..=at];
            (
                format!("\"merkle_root\": \"{digit}"),
                format!("\"merkle_root\": \"{}", if digit == "0" { "1" } else { "0" }),
            )
        } else {
            (from.to_owned(), to.to_owned())
        };
        first = changed(1, &from, &to);
        let answer = node.submit(&first);
        assert_eq!(answer.status, 401, "{to}: {}", answer.text());
    }
    let answer = node.submit(&changed(1, "\"regime\": \"sticky\"", "\"regime\": \"mixed\""));
    assert_eq!(answer.status, 202, "an unsigned field: {}", answer.text());
    assert_eq!(answer.json()["accepted"], true);
    assert_eq!(answer.json()["escalated"], true);
    assert_eq!(answer.json()["reason"], "regime mismatch: claimed=mixed, expected=sticky");
}

#[test]
fn a_duplicate_gets_the_first_answer_and_a_conflict_is_named() {
    let (_directory, node) = node();
    let first = node.submit(&submission(1).body);
    assert_eq!(first.status, 200);
    assert_eq!(first.header("idempotent-replayed"), None);
    let body = first.text();
    assert!(
        body.starts_with(
            "{\"accepted\":true,\"recomputed_D_hat\":1,\"recomputed_budget\":0.4,\"escalated\":false"
        ),
        "{body}"
    );
    assert!(body.ends_with("}\n"), "one line, as the original answers");
    for member in ["pcs_id", "D_hat", "regime", "budget", "seq", "lsn", "policy_version", "receipt"] {
        assert!(first.json().get(member).is_some(), "{member} is missing in {body}");
    }
    let retry = node.submit(&changed(1, "\"attempt\": 1", "\"attempt\": 2"));
    assert_eq!(
        (retry.status, retry.text()),
        (200, first.text()),
        "what is not in the fingerprint makes no conflict"
    );
    assert_eq!(retry.header("idempotent-replayed"), Some("true"));
    // The same id with another seed: unsigned, but part of the content.
    let other = changed(1, "\"seed\": 42", "\"seed\": 43");
    let conflict = node.submit(&other);
    assert_eq!((conflict.status, conflict.text()), (200, first.text()), "the first write wins");
    assert_eq!(conflict.header("idempotent-replayed"), Some("conflict"));
    let strict = node
        .connect()
        .send("POST", "/v1/pcs/submit", &[("Prefer", "handling=strict")], &other)
        .expect("an answer");
    assert_eq!(strict.status, 422, "{}", strict.text());
    assert_eq!(strict.header("content-type"), Some("application/problem+json"));
    let again = node.submit(&submission(1).body);
    assert_eq!(again.text(), first.text(), "a conflict changes nothing");
}

#[test]
fn verdicts_carry_the_original_words() {
    let (_directory, node) = node();
    let draft = |number| Draft::accepted(number);
    let far = Draft { d_hat: "1.41", ..draft(1) };
    let incoherent = Draft { coh_star: "1.2", ..draft(2) };
    let poor = Draft { budget: "0.9", ..draft(3) };
    let cases = [
        (far, false, "D_hat out of tolerance: claimed=1.4100, recomputed=1.0000, diff=0.4100 > tol=0.1500"),
        (incoherent, false, "coh_star out of bounds: 1.2000 not in [0, 1.0500]"),
        (poor, true, "budget deviation: claimed=0.9000, recomputed=0.4000"),
    ];
    for (draft, accepted, reason) in cases {
        let answer = node.submit(&draft.signed().body);
        assert_eq!(answer.status, 202, "{}", answer.text());
        assert_eq!(answer.json()["accepted"], accepted);
        assert_eq!(answer.json()["escalated"], true);
        assert_eq!(answer.json()["reason"], reason);
    }
    let mut schema = String::from_utf8(submission(4).body).expect("text");
    schema = schema.replace("fractal-lba-kakeya", "other");
    let answer = node.submit(schema.as_bytes());
    assert_eq!(answer.status, 202);
    assert_eq!(
        answer.json()["reason"],
        "validation failed: invalid schema: expected fractal-lba-kakeya, got other"
    );
    let good = node.submit(&submission(4).body);
    assert_eq!(good.status, 200, "a body that failed its structure does not burn the id: {}", good.text());
    assert_eq!(good.header("idempotent-replayed"), None);
}

#[test]
fn tenants_do_not_meet() {
    let directory = tempfile::tempdir().expect("a directory");
    let tenants = format!("acme:hmac:{SECRET},globex:hmac:othersecret");
    let start = Start::on(directory.path())
        .with("FLK_MULTI_TENANT", "true")
        .with("FLK_TENANTS", &tenants)
        .with("FLK_HMAC_KEY", "");
    let node = start.ready();
    let ask = |tenant: &str, body: &[u8]| {
        node.connect().send("POST", "/v1/pcs/submit", &[("X-Tenant-Id", tenant)], body).expect("an answer")
    };
    let look = |tenant: &str, path: &str| {
        node.connect().send("GET", path, &[("X-Tenant-Id", tenant)], b"").expect("an answer").status
    };
    let ours = submission(1);
    assert_eq!(ask("nobody", &ours.body).status, 400, "an unknown tenant");
    assert_eq!(node.submit(&ours.body).status, 400, "a missing tenant is `default`, which is not registered");
    assert_eq!(ask("globex", &ours.body).status, 401, "another tenant's key");
    assert_eq!(ask("acme", &ours.body).status, 200);
    let theirs = Draft { r: "0.4", budget: "0.43", ..Draft::accepted(1) }.signed_with("othersecret");
    assert_eq!(theirs.id, ours.id, "the same id with other content");
    let answer = ask("globex", &theirs.body);
    assert_eq!((answer.status, answer.header("idempotent-replayed")), (200, None), "{}", answer.text());
    for kind in ["pcs", "lineage", "receipts"] {
        let only = submission(2);
        ask("acme", &only.body);
        assert_eq!(look("globex", &format!("/v1/{kind}/{}", only.id)), 404, "{kind} of another tenant");
    }
}

#[test]
fn a_batch_answers_line_by_line() {
    let (_directory, node) = node();
    let mut lines: Vec<Vec<u8>> = (0..5).map(|number| submission(number).body).collect();
    lines[1] = b"{\"pcs_id\": 1}".to_vec();
    lines[3] = Draft::accepted(3).signed_with("other").body;
    lines.push(lines[0].clone());
    let body = lines.join(&b"\n"[..]);
    let answer = node
        .connect()
        .send("POST", "/v1/pcs/batch", &[("Content-Type", "application/x-ndjson")], &body)
        .expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let verdicts: Vec<Value> =
        answer.text().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let statuses: Vec<u64> =
        verdicts.iter().map(|verdict| verdict["status"].as_u64().expect("a status")).collect();
    assert_eq!(statuses, [200, 400, 200, 401, 200, 200], "{}", answer.text());
    let again = node.submit(&lines[0]);
    assert_eq!(
        again.header("idempotent-replayed"),
        Some("true"),
        "a batch is durable like single submissions"
    );
}

#[test]
fn a_rate_is_kept_with_retry_after() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Start::on(directory.path()).with("FLK_RATE", "1").with("FLK_BURST", "5").ready();
    let answers: Vec<_> = (0..20).map(|number| node.submit(&submission(number).body)).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(
        refused.len() >= 10,
        "statuses {:?}",
        answers.iter().map(|answer| answer.status).collect::<Vec<_>>()
    );
    for answer in refused {
        let wait: u64 = answer.header("retry-after").and_then(|text| text.parse().ok()).expect("seconds");
        assert!(wait >= 1);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    assert!(answers.iter().take(5).all(|answer| answer.status == 200), "the burst is admitted");
}

#[test]
fn paths_and_methods_answer_as_documented() {
    let (_directory, node) = node();
    let id = submission(1).id;
    let cases: [(&str, &str, u16); 16] = [
        ("POST", "/health", 200),
        ("PATCH", "/metrics", 200),
        ("TRACE", "/health", 405),
        ("POST", "/livez", 405),
        ("GET", "/health", 200),
        ("HEAD", "/health", 200),
        ("GET", "/livez", 200),
        ("GET", "/readyz", 200),
        ("GET", "/health/", 404),
        ("GET", "/v1/pcs/submit/", 404),
        ("GET", "/v1/pcs/submit", 405),
        ("DELETE", "/v1/pcs/batch", 405),
        ("GET", "/nowhere", 404),
        ("GET", "/v1/pcs/xyz", 400),
        ("GET", &format!("/v1/pcs/{id}"), 404),
        ("GET", "/tlog/nowhere/checkpoint", 404),
    ];
    for (method, path, expected) in cases {
        let answer = node.connect().send(method, path, &[], b"").expect("an answer");
        assert_eq!(answer.status, expected, "{method} {path}: {}", answer.text());
        if expected == 405 {
            let allow =
                answer.header("allow").unwrap_or_else(|| panic!("{method} {path}: no Allow")).to_owned();
            assert!(!allow.split(", ").any(|allowed| allowed == method), "{method} {path}: {allow}");
            for allowed in allow.split(", ") {
                let answer = node.connect().send(allowed, path, &[], b"").expect("an answer");
                assert_ne!(answer.status, 405, "{path} names {allowed} in Allow");
            }
        }
    }
    assert_eq!(node.get("/health").body, b"OK");
}
