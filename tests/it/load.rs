//! Clients under load that remember what they were promised.

use crate::http::{Connection, Response};
use crate::node::Node;
use crate::pcs::{Submission, submission};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A submission with the answer that its client got.
#[derive(Clone)]
pub struct Acked {
    pub submission: Submission,
    pub answer: Response,
}

/// Threads that submit as fast as they are answered.
pub struct Load {
    stop: Arc<AtomicBool>,
    acked: Arc<Mutex<Vec<Acked>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts `clients` threads; `numbers` hands out the submissions and goes on over restarts.
    pub fn start(address: SocketAddr, clients: usize, numbers: &Arc<AtomicU64>) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acked = Arc::new(Mutex::new(Vec::new()));
        let client = |_| {
            let (stop, acked, numbers) = (Arc::clone(&stop), Arc::clone(&acked), Arc::clone(numbers));
            std::thread::spawn(move || {
                let Ok(mut connection) = Connection::open(address) else { return };
                while !stop.load(Ordering::Relaxed) {
                    let submission = submission(numbers.fetch_add(1, Ordering::Relaxed));
                    match connection.send("POST", "/v1/pcs/submit", &[], &submission.body) {
                        Ok(answer) if answer.status == 200 => {
                            acked.lock().expect("the list").push(Acked { submission, answer });
                        }
                        // Refused or cut off: nothing was promised. A refusing server is asked more slowly.
                        Ok(_) => std::thread::sleep(Duration::from_millis(5)),
                        Err(_) => return,
                    }
                }
            })
        };
        let threads = (0..clients).map(client).collect();
        Load { stop, acked, threads }
    }

    /// How many were acknowledged so far.
    pub fn count(&self) -> usize {
        self.acked.lock().expect("the list").len()
    }

    /// Waits until that many were acknowledged.
    pub fn wait_for(&self, count: usize) {
        for _ in 0..6000 {
            if self.count() >= count {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("only {} of {count} submissions were acknowledged in 30 s", self.count());
    }

    /// Stops the clients and gives what they were promised.
    pub fn end(self) -> Vec<Acked> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a client");
        }
        std::mem::take(&mut *self.acked.lock().expect("the list"))
    }
}

/// Every promise is kept: the record is there with the same answer, and a retry gets that answer again.
pub fn insist_all_present(node: &Node, acked: &[Acked]) {
    let mut connection = node.connect();
    for (place, Acked { submission, answer }) in acked.iter().enumerate() {
        let found = connection.get(&format!("/v1/pcs/{}", submission.id)).expect("an answer");
        assert_eq!(found.status, 200, "acknowledged summary {} is lost: {}", submission.id, found.text());
        assert_eq!(found.text(), answer.text(), "the answer of {} has changed", submission.id);
        // A retry is judged like a first submission, so a sample is enough.
        if place % 16 == 0 || place + 64 > acked.len() {
            let retry = connection.send("POST", "/v1/pcs/submit", &[], &submission.body).expect("an answer");
            assert_eq!(
                (retry.status, retry.text()),
                (answer.status, answer.text()),
                "a retry of {}",
                submission.id
            );
            assert_eq!(retry.header("idempotent-replayed"), Some("true"), "a retry of {}", submission.id);
        }
    }
}
