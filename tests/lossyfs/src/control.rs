//! The control file: one command a line, written to `.ctl` in the root of the mount; reading it gives the tally.

use crate::crash::Loss;
use crate::disk::{AfterFailure, Disk, Errno, Fault, Node, ROOT};

/// The commands, as `lossyfs --help` prints them.
pub const HELP: &str = "\
crash | crash torn SEED            power loss: un-synced sectors and names are lost, all or by coin
fsync-eio N keep|revert [PATH]     the N-th fsync from now (at or below PATH) fails
write-eio N [PATH]                 the N-th write from now (at or below PATH) fails
fsync-delay MS                     every fsync takes at least this long
capacity BYTES                     writes that grow files past this sum fail with ENOSPC
rot PATH OFFSET BITS               that byte reads with these bits flipped
read-eio PATH OFFSET LENGTH        that range fails to read
misdirect DELTA                    the next write lands DELTA bytes too low
snap PATH NAME [torn SEED]         a copy of one file as a power loss now would leave it
purge NAME                         removes such a copy
heal                               takes all faults away
";

/// Carries out one line.
///
/// # Errors
/// `EINVAL` for a line that is not a command, `ENOENT` for a path that is not there.
pub fn obey(disk: &mut Disk, line: &str) -> Result<(), Errno> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        [] => {}
        ["crash", rest @ ..] => disk.crash(loss(rest)?),
        ["fsync-eio", nth, after, rest @ ..] => {
            let after = match *after {
                "keep" => AfterFailure::KeepNew,
                "revert" => AfterFailure::Revert,
                _ => return Err(libc::EINVAL),
            };
            disk.fsync_fault = Some((fault(nth, rest)?, after));
        }
        ["write-eio", nth, rest @ ..] => disk.write_fault = Some(fault(nth, rest)?),
        ["fsync-delay", ms] => disk.fsync_delay_ms = number(ms)?,
        ["capacity", bytes] => disk.capacity = Some(number(bytes)?),
        ["rot", path, offset, bits] => {
            let ino = disk.resolve(path)?;
            disk.file(ino)?.rot.insert(number(offset)?, number(bits)?);
        }
        ["read-eio", path, offset, length] => {
            let (ino, start, length) = (disk.resolve(path)?, number::<u64>(offset)?, number::<u64>(length)?);
            let end = start.checked_add(length).ok_or(libc::EINVAL)?;
            disk.file(ino)?.unreadable.push(start..end);
        }
        ["misdirect", delta] => disk.misdirect = Some(number(delta)?),
        ["snap", path, name, rest @ ..] => disk.snapshot(path, name, loss(rest)?)?,
        ["purge", name] => {
            let root = disk.dir(ROOT)?;
            root.durable.remove(*name);
            let ino = root.seen.remove(*name).ok_or(libc::ENOENT)?;
            disk.nodes.remove(&ino);
        }
        ["heal"] => disk.heal(),
        _ => return Err(libc::EINVAL),
    }
    Ok(())
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, Errno> {
    word.parse().map_err(|_| libc::EINVAL)
}

fn fault(nth: &str, below: &[&str]) -> Result<Fault, Errno> {
    let countdown = number(nth)?;
    match below {
        [] if countdown > 0 => Ok(Fault { countdown, below: String::new() }),
        [path] if countdown > 0 => Ok(Fault { countdown, below: (*path).to_owned() }),
        _ => Err(libc::EINVAL),
    }
}

fn loss(words: &[&str]) -> Result<Loss, Errno> {
    match words {
        [] => Ok(Loss::Drop),
        ["torn", seed] => Ok(Loss::Torn(number(seed)?)),
        _ => Err(libc::EINVAL),
    }
}

/// What reading the control file gives: `name=value` pairs on one line.
pub fn report(disk: &mut Disk) -> String {
    let tally = disk.tally;
    let pending = |node: &&Node| match node {
        Node::File(file) => !file.pending.is_empty(),
        Node::Dir(dir) => !dir.pending.is_empty(),
    };
    let unsynced = disk.nodes.values().filter(pending).count();
    let used = disk.used();
    format!(
        "writes={} fsyncs={} fsync_errors={} refused_full={} crashes={} lost_changes={} torn_writes={} lost_bytes={} \
         unsynced={unsynced} used={used}\n",
        tally.writes,
        tally.fsyncs,
        tally.fsync_errors,
        tally.refused_full,
        tally.crashes,
        tally.lost_changes,
        tally.torn_writes,
        tally.lost_bytes,
    )
}
