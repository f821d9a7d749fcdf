//! The series of a scrape that are not counters of ours: read from the log, the group and /proc when they are asked for.

use std::fmt::Write as _;

pub(super) fn info(out: &mut String, name: &str, help: &str, label: &str, value: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name}{{{label}=\"{value}\"}} 1");
}

fn single(out: &mut String, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
}

pub(super) fn log_section(out: &mut String, log: &raft::Metrics, full: bool) {
    info(out, "flk_io_backend_info", "The disk implementation that writes the log.", "backend", log.backend);
    single(out, "flk_log_term", "gauge", "Raft term.", log.term);
    single(out, "flk_log_last_lsn", "gauge", "Newest record, durable or not.", log.last);
    single(out, "flk_log_durable_lsn", "gauge", "Newest record this disk holds for good.", log.durable);
    single(out, "flk_log_committed_lsn", "gauge", "Newest record that is agreed.", log.committed);
    single(out, "flk_log_applied_lsn", "gauge", "Newest record that is folded.", log.applied);
    single(out, "flk_log_sealed_segments", "gauge", "Segments that never change again.", log.sealed);
    single(
        out,
        "flk_log_failed",
        "gauge",
        "1 after a failed write or sync: nothing more is written.",
        u8::from(log.failed),
    );
    let repairs = log.repairs;
    let help = "Repairs of this node's log from the other nodes that were begun.";
    single(out, "flk_repairs_begun_total", "counter", help, repairs.begun);
    let help = "Repairs that ended with a whole segment.";
    single(out, "flk_repairs_done_total", "counter", help, repairs.done);
    let help = "Repairs that ended without one: nobody could help. They are begun again.";
    single(out, "flk_repairs_failed_total", "counter", help, repairs.failed);
    let help = "1 while submissions are refused because the disk is full; it ends by itself.";
    single(out, "flk_disk_full", "gauge", help, u8::from(full));
    let help = "Bytes of records that fit for certain without another segment.";
    single(out, "flk_log_room_bytes", "gauge", help, log.room);
    single(out, "flk_log_records_total", "counter", "Records made durable since the start.", log.frames);
    single(out, "flk_log_bytes_total", "counter", "Payload bytes made durable since the start.", log.bytes);
    let name = "flk_log_sync_seconds";
    let _ = writeln!(out, "# HELP {name} One write and one sync of the log.\n# TYPE {name} histogram");
    let mut sum = 0;
    for (n, count) in log.sync.buckets.iter().enumerate() {
        sum += count;
        let edge = raft::SYNC_EDGES_US.get(n).map_or("+Inf".to_owned(), |us| format!("{}", *us as f64 / 1e6));
        let _ = writeln!(out, "{name}_bucket{{le=\"{edge}\"}} {sum}");
    }
    let _ = writeln!(out, "{name}_sum {}\n{name}_count {sum}", log.sync.total_us as f64 / 1e6);
}

/// The group as this node sees it. L1: a membership names at most 64 nodes.
pub(super) fn group_section(out: &mut String, log: &raft::Metrics, members: &[raft::MemberStanding]) {
    info(out, "flk_raft_role_info", "What this node is in its group.", "role", &log.role.to_string());
    let leads = log.role == raft::Role::Leader && !log.alone;
    let help = "1 while this node leads its group and a quorum answers it.";
    single(out, "flk_raft_leads", "gauge", help, u8::from(leads));
    single(out, "flk_raft_leader_id", "gauge", "The node that leads, 0 if unknown.", log.leader.unwrap_or(0));
    single(out, "flk_raft_members", "gauge", "Nodes in the group, learners included.", members.len());
    let behind = log.committed.0.saturating_sub(log.applied.0);
    single(out, "flk_raft_apply_lag_records", "gauge", "Agreed records that are not folded yet.", behind);
    let others = || members.iter().filter(|member| member.node != log.node);
    if !leads || others().next().is_none() {
        return;
    }
    let name = "flk_raft_peer_lag_records";
    let _ =
        writeln!(out, "# HELP {name} Records that a node lacks, as its leader knows.\n# TYPE {name} gauge");
    for member in others() {
        let lag = log.last.0.saturating_sub(member.matched.map_or(0, |lsn| lsn.0));
        let _ = writeln!(out, "{name}{{node=\"{}\"}} {lag}", member.node);
    }
}

/// The process series that Prometheus clients export everywhere, read from /proc.
pub(super) fn process_section(out: &mut String, started: f64) {
    single(out, "process_start_time_seconds", "gauge", "Start time of the process since the epoch.", started);
    if let Ok(statm) = std::fs::read_to_string("/proc/self/statm") {
        let pages: u64 = statm.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        single(out, "process_resident_memory_bytes", "gauge", "Resident memory.", pages * 4096);
    }
    if let Ok(directory) = std::fs::read_dir("/proc/self/fd") {
        single(out, "process_open_fds", "gauge", "Open file descriptors.", directory.count());
    }
    if let Ok(stat) = std::fs::read_to_string("/proc/self/stat") {
        // After the command's closing parenthesis the 12th and 13th fields are user and system ticks of 10 ms.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |n: usize| fields.get(n).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let seconds = (ticks(11) + ticks(12)) as f64 / 100.0;
        single(out, "process_cpu_seconds_total", "counter", "User and system time.", seconds);
    }
}
