//! The numbers a summary claims and we can recompute: dimension, regime, budget.
//!
//! `log2` is `libm`'s, everywhere: platform libraries differ in the last bit for one integer in a hundred.

use alloc::vec::Vec;
use core::fmt;

use super::decimal::nine;
use super::policy::Policy;

/// How a stream behaves, by its dimension and coherence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Regime {
    /// Low dimension, high coherence.
    Sticky = 1,
    /// Neither.
    Mixed = 2,
    /// High dimension.
    NonSticky = 3,
}

impl Regime {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Regime::Sticky => "sticky",
            Regime::Mixed => "mixed",
            Regime::NonSticky => "non_sticky",
        }
    }

    /// The regime of these signals.
    #[must_use]
    pub fn of(d_hat: f64, coh_star: f64, policy: &Policy) -> Regime {
        if coh_star >= policy.sticky_coherence_min && d_hat <= policy.sticky_d_hat_max {
            Regime::Sticky
        } else if d_hat >= policy.non_sticky_d_hat_min {
            Regime::NonSticky
        } else {
            Regime::Mixed
        }
    }
}

/// Why no dimension can be computed. The texts are the original's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlopeError {
    /// Fewer than two scales.
    TooFewScales,
    /// No count for this scale.
    MissingCount(i64),
    /// A count of zero or less at this scale.
    CountNotPositive(i64),
    /// No two scales that differ.
    NoSlope,
}

impl fmt::Display for SlopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SlopeError::TooFewScales => f.write_str("need at least 2 scales for regression"),
            SlopeError::MissingCount(scale) => write!(f, "missing N_j entry for scale {scale}"),
            SlopeError::CountNotPositive(scale) => write!(f, "N_j must be positive for scale {scale}"),
            SlopeError::NoSlope => f.write_str("no valid slopes computed"),
        }
    }
}

impl core::error::Error for SlopeError {}

/// Scales closer than this in log2 give no slope.
const NEAR: f64 = 1e-9;

/// Theil-Sen: the upper median of all slopes of log2 count over log2 scale, rounded to nine places. The
/// scales are taken in the order given; a slope that is no number (scales below 1 can make one) is left out.
///
/// # Errors
/// [`SlopeError`], the first in the order of the scales.
pub fn d_hat(scales: &[i64], count: impl Fn(i64) -> Option<i64>) -> Result<f64, SlopeError> {
    if scales.len() < 2 {
        return Err(SlopeError::TooFewScales);
    }
    let mut points = Vec::with_capacity(scales.len());
    for &scale in scales {
        let count = count(scale).ok_or(SlopeError::MissingCount(scale))?;
        if count <= 0 {
            return Err(SlopeError::CountNotPositive(scale));
        }
        points.push((libm::log2(scale as f64), libm::log2(count as f64)));
    }
    let mut slopes = Vec::with_capacity(points.len() * (points.len() - 1) / 2);
    for (at, (x, y)) in points.iter().enumerate() {
        for (later_x, later_y) in &points[at + 1..] {
            let dx = later_x - x;
            let slope = (later_y - y) / dx;
            // Not `dx.abs() < NEAR`: a dx that is no number must fail, too.
            if dx.abs() >= NEAR && slope.is_finite() {
                slopes.push(slope);
            }
        }
    }
    if slopes.is_empty() {
        return Err(SlopeError::NoSlope);
    }
    slopes.sort_unstable_by(f64::total_cmp);
    Ok(round9(slopes[slopes.len() / 2]))
}

/// The trust budget of these signals, clamped to `[0, 1]` and rounded to nine places.
#[must_use]
pub fn budget(d_hat: f64, coh_star: f64, r: f64, policy: &Policy) -> f64 {
    let excess = if d_hat > policy.d0 { d_hat - policy.d0 } else { 0.0 };
    let sum = policy.base + policy.alpha * (1.0 - r) + policy.beta * excess + policy.gamma * coh_star;
    round9(sum.clamp(0.0, 1.0))
}

