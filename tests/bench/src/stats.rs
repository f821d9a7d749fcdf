//! Medians, alternating runs and latency histograms.

use std::io;
use std::time::Duration;

/// What one run of one side gave: the figure that is compared and its context.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// The compared figure; for a rate more is better.
    pub value: f64,
    /// Named context, in the order it is printed; medians over the runs are shown.
    pub extra: Vec<(&'static str, f64)>,
}

impl Sample {
    pub fn new(value: f64) -> Sample {
        Sample { value, extra: Vec::new() }
    }

    pub fn with(mut self, name: &'static str, value: f64) -> Sample {
        self.extra.push((name, value));
        self
    }
}

/// Both sides of a row after all runs.
pub struct Pair {
    pub ours: Vec<Sample>,
    pub reference: Vec<Sample>,
}

/// Runs both sides `runs` times, alternating, the reference first. The order within a pair does not change, so
/// that a side always meets the disk as the same neighbour left it.
pub fn alternate(
    runs: usize,
    mut ours: impl FnMut() -> io::Result<Sample>,
    mut reference: impl FnMut() -> io::Result<Sample>,
) -> io::Result<Pair> {
    let mut pair = Pair { ours: Vec::new(), reference: Vec::new() };
    for _ in 0..runs {
        pair.reference.push(reference()?);
        pair.ours.push(ours()?);
    }
    Ok(pair)
}

impl Pair {
    /// The median of the ratios of neighbouring runs, which a slow drift of the machine cannot move.
    pub fn ratio(&self) -> f64 {
        median(self.ours.iter().zip(&self.reference).map(|(o, r)| o.value / r.value))
    }

    pub fn ours(&self) -> f64 {
        median(self.ours.iter().map(|s| s.value))
    }

    pub fn reference(&self) -> f64 {
        median(self.reference.iter().map(|s| s.value))
    }

    /// One line per side: the single runs and the medians of the context.
    pub fn notes(&self) -> Vec<String> {
        vec![format!("ours {}", line(&self.ours)), format!("reference {}", line(&self.reference))]
    }
}

/// The runs and the medians of their context as text.
pub fn line(samples: &[Sample]) -> String {
    let runs: Vec<String> = samples.iter().map(|s| crate::rows::figure(s.value)).collect();
    let mut text = format!("[{}]", runs.join(", "));
    let Some(first) = samples.first() else { return text };
    for (i, (name, _)) in first.extra.iter().enumerate() {
        let m = median(samples.iter().filter_map(|s| s.extra.get(i)).map(|e| e.1));
        text.push_str(&format!(" {name} {}", crate::rows::figure(m)));
    }
    text
}

/// The middle value; the mean of the two middle ones when there is an even number; NaN of nothing.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// Processor time of the calling thread: what a core needs for the work, whoever else wants the core meanwhile.
pub struct CoreTime(Duration);

impl CoreTime {
    pub fn start() -> CoreTime {
        CoreTime(CoreTime::now())
    }

    /// Seconds of processor time since the start.
    pub fn seconds(&self) -> f64 {
        (CoreTime::now() - self.0).as_secs_f64()
    }

    fn now() -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` outlives the call. The clock exists on every Linux, so the call cannot fail.
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}

/// Latencies in nanoseconds, 1 us to 60 s, two significant digits.
pub type Histogram = hdrhistogram::Histogram<u64>;

pub fn histogram() -> Histogram {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 2).expect("the bounds are constant and valid")
}

/// Quantile in microseconds.
pub fn micros(histogram: &Histogram, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_even_and_nothing() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert!(median(std::iter::empty()).is_nan());
    }

    #[test]
    fn ratio_is_taken_pair_by_pair() {
        let side = |v: [f64; 3]| v.map(Sample::new).to_vec();
        let pair = Pair { ours: side([50.0, 100.0, 25.0]), reference: side([100.0, 200.0, 50.0]) };
        assert_eq!(pair.ratio(), 0.5);
    }
}
