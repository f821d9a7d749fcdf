//! A new node begins with copies of a member's sealed segments; Raft brings what came after them.
//!
//! The files are fetched into the log's own directory before there is a log in it, from one member, in order. Each is
//! kept when it is whole: equal to what the member listed, to its own sums, and the next one of this very log. What a
//! broken connection or a restart left behind is gone on with. The manifest is written last, so that a directory in
//! which this was interrupted is no log and cannot pass for one (see [`segments::seed`], also for what may be believed
//! of such a copy). Then comes the member's ledger, if it has one that stands within those segments (see `ledger`): with it
//! the node need not compute everything from the first record on.
//!
//! L1: pieces, lists, pieces under way, rounds and waiting have bounds.

mod check;
mod ledger;

use crate::metrics::Metrics;
use crate::peers::files::{Ask, Listed, PIECE_MAX, State, TOLD_MAX, Told, What};
use crate::peers::{FILES, Hello, Wire};
use engine::log::Lsn;
use futures_util::{StreamExt, TryStreamExt, stream};
use ledger::Known;
pub use ledger::{Places, Unconfirmed};
use raft::{Peer, Unreached};
use segments::seed::{begin_after, is_begun};
use segments::{AnyDisk, DirLock, Footer, Identity, Prefer, SegmentHeader};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Says from which member the files are.
const SOURCE: &str = "SEED";
/// How long a member may answer nothing before another one is asked, and all of them before the start is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one answer may take.
const ONE: Duration = Duration::from_secs(10);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);
/// Pieces under way at a time.
const DEPTH: usize = 8;
/// How often a member is asked for what it has sealed meanwhile.
const ROUNDS: usize = 8;

/// What a node begins with.
pub struct Terms<'a> {
    /// The log's directory.
    pub dir: PathBuf,
    /// Whose log it is.
    pub identity: Identity,
    /// This node, as it greets.
    pub me: &'a Hello,
    /// Length of the segments this node will write.
    pub segment_bytes: u64,
    /// How the log's disk is opened.
    pub prefer: Prefer,
    /// Whom to ask.
    pub members: &'a [(u64, String)],
    /// The way to them.
    pub wire: &'a Wire,
    /// Counts.
    pub metrics: &'a Arc<Metrics>,
    /// Where what is computed from the log stands.
    pub places: Places,
}

/// What came as files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeded {
    /// The member.
    pub from: u64,
    /// Segments.
    pub segments: u64,
    /// Their last position.
    pub last: Lsn,
}

/// Why a node could not begin.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SeedError {
    #[error("{path}: {source}")]
    Disk { path: PathBuf, source: io::Error },
    #[error("beginning the log after what was fetched: {0}")]
    Begin(#[from] segments::OpenError),
    #[error(
        "fetching the log: no member answered for {seconds} s; the last said: {last}. What was fetched is kept"
    )]
    Unreached { seconds: u64, last: String },
    #[error(
        "node {0} was in the group before, with another data directory: choose a name never used, with a certificate of its own"
    )]
    Used(u64),
}

/// Why nothing more comes from one member.
enum Trouble {
    /// It does not answer.
    Unreached(String),
    /// What it sends is not what it should be.
    Refused(String),
    /// This node cannot go on, whoever sends.
    Here(SeedError),
}

impl From<Unreached> for Trouble {
    fn from(error: Unreached) -> Trouble {
        Trouble::Unreached(error.to_string())
    }
}

/// What is there of a member's log.
#[derive(Clone, Debug, Default)]
struct Have {
    last: Option<(SegmentHeader, Footer)>,
    known: Known,
}

impl Have {
    /// How many segments.
    fn segments(&self) -> u64 {
        self.last.as_ref().map_or(0, |(header, _)| header.number)
    }
}

