use super::*;
use crate::sim::quietly;

#[test]
fn three_nodes_keep_every_promise_whatever_befalls_them() {
    let (mut acknowledged, mut read, mut lost, mut lives, mut terms) = (0, 0, 0, 0, 0);
    for seed in 100..108 {
        let report = run(&TrioOptions::new(seed, 600));
        assert_eq!(report.violations, Vec::<String>::new(), "seed {seed}");
        acknowledged += report.asked.1;
        read += report.asked.2;
        lost += report.counts.lost + report.counts.cut;
        lives += report.lives;
        terms += report.terms;
    }
    // A world in which nothing happens proves nothing.
    assert!(acknowledged > 500 && read > 200, "{acknowledged} and {read}");
    assert!(lost > 100 && lives > 60 && terms > 20, "{lost}, {lives}, {terms}");
}

#[test]
fn five_nodes_do_too() {
    for seed in 200..202 {
        let report = run(&TrioOptions { nodes: 5, ..TrioOptions::new(seed, 500) });
        assert_eq!(report.violations, Vec::<String>::new(), "seed {seed}");
    }
}

#[test]
fn f3_a_group_whose_logs_rot_comes_back_and_lacks_nothing() {
    let (mut repaired, mut rotten) = (0, 0);
    for seed in 31..37 {
        let report = run(&TrioOptions { rot: true, ..TrioOptions::new(seed, 500) });
        assert_eq!(report.violations, Vec::<String>::new(), "seed {seed}");
        repaired += report.repairs.0;
        rotten +=
            report.befell.iter().filter(|(class, _)| class.starts_with("rot")).map(|(_, n)| n).sum::<u64>();
    }
    assert!(repaired > 5 && rotten > 5, "{repaired} and {rotten}");
}

#[test]
fn one_seed_is_one_history() {
    let options = TrioOptions::new(7, 500);
    let (first, second) = (run(&options), run(&options));
    assert_eq!((first.hash, first.counts, first.asked), (second.hash, second.counts, second.asked));
    assert_eq!((first.suffered, first.befell), (second.suffered, second.befell));
    assert_ne!(first.hash, run(&TrioOptions::new(8, 500)).hash);
}

#[test]
fn a_failing_seed_fails_again_and_with_less() {
    let mutant = mutants::named("ack-before-local-sync").unwrap();
    let options = TrioOptions { mutant, ..TrioOptions::new(1, 400) };
    let (least, broken, _) = quietly(|| minimise(&options)).expect("it fails");
    assert!(
        least.only.as_ref().is_some_and(|only| only.len() < 3) && least.steps < 400,
        "{least:?}: {broken}"
    );
    let again = || quietly(|| run(&least));
    assert_eq!((again().hash, again().violations[0].as_str()), (again().hash, broken.as_str()));
}

#[test]
fn every_event_of_a_plan_is_its_own() {
    // Left out or not, what comes after it is the same.
    let plan =
        |from: u64| (from..60).map(|nth| format!("{:?}", plan::event(9, nth, true))).collect::<Vec<_>>();
    assert_eq!(plan(20), plan(0)[20..]);
    let classes: BTreeSet<_> = (0..2000).map(|nth| plan::event(9, nth, true).1.class()).collect();
    assert_eq!(classes.len(), 35, "{classes:?}");
}
