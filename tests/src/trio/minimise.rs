//! The shortest plan that still fails: events, steps and clients are left out as long as some promise is broken.

use std::collections::BTreeSet;

use super::{TrioOptions, mutants, run};

/// The shortest failing options that were found, what they break, and how many runs that took. `None` if `options` do not
/// fail at all.
pub fn minimise(options: &TrioOptions) -> Option<(TrioOptions, String, u64)> {
    let mut runs = 1;
    let report = run(options);
    let mut broken = report.violations.into_iter().next()?;
    let mut best =
        TrioOptions { only: Some((0..report.events).collect()), steps: report.asked.0, ..options.clone() };
    let mut fails = |candidate: &TrioOptions| {
        runs += 1;
        mutants::caught(candidate)
    };
    if let Some(why) = fails(&best) {
        broken = why;
    } else {
        // The end came in another moment than a step; as it was, then.
        best.steps = options.steps;
    }
    let mut shorter = |best: &mut TrioOptions, candidate: TrioOptions| match fails(&candidate) {
        Some(why) => {
            (*best, broken) = (candidate, why);
            true
        }
        None => false,
    };
    let events = |options: &TrioOptions| options.only.clone().unwrap_or_default();
    // Half of them, then quarters, then one by one.
    let mut share = events(&best).len().div_ceil(2);
    while share > 0 {
        let all: Vec<u64> = events(&best).into_iter().collect();
        let mut left_out = false;
        for part in all.chunks(share) {
            let only: BTreeSet<u64> = events(&best).into_iter().filter(|nth| !part.contains(nth)).collect();
            let candidate = TrioOptions { only: Some(only), ..best.clone() };
            left_out |= shorter(&mut best, candidate);
        }
        share = if left_out && share == 1 { 1 } else { share / 2 };
    }
    while best.clients > 1 {
        let candidate = TrioOptions { clients: best.clients - 1, ..best.clone() };
        if !shorter(&mut best, candidate) {
            break;
        }
    }
    while best.steps > 1 {
        let candidate = TrioOptions { steps: best.steps / 2, ..best.clone() };
        if !shorter(&mut best, candidate) {
            break;
        }
    }
    Some((best, broken, runs))
}