/// Fetches the log into a directory that has none. `None` when there is a log already, or nothing to be had.
///
/// # Errors
/// [`SeedError`]: the next start goes on.
pub async fn fetch(terms: &Terms<'_>) -> Result<Option<Seeded>, SeedError> {
    let dir = &terms.dir;
    let at = |source| SeedError::Disk { path: dir.clone(), source };
    if is_begun(dir).map_err(at)? {
        return Ok(None);
    }
    segments::create_dir_synced(dir).map_err(at)?;
    let lock = DirLock::acquire(dir).map_err(at)?;
    let begun = std::fs::read_to_string(dir.join(SOURCE)).unwrap_or_default();
    let mut members: Vec<Peer> = terms
        .members
        .iter()
        .filter(|(node, _)| *node != terms.me.node)
        .map(|(node, address)| Peer { node: *node, address: address.clone(), incarnation: 0 })
        .collect();
    // Whom this began with goes on.
    members.sort_by_key(|peer| !begun.starts_with(&format!("node = {}\n", peer.node)));
    let started = Instant::now();
    let mut said = String::from("no member is named");
    let mut refused = 0;
    for peer in &members {
        match terms.from(peer).await {
            Ok(None) => {
                terms.clear().map_err(at)?;
                return Ok(None);
            }
            Ok(Some(last)) => {
                drop(lock);
                return terms.begin(peer, &last, started).map(Some);
            }
            Err(Trouble::Unreached(why)) => said = why,
            Err(Trouble::Refused(why)) => {
                terms.metrics.seed_refused.inc();
                tracing::error!(
                    node = peer.node,
                    why,
                    "what a member sent is refused; nothing of it is kept"
                );
                terms.clear().map_err(at)?;
                refused += 1;
            }
            Err(Trouble::Here(error)) => return Err(error),
        }
    }
    if refused == members.len() && refused > 0 {
        tracing::error!("no member has files that hold; the leader sends the log record by record");
        return Ok(None);
    }
    Err(SeedError::Unreached { seconds: started.elapsed().as_secs(), last: said })
}

