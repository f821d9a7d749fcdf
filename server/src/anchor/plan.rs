//! Which targets attest a checkpoint: the cheapest set that reaches the goals of the settings, and why.
//!
//! ```toml
//! [plan]
//! reliability = 0.999                   # chance that a checkpoint is attested at all, within delay_s
//! delay_s = 600
//! durability = 0.9999                   # chance that one of its attestations can still be shown in ten years
//! cost_per_day = 2.0                    # at most, in the unit of the prices
//!
//! [[target]]
//! price = { cost = 0.02, delay_s = 5, reliability = 0.99, durability = 0.98 }
//! ```
//! A price says what one attestation costs, how long it takes, how often a try succeeds and how likely the evidence is to
//! be of use in ten years. Tries of the last hours move the reliability away from what was configured; who has not been
//! asked for long is believed again. Targets without a price are always used, witnesses follow their own policy.
//!
//! Chances are taken as independent: two authorities in one house are one target, and have to be priced so.
//!
//! A function of what it is told. L1: at most [`PRICED_MAX`] targets have a price, so all sets are looked at.

use serde::{Deserialize, Serialize};

/// Most targets with a price.
pub const PRICED_MAX: usize = 12;
/// As how many tries the configured reliability counts.
const PRIOR: f64 = 20.0;
/// After how long a try counts half, milliseconds.
const HALF_MS: f64 = 3_600_000.0;

/// What an operator wants; what is not set asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goals {
    /// Chance that a checkpoint is attested within `delay_s`.
    pub reliability: Option<f64>,
    /// Seconds.
    pub delay_s: Option<u64>,
    /// Chance that an attestation can be shown in ten years.
    pub durability: Option<f64>,
    /// Most that may be spent in a day.
    pub cost_per_day: Option<f64>,
}

/// What an attestation of a target costs and gives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Of one attestation.
    pub cost: f64,
    /// Seconds until it is there.
    pub delay_s: u64,
    /// Chance that a try succeeds, as configured.
    pub reliability: f64,
    /// Chance that it can be shown in ten years.
    pub durability: f64,
}

impl Goals {
    /// # Errors
    /// What is out of its bounds.
    pub fn check(&self) -> Result<(), String> {
        let chance = |value: Option<f64>| value.is_none_or(|value| (0.0..1.0).contains(&value));
        if !chance(self.reliability) || !chance(self.durability) {
            return Err("reliability and durability of the plan are from 0 to below 1".into());
        }
        if self.cost_per_day.is_some_and(|cost| !cost.is_finite() || cost < 0.0) {
            return Err("cost_per_day of the plan is 0 or more".into());
        }
        Ok(())
    }
}

impl Price {
    /// # Errors
    /// What is out of its bounds.
    pub fn check(&self) -> Result<(), String> {
        let chance = |value: f64| (0.0..1.0).contains(&value);
        if !chance(self.reliability) || !chance(self.durability) {
            return Err("reliability and durability of a price are from 0 to below 1".into());
        }
        if !self.cost.is_finite() || self.cost < 0.0 {
            return Err("the cost of a price is 0 or more".into());
        }
        Ok(())
    }
}

/// How the last tries of a target ended; older ones count less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    succeeded: f64,
    failed: f64,
    at_ms: u64,
}

impl Tally {
    fn faded(&self, now_ms: u64) -> (f64, f64) {
        let factor = 0.5_f64.powf(now_ms.saturating_sub(self.at_ms) as f64 / HALF_MS);
        (self.succeeded * factor, self.failed * factor)
    }

    /// A try ended.
    pub fn tried(&mut self, now_ms: u64, succeeded: bool) {
        let (mut good, mut bad) = self.faded(now_ms);
        *(if succeeded { &mut good } else { &mut bad }) += 1.0;
        *self = Tally { succeeded: good, failed: bad, at_ms: now_ms };
    }

    /// What is expected of the next try.
    pub fn reliability(&self, configured: f64, now_ms: u64) -> f64 {
        let (succeeded, failed) = self.faded(now_ms);
        (configured * PRIOR + succeeded) / (PRIOR + succeeded + failed)
    }
}

