//! Submissions made and signed ahead, so that while the load runs its generator only copies bytes.
//!
//! All bodies share one template of the size clients send; what differs (epoch, id, signature) is kept in 100 bytes
//! a body and written in when it is sent.

use std::io::Write as _;

use engine::codec::hex;
use engine::summary::PcsId;
use engine::summary::parse;

use super::answer::Answer;
use super::load::Requests;
use crate::keys::Key;

/// What a load is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Bodies to make.
    pub bodies: u64,
    /// Records of one request; 1 goes to the single route.
    pub batch: u64,
    /// Of a hundred records, how many repeat the one before.
    pub repeats: u64,
    /// Tenant named in each request.
    pub tenant: String,
    /// `Host` header.
    pub host: String,
    /// Path of the single route.
    pub path: String,
    /// Drawn anew for each run: two runs must not be each other's duplicates.
    pub run: u64,
}

/// Prepared submissions.
pub struct Bodies {
    plan: Plan,
    template: Template,
    made: Vec<Varying>,
}

/// Text before the epoch, id and signature, and after the last.
struct Template {
    parts: [Vec<u8>; 4],
}

struct Varying {
    epoch: u64,
    id: [u8; 32],
    /// Base64, 44 bytes for HMAC, 88 for Ed25519.
    signature: Box<str>,
}

fn shard(run: u64) -> String {
    format!("bench-{run:016x}")
}

/// One body with holes for epoch, id and signature; its numbers are sound, so that it is accepted.
fn template(run: u64) -> Template {
    let root = hex(&[0x5a; 32]);
    let text = format!(
        "{{\"schema\":\"fractal-lba-kakeya\",\"version\":\"0.1\",\"shard_id\":\"{}\",\"epoch\":@,\"pcs_id\":\"@\",\
         \"attempt\":1,\"sent_at\":\"2026-01-01T00:00:00.000Z\",\"seed\":42,\"scales\":[2,4,8,16,32],\
         \"N_j\":{{\"2\":3,\"4\":5,\"8\":9,\"16\":17,\"32\":31}},\"coh_star\":0.73,\
         \"v_star\":[0.4082482904638631,-0.8164965809277261,0.4082482904638631],\"D_hat\":0.866733469,\"r\":0.87,\
         \"regime\":\"sticky\",\"budget\":0.285,\"merkle_root\":\"{root}\",\"sig\":\"@\",\
         \"ft\":{{\"outbox_seq\":1,\"degraded\":false,\"fallbacks\":[\"{}\"],\"clock_skew_ms\":0}}}}",
        shard(run),
        "none".repeat(62)
    );
    let mut parts = text.split('@').map(|part| part.as_bytes().to_vec());
    Template { parts: std::array::from_fn(|_| parts.next().unwrap_or_default()) }
}

impl Template {
    fn body(&self, epoch: u64, id: &[u8; 32], signature: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.parts[0]);
        // Writing to memory does not fail.
        let _ = write!(out, "{epoch}");
        out.extend_from_slice(&self.parts[1]);
        engine::codec::hex_into(out, id);
        out.extend_from_slice(&self.parts[2]);
        out.extend_from_slice(signature.as_bytes());
        out.extend_from_slice(&self.parts[3]);
    }
}

impl Bodies {
    /// Makes and signs all bodies on all cores.
    #[must_use]
    pub fn make(plan: Plan, key: &Key) -> Bodies {
        let template = template(plan.run);
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let share = plan.bodies.div_ceil(cores.max(1)).max(1);
        let made = std::thread::scope(|scope| {
            let template = &template;
            let run = plan.run;
            let workers: Vec<_> = (0..plan.bodies)
                .step_by(share as usize)
                .map(|from| {
                    let to = (from + share).min(plan.bodies);
                    scope.spawn(move || {
                        (from..to).map(|epoch| vary(template, run, epoch, key)).collect::<Vec<_>>()
                    })
                })
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
        });
        Bodies { plan, template, made }
    }

    /// Bodies made.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.made.len() as u64
    }

    /// Whole requests that can be made of them, at least one.
    #[must_use]
    pub fn requests(&self) -> u64 {
        let fresh = 100 - self.plan.repeats.min(99);
        ((self.count() / fresh * 100 + self.count() % fresh) / self.plan.batch.max(1)).max(1)
    }

    /// The body of record number `n`, if it was made.
    pub fn body(&self, n: u64, out: &mut Vec<u8>) -> bool {
        let Some(varying) = usize::try_from(self.which(n)).ok().and_then(|n| self.made.get(n)) else {
            return false;
        };
        self.template.body(varying.epoch, &varying.id, &varying.signature, out);
        true
    }

    /// Which body record `n` carries: of each hundred the last `repeats` repeat what went before.
    fn which(&self, n: u64) -> u64 {
        let fresh = 100 - self.plan.repeats.min(99);
        n / 100 * fresh + (n % 100).min(fresh - 1)
    }

    fn has(&self, n: u64) -> bool {
        self.which(n) < self.count()
    }
}

/// The same requests over and over, for a server that does not care.
pub struct Again<'a>(pub &'a Bodies);

