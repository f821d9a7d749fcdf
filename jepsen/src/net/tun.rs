//! Network namespaces and the TUN devices that join them. What is made here ends with this process.

use std::fs::{File, OpenOptions};
use std::io::{Error, Result};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::Command;

/// Name of the device inside every namespace.
const DEVICE: &str = "flk0";

/// One host of the emulated network.
pub struct Host {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its network namespace; `None` for the one in which this process runs.
    pub space: Option<File>,
    /// Its packets, one a read and one a write.
    pub wire: File,
}

/// A host in a namespace of its own.
pub fn host(address: Ipv4Addr) -> Result<Host> {
    // A namespace belongs to a thread: this one changes, opens what is needed, and ends.
    let made = std::thread::spawn(move || {
        // SAFETY: unshare takes a number and touches no memory of ours.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return Err(Error::last_os_error());
        }
        let space = File::open("/proc/thread-self/ns/net")?;
        Ok(Host { space: Some(space), ..here(address)? })
    });
    made.join().expect("the thread only calls the system")
}

/// A host in the namespace of the calling thread.
pub fn here(address: Ipv4Addr) -> Result<Host> {
    let wire = open()?;
    ip(&["link", "set", "lo", "up"])?;
    ip(&["addr", "add", &format!("{address}/24"), "dev", DEVICE])?;
    ip(&["link", "set", DEVICE, "up"])?;
    Ok(Host { address, space: None, wire })
}

fn open() -> Result<File> {
    let wire = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(DEVICE.bytes()) {
        *place = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the kernel reads and writes one ifreq, which lives here; the descriptor is open.
    if unsafe { libc::ioctl(wire.as_raw_fd(), libc::TUNSETIFF, &mut request) } != 0 {
        return Err(Error::last_os_error());
    }
    Ok(wire)
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::other(format!("ip {}: {}", arguments.join(" "), said.trim())))
}