/// Rounds to nine places, half away from zero on the shortest decimal; zero has no sign.
#[must_use]
pub fn round9(x: f64) -> f64 {
    nine(x).to_f64() + 0.0
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    fn of(pairs: &[(i64, i64)]) -> Result<f64, SlopeError> {
        let scales: Vec<i64> = pairs.iter().map(|(scale, _)| *scale).collect();
        d_hat(&scales, |scale| pairs.iter().find(|pair| pair.0 == scale).map(|pair| pair.1))
    }

    #[test]
    fn the_median_is_the_upper_one() {
        assert_eq!(of(&[(2, 3), (4, 5), (8, 9), (16, 17), (32, 31)]), Ok(0.866733469));
        assert_eq!(of(&[(2, 5), (4, 10), (8, 13), (16, 15)]), Ok(0.528320834));
        assert_eq!(of(&[(2, 4), (4, 8), (8, 17), (16, 20)]), Ok(1.0));
        assert_eq!(of(&[(2, 5), (4, 10), (8, 20), (16, 40)]), Ok(1.0));
        assert_eq!(of(&[(1, 4), (2, 2)]), Ok(-1.0));
    }

    #[test]
    fn each_reason_for_no_dimension_has_its_text() {
        for (pairs, text) in [
            (&[][..], "need at least 2 scales for regression"),
            (&[(2, 3)], "need at least 2 scales for regression"),
            (&[(2, 3), (4, 0)], "N_j must be positive for scale 4"),
            (&[(2, -1), (4, 0)], "N_j must be positive for scale 2"),
            (&[(2, 3), (2, 3)], "no valid slopes computed"),
            (&[(-2, 3), (-4, 3)], "no valid slopes computed"),
            (&[(0, 3), (0, 3)], "no valid slopes computed"),
        ] {
            assert_eq!(of(pairs).unwrap_err().to_string(), text);
        }
        let missing = d_hat(&[2, 4], |scale| (scale == 2).then_some(1));
        assert_eq!(missing.unwrap_err().to_string(), "missing N_j entry for scale 4");
        assert_eq!(of(&[(0, 3), (2, 6)]), Ok(0.0));
    }

    #[test]
    fn budget_and_regime_follow_the_constants() {
        let policy = Policy::default_1_0_0();
        assert_eq!(budget(1.41, 0.73, 0.87, &policy), 0.285);
        assert_eq!(budget(3.5, 1.0, 0.0, &policy), 1.0);
        assert_eq!(budget(0.0, -9.0, 1.0, &policy), 0.0);
        assert_eq!(budget(2.4, 0.5, 0.5, &policy), 0.45);
        for (d_hat, coh_star, regime) in [
            (1.5, 0.7, Regime::Sticky),
            (1.500000001, 0.7, Regime::Mixed),
            (1.5, 0.699999999, Regime::Mixed),
            (2.6, 0.0, Regime::NonSticky),
            (2.6, 1.0, Regime::NonSticky),
            (-1.0, 1.0, Regime::Sticky),
        ] {
            assert_eq!(Regime::of(d_hat, coh_star, &policy), regime);
        }
    }

    proptest! {
        #[test]
        fn a_power_law_has_its_exponent(exponent in 0_u32..5, first in 0_u32..4, steps in 2_u32..7) {
            let pairs: Vec<_> = (first..first + steps).map(|j| (1 << j, 1_i64 << (exponent * j))).collect();
            prop_assert_eq!(of(&pairs), Ok(f64::from(exponent)));
        }

        #[test]
        fn the_order_of_scales_does_not_matter(counts in prop::collection::vec(1_i64..1_000_000, 2..9)) {
            let mut pairs: Vec<_> = counts.iter().enumerate().map(|(j, count)| (1 << j, *count)).collect();
            let forward = of(&pairs);
            pairs.reverse();
            prop_assert_eq!(of(&pairs), forward);
        }

        #[test]
        fn any_scales_and_counts_give_a_finite_number_or_a_reason(
            pairs in prop::collection::vec((any::<i64>(), any::<i64>()), 0..9)
        ) {
            prop_assert!(of(&pairs).map_or(true, f64::is_finite));
        }
    }
}
