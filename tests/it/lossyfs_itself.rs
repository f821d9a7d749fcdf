//! The lossy file system through the kernel: buffered, direct and through io_uring.

use crate::lossy::mount;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

#[test]
fn what_was_synced_survives_and_the_rest_does_not() {
    let Some(disk) = mount() else { return };
    let path = disk.path("log");
    let mut file = File::create(&path).expect("create");
    file.write_all(b"kept").expect("write");
    file.sync_all().expect("sync");
    File::open(disk.path("")).expect("open the directory").sync_all().expect("sync the name");
    file.write_all(b"lost").expect("write");
    File::create(disk.path("nameless")).expect("create").sync_all().expect("sync");
    disk.order("crash");
    assert_eq!(std::fs::read(&path).expect("read"), b"kept");
    assert!(!disk.path("nameless").exists(), "a name that was not synced");
    let stale = file.write_all(b"x").and_then(|()| file.sync_all());
    assert_eq!(stale.expect_err("a handle from before the crash").raw_os_error(), Some(libc::EIO));
}

#[test]
fn a_failing_sync_and_a_full_disk_are_seen_through_io_uring_and_direct_io() {
    let Some(disk) = mount() else { return };
    let path = disk.path("log");
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(&path)
        .expect("open");
    let mut ring = io_uring::IoUring::new(8).expect("a ring");
    #[repr(align(4096))]
    struct Block([u8; 4096]);
    let block = Box::new(Block([7; 4096]));
    let mut results = |offset: u64| {
        let fd = io_uring::types::Fd(file.as_raw_fd());
        let write = io_uring::opcode::Write::new(fd, block.0.as_ptr(), 4096).offset(offset).build();
        let sync = io_uring::opcode::Fsync::new(fd).flags(io_uring::types::FsyncFlags::DATASYNC).build();
        // SAFETY: the block and the file outlive the wait for both completions below.
        unsafe {
            let mut queue = ring.submission();
            queue.push(&write.flags(io_uring::squeue::Flags::IO_LINK).user_data(0)).expect("room");
            queue.push(&sync.user_data(1)).expect("room");
        }
        ring.submit_and_wait(2).expect("both complete");
        let mut seen = [0; 2];
        for completion in ring.completion() {
            seen[completion.user_data() as usize] = completion.result();
        }
        seen
    };
    assert_eq!(results(0), [4096, 0]);
    disk.order("fsync-eio 1 keep");
    assert_eq!(results(4096), [4096, -libc::EIO]);
    disk.order("capacity 8192");
    assert_eq!(results(8192), [-libc::ENOSPC, -libc::ECANCELED]);
    let mut first = [0u8; 1];
    File::open(&path).expect("open").read_exact_at(&mut first, 0).expect("reads go on");
    assert_eq!(first, [7]);
    assert_eq!(disk.tally("fsync_errors"), 1);
    assert_eq!(disk.tally("refused_full"), 1);
}
