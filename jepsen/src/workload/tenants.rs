//! W4 and W5: what is one tenant's alone, guesses of the others at it, and a tenant that asks for more than its quota.

use super::{Actor, Done, Shared, refused};
use crate::cluster::HOSTS;
use crate::pcs::{self, Rival, TENANTS};
use crate::rng::Rng;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

/// First number of what belongs to the first tenant alone.
pub const ALONE: u64 = 1 << 40;
/// First number of the tenant with a small quota.
pub const METERED: u64 = 2 << 40;
/// Submissions that the metered tenant sends in a row: with all its clients more than its bucket holds.
const BURST: usize = 30;

/// Starts the clients.
pub fn start(shared: &Arc<Shared>, seed: u64) -> Vec<JoinHandle<()>> {
    let mut clients = Vec::new();
    for host in 1..=HOSTS {
        let (mut owner, mut other) = (Actor::new(shared, host), Actor::new(shared, host % HOSTS + 1));
        let mut rng = Rng::new(seed, &format!("owner {host}"));
        clients.push(std::thread::spawn(move || {
            while owner.shared.go_on() {
                let number = ALONE + owner.shared.alone.fetch_add(1, Ordering::SeqCst);
                owner.submit(Rival { tenant: 0, number, rival: rng.below(pcs::RIVALS) });
                guess(&mut other, &mut rng, number);
                std::thread::sleep(Duration::from_millis(rng.between(50, 150)));
            }
        }));
        let mut greedy = Actor::new(shared, host);
        clients.push(std::thread::spawn(move || {
            while greedy.shared.go_on() {
                for _ in 0..BURST {
                    let number = METERED + greedy.shared.metered.fetch_add(1, Ordering::SeqCst);
                    greedy.submit(Rival { tenant: 2, number, rival: 0 });
                }
                std::thread::sleep(Duration::from_secs(2));
            }
        }));
    }
    clients
}

/// Another tenant asks for it, in each way that there is.
fn guess(actor: &mut Actor, rng: &mut Rng, number: u64) {
    let tenant = rng.between(1, 2) as usize;
    let way = *rng.pick(&["/v1/pcs/", "/v1/lineage/", "/v1/receipts/"]);
    let path = format!("{way}{}", pcs::id(number));
    actor.perform("guess", &pcs::key(tenant, number), None, |client| {
        match client.send("GET", &path, &[("X-Tenant-Id", TENANTS[tenant])], b"") {
            Ok(answer) if answer.status == 404 => Done::ok(None),
            Ok(answer) if answer.status == 200 => Done::ok(Some(format!("{way}: {}", answer.text()))),
            Ok(answer) => refused(&answer),
            Err(silence) => Done::fail(silence.to_string()),
        }
    });
}
