//! openraft's settings.

use openraft::{Config, SnapshotPolicy};

use crate::error::OpenError;

/// Every setting that differs from its default with its reason.
pub(crate) fn raft_config() -> Result<Config, OpenError> {
    let config = Config {
        cluster_name: "flk".into(),
        // A follower stands for election when it has heard nothing for the longest timeout and another one, drawn
        // between the two: after 0.9 to 1.25 s. A vote has to be asked for, synced and answered within the shortest; a
        // disk may stall for 300 ms.
        heartbeat_interval: 150,
        election_timeout_min: 350,
        election_timeout_max: 550,
        // A node that cannot win does not disturb a leader by raising the term.
        enable_pre_vote: Some(true),
        // The log is kept for ever and the machine keeps its own snapshots.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        // See the head of `group` and FAULTS F15.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    let config = config.validate().map_err(|error| OpenError::Raft(error.to_string()))?;
    assert!(config.enable_leader_restore == Some(false), "S1: a restarted leader would resume its term");
    assert!(config.snapshot_policy == SnapshotPolicy::Never, "S5: raft would purge the log");
    Ok(config)
}
