//! Making a large file durable beside a log that answers clients.
//!
//! A sync hands everything that is dirty in a file to the device at once, and a batch of the log that comes then waits
//! until the device has taken all of it. In steps it waits for one of them.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Bytes of one step: a fraction of a millisecond for a device that takes a gigabyte a second.
const STEP: u64 = 256 << 10;

/// Writes what is dirty in `file` from byte `from` on to the device, one step after the other, so that a sync
/// afterwards finds little to do. Nothing is durable before that sync. Where the kernel or the file system
/// knows no such thing, or a sandbox forbids it, all is left to the sync.
///
/// # Errors
/// When the device refuses. The kernel may call the file clean from then on: what a failed sync says, this says.
pub fn write_out(file: &File, from: u64) -> io::Result<()> {
    const FLAGS: libc::c_uint =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let end = file.metadata()?.len();
    let mut at = from / STEP * STEP;
    while at < end {
        // SAFETY: a plain system call on a descriptor that `file` keeps open; no memory is passed.
        let done = unsafe { libc::sync_file_range(file.as_raw_fd(), at as i64, STEP as i64, FLAGS) };
        if done != 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::ENOSYS | libc::EPERM | libc::EINVAL | libc::ESPIPE | libc::EOPNOTSUPP) => Ok(()),
                Some(libc::EINTR) => continue,
                _ => Err(error),
            };
        }
        at += STEP;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn all_of_a_file_is_written_out_wherever_one_begins() {
        let mut file = tempfile::tempfile().unwrap();
        write_out(&file, 0).unwrap();
        file.write_all(&vec![7; 3 * STEP as usize + 1]).unwrap();
        for from in [0, 1, STEP - 1, STEP, 3 * STEP, 3 * STEP + 1, 9 * STEP] {
            write_out(&file, from).unwrap();
        }
        file.sync_data().unwrap();
    }

    #[test]
    fn what_has_no_pages_is_left_to_the_sync() {
        let null = File::options().write(true).open("/dev/null").unwrap();
        write_out(&null, 0).unwrap();
    }
}
