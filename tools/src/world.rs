//! A small log made in memory for tests, the way a leader makes it: judged, folded, attested, signed.

use std::path::Path;

use chacha20poly1305::aead::{Aead, Payload as Sealing};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use engine::checkpoint::{Checkpoint, Signed, Signer};
use engine::event::{Envelope, Event, KeyKind, KeySpec, Payload, Record, Tenant};
use engine::ids::{KeyId, TenantId};
use engine::ledger::{Ledger, MemTable};
use engine::log::Lsn;
use engine::tree::MemHashes;
use engine::tree::tiles::{new_tiles, tile_bytes};

use crate::audit::home::Kek;
use crate::audit::judges::{Judges, Source};
use crate::bench::bodies::{Bodies, Plan};
use crate::keys::Key;

pub const REGION: &str = "default";
pub const ORIGIN: &str = "localhost/pcs/default";
const SECRET: &[u8] = b"testsecret";
const KEK: [u8; 32] = [3; 32];
const START_MS: u64 = 1_763_700_000_000;

pub struct World {
    pub ledger: Ledger<MemTable>,
    /// Every record, encoded.
    pub records: Vec<(Lsn, Vec<u8>)>,
    /// Every leaf with its log time.
    pub leaves: Vec<(u64, Vec<u8>)>,
    pub signer: Signer,
    pub checkpoint: Vec<u8>,
    hmac: Bodies,
    ed25519: Bodies,
    sent: u64,
    now_ms: u64,
    folder: tempfile::TempDir,
}

fn bodies(run: u64, key: &Key) -> Bodies {
    let plan = Plan {
        bodies: 1300,
        batch: 1,
        repeats: 0,
        tenant: String::new(),
        host: String::new(),
        path: String::new(),
        run,
    };
    Bodies::make(plan, key)
}

fn tenant() -> TenantId {
    TenantId::new("demo").unwrap()
}

