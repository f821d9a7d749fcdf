//! A run that is killed in the middle leaves nothing behind.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for the kernel to end what a run had started.
const PATIENCE: Duration = Duration::from_secs(30);

/// Processes whose command line names this directory.
fn processes_of(directory: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("a /proc").flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(directory)).collect()
}

/// The test harness knows passed and failed only; `tests/run.sh` counts what stands in this file.
fn skip(reason: &str) {
    let line = format!("SKIPPED a_killed_run_leaves_nothing (counts as not run): {reason}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the root").join("target/skipped.txt");
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(list);
    opened.and_then(|mut list| list.write_all(line.as_bytes())).expect("the list of skipped tests");
}

#[test]
fn a_killed_run_leaves_nothing() {
    leaves_nothing("1", "kill", "three nodes are ready", 2);
}

#[test]
fn a_killed_run_with_two_regions_leaves_nothing() {
    leaves_nothing("2", "region-cut", "two regions of three nodes are ready", 5);
}

fn leaves_nothing(regions: &str, fault: &str, said: &str, nodes: usize) {
    let out = std::env::temp_dir().join(format!("jepsen-ends-{regions}-{}", std::process::id()));
    let directory = out.to_str().expect("a text path").to_owned();
    let mut run = Command::new(env!("CARGO_BIN_EXE_jepsen"))
        .args(["run", "--seconds", "600", "--regions", regions, "--nemesis", fault, "--out", &directory])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let lines = BufReader::new(run.stdout.take().expect("piped")).lines();
    let ready = lines.map_while(Result::ok).any(|line| line == said);
    if !ready {
        let status = run.wait().expect("its end");
        assert_eq!(status.code(), Some(2), "it neither began nor said that it cannot");
        return skip("this machine lacks what a run needs; jepsen run says what");
    }
    let before = processes_of(&directory);
    assert!(before.iter().filter(|line| line.contains("flkd")).count() >= nodes, "{before:#?}");
    run.kill().expect("it runs");
    run.wait().expect("its end");
    let end = Instant::now() + PATIENCE;
    while !processes_of(&directory).is_empty() {
        assert!(Instant::now() < end, "left behind: {:#?}", processes_of(&directory));
        std::thread::sleep(Duration::from_millis(20));
    }
    let mounts = std::fs::read_to_string("/proc/mounts").expect("the mounts");
    assert!(!mounts.contains(&directory), "a mount is left");
    std::fs::remove_dir_all(&out).expect("only files are left");
}
