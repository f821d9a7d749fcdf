//! The engines, each opened in its fastest durable configuration that we found: a batch is one write and
//! one data sync, and random payloads are not compressed.

use crate::front::RECORD;
use std::path::Path;
use std::sync::Arc;

/// Appends a batch so that it is durable on return.
pub trait Engine {
    fn append(&mut self, records: &[Arc<[u8]>]);
}

/// raft-engine: one region, one `LogBatch` of raw entries per group commit, `sync = true`.
pub struct RaftEngine {
    engine: raft_engine::Engine,
    next: u64,
}

/// An entry whose index stands in its first eight bytes, so that no protobuf schema of ours is needed.
pub struct Indexed;

impl raft_engine::MessageExt for Indexed {
    type Entry = protobuf::well_known_types::BytesValue;

    fn index(entry: &Self::Entry) -> u64 {
        let head = entry.value.first_chunk::<8>().expect("entries carry their index");
        u64::from_le_bytes(*head)
    }
}

/// The region all records go to.
const REGION: u64 = 1;

/// The engine as every row has it.
pub fn open_raft_engine(dir: &Path) -> raft_engine::Engine {
    let config = raft_engine::Config {
        dir: dir.to_str().expect("a UTF-8 path").to_owned(),
        batch_compression_threshold: raft_engine::ReadableSize::kb(0),
        purge_threshold: raft_engine::ReadableSize::gb(1024),
        ..Default::default()
    };
    raft_engine::Engine::open(config).expect("raft-engine opens")
}

/// Entry `index` of a region.
pub fn entry(index: u64, record: &[u8]) -> protobuf::well_known_types::BytesValue {
    let mut entry = protobuf::well_known_types::BytesValue::new();
    let mut value = Vec::with_capacity(8 + RECORD);
    value.extend_from_slice(&index.to_le_bytes());
    value.extend_from_slice(record);
    entry.value = value;
    entry
}

impl RaftEngine {
    pub fn open(dir: &Path) -> Self {
        let engine = open_raft_engine(dir);
        let next = engine.last_index(REGION).map_or(1, |i| i + 1);
        RaftEngine { engine, next }
    }

    pub fn len(&self) -> u64 {
        self.next - 1
    }

    /// Reads every entry in order, which checks and decodes it; `open` alone only reads the batch footers.
    /// Returns the sum of the payload lengths, so that nothing can be optimised away.
    pub fn read_all(&self) -> u64 {
        const CHUNK: u64 = 1024;
        let mut bytes = 0;
        let mut entries = Vec::with_capacity(CHUNK as usize);
        let mut from = 1;
        while from < self.next {
            let to = (from + CHUNK).min(self.next);
            entries.clear();
            self.engine
                .fetch_entries_to::<Indexed>(REGION, from, to, None, &mut entries)
                .expect("raft-engine reads its entries");
            bytes += entries.iter().map(|e| e.value.len() as u64).sum::<u64>();
            from = to;
        }
        bytes
    }
}

impl Engine for RaftEngine {
    fn append(&mut self, records: &[Arc<[u8]>]) {
        let mut batch = raft_engine::LogBatch::with_capacity(2);
        let entries: Vec<_> =
            records.iter().zip(self.next..).map(|(record, index)| entry(index, record)).collect();
        self.next += records.len() as u64;
        batch.add_entries::<Indexed>(REGION, &entries).expect("a batch below raft-engine's limit");
        self.engine.write(&mut batch, true).expect("raft-engine writes");
    }
}

/// fjall: one keyspace, one write batch per group commit, data sync.
pub struct Fjall {
    db: fjall::Database,
    keyspace: fjall::Keyspace,
    next: u64,
}

impl Fjall {
    pub fn open(dir: &Path) -> Self {
        let db = fjall::Database::builder(dir)
            .journal_compression(fjall::CompressionType::None)
            .open()
            .expect("fjall opens");
        let options = || {
            fjall::KeyspaceCreateOptions::default()
                .data_block_compression_policy(fjall::config::CompressionPolicy::disabled())
        };
        let keyspace = db.keyspace("log", options).expect("fjall opens a keyspace");
        Fjall { db, keyspace, next: 1 }
    }
}

impl Engine for Fjall {
    fn append(&mut self, records: &[Arc<[u8]>]) {
        let mut batch = self.db.batch().durability(Some(fjall::PersistMode::SyncData));
        for record in records {
            batch.insert(&self.keyspace, self.next.to_be_bytes(), &record[..]);
            self.next += 1;
        }
        batch.commit().expect("fjall commits");
    }
}

/// SQLite: one table, one transaction per group commit, WAL mode with `synchronous = FULL`.
pub struct Sqlite {
    db: rusqlite::Connection,
}

impl Sqlite {
    pub fn open(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).expect("a directory");
        let db = rusqlite::Connection::open(dir.join("log.db")).expect("sqlite opens");
        db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 20000;
             CREATE TABLE IF NOT EXISTS log (lsn INTEGER PRIMARY KEY, record BLOB NOT NULL);",
        )
        .expect("sqlite takes its settings");
        Sqlite { db }
    }
}

impl Engine for Sqlite {
    fn append(&mut self, records: &[Arc<[u8]>]) {
        let transaction = self.db.transaction().expect("sqlite begins");
        {
            let mut insert =
                transaction.prepare_cached("INSERT INTO log (record) VALUES (?1)").expect("sqlite prepares");
            for record in records {
                insert.execute([&record[..]]).expect("sqlite inserts");
            }
        }
        transaction.commit().expect("sqlite commits");
    }
}
