//! Submissions and what is answered to them.

use crate::support::{Client, SECRET, signed, summary, with_node};
use engine::checkpoint::{Receipt, Signed, Verifier};
use engine::tree::tiles::bundle_entries;

#[test]
fn first_duplicate_and_conflict_get_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    with_node(dir.path(), &[], |address| {
        let mut client = Client::new(address);
        let first = client.submit(&summary(1));
        assert_eq!(first.status, 200, "{}", first.text());
        assert_eq!(first.header("idempotent-replayed"), None);
        let json = first.json();
        assert_eq!((json["accepted"].as_bool(), json["escalated"].as_bool()), (Some(true), Some(false)));
        let again = client.submit(&summary(1));
        assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")));
        assert_eq!(again.body, first.body);
        let other = summary(1).replace("\"seed\":1", "\"seed\":2");
        let conflict = client.submit(&other);
        assert_eq!((conflict.status, conflict.header("idempotent-replayed")), (200, Some("conflict")));
        assert_eq!(conflict.body, first.body);
        let strict =
            client.send("POST", "/v1/pcs/submit", &[("Prefer", "handling=strict")], other.as_bytes());
        assert_eq!((strict.status, &strict.json()["fields"]), (422, &serde_json::json!(["seed"])));
        let attempt = summary(1).replace("\"attempt\":1", "\"attempt\":9");
        assert_eq!(
            client.submit(&attempt).header("idempotent-replayed"),
            Some("true"),
            "attempt is no content"
        );
    });
}

#[test]
fn verdicts_and_refusals_have_their_statuses() {
    let dir = tempfile::tempdir().unwrap();
    with_node(dir.path(), &[], |address| {
        let mut client = Client::new(address);
        let off = client.submit(&signed(2, "1.5", SECRET));
        assert_eq!(off.status, 202);
        assert_eq!(off.json()["accepted"], false);
        assert!(off.text().contains("\\u003e tol=0.1500"), "{}", off.text());
        for (body, status, error) in [
            ("", 400, "Invalid JSON"),
            ("[]", 400, "Invalid JSON"),
            ("{\"epoch\":1.0}", 400, "Invalid JSON"),
            ("{\"epoch\":1,\"EPOCH\":1}", 400, "Invalid JSON"),
            ("{}", 401, "Signature verification failed"),
            (&signed(3, "1.0", "wrong"), 401, "Signature verification failed"),
        ] {
            let answer = client.submit(body);
            assert_eq!(answer.status, status, "{body}: {}", answer.text());
            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
            assert_eq!(answer.json()["error"], error);
            let page = answer.json()["type"].as_str().unwrap().to_owned();
            assert_eq!(client.get(&page).status, 200, "{page} has a page");
        }
    });
}

#[test]
fn tenants_are_apart_and_have_limits() {
    let dir = tempfile::tempdir().unwrap();
    let more = [
        ("tenants.multi", "true"),
        ("tenants.list", "a:hmac:testsecret,b:hmac:testsecret"),
        ("quota.rate_per_s", "1"),
        ("quota.burst", "3"),
    ];
    with_node(dir.path(), &more, |address| {
        let mut client = Client::new(address);
        let body = summary(5);
        let mut send =
            |tenant: &str| client.send("POST", "/v1/pcs/submit", &[("X-Tenant-Id", tenant)], body.as_bytes());
        assert_eq!(send("nobody").json()["error"], "Tenant error");
        let a = send("a");
        assert_eq!(a.status, 200);
        assert!(a.header("ratelimit").is_some_and(|h| h.starts_with("\"tenant\";r=2")), "{}", a.head);
        let b = send("b");
        assert_eq!(
            (b.status, b.header("idempotent-replayed")),
            (200, None),
            "another tenant's id is not mine"
        );
        assert_ne!(a.body, b.body);
        assert_eq!(send("a").header("idempotent-replayed"), Some("true"));
        send("a");
        let limited = send("a");
        assert_eq!((limited.status, limited.header("retry-after")), (429, Some("1")));
        assert_eq!(limited.json()["error"], "Tenant quota exceeded");
        assert_eq!(limited.json()["violated-policies"][0], "tenant");
        let id = a.json()["pcs_id"].as_str().unwrap().to_owned();
        assert_eq!(client.send("GET", &format!("/v1/pcs/{id}"), &[("X-Tenant-Id", "a")], b"").body, a.body);
        assert_eq!(
            client.send("GET", &format!("/v1/pcs/{id}"), &[], b"").status,
            400,
            "no tenant 'default' here"
        );
    });
}

#[test]
fn a_batch_answers_line_by_line() {
    let dir = tempfile::tempdir().unwrap();
    with_node(dir.path(), &[("http.batch_max_records", "5")], |address| {
        let mut client = Client::new(address);
        let single = client.submit(&summary(1));
        let lines =
            [summary(1), summary(2), "nonsense".into(), signed(3, "1.0", "wrong"), summary(2)].join("\n");
        let answer = client.send("POST", "/v1/pcs/batch", &[], lines.as_bytes());
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/x-ndjson")));
        let text = answer.text();
        let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let statuses: Vec<_> = lines.iter().map(|l| l["status"].as_u64().unwrap()).collect();
        assert_eq!(statuses, [200, 200, 400, 401, 200]);
        assert_eq!(
            (&lines[0]["replayed"], &lines[0]["answer"]),
            (&serde_json::json!("true"), &single.json())
        );
        assert_eq!(lines[4]["answer"], lines[1]["answer"]);
        assert_eq!(lines[2]["problem"]["error"], "Invalid JSON");
        let six = ["{}"; 6].join("\n");
        assert_eq!(client.send("POST", "/v1/pcs/batch", &[], six.as_bytes()).status, 400);
        assert_eq!(client.send("POST", "/v1/pcs/batch", &[], b"\n\n").status, 400);
    });
}

