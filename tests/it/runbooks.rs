//! The runbooks as they are written: each page's own commands, run against real processes.
//!
//! A page's blocks marked `sh` are run one after the other by a shell; `exit=N` beside the mark is the code that a block
//! ends with. What an operator does between them without a command (enlarging a volume) the test does. Units are
//! started and stopped by a `systemctl` of ours, which knows nothing but that.

use crate::bins;
use crate::load::{Acked, Load, insist_all_present};
use crate::lossy::mount;
use crate::node::{Node, Start};
use crate::pcs::{SECRET, submission};
use crate::ports;
use crate::trio::{Group, number, text, until};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Starts and stops units as a service manager does. Settings stand in `N.env`, the process in `N.pid`.
const SYSTEMCTL: &str = r#"#!/bin/bash
set -eu
node=${2#flkd@}
unit="$UNITS/$node"
stop() {
    kill -TERM "$(cat "$unit.pid")"
    while [ -d "/proc/$(cat "$unit.pid")" ] && ! grep -q '^State:.Z' "/proc/$(cat "$unit.pid")/status"; do sleep 0.05; done
}
start() {
    readarray -t settings < "$unit.env"
    env -i "PATH=$PATH" "${settings[@]}" setsid flkd >> "$unit.log" 2>&1 < /dev/null &
    echo $! > "$unit.pid"
}
case $1 in
    start) start ;;
    stop) stop ;;
    restart) stop; start ;;
    *) echo "systemctl: $1?" >&2; exit 1 ;;
esac
"#;

/// The commands of one page, and the machines they are run on.
pub struct Page {
    blocks: std::vec::IntoIter<(i32, String)>,
    name: &'static str,
    units: PathBuf,
    environment: BTreeMap<String, String>,
}

/// The blocks of a page that are marked `sh`, with the code that each ends with.
pub fn blocks(page: &str) -> Vec<(i32, String)> {
    let (mut out, mut open): (Vec<(i32, String)>, bool) = (Vec::new(), false);
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(_) if open => open = false,
            Some(mark) if mark == "sh" || mark.starts_with("sh ") => {
                let code = mark.strip_prefix("sh exit=").map_or(0, |code| code.parse().expect("a number"));
                out.push((code, String::new()));
                open = true;
            }
            Some(mark) => panic!("a block marked {mark:?} would not be run"),
            None if open => {
                let (_, commands) = out.last_mut().expect("it was opened");
                commands.push_str(line);
                commands.push('\n');
            }
            None => {}
        }
    }
    assert!(!open && !out.is_empty(), "the page has commands, and its blocks end");
    out
}

impl Page {
    /// A page, about a group. The nodes that run are units from now on; nodes 4 and 5 are units that were never started.
    fn open(name: &'static str, group: &Group) -> Page {
        let here = group.directory.path();
        let mut page = Page::at(name, here);
        for node in 1..=3 {
            page.unit(&node.to_string(), &group.command(node), group.ports[&node].0);
        }
        let spare = [4, 5].map(|node| (node, ports::free(), ports::free()));
        for (node, http, peer) in spare {
            page.unit(&node.to_string(), &group.command_at(node, http, peer), http);
            page.set(&format!("ADDRESS{node}"), &peer.to_string());
        }
        page.set("CERTS", text(&here.join("certs")));
        page.set("FLK_URL", &format!("http://{}", group.ports[&1].0));
        for (node, running) in &group.nodes {
            page.runs(&node.to_string(), running);
        }
        page
    }

