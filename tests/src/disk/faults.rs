//! What can go wrong with a disk, and what did.

/// What survives a power loss or not.
pub const SECTOR: usize = 512;

/// What comes of the operation at which a disk dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// It did nothing.
    NothingLands,
    /// Half of its bytes were written, none of them synced.
    HalfLands,
    /// It was done, and nobody heard.
    AllLands,
}

/// What a failed sync leaves of the pages it should have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    /// They stay readable, count as clean, and are never written: ext4, xfs.
    KeepsNew,
    /// What was there before is read again: btrfs.
    Reverts,
}

/// A moment worth dying at: what the log is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A vote becomes durable.
    Vote,
    /// Entries do.
    Append,
    /// The end of the log is made void.
    Truncate,
    /// A file is made.
    Prepare,
    /// The manifest is written.
    Manifest,
    /// A header, a footer or a mark is.
    Mark,
}

/// The next things to go wrong. Each happens once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Die after this many more operations.
    pub die_in: Option<(u64, Death)>,
    /// Die at the next such moment.
    pub die_at: Option<(Point, Death)>,
    /// Die in a repair of a segment, after this many more of its operations.
    pub die_in_repair: Option<(u64, Death)>,
    /// Fail the sync of this many more.
    pub sync_fails_in: Option<(u64, AfterFailure)>,
    /// Fail the write of this many more with EIO.
    pub write_fails_in: Option<u64>,
    /// Make the write of this many more a short one.
    pub short_write_in: Option<u64>,
    /// Fail the write of this many more with ENOSPC.
    pub write_full_in: Option<u64>,
    /// Fail the read of this many more with EIO.
    pub read_fails_in: Option<u64>,
    /// Have no room for the file of this many more, nor for those after it: so many in a row.
    pub no_room_in: Option<(u64, u64)>,
}

impl Faults {
    /// Whether one of them is still to come.
    #[must_use]
    pub fn pending(&self) -> bool {
        let Faults {
            die_in,
            die_at,
            die_in_repair,
            sync_fails_in,
            write_fails_in,
            short_write_in,
            write_full_in,
            read_fails_in,
            no_room_in,
        } = self;
        let counted = [write_fails_in, short_write_in, write_full_in, read_fails_in];
        die_in.is_some()
            || die_at.is_some()
            || die_in_repair.is_some()
            || sync_fails_in.is_some()
            || no_room_in.is_some()
            || counted.iter().any(|countdown| countdown.is_some())
    }
}

/// How an implementation may break its obligations: what mutants are made of. All off in a true disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sloppy {
    /// Say that a write is durable without a sync.
    pub no_sync: bool,
    /// The same, only for files in which a segment is made again.
    pub no_sync_of_repairs: bool,
    /// The same, only for batches that hold nothing but a vote.
    pub no_sync_of_votes: bool,
    /// Make files without making their names durable.
    pub no_directory_sync: bool,
    /// Try a failed sync again, and believe the second answer.
    pub retry_failed_sync: bool,
    /// Take a short write for a whole one.
    pub short_writes_are_whole: bool,
    /// Make files for which there is no room, and lose what is written to them.
    pub full_is_success: bool,
    /// Write one block too far on.
    pub misplaces: bool,
    /// Change a byte of the first segment when the third is made.
    pub edits_sealed: bool,
    /// Lose the last submission that was synced when the power goes.
    pub loses_last_sync: bool,
}

/// What went wrong so far, by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suffered {
    /// Operations.
    pub operations: u64,
    /// Deaths in the middle of an operation.
    pub deaths: u64,
    /// Of these, deaths at a chosen [`Point`].
    pub points: u64,
    /// Of these, deaths in a repair of a segment.
    pub deaths_in_repair: u64,
    /// Power losses.
    pub power_losses: u64,
    /// Kills that left the page cache.
    pub kills: u64,
    /// Writes that a power loss took away whole.
    pub lost_writes: u64,
    /// Writes that it tore.
    pub torn_writes: u64,
    /// Names that it took away.
    pub lost_names: u64,
    /// Failed syncs.
    pub failed_syncs: u64,
    /// Failed writes.
    pub failed_writes: u64,
    /// Short writes.
    pub short_writes: u64,
    /// Refusals for want of room.
    pub refusals: u64,
    /// Writes by a process one of whose writes or syncs had failed before: S3 forbids them.
    pub writes_after_failure: u64,
}

impl Suffered {
    /// Adds what another disk went through.
    pub fn add(&mut self, other: &Suffered) {
        let Suffered {
            operations,
            deaths,
            points,
            deaths_in_repair,
            power_losses,
            kills,
            lost_writes,
            torn_writes,
            lost_names,
            failed_syncs,
            failed_writes,
            short_writes,
            refusals,
            writes_after_failure,
        } = other;
        self.operations += operations;
        self.deaths += deaths;
        self.points += points;
        self.deaths_in_repair += deaths_in_repair;
        self.power_losses += power_losses;
        self.kills += kills;
        self.lost_writes += lost_writes;
        self.torn_writes += torn_writes;
        self.lost_names += lost_names;
        self.failed_syncs += failed_syncs;
        self.failed_writes += failed_writes;
        self.short_writes += short_writes;
        self.refusals += refusals;
        self.writes_after_failure += writes_after_failure;
    }
}
