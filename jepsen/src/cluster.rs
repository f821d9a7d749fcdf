//! Three hosts, each with a network namespace, a disk of its own and one flkd.

use crate::disk::Disk;
use crate::http::Client;
use crate::net::{self, Net};
use crate::pcs;
use crate::tool::{self, Said};
use std::fs::{File, OpenOptions};
use std::io::{Error, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Hosts with a node.
pub const HOSTS: usize = 3;
/// Names for which there are certificates: the first nodes, and those that replace them.
pub const NAMES: u64 = 64;
/// Bearer tokens of a run; it is over before anybody could use them.
pub const TOKEN: &str = "jepsen";
/// Longest wait for one thing that a node does by itself.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long an operator tries to take a node in.
const TAKE_IN: Duration = Duration::from_secs(15);
/// Submissions a second of the tenant with a small quota, and the size of its bucket.
pub const QUOTA: (u64, u64) = (20, 40);

const HTTP: u16 = 8080;
const PEER: u16 = 7000;

/// One host.
pub struct Host {
    /// Number of the host, 1 and up.
    pub number: usize,
    /// Its disk.
    pub disk: Disk,
    /// Whether its directory is not what a node left, but what a fault made of it.
    pub spoiled: AtomicBool,
    name: AtomicU64,
    child: Mutex<Option<Child>>,
}

/// What a group that is a region of several has beside.
pub struct Region {
    /// Its name.
    pub name: &'static str,
    /// Where it ships its log to.
    pub place: PathBuf,
    /// The other regions, as `regions.peers` says them; not known before all have keys.
    pub peers: OnceLock<String>,
}

/// The group.
pub struct Cluster {
    /// The hosts, by number.
    pub hosts: Vec<Host>,
    /// The region, if there are several.
    pub region: Option<Region>,
    /// What joins them.
    pub net: Net,
    bins: PathBuf,
    out: PathBuf,
    clock: Option<PathBuf>,
    names: AtomicU64,
    founded: AtomicBool,
}

/// The library that gives a process a wall clock of its own, if the machine has it.
pub fn faketime() -> Option<PathBuf> {
    let places = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    places.map(|place| place.join("faketime/libfaketime.so.1")).find(|library| library.is_file())
}

/// Where a host answers clients.
pub fn http(host: usize) -> SocketAddr {
    SocketAddr::from((net::address(host), HTTP))
}

impl Host {
    /// Name of the node that lives here.
    pub fn name(&self) -> u64 {
        self.name.load(Ordering::SeqCst)
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.disk.path(&format!("node-{}", self.name()))
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its process is there.
    pub fn runs(&self) -> bool {
        self.child().as_mut().is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_none()))
    }

    /// Sends a signal to its process; whether there was one.
    pub fn signal(&self, signal: libc::c_int) -> bool {
        let mut child = self.child();
        let Some(child) = child.as_mut() else { return false };
        if !child.try_wait().is_ok_and(|status| status.is_none()) {
            return false;
        }
        // SAFETY: kill takes two integers; the child has not been reaped, so its number still names it.
        unsafe { libc::kill(child.id() as libc::pid_t, signal) == 0 }
    }

    /// `kill -9`, and the end of the process; whether there was one.
    pub fn kill(&self) -> bool {
        let ran = self.signal(libc::SIGKILL);
        if let Some(mut child) = self.child().take() {
            let _ = child.wait();
        }
        ran
    }

    /// SIGTERM and its end; whether it ended by itself and said success.
    pub fn stop(&self, patience: Duration) -> bool {
        self.signal(libc::SIGTERM);
        let end = Instant::now() + patience;
        while self.runs() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        if self.runs() {
            self.kill();
            return false;
        }
        self.child().take().is_some_and(|mut child| child.wait().is_ok_and(|status| status.success()))
    }

    /// A client of this host.
    pub fn client(&self, patience: Duration) -> Client {
        Client::new(http(self.number), patience)
    }

    /// A number without labels on its node's page of metrics, if it answers.
    pub fn metric(&self, name: &str) -> Option<u64> {
        let page = self.client(Duration::from_secs(1)).get("/metrics").ok()?.text();
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    }

    /// Whether its node takes submissions.
    pub fn ready(&self) -> bool {
        self.client(Duration::from_secs(1)).get("/readyz").is_ok_and(|answer| answer.status == 200)
    }
}

