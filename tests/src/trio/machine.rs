//! A machine whose whole state is which value won each name, and what all machines must agree on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use engine::event::{Envelope, Event};
use engine::ids::TenantId;
use engine::log::Lsn;
use raft::{Batch, Machine, Standing};
use tokio::sync::oneshot;

use crate::rt;

/// Who waits for the winner of a name.
pub type Waiting = Mutex<Option<oneshot::Sender<u64>>>;

/// What every node and every life must agree on: term and payload of each record.
#[derive(Default)]
pub struct Truth {
    records: BTreeMap<Lsn, (u64, Vec<u8>)>,
    broken: Vec<String>,
}

impl Truth {
    /// Broken promises since the last look.
    pub fn take_broken(&mut self) -> Vec<String> {
        std::mem::take(&mut self.broken)
    }

    fn hold(&mut self, node: u64, lsn: Lsn, term: u64, payload: Vec<u8>) {
        let known = self.records.entry(lsn).or_insert_with(|| (term, payload.clone()));
        if *known != (term, payload) {
            let (was, _) = known;
            let broken =
                format!("I3: node {node} applied another record at {lsn}: term {term}, and it was {was}");
            self.broken.push(broken);
        }
    }
}

/// Names and their winners, on one node in one life.
#[derive(Default)]
pub struct Winners {
    /// The value that won each name.
    pub by_name: BTreeMap<u64, u64>,
    /// The last record applied.
    pub applied: Lsn,
}

/// The machine of one life.
pub struct SetOnce {
    pub(super) node: u64,
    pub(super) winners: Arc<Mutex<Winners>>,
    pub(super) truth: Arc<Mutex<Truth>>,
}

/// A proposal of `value` for `name`, and who waits for the winner.
pub fn proposal(name: u64, value: u64, waiting: Option<Arc<Waiting>>) -> Batch {
    let mut body = name.to_le_bytes().to_vec();
    body.extend_from_slice(&value.to_le_bytes());
    // Of different lengths, so that blocks and segments end anywhere.
    body.resize(16 + (value % 700) as usize, value as u8);
    let tenant = TenantId::new("t").expect("a letter is a name");
    let event = Event::Received(Envelope { tenant, received_at_ms: 1, salt: [0; 16], body });
    Batch { events: Arc::new(vec![event]), local: waiting.map(|waiting| waiting as raft::Local) }
}

fn read(event: &Event) -> (u64, u64) {
    let Event::Received(envelope) = event else { panic!("only proposals are logged here") };
    let number = |at: usize| {
        u64::from_le_bytes(*envelope.body[at..].first_chunk().expect("a proposal has two numbers"))
    };
    (number(0), number(8))
}

impl Machine for SetOnce {
    fn standing(&self) -> Standing {
        Standing::default()
    }

    fn apply(&mut self, lsn: Lsn, term: u64, batch: &Batch) {
        let mut payload = Vec::new();
        let mut winners = self.winners.lock().unwrap();
        for event in batch.events.iter() {
            event.encode(&mut payload);
            let (name, value) = read(event);
            let winner = *winners.by_name.entry(name).or_insert(value);
            rt::note(name ^ winner << 8 ^ lsn.0 << 32);
            if let Some(waiting) = batch.local::<Waiting>().and_then(|waiting| waiting.lock().unwrap().take())
            {
                // A client that gave up is not there any more.
                let _ = waiting.send(winner);
            }
        }
        self.truth.lock().unwrap().hold(self.node, lsn, term, payload);
    }

    fn passed(&mut self, standing: &Standing) {
        self.winners.lock().unwrap().applied = standing.lsn;
    }
}
