//! `lossyfs MOUNTPOINT`: an in-memory FUSE file system that behaves like a disk on a bad day.
//!
//! It drops or tears what was not synced when told that the power has failed, fails the n-th `fsync`, runs full,
//! rots, refuses to read, misdirects a write and syncs slowly. It sits below the file API, so a program that uses
//! `io_uring` or `O_DIRECT` meets the same faults as one that calls `write`, which injection by system call cannot do.
//!
//! It prints `mounted` when ready and unmounts when its standard input closes, so it never outlives its test.

mod control;
mod crash;
mod disk;
#[cfg(test)]
mod model_tests;
mod mount;
mod pages;

use fuser::{Config, MountOption};
use std::io::{Read, Write};
use std::process::ExitCode;

/// Enough that a slow `fsync` does not hold up reads.
const THREADS: usize = 4;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [flag] if flag == "--help" || flag == "-h" => {
            println!("lossyfs MOUNTPOINT\n\nLines written to MOUNTPOINT/.ctl:\n{}", control::HELP);
            ExitCode::SUCCESS
        }
        [mountpoint] => match serve(mountpoint) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("lossyfs: {mountpoint}: {error}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("usage: lossyfs MOUNTPOINT");
            ExitCode::FAILURE
        }
    }
}

fn serve(mountpoint: &str) -> std::io::Result<()> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("lossyfs".to_owned())];
    config.n_threads = Some(THREADS);
    let session = fuser::spawn_mount(mount::Lossy::new(disk::Disk::new()), mountpoint, &config)?;
    println!("mounted");
    std::io::stdout().flush()?;
    let mut ignored = Vec::new();
    std::io::stdin().read_to_end(&mut ignored)?;
    session.umount_and_join()
}
