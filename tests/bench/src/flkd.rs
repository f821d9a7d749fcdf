//! The real `flkd`, as a child process with three tenants: one of each way to sign.

use crate::bodies::Signer;
use crate::context::Context;
use crate::process::{Server, Usage, free_port};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// HMAC secret of tenant `hm`.
pub const SECRET: &str = "bench-secret-of-no-value";
/// Ed25519 seed of tenant `ed`.
pub const SEED: [u8; 32] = [7; 32];

/// Which tenant a workload belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tenant {
    Hmac,
    Ed25519,
    Unsigned,
}

impl Tenant {
    pub fn id(self) -> &'static str {
        match self {
            Tenant::Hmac => "hm",
            Tenant::Ed25519 => "ed",
            Tenant::Unsigned => "un",
        }
    }

    pub fn signer(self) -> Signer {
        match self {
            Tenant::Hmac => Signer::hmac(SECRET.as_bytes()),
            Tenant::Ed25519 => Signer::ed25519(&SEED),
            Tenant::Unsigned => Signer::None,
        }
    }

    /// The header lines of its requests.
    pub fn headers(self) -> String {
        format!("x-tenant-id: {}\r\n", self.id())
    }
}

/// A running node.
pub struct Flkd {
    server: Server,
    /// Its data directory.
    pub dir: PathBuf,
}

impl Flkd {
    /// Starts a node on `dir` (new or with what an earlier one left) and waits until it is ready.
    pub fn start(context: &Context, dir: &Path) -> io::Result<Flkd> {
        Flkd::start_timed(context, dir).map(|(node, _)| node)
    }

    /// The same, and the time from the start of the process until `/readyz` said yes.
    pub fn start_timed(context: &Context, dir: &Path) -> io::Result<(Flkd, Duration)> {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let begin = Instant::now();
        let node = Flkd::launch(context, &mut Flkd::command(context, dir, addr), dir, addr)?;
        node.wait_ready()?;
        Ok((node, begin.elapsed()))
    }

    /// What starts a node on `dir` that serves at `addr`.
    pub fn command(context: &Context, dir: &Path, addr: SocketAddr) -> Command {
        let public = ed25519_dalek::SigningKey::from_bytes(&SEED).verifying_key();
        let tenants = format!("hm:hmac:{SECRET},ed:ed25519:{},un:none:", STANDARD.encode(public.as_bytes()));
        let mut command = Command::new(context.binaries.join("flkd"));
        command
            .env("FLK_DATA_DIR", dir)
            .env("FLK_HTTP_HOST", addr.ip().to_string())
            .env("FLK_HTTP_PORT", addr.port().to_string())
            .env("FLK_MULTI_TENANT", "true")
            .env("FLK_TENANTS", tenants)
            .env("FLK_DEV_ALLOW_UNSIGNED", "true")
            .env("FLK_RATE", "0")
            .env("FLK_LOG", "warn");
        command
    }

    /// Starts it and waits until it listens.
    pub fn launch(
        context: &Context,
        command: &mut Command,
        dir: &Path,
        addr: SocketAddr,
    ) -> io::Result<Flkd> {
        let server = Server::start("flkd", command, addr, &context.dir.join("flkd.log"))?;
        Ok(Flkd { server, dir: dir.to_owned() })
    }

    /// Waits until it takes submissions.
    pub fn wait_ready(&self) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !self.ready() {
            if Instant::now() > deadline {
                return Err(io::Error::other("flkd does not become ready"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    pub fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    pub fn usage(&self) -> io::Result<Usage> {
        self.server.usage()
    }

    fn ready(&self) -> bool {
        self.get("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// Head and body of the answer to a GET.
    pub fn get(&self, path: &str) -> io::Result<String> {
        self.ask(path, "")
    }

    /// The same of somebody with this token.
    pub fn get_as(&self, path: &str, token: &str) -> io::Result<String> {
        self.ask(path, &format!("authorization: Bearer {token}\r\n"))
    }

    fn ask(&self, path: &str, headers: &str) -> io::Result<String> {
        let mut socket = TcpStream::connect(self.addr())?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(socket, "GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}connection: close\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Sum of the samples of one metric, whatever their labels.
    pub fn metric(&self, name: &str) -> io::Result<f64> {
        let text = self.get("/metrics")?;
        let samples: Vec<f64> = text
            .lines()
            .filter(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])))
            .filter_map(|l| l.rsplit_once(' ')?.1.parse().ok())
            .collect();
        if samples.is_empty() {
            return Err(io::Error::other(format!("/metrics has no {name}")));
        }
        Ok(samples.iter().sum())
    }

    /// SIGKILL.
    pub fn kill(self) -> io::Result<()> {
        self.server.kill()
    }

    /// SIGTERM and wait.
    pub fn stop(self) -> io::Result<()> {
        self.server.stop()
    }
}
