//! F3, F5, F7: a segment that rotted is made again from entries that others hold, wherever the rot is.

use std::collections::BTreeMap;
use std::convert::Infallible;

use engine::limits::BLOCK;
use engine::log::Lsn;
use segments::{
    Fill, Frame, Gap, Identity, Kind, Known, Log, Mended, OpenError, Options, Repair, check_sealed_bytes,
    segment_name,
};

use segments::Disk as _;

use crate::disk::{Death, Device, Faults, SimDisk, Sloppy};

/// Entries that are in the log at its end: term and payload.
type Truth = BTreeMap<u64, (u64, Vec<u8>)>;

/// A log that opens, and its living entries.
type Opened = (Truth, Log<SimDisk>);

/// One that does not open.
type Refused = Box<segments::Refused<SimDisk>>;

fn take(refused: segments::Refused<SimDisk>) -> (OpenError, SimDisk) {
    (refused.error, refused.prefix.expect("nothing was written").into_disk())
}

fn options() -> Options {
    let mut options = Options::new(Identity { cluster: [3; 16], region: "eu".into() });
    options.segment_bytes = 64 << 10;
    options
}

/// Everything a reader finds.
fn read(device: &Device) -> Result<Opened, Refused> {
    let mut entries = Truth::new();
    let disk = device.attach();
    let opened = Log::open_or_return(disk, &options(), |frame| {
        match frame.kind {
            Kind::Entry => drop(entries.insert(frame.lsn.0, (frame.term, frame.payload.to_vec()))),
            Kind::Truncate => entries.retain(|lsn, _| *lsn <= frame.lsn.0),
            Kind::Vote | Kind::Purged => {}
        }
        Ok::<(), Infallible>(())
    });
    let (log, _) = opened?;
    Ok((entries, log))
}

/// A log of some segments, with batches of one to three entries and a vote now and then. With `voids`, entries are
/// voided and written again in a later term, as on a follower whose leader was replaced.
fn write(device: &Device, entries: u64, voids: bool) -> Truth {
    let disk = device.attach();
    let (mut log, _) = Log::open(disk, &options(), |_| Ok::<(), Infallible>(())).expect("a new log");
    let (mut truth, mut lsn, mut term, mut voided) = (Truth::new(), 0, 1, 0);
    while lsn < entries {
        for _ in 0..=lsn % 3 {
            lsn += 1;
            let payload = vec![(lsn * term) as u8; 100 + (lsn * 97 % 900) as usize];
            log.append(Frame::entry(Lsn(lsn), term, &payload)).expect("room");
            truth.insert(lsn, (term, payload));
        }
        log.flush().expect("written");
        if lsn % 10 == 7 && voids && lsn > voided {
            voided = lsn;
            term += 1;
            lsn -= 2;
            truth.retain(|at, _| *at <= lsn);
            log.append(Frame::truncate(Lsn(lsn))).expect("room");
            log.append(Frame::vote(term, &vote(term))).expect("room");
        } else if lsn % 7 == 0 {
            term += 1;
            log.append(Frame::vote(term, &vote(term))).expect("room");
            log.flush().expect("written");
        }
        log.set_committed(Lsn(lsn.saturating_sub(4)));
    }
    log.flush().expect("written");
    truth
}

fn vote(term: u64) -> Vec<u8> {
    [&term.to_le_bytes()[..], &[9; 9]].concat()
}

/// What fills a gap, by somebody who holds the truth.
fn fill(gap: &Gap, truth: &Truth) -> Fill {
    let known = |lsn: u64| truth.get(&lsn).map(|(term, payload)| Known::of(Lsn(lsn), *term, payload));
    let differs = gap.before.iter().find(|held| held.lsn <= gap.until && known(held.lsn.0) != Some(**held));
    let keep = differs.map_or(gap.tip.min(gap.stands), |held| Lsn(held.lsn.0 - 1).min(gap.stands));
    assert!(gap.after.is_none_or(|after| known(after.lsn.0) == Some(after)), "{gap:?}");
    let from = keep.min(gap.tip).0;
    let wanted = truth.iter().filter(|(lsn, _)| **lsn > from && **lsn <= gap.until.0);
    let entries = wanted.map(|(lsn, (term, payload))| (Lsn(*lsn), *term, payload.clone())).collect();
    Fill { keep, entries }
}