    /// A page whose machines have their directories here.
    pub fn at(name: &'static str, here: &Path) -> Page {
        let path = bins::root().join("docs/runbooks").join(name);
        let page = std::fs::read_to_string(&path).expect("the page");
        let units = here.join("units");
        std::fs::create_dir(&units).expect("a directory");
        std::fs::create_dir_all(here.join("data")).expect("a directory");
        let systemctl = units.join("systemctl");
        std::fs::write(&systemctl, SYSTEMCTL).expect("a script");
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&systemctl, std::fs::Permissions::from_mode(0o755)).expect("a mode");
        let programs = bins::path("flk").parent().expect("a directory").to_owned();
        let path = std::env::var("PATH").unwrap_or_default();
        let environment = BTreeMap::new();
        let mut page = Page { blocks: blocks(&page).into_iter(), name, units, environment };
        page.set("PATH", &format!("{}:{}:{path}", text(&page.units), text(&programs)));
        page.set("UNITS", text(&page.units.clone()));
        page.set("DATA", text(&here.join("data")));
        page.set("FLK_ADMIN_TOKEN", "operator");
        // What the node's own configuration says, for the page that runs `flkd` by hand.
        page.set("FLK_HMAC_KEY", SECRET);
        page.set("NO_COLOR", "1");
        page
    }

    /// Another word of the page.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    /// A unit, and where its directory is in the page's words.
    pub fn unit(&mut self, unit: &str, start: &Start, http: SocketAddr) {
        let settings = start.settings.iter().cloned().collect::<BTreeMap<_, _>>();
        let lines: String = settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        let data = self.units.parent().expect("a directory").join("data").join(unit);
        if start.data.exists() {
            std::os::unix::fs::symlink(&start.data, &data).expect("a link");
        }
        std::fs::write(
            self.units.join(format!("{unit}.env")),
            format!("{lines}FLK_DATA_DIR={}\n", text(&data)),
        )
        .expect("a file");
        let name =
            if unit.parse::<u64>().is_ok() { unit.to_owned() } else { format!("_{}", unit.to_uppercase()) };
        self.set(&format!("URL{name}"), &format!("http://{http}"));
    }

    /// The unit runs already.
    pub fn runs(&self, unit: &str, node: &Node) {
        std::fs::write(self.units.join(format!("{unit}.pid")), node.process.id().to_string())
            .expect("a file");
    }

    /// Runs the next block, which must end as the page says.
    pub fn run(&mut self) -> String {
        let (code, commands) =
            self.blocks.next().unwrap_or_else(|| panic!("{} has no more commands", self.name));
        // The longest wait on a page; a page that waits for ever is wrong.
        let output = Command::new("timeout")
            .args(["120", "bash", "-euo", "pipefail", "-c", &commands])
            .env_clear()
            .envs(&self.environment)
            .current_dir(&self.units)
            .stdin(Stdio::null())
            .output()
            .expect("a shell");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(code), "{}: {commands}\n{said}\n{}", self.name, self.logs());
        said
    }

    /// Runs what is left.
    pub fn run_all(&mut self) {
        while self.blocks.len() > 0 {
            self.run();
        }
    }

    fn logs(&self) -> String {
        let logs = std::fs::read_dir(&self.units).into_iter().flatten().flatten();
        let logs = logs.filter(|entry| entry.path().extension().is_some_and(|end| end == "log"));
        logs.map(|entry| std::fs::read_to_string(entry.path()).unwrap_or_default()).collect()
    }

    fn metric(&self, group: &Group, node: u64, name: &str) -> u64 {
        number(&group.nodes[&node].get("/metrics").text(), name)
    }
}

impl Drop for Page {
    /// Units end with their page. Those that the group started end with the group.
    fn drop(&mut self) {
        for entry in std::fs::read_dir(&self.units).into_iter().flatten().flatten() {
            let pid = std::fs::read_to_string(entry.path())
                .ok()
                .filter(|_| entry.path().extension().is_some_and(|end| end == "pid"));
            let Some(pid) = pid.and_then(|pid| pid.trim().parse::<i32>().ok()) else { continue };
            // The number may be another's by now: only a process of this page has its units in its environment.
            let mine =
                std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"flkd"));
            if mine {
                // SAFETY: kill takes two integers and touches no memory of ours.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
        assert!(self.blocks.len() == 0 || std::thread::panicking(), "{}: not all was run", self.name);
    }
}

/// A group with something in it.
fn busy(group: &Group) -> Vec<Acked> {
    let load = Load::start(group.nodes[&1].address, 6, &Arc::new(AtomicU64::new(0)));
    load.wait_for(300);
    load.end()
}

#[test]
fn a_page_is_read_as_it_is_written() {
    let page = "text\n```sh exit=6\na\nb\n```\nmore\n```sh\nc\n```\n";
    assert_eq!(blocks(page), [(6, "a\nb\n".to_owned()), (0, "c\n".to_owned())]);
}

#[test]
fn every_alert_names_a_page_that_is_there() {
    let alerts =
        std::fs::read_to_string(bins::root().join("deploy/prometheus/alerts.yml")).expect("the alerts");
    let pages: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("runbook: ")).collect();
    assert!(pages.len() >= 10, "{pages:?}");
    for page in pages {
        assert!(bins::root().join(page).is_file(), "{page} is missing");
    }
}

#[test]
fn lost_node() {
    let mut group = Group::of(3);
    let acked = busy(&group);
    let mut page = Page::open("lost-node.md", &group);
    group.nodes.remove(&3).expect("it runs").kill();
    std::fs::remove_dir_all(group.data(3)).expect("its disk is gone");
    until("the leader misses it", || group.cluster(&["status"]).code == Some(6));
    let said = page.run();
    assert!(said.contains("node 3"), "{said}");
    page.run_all();
    insist_all_present(&group.nodes[&2], &acked);
    assert_eq!(group.nodes[&2].submit(&submission(1 << 40).body).status, 200);
}

