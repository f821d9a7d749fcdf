//! Which texts the original accepts as `sent_at`.
//!
//! Nothing depends on the value, so none is made; only the form decides between 200 and 400. The rule is
//! that of Go's `time.Parse(time.RFC3339, ..)`: upper-case `T` and `Z`, a zone, an optional fraction after
//! a point or a comma, real dates, no leap second, an hour of one digit, and offsets up to `24:60`.

/// Whether the text is a time stamp to the original.
pub(super) fn is_accepted(text: &[u8]) -> bool {
    accepted(text).is_some()
}

fn accepted(text: &[u8]) -> Option<()> {
    let mut rest = text;
    let year = number(&mut rest, 4)?;
    byte(&mut rest, b'-')?;
    let month = number(&mut rest, 2)?;
    byte(&mut rest, b'-')?;
    let day = number(&mut rest, 2)?;
    byte(&mut rest, b'T')?;
    let one_digit = rest.get(1).is_some_and(|byte| !byte.is_ascii_digit());
    let hour = number(&mut rest, if one_digit { 1 } else { 2 })?;
    byte(&mut rest, b':')?;
    let minute = number(&mut rest, 2)?;
    byte(&mut rest, b':')?;
    let second = number(&mut rest, 2)?;
    if matches!(rest, [b'.' | b',', b'0'..=b'9', ..]) {
        let digits = rest[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        rest = &rest[1 + digits..];
    }
    zone(rest)?;
    let real = (1..=12).contains(&month)
        && (1..=days(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    real.then_some(())
}

fn zone(mut rest: &[u8]) -> Option<()> {
    if rest == b"Z" {
        return Some(());
    }
    let (sign, after) = rest.split_first()?;
    rest = after;
    let hours = number(&mut rest, 2)?;
    byte(&mut rest, b':')?;
    let minutes = number(&mut rest, 2)?;
    (matches!(sign, b'+' | b'-') && hours <= 24 && minutes <= 60 && rest.is_empty()).then_some(())
}

fn byte(rest: &mut &[u8], expected: u8) -> Option<()> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    (*first == expected).then_some(())
}

fn number(rest: &mut &[u8], digits: usize) -> Option<u32> {
    let (head, after) = rest.split_at_checked(digits)?;
    *rest = after;
    head.iter().try_fold(0, |sum, &digit| digit.is_ascii_digit().then(|| sum * 10 + u32::from(digit - b'0')))
}

fn days(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_what_go_parses_is_accepted() {
        for good in [
            "2024-01-01T00:00:00Z",
            "2024-02-29T23:59:59.123456789Z",
            "2000-02-29T23:59:59,5+05:30",
            "2024-01-01T00:00:00-24:60",
            "0000-12-31T7:00:00Z",
        ] {
            assert!(super::is_accepted(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "2024-01-01",
            "2024-01-01T00:00:00",
            "2024-01-01 00:00:00Z",
            "2024-01-01t00:00:00Z",
            "2024-01-01T00:00:00z",
            "2024-01-01T23:59:60Z",
            "2024-01-01T24:00:00Z",
            "2023-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-00T00:00:00Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+5:30",
            "2024-01-01T00:00:00+0530",
            "2024-01-01T00:00:00+25:00",
            "2024-01-01T00:00:00ZZ",
            "24-01-01T00:00:00Z",
            "2024-01-01T00:0:00Z",
            "2024-01-01T00:00:00*05:30",
        ] {
            assert!(!super::is_accepted(bad.as_bytes()), "{bad}");
        }
    }
}
