//! A node, a small blocking client that sends exactly what a test means, and signed summaries.

use engine::summary::sign::sign_hmac;
use engine::summary::{PcsId, SignatureForm, parse};
use server::config::{Config, load_from};
use server::http::Front;
use server::node::Node;
use server::serve::Running;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

pub const SECRET: &str = "testsecret";

/// Settings all tests share; `more` comes on top, as flags.
pub fn config(dir: &Path, more: &[(&str, &str)]) -> Config {
    let mut flags = vec![
        ("data.dir", dir.to_str().expect("a text path")),
        ("data.segment_bytes", "1048576"),
        ("http.host", "127.0.0.1"),
        ("http.port", "0"),
        ("auth.hmac_key", SECRET),
        ("quota.rate_per_s", "0"),
        ("attest.idle_ms", "20"),
    ];
    flags.extend_from_slice(more);
    let flags: Vec<_> = flags.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    load_from(&[], None, &[], &flags).expect("a good configuration").config
}

/// Starts a node, runs blocking steps against it, and stops it in order.
pub fn with_node(dir: &Path, more: &[(&str, &str)], steps: impl FnOnce(SocketAddr) + Send + 'static) {
    let config = config(dir, more);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async move {
        let front = Front::open(&config).await.expect("an address");
        let node = Node::open(config, &front.stage).await.expect("the node opens");
        let running = Running::start(node, front).await.expect("the node serves");
        let address = running.address;
        let outcome = tokio::task::spawn_blocking(move || steps(address)).await;
        running.stop().await;
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic.into_panic());
        }
    });
}

/// A signed summary whose id depends on `n`.
pub fn summary(n: u64) -> String {
    signed(n, "1.0", SECRET)
}

/// The same with a claimed dimension and a secret.
pub fn signed(n: u64, d_hat: &str, secret: &str) -> String {
    let root = format!("{n:064x}");
    let id = PcsId::derive(&root, 7, "shard");
    let text = |sig: &str| {
        format!(
            r#"{{"pcs_id":"{id}","schema":"fractal-lba-kakeya","version":"0.1","shard_id":"shard","epoch":7,"attempt":1,"sent_at":"2026-01-01T00:00:00Z","seed":1,"scales":[2,4,8,16],"N_j":{{"2":3,"4":6,"8":12,"16":24}},"coh_star":0.75,"v_star":[0.6,0.8,0.0],"D_hat":{d_hat},"r":0.5,"regime":"sticky","budget":0.4,"merkle_root":"{root}","sig":"{sig}","ft":{{"outbox_seq":0}}}}"#
        )
    };
    let unsigned = text("");
    let pcs = parse(unsigned.as_bytes()).expect("a summary");
    let form = SignatureForm::ALL[0];
    text(&sign_hmac(form, &pcs.signed_fields(), secret.as_bytes()).expect("an HMAC form"))
}

/// Lets `ms` milliseconds pass on a thread of the test.
#[allow(clippy::disallowed_methods)]
pub fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let wanted = format!("{}:", name.to_ascii_lowercase());
        self.head
            .lines()
            .find(|l| l.to_ascii_lowercase().starts_with(&wanted))
            .map(|l| l[wanted.len()..].trim())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    pub fn new(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
        Client { stream, buffer: Vec::new() }
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        // The server may close first; what it answered is what counts.
        let _ = self.stream.write_all(bytes);
    }

    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        self.raw(&[head.as_bytes(), b"\r\n", body].concat());
        self.answer().expect("an answer")
    }

    pub fn submit(&mut self, body: &str) -> Answer {
        self.send("POST", "/v1/pcs/submit", &[], body.as_bytes())
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    /// GET until the status is 200: checkpoints follow answers by some milliseconds.
    pub fn get_soon(&mut self, path: &str) -> Answer {
        for _ in 0..500 {
            let answer = self.get(path);
            if answer.status == 200 {
                return answer;
            }
            pause(10);
        }
        panic!("{path} does not come")
    }

    /// The next answer, or `None` at the end of the connection.
    pub fn answer(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill() {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end);
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status line");
        let mut answer = Answer { status, head, body: Vec::new() };
        let length = answer.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
        while self.buffer.len() < length {
            assert!(self.fill(), "the connection broke inside a body");
        }
        answer.body = self.buffer.drain(..length).collect();
        Some(answer)
    }

    /// Whether the server has closed the connection, waiting for it.
    pub fn closed(&mut self) -> bool {
        !self.fill() && self.buffer.is_empty()
    }

    fn fill(&mut self) -> bool {
        let mut piece = [0; 16384];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return false,
                Ok(n) => {
                    self.buffer.extend_from_slice(&piece[..n]);
                    return true;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                    return false;
                }
                Err(e) => panic!("{e}"),
            }
        }
    }
}
