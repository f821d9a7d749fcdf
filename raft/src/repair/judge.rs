//! Whether what a peer sends is what this node lost.
//!
//! One term has one leader, and a leader writes each position once: so two nodes that hold the same entry (position and
//! term) hold the same entries before it. And what is committed is the same everywhere, for ever. An answer is taken
//! - if the entry right behind the gap is the same there as here, or
//! - if the peer knows everything in it to be committed, and this node knows that too or holds nothing behind it.
//!
//! Both hold whoever answers, also one that is in repair itself: it gives what its log was before the damage, and calls
//! committed what the good batches there call so. What the damage may have voided since never was committed.
//!
//! Anything else may come from a leader that this node never followed. What the node holds before the gap, and does
//! not know to be committed, may have been voided in the gap: where the peer differs, the peer is right.

use engine::log::Lsn;
use segments::{Fill, Gap, Known};

use crate::message::Fetched;

/// The positions to ask for, first and last.
pub(super) fn range(gap: &Gap) -> (Lsn, Lsn) {
    let first = gap.since.min(gap.tip).min(gap.until).next();
    let last = if gap.after.is_some() { gap.until.next() } else { gap.until };
    (first, last.max(first))
}

/// What fills the gap, by this answer; or why it says nothing.
pub(super) fn judge(gap: &Gap, answer: Fetched) -> Result<Fill, String> {
    let (first, _) = range(gap);
    let follow = answer.entries.iter().zip(first.0..).all(|((lsn, _, _), expected)| lsn.0 == expected);
    let terms = answer.entries.windows(2).all(|pair| pair[0].1 <= pair[1].1);
    if !follow || !terms {
        return Err("it sends entries that do not follow each other".into());
    }
    let known = |lsn: Lsn| {
        let nth = lsn.0.checked_sub(first.0)?;
        let (lsn, term, payload) = answer.entries.get(usize::try_from(nth).ok()?)?;
        Some(Known::of(*lsn, *term, payload))
    };
    if gap.until >= first && known(gap.until).is_none() {
        return Err(format!("it has no entry {}", gap.until));
    }
    let committed = answer.committed >= gap.until && (gap.settled || gap.after.is_none());
    let anchored = match gap.after.map(|after| (after, known(after.lsn))) {
        Some((after, Some(theirs))) if theirs == after => true,
        // What both know to be agreed is one and the same, also before the entry of a leader that lost: one of another
        // term, and no earlier than what it follows.
        Some((after, Some(theirs)))
            if !committed
                || theirs.term == after.term
                || known(gap.until).is_some_and(|last| last.term > after.term) =>
        {
            return Err(format!("it has another entry {} than this node", after.lsn));
        }
        _ => false,
    };
    if !anchored && !committed {
        return Err(format!("it knows {} to be committed, {} is needed", answer.committed, gap.until));
    }
    let voided = gap.before.iter().find(|held| held.lsn <= gap.until && known(held.lsn) != Some(**held));
    let keep = voided.map_or(gap.tip.min(gap.stands), |held| Lsn(held.lsn.0 - 1).min(gap.stands));
    if keep < gap.since {
        return Err(format!("it would void {}, which is committed", gap.since));
    }
    let from = keep.min(gap.tip);
    let wanted = |(lsn, _, _): &(Lsn, u64, Vec<u8>)| *lsn > from && *lsn <= gap.until;
    Ok(Fill { keep, entries: answer.entries.into_iter().filter(wanted).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repair::votes::nobody;

    fn entry(lsn: u64, term: u64) -> (Lsn, u64, Vec<u8>) {
        (Lsn(lsn), term, vec![lsn as u8, term as u8])
    }

    fn held(lsn: u64, term: u64) -> Known {
        let (lsn, term, payload) = entry(lsn, term);
        Known::of(lsn, term, &payload)
    }

    fn answer(committed: u64, entries: &[(u64, u64)]) -> Fetched {
        let entries = entries.iter().map(|(lsn, term)| entry(*lsn, *term)).collect();
        Fetched {
            in_repair: false,
            vote: nobody(1),
            committed: Lsn(committed),
            members_at: Lsn(1),
            members: Vec::new(),
            entries,
        }
    }

    /// Entries 8 and 9 are missing; 7 is held and not known to be committed.
    fn gap(after: Option<Known>, settled: bool) -> Gap {
        Gap {
            since: Lsn(6),
            tip: Lsn(7),
            stands: Lsn(9),
            until: Lsn(9),
            before: vec![held(7, 2)],
            after,
            settled,
        }
    }

    fn lsns(fill: &Fill) -> Vec<(u64, u64)> {
        fill.entries.iter().map(|(lsn, term, _)| (lsn.0, *term)).collect()
    }

    #[test]
    fn f3_the_same_entry_behind_the_gap_proves_those_in_it() {
        let gap = gap(Some(held(10, 3)), false);
        assert_eq!(range(&gap), (Lsn(7), Lsn(10)));
        let fill = judge(&gap, answer(0, &[(7, 2), (8, 2), (9, 3), (10, 3)])).unwrap();
        assert_eq!((fill.keep, lsns(&fill)), (Lsn(7), vec![(8, 2), (9, 3)]));
    }

    #[test]
    fn f3_another_term_or_payload_behind_the_gap_proves_nothing() {
        let gap = gap(Some(held(10, 3)), true);
        assert!(judge(&gap, answer(100, &[(7, 2), (8, 2), (9, 4), (10, 4)])).is_err());
        let mut other = answer(100, &[(7, 2), (8, 2), (9, 3), (10, 3)]);
        other.entries[3].2 = b"another".to_vec();
        assert!(judge(&gap, other).is_err());
    }

    #[test]
    fn f3_what_is_committed_everywhere_is_taken_without_an_entry_behind() {
        let entries = [(7, 2), (8, 2), (9, 2)];
        assert!(judge(&gap(None, false), answer(8, &entries)).is_err());
        assert!(judge(&gap(None, false), answer(9, &entries)).is_ok());
        // This node holds more behind it, of which it does not know whether it belongs to these.
        assert!(judge(&gap(Some(held(10, 3)), false), answer(9, &entries)).is_err());
        assert!(judge(&gap(Some(held(10, 3)), true), answer(9, &entries)).is_ok());
    }

    #[test]
    fn f3_what_both_know_to_be_agreed_is_taken_before_the_entry_of_a_leader_that_lost() {
        let entries = [(7, 2), (8, 2), (9, 2), (10, 4)];
        let lost = |settled| gap(Some(held(10, 3)), settled);
        let fill = judge(&lost(true), answer(9, &entries)).unwrap();
        assert_eq!((fill.keep, lsns(&fill)), (Lsn(7), vec![(8, 2), (9, 2)]));
        assert!(judge(&lost(true), answer(8, &entries)).is_err(), "the peer does not know it");
        assert!(judge(&lost(false), answer(9, &entries)).is_err(), "this node does not know it");
    }

    #[test]
    fn f3_entries_voided_in_the_gap_are_voided_again() {
        let gap = gap(Some(held(10, 5)), false);
        let fill = judge(&gap, answer(0, &[(7, 4), (8, 4), (9, 5), (10, 5)])).unwrap();
        assert_eq!((fill.keep, lsns(&fill)), (Lsn(6), vec![(7, 4), (8, 4), (9, 5)]));
        let shorter = Gap { stands: Lsn(6), until: Lsn(6), after: Some(held(7, 5)), ..gap };
        let fill = judge(&shorter, answer(0, &[(7, 5)])).unwrap();
        assert_eq!((fill.keep, lsns(&fill)), (Lsn(6), vec![]));
    }

    #[test]
    fn f3_what_is_incomplete_or_out_of_order_is_refused() {
        let gap = gap(None, true);
        for entries in
            [&[(7, 2), (8, 2)][..], &[(8, 2), (9, 2)], &[(7, 2), (9, 2)], &[(7, 3), (8, 2), (9, 2)], &[]]
        {
            assert!(judge(&gap, answer(100, entries)).is_err(), "{entries:?}");
        }
    }
}
