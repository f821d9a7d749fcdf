//! One real flkd: started, watched, killed. A node never outlives its test.

use crate::bins;
use crate::http::{Connection, Response};
use crate::pcs::SECRET;
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Longest wait for a start or a stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// How a node is started.
#[derive(Clone)]
pub struct Start {
    pub data: PathBuf,
    pub settings: Vec<(String, String)>,
    /// What runs in the place of flkd, if anything does.
    program: Option<PathBuf>,
}

impl Start {
    /// A node on this directory with the settings that all tests share.
    pub fn on(data: &Path) -> Start {
        let settings = [
            ("FLK_HTTP_HOST", "127.0.0.1"),
            ("FLK_HTTP_PORT", "0"),
            ("FLK_HMAC_KEY", SECRET),
            ("FLK_RATE", "0"),
            // Small, so that a short run crosses several segments.
            ("FLK_SEGMENT_BYTES", "2097152"),
            ("FLK_ATTEST_IDLE_MS", "100"),
        ];
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Start { data: data.to_owned(), settings: settings.into_iter().map(owned).collect(), program: None }
    }

    /// Sets or overrides one environment variable.
    pub fn with(mut self, name: &str, value: &str) -> Start {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Started by another program, which knows the settings already.
    pub fn by(mut self, program: &Path) -> Start {
        self.program = Some(program.to_owned());
        self
    }

    /// Starts the process without waiting for it.
    pub fn spawn(&self) -> Process {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let log = std::env::temp_dir().join(format!("flkd-{}-{count}.log", std::process::id()));
        let output = File::create(&log).expect("a log file");
        let mut command = Command::new(self.program.clone().unwrap_or_else(|| bins::path("flkd")));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("FLK_DATA_DIR", &self.data).envs(self.settings.iter().cloned());
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("a handle")).stderr(output);
        Process { child: command.spawn().expect("flkd starts"), log }
    }

    /// Starts the process and waits until it takes submissions.
    pub fn ready(&self) -> Node {
        match self.spawn().ready() {
            Ok(node) => node,
            Err((status, log)) => panic!("flkd did not start ({status}):\n{log}"),
        }
    }

    /// Starts the process and waits until it answers, also when it is not ready for submissions.
    pub fn alive(&self) -> Node {
        match self.spawn().answering("/metrics") {
            Ok(node) => node,
            Err((status, log)) => panic!("flkd did not start ({status}):\n{log}"),
        }
    }

    /// Starts the process, which must refuse; gives its exit status and everything it wrote.
    pub fn refused(&self) -> (ExitStatus, String) {
        match self.spawn().ready() {
            Ok(node) => panic!("flkd started at {} but should have refused", node.address),
            Err(refusal) => refusal,
        }
    }
}

/// A process that may or may not be ready.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Everything it wrote so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Waits for readiness, or for the end.
    ///
    /// # Errors
    /// The exit status and the log of a process that ended first.
    pub fn ready(self) -> Result<Node, (ExitStatus, String)> {
        self.answering("/readyz")
    }

    /// Waits until this path answers 200, or for the end.
    fn answering(mut self, path: &str) -> Result<Node, (ExitStatus, String)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return Err((status, self.log()));
            }
            let answered = address_in(&self.log()).filter(|address| {
                Connection::open(*address)
                    .and_then(|mut connection| connection.get(path))
                    .is_ok_and(|r| r.status == 200)
            });
            if let Some(address) = answered {
                return Ok(Node { process: self, address });
            }
            assert!(Instant::now() < deadline, "flkd is neither ready nor gone:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the end.
    pub fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(Instant::now() < deadline, "flkd did not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal(&self, signal: i32) {
        // SAFETY: kill takes two integers and touches no memory of ours; the child has not been reaped, so
        // its number still names it.
        let sent = unsafe { libc::kill(self.child.id() as i32, signal) };
        assert_eq!(sent, 0, "the process is gone already:\n{}", self.log());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.len().saturating_sub(4000);
            eprintln!("--- end of {}\n{}", self.log.display(), log.get(tail..).unwrap_or(&log));
        } else {
            let _ = std::fs::remove_file(&self.log);
        }
    }
}

/// A node that takes submissions.
pub struct Node {
    pub process: Process,
    pub address: SocketAddr,
}

impl Node {
    /// A new connection.
    pub fn connect(&self) -> Connection {
        Connection::open(self.address).expect("a connection")
    }

    /// Submits on a connection of its own.
    pub fn submit(&self, body: &[u8]) -> Response {
        self.connect().send("POST", "/v1/pcs/submit", &[], body).expect("an answer")
    }

    /// GET on a connection of its own.
    pub fn get(&self, path: &str) -> Response {
        self.connect().get(path).expect("an answer")
    }

    /// `kill -9`, and the end of the process.
    pub fn kill(mut self) {
        self.process.signal(libc::SIGKILL);
        let status = self.process.end();
        assert_eq!(status.signal(), Some(libc::SIGKILL), "it ended by itself:\n{}", self.process.log());
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(mut self) -> ExitStatus {
        self.process.signal(libc::SIGTERM);
        self.process.end()
    }

    /// SIGTERM; the drain must end by itself and say success.
    pub fn stop(mut self) {
        self.process.signal(libc::SIGTERM);
        let status = self.process.end();
        assert!(status.success(), "SIGTERM ended with {status}:\n{}", self.process.log());
    }
}

/// The first loopback address with a port that stands in a log.
fn address_in(log: &str) -> Option<SocketAddr> {
    log.match_indices("\"address\":\"127.0.0.1:").find_map(|(at, prefix)| {
        let digits: String = log[at + prefix.len()..].chars().take_while(char::is_ascii_digit).collect();
        let port: u16 = digits.parse().ok()?;
        (port != 0).then(|| SocketAddr::from(([127, 0, 0, 1], port)))
    })
}

#[test]
fn the_address_is_read_from_a_log_line() {
    let line = "{\"level\":\"INFO\",\"message\":\"listening\",\"address\":\"127.0.0.1:41234\"}\n";
    assert_eq!(address_in(line), Some(SocketAddr::from(([127, 0, 0, 1], 41234))));
    assert_eq!(address_in("http.host = \"127.0.0.1\" port 0 127.0.0.1:0"), None);
}
