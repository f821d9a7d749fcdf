//! The place in which a run happens: namespaces of its own for processes, mounts and the network.
//!
//! The inner process is the first of its process namespace. When it ends, however it ends, the kernel ends every
//! process of the run, and with the last of them go the mounts, the devices and the network namespaces. It is killed
//! when the outer one ends. Nothing has to be cleaned up by code that may not get to run.

use std::io::{Error, Result};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};

/// What a run needs and this machine lacks; empty if it can run.
pub fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    // SAFETY: geteuid takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        missing.push("root: namespaces, TUN devices and mounts need it".to_owned());
    }
    for (path, what) in [("/dev/net/tun", "TUN devices"), ("/dev/fuse", "FUSE")] {
        if std::fs::OpenOptions::new().read(true).write(true).open(path).is_err() {
            missing.push(format!("{what}: {path} is missing or cannot be opened"));
        }
    }
    if Command::new("ip").arg("-V").output().is_err() {
        missing.push("the program ip (Debian's package iproute2)".to_owned());
    }
    // A child tries, so that nothing of this process changes.
    let mut probe = Command::new("true");
    // SAFETY: unshare and mount are system calls on constants; nothing is allocated between fork and exec.
    unsafe { probe.pre_exec(|| apart(libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWNET)) };
    if let Err(error) = probe.status() {
        missing.push(format!("namespaces: {error}"));
    }
    missing
}

fn check(result: libc::c_int) -> Result<()> {
    if result == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

fn apart(flags: libc::c_int) -> Result<()> {
    // SAFETY: unshare takes a number and touches no memory of ours.
    check(unsafe { libc::unshare(flags) })
}

/// Runs a command as the first process of a new namespace and waits for it.
///
/// # Errors
/// When the namespaces cannot be made.
pub fn run(mut command: Command) -> Result<ExitStatus> {
    // For the children of this process, which must have only one thread for that.
    apart(libc::CLONE_NEWPID)?;
    let settle = || {
        apart(libc::CLONE_NEWNS | libc::CLONE_NEWNET)?;
        // SAFETY: prctl with this option takes a signal number.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })
    };
    // SAFETY: settle makes system calls on constants only; nothing is allocated between fork and exec.
    unsafe { command.pre_exec(settle) };
    command.status()
}

/// What the inner process does first: mounts of its own, and a /proc that shows its processes.
///
/// # Errors
/// When a mount is refused.
pub fn settle() -> Result<()> {
    let root = c"/";
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    let null = std::ptr::null();
    // SAFETY: the strings end with 0 and live until the call returns; the kernel ignores the null ones here.
    check(unsafe { libc::mount(null, root.as_ptr(), null, flags, null.cast()) })?;
    let proc = c"proc";
    // SAFETY: as above.
    check(unsafe { libc::mount(proc.as_ptr(), c"/proc".as_ptr(), proc.as_ptr(), 0, null.cast()) })
}
