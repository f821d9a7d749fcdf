//! P6's references: Redis, PostgreSQL and etcd from Debian's packages, each durable per answer, each asked to create
//! a key if it is absent.

use crate::bodies::{Bodies, Signer};
use crate::context::{Context, remove};
use crate::load::{self, Outcome, Plan, Protocol, etcd, postgres, redis};
use crate::process::{Server, free_port, tied};
use crate::stats::Sample;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A store that can be started and driven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Store {
    Redis,
    Postgres,
    Etcd,
}

impl Store {
    pub fn name(self) -> &'static str {
        match self {
            Store::Redis => "Redis SETNX, appendfsync always",
            Store::Postgres => "PostgreSQL INSERT .. ON CONFLICT DO NOTHING, synchronous_commit on",
            Store::Etcd => "etcd create-if-absent transaction",
        }
    }
}

/// A running store with its data directory.
pub struct Running {
    server: Option<Server>,
    store: Store,
    dir: PathBuf,
    runs: u64,
    addr: SocketAddr,
}

/// Starts `store` with an empty data directory.
pub fn start(context: &Context, store: Store) -> io::Result<Running> {
    let name = format!("{store:?}").to_lowercase();
    let dir = context.fresh(&name)?;
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let log = context.dir.join(format!("{name}.log"));
    let mut command = match store {
        Store::Redis => redis_command(&dir, addr.port()),
        Store::Postgres => postgres_command(&dir, addr.port())?,
        Store::Etcd => etcd_command(&dir, addr.port())?,
    };
    let server = Server::start(&name, &mut command, addr, &log)?;
    let running = Running { server: Some(server), store, dir, runs: 0, addr };
    if store == Store::Postgres {
        running.psql("CREATE TABLE submissions (id text PRIMARY KEY, body bytea NOT NULL)")?;
    }
    Ok(running)
}

/// Redis on a directory that may hold an append-only file already.
pub fn redis_command(dir: &Path, port: u16) -> Command {
    let mut command = Command::new("redis-server");
    command.arg("--port").arg(port.to_string()).arg("--dir").arg(dir);
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
    // A rewrite of the file in the middle of a run would be charged to whichever run it falls into.
    command.args(["--auto-aof-rewrite-percentage", "0"]);
    command
}

fn postgres_binary(name: &str) -> io::Result<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map_err(|e| io::Error::new(e.kind(), format!("PostgreSQL's server is not installed: {e}")))?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin").join(name)))
        .filter(|path| path.exists())
        .collect();
    versions.sort();
    versions.pop().ok_or_else(|| io::Error::other(format!("no {name} under /usr/lib/postgresql")))
}

/// The server refuses to run as root, so root lends its directory to the `postgres` user.
fn as_postgres(program: &Path) -> Command {
    // SAFETY: geteuid takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
    command
}

fn quiet(command: &mut Command) -> io::Result<()> {
    let out = tied(command.stdin(Stdio::null())).output()?;
    if out.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&out.stderr).trim())))
}

fn postgres_command(dir: &Path, port: u16) -> io::Result<Command> {
    // SAFETY: geteuid takes nothing and cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        quiet(Command::new("chown").arg("postgres").arg(dir))?;
    }
    let data = dir.join("data");
    quiet(as_postgres(&postgres_binary("initdb")?).current_dir(dir).arg("-D").arg(&data).args([
        "-U",
        "postgres",
        "--auth=trust",
        "-E",
        "UTF8",
        "--no-locale",
    ]))?;
    let mut command = as_postgres(&postgres_binary("postgres")?);
    command.current_dir(dir).arg("-D").arg(&data).arg("-p").arg(port.to_string());
    for setting in [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=300",
        "shared_buffers=512MB",
        "max_wal_size=16GB",
        "checkpoint_timeout=30min",
        "synchronous_commit=on",
        "fsync=on",
        "full_page_writes=on",
        "logging_collector=off",
    ] {
        command.arg("-c").arg(setting);
    }
    Ok(command)
}

fn etcd_command(dir: &Path, port: u16) -> io::Result<Command> {
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", free_port()?));
    let mut command = Command::new("etcd");
    command.arg("--data-dir").arg(dir.join("data"));
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", &format!("default={peer}")]);
    command.args(["--quota-backend-bytes", "8589934592", "--logger", "zap", "--log-level", "error"]);
    Ok(command)
}

impl Running {
    /// Creates a second's keys from `connections` closed-loop connections, one request in flight on each.
    pub fn run(&mut self, connections: usize, seconds: f64) -> io::Result<Sample> {
        self.runs += 1;
        // The same bodies as for us, made while they are sent: a store takes at most some ten thousand a second,
        // so that making them (2 us each) does not slow the one thread of the load generator; for Redis they are
        // made beforehand.
        let mut bodies = Bodies::new(Signer::None, format!("{:?}-{}", self.store, self.runs));
        let mut made = Vec::new();
        if self.store == Store::Redis {
            made = (0..(seconds + 1.0) as usize * 150_000).map(|_| bodies.body()).collect();
        }
        let mut next = || {
            let body = made.pop().unwrap_or_else(|| bodies.body());
            Some((body.id, body.json))
        };
        let plan = Plan {
            addr: self.addr,
            connections,
            warm: Duration::from_millis(1000),
            measure: Duration::from_secs_f64(seconds),
            rate: None,
        };
        fn go<P: Protocol>(plan: &Plan, mut protocol: P) -> io::Result<Outcome> {
            load::drive(plan, &mut protocol)
        }
        match self.store {
            Store::Redis => go(&plan, redis::SetNx::new(&mut next)),
            Store::Postgres => go(&plan, postgres::Inserts::new(&mut next)),
            Store::Etcd => go(&plan, etcd::Creates::new(&mut next)),
        }?
        .sample()
    }

    fn psql(&self, statement: &str) -> io::Result<()> {
        let (host, port) = (self.addr.ip().to_string(), self.addr.port().to_string());
        quiet(Command::new("psql").args(["-h", &host, "-p", &port, "-U", "postgres", "-q", "-c", statement]))
    }

    /// Stops the server and removes its files.
    pub fn finish(mut self) -> io::Result<()> {
        if let Some(server) = self.server.take() {
            server.stop()?;
        }
        remove(&self.dir)
    }
}