/// A target with a price.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Its price.
    pub price: Price,
    /// Seconds between two attestations.
    pub every_s: f64,
    /// What is expected of the next try.
    pub reliability: f64,
    /// Whether it holds another history: nothing is expected of it until somebody has dropped the dead letter.
    pub contradicts: bool,
}

impl Candidate {
    fn cost_per_day(&self) -> f64 {
        self.price.cost * 86_400.0 / self.every_s
    }

    fn gives(&self) -> f64 {
        if self.contradicts { 0.0 } else { self.reliability }
    }
}

/// What a set of targets gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sum {
    /// Spent in a day.
    pub cost_per_day: f64,
    /// Chance of an attestation in time.
    pub reliability: f64,
    /// Chance that one can be shown in ten years.
    pub durability: f64,
}

/// What was decided about one candidate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// Its name.
    pub name: String,
    /// Its price in a day.
    pub cost_per_day: f64,
    /// Seconds until it attests.
    pub delay_s: u64,
    /// What is expected of the next try.
    pub reliability: f64,
    /// Chance that it can be shown in ten years.
    pub durability: f64,
    /// Nines of reliability and of durability that it adds alone, for a unit of cost; none if it costs nothing.
    pub score: Option<f64>,
    /// Whether it is used.
    pub used: bool,
    /// Why, or why not.
    pub why: String,
}

/// A plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// What is decided about each candidate, in the order of the settings.
    pub choices: Vec<Choice>,
    /// What the set gives.
    pub sum: Sum,
    /// Whether it reaches every goal.
    pub met: bool,
    /// The decision in a sentence.
    pub why: String,
}

impl Plan {
    /// Whether a target is to attest: also every one that is no candidate.
    pub fn uses(&self, name: &str) -> bool {
        self.choices.iter().find(|choice| choice.name == name).is_none_or(|choice| choice.used)
    }
}

fn in_time(candidate: &Candidate, goals: &Goals) -> bool {
    goals.delay_s.is_none_or(|most| candidate.price.delay_s <= most)
}

fn sum<'a>(set: impl Iterator<Item = &'a Candidate>, goals: &Goals) -> Sum {
    let (mut cost_per_day, mut none_in_time, mut none_lasts) = (0.0, 1.0, 1.0);
    for one in set {
        cost_per_day += one.cost_per_day();
        if in_time(one, goals) {
            none_in_time *= 1.0 - one.gives();
        }
        none_lasts *= 1.0 - one.gives() * one.price.durability;
    }
    Sum { cost_per_day, reliability: 1.0 - none_in_time, durability: 1.0 - none_lasts }
}

/// How far a set is from the goals: the nines it lacks. Zero reaches them.
fn lacks(sum: &Sum, goals: &Goals) -> f64 {
    let nines = |chance: f64| -(1.0 - chance).max(1e-15).log10();
    let lack = |goal: Option<f64>, has: f64| match goal {
        Some(goal) if has < goal => nines(goal) - nines(has),
        _ => 0.0,
    };
    lack(goals.reliability, sum.reliability) + lack(goals.durability, sum.durability)
}

