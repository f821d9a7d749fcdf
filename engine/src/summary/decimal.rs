//! Decimal numbers: the shortest decimal of a double, its rounding to nine places, and the texts that the
//! number printers of other languages give it.
//!
//! Everything starts from the shortest decimal that reads back as the same double, which every language of
//! our clients agrees on; the languages only differ in how they round and lay out those digits. No text is
//! turned into a double and back except where a client does so, and then by `core`'s correctly rounded
//! parser.

use alloc::vec::Vec;
use core::fmt::Write;

/// A finite decimal number, `mantissa * 10^exponent`, with no trailing zero in the mantissa and exponent 0
/// for zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    negative: bool,
    mantissa: u64,
    exponent: i32,
}

/// How a client rounds a double to nine decimal places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Half away from zero on the shortest decimal: Python's `Decimal`, and ours.
    DecimalHalfAway,
    /// `round(x * 1e9) / 1e9` half away from zero: Go, Rust.
    ScaledHalfAway,
    /// `Math.round(x * 1e9) / 1e9`, half towards positive infinity: JavaScript.
    ScaledHalfUp,
    /// As [`Rounding::ScaledHalfUp`], but whole numbers are not touched.
    ScaledHalfUpKeepWhole,
    /// Half to even on the exact binary value: Python's `round` and `'%.9f'`.
    BinaryHalfEven,
}

/// How a client writes a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Python's `repr`: `1.0`, `1e-09`, `1e+16`.
    Python,
    /// Go's `encoding/json`: `1`, `1e-9`, `0.000001`, `-0`.
    Go,
    /// ECMAScript: as Go, but negative zero is `0`.
    EcmaScript,
    /// `serde_json`: `1.0`, `1e-6`, `1e16`.
    Serde,
    /// Nine places, always: `1.000000000`, `-0.000000000`.
    Fixed9,
    /// As [`Style::Fixed9`], but zero has no sign: our own form.
    Fixed9Unsigned,
}

/// A mantissa of nine-place units below this stands for one double only, whichever way it is computed: any
/// decimal of up to 15 digits survives a round trip through a double.
const UNITS_MAX: u64 = 1_000_000_000_000_000;

impl Decimal {
    /// The shortest decimal that reads back as `x`.
    ///
    /// # Panics
    /// If `x` is not finite: JSON has no such numbers.
    #[must_use]
    pub fn shortest(x: f64) -> Decimal {
        assert!(x.is_finite(), "JSON numbers are finite");
        nine_places(x).unwrap_or_else(|| shortest_by_search(x))
    }

    /// Whether it needs no more than nine places and is small enough that every [`Rounding`] keeps it.
    fn keeps_under_rounding(self) -> bool {
        (-9..=6).contains(&self.exponent)
            && u128::from(self.mantissa) * 10_u128.pow((self.exponent + 9) as u32) < u128::from(UNITS_MAX)
    }

    /// Rounds to nine places, half away from zero.
    #[must_use]
    pub fn round9(self) -> Decimal {
        if self.exponent >= -9 {
            return self;
        }
        let drop = (-9 - self.exponent) as u32;
        if drop > 18 {
            return Decimal { negative: self.negative, mantissa: 0, exponent: 0 };
        }
        let unit = 10_u64.pow(drop);
        let (kept, lost) = (self.mantissa / unit, self.mantissa % unit);
        Decimal::new(self.negative, kept + u64::from(lost >= unit - lost), -9)
    }

    /// Reads what [`Style::Fixed9Unsigned`] writes, and nothing else; `None` too for numbers beyond 2^64
    /// units of the last place that is not zero.
    #[must_use]
    pub fn parse_fixed9(text: &str) -> Option<Decimal> {
        let (negative, size) = match text.strip_prefix('-') {
            Some(size) => (true, size),
            None => (false, text),
        };
        let (whole, places) = size.split_once('.')?;
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if places.len() != 9 || !digits(whole) || !digits(places) {
            return None;
        }
        let places = places.trim_end_matches('0');
        let unit = 10_u64.pow(places.len() as u32);
        let mantissa = whole.parse::<u64>().ok()?.checked_mul(unit)?;
        let mantissa = mantissa.checked_add(if places.is_empty() { 0 } else { places.parse().ok()? })?;
        let value = Decimal::new(negative, mantissa, -(places.len() as i32));
        let mut again = Vec::with_capacity(text.len());
        value.write(&mut again, Style::Fixed9Unsigned);
        (again == text.as_bytes()).then_some(value)
    }

