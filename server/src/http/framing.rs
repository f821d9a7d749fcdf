//! Where one request ends and the next begins, checked on the bytes themselves.
//!
//! hyper 1.12 answers a request that carries both Content-Length and Transfer-Encoding, and removes the
//! length before a handler can see it; it also takes line ends without a carriage return. A proxy in front
//! may read the same bytes differently, which is how requests are smuggled. So the connection keeps the bytes
//! of the head it is reading, and the handler asks this module whether they can be read in one way only.

/// Most bytes kept, above all that hyper reads ahead.
const KEPT_MAX: usize = 512 << 10;

/// Why a request's framing is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ambiguity {
    /// Content-Length beside Transfer-Encoding.
    TwoLengths,
    /// A transfer coding other than exactly `chunked`.
    Coding,
    /// A line that ends without a carriage return.
    BareLineFeed,
    /// Not exactly one Host.
    Host,
}

impl Ambiguity {
    /// What the problem document says.
    pub fn detail(self) -> &'static str {
        match self {
            Ambiguity::TwoLengths => "both Content-Length and Transfer-Encoding are present",
            Ambiguity::Coding => "the only transfer coding taken is a single chunked",
            Ambiguity::BareLineFeed => "a line of the head ends without a carriage return",
            Ambiguity::Host => "exactly one Host header is needed",
        }
    }
}

/// What hyper understood of a head; compared with the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Understood<'a> {
    /// Values of Transfer-Encoding, if there is any.
    pub coding: Option<&'a [u8]>,
    /// Whether there is more than one Transfer-Encoding.
    pub more_codings: bool,
    /// Value of Content-Length.
    pub length: Option<u64>,
    /// Number of Host headers.
    pub hosts: usize,
    /// HTTP/1.0, whose clients may leave Host out.
    pub old: bool,
}

/// The bytes of one connection since the last place where a head began.
#[derive(Debug, Default)]
pub struct Heads {
    kept: Vec<u8>,
    skip: u64,
    last: bool,
}

impl Heads {
    /// Takes the bytes of one read.
    pub fn read(&mut self, mut bytes: &[u8]) {
        if self.last {
            return;
        }
        if self.skip > 0 {
            let n = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= n as u64;
            bytes = &bytes[n..];
        }
        if self.kept.len() + bytes.len() > KEPT_MAX {
            // No head is this long; hyper will refuse it, and a handler that still asks gets a refusal.
            self.last = true;
            self.kept.clear();
            return;
        }
        self.kept.extend_from_slice(bytes);
    }

    /// Whether part of a head, but not all of it, has arrived.
    pub fn inside(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Checks the head that hyper has just parsed and moves past its request.
    ///
    /// After a chunked request the place of the next head is not known here, so the caller closes the
    /// connection after its answer; `Ok(true)` says so.
    pub fn request(&mut self, understood: Understood<'_>) -> Result<bool, Ambiguity> {
        let hosts_wanted = if understood.old { 0..=1 } else { 1..=1 };
        if !hosts_wanted.contains(&understood.hosts) {
            return Err(Ambiguity::Host);
        }
        let chunked = |coding: &[u8]| !understood.more_codings && coding.eq_ignore_ascii_case(b"chunked");
        if understood.coding.is_some_and(|coding| !chunked(coding)) {
            return Err(Ambiguity::Coding);
        }
        let start = self.kept.chunks_exact(2).take_while(|pair| *pair == b"\r\n").count() * 2;
        let head = match head_end(&self.kept[start..]) {
            Some(end) => &self.kept[start..start + end],
            None => return Err(Ambiguity::BareLineFeed),
        };
        if has_bare_line_feed(head) {
            return Err(Ambiguity::BareLineFeed);
        }
        if understood.coding.is_some() {
            if names(head, b"content-length") {
                return Err(Ambiguity::TwoLengths);
            }
            self.last = true;
            self.kept = Vec::new();
            return Ok(true);
        }
        let past = (start + head.len()) as u64 + understood.length.unwrap_or(0);
        let kept = self.kept.len() as u64;
        if past >= kept {
            self.skip = past - kept;
            self.kept.clear();
        } else {
            self.kept.drain(..past as usize);
        }
        Ok(false)
    }
}

/// Length of the head with its empty line.
fn head_end(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|b| *b == b'\n') {
        let at = from + at;
        if at >= 3 && bytes[at - 3..at] == *b"\r\n\r" {
            return Some(at + 1);
        }
        from = at + 1;
    }
    None
}

