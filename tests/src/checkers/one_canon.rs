//! I4 one-canon: the bytes that are signed are those of the written rule: sorted keys, nine places, halves
//! away from zero. Written here a second time, from the rule, on decimal digits.
//!
//! Mutant: a printer that rounds the binary value, as most libraries do (see the test).

use std::collections::BTreeSet;

use engine::event::Event;
use engine::summary::canonical::canonical_bytes;
use engine::summary::parse;

use crate::sim::history::Sight;

/// The first submission in the log whose canonical bytes are not the rule's.
pub fn check(sight: &Sight) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for (place, event, _) in sight.events() {
        let Event::Received(envelope) = event else { continue };
        if !seen.insert(&envelope.body) {
            continue;
        }
        let Ok(pcs) = parse(&envelope.body) else { continue };
        let fields = pcs.signed_fields();
        let numbers =
            [fields.numbers.d_hat, fields.numbers.budget, fields.numbers.coh_star, fields.numbers.r];
        let [d_hat, budget, coh_star, r] = numbers.map(nine_places);
        let text = |text: &str| serde_json::to_string(text).expect("a string is JSON");
        let right = format!(
            "{{\"D_hat\":{d_hat},\"budget\":{budget},\"coh_star\":{coh_star},\"epoch\":{},\"merkle_root\":{},\"pcs_id\":{},\"r\":{r},\"shard_id\":{}}}",
            fields.epoch,
            text(fields.merkle_root),
            text(fields.pcs_id),
            text(fields.shard_id)
        );
        if canonical_bytes(&fields) != right.as_bytes() {
            return Err(format!("I4: the canonical bytes at {place:?} are not those of the rule"));
        }
    }
    Ok(())
}

/// The shortest decimal of `x`, rounded to nine places, halves away from zero, zero without sign.
fn nine_places(x: f64) -> String {
    // Rust prints the shortest digits that read back, without exponent.
    let shortest = format!("{x}");
    let (sign, digits) = shortest.strip_prefix('-').map_or(("", &shortest[..]), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let kept = format!("{whole}{fraction:0<9.9}");
    let up = fraction.as_bytes().get(9).is_some_and(|digit| *digit >= b'5');
    let scaled = kept.parse::<u128>().expect("digits") + u128::from(up);
    let sign = if scaled == 0 { "" } else { sign };
    format!("{sign}{}.{:09}", scaled / 1_000_000_000, scaled % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mutant_that_rounds_the_binary_value_is_seen() {
        assert_eq!(nine_places(0.1234567885), "0.123456789");
        assert_ne!(nine_places(0.1234567885), format!("{:.9}", 0.1234567885));
        assert_eq!((nine_places(-1e-12), nine_places(3.0)), ("0.000000000".into(), "3.000000000".into()));
    }
}