    /// The double nearest to it.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        const EXACT: [f64; 23] = [
            1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
            1e18, 1e19, 1e20, 1e21, 1e22,
        ];
        // Mantissa and power are exact doubles, so one correctly rounded operation is the answer.
        let size = if self.mantissa < 1 << 53 && self.exponent.unsigned_abs() < 23 {
            let power = EXACT[self.exponent.unsigned_abs() as usize];
            let mantissa = self.mantissa as f64;
            if self.exponent < 0 { mantissa / power } else { mantissa * power }
        } else {
            let mut text = Vec::with_capacity(32);
            let _ = write!(Text(&mut text), "{}e{}", self.mantissa, self.exponent);
            parse(&text)
        };
        if self.negative { -size } else { size }
    }

    fn new(negative: bool, mut mantissa: u64, mut exponent: i32) -> Decimal {
        if mantissa == 0 {
            return Decimal { negative, mantissa: 0, exponent: 0 };
        }
        while mantissa.is_multiple_of(10) {
            mantissa /= 10;
            exponent += 1;
        }
        Decimal { negative, mantissa, exponent }
    }

    /// Bytes that two decimals share if and only if they are equal; zero has no sign here.
    ///
    /// # Panics
    /// If the exponent is outside -128 to 127: the caller has rounded to nine places.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 10] {
        let mut bytes = [0; 10];
        bytes[0] = u8::from(self.negative && self.mantissa != 0);
        bytes[1] = i8::try_from(self.exponent).expect("nine places bound the exponent").to_le_bytes()[0];
        bytes[2..].copy_from_slice(&self.mantissa.to_le_bytes());
        bytes
    }

    /// Appends its text.
    pub fn write(self, out: &mut Vec<u8>, style: Style) {
        let zero = self.mantissa == 0;
        if self.negative && !(zero && matches!(style, Style::EcmaScript | Style::Fixed9Unsigned)) {
            out.push(b'-');
        }
        let mut buffer = [0; 20];
        let digits = digits(self.mantissa, &mut buffer);
        let first = self.exponent + digits.len() as i32 - 1;
        match style {
            Style::Fixed9 | Style::Fixed9Unsigned => fixed9(out, digits, self.exponent),
            Style::Python if zero || (-4..16).contains(&first) => plain(out, digits, self.exponent, true),
            Style::Python => scientific(out, digits, first, true, 2),
            Style::Serde if zero || (-5..16).contains(&first) => plain(out, digits, self.exponent, true),
            Style::Serde => scientific(out, digits, first, false, 1),
            Style::Go | Style::EcmaScript if zero || (-6..21).contains(&first) => {
                plain(out, digits, self.exponent, false);
            }
            Style::Go | Style::EcmaScript => scientific(out, digits, first, true, 1),
        }
    }
}

/// Rounds `x` to nine places, half away from zero on its shortest decimal: our own rule.
#[must_use]
pub fn nine(x: f64) -> Decimal {
    away_from_ties(x).unwrap_or_else(|| Decimal::shortest(x).round9())
}

/// Rounds `x` as a client does, and gives the shortest decimal of the double that the client then holds.
#[must_use]
pub fn round9(x: f64, rounding: Rounding) -> Decimal {
    if let Some(rounded) = away_from_ties(x) {
        return rounded;
    }
    let exact = Decimal::shortest(x);
    if exact.keeps_under_rounding() {
        return exact;
    }
    let rounded = match rounding {
        Rounding::DecimalHalfAway => exact.round9().to_f64(),
        Rounding::ScaledHalfAway => libm::round(x * 1e9) / 1e9,
        Rounding::ScaledHalfUpKeepWhole if libm::floor(x) == x => x,
        Rounding::ScaledHalfUp | Rounding::ScaledHalfUpKeepWhole => half_up(x * 1e9) / 1e9,
        Rounding::BinaryHalfEven => {
            let mut text = Vec::with_capacity(32);
            let _ = write!(Text(&mut text), "{x:.9}");
            parse(&text)
        }
    };
    // Scaling overflows only beyond 1e299, far outside what a body may hold.
    if rounded.is_finite() { Decimal::shortest(rounded) } else { exact }
}

/// Appends `x` rounded half to even on its exact binary value, with nine places: Python's `'%.9f'`.
pub fn write_binary_fixed9(out: &mut Vec<u8>, x: f64) {
    let exact = Decimal::shortest(x);
    if exact.keeps_under_rounding() {
        exact.write(out, Style::Fixed9);
    } else {
        let _ = write!(Text(out), "{x:.9}");
    }
}

/// JavaScript's `Math.round`.
fn half_up(x: f64) -> f64 {
    let below = libm::floor(x);
    if x - below >= 0.5 { below + 1.0 } else { below }
}

/// The common case without a search: unless `x` is close to the middle between two numbers of nine places,
/// every [`Rounding`] gives the nearer one. Below 1e13 units the product, the shortest decimal and the double
/// all lie within 0.003 units of each other.
fn away_from_ties(x: f64) -> Option<Decimal> {
    let scaled = x * 1e9;
    let units = libm::rint(scaled);
    let clear = units.abs() < 1e13 && (scaled - units).abs() < 0.49;
    clear.then(|| Decimal::new(x.is_sign_negative(), units.abs() as u64, -9))
}

