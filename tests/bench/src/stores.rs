//! P6's references: Redis, PostgreSQL and etcd from Debian's packages, each durable per answer, each asked to create
//! a key if it is absent.

use crate::bodies::{Bodies, Signer};
use crate::context::{Context, remove};
use crate::load::{self, Outcome, Plan, Protocol, etcd, postgres, redis};
use crate::process::{Server, free_port, tied};
use crate::stats::Sample;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A store that can be started and driven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Store {
    Redis,
    Postgres,
    Etcd,
    /// Three members, asked at the one that leads.
    EtcdOfThree,
}

impl Store {
    pub fn name(self) -> &'static str {
        match self {
            Store::Redis => "Redis SETNX, appendfsync always",
            Store::Postgres => "PostgreSQL INSERT .. ON CONFLICT DO NOTHING, synchronous_commit on",
            Store::Etcd => "etcd create-if-absent transaction",
            Store::EtcdOfThree => "etcd with three members, create-if-absent transaction",
        }
    }
}

/// A running store with its data directory.
pub struct Running {
    servers: Vec<Server>,
    store: Store,
    dir: PathBuf,
    runs: u64,
    addr: SocketAddr,
}

/// Starts `store` with an empty data directory.
pub fn start(context: &Context, store: Store) -> io::Result<Running> {
    let name = format!("{store:?}").to_lowercase();
    let dir = context.fresh(&name)?;
    let log = context.dir.join(format!("{name}.log"));
    let addr = || Ok::<_, io::Error>(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)));
    let first = addr()?;
    let commands = match store {
        Store::Redis => vec![(first, redis_command(&dir, first.port()))],
        Store::Postgres => vec![(first, postgres_command(&dir, first.port())?)],
        Store::Etcd => etcd_commands(&dir, &[(first, addr()?)]),
        Store::EtcdOfThree => {
            etcd_commands(&dir, &[(first, addr()?), (addr()?, addr()?), (addr()?, addr()?)])
        }
    };
    // Members of a group listen only once they are several.
    let mut servers = Vec::new();
    for (addr, mut command) in commands {
        servers.push(Server::spawn(&name, &mut command, addr, &log)?);
    }
    for server in &mut servers {
        server.listening(&log)?;
    }
    let addr = if store == Store::EtcdOfThree { etcd_leader(&servers)? } else { first };
    let running = Running { servers, store, dir, runs: 0, addr };
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

/// One member for each pair of addresses: for clients, for the other members.
fn etcd_commands(dir: &Path, members: &[(SocketAddr, SocketAddr)]) -> Vec<(SocketAddr, Command)> {
    let all: Vec<String> =
        members.iter().map(|(client, peer)| format!("m{}=http://{peer}", client.port())).collect();
    let command = |(client, peer): &(SocketAddr, SocketAddr)| {
        let name = format!("m{}", client.port());
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(dir.join(&name));
        let (clients, peers) = (format!("http://{client}"), format!("http://{peer}"));
        command.args(["--name", &name, "--initial-cluster", &all.join(",")]);
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--quota-backend-bytes", "8589934592", "--logger", "zap", "--log-level", "error"]);
        (*client, command)
    };
    members.iter().map(command).collect()
}

/// The member that leads, as the members themselves say over etcd's JSON gateway.
fn etcd_leader(servers: &[Server]) -> io::Result<SocketAddr> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        for server in servers {
            let mut socket = TcpStream::connect(server.addr)?;
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(
                socket,
                "POST /v3/maintenance/status HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\
                 connection: close\r\n\r\n{{}}"
            )?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer)?;
            let said = |key: &str| {
                let (_, rest) = answer.split_once(&format!("\"{key}\":\""))?;
                rest.split_once('"').map(|(value, _)| value.to_owned())
            };
            if said("leader").is_some_and(|leader| leader != "0" && Some(leader) == said("member_id")) {
                return Ok(server.addr);
            }
        }
        if Instant::now() > deadline {
            return Err(io::Error::other("no member of etcd leads"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
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
            Store::Etcd | Store::EtcdOfThree => go(&plan, etcd::Creates::new(&mut next)),
        }?
        .sample()
    }

    fn psql(&self, statement: &str) -> io::Result<()> {
        let (host, port) = (self.addr.ip().to_string(), self.addr.port().to_string());
        quiet(Command::new("psql").args(["-h", &host, "-p", &port, "-U", "postgres", "-q", "-c", statement]))
    }

    /// Stops the server and removes its files.
    pub fn finish(self) -> io::Result<()> {
        self.servers.into_iter().try_for_each(Server::stop)?;
        remove(&self.dir)
    }
}
