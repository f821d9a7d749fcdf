//! Box counts: how many cells of side `1 / scale` the points of a window touch.

use alloc::vec::Vec;

/// Points of one window, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Points<'a> {
    values: &'a [f64],
    dimensions: usize,
}

impl<'a> Points<'a> {
    /// Takes rows of `dimensions` finite values each; `None` if the values do not fill whole rows, are not
    /// finite, or a row would be empty.
    #[must_use]
    pub fn new(values: &'a [f64], dimensions: usize) -> Option<Points<'a>> {
        let whole = dimensions > 0 && values.len().is_multiple_of(dimensions);
        (whole && values.iter().all(|value| value.is_finite())).then_some(Points { values, dimensions })
    }

    /// How many values a point has.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// How many points there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len() / self.dimensions
    }

    /// Whether there is no point.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The points.
    pub fn rows(&self) -> impl Iterator<Item = &'a [f64]> {
        self.values.chunks_exact(self.dimensions)
    }

    /// `N_j`: the number of distinct rows of `floor(point * scale)`.
    #[must_use]
    pub fn boxes(&self, scale: i64) -> i64 {
        let cells: Vec<i64> =
            self.values.iter().map(|value| libm::floor(value * scale as f64) as i64).collect();
        let mut rows: Vec<&[i64]> = cells.chunks_exact(self.dimensions).collect();
        rows.sort_unstable();
        rows.dedup();
        i64::try_from(rows.len()).expect("memory holds fewer rows than i64 counts")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_counted_once_and_floor_goes_down() {
        let values = [0.1, 0.1, 0.4, 0.4, 0.6, 0.1, -0.1, 0.1, 0.1, 0.1];
        let points = Points::new(&values, 2).unwrap();
        assert_eq!((points.len(), points.boxes(1), points.boxes(2), points.boxes(4)), (5, 2, 3, 4));
        assert_eq!(Points::new(&[], 3).unwrap().boxes(2), 0);
    }

    #[test]
    fn rows_must_be_whole_and_finite() {
        assert!(Points::new(&[1.0, 2.0, 3.0], 2).is_none());
        assert!(Points::new(&[1.0], 0).is_none());
        assert!(Points::new(&[1.0, f64::NAN], 2).is_none());
    }
}