/// The shortest decimal in the common case, without a search: is `x` the double nearest to a number of nine places and at most 15
/// digits? Then that number is its shortest decimal.
fn nine_places(x: f64) -> Option<Decimal> {
    let units = libm::rint(x * 1e9);
    let small = units.abs() < UNITS_MAX as f64;
    if small && units / 1e9 == x && x != 0.0 {
        Some(Decimal::new(x < 0.0, units.abs() as u64, -9))
    } else if x == 0.0 {
        Some(Decimal { negative: x.is_sign_negative(), mantissa: 0, exponent: 0 })
    } else {
        None
    }
}

/// The shortest decimal by `core`'s printer. Of two that are equally near, `core` takes the upper one and
/// everybody else the even one, which is what printing exactly as many digits gives.
fn shortest_by_search(x: f64) -> Decimal {
    let mut text = Vec::with_capacity(32);
    let _ = write!(Text(&mut text), "{x:e}");
    let places = text.iter().position(|&byte| byte == b'e').map_or(0, |end| {
        let digits = text[..end].iter().filter(|byte| byte.is_ascii_digit()).count();
        digits.saturating_sub(1)
    });
    let mut even = Vec::with_capacity(32);
    let _ = write!(Text(&mut even), "{x:.places$e}");
    from_scientific(if parse(&even) == x { &even } else { &text }, x)
}

/// Reads `-d.ddde-dd` as this module's printer calls give it.
fn from_scientific(text: &[u8], x: f64) -> Decimal {
    let (mut mantissa, mut places, mut exponent, mut negative_exponent) = (0_u64, 0, 0_i32, false);
    let mut bytes = text.iter().skip_while(|&&byte| byte == b'-');
    let mut after_point = false;
    for &byte in bytes.by_ref().take_while(|&&byte| byte != b'e') {
        if byte == b'.' {
            after_point = true;
        } else {
            mantissa = mantissa * 10 + u64::from(byte - b'0');
            places += i32::from(after_point);
        }
    }
    for &byte in bytes {
        if byte == b'-' {
            negative_exponent = true;
        } else {
            exponent = exponent * 10 + i32::from(byte - b'0');
        }
    }
    let exponent = if negative_exponent { -exponent } else { exponent };
    Decimal::new(x.is_sign_negative(), mantissa, exponent - places)
}

fn parse(text: &[u8]) -> f64 {
    let text = core::str::from_utf8(text).expect("number text is ASCII");
    text.parse().expect("this module wrote a number")
}

/// Appends an integer.
pub fn write_integer(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    let mut buffer = [0; 20];
    out.extend_from_slice(digits(value.unsigned_abs(), &mut buffer));
}

fn digits(mut value: u64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &buffer[at..];
        }
    }
}

/// `digits * 10^exponent` without an exponent; `point` asks for `.0` after a whole number.
fn plain(out: &mut Vec<u8>, digits: &[u8], exponent: i32, point: bool) {
    if exponent >= 0 {
        out.extend_from_slice(digits);
        zeros(out, exponent as usize);
        if point {
            out.extend_from_slice(b".0");
        }
        return;
    }
    let places = exponent.unsigned_abs() as usize;
    if digits.len() > places {
        let (whole, fraction) = digits.split_at(digits.len() - places);
        out.extend_from_slice(whole);
        out.push(b'.');
        out.extend_from_slice(fraction);
    } else {
        out.extend_from_slice(b"0.");
        zeros(out, places - digits.len());
        out.extend_from_slice(digits);
    }
}

/// One digit, a fraction, and the exponent with at least `width` digits.
fn scientific(out: &mut Vec<u8>, digits: &[u8], first: i32, plus: bool, width: usize) {
    out.push(digits[0]);
    if digits.len() > 1 {
        out.push(b'.');
        out.extend_from_slice(&digits[1..]);
    }
    out.push(b'e');
    if first < 0 {
        out.push(b'-');
    } else if plus {
        out.push(b'+');
    }
    let _ = write!(Text(out), "{:0width$}", first.unsigned_abs());
}

/// Exactly nine places; the caller has rounded, so `exponent` is at least -9.
fn fixed9(out: &mut Vec<u8>, digits: &[u8], exponent: i32) {
    assert!(exponent >= -9, "I4: a number is rounded before it is written with nine places");
    plain(out, digits, exponent, false);
    if exponent >= 0 {
        out.push(b'.');
    }
    zeros(out, (9 - exponent.min(0).unsigned_abs()) as usize);
}

fn zeros(out: &mut Vec<u8>, count: usize) {
    out.resize(out.len() + count, b'0');
}

/// Lets `core::fmt` write into bytes.
pub(crate) struct Text<'a>(pub(crate) &'a mut Vec<u8>);

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