impl Terms<'_> {
    fn here(&self, source: io::Error) -> Trouble {
        Trouble::Here(SeedError::Disk { path: self.dir.clone(), source })
    }

    /// Everything that one member has sealed; `None` when that is nothing.
    async fn from(&self, peer: &Peer) -> Result<Option<(SegmentHeader, Footer)>, Trouble> {
        let mut peer = peer.clone();
        let mut waiting = Waiting::begin();
        let hello = loop {
            match self.wire.greet(self.me, &peer, ONE).await {
                Ok(hello) => break hello,
                Err(error) => waiting.pause(error.to_string()).await?,
            }
        };
        peer.incarnation = hello.incarnation;
        self.claim(&peer).map_err(|error| self.here(error))?;
        let mut have = self.present().await?;
        let mut state = None;
        for _ in 0..ROUNDS {
            // The last one again: it must still be what it was.
            let number = have.segments();
            let (listed, theirs) = self.list(&peer, number.max(1)).await?;
            state = theirs;
            let skip = usize::from(number > 0);
            if let Some((header, footer)) = &have.last {
                let same = Listed { bytes: header.bytes, digest: footer.digest };
                if listed.first() != Some(&same) {
                    return Err(Trouble::Refused(format!("its segment {number} is another one than before")));
                }
            }
            if listed.len() == skip {
                break;
            }
            for (number, listed) in (number + 1..).zip(&listed[skip..]) {
                have = self.segment(&peer, number, listed, &have).await?;
            }
        }
        if let Some(state) = state.filter(|_| have.last.is_some()) {
            ledger::fetch(self, &peer, &state, &have.known).await?;
        }
        Ok(have.last)
    }

    async fn ask(&self, peer: &Peer, ask: Ask) -> Result<Told, Unreached> {
        let bytes = self.wire.post(peer, FILES, ask.encode().into(), TOLD_MAX, ONE).await?;
        Told::decode(&bytes).map_err(|error| Unreached::NoAnswer(format!("node {}: {error}", peer.node)))
    }

    async fn list(&self, peer: &Peer, from: u64) -> Result<(Vec<Listed>, Option<State>), Trouble> {
        let mut waiting = Waiting::begin();
        loop {
            match self.ask(peer, Ask::List { from }).await {
                Ok(Told::List { segments, state, .. }) => return Ok((segments, state)),
                Ok(Told::Gone(why)) => return Err(Trouble::Refused(why)),
                Ok(Told::Piece(_)) => return Err(Trouble::Refused("an answer to another question".into())),
                Err(error) => waiting.pause(error.to_string()).await?,
            }
        }
    }

    /// One segment, from where an earlier try stopped.
    async fn segment(
        &self,
        peer: &Peer,
        number: u64,
        listed: &Listed,
        before: &Have,
    ) -> Result<Have, Trouble> {
        let sizes = 4 * engine::limits::BLOCK as u64..=segments::SEGMENT_SIZE_MAX;
        if !sizes.contains(&listed.bytes) {
            return Err(Trouble::Refused(format!("segment {number} of {} bytes", listed.bytes)));
        }
        let path = self.path(number).with_extension("seg.part");
        let here = |error| self.here(error);
        let file = OpenOptions::new().create(true).read(true).write(true).truncate(false).open(&path);
        let file = file.map_err(here)?;
        let mut resumed = file.metadata().map_err(here)?.len().min(listed.bytes);
        loop {
            let from = resumed;
            file.set_len(from).map_err(here)?;
            if from > 0 {
                tracing::info!(segment = number, from, "going on in the middle of a file");
            }
            self.pieces(peer, What::Segment(number), from..listed.bytes, &file).await?;
            file.sync_all().map_err(here)?;
            match self.check(path.clone(), number, listed, before).await? {
                Ok(good) => {
                    std::fs::rename(&path, self.path(number)).map_err(here)?;
                    self.sync_dir().map_err(here)?;
                    let of = listed.bytes;
                    tracing::info!(segment = number, bytes = of, node = peer.node, "a segment came whole");
                    return Ok(good);
                }
                // Power may have taken a part of what an earlier process wrote. What came in one piece is what was sent.
                Err(why) if from > 0 => {
                    tracing::warn!(
                        segment = number,
                        why,
                        "what was there of a file does not hold: once more"
                    );
                    resumed = 0;
                }
                Err(why) => return Err(Trouble::Refused(why)),
            }
        }
    }

    /// Writes a range of a member's file, in order.
    async fn pieces(
        &self,
        peer: &Peer,
        what: What,
        range: std::ops::Range<u64>,
        file: &File,
    ) -> Result<(), Trouble> {
        let mut waiting = Waiting::begin();
        let mut next = range.start;
        while next < range.end {
            let offsets = (next..range.end).step_by(PIECE_MAX as usize);
            let asks = offsets.map(|offset| {
                let length = (range.end - offset).min(u64::from(PIECE_MAX)) as u32;
                async move { Ok((length, self.ask(peer, Ask::Piece { what, offset, length }).await?)) }
            });
            let mut told = stream::iter(asks).buffered(DEPTH);
            loop {
                match told.try_next().await {
                    Ok(None) => break,
                    Ok(Some((length, Told::Piece(bytes)))) if bytes.len() == length as usize => {
                        file.write_all_at(&bytes, next).map_err(|error| self.here(error))?;
                        next += u64::from(length);
                        self.metrics.seed_bytes.inc_by(u64::from(length));
                        waiting = Waiting::begin();
                    }
                    Ok(Some((_, Told::Gone(why)))) => return Err(Trouble::Refused(why)),
                    Ok(Some(_)) => return Err(Trouble::Refused("an answer to another question".into())),
                    Err::<_, Unreached>(error) => {
                        drop(told);
                        waiting.pause(error.to_string()).await?;
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// From now on the files here are this member's. Those of another one are removed: two nodes divide the same log into
    /// different segments.
    fn claim(&self, peer: &Peer) -> io::Result<()> {
        let path = self.dir.join(SOURCE);
        let text = format!("node = {}\nincarnation = {:016x}\n", peer.node, peer.incarnation);
        if std::fs::read_to_string(&path).is_ok_and(|found| found == text) {
            return Ok(());
        }
        self.clear()?;
        let mut file = File::create(&path)?;
        io::Write::write_all(&mut file, text.as_bytes())?;
        file.sync_all()?;
        self.sync_dir()
    }

    /// Removes what was fetched. There is no log in this directory.
    fn clear(&self) -> io::Result<()> {
        // Who owns the rest is forgotten last.
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let whole = name.strip_suffix(".part").unwrap_or(&name);
            if segments::segment_number(whole).is_some() {
                remove(&path)?;
            }
        }
        self.sync_dir()?;
        remove(&self.dir.join(SOURCE))?;
        self.sync_dir()
    }

    fn begin(
        &self,
        peer: &Peer,
        last: &(SegmentHeader, Footer),
        started: Instant,
    ) -> Result<Seeded, SeedError> {
        let at = |source| SeedError::Disk { path: self.dir.clone(), source };
        let (mut disk, _) = AnyDisk::open(&self.dir, self.prefer).map_err(at)?;
        begin_after(&mut disk, last, self.segment_bytes)?;
        drop(disk);
        remove(&self.dir.join(SOURCE)).map_err(at)?;
        let seeded = Seeded { from: peer.node, segments: last.1.number, last: last.1.last };
        self.metrics.seed_lsn.set(i64::try_from(seeded.last.0).unwrap_or(i64::MAX));
        let seconds = started.elapsed().as_secs_f64();
        tracing::info!(
            from = seeded.from,
            segments = seeded.segments,
            last = seeded.last.0,
            seconds,
            "the log begins with a member's segments; the leader sends what came after them"
        );
        Ok(seeded)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(segments::segment_name(number))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A wait for a member that does not answer.
struct Waiting(Instant);

impl Waiting {
    fn begin() -> Waiting {
        Waiting(Instant::now())
    }

    /// Waits a little, unless that has been done long enough.
    async fn pause(&mut self, why: String) -> Result<(), Trouble> {
        if self.0.elapsed() >= PATIENCE {
            return Err(Trouble::Unreached(why));
        }
        tracing::info!(why, "waiting for a member to go on with its files");
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}
