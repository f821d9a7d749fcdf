//! A server that does what a test says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// Status, further headers, body; nothing: the connection breaks.
pub type Reply = Option<(u16, &'static str, String)>;

/// What is answered to the nth request, by its path and body.
pub type Script = fn(usize, &str, &Value) -> Reply;

/// A server that keeps the submissions it was sent.
pub struct Fake {
    pub address: SocketAddr,
    pub seen: Arc<Mutex<Vec<Value>>>,
}

impl Fake {
    pub fn start(script: Script) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut input = Vec::new();
                loop {
                    let mut chunk = [0; 8192];
                    let Ok(count @ 1..) = stream.read(&mut chunk) else { break };
                    input.extend_from_slice(&chunk[..count]);
                    let Some(head) = input.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                        continue;
                    };
                    let text = String::from_utf8_lossy(&input[..head]).into_owned();
                    let lower = text.to_ascii_lowercase();
                    // What the log publishes belongs to no tenant.
                    let of_the_log = lower.starts_with("get /tlog/");
                    assert!(of_the_log || lower.contains("x-tenant-id: demo"), "{text}");
                    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
                    let length: usize = length.map_or(0, |length| length.parse().unwrap());
                    if input.len() < head + 4 + length {
                        continue;
                    }
                    let body =
                        serde_json::from_slice(&input[head + 4..head + 4 + length]).unwrap_or(Value::Null);
                    input.clear();
                    let path = text.split(' ').nth(1).unwrap().to_owned();
                    let n = {
                        let mut seen = kept.lock().unwrap();
                        seen.push(body.clone());
                        seen.len() - 1
                    };
                    let Some((status, headers, body)) = script(n, &path, &body) else { break };
                    write!(
                        stream,
                        "HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\n\r\n{body}",
                        body.len()
                    )
                    .unwrap();
                }
            }
        });
        Fake { address, seen }
    }

    /// Ids of the submissions, in order.
    pub fn ids(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter_map(|body| body["pcs_id"].as_str().map(str::to_owned)).collect()
    }
}
