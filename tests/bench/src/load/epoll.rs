//! The few epoll calls the load generator needs.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Events taken by one wait.
const EVENTS: usize = 512;

/// One epoll instance with its event buffer.
pub struct Epoll {
    fd: OwnedFd,
    events: RefCell<Vec<libc::epoll_event>>,
}

impl Epoll {
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: no pointers are passed; the result is checked.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // The default slack of 50 us would be as long as a sync.
        // SAFETY: PR_SET_TIMERSLACK takes one integer.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000) };
        // SAFETY: `fd` is new and owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Epoll { fd, events: RefCell::new(vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS]) })
    }

    /// Watches `socket` for input, level-triggered.
    pub fn add(&self, socket: RawFd, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, socket, token, libc::EPOLLIN)
    }

    /// Watches `socket` for input and, if `writable`, also for room to write.
    pub fn watch(&self, socket: RawFd, token: u64, writable: bool) -> io::Result<()> {
        let out = if writable { libc::EPOLLOUT } else { 0 };
        self.control(libc::EPOLL_CTL_MOD, socket, token, libc::EPOLLIN | out)
    }

    fn control(
        &self,
        operation: libc::c_int,
        socket: RawFd,
        token: u64,
        events: libc::c_int,
    ) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        // SAFETY: `event` outlives the call; both descriptors are open.
        let done = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, socket, &mut event) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits with nanosecond resolution; returns how many events came.
    pub fn wait(&self, timeout: Duration) -> io::Result<usize> {
        let spec = libc::timespec {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_nsec: timeout.subsec_nanos() as libc::c_long,
        };
        let mut events = self.events.borrow_mut();
        // SAFETY: the buffer has EVENTS elements, `spec` outlives the call, and no signal mask is given.
        let n = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                events.as_mut_ptr(),
                EVENTS as libc::c_int,
                &spec,
                std::ptr::null::<libc::sigset_t>(),
                8usize,
            )
        };
        if n >= 0 {
            return Ok(n as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() == io::ErrorKind::Interrupted { Ok(0) } else { Err(error) }
    }

    /// The token of event `i` of the last wait, and whether the socket took it as writable.
    pub fn event(&self, i: usize) -> (u64, bool) {
        let event = self.events.borrow()[i];
        (event.u64, event.events & libc::EPOLLOUT as u32 != 0)
    }
}
