//! Children: servers that are measured. Each dies with the benchmark, listens on loopback only, and is waited for.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server under test; killed and reaped when dropped.
pub struct Server {
    child: Child,
    pub addr: SocketAddr,
    name: String,
}

/// Processor time and I/O of one process so far.
#[derive(Clone, Copy, Default, Debug)]
pub struct Usage {
    /// User and system time, s.
    pub cpu: f64,
    /// Bytes it caused to be sent to the disk.
    pub written: u64,
    /// Resident memory, bytes.
    pub resident: u64,
}

/// A loopback port that was free a moment ago.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The command gets SIGKILL when this process ends, however it ends.
pub fn tied(command: &mut Command) -> &mut Command {
    // SAFETY: prctl with PR_SET_PDEATHSIG is async-signal-safe and takes no pointers.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        })
    }
}

impl Server {
    /// Starts `command` and waits until `addr` takes connections.
    ///
    /// # Errors
    /// If it cannot be started, ends, or does not listen within 30 s; its standard error goes to `log`.
    pub fn start(name: &str, command: &mut Command, addr: SocketAddr, log: &Path) -> io::Result<Server> {
        let mut server = Server::spawn(name, command, addr, log)?;
        server.listening(log)?;
        Ok(server)
    }

    /// Starts `command`, which will listen at `addr`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(name: &str, command: &mut Command, addr: SocketAddr, log: &Path) -> io::Result<Server> {
        let sink = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let child = tied(command.stdin(Stdio::null()).stdout(sink.try_clone()?).stderr(sink))
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("{name}: {e}")))?;
        Ok(Server { child, addr, name: name.to_owned() })
    }

    /// Waits until it takes connections.
    ///
    /// # Errors
    /// If it ends, or does not listen within 30 s.
    pub fn listening(&mut self, log: &Path) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if TcpStream::connect_timeout(&self.addr, Duration::from_millis(200)).is_ok() {
                return Ok(());
            }
            let name = &self.name;
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("{name} ended with {status}, see {}", log.display())));
            }
            if Instant::now() > deadline {
                let why = format!("{name} does not listen on {}, see {}", self.addr, log.display());
                return Err(io::Error::other(why));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the process has used so far, its children not counted.
    pub fn usage(&self) -> io::Result<Usage> {
        usage(self.pid())
    }

    /// SIGKILL, as a crash.
    pub fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// SIGTERM, then up to 30 s to end.
    pub fn stop(mut self) -> io::Result<()> {
        // SAFETY: the child has not been waited for, so its id is still its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("{} does not stop", self.name)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What process `pid` has used so far.
pub fn usage(pid: u32) -> io::Result<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command's name is in parentheses and may hold spaces; utime and stime are the 12th and 13th after it.
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<u64> = after.split_whitespace().map(|f| f.parse().unwrap_or(0)).collect();
    // SAFETY: sysconf takes no pointers.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    let cpu = fields.get(11..13).map_or(0.0, |t| (t[0] + t[1]) as f64 / ticks);
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let number = |text: &str, name: &str| {
        text.lines()
            .find_map(|l| l.strip_prefix(name))
            .and_then(|l| l.split_whitespace().next())
            .and_then(|n| n.parse::<u64>().ok())
            .unwrap_or(0)
    };
    Ok(Usage { cpu, written: number(&io, "write_bytes:"), resident: number(&status, "VmRSS:") * 1024 })
}
