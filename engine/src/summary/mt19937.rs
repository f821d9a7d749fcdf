//! The random directions of `coh_star`, as NumPy's legacy generator gives them: `np.random.seed(seed)`, then
//! `np.random.randn(d)`. A summary's `seed` reproduces them anywhere.

const WORDS: usize = 624;
const SHIFT: usize = 397;

/// MT19937 with NumPy's legacy Gaussian (polar method, one value kept).
pub struct Mt19937 {
    words: [u32; WORDS],
    next: usize,
    kept: Option<f64>,
}

impl Mt19937 {
    /// `np.random.seed(seed)`.
    #[must_use]
    pub fn new(seed: u32) -> Mt19937 {
        let mut words = [0; WORDS];
        let mut word = seed;
        for (at, slot) in words.iter_mut().enumerate() {
            *slot = word;
            word = 1_812_433_253_u32.wrapping_mul(word ^ word >> 30).wrapping_add(at as u32 + 1);
        }
        Mt19937 { words, next: WORDS, kept: None }
    }

    fn refill(&mut self) {
        for at in 0..WORDS {
            let mixed = self.words[at] & 0x8000_0000 | self.words[(at + 1) % WORDS] & 0x7fff_ffff;
            let odd = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
            self.words[at] = self.words[(at + SHIFT) % WORDS] ^ mixed >> 1 ^ odd;
        }
        self.next = 0;
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.next == WORDS {
            self.refill();
        }
        let mut word = self.words[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= word << 7 & 0x9d2c_5680;
        word ^= word << 15 & 0xefc6_0000;
        word ^ word >> 18
    }

    /// The next double in `[0, 1)`: 53 bits.
    pub fn next_f64(&mut self) -> f64 {
        let high = f64::from(self.next_u32() >> 5);
        let low = f64::from(self.next_u32() >> 6);
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }

    /// The next standard normal value.
    pub fn next_gaussian(&mut self) -> f64 {
        if let Some(kept) = self.kept.take() {
            return kept;
        }
        loop {
            let x = 2.0 * self.next_f64() - 1.0;
            let y = 2.0 * self.next_f64() - 1.0;
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

    /// The first outputs that the generator's authors publish for `init_genrand(5489)`.
    #[test]
    fn the_generator_is_the_published_one() {
        let mut generator = Mt19937::new(5489);
        let first: [u32; 5] = core::array::from_fn(|_| generator.next_u32());
        assert_eq!(first, [3_499_211_612, 581_869_302, 3_890_346_734, 3_586_334_585, 545_404_204]);
        for _ in 5..9999 {
            generator.next_u32();
        }
        assert_eq!(generator.next_u32(), 4_123_659_995);
    }
}
