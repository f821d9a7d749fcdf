//! A server of others with the S3 protocol, and a gate in front of it that can fail and lie as such servers have done.

use crate::bins;
use crate::outsiders::{run, tool};
use crate::ports;
use crate::witness::eventually;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A server of others with the S3 protocol.
pub struct Moto {
    pub url: String,
    python: PathBuf,
    child: Child,
}

impl Moto {
    /// It runs until it is dropped.
    pub fn start() -> Moto {
        let python = tool("anchors");
        let address = ports::free();
        let mut command = Command::new(&python);
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &address.port().to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("moto starts");
        eventually("moto answers", || std::net::TcpStream::connect(address).is_ok());
        Moto { url: format!("http://{address}"), python, child }
    }

    /// What `bucket.py` does there.
    pub fn say(&self, act: &str, bucket: &str, more: &[&str]) -> String {
        let script = bins::root().join("tests/outsiders/bucket.py");
        let mut command = Command::new(&self.python);
        command.arg(script).args([act, &self.url, bucket]).args(more);
        let (code, said) = run(&mut command);
        assert_eq!(code, Some(0), "bucket.py {act}: {said}");
        said
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

/// What a [`Gate`] does with requests. Conditions in the words of Google's store it puts into those of the server.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mood {
    /// Passes them on.
    Open,
    /// Denies them: 403.
    Denied,
    /// Answers 200 to whoever puts something, and puts nothing.
    Lies,
    /// Passes them on, and answers listings as it did the first time.
    Late,
}

struct Shared {
    mood: AtomicU8,
    behind: SocketAddr,
    /// The first answer to each listing.
    listings: Mutex<HashMap<String, Vec<u8>>>,
}

/// A gate in front of a server. Its threads end with the test process.
pub struct Gate {
    pub url: String,
    shared: Arc<Shared>,
}

impl Gate {
    /// One that is open.
    pub fn before(server: &Moto) -> Gate {
        let behind = server.url.trim_start_matches("http://").parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = Shared { mood: AtomicU8::new(Mood::Open as u8), behind, listings: Mutex::default() };
        let shared = Arc::new(shared);
        let gate = Gate { url, shared: shared.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                // Who asks may go away at any time.
                std::thread::spawn(move || drop(pass(stream, &shared)));
            }
        });
        gate
    }

    /// From now on.
    pub fn set(&self, mood: Mood) {
        self.shared.mood.store(mood as u8, Ordering::SeqCst);
    }
}

/// One request and its answer.
fn pass(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let patience = Some(Duration::from_secs(30));
    stream.set_read_timeout(patience)?;
    let mut request = Vec::new();
    let mut buffer = [0; 16 << 10];
    let end = loop {
        if let Some(at) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            read => request.extend_from_slice(&buffer[..read]),
        }
    };
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.map_or(0, |length| length.trim().parse::<usize>().expect("a length"));
    while request.len() < end + length {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            read => request.extend_from_slice(&buffer[..read]),
        }
    }
    let mood = shared.mood.load(Ordering::SeqCst);
    let line = head.lines().next().unwrap_or_default().to_owned();
    if mood == Mood::Denied as u8 {
        return stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    if mood == Mood::Lies as u8 && line.starts_with("put ") {
        return stream
            .write_all(b"HTTP/1.1 200 OK\r\nETag: \"0\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let listing = line.starts_with("get ") && line.contains("list-type=2");
    if mood == Mood::Late as u8
        && listing
        && let Some(answer) = shared.listings.lock().expect("no panic").get(&line)
    {
        return stream.write_all(answer);
    }
    let mut server = TcpStream::connect(shared.behind)?;
    server.set_read_timeout(patience)?;
    server.write_all(&request[..end - 2])?;
    // How Google's store says what the S3 protocol says in this way.
    if head.contains("\r\nx-goog-if-generation-match: 0\r\n") {
        server.write_all(b"If-None-Match: *\r\n")?;
    }
    server.write_all(b"Connection: close\r\n\r\n")?;
    server.write_all(&request[end..])?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    if listing {
        shared.listings.lock().expect("no panic").entry(line).or_insert_with(|| answer.clone());
    }
    stream.write_all(&answer)
}
