//! What clients do: submit in any region, and the same once more in another.

use engine::event::{Envelope, Event};

use super::Told;
use super::world::World;
use crate::rt::{self, Rng, sleep};
use crate::sim::workload::{Flaw, Submission};
use crate::sim::world::MS;

/// Names that clients fight for: few, so that regions meet.
const NAMES: u16 = 12;
const PATIENCE: u64 = 3_000 * MS;

/// One client.
pub async fn client(world: World, seed: u64) {
    let mut rng = Rng(seed);
    let mut last: Option<Submission> = None;
    while !world.state().over {
        sleep(rng.below(250 * MS)).await;
        let sent = last.filter(|_| rng.chance(35)).unwrap_or_else(|| draw(&mut rng));
        last = Some(sent);
        let region = rng.below(world.options.regions as u64) as usize;
        let node = {
            let mut state = world.state();
            state.asked.0 += 1;
            let nodes = &state.regions[region].nodes;
            let open = |node: &super::world::Node| node.machine.ledger.policy_version("sim").is_some();
            (0..nodes.len()).find(|node| {
                let node = &nodes[*node];
                node.believes && node.alive.is_some() && open(node)
            })
        };
        if let Some(node) = node {
            submit(&world, region, node, sent).await;
        }
    }
}

fn draw(rng: &mut Rng) -> Submission {
    let mut sent = Submission::draw(rng);
    sent.name %= NAMES;
    if rng.chance(60) {
        sent.flaw = Flaw::None;
    }
    sent
}

async fn submit(world: &World, region: usize, node: usize, sent: Submission) {
    let wall_ms = world.wall_ms(region, node);
    let received_at_ms = {
        let mut state = world.state();
        let at = &mut state.regions[region].nodes[node];
        at.last_ms = at.last_ms.max(at.machine.ledger.log_time_ms()).max(wall_ms);
        at.last_ms
    };
    let salt = [rt::rand() as u8; 16];
    let envelope = Envelope { tenant: sent.tenant_id(), received_at_ms, salt, body: sent.body() };
    let asked = world.propose(region, node, vec![Event::Received(envelope)]);
    let Ok(Ok((lsn, says))) = rt::timeout(PATIENCE, asked).await else { return };
    rt::note(lsn.0);
    let mut state = world.state();
    state.asked.1 += 1;
    state.told.extend(says.first().map(|said| Told { region, lsn, sent, said: *said }));
}
