//! Nodes in containers as docs/GROUP.md describes them: process 1, a user without any capability, a read-only root, a
//! seccomp profile that forbids io_uring, a volume for the data and nothing else to write to.

use crate::bins;
use crate::load::Load;
use crate::lossy::skip;
use crate::node::Start;
use crate::outsiders::tool;
use crate::trio::{Group, number, text};
use serde_json::{Value, json};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A user that is nobody on this machine.
const USER: u32 = 65_532;
/// Where a container sees its volume.
const VOLUME: &str = "/data";

/// The engine's state and the bundles. Containers end with it.
struct Engine {
    runc: PathBuf,
    root: tempfile::TempDir,
}

impl Engine {
    fn run(&self, arguments: &[&str]) -> (bool, String) {
        let state = self.root.path().join("state");
        let done = Command::new(&self.runc).arg("--root").arg(state).args(arguments).output().expect("runc");
        let said = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// The same node, in a container of this name.
    fn contain(&self, name: &str, start: &Start) -> Start {
        let bundle = self.root.path().join(name);
        std::fs::create_dir_all(bundle.join("rootfs")).expect("a directory");
        let config = bundle.join("config.json");
        std::fs::write(&config, config_of(start).to_string()).expect("a bundle");
        own(&start.data);
        let program = bundle.join("run");
        let state = self.root.path().join("state");
        let script = format!(
            "#!/bin/sh\nexec {} --root {} run --bundle {} {name}\n",
            self.runc.display(),
            state.display(),
            bundle.display()
        );
        std::fs::write(&program, script).expect("a script");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("a mode");
        start.clone().by(&program)
    }

    /// The kernel's lines about a container's first process.
    fn status(&self, name: &str) -> String {
        let (ok, said) = self.run(&["state", name]);
        assert!(ok, "{said}");
        let state: Value = serde_json::from_str(&said).expect("a state");
        std::fs::read_to_string(format!("/proc/{}/status", state["pid"])).expect("it runs")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for name in ["node-1", "node-2", "node-3"] {
            let _ = self.run(&["delete", "--force", name]);
        }
    }
}

/// Everything below belongs to the container's user.
fn own(path: &Path) {
    std::fs::create_dir_all(path).expect("a directory");
    chown(path, Some(USER), Some(USER)).expect("root may");
    for entry in std::fs::read_dir(path).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() { own(&path) } else { chown(&path, Some(USER), Some(USER)).expect("root may") }
    }
}

/// What an engine is told of a container (OCI runtime specification 1.0.2).
fn config_of(start: &Start) -> Value {
    let mut environment: Vec<String> =
        start.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    environment.push(format!("FLK_DATA_DIR={VOLUME}"));
    let certs = start.settings.iter().find(|(name, _)| name == "FLK_CLUSTER_CA_FILE").expect("it has peers");
    let certs = Path::new(&certs.1).parent().expect("a directory").to_owned();
    own(&certs);
    let bind = |from: &Path, to: &Path, mode: &str| json!({"source": from, "destination": to, "type": "bind", "options": ["rbind", "nosuid", mode]});
    let flkd = bins::path("flkd");
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false, "user": {"uid": USER, "gid": USER}, "args": ["/bin/flkd"], "env": environment, "cwd": "/",
            "capabilities": {"bounding": [], "effective": [], "permitted": [], "ambient": []},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 4096, "soft": 4096}], "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            bind(&flkd, Path::new("/bin/flkd"), "ro"),
            bind(Path::new("/lib"), Path::new("/lib"), "ro"),
            bind(Path::new("/lib64"), Path::new("/lib64"), "ro"),
            bind(&certs, &certs, "ro"),
            bind(&start.data, Path::new(VOLUME), "rw"),
        ],
        // Ports are this machine's, so that tests find them as they find all others.
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
            "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["io_uring_setup", "io_uring_enter", "io_uring_register"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
            ]},
        },
    })
}

#[test]
fn three_nodes_in_containers_are_a_group_and_stop_in_order() {
    // SAFETY: asks for a number.
    if unsafe { libc::geteuid() } != 0 {
        return skip("containers are made by root");
    }
    let engine = Arc::new(Engine { runc: tool("runc"), root: tempfile::tempdir().expect("a directory") });
    let ours = engine.clone();
    let mut group = Group::wrapped(3, move |node, start| ours.contain(&format!("node-{node}"), &start));
    let leader = group.leader();
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    let (asked, shot) = (others[0], others[1]);
    let load = Load::start(group.nodes[&asked].address, 4, &Arc::new(AtomicU64::new(0)));
    load.wait_for(200);
    for node in 1..=3 {
        let status = engine.status(&format!("node-{node}"));
        let line = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
            value.split_whitespace().last().unwrap_or_default().to_owned()
        };
        assert_eq!(line("NSpid:"), "1", "{status}");
        assert_eq!((line("CapEff:"), line("CapBnd:")), ("0".repeat(16), "0".repeat(16)), "{status}");
        let page = group.nodes[&node].get("/metrics").text();
        let backend = page.lines().find(|line| line.starts_with("flk_io_backend_info{"));
        assert!(backend.is_some_and(|line| line.contains("posix")), "{backend:?}");
    }
    // SIGTERM reaches process 1, which hands over and says that all went well.
    group.nodes.remove(&leader).expect("it runs").stop();
    load.wait_for(load.count() + 100);
    group.start(leader);
    // One that is shot comes back with what it had.
    let (ok, said) = engine.run(&["kill", &format!("node-{shot}"), "KILL"]);
    assert!(ok, "{said}");
    assert!(!group.nodes.remove(&shot).expect("it ran").process.end().success());
    load.wait_for(load.count() + 100);
    group.start(shot);
    let acked = load.end();
    assert!(number(&group.nodes[&shot].get("/metrics").text(), "flk_raft_members") == 3);
    group.insist_equal();
    for node in group.nodes.values() {
        crate::load::insist_all_present(node, &acked);
    }
    std::mem::take(&mut group.nodes).into_values().for_each(crate::node::Node::stop);
    for node in 1..=3 {
        crate::tools::insist_sound(&group.data(node));
        assert!(crate::tools::flk(&["replay", text(&group.data(node))]).code == Some(0));
    }
}