/// Opens a damaged log, repairing as often as it says that something is damaged. How often it was, and whether all
/// of it came out as it had been.
fn repair(device: &Device, truth: &Truth) -> (usize, bool, bool) {
    let (mut repairs, mut exact, mut hidden) = (0, true, false);
    loop {
        match read(device) {
            Ok((entries, log)) => {
                let differ = |(lsn, entry): &(&u64, &(u64, Vec<u8>))| truth.get(lsn) != Some(entry);
                let wrong: Vec<(u64, u64)> =
                    entries.iter().filter(differ).map(|(lsn, (term, _))| (*lsn, *term)).collect();
                assert!(wrong.is_empty() && entries.len() == truth.len(), "other entries: {wrong:?}");
                for number in 1..=log.sealed() {
                    let whole = check_sealed_bytes(&bytes(device, number), number);
                    assert!(whole.is_ok(), "segment {number} of {}: {whole:?}", log.sealed());
                }
                return (repairs, exact, hidden);
            }
            Err(refused) => {
                let (error, mut disk) = take(*refused);
                assert!(repairs < 8, "{error}");
                let number = error.damaged().unwrap_or_else(|| panic!("{error}"));
                let found = Repair::examine(&mut disk, &options(), number);
                let found = found.unwrap_or_else(|why| panic!("{error}: {why}"));
                let fills: Vec<Fill> = found.gaps().iter().map(|gap| fill(gap, truth)).collect();
                let hides = found.hides_a_vote(&fills);
                hidden |= hides;
                let vote = vote(99);
                let vote = hides.then_some((99, &vote[..]));
                let mended = found.mend(&mut disk, &fills, vote);
                let Mended { exact: same, .. } = mended.unwrap_or_else(|why| panic!("{error}: {why}"));
                exact &= same;
                repairs += 1;
            }
        }
    }
}

fn bytes(device: &Device, number: u64) -> Vec<u8> {
    device.bytes(&segment_name(number)).expect("it is there")
}

/// Changes a segment's bytes from `at` on to what `how` makes of each.
fn change(device: &Device, number: u64, range: std::ops::Range<usize>, how: impl Fn(u8) -> u8) {
    let before = bytes(device, number);
    for at in range {
        device.rot(&segment_name(number), at, before[at] ^ how(before[at]));
    }
}

fn end_of_batches(bytes: &[u8]) -> usize {
    let whole = &bytes[..bytes.len() - BLOCK];
    whole.iter().rposition(|byte| *byte != 0).expect("not empty") / BLOCK * BLOCK + BLOCK
}

fn base(voids: bool) -> (Device, Truth, u64) {
    let device = Device::new(5, Sloppy::default());
    let truth = write(&device, 330, voids);
    let (_, log) = read(&device).unwrap_or_else(|refused| panic!("{}", refused.error));
    let sealed = log.sealed();
    assert!(sealed >= 3);
    (device, truth, sealed)
}

/// Every block of every segment, one after the other: one bit, one sector, the whole block, and some blocks in a row.
#[test]
fn f3_rot_at_any_place_is_repaired_and_nothing_else_changes() {
    for voids in [false, true] {
        let (base, truth, sealed) = base(voids);
        let (mut repaired, mut exact, mut hidden) = (0, 0, 0);
        for number in 1..=sealed + 1 {
            let whole = bytes(&base, number);
            // The last batch of the open segment may be torn, which only later ones could tell from rot.
            let end = if number <= sealed { whole.len() } else { end_of_batches(&whole) - 3 * BLOCK };
            for at in (0..end).step_by(BLOCK) {
                let nth = at / BLOCK;
                let device = base.fork(nth as u64);
                match nth % 4 {
                    0 => change(&device, number, at + 77 * nth % BLOCK..at + 77 * nth % BLOCK + 1, |byte| {
                        byte ^ 16
                    }),
                    1 => change(&device, number, at..at + 512, |_| 0xEE),
                    2 => change(&device, number, at..at + BLOCK, |_| 0),
                    _ => change(&device, number, at..(at + 4 * BLOCK).min(end), |_| 0),
                }
                if bytes(&device, number) == whole {
                    continue;
                }
                let (repairs, same, hid) = repair(&device, &truth);
                if same && repairs > 0 && number <= sealed {
                    assert!(bytes(&device, number) == whole, "segment {number} at {at}");
                }
                repaired += repairs;
                exact += usize::from(same && repairs > 0);
                hidden += usize::from(hid);
            }
        }
        println!(
            "voids {voids}: {repaired} repaired, {exact} to the same bytes, {hidden} may have hidden a vote"
        );
        assert!(repaired > 40 && exact > 10 && (voids || hidden > 0), "{repaired} {exact} {hidden}");
    }
}

#[test]
fn f3_a_sealed_segment_that_is_gone_comes_back_under_the_same_name() {
    let (base, truth, _) = base(false);
    for number in 1..=3 {
        let device = base.fork(number);
        device.attach().remove(&segment_name(number)).expect("it is there");
        assert_eq!(repair(&device, &truth).0, 1);
    }
}

