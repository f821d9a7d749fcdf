//! What a number's text is worth.

/// The text of a number, and its value if that is an exact double divided by an exact power of ten.
#[derive(Clone, Copy, Debug)]
pub(in crate::summary) struct Number<'a> {
    pub(super) text: &'a str,
    /// All digits as one integer; meaningless beyond 18 digits.
    pub(super) mantissa: u64,
    /// How many digits.
    pub(super) digits: usize,
    /// How many of them after the point.
    pub(super) places: usize,
    pub(super) exponent: bool,
}

impl Number<'_> {
    /// Whether it was written as an integer.
    pub(in crate::summary) fn is_whole(&self) -> bool {
        self.places == 0 && !self.exponent
    }

    /// As an integer; `None` if it does not fit or is not written as one.
    pub(in crate::summary) fn integer(&self) -> Option<i64> {
        if !self.is_whole() {
            return None;
        }
        if self.digits > 18 {
            return self.text.parse().ok();
        }
        let size = self.mantissa as i64;
        Some(if self.text.starts_with('-') { -size } else { size })
    }

    /// The nearest double, which may be infinite.
    pub(in crate::summary) fn double(&self) -> f64 {
        const POWERS: [f64; 19] = [
            1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
            1e18,
        ];
        if self.exponent || self.digits > 18 || self.mantissa >= 1 << 53 {
            return self.text.parse().expect("the grammar of numbers was checked");
        }
        // Both are exact doubles, so one correctly rounded division gives the nearest.
        let size = self.mantissa as f64 / POWERS[self.places];
        if self.text.starts_with('-') { -size } else { size }
    }
}
