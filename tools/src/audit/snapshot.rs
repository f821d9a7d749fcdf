//! Taking a ledger up again from a node's snapshot, without touching the node's own files.
//!
//! ```text
//! "flksnp01", SHA-256 of the rest, then bincode: lsn, term, membership, ledger, what else a server needs
//! ```

use std::path::Path;

use engine::ledger::Ledger;
use engine::log::Lsn;
use segments::runs::{DiskTable, TableOptions};
use sha2::{Digest, Sha256};

use super::home::Home;
use super::resolve::is_group;
use crate::report::{Exit, Fault};
use crate::worm::tamper::copy_folder;

const MAGIC: &[u8; 8] = b"flksnp01";

/// Position, term, membership, the ledger's own bytes.
type Head = (u64, u64, Vec<u8>, Vec<u8>);

/// A snapshot as it stands in its file.
pub struct Snapshot {
    /// The record after which it stands.
    pub after: Lsn,
    /// Whether the group had more than one voter then.
    pub group: bool,
    ledger: Vec<u8>,
}

/// What to do without it.
const NEXT: &str = "leave --from-snapshot away: the log alone is enough";

/// Reads a snapshot.
///
/// # Errors
/// The file is none.
pub fn read(path: &Path) -> Result<Snapshot, Fault> {
    let bytes = std::fs::read(path).map_err(|error| Fault::read(path, error))?;
    let damaged =
        |why: &str| Fault::new("this is no snapshot", path.display(), why, NEXT).exit(Exit::Tampered);
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| damaged("it does not begin like one"))?;
    let (digest, body) = rest.split_first_chunk::<32>().ok_or_else(|| damaged("it is cut off"))?;
    if Sha256::digest(body).as_slice() != digest {
        return Err(damaged("its digest does not hold"));
    }
    let head = bincode::serde::decode_from_slice::<Head, _>(body, bincode::config::standard());
    let ((lsn, _, membership, ledger), _) = head.map_err(|error| damaged(&error.to_string()))?;
    Ok(Snapshot { after: Lsn(lsn), group: is_group(&membership), ledger })
}

/// The ledger of a snapshot over a copy of the node's rows in `scratch`.
///
/// # Errors
/// The rows beside it are not its own.
pub fn restore(
    snapshot: &Snapshot,
    path: &Path,
    home: &Home,
    scratch: &Path,
) -> Result<Ledger<DiskTable>, Fault> {
    let rows = home.dir().join("proj").join("index");
    let copy = scratch.join("rows");
    copy_folder(&rows, &copy).map_err(|error| Fault::read(&rows, error))?;
    let table = DiskTable::open(&copy, &TableOptions::new(table_id(home))).map_err(|error| {
        Fault::new("cannot open the rows beside the snapshot", rows.display(), error, NEXT)
    })?;
    Ledger::restore(&snapshot.ledger, table).map_err(|error| {
        Fault::new("the snapshot does not fit the rows beside it", path.display(), error, NEXT)
    })
}

/// What the node names its rows by: the first eight bytes of the cluster in its identity file.
fn table_id(home: &Home) -> u64 {
    let text = std::fs::read_to_string(home.dir().join("identity")).unwrap_or_default();
    let cluster = text.lines().find_map(|line| line.strip_prefix("cluster = ")).unwrap_or_default();
    let bytes: [u8; 16] = engine::codec::unhex(cluster.trim()).unwrap_or_default();
    u64::from_le_bytes(*bytes.first_chunk().unwrap_or(&[0; 8]))
}