impl World {
    /// A log with a tenant that has an HMAC and an Ed25519 key, and nothing else.
    pub fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let seed = [5; 32];
        let public = engine::summary::sign::ed25519_public(&seed);
        let mut world = World {
            ledger: Ledger::new(REGION, MemTable::default()),
            records: Vec::new(),
            leaves: Vec::new(),
            signer: Signer::new(ORIGIN, &[9; 32]).unwrap(),
            checkpoint: Vec::new(),
            hmac: bodies(1, &Key::Hmac(SECRET.to_vec().into())),
            ed25519: bodies(2, &Key::Ed25519(seed.into())),
            sent: 0,
            now_ms: START_MS,
            folder,
        };
        std::fs::write(world.kek(), base64::Engine::encode(&base64::engine::general_purpose::STANDARD, KEK))
            .unwrap();
        world.record(Payload::Blank);
        // One configuration with one voter, node 7, and no addresses.
        world.record(Payload::Membership([&[1, 1][..], &7u64.to_le_bytes(), &[0]].concat()));
        let at_ms = world.now_ms;
        let key = |id: &str, kind| {
            let key_id = KeyId::new(id).unwrap();
            Event::KeySet(KeySpec {
                at_ms,
                tenant: tenant(),
                key_id,
                kind,
                not_before_ms: 0,
                not_after_ms: u64::MAX,
            })
        };
        let aad = [b"flk-hmac-key".as_slice(), b"demo", &[0], b"aa"].concat();
        let nonce = [7; 24];
        let sealed = XChaCha20Poly1305::new((&KEK).into())
            .encrypt(&XNonce::from(nonce), Sealing { msg: SECRET, aad: &aad })
            .unwrap();
        let sealed = [nonce.as_slice(), &sealed].concat();
        world.events(vec![
            Event::TenantSet(Tenant {
                at_ms,
                id: tenant(),
                display: "Demo".into(),
                active: true,
                rate_per_s: 100,
                burst: 200,
                daily_quota: 0,
                region: REGION.into(),
            }),
            key("aa", KeyKind::HmacSealed(sealed)),
            key("bb", KeyKind::Ed25519(public)),
        ]);
        world
    }

    /// A log with some of everything, attested and signed to its end.
    pub fn busy(records: u64) -> World {
        let mut world = World::new();
        for n in 0..records {
            world.submit(1 + n % 5);
            if n % 7 == 3 {
                world.attest();
            }
        }
        world.attest();
        world
    }

    /// Where the key-encryption key is.
    pub fn kek(&self) -> std::path::PathBuf {
        self.folder.path().join("kek")
    }

    /// The body of submission `n`, counted from 0; its salt is sixteen times the byte `n + 1`.
    pub fn body(&self, n: u64) -> Vec<u8> {
        let mut body = Vec::new();
        match n % 10 {
            // A duplicate, a body that is none, a body nobody signed.
            7 => assert!(self.hmac.body(n.saturating_sub(7), &mut body)),
            8 => body = b"not json".to_vec(),
            9 => {
                assert!(self.hmac.body(n, &mut body));
                let at = body.windows(7).position(|bytes| bytes == b"\"sig\":\"").unwrap() + 7;
                body[at] = if body[at] == b'A' { b'B' } else { b'A' };
            }
            // Another content under the id of the one before: `regime` is not signed.
            4 => {
                assert!(self.hmac.body(n - 1, &mut body));
                let text = String::from_utf8(body).unwrap().replace("\"sticky\"", "\"mixed\"");
                body = text.into_bytes();
            }
            n_ if n_ % 2 == 1 => assert!(self.hmac.body(n, &mut body)),
            _ => assert!(self.ed25519.body(n, &mut body)),
        }
        body
    }

    /// One record of so many submissions.
    pub fn submit(&mut self, count: u64) {
        let events = (0..count)
            .map(|_| {
                self.now_ms += 700;
                self.sent += 1;
                let salt = [self.sent as u8; 16];
                let body = self.body(self.sent - 1);
                Event::Received(Envelope { tenant: tenant(), received_at_ms: self.now_ms, salt, body })
            })
            .collect();
        self.events(events);
    }

    /// What a leader logs now and then: `Attested`, and in the next record a signed checkpoint.
    pub fn attest(&mut self) {
        let attested = self.ledger.attest();
        let tree = self.ledger.tree();
        let head = Checkpoint { origin: ORIGIN.into(), size: tree.size(), root: tree.root() };
        self.checkpoint = head.publish(&self.signer);
        self.events(vec![Event::Attested(attested)]);
        self.events(vec![Event::Checkpoint(self.checkpoint.clone())]);
    }

    pub fn events(&mut self, events: Vec<Event>) {
        self.record(Payload::Events(events));
    }

    fn record(&mut self, payload: Payload) {
        let lsn = self.ledger.applied().next();
        let record = Record { leader: 1, payload };
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.records.push((lsn, bytes));
        let kek = Kek::read(&self.kek()).unwrap();
        let source = Source::Secrets(&kek);
        if let Payload::Events(events) = &record.payload {
            let mut judges = Judges::of(&self.ledger, &source);
            for (nth, event) in events.iter().enumerate() {
                if judges.version() != self.ledger.keys_version() {
                    judges = Judges::of(&self.ledger, &source);
                }
                let judged = match event {
                    Event::Received(envelope) => Some(judges.judge(envelope, 0)),
                    _ => None,
                };
                let outcome = self.ledger.decide(lsn, nth as u32, event, judged.as_ref()).unwrap();
                let applied = self.ledger.apply(lsn, nth as u32, event, judged.as_ref(), &outcome);
                if let Some(leaf) = applied.leaf {
                    self.leaves.push((self.ledger.log_time_ms(), leaf));
                }
            }
        }
        self.ledger.end_record(lsn);
    }

    /// Writes a node's whole directory: log in small segments, identity, projections.
    pub fn write(&self, root: &Path) {
        self.write_log(root);
        self.write_projections(root);
    }

    /// Writes a node's log and identity.
    #[expect(clippy::disallowed_methods, reason = "the fixture is the one that writes")]
    pub fn write_log(&self, root: &Path) {
        let identity = segments::Identity { cluster: [6; 16], region: REGION.into() };
        std::fs::create_dir_all(root.join("log")).unwrap();
        let (disk, _) = segments::AnyDisk::open(&root.join("log"), segments::Prefer::Posix).unwrap();
        let mut options = segments::Options::new(identity);
        options.segment_bytes = 64 << 10;
        let nothing = |_: &segments::Frame<'_>| Ok::<(), std::convert::Infallible>(());
        let (mut log, _) = segments::Log::open(disk, &options, nothing).unwrap();
        for (lsn, payload) in &self.records {
            log.append(segments::Frame::entry(*lsn, 1, payload)).unwrap();
            log.flush().unwrap();
            log.set_committed(*lsn);
        }
        drop(log);
        let cluster = "06".repeat(16);
        std::fs::write(root.join("identity"), format!("cluster = {cluster}\nregion = {REGION}\nnode = 1\n"))
            .unwrap();
    }

    /// Writes everything a node's directory holds besides the log: WORM files (a new one each minute), tiles,
    /// checkpoint, public key.
    pub fn write_projections(&self, root: &Path) {
        let mut open: Option<(u64, std::path::PathBuf, Vec<u8>)> = None;
        let mut files = Vec::new();
        for (time_ms, leaf) in &self.leaves {
            let minute = time_ms / 60_000;
            if open.as_ref().is_none_or(|(have, ..)| *have != minute) {
                files.extend(open.take());
                let stamp = jiff::Timestamp::from_second((time_ms / 1000) as i64).unwrap();
                open = Some((minute, stamp.strftime("%Y/%m/%d/%H%M%S.jsonl").to_string().into(), Vec::new()));
            }
            let (.., bytes) = open.as_mut().unwrap();
            bytes.extend_from_slice(leaf);
            bytes.push(b'\n');
        }
        files.extend(open);
        let (mut first, last) = (0, files.len() - 1);
        for (n, (_, name, bytes)) in files.into_iter().enumerate() {
            let path = root.join("worm").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let count = bytes.iter().filter(|byte| **byte == b'\n').count();
            if n < last {
                let text = format!("{{\"first\":{first},\"count\":{count}}}\n");
                std::fs::write(path.with_extension("root"), text).unwrap();
            }
            std::fs::write(path, bytes).unwrap();
            first += count;
        }
        let tlog = root.join("tlog").join(REGION);
        let size = Signed::parse(&self.checkpoint).map_or(0, |signed| signed.checkpoint.size);
        let mut hashes = MemHashes::default();
        for (_, leaf) in &self.leaves[..size as usize] {
            hashes.append(engine::tree::leaf_hash(leaf));
        }
        for tile in new_tiles(0, size) {
            let path = tlog.join(tile.path());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, tile_bytes(tile, &mut hashes).unwrap()).unwrap();
        }
        std::fs::create_dir_all(&tlog).unwrap();
        std::fs::write(tlog.join("checkpoint"), &self.checkpoint).unwrap();
        std::fs::create_dir_all(root.join("keys")).unwrap();
        std::fs::write(root.join("keys/log.vkey"), self.signer.vkeys()).unwrap();
    }
}
