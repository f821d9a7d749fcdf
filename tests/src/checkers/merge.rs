//! G3 merge: which first of a name wins, and what counts as a conflict, follows from what each region decided by itself,
//! in whatever order it reached the others.
//!
//! Mutant: of two firsts the one that was seen here first wins.

use crate::regions::{Own, Sight};

/// The first key of which a region says something else.
pub fn check(sight: &Sight) -> Result<(), String> {
    let all: Vec<(&str, &Own)> = sight
        .0
        .iter()
        .flat_map(|region| region.firsts.iter().map(|first| (region.name.as_str(), first)))
        .collect();
    let mut conflicts = 0;
    for (n, (a, one)) in all.iter().enumerate() {
        for (b, other) in &all[n + 1..] {
            let together =
                one.time_ms < other.time_ms + other.ttl_ms && other.time_ms < one.time_ms + one.ttl_ms;
            conflicts += u64::from(a != b && one.key == other.key && together && one.digest != other.digest);
        }
    }
    for region in &sight.0 {
        for (key, says) in &region.says {
            let live =
                all.iter().filter(|(_, own)| own.key == *key && region.now_ms < own.time_ms + own.ttl_ms);
            let wins = live
                .min_by_key(|(name, own)| (own.time_ms, *name))
                .map(|(name, own)| ((*name).to_owned(), own.seq));
            if *says != wins {
                return Err(format!("G3: {} says {says:?}, and {wins:?} is earlier", region.name));
            }
        }
        if region.conflicts != conflicts {
            return Err(format!("G3: {} counts {} conflicts of {conflicts}", region.name, region.conflicts));
        }
    }
    Ok(())
}
