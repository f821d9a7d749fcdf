//! Requests that two parsers could read differently, sent as raw bytes: each has one answer, and none of them
//! opens a door to a second request hidden inside the first.

use crate::node::{Node, Start};
use std::time::{Duration, Instant};

/// What must come back.
enum Expect {
    /// This status line and no second answer.
    Status(u16),
    /// One of these.
    OneOf(&'static [u16]),
    /// This status, and the connection is closed after it.
    Closed(u16),
}

use Expect::{Closed, OneOf, Status};

fn cases() -> Vec<(&'static str, Vec<u8>, Expect)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let post = "POST /v1/pcs/submit HTTP/1.1\r\nHost: x\r\n";
    let chunked = "3\r\nabc\r\n0\r\n\r\n";
    let many: String = (0..200).map(|number| format!("X{number}: 1\r\n")).collect();
    vec![
        ("an ordinary request", text("GET /health HTTP/1.1\r\nHost: x\r\n\r\n"), Status(200)),
        (
            "Content-Length beside Transfer-Encoding",
            text(&format!("{post}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG")),
            Closed(400),
        ),
        (
            "a request hidden behind a short Content-Length",
            text(&format!(
                "{post}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n5c\r\nGET /metrics HTTP/1.1\r\n\r\n"
            )),
            Closed(400),
        ),
        (
            "two lengths that differ",
            text(&format!("{post}Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde")),
            Closed(400),
        ),
        // RFC 9110 lets a server take two equal lengths or refuse them; the body is then no JSON either way.
        (
            "two equal lengths",
            text(&format!("{post}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc")),
            Status(400),
        ),
        ("a signed length", text(&format!("{post}Content-Length: +3\r\n\r\nabc")), Closed(400)),
        ("a hexadecimal length", text(&format!("{post}Content-Length: 0x3\r\n\r\nabc")), Closed(400)),
        (
            "identity before chunked",
            text(&format!("{post}Transfer-Encoding: identity, chunked\r\n\r\n{chunked}")),
            Closed(400),
        ),
        (
            "an unknown coding",
            text(&format!("{post}Transfer-Encoding: xchunked\r\n\r\n{chunked}")),
            Closed(400),
        ),
        (
            "identity after chunked",
            text(&format!("{post}Transfer-Encoding: chunked, identity\r\n\r\n{chunked}")),
            Closed(400),
        ),
        (
            "two codings in two headers",
            text(&format!("{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}")),
            Closed(400),
        ),
        ("a space before the colon", text(&format!("{post}Content-Length : 3\r\n\r\nabc")), Closed(400)),
        ("a folded header", text("GET /health HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n"), Closed(400)),
        ("lines without carriage returns", text("GET /health HTTP/1.1\nHost: x\n\n"), Closed(400)),
        ("no Host", text("GET /health HTTP/1.1\r\n\r\n"), Closed(400)),
        ("two Hosts", text("GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"), Closed(400)),
        (
            "a chunk size beyond 64 bits",
            text(&format!("{post}Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n")),
            Closed(400),
        ),
        (
            "Transfer-Encoding in HTTP/1.0",
            text(&format!("POST /v1/pcs/submit HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}")),
            Closed(400),
        ),
        (
            "a header of 64 KiB",
            text(&format!("GET /health HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(65536))),
            OneOf(&[400, 431]),
        ),
        (
            "two hundred headers",
            text(&format!("GET /health HTTP/1.1\r\nHost: x\r\n{many}\r\n")),
            OneOf(&[400, 431]),
        ),
        ("a NUL in a header", b"GET /health HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n".to_vec(), Closed(400)),
        ("a body that is not there", text(&format!("{post}Content-Length: 0\r\n\r\n")), Status(400)),
        (
            "a chunked body that is no summary",
            text(&format!("{post}Transfer-Encoding: chunked\r\n\r\n{chunked}")),
            Status(400),
        ),
    ]
}

/// Sends bytes and reads until the server closes or says nothing for a while.
fn exchange(node: &Node, bytes: &[u8]) -> (Vec<u16>, bool) {
    let mut connection = node.connect();
    let silence = Duration::from_millis(700);
    connection.patience(silence).expect("a time limit");
    // A server may refuse before it has read everything; the answer is what counts.
    let _ = connection.raw(bytes);
    let began = Instant::now();
    let said = connection.rest();
    let closed = began.elapsed() < silence;
    let said = String::from_utf8_lossy(&said).into_owned();
    let code = |(at, _): (usize, &str)| said[at + 9..].get(..3).and_then(|code| code.parse().ok());
    (said.match_indices("HTTP/1.").filter_map(code).collect(), closed)
}

#[test]
fn every_ambiguous_request_has_one_answer() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Start::on(directory.path()).ready();
    let mut wrong = Vec::new();
    for (name, bytes, expected) in cases() {
        let (answers, closed) = exchange(&node, &bytes);
        let right = match &expected {
            Status(code) => answers == [*code],
            OneOf(codes) => answers.len() == 1 && codes.contains(&answers[0]),
            Closed(code) => answers == [*code] && closed,
        };
        if !right {
            let want = match expected {
                Status(code) => format!("{code}"),
                OneOf(codes) => format!("one of {codes:?}"),
                Closed(code) => format!("{code} and a closed connection"),
            };
            wrong.push(format!("{name}: {answers:?}, closed {closed}; expected {want}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases().len(), wrong.join("\n"));
    assert_eq!(node.get("/health").text(), "OK", "the server is well after all of them");
}

#[test]
fn a_dripping_client_is_cut_off() {
    let directory = tempfile::tempdir().expect("a directory");
    let start = Start::on(directory.path())
        .with("FLK_HTTP_HEADER_TIMEOUT_MS", "1000")
        .with("FLK_HTTP_BODY_TIMEOUT_MS", "1000");
    let node = start.ready();
    let heads: [(&str, &[u8], &[u8]); 2] = [
        ("a dripping head", b"GET /health HTTP/1.1\r\n", b"X: a\r\n"),
        (
            "a dripping body",
            b"POST /v1/pcs/submit HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
            b"b",
        ),
    ];
    for (name, head, drop) in heads {
        let mut connection = node.connect();
        connection.patience(Duration::from_millis(100)).expect("a time limit");
        connection.raw(head).expect("sent");
        let began = Instant::now();
        let cut = loop {
            assert!(began.elapsed() < Duration::from_secs(10), "{name}: still open after 10 s");
            if connection.raw(drop).is_err() {
                break String::new();
            }
            let said = connection.rest();
            if !said.is_empty() {
                break String::from_utf8_lossy(&said).into_owned();
            }
        };
        assert!(cut.is_empty() || cut.starts_with("HTTP/1.1 408"), "{name}: {cut}");
    }
    assert_eq!(node.get("/health").status, 200);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Start::on(directory.path()).ready();
    let (answers, _) = exchange(
        &node,
        b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    assert_eq!(answers, [200, 404, 200]);
}
