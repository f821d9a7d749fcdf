//! Sending one submission until it is answered: which answers are final, how long to wait before the next try.

use std::time::Duration;

use crate::http::{Answer, Client};

/// How often and how patiently.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Tries in all, at least one.
    pub tries: u32,
    /// Wait before the second try; doubles from try to try.
    pub base: Duration,
    /// Longest wait, also for a server's `Retry-After`.
    pub cap: Duration,
}

impl Default for Patience {
    /// Five tries, 1 s doubling to at most 60 s: what agents in the field do.
    fn default() -> Patience {
        Patience { tries: 5, base: Duration::from_secs(1), cap: Duration::from_secs(60) }
    }
}

/// What became of a submission.
#[derive(Debug)]
pub enum Sent {
    /// A verdict (200 or 202).
    Answered(Answer),
    /// The server will never take it (a client error other than 408, 425 and 429).
    Refused(Answer),
    /// No verdict within the tries; the last thing that happened. It may have been recorded: send it again.
    Unanswered(String),
}

/// What one try came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A verdict.
    Verdict,
    /// Final refusal.
    Refusal,
    /// Worth another try.
    Again,
}

/// Sorts a status.
#[must_use]
pub fn class(status: u16) -> Class {
    match status {
        200 | 202 => Class::Verdict,
        408 | 425 | 429 | 500..=599 => Class::Again,
        400..=499 => Class::Refusal,
        _ => Class::Again,
    }
}

/// The wait after try number `failed` (from 1): `base` doubled each time up to `cap`, times `jitter` in 0.5..1.5, but
/// never less than the server asked for, as far as `cap` allows.
#[must_use]
pub fn delay(patience: Patience, failed: u32, jitter: f64, retry_after: Option<Duration>) -> Duration {
    let doubled =
        patience.base.saturating_mul(1u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX));
    let jittered = doubled.min(patience.cap).mul_f64(jitter.clamp(0.5, 1.5));
    jittered.max(retry_after.unwrap_or_default().min(patience.cap))
}

/// `Retry-After` in seconds; the date form is not sent by our servers and is ignored.
#[must_use]
pub fn retry_after(answer: &Answer) -> Option<Duration> {
    answer.header("retry-after")?.trim().parse().ok().map(Duration::from_secs)
}

/// A number in 0.5..1.5 that differs from process to process: many agents must not come back at the same moment.
#[must_use]
pub fn jitter() -> f64 {
    let mut bytes = [0; 4];
    if getrandom::fill(&mut bytes).is_err() {
        return 1.0;
    }
    0.5 + f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

/// Sends `payload` until it is answered or the tries are used up; `sleep` is called between tries. `strict` asks for
/// 422 when the id exists with other content.
pub fn send(
    client: &mut Client,
    tenant: &str,
    strict: bool,
    payload: &[u8],
    patience: Patience,
    sleep: &mut dyn FnMut(Duration, &str),
) -> Sent {
    let headers =
        [("content-type", "application/json"), ("x-tenant-id", tenant), ("prefer", "handling=strict")];
    let headers = &headers[..if strict { 3 } else { 2 }];
    let tries = patience.tries.max(1);
    for failed in 1..=tries {
        let (why, wait) = match client.request("POST", "/v1/pcs/submit", headers, payload) {
            Ok(answer) => match class(answer.status) {
                Class::Verdict => return Sent::Answered(answer),
                Class::Refusal => return Sent::Refused(answer),
                Class::Again => (format!("the server answered {}", answer.status), retry_after(&answer)),
            },
            // A certificate, too, may be mended while an agent waits.
            Err(error) => (error.to_string(), None),
        };
        if failed == tries {
            return Sent::Unanswered(why);
        }
        sleep(delay(patience, failed, jitter(), wait), &why);
    }
    Sent::Unanswered("not tried".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_class() {
        for status in 100..=599u16 {
            let want = match status {
                200 | 202 => Class::Verdict,
                400..=407 | 409..=424 | 426..=428 | 430..=499 => Class::Refusal,
                _ => Class::Again,
            };
            assert_eq!(class(status), want, "{status}");
        }
    }

    #[test]
    fn waits_double_up_to_the_cap_and_respect_the_server() {
        let patience = Patience::default();
        let secs = |failed, jitter, after| delay(patience, failed, jitter, after).as_secs_f64();
        assert_eq!(secs(1, 1.0, None), 1.0);
        assert_eq!(secs(3, 0.5, None), 2.0);
        assert_eq!(secs(4, 1.5, None), 12.0);
        assert_eq!(secs(40, 1.0, None), 60.0);
        assert_eq!(secs(1, 0.5, Some(Duration::from_secs(10))), 10.0);
        assert_eq!(secs(1, 1.0, Some(Duration::from_secs(999))), 60.0);
        assert!((0..100).all(|_| (0.5..=1.5).contains(&jitter())));
    }
}
