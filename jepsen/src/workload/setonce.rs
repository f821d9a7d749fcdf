//! W1, W2 and W4: rivals for one id, retries of the same bytes, reads, and guesses at what others own.
//!
//! Two tenants compete for the same ids, each with bodies of its own, so that an answer that crosses from one to the
//! other names a body that its tenant never sent.

use super::{Actor, Shared};
use crate::pcs::Rival;
use crate::rng::Rng;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

/// Clients of each host.
const CLIENTS: usize = 3;
/// Ids under competition at a time.
const WINDOW: u64 = 4;
/// Bodies that compete for one id.
const RIVALS: u64 = 5;

/// Starts the clients of so many hosts; one of so many operations begins with a new id.
pub fn start(shared: &Arc<Shared>, seed: u64, hosts: usize, one_of: u64) -> Vec<JoinHandle<()>> {
    let clients = (0..hosts * CLIENTS).map(|nth| {
        let actor = Actor::new(shared, nth % hosts + 1);
        let rng = Rng::new(seed, &format!("client {nth}"));
        std::thread::spawn(move || client(actor, rng, one_of))
    });
    clients.collect()
}

fn client(mut actor: Actor, mut rng: Rng, one_of: u64) {
    let mut last: Option<Rival> = None;
    while actor.shared.go_on() {
        let newest = &actor.shared.newest;
        if rng.chance(1, one_of) {
            newest.fetch_add(1, Ordering::SeqCst);
        }
        let newest = newest.load(Ordering::SeqCst);
        let number = newest.saturating_sub(rng.below(WINDOW));
        let tenant = rng.below(2) as usize;
        match rng.below(10) {
            0..5 => {
                let rival = Rival { tenant, number, rival: rng.below(RIVALS) };
                actor.submit(rival);
                last = Some(rival);
            }
            // The same bytes again, as a client does that got no answer, or lost it.
            5..7 => drop(last.map(|rival| actor.submit(rival))),
            7..9 => drop(actor.read("read", tenant, number)),
            // Something older, which a restart or a new leader must not have lost.
            _ => drop(actor.read("read", tenant, rng.below(newest + 1))),
        }
        std::thread::sleep(Duration::from_millis(rng.between(4, 30)));
    }
}