/// What stands before the damage can be read, to the last batch, and nothing behind it; where a file is gone, too.
#[test]
fn f3_what_stands_before_the_damage_can_be_read_and_nothing_else() {
    let mut read_some = 0;
    for voids in [false, true] {
        let (base, truth, sealed) = base(voids);
        for number in 1..=sealed + 1 {
            let whole = bytes(&base, number);
            let end = if number <= sealed { whole.len() } else { end_of_batches(&whole) - 3 * BLOCK };
            for at in (0..end).step_by(5 * BLOCK) {
                let device = base.fork(at as u64);
                change(&device, number, at..at + BLOCK, |_| 0);
                if at == 0 && number <= sealed {
                    device.attach().remove(&segment_name(number)).expect("it is there");
                }
                let Err(refused) = read(&device) else { continue };
                let mut prefix = refused.prefix.expect("nothing was written");
                let mut next = 0;
                let read = prefix.read(Lsn(1), &mut |frame| {
                    next += 1;
                    assert_eq!(frame.lsn, Lsn(next));
                    // What is voided behind the damage may be another one; what is agreed may not.
                    let same = truth
                        .get(&next)
                        .is_some_and(|(term, payload)| (*term, &payload[..]) == (frame.term, frame.payload));
                    assert!(same || voids && next > prefix_committed(&device), "{next} of segment {number}");
                    true
                });
                assert_eq!(read.expect("it is good"), Lsn(next + 1));
                assert!(prefix.committed() <= Lsn(next));
                read_some += usize::from(next > 0);
            }
        }
    }
    assert!(read_some > 20, "{read_some}");
}

fn prefix_committed(device: &Device) -> u64 {
    let refused = read(device).err().expect("it is damaged");
    refused.prefix.expect("nothing was written").committed().0
}

/// What was repaired may rot again, and its neighbours too.
#[test]
fn f3_a_repaired_segment_can_be_repaired_again() {
    let (device, truth, _) = base(false);
    for round in 0..3 {
        for number in 1..=3 {
            change(&device, number, BLOCK..3 * BLOCK + round * BLOCK, |_| 7);
        }
        assert_eq!(repair(&device, &truth).0, 3, "round {round}");
        assert_eq!(repair(&device, &truth), (0, true, false));
    }
}

/// The vote that stands, as a start finds it.
fn standing(device: &Device) -> Vec<u8> {
    let mut vote = Vec::new();
    let opened = Log::open_or_return(device.attach(), &options(), |frame| {
        if frame.kind == Kind::Vote {
            vote = frame.payload.to_vec();
        }
        Ok::<(), Infallible>(())
    });
    assert!(opened.is_ok(), "it does not open");
    vote
}

/// Power went when the last segment had been begun and nothing was in it; then the one before it rots, which has the only
/// vote that stands.
#[test]
fn f3_a_vote_before_an_empty_segment_is_missed() {
    let (base, mut truth, sealed) = base(false);
    let open = bytes(&base, sealed + 1);
    change(&base, sealed + 1, BLOCK..open.len(), |_| 0);
    drop(base.attach().remove(segments::SPARE));
    let Ok((entries, _)) = read(&base) else { panic!("it is not damaged") };
    truth.retain(|lsn, _| entries.contains_key(lsn));
    assert!(truth == entries && !truth.is_empty());
    let (whole, stood) = (bytes(&base, sealed), standing(&base));
    let mut missed = 0;
    for at in (BLOCK..end_of_batches(&whole)).step_by(BLOCK) {
        let device = base.fork(at as u64);
        change(&device, sealed, at..(at + 4 * BLOCK).min(whole.len()), |_| 0);
        let (_, _, hidden) = repair(&device, &truth);
        let now = standing(&device);
        assert_eq!(now, if hidden { vote(99) } else { stood.clone() }, "at {at}");
        missed += usize::from(hidden);
    }
    assert!(missed > 0);
}

/// An entry that is not the one that was there makes other bytes, and the digest shows it.
#[test]
fn f3_another_payload_does_not_pass_for_the_one_that_was_lost() {
    let (device, mut truth, _) = base(false);
    let whole = bytes(&device, 2);
    change(&device, 2, 3 * BLOCK + 200..3 * BLOCK + 201, |byte| byte ^ 1);
    let (_, mut disk) = take(*read(&device).err().expect("it is damaged"));
    let found = Repair::examine(&mut disk, &options(), 2).expect("it can be looked at");
    let gap = &found.gaps()[0];
    assert!(gap.settled && gap.until > gap.tip);
    for lsn in gap.tip.0 + 1..=gap.until.0 {
        truth.get_mut(&lsn).expect("an entry").1[0] ^= 1;
    }
    let fills = [fill(gap, &truth)];
    let mended = found.mend(&mut disk, &fills, None).expect("it is made");
    assert!(!mended.exact);
    assert!(bytes(&device, 2) != whole);
}

