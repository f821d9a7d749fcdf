//! Requests that two parsers could read differently: one answer each, and the connection ends.

use crate::support::{Client, summary, with_node};

#[test]
fn ambiguous_requests_are_refused_and_the_connection_ends() {
    let dir = tempfile::tempdir().unwrap();
    with_node(dir.path(), &[], |address| {
        let post = "POST /v1/pcs/submit HTTP/1.1\r\n";
        let cases = [
            (
                "content length then chunked",
                format!("{post}Host: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG"),
            ),
            (
                "chunked then content length",
                format!(
                    "{post}Host: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\nGET /admin HTTP/1.1\r\n\r\n"
                ),
            ),
            (
                "two codings",
                format!("{post}Host: x\r\nTransfer-Encoding: identity, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
            ),
            (
                "unknown coding",
                format!("{post}Host: x\r\nTransfer-Encoding: xchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
            ),
            (
                "chunked not last",
                format!("{post}Host: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
            ),
            (
                "different lengths",
                format!("{post}Host: x\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde"),
            ),
            ("signed length", format!("{post}Host: x\r\nContent-Length: +3\r\n\r\nabc")),
            ("hexadecimal length", format!("{post}Host: x\r\nContent-Length: 0x3\r\n\r\nabc")),
            ("space before colon", format!("{post}Host: x\r\nContent-Length : 3\r\n\r\nabc")),
            ("folded header", "GET /health HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n".to_owned()),
            ("bare line feeds", "GET /health HTTP/1.1\nHost: x\n\n".to_owned()),
            ("no host", "GET /health HTTP/1.1\r\n\r\n".to_owned()),
            ("two hosts", "GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n".to_owned()),
            (
                "chunked in 1.0",
                "POST /v1/pcs/submit HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            ),
            (
                "chunk size too large",
                format!(
                    "{post}Host: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n"
                ),
            ),
        ];
        for (name, bytes) in cases {
            let mut client = Client::new(address);
            client.raw(bytes.as_bytes());
            let answer = client.answer().unwrap_or_else(|| panic!("{name}: closed without an answer"));
            assert_eq!(answer.status, 400, "{name}");
            assert!(client.closed(), "{name}: the connection stays open");
        }
        for (name, bytes) in [
            ("64 KiB header", format!("GET /health HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(65536))),
            ("200 headers", format!("GET /health HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: 1\r\n".repeat(200))),
        ] {
            let mut client = Client::new(address);
            client.raw(bytes.as_bytes());
            assert_eq!(client.answer().map(|a| a.status), Some(431), "{name}");
        }
    });
}

#[test]
fn plain_requests_of_every_shape_pass() {
    let dir = tempfile::tempdir().unwrap();
    with_node(dir.path(), &[], |address| {
        let mut client = Client::new(address);
        client.raw(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.answer().unwrap().body, b"OK");
        assert_eq!(client.answer().unwrap().body, b"ok\n");
        let body = summary(1);
        let same = format!(
            "POST /v1/pcs/submit HTTP/1.1\r\nHost: x\r\nContent-Length: {0}\r\nContent-Length: {0}\r\n\r\n{body}",
            body.len()
        );
        client.raw(same.as_bytes());
        assert_eq!(client.answer().unwrap().status, 200);
        let chunked = format!(
            "POST /v1/pcs/submit HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        );
        client.raw(chunked.as_bytes());
        let answer = client.answer().unwrap();
        assert_eq!((answer.status, answer.header("idempotent-replayed")), (200, Some("true")));
        assert!(client.closed(), "a chunked request is the last of its connection");
        let mut old = Client::new(address);
        old.raw(b"GET /health HTTP/1.0\r\n\r\n");
        assert_eq!(old.answer().unwrap().body, b"OK");
    });
}
