//! Clients of two regions. Each sends to its own region, goes to the other one while its own does not answer, with the same
//! summary, and comes back when its own is ready.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::codec::hex;
use engine::summary::PcsId;

use super::site::ready;
use crate::http::{Client, NoAnswer};

/// How long a client waits for an answer before it goes elsewhere.
const DEADLINE: Duration = Duration::from_secs(2);
/// How often a client that is elsewhere looks whether its own region is ready.
const LOOK: Duration = Duration::from_millis(200);

/// An acknowledgement.
#[derive(Clone, Debug)]
pub struct Ack {
    /// Since the drill began.
    pub at: Duration,
    /// Which region gave it: 0 or 1.
    pub region: usize,
    /// Whose client it was.
    pub home: usize,
    /// The answer.
    pub body: Vec<u8>,
}

/// What a summary of the drill is called, and its bytes. `content` tells two of the same name apart.
pub fn summary(number: u64, content: u64) -> (String, Vec<u8>) {
    let root = hex(&[0x5a; 32]);
    let epoch = i64::try_from(number).unwrap_or(i64::MAX);
    let id = PcsId::derive(&root, epoch, "drill").to_string();
    let body = format!(
        "{{\"schema\":\"fractal-lba-kakeya\",\"version\":\"0.1\",\"shard_id\":\"drill\",\"epoch\":{epoch},\"pcs_id\":\"{id}\",\
         \"seed\":{content},\"scales\":[2,4,8,16,32],\"N_j\":{{\"2\":3,\"4\":5,\"8\":9,\"16\":17,\"32\":31}},\"coh_star\":0.73,\
         \"v_star\":[0.4082482904638631,-0.8164965809277261,0.4082482904638631],\"D_hat\":0.866733469,\"r\":0.87,\
         \"regime\":\"sticky\",\"budget\":{},\"merkle_root\":\"{root}\",\"sig\":\"\"}}",
        if content == 0 { "0.285" } else { "0.41" }
    );
    (id, body.into_bytes())
}

/// One submission.
pub fn submit(client: &mut Client, body: &[u8]) -> Result<(u16, Vec<u8>), NoAnswer> {
    let headers = [("content-type", "application/json")];
    client.request("POST", "/v1/pcs/submit", &headers, body).map(|answer| (answer.status, answer.body))
}

#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    next: AtomicU64,
    acks: Mutex<BTreeMap<u64, Ack>>,
}

/// Clients that send until they are ended.
pub struct Crowd {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// One client for each region, `rate` summaries a second each.
    pub fn start(urls: [String; 2], rate: u64, began: Instant) -> Crowd {
        let shared = Arc::new(Shared::default());
        let client = |home: usize| {
            let (urls, shared) = (urls.clone(), shared.clone());
            std::thread::spawn(move || send(home, &urls, rate, began, &shared))
        };
        let threads = (0..2).map(client).collect();
        Crowd { shared, threads }
    }

    /// Looks at what was acknowledged.
    pub fn acks<T>(&self, look: impl FnOnce(&BTreeMap<u64, Ack>) -> T) -> T {
        look(&self.shared.acks.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// A function that counts acknowledgements by region.
    pub fn counter(&self) -> impl Fn() -> [u64; 2] + Send + 'static {
        let shared = self.shared.clone();
        move || {
            let acks = shared.acks.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let first = acks.values().filter(|ack| ack.region == 0).count() as u64;
            [first, acks.len() as u64 - first]
        }
    }

    /// No more is sent; everything that was begun is answered.
    pub fn end(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.end();
    }
}

fn send(home: usize, urls: &[String; 2], rate: u64, began: Instant, shared: &Shared) {
    let clients: Result<Vec<Client>, _> = urls.iter().map(|url| Client::new(url, DEADLINE)).collect();
    let Ok(mut clients) = clients else { return };
    let pause = Duration::from_secs(1) / u32::try_from(rate).unwrap_or(u32::MAX).max(1);
    let (mut at, mut looked) = (home, Instant::now());
    let mut due = Instant::now();
    while !shared.ended.load(Ordering::SeqCst) {
        if at != home && looked.elapsed() >= LOOK {
            looked = Instant::now();
            if ready(&urls[home]) {
                at = home;
            }
        }
        let number = shared.next.fetch_add(1, Ordering::SeqCst);
        let (_, body) = summary(number, 0);
        loop {
            match submit(&mut clients[at], &body) {
                Ok((200 | 202, answer)) => {
                    let ack = Ack { at: began.elapsed(), region: at, home, body: answer };
                    shared.acks.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(number, ack);
                    break;
                }
                // The same summary elsewhere: there it is a repetition, or a first.
                Ok(_) | Err(_) => at = 1 - at,
            }
            if shared.ended.load(Ordering::SeqCst) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        due += pause;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}
