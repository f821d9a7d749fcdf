//! What only the producer can compute, because it alone has the points: occupied boxes and coherence.
//!
//! Both follow the original agent, down to its random numbers: MT19937 and the polar Gaussian of numpy's legacy
//! generator, and its rule for which histogram bin a value on an edge belongs to.

use std::collections::HashSet;

use engine::summary::signals::round9;

/// How many boxes of side `1/scale` the points occupy.
#[must_use]
pub fn boxes(points: &[Vec<f64>], scale: i64) -> i64 {
    let scale = scale as f64;
    // `+ 0.0` makes one zero of the two: a box is the same from either side.
    let of = |point: &Vec<f64>| point.iter().map(|value| ((value * scale).floor() + 0.0).to_bits()).collect();
    let occupied: HashSet<Vec<u64>> = points.iter().map(of).collect();
    i64::try_from(occupied.len()).unwrap_or(i64::MAX)
}

/// The best direction and how coherent the points are along it.
#[derive(Clone, Debug, PartialEq)]
pub struct Coherence {
    /// Largest share of the points in one bin of the histogram, nine places.
    pub coh_star: f64,
    /// The direction, of unit length.
    pub v_star: Vec<f64>,
}

/// Tries `directions` random directions and keeps the first of the most coherent ones.
#[must_use]
pub fn coherence(points: &[Vec<f64>], seed: u32, directions: u32, bins: u32) -> Coherence {
    let width = points.first().map_or(0, Vec::len);
    if points.is_empty() || width == 0 {
        return Coherence { coh_star: 0.0, v_star: vec![0.0; 3] };
    }
    let mut random = Gaussian::new(seed);
    let mut best =
        Coherence { coh_star: 0.0, v_star: (0..width).map(|i| f64::from(u8::from(i == 0))).collect() };
    let mut projected = Vec::with_capacity(points.len());
    for _ in 0..directions {
        let mut v: Vec<f64> = (0..width).map(|_| random.next()).collect();
        let norm = libm::sqrt(v.iter().map(|x| x * x).sum());
        v.iter_mut().for_each(|x| *x /= norm);
        projected.clear();
        projected.extend(points.iter().map(|point| point.iter().zip(&v).map(|(x, y)| x * y).sum::<f64>()));
        let share = fullest_bin(&projected, bins as usize);
        if share > best.coh_star {
            best = Coherence { coh_star: share, v_star: v };
        }
    }
    best.coh_star = round9(best.coh_star);
    best
}

fn fullest_bin(values: &[f64], bins: usize) -> f64 {
    let (low, high) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)));
    if (high - low).abs() < 1e-9 {
        return 1.0;
    }
    let step = (high - low) / bins as f64;
    let edge = |k: usize| if k == bins { high } else { k as f64 * step + low };
    let mut counts = vec![0u32; bins];
    for value in values {
        let mut k = (((value - low) * (bins as f64 / (high - low))) as usize).min(bins - 1);
        if *value < edge(k) && k > 0 {
            k -= 1;
        } else if k != bins - 1 && *value >= edge(k + 1) {
            k += 1;
        }
        counts[k] += 1;
    }
    f64::from(counts.into_iter().max().unwrap_or(0)) / values.len() as f64
}

/// Normal deviates as numpy's legacy generator gives them.
struct Gaussian {
    state: Box<[u32; 624]>,
    at: usize,
    kept: Option<f64>,
}

impl Gaussian {
    fn new(seed: u32) -> Gaussian {
        let mut state = Box::new([0; 624]);
        state[0] = seed;
        for i in 1..624 {
            let before: u32 = state[i - 1];
            state[i] = 1_812_433_253_u32.wrapping_mul(before ^ before >> 30).wrapping_add(i as u32);
        }
        Gaussian { state, at: 624, kept: None }
    }

    fn word(&mut self) -> u32 {
        if self.at == 624 {
            for i in 0..624 {
                let y = self.state[i] & 0x8000_0000 | self.state[(i + 1) % 624] & 0x7fff_ffff;
                self.state[i] =
                    self.state[(i + 397) % 624] ^ y >> 1 ^ if y & 1 == 1 { 0x9908_b0df } else { 0 };
            }
            self.at = 0;
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= y << 7 & 0x9d2c_5680;
        y ^= y << 15 & 0xefc6_0000;
        y ^ y >> 18
    }

    fn uniform(&mut self) -> f64 {
        let (high, low) = (self.word() >> 5, self.word() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0
    }

    fn next(&mut self) -> f64 {
        if let Some(kept) = self.kept.take() {
            return kept;
        }
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let square = x * x + y * y;
            if square < 1.0 && square != 0.0 {
                let scale = libm::sqrt(-2.0 * libm::log(square) / square);
                self.kept = Some(scale * x);
                return scale * y;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.random.seed(42); numpy.random.randn(4)`.
    #[test]
    fn the_deviates_are_numpys() {
        let mut random = Gaussian::new(42);
        let four: Vec<f64> = (0..4).map(|_| random.next()).collect();
        let want = [
            0.496_714_153_011_232_7,
            -0.138_264_301_171_184_66,
            0.647_688_538_100_692_5,
            1.523_029_856_408_025_4,
        ];
        for (have, want) in four.iter().zip(want) {
            assert!((have - want).abs() < 1e-15, "{have} {want}");
        }
    }

    #[test]
    fn boxes_are_counted_once() {
        let points = vec![vec![0.0, 0.1], vec![-0.0, 0.2], vec![0.9, 0.9], vec![0.4, 0.1], vec![-0.1, 0.1]];
        assert_eq!(boxes(&points, 1), 2);
        assert_eq!(boxes(&points, 2), 3);
        assert_eq!(boxes(&points, 4), 4);
    }

    #[test]
    fn a_line_is_coherent_across_and_a_grid_is_not() {
        let line: Vec<Vec<f64>> = (0..200).map(|i| vec![f64::from(i) / 200.0; 2]).collect();
        let grid: Vec<Vec<f64>> =
            (0..400).map(|i| vec![f64::from(i / 20) / 20.0, f64::from(i % 20) / 20.0]).collect();
        let of = |points| coherence(points, 42, 100, 20).coh_star;
        assert!(of(&line) < 0.2 && of(&grid) < 0.2, "spread evenly along every direction");
        let lump = vec![vec![0.5, 0.5]; 10];
        assert_eq!(of(&lump), 1.0);
        assert_eq!(coherence(&[], 42, 100, 20).v_star, vec![0.0; 3]);
    }

    #[test]
    fn a_value_on_an_edge_belongs_to_the_bin_that_begins_there() {
        assert_eq!(fullest_bin(&[0.0, 1.0, 2.0, 3.0, 4.0], 4), 0.4);
        assert_eq!(fullest_bin(&[0.0, 0.1, 0.2, 0.3], 3), 0.5);
    }
}
