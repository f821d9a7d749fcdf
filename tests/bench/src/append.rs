//! P1 and P3: durable appends to the segment log from many async writers, against the loop written by hand.

use crate::context::{Context, remove};
use crate::front::{Front, Item, Sink, closed_loop, runtime};
use crate::process::tied;
use crate::rows::{Bound, Row, at_least, command, figure};
use crate::stats::{Pair, Sample, alternate, line};
use engine::log::Lsn;
use segments::{AnyDisk, Frame, Identity, Log, Options, Prefer};
use std::convert::Infallible;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

/// A log in a directory of its own, which is removed after each run.
pub struct Appends<'a> {
    context: &'a Context,
    prefer: Prefer,
}

/// The log behind the front: a frame a record, a batch a drain, a ticket a batch.
struct LogSink {
    log: Log<AnyDisk>,
    lsn: Lsn,
}

impl Sink for LogSink {
    fn begin(&mut self, batch: &[Item]) -> io::Result<()> {
        for item in batch {
            self.lsn = self.lsn.next();
            self.log.append(Frame::entry(self.lsn, 1, &item.record)).map_err(io::Error::other)?;
        }
        self.log.submit().map(drop).map_err(io::Error::other)
    }

    fn durable(&mut self, wait: bool) -> io::Result<Lsn> {
        self.log.complete(wait).map_err(io::Error::other)?;
        let durable = self.log.durable().lsn;
        // With one voter everything durable is committed, and only what is committed is sealed.
        self.log.set_committed(durable);
        Ok(durable)
    }
}

/// Whose log the append rows write.
pub fn identity() -> Identity {
    Identity { cluster: *b"benchmark-of-flk", region: "bench".into() }
}

impl<'a> Appends<'a> {
    /// On the disk that the product would choose.
    pub fn new(context: &'a Context) -> Appends<'a> {
        Appends { context, prefer: Prefer::Auto }
    }

    fn open(&self) -> io::Result<(LogSink, PathBuf)> {
        let dir = self.context.fresh("append")?;
        let (disk, _) = AnyDisk::open(&dir, self.prefer)?;
        let ignore = |_: &Frame<'_>| Ok::<(), Infallible>(());
        let (log, _) = Log::open(disk, &Options::new(identity()), ignore).map_err(io::Error::other)?;
        Ok((LogSink { log, lsn: Lsn::ZERO }, dir))
    }

    /// Records a second from `clients` closed-loop tasks.
    pub fn run(&self, clients: usize, seconds: f64) -> io::Result<Sample> {
        let (sink, dir) = self.open()?;
        let sample = runtime()?.block_on(async {
            let front = Arc::new(Front::start(sink)?);
            let shared = front.clone();
            let sample = closed_loop(clients, seconds, move |record| shared.append(record)).await?;
            Arc::into_inner(front).expect("all tasks have ended").close()?;
            Ok::<_, io::Error>(sample)
        })?;
        remove(&dir)?;
        Ok(sample)
    }
}

fn row(id: &'static str, what: String, pair: &Pair, reference: &str, bound: Bound) -> Row {
    Row {
        id,
        what,
        ours: format!("{} records/s", figure(pair.ours())),
        reference: format!("{reference}: {}", figure(pair.reference())),
        value: pair.ratio(),
        bound,
        command: command(id),
        notes: pair.notes(),
        refused: None,
    }
}

/// P1: the default disk is judged, the other one is told beside it.
pub fn rows(context: &Context) -> Vec<Row> {
    let bounds = [
        (1, at_least(0.80, 0.95)),
        (16, Bound::Told),
        (64, at_least(0.60, 0.80)),
        (256, at_least(0.70, 0.90)),
        (1024, Bound::Told),
    ];
    let mut rows = Vec::new();
    for (prefer, name) in [(Prefer::Auto, "default disk"), (Prefer::Posix, "pwrite + fdatasync")] {
        for (clients, bound) in bounds {
            let what = format!("append, {name}, C={clients};");
            if context.only.as_ref().is_some_and(|only| !what.contains(only)) {
                continue;
            }
            let what = what.trim_end_matches(';').to_owned();
            let appends = Appends { context, prefer };
            let measured = context.device.flushed(|| {
                alternate(
                    context.runs,
                    || appends.run(clients, context.seconds),
                    || context.handloop()?.run(clients, context.seconds),
                )
            });
            let bound = if prefer == Prefer::Auto { bound } else { Bound::Told };
            rows.push(match measured {
                Err(why) => Row::refused("P1", what, why),
                Ok((pair, _)) => row("P1", what, &pair, "loop", bound),
            });
        }
    }
    rows
}

/// Burners: one a core, each in a session of its own, as a neighbour's processes would be. Killed when dropped.
struct Burners(Vec<Child>);

impl Burners {
    fn start(seconds: f64) -> io::Result<Burners> {
        let cores = std::thread::available_parallelism()?.get();
        let mut burners = Burners(Vec::new());
        for _ in 0..cores {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("burn").arg(seconds.to_string());
            // SAFETY: setsid is async-signal-safe and takes nothing.
            unsafe {
                command.pre_exec(|| if libc::setsid() < 0 { Err(io::Error::last_os_error()) } else { Ok(()) })
            };
            burners.0.push(tied(&mut command).spawn()?);
        }
        std::thread::sleep(Duration::from_millis(100));
        Ok(burners)
    }
}

impl Drop for Burners {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// P3: C=64 while other processes burn all cores.
pub fn burnt(context: &Context) -> Vec<Row> {
    const CLIENTS: usize = 64;
    let what = format!("append, C={CLIENTS}, while other processes burn every core");
    let appends = Appends::new(context);
    let measured = context.device.flushed(|| {
        let burning = || {
            let _burners = Burners::start(context.seconds + 30.0)?;
            appends.run(CLIENTS, context.seconds)
        };
        alternate(context.runs, burning, || appends.run(CLIENTS, context.seconds))
    });
    match measured {
        Err(why) => vec![Row::refused("P3", what, why)],
        Ok((pair, _)) => {
            let throughput = Bound::AtLeast { floor: 0.8, moonshot: None };
            let tail = crate::stats::median(pair.ours.iter().map(|s| s.extra[2].1));
            let latency = Row {
                id: "P3",
                what: format!("{what}: p99.9, us"),
                ours: format!("{} us", figure(tail)),
                reference: "1 ms".into(),
                value: tail,
                bound: Bound::AtMost { floor: 1000.0, moonshot: None },
                command: command("P3"),
                notes: vec![format!("burnt {}", line(&pair.ours))],
                refused: None,
            };
            vec![row("P3", what, &pair, "idle", throughput), latency]
        }
    }
}