impl Cluster {
    /// Disks, keys, certificates and a group of three.
    ///
    /// # Errors
    /// What the machine lacks, or which node did not start.
    pub fn start(net: Net, bins: &Path, out: &Path, fake_clock: bool) -> Result<Cluster, String> {
        Cluster::start_at(1, None, net, bins, out, fake_clock)
    }

    /// The same on hosts from `first` on.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn start_at(
        first: usize,
        region: Option<Region>,
        net: Net,
        bins: &Path,
        out: &Path,
        fake_clock: bool,
    ) -> Result<Cluster, String> {
        let host = |number| {
            let disk = Disk::mount(&bins.join("lossyfs"), &out.join(format!("disk-{number}")))?;
            Ok(Host {
                number,
                disk,
                spoiled: AtomicBool::new(false),
                name: AtomicU64::new(number as u64),
                child: Mutex::new(None),
            })
        };
        let hosts = (first..first + HOSTS).map(host).collect::<Result<Vec<Host>, String>>()?;
        let clock = if fake_clock { faketime() } else { None };
        let names = AtomicU64::new(HOSTS as u64);
        let cluster = Cluster {
            hosts,
            region,
            net,
            bins: bins.to_owned(),
            out: out.to_owned(),
            clock,
            names,
            founded: AtomicBool::new(false),
        };
        cluster.prepare().map_err(|error| format!("{}: {error}", out.display()))?;
        let names: Vec<String> = (1..=NAMES).map(|name| name.to_string()).collect();
        let certs = cluster.out.join("certs");
        let said = cluster.flk(&["cluster", "certs", text(&certs), "--nodes", &names.join(",")])?;
        if said.code != Some(0) {
            return Err(format!("flk cluster certs: {}", said.brief()));
        }
        cluster.launch(first)?;
        cluster.wait(first)?;
        let key = cluster
            .host(first)
            .client(PATIENCE)
            .get(&format!("/tlog/{}/vkey", cluster.region_name()))
            .map_err(|silence| silence.to_string())?;
        std::fs::write(cluster.vkey(), key.body).map_err(|error| error.to_string())?;
        cluster.founded.store(true, Ordering::SeqCst);
        for host in first + 1..first + HOSTS {
            cluster.share_mirror(host).map_err(|error| format!("keys of host {host}: {error}"))?;
            cluster.launch(host)?;
            cluster.take_in(host)?;
            cluster.wait(host)?;
        }
        Ok(cluster)
    }

    /// Name of the region.
    pub fn region_name(&self) -> &'static str {
        self.region.as_ref().map_or("default", |region| region.name)
    }

    /// Numbers of its hosts.
    pub fn numbers(&self) -> Vec<usize> {
        self.hosts.iter().map(|host| host.number).collect()
    }

    /// All nodes of a region cosign with one key, which whoever joins is given.
    fn share_mirror(&self, host: usize) -> std::io::Result<()> {
        if self.region.is_none() {
            return Ok(());
        }
        let data = self.host(host).data();
        let (keys, key) = (data.join("keys"), data.join("keys/mirror.key"));
        std::fs::create_dir_all(&keys)?;
        std::fs::copy(self.hosts[0].data().join("keys/mirror.key"), &key)?;
        // What is not synced goes with the power.
        File::open(&key)?.sync_all()?;
        sync(&keys)?;
        sync(&data)?;
        data.parent().map_or(Ok(()), sync)
    }

    fn prepare(&self) -> std::io::Result<()> {
        let (rate, burst) = QUOTA;
        let mut tables = String::from("[tenants]\nmulti = true\n");
        for (nth, tenant) in pcs::TENANTS.iter().enumerate() {
            let key = pcs::secret(nth);
            let (rate, burst) = if *tenant == "t3" { (rate, burst) } else { (0, 0) };
            tables += &format!(
                "\n[[tenant]]\nid = \"{tenant}\"\nalg = \"hmac\"\nkey = \"{key}\"\nrate_per_s = {rate}\nburst = {burst}\n"
            );
        }
        std::fs::write(self.out.join("flkd.toml"), tables)?;
        std::fs::write(self.out.join("token"), TOKEN)?;
        std::fs::create_dir_all(self.out.join("keys"))?;
        self.hosts.iter().try_for_each(|host| self.set_clock(host.number, 0))
    }

    /// The host with this number.
    pub fn host(&self, number: usize) -> &Host {
        &self.hosts[number - self.hosts[0].number]
    }

    /// Whether the nodes have wall clocks of their own.
    pub fn has_clocks(&self) -> bool {
        self.clock.is_some()
    }

    /// Moves a node's wall clock this many seconds away from the machine's.
    ///
    /// # Errors
    /// When the file that says so cannot be written.
    pub fn set_clock(&self, host: usize, seconds: i64) -> std::io::Result<()> {
        // Written beside and renamed, so that no half of it is ever read.
        let (file, beside) = (self.clock_file(host), self.out.join(format!("clock-{host}.new")));
        std::fs::write(&beside, format!("{seconds:+}s\n"))?;
        std::fs::rename(beside, file)
    }

    fn clock_file(&self, host: usize) -> PathBuf {
        self.out.join(format!("clock-{host}"))
    }

    /// Where a host's node writes its log lines.
    pub fn log(&self, host: usize) -> PathBuf {
        self.out.join(format!("flkd-{host}.log"))
    }

    fn peer(host: usize) -> String {
        format!("{}:{PEER}", net::address(host))
    }

    /// Starts the node of a host without waiting for it.
    ///
    /// # Errors
    /// When the process cannot be made.
    pub fn launch(&self, number: usize) -> Result<(), String> {
        let host = self.host(number);
        if host.runs() {
            return Ok(());
        }
        let name = host.name();
        let certs = self.out.join("certs");
        let broken = |error: Error| format!("flkd on host {number}: {error}");
        let log = OpenOptions::new().create(true).append(true).open(self.log(number)).map_err(broken)?;
        let mut command = Command::new(self.bins.join("flkd"));
        command.arg("--config").arg(self.out.join("flkd.toml"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let mut set = |name: &str, value: String| {
            command.env(name, value);
        };
        set("FLK_DATA_DIR", text(&host.data()).to_owned());
        set("FLK_KEK_FILE", text(&self.out.join("keys/kek")).to_owned());
        set("FLK_LOG_KEY_FILE", text(&self.out.join("keys/log.key")).to_owned());
        set("FLK_NODE_ID", name.to_string());
        set("FLK_HTTP_PORT", HTTP.to_string());
        set("FLK_CLUSTER_LISTEN", Cluster::peer(number));
        set("FLK_CLUSTER_CA_FILE", text(&certs.join("ca.pem")).to_owned());
        set("FLK_CLUSTER_CERT_FILE", text(&certs.join(format!("node-{name}.pem"))).to_owned());
        set("FLK_CLUSTER_KEY_FILE", text(&certs.join(format!("node-{name}.key"))).to_owned());
        set("FLK_ADMIN_TOKEN", TOKEN.to_owned());
        set("FLK_AUDIT_TOKEN", TOKEN.to_owned());
        // Small, so that a minute crosses many segments, snapshots, attestations and passes of the scrubber.
        set("FLK_SEGMENT_BYTES", (512 << 10).to_string());
        set("FLK_SNAPSHOT_RECORDS", "2000".to_owned());
        set("FLK_ATTEST_IDLE_MS", "100".to_owned());
        // Between regions nothing rots, and six nodes that read their logs all the time would leave no time for anything else.
        set("FLK_SCRUB_EVERY_MS", if self.region.is_some() { "60000" } else { "2000" }.to_owned());
        set("FLK_SCRUB_BYTES_PER_S", (64 << 20).to_string());
        if let Some(region) = &self.region {
            set("FLK_REGION", region.name.to_owned());
            set("FLK_REGIONS_PLACE", text(&region.place).to_owned());
            region.peers.get().into_iter().for_each(|peers| set("FLK_REGIONS_PEERS", peers.clone()));
        }
        // Only a group that is not there yet is founded; with an empty disk the founder must not found another.
        if self.founded.load(Ordering::SeqCst) {
            let others = self.hosts.iter().filter(|other| other.number != number);
            let seeds: Vec<String> =
                others.map(|other| format!("{}={}", other.name(), Cluster::peer(other.number))).collect();
            set("FLK_CLUSTER_JOIN", seeds.join(","));
        }
        if let Some(library) = &self.clock {
            set("LD_PRELOAD", text(library).to_owned());
            set("FAKETIME_TIMESTAMP_FILE", text(&self.clock_file(number)).to_owned());
            set("FAKETIME_CACHE_DURATION", "1".to_owned());
            // Elections and deadlines follow the clock that nobody sets.
            set("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned());
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(broken)?).stderr(log);
        let space = self.net.space(number).as_raw_fd();
        let enter = move || {
            // SAFETY: setns takes two integers; the descriptor stays open as long as the network lives.
            match unsafe { libc::setns(space, libc::CLONE_NEWNET) } {
                0 => Ok(()),
                _ => Err(Error::last_os_error()),
            }
        };
        // SAFETY: enter makes one system call and allocates nothing.
        unsafe { command.pre_exec(enter) };
        *host.child() = Some(command.spawn().map_err(broken)?);
        Ok(())
    }

    /// Waits until a node takes submissions, and starts it again if it ended: a failed disk ends it on purpose.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait(&self, host: usize) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        while !self.host(host).ready() {
            if Instant::now() >= end || !self.host(host).runs() {
                let log = std::fs::read_to_string(self.log(host)).unwrap_or_default();
                let last = log.lines().next_back().unwrap_or("it wrote nothing");
                return Err(format!("node {} is not ready: {last}", self.host(host).name()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Takes the node of a host into the group as a voter; asks the others in turn, as an operator does.
    ///
    /// # Errors
    /// What the command said last.
    pub fn take_in(&self, host: usize) -> Result<(), String> {
        let (name, peer) = (self.host(host).name().to_string(), Cluster::peer(host));
        let end = Instant::now() + TAKE_IN;
        let mut why = "no other node runs".to_owned();
        loop {
            for other in self.hosts.iter().filter(|other| other.number != host && other.runs()) {
                let said = self.ask(other.number, &["add", &name, &peer, "--voter"])?;
                if said.code == Some(0) {
                    return Ok(());
                }
                why = said.brief();
            }
            if Instant::now() >= end {
                return Err(why);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// `flk cluster`, asked of one host.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn ask(&self, host: usize, arguments: &[&str]) -> Result<Said, String> {
        let (url, token) = (format!("http://{}", http(host)), self.out.join("token"));
        let options = ["--url", &url, "--token-file", text(&token), "--json"];
        self.flk(&[&["cluster"], arguments, &options].concat())
    }

    /// Whether there is a name left for a new node.
    pub fn has_names(&self) -> bool {
        self.names.load(Ordering::SeqCst) < NAMES
    }

    /// Name of the next node that has never been.
    pub fn rename(&self, host: usize) -> Option<u64> {
        let name = self.names.fetch_add(1, Ordering::SeqCst) + 1;
        (name <= NAMES).then(|| {
            self.host(host).name.store(name, Ordering::SeqCst);
            name
        })
    }

    /// Host of the node that leads, as the others see it.
    pub fn leader(&self) -> Option<usize> {
        let token = format!("Bearer {TOKEN}");
        let mut best: Option<(u64, u64)> = None;
        for host in self.hosts.iter().filter(|host| host.runs()) {
            let mut client = host.client(Duration::from_millis(500));
            let Ok(answer) = client.send("GET", "/v1/cluster", &[("Authorization", &token)], b"") else {
                continue;
            };
            let Ok(page) = serde_json::from_slice::<serde_json::Value>(&answer.body) else { continue };
            let seen = page["asked"]["term"].as_u64().zip(page["asked"]["leader"].as_u64());
            best = best.max(seen);
        }
        let (_, name) = best?;
        self.hosts.iter().find(|host| host.name() == name).map(|host| host.number)
    }

    /// The public key of the log, as the group shows it.
    pub fn vkey(&self) -> PathBuf {
        self.out.join("log.vkey")
    }

    /// The directory of this run.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// `worm` with arguments.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn worm(&self, arguments: &[&str]) -> Result<Said, String> {
        tool::run(&self.bins.join("worm"), arguments, PATIENCE)
    }

    /// `flk` with arguments.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn flk(&self, arguments: &[&str]) -> Result<Said, String> {
        tool::run(&self.bins.join("flk"), arguments, PATIENCE)
    }
}

/// A path of this program, which are all text.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("paths of a run are text")
}

/// Syncs a directory's names.
pub fn sync(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Says something to whoever watches.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
