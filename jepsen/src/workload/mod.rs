//! Clients: what they ask, of whom, and how they write down what they know about the answer.
//!
//! A submission without an answer is `info`; one that the server says it did not record is `fail`, and the checker
//! holds the server to that. A read has no effect, so one without an answer has simply failed.

pub mod audit;
pub mod finish;
pub mod setonce;
pub mod tenants;

use crate::cluster::http;
use crate::history::{Event, Kind, Recorder};
use crate::http::{Answer, Client, Silence};
use crate::pcs::{self, Rival, TENANTS};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How long a client waits. Less than a node waits for a group without a leader, so that some answers are missed.
pub const PATIENCE: Duration = Duration::from_secs(4);

/// What all clients share.
pub struct Shared {
    /// Where everything is written down.
    pub recorder: Recorder,
    /// Says that it is over.
    pub stop: AtomicBool,
    /// Operations that may still begin.
    pub budget: AtomicU64,
    /// The newest number under which clients compete.
    pub newest: AtomicU64,
    /// Numbers that one tenant has for itself so far.
    pub alone: AtomicU64,
    /// Numbers of the metered tenant so far.
    pub metered: AtomicU64,
    /// The next process number.
    processes: AtomicU64,
}

impl Shared {
    /// Nothing has happened yet.
    pub fn new(budget: u64) -> Arc<Shared> {
        Arc::new(Shared {
            recorder: Recorder::new(),
            stop: AtomicBool::new(false),
            budget: AtomicU64::new(budget),
            newest: AtomicU64::new(0),
            alone: AtomicU64::new(0),
            metered: AtomicU64::new(0),
            processes: AtomicU64::new(0),
        })
    }

    /// Every id that somebody may have submitted, with its tenant.
    pub fn keys(&self) -> Vec<(usize, u64)> {
        let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        let mut keys: Vec<(usize, u64)> = (0..=count(&self.newest)).flat_map(|n| [(0, n), (1, n)]).collect();
        keys.extend((0..count(&self.alone)).map(|n| (0, tenants::ALONE + n)));
        keys.extend((0..count(&self.metered)).map(|n| (2, tenants::METERED + n)));
        keys
    }

    /// Whether a client may go on; takes one operation from the budget.
    pub fn go_on(&self) -> bool {
        let spend = |left: u64| left.checked_sub(1);
        !self.stop.load(Ordering::SeqCst)
            && self.budget.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend).is_ok()
    }
}

/// What became of an operation.
pub struct Done {
    kind: Kind,
    value: Option<String>,
    error: Option<String>,
}

impl Done {
    fn ok(value: Option<String>) -> Done {
        Done { kind: Kind::Ok, value, error: None }
    }

    fn fail(error: impl Into<String>) -> Done {
        Done { kind: Kind::Fail, value: None, error: Some(error.into()) }
    }

    fn info(error: impl Into<String>) -> Done {
        Done { kind: Kind::Info, value: None, error: Some(error.into()) }
    }
}

/// One client: one thread, one host, one operation at a time.
pub struct Actor {
    /// What it shares with the others.
    pub shared: Arc<Shared>,
    /// The host it asks.
    pub host: usize,
    client: Client,
    process: u64,
}

impl Actor {
    /// A client of this host.
    pub fn new(shared: &Arc<Shared>, host: usize) -> Actor {
        let process = shared.processes.fetch_add(1, Ordering::SeqCst);
        Actor { shared: Arc::clone(shared), host, client: Client::new(http(host), PATIENCE), process }
    }

    /// Does one thing and writes it down: before it begins and after it has ended.
    pub fn perform(
        &mut self,
        f: &str,
        key: &str,
        value: Option<String>,
        act: impl FnOnce(&mut Client) -> Done,
    ) -> Done {
        let event = |kind, value, error| Event {
            time: 0,
            kind,
            process: Some(self.process),
            f: f.to_owned(),
            node: self.host as u64,
            key: Some(key.to_owned()),
            value,
            error,
        };
        self.shared.recorder.note(event(Kind::Invoke, value.clone(), None));
        let done = act(&mut self.client);
        let seen = if done.kind == Kind::Ok { done.value.clone() } else { value };
        self.shared.recorder.note(event(done.kind, seen, done.error.clone()));
        if done.kind == Kind::Info {
            // What it asked may still happen: nobody goes on under its number.
            self.process = self.shared.processes.fetch_add(1, Ordering::SeqCst);
        }
        if done.kind != Kind::Ok {
            std::thread::sleep(Duration::from_millis(20));
        }
        done
    }

    /// Submits one of the rivals.
    pub fn submit(&mut self, rival: Rival) -> bool {
        self.submit_as("submit", rival)
    }

    /// The same under another name in the history.
    pub fn submit_as(&mut self, f: &str, rival: Rival) -> bool {
        let (key, body) = (pcs::key(rival.tenant, rival.number), rival.body());
        let done = self.perform(f, &key, Some(rival.label()), |client| {
            let headers = [("X-Tenant-Id", TENANTS[rival.tenant]), ("Content-Type", "application/json")];
            match client.send("POST", "/v1/pcs/submit", &headers, &body) {
                Ok(answer) => submitted(&answer, rival.number),
                Err(Silence::Unsent(error)) => Done::fail(error.to_string()),
                Err(silence) => Done::info(silence.to_string()),
            }
        });
        done.kind == Kind::Ok
    }

    /// Reads the first answer of a summary.
    pub fn read(&mut self, f: &str, tenant: usize, number: u64) -> bool {
        let path = format!("/v1/pcs/{}", pcs::id(number));
        let done = self.perform(f, &pcs::key(tenant, number), None, |client| {
            match client.send("GET", &path, &[("X-Tenant-Id", TENANTS[tenant])], b"") {
                Ok(answer) if answer.status == 404 => Done::ok(None),
                Ok(answer) if answer.status == 200 => saw(&answer, number),
                Ok(answer) => refused(&answer),
                Err(silence) => Done::fail(silence.to_string()),
            }
        });
        done.kind == Kind::Ok
    }
}

/// The value of an answer: its winner, its place, and a digest of its bytes.
fn saw(answer: &Answer, number: u64) -> Done {
    use sha2::Digest as _;
    match pcs::winner(&answer.body, &pcs::id(number)) {
        Ok(winner) => {
            let digest = pcs::hex(&sha2::Sha256::digest(&answer.body)[..4]);
            Done::ok(Some(format!("{winner}#{digest}")))
        }
        Err(why) => Done::info(format!("unexpected: {why}")),
    }
}

fn submitted(answer: &Answer, number: u64) -> Done {
    match answer.status {
        200 => saw(answer, number),
        429 | 503 => refused(answer),
        // The server's own word for it: nobody knows.
        500 => Done::info("500"),
        _ => Done::info(unexpected(answer)),
    }
}

/// What a refusal says about whether it happened.
fn refused(answer: &Answer) -> Done {
    let page: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let kind =
        page["type"].as_str().and_then(|kind| kind.rsplit(['/', '#']).next()).unwrap_or_default().to_owned();
    match (answer.status, kind.as_str()) {
        (503, "outcome-unknown") => Done::info(kind),
        (503, "log-unavailable" | "overloaded" | "draining") => Done::fail(kind),
        // Of a read, which has no effect; a submission's is looked at before.
        (500, "internal") => Done::fail(kind),
        (429, "quota-exceeded" | "too-many-requests") => Done::fail(kind),
        _ => Done::info(unexpected(answer)),
    }
}

fn unexpected(answer: &Answer) -> String {
    let text: String = answer.text().chars().take(200).collect();
    format!("unexpected: {} {text}", answer.status)
}
