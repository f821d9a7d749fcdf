//! A small HTTP client that knows what it does not know: whether a request that got no answer was sent at all.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longest answer, bytes.
const ANSWER_MAX: usize = 8 << 20;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Silence {
    /// Nothing was sent.
    Unsent(Error),
    /// Something may have been sent.
    Unknown(Error),
}

impl std::fmt::Display for Silence {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Silence::Unsent(error) => write!(out, "not sent: {error}"),
            Silence::Unknown(error) => write!(out, "no answer: {error}"),
        }
    }
}

/// A client of one server; keeps its connection while that works.
pub struct Client {
    address: SocketAddr,
    patience: Duration,
    stream: Option<TcpStream>,
}

impl Client {
    /// A client that waits this long for a connection and as long for an answer.
    pub fn new(address: SocketAddr, patience: Duration) -> Client {
        Client { address, patience, stream: None }
    }

    /// One request and its answer.
    ///
    /// # Errors
    /// [`Silence`], which says whether the request may have arrived.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::result::Result<Answer, Silence> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if method == "POST" {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        let request = [head.as_bytes(), b"\r\n", body].concat();
        let mut stream = self.connection().map_err(Silence::Unsent)?;
        let answer = stream.write_all(&request).and_then(|()| self.answer(&mut stream));
        let answer = answer.map_err(Silence::Unknown)?;
        if answer.header("connection") != Some("close") {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    /// GET.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn get(&mut self, path: &str) -> std::result::Result<Answer, Silence> {
        self.send("GET", path, &[], b"")
    }

    /// The connection that is there, if the server has not closed it meanwhile, else a new one.
    fn connection(&mut self) -> Result<TcpStream> {
        if let Some(stream) = self.stream.take() {
            stream.set_nonblocking(true)?;
            let quiet = stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
            stream.set_nonblocking(false)?;
            if quiet {
                return Ok(stream);
            }
        }
        let stream = TcpStream::connect_timeout(&self.address, self.patience)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(self.patience))?;
        Ok(stream)
    }

    fn answer(&self, stream: &mut TcpStream) -> Result<Answer> {
        let end = Instant::now() + self.patience;
        let mut buffer = Vec::new();
        let split = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            fill(stream, &mut buffer, end)?;
        };
        let bad = |why: &str| Error::new(ErrorKind::InvalidData, why.to_owned());
        let head = String::from_utf8_lossy(&buffer[..split]).into_owned();
        let mut body = buffer.split_off(split);
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.ok_or_else(|| bad("no status"))?;
        let pair =
            |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut answer = Answer { status, headers: lines.filter_map(pair).collect(), body: Vec::new() };
        let length = answer.header("content-length").map_or(Some(0), |length| length.parse().ok());
        let length: usize = length.filter(|length| *length <= ANSWER_MAX).ok_or_else(|| bad("no length"))?;
        if answer.header("transfer-encoding").is_some() {
            return Err(bad("chunks, though the length is known"));
        }
        while body.len() < length {
            fill(stream, &mut body, end)?;
        }
        body.truncate(length);
        answer.body = body;
        Ok(answer)
    }
}

/// Reads what is there, but not past a deadline however slowly it drips.
fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>, end: Instant) -> Result<()> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    stream.set_read_timeout(Some(left))?;
    let mut piece = [0u8; 16 * 1024];
    let count = stream.read(&mut piece)?;
    if count == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    buffer.extend_from_slice(&piece[..count]);
    if buffer.len() > ANSWER_MAX { Err(ErrorKind::InvalidData.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server that reads once on each connection and says this.
    fn server(says: &'static [u8], times: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for _ in 0..times {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0u8; 4096]).unwrap();
                stream.write_all(says).unwrap();
            }
        });
        address
    }

    #[test]
    fn an_answer_is_read_whole() {
        let address = server(b"HTTP/1.1 202 Accepted\r\nContent-Length: 3\r\nX: y\r\n\r\nabc", 1);
        let answer = Client::new(address, Duration::from_secs(5)).send("POST", "/", &[], b"x").unwrap();
        assert_eq!((answer.status, answer.text().as_str(), answer.header("x")), (202, "abc", Some("y")));
    }

    #[test]
    fn what_was_cut_short_is_unknown_and_what_never_left_is_unsent() {
        let address = server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", 1);
        let mut client = Client::new(address, Duration::from_secs(5));
        assert!(matches!(client.get("/"), Err(Silence::Unknown(_))));
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut client = Client::new(closed, Duration::from_secs(5));
        assert!(matches!(client.get("/"), Err(Silence::Unsent(_))));
    }

    #[test]
    fn a_connection_that_the_server_closed_is_not_used_again() {
        let address = server(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", 2);
        let mut client = Client::new(address, Duration::from_secs(5));
        assert_eq!(client.get("/").unwrap().status, 200);
        // The server's end closes a moment after its answer: wait for that, so that the peek can see it.
        let stream = client.stream.as_ref().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(stream.peek(&mut [0]).unwrap(), 0);
        assert_eq!(client.get("/").unwrap().status, 200);
    }
}