/// Chooses: of the sets that cost no more than allowed those that lack least, of those the cheapest, of those the
/// smallest, of those the most reliable; of equals the one that comes first in the settings.
///
/// # Panics
/// With more than [`PRICED_MAX`] candidates, which settings do not give.
pub fn plan(candidates: &[Candidate], goals: &Goals) -> Plan {
    assert!(candidates.len() <= PRICED_MAX, "L1: all sets are looked at");
    let members = |set: u32| {
        let held = move |(nth, one)| (set >> nth & 1 == 1).then_some(one);
        candidates.iter().enumerate().filter_map(held)
    };
    let affordable = |sum: &Sum| goals.cost_per_day.is_none_or(|most| sum.cost_per_day <= most + 1e-9);
    // The empty set costs nothing, so there is one.
    let mut best = (0_u32, Sum::default(), lacks(&Sum::default(), goals));
    for set in 1..1_u32 << candidates.len() {
        let (sum, before) = (sum(members(set), goals), &best.1);
        if !affordable(&sum) {
            continue;
        }
        let lack = lacks(&sum, goals);
        let order = lack
            .total_cmp(&best.2)
            .then(sum.cost_per_day.total_cmp(&before.cost_per_day))
            .then(set.count_ones().cmp(&best.0.count_ones()))
            .then(before.reliability.total_cmp(&sum.reliability));
        if order.is_lt() {
            best = (set, sum, lack);
        }
    }
    let (set, sum, lack) = best;
    let choice = |(nth, one): (usize, &Candidate)| {
        let used = set >> nth & 1 == 1;
        Choice {
            name: one.name.clone(),
            cost_per_day: one.cost_per_day(),
            delay_s: one.price.delay_s,
            reliability: one.reliability,
            durability: one.price.durability,
            score: score(one, goals),
            used,
            why: reason(one, goals, used, &sum_of_other(candidates, goals, set ^ 1 << nth), lack),
        }
    };
    let choices = candidates.iter().enumerate().map(choice).collect();
    Plan { choices, sum, met: lack == 0.0, why: sentence(&sum, goals, lack) }
}

fn sum_of_other(candidates: &[Candidate], goals: &Goals, set: u32) -> Sum {
    let held = |(nth, one)| (set >> nth & 1 == 1).then_some(one);
    sum(candidates.iter().enumerate().filter_map(held), goals)
}

fn score(one: &Candidate, goals: &Goals) -> Option<f64> {
    let alone = sum(std::iter::once(one), goals);
    let nines = |chance: f64| -(1.0 - chance).max(1e-15).log10();
    (alone.cost_per_day > 0.0)
        .then(|| (nines(alone.reliability) + nines(alone.durability)) / alone.cost_per_day)
}

/// Why a candidate is used or not; `other` is what the set gives with it turned round.
fn reason(one: &Candidate, goals: &Goals, used: bool, other: &Sum, lack: f64) -> String {
    if one.contradicts {
        return "it holds another history than this log, so nothing is expected of it".into();
    }
    if used {
        let mut needs = Vec::new();
        if goals.reliability.is_some_and(|goal| other.reliability < goal) {
            needs.push(format!("reliability would be {}", chance(other.reliability)));
        }
        if goals.durability.is_some_and(|goal| other.durability < goal) {
            needs.push(format!("durability would be {}", chance(other.durability)));
        }
        return format!("without it {}", needs.join(" and "));
    }
    if goals.cost_per_day.is_some_and(|most| other.cost_per_day > most + 1e-9) && lack > 0.0 {
        return format!("with it a day would cost {:.4}", other.cost_per_day);
    }
    if !in_time(one, goals) && goals.durability.is_none() {
        return format!("it takes {} s", one.price.delay_s);
    }
    match lack > 0.0 {
        true => "another set comes nearer to the goals".into(),
        false => format!(
            "not needed: a cheaper set reaches the goals; with it a day would cost {:.4}",
            other.cost_per_day
        ),
    }
}

fn sentence(sum: &Sum, goals: &Goals, lack: f64) -> String {
    let given = format!(
        "reliability {}, durability {}, {:.4} a day",
        chance(sum.reliability),
        chance(sum.durability),
        sum.cost_per_day
    );
    let mut wanted = Vec::new();
    let mut want = |name: &str, goal: Option<f64>| wanted.extend(goal.map(|goal| format!("{name} {goal}")));
    want("reliability", goals.reliability);
    want("durability", goals.durability);
    want("a day's cost at most", goals.cost_per_day);
    let wanted = if wanted.is_empty() { "nothing".into() } else { wanted.join(", ") };
    match lack == 0.0 {
        true => format!("the cheapest set that gives what is wanted ({wanted}): {given}"),
        false => format!("NO SET gives what is wanted ({wanted}); the one that comes nearest: {given}"),
    }
}

fn chance(value: f64) -> String {
    // Cut, not rounded: 0.9999996 is no certainty.
    format!("{:.6}", (value * 1e6).floor() / 1e6)
}

#[cfg(test)]
mod tests;