/// S4: a crash came between the footer of a segment and the manifest that calls it sealed. The footer alone says that all
/// before it is agreed, and so what others agreed on is taken for it, whatever stands behind.
#[test]
fn f3_what_a_footer_ends_is_agreed_before_the_manifest_says_so() {
    let (base, truth, sealed) = base(false);
    let slots = base.bytes(segments::MANIFEST).expect("it is there");
    let generation = |slot: usize| u64::from_le_bytes(*slots[slot * BLOCK + 40..].first_chunk().expect("8"));
    let newest = usize::from(generation(1) > generation(0)) * BLOCK;
    let whole = bytes(&base, sealed);
    let end = end_of_batches(&whole);
    for footer in [true, false] {
        let device = base.fork(7);
        (newest..newest + BLOCK).for_each(|at| device.rot(segments::MANIFEST, at, slots[at]));
        // The last batch: no mark behind it in its segment covers it.
        change(&device, sealed, end - BLOCK..end, |_| 0);
        if !footer {
            change(&device, sealed, whole.len() - BLOCK..whole.len(), |_| 0);
        }
        let (_, mut disk) = take(*read(&device).err().expect("it is damaged"));
        let found = Repair::examine(&mut disk, &options(), sealed).expect("it can be looked at");
        let gap = found.gaps().last().expect("its end is missing");
        assert_eq!(gap.settled, footer, "{gap:?}");
        let (repairs, _, hidden) = repair(&device, &truth);
        assert_eq!((repairs, hidden), (1, false));
    }
}

/// F2 in the middle of a repair: power goes at every operation, and the next start finds the log damaged or whole, and
/// never less than it was.
#[test]
fn f3_a_repair_that_dies_anywhere_is_begun_again() {
    let (base, truth, sealed) = base(false);
    for number in [2, sealed + 1] {
        for deaths in 0..200 {
            let device = base.fork(deaths);
            change(&device, number, BLOCK..2 * BLOCK, |_| 0);
            let (_, mut disk) = take(*read(&device).err().expect("it is damaged"));
            let found = Repair::examine(&mut disk, &options(), number).expect("it can be looked at");
            let fills: Vec<Fill> = found.gaps().iter().map(|gap| fill(gap, &truth)).collect();
            let death = [Death::NothingLands, Death::HalfLands, Death::AllLands][deaths as usize % 3];
            device.set_faults(Faults { die_in: Some((deaths / 3, death)), ..Faults::default() });
            let mended = found.mend(&mut disk, &fills, None);
            if mended.is_ok() {
                assert!(deaths > 12, "it never died");
                break;
            }
            device.power_loss(50, true);
            repair(&device, &truth);
        }
    }
}

/// A read that the disk refuses is named with its segment, and harms nothing.
#[test]
fn f7_a_refused_read_is_named() {
    let (base, truth, _) = base(false);
    let mut named = 0;
    for nth in 0..40 {
        let device = base.fork(nth);
        device.set_faults(Faults { read_fails_in: Some(nth), ..Faults::default() });
        if let Err(refused) = read(&device) {
            named +=
                usize::from(matches!(refused.error, OpenError::Unreadable { segment, .. } if segment > 0));
        }
        assert_eq!(repair(&device, &truth), (0, true, false));
    }
    assert!(named > 4, "{named}");
}

/// A block that the disk does not give until it is written again: also where zeros stood, and bytes would come out as they
/// were read. Of the end of the log nothing says what it was, and nothing is made up.
#[test]
fn f7_a_block_that_is_never_given_is_written_anew() {
    let (base, truth, sealed) = base(false);
    for number in 1..=sealed + 1 {
        let whole = bytes(&base, number);
        let end = end_of_batches(&whole);
        let last = number > sealed;
        let blocks = [0, BLOCK, end / 2 / BLOCK * BLOCK, whole.len() - 2 * BLOCK, whole.len() - BLOCK];
        for at in blocks {
            let device = base.fork(at as u64);
            device.make_unreadable(&segment_name(number), at..at + BLOCK);
            if last && at >= end {
                let (error, mut disk) = take(*read(&device).err().expect("it is not given"));
                assert_eq!(error.damaged(), Some(number));
                let found = Repair::examine(&mut disk, &options(), number);
                assert!(found.is_err(), "the end of the log at {at}");
                continue;
            }
            assert_eq!(repair(&device, &truth).0, 1, "segment {number} at {at}");
            // Where nothing stood, and nothing but that is lost, all bytes come out as they were.
            let zeros = whole[at..at + BLOCK].iter().all(|byte| *byte == 0);
            assert!(!zeros || bytes(&device, number) == whole, "segment {number} at {at}");
        }
    }
}