#[test]
fn divergence() {
    let mut group = Group::of(3);
    let acked = busy(&group);
    if group.leader() == 3 {
        assert_eq!(group.cluster(&["transfer", "1"]).code, Some(0));
    }
    let mut page = Page::open("divergence.md", &group);
    crate::divergence::wait_for_records(&group.nodes[&3], 30);
    group.nodes.remove(&3).expect("it runs").kill();
    let record = crate::divergence::rewrite_one_record(&group.data(3));
    let halted = group.start_alive(3);
    std::fs::write(page.units.join("3.pid"), halted.process.id().to_string()).expect("a file");
    until("it halts", || number(&halted.get("/metrics").text(), "flk_divergence_lsn") > 0);
    let said = page.run();
    assert!(said.contains("DIFFERENT"), "{said}");
    let said = page.run();
    assert!(said.contains(&format!("the logs part at record {record}")), "{said}");
    page.run_all();
    insist_all_present(&group.nodes[&2], &acked);
}

#[test]
fn lost_quorum() {
    let mut group = Group::of(3);
    let acked = busy(&group);
    group.insist_equal();
    let mut page = Page::open("lost-quorum.md", &group);
    for node in [2, 3] {
        group.nodes.remove(&node).expect("it runs").kill();
        std::fs::remove_dir_all(group.data(node)).expect("its disk is gone");
    }
    // A leader without a quorum does not say for long that it leads.
    until("nobody leads", || page.metric(&group, 1, "flk_raft_leads") == 0);
    assert_eq!(group.nodes[&1].get("/readyz").status, 503);
    until("both are missed", || group.cluster(&["status"]).out.contains("2 of 3 voters are away"));
    page.run();
    let said = page.run();
    assert!(said.contains("LOST: "), "{said}");
    page.run_all();
    let node = Node { process: group.nodes.remove(&1).expect("it ran").process, address: group.ports[&1].0 };
    // All of it is there, in the same places, and whoever kept an answer gets the same one.
    insist_all_present(&node, &acked);
    let again = node.submit(&acked[0].submission.body);
    assert_eq!((again.status, again.text()), (200, acked[0].answer.text()));
    assert_eq!(node.submit(&submission(1 << 40).body).status, 200);
}

#[test]
fn rot() {
    let Some(disk) = mount() else { return };
    let settings = [
        ("FLK_SEGMENT_BYTES", "262144".to_owned()),
        ("FLK_SCRUB_BYTES_PER_S", "1073741824".to_owned()),
        ("FLK_SCRUB_EVERY_MS", "50".to_owned()),
    ];
    let group = Group::with(3, BTreeMap::from([(3, disk.path("data"))]), &settings);
    let load = Load::start(group.nodes[&2].address, 4, &Arc::new(AtomicU64::new(0)));
    let mut page = Page::open("rot.md", &group);
    let metric = |name: &str| number(&group.nodes[&3].get("/metrics").text(), name);
    until("a segment is sealed and read again", || metric("flk_scrub_bytes_total") >= 262_144);
    let acked = load.end();
    disk.order("rot data/log/00000000000000000001.seg 40000 16");
    until("it is found and repaired", || metric("flk_repairs_done_total") == 1);
    until("nothing is damaged any more", || metric("flk_scrub_damage") == 0);
    let said = page.run();
    assert!(said.contains("repairs: 1 since its start"), "{said}");
    page.run_all();
    insist_all_present(&group.nodes[&2], &acked);
}

#[test]
fn slow_disk() {
    let Some(disk) = mount() else { return };
    let mut group = Group::with(
        3,
        BTreeMap::from([(1, disk.path("data"))]),
        &[("FLK_CLUSTER_SLOW_SYNC_MS", "100".to_owned())],
    );
    let mut page = Page::open("slow-disk.md", &group);
    let load = Load::start(group.nodes[&2].address, 4, &Arc::new(AtomicU64::new(0)));
    disk.order("fsync-delay 150");
    until("it is noticed", || page.metric(&group, 1, "flk_disk_slow") == 1);
    let said = page.run();
    assert!(said.contains("disk: slow"), "{said}");
    page.run();
    disk.order("heal");
    page.run();
    page.run();
    let acked = load.end();
    group.nodes.remove(&1);
    insist_all_present(&group.nodes[&2], &acked);
}

#[test]
fn disk_full() {
    let Some(disk) = mount() else { return };
    let group = Group::at(3, BTreeMap::from([(1, disk.path("data"))]));
    // A leader meets the end of its room before it has anything appended.
    until("it leads", || group.leader() == 1 || group.cluster(&["transfer", "1"]).code == Some(0));
    let mut page = Page::open("disk-full.md", &group);
    let load = Load::start(group.nodes[&2].address, 8, &Arc::new(AtomicU64::new(0)));
    load.wait_for(100);
    disk.order(&format!("capacity {}", disk.tally("used")));
    until("it is full", || page.metric(&group, 1, "flk_disk_full") == 1);
    let said = page.run();
    assert!(said.contains("room: "), "{said}");
    page.run();
    disk.order("heal");
    page.run();
    let acked = load.end();
    insist_all_present(&group.nodes[&1], &acked);
}
