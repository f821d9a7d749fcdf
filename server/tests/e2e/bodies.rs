//! Bodies that are too large, too slow, or never end.

use crate::support::{Client, pause, summary, with_node};

#[test]
fn large_bodies_are_refused_and_never_truncated() {
    let dir = tempfile::tempdir().unwrap();
    with_node(dir.path(), &[("data.segment_bytes", "4194304")], |address| {
        let mut client = Client::new(address);
        let padded = |length: usize| {
            let mut body = summary(1);
            body.extend(std::iter::repeat_n(' ', length - body.len()));
            body
        };
        let limit = 1 << 20;
        assert_eq!(client.submit(&padded(limit)).status, 200);
        for length in [limit + 1, 2 * limit] {
            let answer = client.submit(&padded(length));
            assert_eq!(
                (answer.status, &answer.json()["error"]),
                (413, &"Request body too large".into()),
                "{length}"
            );
        }
        assert_eq!(
            client.submit(&summary(1)).header("idempotent-replayed"),
            Some("true"),
            "the connection goes on"
        );
        client.raw(b"POST /v1/pcs/submit HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.answer().unwrap().status, 413, "nobody is asked to send what is refused");
        assert!(client.closed());
        let mut client = Client::new(address);
        client.raw(b"POST /v1/pcs/submit HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..40 {
            client.raw(format!("{:x}\r\n{}\r\n", 65536, "a".repeat(65536)).as_bytes());
        }
        client.raw(b"0\r\n\r\n");
        assert_eq!(client.answer().unwrap().status, 413);
    });
}

#[test]
fn slow_heads_and_slow_bodies_end() {
    let dir = tempfile::tempdir().unwrap();
    let more =
        [("http.header_timeout_ms", "200"), ("http.body_timeout_ms", "200"), ("http.idle_timeout_ms", "400")];
    with_node(dir.path(), &more, |address| {
        let mut head = Client::new(address);
        head.raw(b"GET /health HTTP/1.1\r\n");
        let mut body = Client::new(address);
        body.raw(b"POST /v1/pcs/submit HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
        for _ in 0..40 {
            pause(20);
            head.raw(b"X: a\r\n");
            body.raw(b"b");
        }
        assert!(head.closed(), "a dripped head ends");
        let answer = body.answer().expect("a dripped body is answered");
        assert_eq!(answer.status, 408);
        assert!(body.closed());
        let mut idle = Client::new(address);
        assert_eq!(idle.get("/health").status, 200);
        assert!(idle.closed(), "an idle connection ends");
    });
}

#[test]
fn connections_of_one_address_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    with_node(dir.path(), &[("http.max_connections_per_ip", "2")], |address| {
        let mut one = Client::new(address);
        let mut two = Client::new(address);
        assert_eq!((one.get("/health").status, two.get("/health").status), (200, 200));
        let mut three = Client::new(address);
        assert_eq!(three.answer().map(|a| a.status), Some(503));
        drop(one);
        pause(100);
        assert_eq!(Client::new(address).get("/health").status, 200);
    });
}