impl Requests for Again<'_> {
    fn write(&self, n: u64, out: &mut Vec<u8>) -> bool {
        self.0.write(n % self.0.requests(), out)
    }

    fn records(&self, n: u64) -> u64 {
        self.0.records(n % self.0.requests())
    }
}

fn vary(template: &Template, run: u64, epoch: u64, key: &Key) -> Varying {
    let id = PcsId::derive(&hex(&[0x5a; 32]), epoch.cast_signed(), &shard(run));
    let mut body = Vec::with_capacity(1024);
    template.body(epoch, &id.0, "", &mut body);
    let pcs = parse(&body).expect("the template is a summary");
    Varying { epoch, id: id.0, signature: key.sign(&pcs.signed_fields()).into() }
}

impl Requests for Bodies {
    fn write(&self, n: u64, out: &mut Vec<u8>) -> bool {
        let batch = self.plan.batch.max(1);
        if !self.has(n * batch) {
            return false;
        }
        let Plan { path, host, tenant, .. } = &self.plan;
        let kind = if batch == 1 { "application/json" } else { "application/x-ndjson" };
        let _ = write!(
            out,
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nX-Tenant-Id: {tenant}\r\nContent-Type: {kind}\r\nContent-Length: "
        );
        let at = out.len();
        // The length is filled in when the body stands: seven digits are enough for what a server takes.
        out.extend_from_slice(b"       \r\n\r\n");
        let start = out.len();
        for record in n * batch..(n + 1) * batch {
            if !self.body(record, out) {
                break;
            }
            if batch > 1 {
                out.push(b'\n');
            }
        }
        let length = format!("{:<7}", out.len() - start);
        out[at..at + 7].copy_from_slice(&length.as_bytes()[..7]);
        true
    }

    fn records(&self, n: u64) -> u64 {
        let batch = self.plan.batch.max(1);
        (n * batch..(n + 1) * batch).filter(|record| self.has(*record)).count() as u64
    }

    fn recorded(&self, n: u64, answer: &Answer<'_>) -> u64 {
        if !(200..300).contains(&answer.status) {
            return 0;
        }
        if self.plan.batch <= 1 {
            return 1;
        }
        // One line for each record; those that failed say so by their status.
        let lines = answer.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let good =
            lines.filter(|line| line.starts_with(b"{\"status\":200") || line.starts_with(b"{\"status\":202"));
        (good.count() as u64).min(self.records(n))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn bodies(count: u64, batch: u64, repeats: u64) -> Bodies {
        let plan = Plan {
            bodies: count,
            batch,
            repeats,
            tenant: "demo".into(),
            host: "h:1".into(),
            path: "/v1/pcs/submit".into(),
            run: 7,
        };
        Bodies::make(plan, &Key::Hmac(b"testsecret".to_vec().into()))
    }

    #[test]
    fn every_body_is_a_sound_signed_summary_under_its_own_id() {
        let bodies = bodies(50, 1, 0);
        let mut ids = HashSet::new();
        for n in 0..50 {
            let mut body = Vec::new();
            assert!(bodies.body(n, &mut body));
            assert!((850..950).contains(&body.len()), "{} bytes", body.len());
            let pcs = parse(&body).unwrap();
            assert!(engine::summary::verdict::structure(&pcs).is_ok());
            let verdict = engine::summary::verdict::numbers(&pcs, &engine::summary::Policy::default_1_0_0());
            assert!(verdict.is_clean(), "{verdict:?}");
            assert_eq!(pcs.sig, Key::Hmac(b"testsecret".to_vec().into()).sign(&pcs.signed_fields()));
            assert!(ids.insert(pcs.pcs_id.to_string()));
        }
        assert!(!bodies.body(50, &mut Vec::new()));
    }

    #[test]
    fn a_request_says_its_length() {
        for (batch, records) in [(1, 10), (4, 3)] {
            let bodies = bodies(10, batch, 0);
            let mut sent = 0;
            for n in 0..records {
                let mut out = Vec::new();
                assert!(bodies.write(n, &mut out));
                let text = String::from_utf8(out).unwrap();
                let (head, body) = text.split_once("\r\n\r\n").unwrap();
                let length = head.split("Content-Length: ").nth(1).unwrap().trim();
                assert_eq!(length.parse::<usize>().unwrap(), body.len());
                sent += bodies.records(n);
            }
            assert_eq!(sent, 10);
            assert!(!bodies.write(records, &mut Vec::new()));
            assert_eq!(bodies.requests(), 10 / batch);
            let (mut first, mut again) = (Vec::new(), Vec::new());
            assert!(
                bodies.write(1, &mut first) && Again(&bodies).write(1 + 7 * bodies.requests(), &mut again)
            );
            assert_eq!(first, again);
        }
    }

    #[test]
    fn repeats_are_as_many_as_asked_for() {
        let bodies = bodies(180, 1, 10);
        let seen: Vec<u64> = (0..200).map(|n| bodies.which(n)).collect();
        let distinct: HashSet<_> = seen.iter().collect();
        assert_eq!((distinct.len(), *seen.iter().max().unwrap()), (180, 179));
    }
}
