//! Work that can wait: it runs on threads that give way to those that answer clients.

use std::future::Future;
use std::io;
use std::sync::LazyLock;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// Lowers the priority of the thread that calls, on Linux: 0 is normal, 19 the lowest there is.
pub fn give_way(nice: i32) {
    // SAFETY: plain system call on the calling thread, no memory is passed.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } != 0 {
        tracing::debug!("a background thread runs at normal priority");
    }
}

/// With everybody else busy these threads still get about a tenth of a core, so that what they do comes to an end.
const NICE: i32 = 10;
/// L1: most files that are read, written or synced at the same time. More than all places for copies together have under way
/// when each of them hangs: shipping must go on.
const FILES_MAX: usize = 256;

static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(FILES_MAX)
        .thread_name("flk-background")
        .on_thread_start(|| give_way(NICE))
        .enable_all()
        .build()
});

/// Spawns such work, with whatever it reads and writes; beside all others, if the operating system refuses the threads.
pub fn spawn(tasks: &mut JoinSet<()>, work: impl Future<Output = ()> + Send + 'static) {
    match &*RUNTIME {
        Ok(runtime) => tasks.spawn_on(work, runtime.handle()),
        Err(error) => {
            tracing::warn!(%error, "what can wait runs at normal priority");
            tasks.spawn(work)
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn its_threads_give_way_and_so_do_those_that_read_files_for_it() {
        // SAFETY: plain system call, no memory is passed.
        let nice = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let before = nice();
        let (told, inside) = tokio::sync::oneshot::channel();
        let mut tasks = JoinSet::new();
        spawn(&mut tasks, async move {
            let found = (nice(), tokio::task::spawn_blocking(nice).await.unwrap());
            told.send(found).unwrap();
        });
        assert_eq!(inside.await.unwrap(), (NICE, NICE));
        assert_eq!(nice(), before);
    }
}
