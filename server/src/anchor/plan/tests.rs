//! The plan of small sets of targets, by hand and against a sum made another way.

use super::*;

fn candidate(name: &str, cost: f64, delay_s: u64, reliability: f64, durability: f64) -> Candidate {
    let price = Price { cost, delay_s, reliability, durability };
    // A day, so that the cost of a day is that of one.
    Candidate { name: name.into(), price, every_s: 86_400.0, reliability, contradicts: false }
}

fn all() -> Vec<Candidate> {
    vec![
        candidate("tsa-cheap", 1.0, 5, 0.95, 0.9),
        candidate("tsa-dear", 5.0, 5, 0.999, 0.95),
        candidate("ots", 0.0, 7200, 0.9, 0.99),
        candidate("vault", 2.0, 2, 0.99, 0.9999),
    ]
}

fn goals(reliability: f64, delay_s: u64, durability: f64, cost: f64) -> Goals {
    let set = |value: f64| (value > 0.0).then_some(value);
    Goals {
        reliability: set(reliability),
        delay_s: (delay_s > 0).then_some(delay_s),
        durability: set(durability),
        cost_per_day: set(cost),
    }
}

fn used(plan: &Plan) -> Vec<&str> {
    plan.choices.iter().filter(|choice| choice.used).map(|choice| choice.name.as_str()).collect()
}

#[test]
fn the_cheapest_set_that_reaches_the_goals_is_chosen() {
    for (goals, want, met) in [
        // Nothing is wanted.
        (goals(0.0, 0, 0.0, 0.0), &[][..], true),
        // What costs nothing is enough.
        (goals(0.85, 0, 0.0, 0.0), &["ots"], true),
        // It is too slow.
        (goals(0.85, 60, 0.0, 0.0), &["tsa-cheap"], true),
        // One cheap one is too unreliable, two others are cheaper than the dear one.
        (goals(0.999, 60, 0.0, 0.0), &["tsa-cheap", "vault"], true),
        (goals(0.9999, 60, 0.0, 0.0), &["tsa-cheap", "tsa-dear"], true),
        // Slow evidence lasts, too.
        (goals(0.9, 60, 0.999, 0.0), &["tsa-cheap", "ots", "vault"], true),
        (goals(0.9, 60, 0.98, 0.0), &["tsa-cheap", "ots"], true),
        // There is not enough money: as near as it goes.
        (goals(0.9999, 60, 0.0, 3.0), &["tsa-cheap", "vault"], false),
        (goals(0.9999, 60, 0.0, 1.5), &["tsa-cheap"], false),
        // Nobody is as quick.
        (goals(0.5, 1, 0.0, 0.0), &[], false),
    ] {
        let plan = plan(&all(), &goals);
        assert_eq!((used(&plan), plan.met), (want.to_vec(), met), "{goals:?}: {plan:?}");
        let sum =
            sum_of_other(&all(), &goals, (0..4).filter(|n| plan.choices[*n].used).map(|n| 1 << n).sum());
        assert_eq!(plan.sum, sum);
        assert!(plan.choices.iter().all(|choice| !choice.why.is_empty()));
        assert_eq!(plan.why.starts_with("NO SET"), !met);
    }
}

#[test]
fn a_plan_says_why() {
    let why = |goals: &Goals, name: &str| {
        let plan = plan(&all(), goals);
        plan.choices.into_iter().find(|choice| choice.name == name).unwrap().why
    };
    let reliable = goals(0.999, 60, 0.0, 0.0);
    assert_eq!(why(&reliable, "vault"), "without it reliability would be 0.950000");
    assert!(why(&reliable, "tsa-dear").contains("with it a day would cost 8.0000"));
    assert_eq!(why(&reliable, "ots"), "it takes 7200 s");
    assert_eq!(why(&goals(0.9999, 60, 0.0, 3.0), "tsa-dear"), "with it a day would cost 8.0000");
    assert!(plan(&all(), &reliable).why.contains("reliability 0.999"));
    assert_eq!(plan(&all(), &reliable).choices[2].score, None, "it costs nothing");
}

#[test]
fn no_set_is_better_than_the_one_chosen() {
    // Every set by hand, without the order in which the planner looks at them.
    let candidates = all();
    for step in 0..40 {
        let goals =
            goals(1.0 - 0.5_f64.powi(step % 9), 60, 1.0 - 0.4_f64.powi(step / 5), f64::from(step % 7));
        let plan = plan(&candidates, &goals);
        for set in 0..16 {
            let sum = sum_of_other(&candidates, &goals, set);
            let affordable = goals.cost_per_day.is_none_or(|most| sum.cost_per_day <= most);
            let reaches = goals.reliability.is_none_or(|goal| sum.reliability >= goal)
                && goals.durability.is_none_or(|goal| sum.durability >= goal);
            if affordable && reaches {
                assert!(plan.met, "{goals:?}: {set:04b} does");
                assert!(plan.sum.cost_per_day <= sum.cost_per_day + 1e-9, "{goals:?}: {set:04b} is cheaper");
            }
        }
    }
}

#[test]
fn who_fails_is_replaced_and_believed_again_later() {
    let goals = goals(0.9, 60, 0.0, 0.0);
    let mut tally = Tally::default();
    let at = |tally: &Tally, now_ms: u64| {
        let mut candidates = all();
        candidates[0].reliability = tally.reliability(0.95, now_ms);
        let plan = plan(&candidates, &goals);
        used(&plan).join(" ")
    };
    assert_eq!(at(&tally, 0), "tsa-cheap");
    for n in 0..8 {
        tally.tried(n * 1000, false);
    }
    assert_eq!(at(&tally, 9000), "vault");
    assert_eq!(at(&tally, 9000 + 12 * 3_600_000), "tsa-cheap");
    for n in 0..100 {
        tally.tried(n, true);
    }
    assert!(tally.reliability(0.95, 200) > 0.9 && tally.reliability(0.95, 200) < 1.0);
    let mut candidates = all();
    candidates[0].contradicts = true;
    let plan = plan(&candidates, &goals);
    assert_eq!(used(&plan), ["vault"]);
    assert!(plan.choices[0].why.contains("another history"));
}

#[test]
fn wrong_numbers_are_refused() {
    let price = |cost: f64, reliability: f64| Price { cost, delay_s: 1, reliability, durability: 0.5 };
    assert!(price(0.0, 0.99).check().is_ok());
    for bad in
        [price(-1.0, 0.5), price(f64::NAN, 0.5), price(f64::INFINITY, 0.5), price(0.0, 1.0), price(0.0, -0.1)]
    {
        assert!(bad.check().is_err(), "{bad:?}");
    }
    assert!(Goals { cost_per_day: Some(-1.0), ..Goals::default() }.check().is_err());
    assert!(Goals { durability: Some(1.0), ..Goals::default() }.check().is_err());
}