fn has_bare_line_feed(head: &[u8]) -> bool {
    head.iter().enumerate().any(|(at, b)| *b == b'\n' && (at == 0 || head[at - 1] != b'\r'))
}

/// Whether a header line with this name (lower case) stands in the head.
fn names(head: &[u8], name: &[u8]) -> bool {
    head.split(|b| *b == b'\n').any(|line| {
        line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name) && line[name.len()] == b':'
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Understood<'_> =
        Understood { coding: None, more_codings: false, length: None, hosts: 1, old: false };

    fn chunked() -> Understood<'static> {
        Understood { coding: Some(b"chunked"), ..PLAIN }
    }

    #[test]
    fn pipelined_requests_are_told_apart_in_any_split() {
        let first = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n\r\n\r\n\n".as_slice();
        let second = b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n".as_slice();
        let third = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".as_slice();
        let all = [first, second, third].concat();
        let heads_end = [first.len() - 5, first.len() + second.len(), all.len() - 5];
        for cut in 0..all.len() {
            let mut heads = Heads::default();
            heads.read(&all[..cut]);
            let mut rest = Some(&all[cut..]);
            for (n, end) in heads_end.iter().enumerate() {
                if cut < *end {
                    rest.take().into_iter().for_each(|rest| heads.read(rest));
                }
                let understood = match n {
                    0 => Understood { length: Some(5), ..PLAIN },
                    1 => PLAIN,
                    _ => chunked(),
                };
                assert_eq!(heads.request(understood), Ok(n == 2), "cut {cut} request {n}");
            }
        }
    }

    #[test]
    fn two_lengths_are_seen_wherever_they_stand() {
        for text in [
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\ncontent-LENGTH: 6\r\n\r\n0\r\n\r\nG",
        ] {
            let mut heads = Heads::default();
            heads.read(text.as_bytes());
            assert_eq!(heads.request(chunked()), Err(Ambiguity::TwoLengths));
        }
        let mut heads = Heads::default();
        heads.read(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n11\r\n\ncontent-length: 6\r\n0\r\n\r\n");
        assert_eq!(heads.request(chunked()), Ok(true), "a body may speak of lengths");
    }

    #[test]
    fn odd_codings_hosts_and_line_ends_are_refused() {
        let head = b"POST / HTTP/1.1\r\nHost: x\r\n\r\n";
        let ask = |understood: Understood<'_>| {
            let mut heads = Heads::default();
            heads.read(head);
            heads.request(understood)
        };
        for coding in [b"identity, chunked".as_slice(), b"gzip", b"chunked, chunked", b"xchunked", b""] {
            assert_eq!(ask(Understood { coding: Some(coding), ..PLAIN }), Err(Ambiguity::Coding));
        }
        assert_eq!(ask(Understood { more_codings: true, ..chunked() }), Err(Ambiguity::Coding));
        assert_eq!(ask(Understood { coding: Some(b"Chunked"), ..PLAIN }), Ok(true));
        assert_eq!(ask(Understood { hosts: 0, ..PLAIN }), Err(Ambiguity::Host));
        assert_eq!(ask(Understood { hosts: 2, ..PLAIN }), Err(Ambiguity::Host));
        assert_eq!(ask(Understood { hosts: 0, old: true, ..PLAIN }), Ok(false));
        for bare in [
            "GET / HTTP/1.1\nHost: x\n\n",
            "GET / HTTP/1.1\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n\n",
        ] {
            let mut heads = Heads::default();
            heads.read(bare.as_bytes());
            assert_eq!(heads.request(PLAIN), Err(Ambiguity::BareLineFeed), "{bare:?}");
        }
        let mut heads = Heads::default();
        heads.read(b"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(heads.request(PLAIN), Ok(false), "empty lines before a request are allowed");
        assert!(!heads.inside());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut heads = Heads::default();
        for _ in 0..100 {
            heads.read(&[b'a'; 8192]);
        }
        assert!(heads.kept.capacity() <= 2 * KEPT_MAX);
        assert!(heads.request(PLAIN).is_err());
        let mut heads = Heads::default();
        heads.read(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
        assert_eq!(heads.request(Understood { length: Some(1_000_000), ..PLAIN }), Ok(false));
        for _ in 0..100 {
            heads.read(&[b'a'; 8192]);
        }
        assert!(!heads.inside(), "a body is passed over, not kept");
    }
}
