//! What a disk would hold if the power went now and took everything that is not synced.

use engine::log::Lsn;
use segments::{Frame, Kind, Log, Options};

use super::TrioOptions;
use super::wire::Vote;
use crate::disk::{Device, SimDisk};
use crate::sim::world::options;

/// What is said of a log in which nothing can be looked at.
pub const DOES_NOT_OPEN: &str = "its log does not open";

/// The end of the log, and its votes in order.
struct Seen {
    tip: Lsn,
    votes: Vec<Vote>,
}

fn open(segment_bytes: u64, device: &Device) -> Result<Seen, String> {
    open_from(segment_bytes, device, Lsn::ZERO).map(|(seen, _)| seen)
}

fn open_from(segment_bytes: u64, device: &Device, begins: Lsn) -> Result<(Seen, Log<SimDisk>), String> {
    let mut votes = Vec::new();
    let options = Options { replay_from: begins, at_least: begins, ..options(segment_bytes) };
    let (log, _) = Log::open(device.attach(), &options, |frame: &Frame<'_>| {
        if frame.kind == Kind::Vote {
            let number =
                |at: usize| frame.payload[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
            let (Some(term), Some(node)) = (number(0), number(8)) else {
                return Err("a short vote".to_owned());
            };
            votes.push(Vote { term, node, granted: frame.payload.get(16) == Some(&1) });
        }
        Ok(())
    })
    .map_err(|error| format!("{DOES_NOT_OPEN}: {error}"))?;
    Ok((Seen { tip: log.tip(), votes }, log))
}

/// Would the record at `lsn` be there?
///
/// # Errors
/// When it would not.
pub fn entry_is_durable(options: &TrioOptions, device: &Device, lsn: Lsn) -> Result<(), String> {
    let tip = open(options.segment_bytes, &device.image())?.tip;
    if tip >= lsn { Ok(()) } else { Err(format!("it said that it holds {lsn}, and {tip} is durable")) }
}

/// Would the promise be there?
///
/// # Errors
/// When it would not.
pub fn vote_is_durable(options: &TrioOptions, device: &Device, vote: Vote) -> Result<(), String> {
    let last = open(options.segment_bytes, &device.image())?.votes.last().copied();
    let right = last.is_some_and(|last| {
        last.term > vote.term || (last.term == vote.term && (last.node == vote.node || last.granted))
    });
    if right { Ok(()) } else { Err(format!("it gave {vote:?}, and {last:?} is durable")) }
}

/// Would a process that begins to read at `begins` find its log whole, and in it the entry that it owes?
///
/// # Errors
/// When it would not.
pub fn holds(
    options: &TrioOptions,
    device: &Device,
    begins: Lsn,
    owes: Option<(Lsn, u64)>,
) -> Result<(), String> {
    let (_, mut log) = open_from(options.segment_bytes, &device.image(), begins)?;
    let Some((lsn, term)) = owes.filter(|(lsn, _)| *lsn > begins) else { return Ok(()) };
    match log.read_one(lsn) {
        Ok(Some((found, _))) if found == term => Ok(()),
        Ok(found) => {
            let found = found.map(|(term, _)| term);
            Err(format!(
                "{lsn} of term {term} was agreed with its word; there it has {found:?}, its end is {}",
                log.tip()
            ))
        }
        Err(error) => Err(format!("{lsn} cannot be read: {error}")),
    }
}

/// The last record that a power loss would leave.
///
/// # Errors
/// When the log would not open.
pub fn durable_tip(options: &TrioOptions, device: &Device) -> Result<Lsn, String> {
    Ok(open(options.segment_bytes, &device.image())?.tip)
}

/// Terms never go back on a disk, and a term has one vote.
///
/// # Errors
/// The first vote that is not after the one before it.
pub fn votes_only_rise(options: &TrioOptions, device: &Device) -> Result<(), String> {
    let votes = open(options.segment_bytes, device)?.votes;
    for pair in votes.windows(2) {
        let [was, is] = pair else { continue };
        // Whom a quorum has chosen is followed also by those who voted otherwise.
        let chosen = is.granted && !was.granted;
        // In a term in which a vote may have been lost, nobody is given one.
        let other = is.node != was.node && is.node != 0 && !chosen;
        if is.term < was.term || (is.term == was.term && other) {
            return Err(format!("R2: vote {is:?} follows {was:?} on disk"));
        }
    }
    Ok(())
}
