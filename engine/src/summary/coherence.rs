//! `coh_star`: along which of many random directions do the points bunch up most?
//!
//! Reproduces the original's command line for a given seed: NumPy's directions ([`Mt19937`]), NumPy's
//! histogram with its correction at the edges, the first strict maximum, Python's rounding. Sums are taken
//! left to right without fused operations, so a point exactly on the edge of a bin may fall on the other side
//! than with a vectorised BLAS, and `v_star` may differ in its last bits; it is not signed.

use alloc::vec;
use alloc::vec::Vec;

use super::boxes::Points;
use super::decimal::{Rounding, round9};
use super::mt19937::Mt19937;

/// Directions tried by the original's default.
pub const DIRECTIONS: usize = 100;

/// Bins of the original's default.
pub const BINS: usize = 20;

/// A projection narrower than this has all points in one place.
const NARROW: f64 = 1e-9;

/// The largest share of points in one bin, and the direction that reached it.
#[derive(Clone, Debug, PartialEq)]
pub struct Coherence {
    /// In `[0, 1]`, nine places.
    pub coh_star: f64,
    /// A unit direction.
    pub v_star: Vec<f64>,
}

/// Tries `directions` random directions, `bins` bins each.
///
/// # Panics
/// If `bins` is 0.
#[must_use]
pub fn coherence(points: Points<'_>, directions: usize, bins: usize, seed: u32) -> Coherence {
    assert!(bins > 0, "a histogram has a bin");
    let dimensions = points.dimensions();
    if points.is_empty() {
        return Coherence { coh_star: 0.0, v_star: vec![0.0; dimensions] };
    }
    let mut generator = Mt19937::new(seed);
    let mut best = 0.0;
    let mut v_star = vec![0.0; dimensions];
    v_star[0] = 1.0;
    let mut projection = vec![0.0; points.len()];
    for _ in 0..directions {
        let mut direction: Vec<f64> = (0..dimensions).map(|_| generator.next_gaussian()).collect();
        let length = libm::sqrt(dot(&direction, &direction));
        for component in &mut direction {
            *component /= length;
        }
        for (slot, row) in projection.iter_mut().zip(points.rows()) {
            *slot = dot(row, &direction);
        }
        let share = largest_share(&projection, bins);
        if share > best {
            (best, v_star) = (share, direction);
        }
    }
    Coherence { coh_star: round9(best, Rounding::BinaryHalfEven).to_f64(), v_star }
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).fold(0.0, |sum, (a, b)| sum + a * b)
}

/// The fullest bin's share: `max(np.histogram(x, bins, (min, max))) / len(x)`.
fn largest_share(x: &[f64], bins: usize) -> f64 {
    let low = x.iter().copied().fold(f64::INFINITY, f64::min);
    let high = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let width = high - low;
    if width.abs() < NARROW {
        return 1.0;
    }
    let step = width / bins as f64;
    // NumPy's linspace: the last edge is the maximum itself.
    let edge = |at: usize| if at == bins { high } else { at as f64 * step + low };
    let mut counts = vec![0_u64; bins];
    for &value in x {
        let mut bin = (((value - low) / width * bins as f64) as usize).min(bins - 1);
        if value < edge(bin) {
            bin -= 1;
        }
        if value >= edge(bin + 1) && bin != bins - 1 {
            bin += 1;
        }
        counts[bin] += 1;
    }
    let most = counts.iter().copied().max().expect("a histogram has a bin");
    most as f64 / x.len() as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn points_in_one_place_or_on_a_line_are_coherent() {
        let same = [0.5; 30];
        let found = coherence(Points::new(&same, 3).unwrap(), 5, 20, 0);
        assert_eq!(found.coh_star, 1.0);
        let none = coherence(Points::new(&[], 3).unwrap(), 5, 20, 0);
        assert_eq!(none, Coherence { coh_star: 0.0, v_star: vec![0.0; 3] });
        let untried = coherence(Points::new(&same, 3).unwrap(), 0, 20, 0);
        assert_eq!(untried, Coherence { coh_star: 0.0, v_star: vec![1.0, 0.0, 0.0] });
    }

    proptest! {
        #[test]
        fn every_point_is_in_a_bin(values in prop::collection::vec(-1e6..1e6_f64, 3..60), bins in 1..30_usize) {
            let points = Points::new(&values[..values.len() / 3 * 3], 3).unwrap();
            let found = coherence(points, 4, bins, 7);
            let share_of_one = 1.0 / points.len() as f64;
            prop_assert!(found.coh_star >= share_of_one - 1e-9 && found.coh_star <= 1.0);
            prop_assert!((dot(&found.v_star, &found.v_star) - 1.0).abs() < 1e-12);
        }
    }
}
