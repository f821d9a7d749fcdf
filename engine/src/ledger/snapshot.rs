//! The ledger at one record, as bytes: with the table it goes on without the log before it.
//!
//! ```text
//! version u8 = 1, region (u8), applied u64, log time u64, rules version u64,
//! rows u64, content 32, hash of the last row 32, tree size u64, edge hashes 32 each,
//! chain 32, tally 80, policies, tenants, attestations, ledger digest 32, BLAKE3 of everything before 32
//! ```
//! The version is 1; one more of a log that changed its keys: the changes stand after the attestations; two more of a ledger
//! that knows other regions: what it knows of them stands behind those, and rows are then those of all regions; four more of
//! a log with cases: they stand behind all that; eight more of one in which tenants are withheld: they stand behind that.
//!
//! The rows themselves are the table's. Two digests must hold: that of the bytes, and the ledger's own,
//! recomputed from what was read.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::attest::Attestations;
use super::cases::Cases;
use super::logkeys::LogKeyChanges;
use super::outcome::Chain;
use super::recent::Recent;
use super::regions::Origins;
use super::rules::Rules;
use super::tally::Tally;
use super::tenants::Tenants;
use super::withholding::Withholding;
use super::{Content, Ledger, Table, TableError};
use crate::codec::{DecodeError, Reader, put8};
use crate::event::Position;
use crate::limits::{RECENT_KEYS_MAX, REGION_MAX};
use crate::log::{Digest, Lsn};
use crate::tree::Tree;

const VERSION: u8 = 1;

/// Added for a log that changed its keys.
const WITH_LOG_KEYS: u8 = 1;

/// Added for a ledger that knows other regions.
const WITH_REGIONS: u8 = 2;

/// Added for a log in which a case was opened.
const WITH_CASES: u8 = 4;

/// Added for a log in which tenants are withheld.
const WITH_WITHHELD: u8 = 8;

const VERSION_MAX: u8 = VERSION + WITH_LOG_KEYS + WITH_REGIONS + WITH_CASES + WITH_WITHHELD;

/// Why a ledger could not be restored. Replay the log instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// Written by a release with another form of snapshots.
    Version(u8),
    /// The bytes are not what was written.
    Damaged,
    /// The bytes hold together, but are no snapshot.
    Decode(DecodeError),
    /// The table is behind the snapshot, or holds other rows.
    Table(TableError),
    /// The parts do not add up to the digest they were written with.
    Digest,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Version(version) => write!(f, "a snapshot of version {version}"),
            SnapshotError::Damaged => f.write_str("the snapshot's bytes are damaged"),
            SnapshotError::Decode(error) => write!(f, "decode snapshot: {error}"),
            SnapshotError::Table(error) => write!(f, "match snapshot with its rows: {error}"),
            SnapshotError::Digest => f.write_str("the snapshot does not add up to its ledger digest"),
        }
    }
}

impl core::error::Error for SnapshotError {}

impl From<DecodeError> for SnapshotError {
    fn from(error: DecodeError) -> SnapshotError {
        SnapshotError::Decode(error)
    }
}

impl From<TableError> for SnapshotError {
    fn from(error: TableError) -> SnapshotError {
        SnapshotError::Table(error)
    }
}

/// What a snapshot says without its table.
struct Parts {
    region: String,
    applied: Lsn,
    now_ms: u64,
    rules_version: u64,
    rows: u64,
    content: Content,
    last_row: Digest,
    tree: Tree,
    chain: Chain,
    tally: Tally,
    rules: Rules,
    tenants: Tenants,
    attestations: Attestations,
    log_keys: LogKeyChanges,
    seen: BTreeMap<String, Position>,
    origins: Origins,
    cases: Cases,
    withholding: Withholding,
    digest: Digest,
}

