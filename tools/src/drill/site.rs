//! One region of a drill: a real node, its directories, and how it is asked.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::link::{copy, names};
use crate::http::Client;
use crate::report::Fault;

/// How long a node may take to start.
const START: Duration = Duration::from_secs(120);
const TOKEN: &str = "drill";
/// Bytes of a segment: small, so that a drill takes little room.
pub const SEGMENT_BYTES: u64 = 2 << 20;

/// A region.
pub struct Site {
    /// Its name.
    pub region: &'static str,
    /// Its address.
    pub url: String,
    home: PathBuf,
    program: PathBuf,
    port: u16,
    peer: Option<String>,
    child: Option<Child>,
}

impl Site {
    /// Prepares one below `home` and starts it once, alone, so that it has keys; they are kept aside.
    pub fn new(home: &Path, program: &Path, region: &'static str) -> Result<Site, Fault> {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.map_err(|error| Fault::new("no port", "127.0.0.1", error, "try again"))?.port();
        let url = format!("http://127.0.0.1:{port}");
        let (home, program) = (home.to_owned(), program.to_owned());
        let mut site = Site { region, url, home, program, port, peer: None, child: None };
        for dir in [site.data(), site.out()] {
            std::fs::create_dir_all(&dir).map_err(|error| Fault::write(&dir, error))?;
        }
        site.start()?;
        site.stop();
        for name in ["kek", "log.key", "mirror.key", "region.vkey"] {
            let (from, to) = (site.data().join("keys").join(name), site.kept().join(name));
            copy(&from, &to).map_err(|error| Fault::write(&to, error))?;
        }
        Ok(site)
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.home.join(self.region)
    }

    /// Where it ships to.
    pub fn out(&self) -> PathBuf {
        self.home.join(format!("out-{}", self.region))
    }

    /// Where what it ships arrives.
    pub fn arrived(&self) -> PathBuf {
        self.home.join(format!("in-{}", self.region))
    }

    /// Copies of its keys.
    pub fn kept(&self) -> PathBuf {
        self.home.join(format!("keys-{}", self.region))
    }

    /// From its next start on it takes the other one in.
    pub fn meet(&mut self, other: &Site) -> Result<(), Fault> {
        let dir = other.arrived();
        std::fs::create_dir_all(&dir).map_err(|error| Fault::write(&dir, error))?;
        let vkey = other.kept().join("region.vkey");
        self.peer = Some(format!("{} {} {}", other.region, dir.display(), vkey.display()));
        Ok(())
    }

    /// Starts it and waits until it takes submissions.
    pub fn start(&mut self) -> Result<(), Fault> {
        let log = self.home.join(format!("{}.log", self.region));
        let output = File::create(&log).map_err(|error| Fault::write(&log, error))?;
        let errors = output.try_clone().map_err(|error| Fault::write(&log, error))?;
        let mut command = Command::new(&self.program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let (data, out) = (self.data(), self.out());
        command.env("FLK_DATA_DIR", &data).env("FLK_REGIONS_PLACE", &out);
        command.env("FLK_REGION", self.region).env("FLK_REGIONS_PEERS", self.peer.as_deref().unwrap_or(""));
        command.env("FLK_HTTP_HOST", "127.0.0.1").env("FLK_HTTP_PORT", self.port.to_string());
        command
            .env("FLK_ADMIN_TOKEN", TOKEN)
            .env("FLK_DEV_ALLOW_UNSIGNED", "true")
            .env("FLK_AUTH_ALG", "none");
        command.env("FLK_SEGMENT_BYTES", SEGMENT_BYTES.to_string()).env("FLK_RATE", "0");
        command.env("FLK_ATTEST_IDLE_MS", "100").env("FLK_LOG", "warn");
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command
            .spawn()
            .map_err(|error| Fault::new("cannot start", self.program.display(), error, "give --flkd FILE"))?;
        let child = self.child.insert(child);
        let end = Instant::now() + START;
        while !ready(&self.url) {
            let ended = child.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() >= end {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                let last = said.lines().last().unwrap_or("it said nothing").to_owned();
                return Err(Fault::new(
                    "a region does not start",
                    self.region,
                    last,
                    "see why with flkd --print-config",
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// As when the machine is gone.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Its disks are gone, too, and the place that it shipped to.
    pub fn lose(&mut self) -> Result<(), Fault> {
        self.stop();
        for dir in [self.data(), self.out()] {
            std::fs::remove_dir_all(&dir).map_err(|error| Fault::write(&dir, error))?;
        }
        Ok(())
    }

    /// What it needs to go on after its log was restored: keys, and a place with what had arrived of it.
    pub fn equip(&self) -> Result<(), Fault> {
        let bad = |error: std::io::Error| Fault::write(&self.data(), error);
        for name in ["kek", "log.key", "mirror.key"] {
            copy(&self.kept().join(name), &self.data().join("keys").join(name)).map_err(bad)?;
        }
        for kind in ["chunks", "bills", "mirrors"] {
            let (from, to) =
                (self.arrived().join(self.region).join(kind), self.out().join(self.region).join(kind));
            for name in names(&from).map_err(bad)? {
                copy(&from.join(&name), &to.join(&name)).map_err(bad)?;
            }
        }
        Ok(())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether the node at an address takes submissions.
pub fn ready(url: &str) -> bool {
    let client = Client::new(url, Duration::from_secs(2));
    client.is_ok_and(|mut client| client.get("/readyz").is_ok_and(|answer| answer.status == 200))
}

/// What a node says of its regions; `Null` if it says nothing.
pub fn regions(client: &mut Client) -> Value {
    let token = format!("Bearer {TOKEN}");
    let answer = client.request("GET", "/v1/cluster", &[("authorization", &token)], &[]);
    answer.map_or(Value::Null, |answer| answer.json()["group"]["regions"].clone())
}
