//! P4: proposals through the one-voter group.
//!
//! Closed-loop tasks hand one event each to a proposer, which puts everything that waits into one entry and keeps
//! several entries in flight, as the server does; the machine only answers. So the row holds what Raft and its log
//! store cost, and nothing of verdicts or HTTP.

use crate::append::{Appends, identity};
use crate::context::{Context, remove};
use crate::front::{closed_loop, runtime};
use crate::rows::{Row, at_least, command, figure};
use crate::stats::{Sample, alternate};
use engine::event::{Envelope, Event};
use engine::ids::TenantId;
use engine::limits::{RECORD_BYTES_MAX, RECORD_EVENTS_MAX};
use engine::log::Lsn;
use raft::{Batch, Group, GroupConfig, Machine, Standing};
use segments::{AnyDisk, Options, Prefer};
use std::io;
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, Semaphore, oneshot};

/// Entries proposed and not yet applied; the server's default.
const IN_FLIGHT: usize = 4;
/// What an event takes around its body; bodies are shorter by it, so that an event is as long as a record of P1.
const AROUND: usize = 48;
/// Clients of the row.
const CLIENTS: usize = 256;

/// Those who wait for one entry.
struct Waiters(Mutex<Vec<oneshot::Sender<()>>>);

/// Answers, and keeps nothing.
struct Answering;

impl Machine for Answering {
    fn standing(&self) -> Standing {
        Standing::default()
    }

    fn apply(&mut self, _: Lsn, _: u64, batch: &Batch) {
        let Some(waiters) = batch.local::<Waiters>() else { return };
        for waiter in waiters.0.lock().expect("nobody panics inside").drain(..) {
            // A task that has stopped no longer waits.
            let _ = waiter.send(());
        }
    }
}

/// What waits to be proposed.
#[derive(Default)]
struct Door {
    waiting: Mutex<Vec<(Event, oneshot::Sender<()>)>>,
    knock: Notify,
}

impl Door {
    fn submit(&self, event: Event) -> oneshot::Receiver<()> {
        let (done, answer) = oneshot::channel();
        let mut waiting = self.waiting.lock().expect("nobody panics inside");
        waiting.push((event, done));
        if waiting.len() == 1 {
            self.knock.notify_one();
        }
        answer
    }
}

/// Proposes everything that waits, again and again.
async fn propose(door: Arc<Door>, group: Arc<Group>) -> io::Result<()> {
    let flights = Arc::new(Semaphore::new(IN_FLIGHT));
    loop {
        door.knock.notified().await;
        loop {
            let flight = flights.clone().acquire_owned().await.map_err(io::Error::other)?;
            let taken: Vec<_> = {
                let mut waiting = door.waiting.lock().expect("nobody panics inside");
                let n = waiting.len().min(RECORD_EVENTS_MAX).min(RECORD_BYTES_MAX / 2048);
                waiting.drain(..n).collect()
            };
            if taken.is_empty() {
                break;
            }
            let (events, waiters): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
            let local = Arc::new(Waiters(Mutex::new(waiters)));
            let pending = group.submit(Batch { events: Arc::new(events), local: Some(local) }).await;
            let pending = pending.map_err(io::Error::other)?;
            tokio::spawn(async move {
                // An error drops the waiters, which end with it.
                let _ = pending.await;
                drop(flight);
            });
        }
    }
}

fn run(context: &Context, seconds: f64) -> io::Result<Sample> {
    let dir = context.fresh("group")?;
    let tenant = TenantId::new("bench").map_err(io::Error::other)?;
    let sample = runtime()?.block_on(async {
        let (disk, _) = AnyDisk::open(&dir, Prefer::Auto)?;
        let config = GroupConfig::new(1, Options::new(identity()));
        let group = Arc::new(Group::open(config, disk, Answering).await.map_err(io::Error::other)?);
        let door = Arc::new(Door::default());
        let proposer = tokio::spawn(propose(door.clone(), group.clone()));
        let sample = closed_loop(CLIENTS, seconds, move |record| {
            let body = record[..record.len() - AROUND].to_vec();
            door.submit(Event::Received(Envelope { tenant, received_at_ms: 1, salt: [7; 16], body }))
        })
        .await?;
        proposer.abort();
        let metrics = group.metrics();
        group.shutdown().await;
        Ok::<_, io::Error>(sample.with("entries/sync", metrics.frames as f64 / metrics.syncs.max(1) as f64))
    })?;
    remove(&dir)?;
    Ok(sample)
}

/// The row.
pub fn rows(context: &Context) -> Vec<Row> {
    let what = format!("proposals through the one-voter group, C={CLIENTS}");
    let appends = Appends::new(context);
    let measured = context.device.flushed(|| {
        alternate(context.runs, || run(context, context.seconds), || appends.run(CLIENTS, context.seconds))
    });
    vec![match measured {
        Err(why) => Row::refused("P4", what, why),
        Ok((pair, _)) => Row {
            id: "P4",
            what,
            ours: format!("{} events/s", figure(pair.ours())),
            reference: format!("P1, C={CLIENTS}: {}", figure(pair.reference())),
            value: pair.ratio(),
            bound: at_least(0.5, 0.8),
            command: command("P4"),
            notes: pair.notes(),
            refused: None,
        },
    }]
}