impl Parts {
    fn read(bytes: &[u8]) -> Result<Parts, SnapshotError> {
        match bytes.first() {
            None => return Err(DecodeError::Short("version").into()),
            Some(&(VERSION..=VERSION_MAX)) => {}
            Some(&version) => return Err(SnapshotError::Version(version)),
        }
        let (body, sum) = bytes.split_last_chunk::<32>().ok_or(DecodeError::Short("digest"))?;
        if blake3::hash(body).as_bytes() != sum {
            return Err(SnapshotError::Damaged);
        }
        let mut reader = Reader::new(&body[1..]);
        let region = core::str::from_utf8(reader.bytes8(REGION_MAX, "region")?).unwrap_or_default();
        if !super::is_region(region) {
            return Err(DecodeError::OutOfBounds("region").into());
        }
        let applied = Lsn(reader.u64("applied")?);
        let now_ms = reader.u64("log time")?;
        let rules_version = reader.u64("rules version")?;
        let rows = reader.u64("rows")?;
        let content = Content::resume(Digest(reader.array("content")?));
        let last_row = Digest(reader.array("last row")?);
        let size = reader.u64("tree size")?;
        let mut edge = Vec::new();
        for _ in 0..size.count_ones() {
            edge.push(Digest(reader.array("tree edge")?));
        }
        let tree = Tree::resume(size, edge).ok_or(DecodeError::OutOfBounds("tree"))?;
        let chain = Chain::resume(Digest(reader.array("chain")?));
        let tally = Tally::read(&mut reader)?;
        let rules = Rules::read(&mut reader)?;
        let tenants = Tenants::read(&mut reader)?;
        let attestations = Attestations::read(&mut reader)?;
        let more = bytes[0] - VERSION;
        let log_keys = match more & WITH_LOG_KEYS {
            0 => LogKeyChanges::default(),
            _ => LogKeyChanges::read(&mut reader)?,
        };
        let (seen, origins) = match more & WITH_REGIONS {
            0 => Default::default(),
            _ => super::regions::read(&mut reader)?,
        };
        if !origins.fit(rows) {
            return Err(DecodeError::OutOfBounds("rows of regions").into());
        }
        let cases = match more & WITH_CASES {
            0 => Cases::default(),
            _ => Cases::read(&mut reader)?,
        };
        let withholding = match more & WITH_WITHHELD {
            0 => Withholding::default(),
            _ => Withholding::read(&mut reader)?,
        };
        let digest = Digest(reader.array("ledger digest")?);
        reader.end()?;
        let region = region.into();
        Ok(Parts {
            region,
            applied,
            now_ms,
            rules_version,
            rows,
            content,
            last_row,
            tree,
            chain,
            tally,
            rules,
            tenants,
            attestations,
            log_keys,
            seen,
            origins,
            cases,
            withholding,
            digest,
        })
    }
}

/// The record a snapshot stands at and the rows its table must hold, from its bytes alone.
///
/// # Errors
/// [`SnapshotError`] if they are not a whole snapshot.
pub fn inspect(bytes: &[u8]) -> Result<(Lsn, u64), SnapshotError> {
    Parts::read(bytes).map(|parts| (parts.applied, parts.rows))
}

