//! Facts about the machine, printed with every table: figures without them cannot be compared.

use crate::honest::{Device, SyncCost};
use std::path::Path;

fn first_line(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().lines().next().unwrap_or_default().trim().to_owned()
}

fn value_of(path: &str, name: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or("", |(_, v)| v).trim().to_owned()
}

/// Name and value of each fact.
pub fn facts(dir: &Path, device: &Device, sync: &SyncCost) -> Vec<(&'static str, String)> {
    let queue = |name: &str| first_line(&format!("/sys/block/{}/queue/{name}", device.name));
    let cores = std::thread::available_parallelism().map_or(0, |n| n.get());
    vec![
        ("processor", format!("{} cores of {}", cores, value_of("/proc/cpuinfo", "model name"))),
        ("memory", value_of("/proc/meminfo", "MemTotal")),
        ("kernel", first_line("/proc/sys/kernel/osrelease")),
        ("directory", format!("{} ({})", dir.display(), mount_of(dir))),
        (
            "device",
            format!(
                "{}, write cache {}, fua {}, scheduler {}",
                device.name,
                queue("write_cache"),
                queue("fua"),
                queue("scheduler")
            ),
        ),
        (
            "write + fdatasync of 4 KiB",
            format!("p50 {} us, p99 {} us", sync.p50.as_micros(), sync.p99.as_micros()),
        ),
        ("load before", first_line("/proc/loadavg")),
    ]
}

/// File system type and options of the mount that holds `dir`.
fn mount_of(dir: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (point, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
            dir.starts_with(point).then(|| (point.len(), format!("{kind}, {options}")))
        })
        .max_by_key(|(len, _)| *len)
        .map_or(String::new(), |(_, text)| text)
}
