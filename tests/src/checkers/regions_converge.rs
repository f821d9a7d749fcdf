//! G2 regions-converge: when everything has reached everybody, all regions have the same digest.
//!
//! Mutant: a region that never takes in what came last.

use crate::regions::Sight;

/// The first region that differs.
pub fn check(sight: &Sight) -> Result<(), String> {
    let Some((first, rest)) = sight.0.split_first() else { return Ok(()) };
    match rest.iter().find(|region| region.merged != first.merged) {
        None => Ok(()),
        Some(other) => {
            Err(format!("G2: {} has {}, {} has {}", first.name, first.merged, other.name, other.merged))
        }
    }
}