impl<T: Table> Ledger<T> {
    /// The ledger's bytes. The table's rows must outlive them: make those durable first.
    ///
    /// # Errors
    /// [`TableError`] if the table has failed.
    ///
    /// # Panics
    /// Between the events of a record.
    pub fn snapshot(&self) -> Result<Vec<u8>, TableError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let digest = self.digest();
        let mut out = Vec::with_capacity(64 << 10);
        let (rotated, known) = (!self.log_keys.all().is_empty(), !self.seen.is_empty());
        let rotated_bit = if rotated { WITH_LOG_KEYS } else { 0 };
        let cases = self.cases.digest().is_some();
        let cases_bit = if cases { WITH_CASES } else { 0 };
        let withheld = self.withholding.digest().is_some();
        let withheld_bit = if withheld { WITH_WITHHELD } else { 0 };
        out.push(VERSION + rotated_bit + if known { WITH_REGIONS } else { 0 } + cases_bit + withheld_bit);
        put8(&mut out, self.region.as_bytes());
        for number in [self.applied.0, self.now_ms, self.rules_version, self.table.rows()] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.content.digest().0);
        out.extend_from_slice(&self.last_row()?.0);
        out.extend_from_slice(&self.tree.size().to_le_bytes());
        self.tree.edge().iter().for_each(|hash| out.extend_from_slice(&hash.0));
        out.extend_from_slice(&self.chain.link().0);
        self.tally.encode(&mut out);
        self.rules.encode(&mut out);
        self.tenants.encode(&mut out);
        self.attestations.encode(&mut out);
        if rotated {
            self.log_keys.encode(&mut out);
        }
        if known {
            super::regions::encode(&self.seen, &self.origins, &mut out)?;
        }
        if cases {
            self.cases.encode(&mut out);
        }
        if withheld {
            self.withholding.encode(&mut out);
        }
        out.extend_from_slice(&digest.0);
        let sum = blake3::hash(&out);
        out.extend_from_slice(sum.as_bytes());
        Ok(out)
    }

    /// Takes up the ledger that [`Ledger::snapshot`] wrote. Rows that the table holds beyond it are forgotten.
    ///
    /// # Errors
    /// [`SnapshotError`]: replay the log from its first record with an empty table.
    pub fn restore(bytes: &[u8], mut table: T) -> Result<Ledger<T>, SnapshotError> {
        let parts = Parts::read(bytes)?;
        table.rewind(parts.rows)?;
        let demoted = table.demoted();
        let mut ledger = Ledger {
            region: parts.region,
            applied: parts.applied,
            open: 0,
            now_ms: parts.now_ms,
            tree: parts.tree,
            table,
            recent: Recent::new(),
            recent_max: RECENT_KEYS_MAX,
            demoting: demoted,
            content: parts.content,
            tenants: parts.tenants,
            rules: parts.rules,
            rules_version: parts.rules_version,
            tally: parts.tally,
            chain: parts.chain,
            attestations: parts.attestations,
            log_keys: parts.log_keys,
            seen: parts.seen,
            origins: parts.origins,
            cases: parts.cases,
            withholding: parts.withholding,
            failed: None,
        };
        if ledger.last_row()? != parts.last_row {
            return Err(TableError::Damaged { part: "row", number: parts.rows }.into());
        }
        if ledger.digest() != parts.digest {
            return Err(SnapshotError::Digest);
        }
        // What expired after the snapshot was taken has not expired yet when the log goes on from there.
        if ledger.table.expired() > 0 && ledger.table.expired() > ledger.first_live_row(0)? {
            let number = ledger.table.expired();
            return Err(TableError::Damaged { part: "key of row", number }.into());
        }
        let Ledger { table, recent, .. } = &mut ledger;
        table.each(demoted, &mut |row, first| recent.insert(first.tag(), row))?;
        Ok(ledger)
    }

    /// Recomputes the index digest from the rows and compares: what a scrub does.
    ///
    /// # Errors
    /// [`TableError`] if the rows cannot be read or are not those of the log.
    pub fn check_rows(&self) -> Result<(), TableError> {
        let mut content = Content::default();
        let mut others = alloc::vec![Content::default(); self.origins.count()];
        let mut stranger = false;
        self.table.each(0, &mut |_, first| match usize::from(first.origin()).checked_sub(1) {
            None => content.add(&first.encode()),
            Some(at) => match others.get_mut(at) {
                Some(other) => other.add(&first.of_origin(0).encode()),
                None => stranger = true,
            },
        })?;
        if content == self.content && !stranger && self.origins.have_rows(&others) {
            Ok(())
        } else {
            Err(TableError::Damaged { part: "sum of rows", number: self.table.rows() })
        }
    }

    fn last_row(&self) -> Result<Digest, TableError> {
        match self.table.rows().checked_sub(1) {
            None => Ok(Digest::ZERO),
            Some(last) => Ok(Digest(*blake3::hash(&self.table.row(last)?.encode()).as_bytes())),
        }
    }
}
