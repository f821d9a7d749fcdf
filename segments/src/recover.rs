//! The table: what a walk may find where the next batch should stand, and what we make of it.
//!
//! Keeps S2 (prefix): the log that opens is a prefix of the log that was written, at least as long as what was
//! durable, or it does not open.
//!
//! A crash may take what no sync covered: the batches that were in flight, in whole or in part, in any order.
//! It may not take anything else. So a bad place in the last segment is a torn tail, unless something shows
//! that the missing batch had been durable: a later batch that says so, or a position the caller was promised.
//! Then, and in any segment that a later one follows, it is corruption: the log refuses to open for writing.

use crate::walk::{Here, Later};

/// What kind of segment the walk is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Sealed: its footer was promised.
    Sealed,
    /// Full: a later segment follows, so every batch of it was durable.
    Full,
    /// The last one.
    Active,
}

/// [`Here`] without its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Zeros, or no room for another batch.
    Nothing,
    /// Bytes that fail their checksum.
    Damaged,
    /// A whole batch that is not the next one.
    Stranger,
}

/// What to make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The log ends here.
    Clean,
    /// A crash took what nobody was promised: erase the rest, then go on.
    Torn,
    /// Something durable is missing or changed: do not open.
    Corrupt,
}

impl Found {
    pub(crate) fn of(here: &Here) -> Option<Found> {
        match here {
            Here::Batch(_) => None,
            Here::End | Here::Zero => Some(Found::Nothing),
            Here::Damaged(_) => Some(Found::Damaged),
            Here::Stranger(_) => Some(Found::Stranger),
        }
    }
}

/// The table. `promised`: the caller knows of a position beyond the end of what was found.
pub(crate) fn decide(state: State, found: Found, later: Later, promised: bool) -> Verdict {
    use Verdict::{Clean, Corrupt, Torn};
    match (state, found, later, promised) {
        // Its digest, which the caller compares next, says whether the zeros belong there.
        (State::Sealed | State::Full, Found::Nothing, Later::Nothing, _) => Clean,
        (State::Sealed | State::Full, Found::Nothing, Later::Residue | Later::Proof, _) => Corrupt,
        (State::Sealed | State::Full, Found::Damaged | Found::Stranger, _, _) => Corrupt,
        (State::Active, _, _, true) => Corrupt,
        (State::Active, Found::Nothing, Later::Nothing, false) => Clean,
        (State::Active, Found::Nothing, Later::Residue, false) => Torn,
        (State::Active, Found::Damaged, Later::Nothing | Later::Residue, false) => Torn,
        (State::Active, Found::Nothing | Found::Damaged, Later::Proof, false) => Corrupt,
        // Its checksum and place hold, so it was written here, whole: a crash does not do that.
        (State::Active, Found::Stranger, _, false) => Corrupt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row, against the rule stated another way: corrupt if anything durable can be missing; else torn if
    /// anything is there; else clean.
    #[test]
    fn every_row_follows_the_rule() {
        let mut rows = [0; 3];
        for state in [State::Sealed, State::Full, State::Active] {
            for found in [Found::Nothing, Found::Damaged, Found::Stranger] {
                for later in [Later::Nothing, Later::Residue, Later::Proof] {
                    for promised in [false, true] {
                        let dirty = found != Found::Nothing || later != Later::Nothing;
                        let proven = match state {
                            State::Active => promised || later == Later::Proof || found == Found::Stranger,
                            State::Sealed | State::Full => dirty,
                        };
                        let expected = match (proven, dirty) {
                            (true, _) => Verdict::Corrupt,
                            (false, true) => Verdict::Torn,
                            (false, false) => Verdict::Clean,
                        };
                        assert_eq!(
                            decide(state, found, later, promised),
                            expected,
                            "{state:?} {found:?} {later:?} {promised}"
                        );
                        rows[expected as usize] += 1;
                    }
                }
            }
        }
        assert_eq!(rows, [5, 3, 46], "clean, torn, corrupt");
    }

    /// The table in docs/FORMAT.md says the same, of every case, once.
    #[test]
    fn the_written_table_is_this_table() {
        let text = include_str!("../../docs/FORMAT.md");
        let (_, table) = text.split_once("| segment | there |").expect("docs/FORMAT.md has the table");
        let rows: Vec<Vec<&str>> = table
            .lines()
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
            .collect();
        assert_eq!(rows.len(), 9);
        let mut used = vec![0; rows.len()];
        for (segment, state) in [("sealed", State::Sealed), ("full", State::Full), ("active", State::Active)]
        {
            for (there, found) in
                [("nothing", Found::Nothing), ("damaged", Found::Damaged), ("stranger", Found::Stranger)]
            {
                for (after, later) in
                    [("nothing", Later::Nothing), ("residue", Later::Residue), ("proof", Later::Proof)]
                {
                    for (beyond, promised) in [("yes", true), ("no", false)] {
                        let case = [segment, there, after, beyond];
                        let matches = |row: &Vec<&str>| {
                            row.iter().zip(case).all(|(cell, word)| cell.split(", ").any(|one| one == word))
                        };
                        let row: Vec<usize> = (0..rows.len()).filter(|nth| matches(&rows[*nth])).collect();
                        assert_eq!(row.len(), 1, "{case:?} stands in rows {row:?}");
                        let verdict = format!("{:?}", decide(state, found, later, promised)).to_lowercase();
                        assert_eq!(rows[row[0]][4], verdict, "{case:?}");
                        used[row[0]] += 1;
                    }
                }
            }
        }
        assert!(used.iter().all(|cases| *cases > 0), "every row is used: {used:?}");
    }

    /// The rows that decide whether data may be dropped, written out.
    #[test]
    fn only_three_rows_erase() {
        let torn = [
            (Found::Nothing, Later::Residue),
            (Found::Damaged, Later::Nothing),
            (Found::Damaged, Later::Residue),
        ];
        for (found, later) in torn {
            assert_eq!(decide(State::Active, found, later, false), Verdict::Torn);
        }
    }
}