#[test]
fn a_receipt_proves_what_the_log_holds() {
    let dir = tempfile::tempdir().unwrap();
    with_node(dir.path(), &[("audit.token", "sesame")], |address| {
        let mut client = Client::new(address);
        let answers: Vec<_> = (0..300).map(|n| client.submit(&summary(n)).json()).collect();
        let vkey = client.get("/tlog/default/vkey").text();
        let verifier = Verifier::parse(vkey.lines().next().unwrap()).unwrap();
        for answer in [&answers[0], &answers[255], &answers[299]] {
            let receipt = client.get_soon(answer["receipt"].as_str().unwrap());
            let receipt = Receipt::parse(&receipt.body).unwrap();
            assert_eq!(Some(receipt.index), answer["seq"].as_u64());
            let extra: serde_json::Value = serde_json::from_slice(receipt.extra.as_ref().unwrap()).unwrap();
            let leaf = extra["leaf"].as_str().unwrap();
            receipt.verify(leaf.as_bytes(), &verifier).unwrap();
            assert!(receipt.verify(leaf.replace("accepted", "rejected").as_bytes(), &verifier).is_err());
            let lineage = client.get(&format!("/v1/lineage/{}", answer["pcs_id"].as_str().unwrap())).json();
            assert_eq!((&lineage["answer"], lineage["leaf"].to_string()), (answer, leaf.to_owned()));
        }
        let note = client.get("/tlog/default/checkpoint");
        Signed::parse(&note.body).unwrap().verify(&verifier).unwrap();
        assert_eq!(client.get("/tlog/default/tile/0/000").body.len(), 256 * 32);
        assert_eq!(client.get("/tlog/default/tile/entries/000").status, 401);
        let bearer = [("Authorization", "Bearer sesame")];
        let bundle = client.send("GET", "/tlog/default/tile/entries/000", &bearer, b"");
        assert_eq!(bundle_entries(&bundle.body).unwrap().len(), 256);
        for missing in [
            "/tlog/elsewhere/checkpoint",
            "/tlog/default/tile/0/001",
            "/tlog/default/tile/8/000",
            "/v1/receipts/zz",
        ] {
            assert!(matches!(client.get(missing).status, 400 | 404), "{missing}");
        }
    });
}

#[test]
fn operators_and_browsers_find_their_pages() {
    let dir = tempfile::tempdir().unwrap();
    let more = [("metrics.user", "ops"), ("metrics.pass", "secret")];
    with_node(dir.path(), &more, |address| {
        let mut client = Client::new(address);
        assert_eq!(client.get("/health").body, b"OK");
        assert_eq!(client.send("POST", "/health", &[], b"").body, b"OK");
        assert_eq!(client.get("/livez").status, 200);
        assert!(client.get("/readyz?verbose").text().contains("[+] log"));
        assert_eq!(client.get("/metrics").header("www-authenticate"), Some("Basic realm=\"Metrics\""));
        let basic = [("Authorization", "Basic b3BzOnNlY3JldA==")];
        client.submit(&summary(1));
        let page = client.send("GET", "/metrics", &basic, b"").text();
        assert!(page.contains("\nflk_ingest_total 1\n") && page.contains("\nflk_accepted 1\n"), "{page}");
        assert_eq!(client.get("/openapi.json").json()["openapi"], "3.1.0");
        let refused = client.get("/v1/pcs/submit");
        assert_eq!((refused.status, refused.header("allow")), (405, Some("POST, OPTIONS")));
        let preflight = [("Origin", "https://example.org"), ("Access-Control-Request-Method", "POST")];
        let allowed = client.send("OPTIONS", "/v1/pcs/submit", &preflight, b"");
        assert_eq!((allowed.status, allowed.header("access-control-allow-origin")), (204, Some("*")));
        assert!(allowed.header("access-control-allow-headers").is_some_and(|h| h.contains("X-Tenant-Id")));
        let answer = client.send("GET", "/health", &[("Origin", "https://example.org")], b"");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    });
}

#[test]
fn any_number_of_threads_serves_many_that_come_at_once() {
    for threads in ["1", "2", "5"] {
        let dir = tempfile::tempdir().expect("a directory");
        with_node(dir.path(), &[("http.workers", threads)], |address| {
            // All of them are open before the first says anything.
            let mut clients: Vec<Client> = (0..300).map(|_| Client::new(address)).collect();
            let firsts: Vec<_> =
                clients.iter_mut().zip(0..).map(|(client, n)| client.submit(&summary(n)).body).collect();
            // Each asks what another one got: whoever serves it, there is one log.
            for (at, client) in clients.iter_mut().enumerate() {
                let other = (at + 1) % firsts.len();
                let again = client.submit(&summary(other as u64));
                assert_eq!((again.status, &again.body), (200, &firsts[other]));
            }
        });
    }
}
