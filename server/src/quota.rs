//! Rates and quotas of one tenant: a token bucket, then a rolling day. Pure functions of the time given.

const DAY_NS: u64 = 86_400_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// Limits of one tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tokens a second; 0 means no limit.
    pub rate_per_s: u32,
    /// Size of the bucket.
    pub burst: u32,
    /// Submissions in a rolling day; 0 means no limit.
    pub daily: u64,
}

/// Which limit a submission ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The token bucket.
    Rate,
    /// The day's quota.
    Daily,
}

/// What admission says about one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// `None` when admitted.
    pub refused: Option<Which>,
    /// Seconds until the same request could be admitted; at least 1 when refused.
    pub retry_s: u64,
    /// Whole tokens left in the bucket.
    pub tokens: u64,
    /// Submissions left today, if there is a quota.
    pub today: Option<u64>,
    /// Seconds until the day's quota starts again.
    pub day_s: u64,
}

/// State of one tenant's limits.
///
/// The bucket is kept as the time at which it will be full again (the generic cell rate algorithm), so there
/// is nothing to refill in the background.
#[derive(Debug, Default)]
pub struct Meter {
    full_at: u64,
    day_start: Option<u64>,
    used: u64,
}

impl Meter {
    /// Asks for `n` submissions at `now_ns`; takes all of them or none.
    ///
    /// As in the original the rate is asked first and the quota second, and a refusal takes nothing.
    pub fn take(&mut self, limits: Limits, n: u64, now_ns: u64) -> Standing {
        let step = if limits.rate_per_s == 0 { 0 } else { SECOND_NS / u64::from(limits.rate_per_s) };
        let size = u64::from(limits.burst.max(1)) * step;
        let full_at = self.full_at.max(now_ns);
        let debt = full_at - now_ns;
        let day = match self.day_start {
            Some(start) if now_ns.saturating_sub(start) < DAY_NS => start,
            _ => {
                self.day_start = Some(now_ns);
                self.used = 0;
                now_ns
            }
        };
        let cost = n.saturating_mul(step);
        let mut refused = None;
        let mut wait_ns = 0;
        if debt.saturating_add(cost) > size {
            refused = Some(Which::Rate);
            // More than the bucket can ever hold still gets an honest, finite time: when it will be full.
            wait_ns = debt.saturating_add(cost.min(size)) - size;
        } else if limits.daily != 0 && self.used.saturating_add(n) > limits.daily {
            refused = Some(Which::Daily);
            wait_ns = day + DAY_NS - now_ns;
        } else {
            self.full_at = full_at + cost;
            self.used += n;
        }
        let left = size - (self.full_at.max(now_ns) - now_ns).min(size);
        Standing {
            refused,
            retry_s: if refused.is_some() { wait_ns.div_ceil(SECOND_NS).max(1) } else { 0 },
            tokens: left.checked_div(step).unwrap_or(0),
            today: (limits.daily != 0).then(|| limits.daily.saturating_sub(self.used)),
            day_s: (day + DAY_NS - now_ns).div_ceil(SECOND_NS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let limits = Limits { rate_per_s: 5, burst: 10, daily: 0 };
        let mut meter = Meter::default();
        let passed = (0..20).filter(|_| meter.take(limits, 1, 0).refused.is_none()).count();
        assert_eq!(passed, 10);
        let refused = meter.take(limits, 1, 0);
        assert_eq!((refused.refused, refused.retry_s, refused.tokens), (Some(Which::Rate), 1, 0));
        assert!(meter.take(limits, 1, 199 * MS).refused.is_some());
        assert!(meter.take(limits, 1, 200 * MS).refused.is_none());
        assert!(meter.take(limits, 1, 200 * MS).refused.is_some());
        assert_eq!(
            meter.take(limits, 1, 3_600_000 * MS).tokens,
            9,
            "a bucket never holds more than its burst"
        );
    }

    #[test]
    fn a_batch_takes_all_or_nothing() {
        let limits = Limits { rate_per_s: 10, burst: 20, daily: 0 };
        let mut meter = Meter::default();
        assert!(meter.take(limits, 15, 0).refused.is_none());
        assert_eq!(meter.take(limits, 15, 0).refused, Some(Which::Rate));
        assert!(meter.take(limits, 5, 0).refused.is_none());
        let never = meter.take(limits, 1000, 0);
        assert!(never.refused.is_some() && never.retry_s <= 2);
    }

    #[test]
    fn the_day_rolls_from_the_first_submission() {
        let limits = Limits { rate_per_s: 0, burst: 0, daily: 3 };
        let mut meter = Meter::default();
        let start = 7 * SECOND_NS;
        for left in [2, 1, 0] {
            let standing = meter.take(limits, 1, start);
            assert_eq!((standing.refused, standing.today), (None, Some(left)));
        }
        let refused = meter.take(limits, 1, start + SECOND_NS);
        assert_eq!((refused.refused, refused.retry_s), (Some(Which::Daily), 86_399));
        assert_eq!(meter.take(limits, 1, start + DAY_NS).today, Some(2));
    }

    #[test]
    fn no_limits_never_refuse() {
        let limits = Limits { rate_per_s: 0, burst: 0, daily: 0 };
        let mut meter = Meter::default();
        for n in 0..1000 {
            assert!(meter.take(limits, 1000, n).refused.is_none());
        }
    }

    #[test]
    fn extreme_numbers_do_not_overflow() {
        let limits = Limits { rate_per_s: u32::MAX, burst: u32::MAX, daily: u64::MAX };
        let mut meter = Meter::default();
        for now in [0, 1, DAY_NS, u64::MAX / 2] {
            let _ = meter.take(limits, 1 << 40, now);
        }
        let _ = meter.take(Limits { rate_per_s: 1, burst: u32::MAX, daily: 1 }, u64::MAX, 0);
    }
}
