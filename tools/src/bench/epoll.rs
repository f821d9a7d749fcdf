//! The three system calls of readiness, and nothing else: a load generator built on a runtime would spend on
//! scheduling what the server needs.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Wake when there is something to read.
pub const READ: u32 = libc::EPOLLIN as u32;
/// Wake when there is something to read or room to write.
pub const READ_WRITE: u32 = (libc::EPOLLIN | libc::EPOLLOUT) as u32;

/// An epoll instance; a closed stream leaves it by itself.
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    /// A new instance.
    ///
    /// # Errors
    /// The system has no more file descriptors.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: takes no pointer; the result is checked.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is open, was just made and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Epoll { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; 1024] })
    }

    /// Watches a stream.
    ///
    /// # Errors
    /// The stream is watched already, or the system refuses.
    pub fn add(&mut self, stream: &TcpStream, token: u64, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, stream, token, interest)
    }

    /// Changes what a stream is watched for.
    ///
    /// # Errors
    /// The stream is not watched.
    pub fn modify(&mut self, stream: &TcpStream, token: u64, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, stream, token, interest)
    }

    fn control(&mut self, what: i32, stream: &TcpStream, token: u64, interest: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest, u64: token };
        // SAFETY: both descriptors are open for as long as the borrowed owners live; `event` outlives the call,
        // which copies it.
        let result =
            unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), what, stream.as_raw_fd(), &raw mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits for at most `longest`; gives the tokens that are ready and whether each has room to write. An error or
    /// a hang-up wakes as well: reading shows it.
    ///
    /// # Errors
    /// The system refuses to wait.
    pub fn wait(&mut self, longest: Duration) -> io::Result<Vec<(u64, bool)>> {
        let time =
            libc::timespec { tv_sec: longest.as_secs() as i64, tv_nsec: i64::from(longest.subsec_nanos()) };
        let room = i32::try_from(self.events.len()).unwrap_or(i32::MAX);
        // SAFETY: `events` has room for `room` entries and `time` outlives the call; a null signal mask leaves the
        // mask as it is.
        let ready = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                self.events.as_mut_ptr(),
                room,
                &raw const time,
                std::ptr::null::<libc::sigset_t>(),
                8_usize,
            )
        };
        if ready < 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                return Ok(Vec::new());
            }
            return Err(error);
        }
        let ready = usize::try_from(ready).unwrap_or(0).min(self.events.len());
        let out = libc::EPOLLOUT as u32;
        Ok(self.events[..ready].iter().map(|event| (event.u64, event.events & out != 0)).collect())
    }
}
