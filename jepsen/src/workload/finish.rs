//! What is asked when everything has been healed: every key, of every node.

use super::{Actor, Shared};
use std::sync::Arc;

/// Clients of each host.
const CLIENTS: usize = 4;
/// Times a read is tried: a leader may just be on its way.
const TRIES: usize = 5;

/// Reads the keys of all nodes; what cannot be read stays unread, and the checker sees that.
pub fn read_all(shared: &Arc<Shared>, keys: &[(usize, u64)], hosts: usize) {
    let keys: Arc<[(usize, u64)]> = keys.into();
    let readers = (0..hosts * CLIENTS).map(|nth| {
        let (mut actor, keys) = (Actor::new(shared, nth % hosts + 1), Arc::clone(&keys));
        std::thread::spawn(move || {
            for (tenant, number) in keys.iter().skip(nth / hosts).step_by(CLIENTS) {
                let read = (0..TRIES).any(|_| actor.read("final", *tenant, *number));
                if !read {
                    return;
                }
            }
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        let _ = reader.join();
    }
}
