//! HTTP/1.1 with keep-alive: requests written out beforehand, answers read just far enough to count them.

use super::{Parsed, Protocol};
use memchr::memmem::{find, find_iter};

/// Whole requests, laid end to end.
#[derive(Default)]
pub struct Pool {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    next: usize,
    /// Records that a good answer to one request acknowledges.
    units: u32,
    /// Bytes of all bodies.
    body_bytes: u64,
    /// What an answer has to contain; nothing means that its status is enough.
    expect: &'static [u8],
    /// The answer may be one line per record, each of which has to contain `expect`.
    lines: bool,
}

impl Pool {
    /// An empty pool of requests that acknowledge one record each and whose answers contain `expect`.
    pub fn new(expect: &'static str) -> Pool {
        Pool { units: 1, expect: expect.as_bytes(), ..Pool::default() }
    }

    /// An empty pool of requests of `units` records each; every line of an answer has to contain `expect`.
    pub fn batches(units: u32, expect: &'static str) -> Pool {
        Pool { units, expect: expect.as_bytes(), lines: true, ..Pool::default() }
    }

    /// Adds `POST path` with `body`.
    pub fn post(&mut self, path: &str, headers: &str, body: &[u8]) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        self.bytes.extend_from_slice(head.as_bytes());
        self.bytes.extend_from_slice(body);
        self.ends.push(self.bytes.len());
        self.body_bytes += body.len() as u64;
    }

    /// Bytes of the bodies of all requests, without heads.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    fn good(&self, status: &[u8], body: &[u8]) -> bool {
        if status != b"200" {
            return false;
        }
        if self.lines {
            // Counting is cheaper than searching each line, and a missing mark shows in the count all the same.
            return find_iter(body, self.expect).count() == self.units as usize;
        }
        self.expect.is_empty() || find(body, self.expect).is_some()
    }
}

impl Protocol for Pool {
    type Conn = ();

    fn hello(&mut self, _: &mut ()) -> Vec<u8> {
        Vec::new()
    }

    fn next(&mut self, _: &mut ()) -> Option<&[u8]> {
        let end = *self.ends.get(self.next)?;
        let start = if self.next == 0 { 0 } else { self.ends[self.next - 1] };
        self.next += 1;
        Some(&self.bytes[start..end])
    }

    fn parse(&mut self, _: &mut (), received: &[u8], _: &mut Vec<u8>) -> Parsed {
        let Some(head) = find(received, b"\r\n\r\n") else { return Parsed::More };
        let head_len = head + 4;
        let status = received.get(9..12).unwrap_or_default();
        let body = match framing(&received[..head_len]) {
            Framing::Length(n) => {
                let Some(body) = received.get(head_len..head_len + n) else { return Parsed::More };
                (n, self.good(status, body))
            }
            Framing::Chunked => {
                let Some((len, body)) = unchunk(&received[head_len..]) else { return Parsed::More };
                (len, self.good(status, &body))
            }
        };
        Parsed::Answer { len: head_len + body.0, good: body.1, units: self.units }
    }
}

enum Framing {
    Length(usize),
    Chunked,
}

/// How the body is framed. An answer without either header has no body here: the servers under test never close to
/// end one.
fn framing(head: &[u8]) -> Framing {
    for line in head.split(|&b| b == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|&b| b == b':') else { continue };
        let value = line[colon + 1..].trim_ascii();
        if line[..colon].eq_ignore_ascii_case(b"content-length") {
            let digits = value.iter().map_while(|b| b.is_ascii_digit().then(|| usize::from(b - b'0')));
            return Framing::Length(digits.fold(0, |n, d| n.saturating_mul(10).saturating_add(d)));
        }
        if line[..colon].eq_ignore_ascii_case(b"transfer-encoding") {
            return Framing::Chunked;
        }
    }
    Framing::Length(0)
}

/// The length on the wire and the content of a whole chunked body.
fn unchunk(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let mut content = Vec::new();
    let mut at = 0;
    loop {
        let line = find(&bytes[at..], b"\r\n")?;
        let digits = std::str::from_utf8(&bytes[at..at + line]).ok()?;
        let size = usize::from_str_radix(digits.split(';').next()?.trim(), 16).ok()?;
        let start = at + line + 2;
        let chunk = bytes.get(start..start + size + 2)?;
        content.extend_from_slice(&chunk[..size]);
        at = start + size + 2;
        if size == 0 {
            return Some((at, content));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pool: &mut Pool, bytes: &[u8]) -> Option<(usize, bool)> {
        match pool.parse(&mut (), bytes, &mut Vec::new()) {
            Parsed::Answer { len, good, .. } => Some((len, good)),
            _ => None,
        }
    }

    #[test]
    fn every_prefix_of_an_answer_asks_for_more() {
        let mut pool = Pool::new("\"accepted\":true");
        let body = "{\"accepted\":true}\n";
        let fixed = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let chunked = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        );
        for answer in [fixed, chunked] {
            for cut in 0..answer.len() {
                assert_eq!(parse(&mut pool, &answer.as_bytes()[..cut]), None, "{cut}");
            }
            assert_eq!(parse(&mut pool, answer.as_bytes()), Some((answer.len(), true)));
        }
    }

    #[test]
    fn other_statuses_and_short_batches_are_not_good() {
        let mut pool = Pool::new("true");
        let refused = "HTTP/1.1 202 Accepted\r\ncontent-length: 4\r\n\r\ntrue";
        assert_eq!(parse(&mut pool, refused.as_bytes()), Some((refused.len(), false)));
        let mut batches = Pool::batches(2, "ok");
        let one = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n";
        assert_eq!(parse(&mut batches, one.as_bytes()), Some((one.len(), false)));
        let two = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nok\nok\n";
        assert_eq!(parse(&mut batches, two.as_bytes()), Some((two.len(), true)));
    }
}
