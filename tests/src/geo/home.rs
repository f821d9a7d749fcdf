//! A node of a simulated region, as shipping sees it.

use std::time::Duration;

use engine::checkpoint::Verifier;
use engine::event::{Event, Item, Record};
use engine::ledger::{Ledger, MemTable};
use engine::log::Lsn;
use server::ship::bill::Bill;
use server::ship::ports::{Home, Stored};

use super::mutants::Mutant;
use super::world::World;
use crate::rt::{self, sleep};
use crate::sim::world::MS;

/// Bytes of a record: small, so that ranges are taken in in parts.
const RECORD_MAX: usize = 6 << 10;

/// See the module.
pub struct At {
    pub(super) world: World,
    pub(super) region: usize,
    pub(super) node: usize,
}

impl Home for At {
    type Table = MemTable;

    fn leads(&self) -> bool {
        self.world.state().regions[self.region].nodes[self.node].believes
    }

    fn ledger<T>(&self, look: impl FnOnce(&Ledger<MemTable>) -> T) -> T {
        look(self.world.state().regions[self.region].nodes[self.node].machine.told())
    }

    async fn read(&self, from: Lsn, to: Lsn) -> Result<Vec<Stored>, String> {
        sleep(rt::below(2 * MS)).await;
        let mut records = self.world.records(self.region, self.node, from, to, 1 + rt::below(60));
        if self.world.options.mutant == Mutant::DropsSignatures {
            records.iter_mut().for_each(|(_, bytes)| *bytes = without_signatures(bytes));
        }
        let decode = |(lsn, bytes): (Lsn, Vec<u8>)| {
            (lsn, Record::decode(&bytes).expect("it is a record"), bytes.len())
        };
        Ok(records.into_iter().map(decode).collect())
    }

    fn written(&self) -> u64 {
        self.ledger(|ledger| ledger.tree().size())
    }

    async fn leaves(&self, from: Lsn, to: Lsn) -> Result<Vec<Vec<u8>>, String> {
        sleep(rt::below(2 * MS)).await;
        let state = self.world.state();
        let machine = &state.regions[self.region].nodes[self.node].machine;
        let mut lines = machine.lines(from, to);
        if self.world.options.mutant == Mutant::LeafOfAnother {
            lines.iter_mut().for_each(|line| *line = machine.line_of_another(line));
        }
        Ok(lines)
    }

    async fn propose(&self, event: Event) -> Result<(), String> {
        let event = match (self.world.options.mutant, event) {
            (Mutant::SkipsARecord, Event::Imported(mut imported)) if rt::chance(20) => {
                let end = imported.items.iter().position(|item| *item == Item::End);
                let next = end.filter(|end| imported.from.nth == 0 && imported.items.len() > end + 1);
                next.into_iter().for_each(|end| drop(imported.items.drain(..=end)));
                Event::Imported(imported)
            }
            (_, event) => event,
        };
        let twice = self.world.options.mutant == Mutant::AppliesTwice && rt::chance(20);
        let again = match &event {
            Event::Imported(imported) if twice && imported.from.nth == 0 => Some(imported.clone()),
            _ => None,
        };
        self.world.propose(self.region, self.node, vec![event]).await?;
        if let Some(mut again) = again {
            again.from = self.ledger(|ledger| ledger.position_of(&again.origin));
            self.world.propose(self.region, self.node, vec![Event::Imported(again)]).await?;
        }
        Ok(())
    }

    fn record_max(&self) -> usize {
        RECORD_MAX
    }

    fn wall_ms(&self) -> u64 {
        self.world.wall_ms(self.region, self.node)
    }

    fn up(&self) -> Duration {
        Duration::from_nanos(rt::now())
    }

    async fn sleep(&self, pause: Duration) {
        sleep(pause.as_nanos() as u64).await;
    }

    fn any_byte(&self) -> u8 {
        rt::rand() as u8
    }

    async fn aside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        sleep(rt::below(3 * MS)).await;
        Ok(work())
    }

    fn bill_key(&self) -> Verifier {
        self.world.state().regions[self.region].signer.verifier()
    }

    fn sign(&self, bill: &Bill) -> Result<Vec<u8>, String> {
        Ok(bill.sign(&[&self.world.state().regions[self.region].signer]))
    }

    fn key_of(&self, _size: u64) -> Result<Verifier, String> {
        Ok(self.bill_key())
    }

    fn newest(&self) -> u64 {
        self.world.state().regions[self.region].nodes[self.node].machine.newest
    }

    fn proven(&self, mirror: &str) -> u64 {
        let state = self.world.state();
        state.regions[self.region].nodes[self.node].machine.proven.get(mirror).copied().unwrap_or(0)
    }

    fn knows_proven(&self) -> bool {
        true
    }

    async fn note_proven(&self, event: Event) -> Result<(), String> {
        self.propose(event).await
    }
}

fn without_signatures(bytes: &[u8]) -> Vec<u8> {
    use engine::event::{Payload, Record};
    let mut record = Record::decode(bytes).expect("it is a record");
    if let Payload::Events(events) = &mut record.payload {
        for event in events {
            if let Event::Attested(attested) = event {
                attested.signatures.fill(0);
            }
        }
    }
    let mut out = Vec::new();
    record.encode(&mut out);
    out
}
