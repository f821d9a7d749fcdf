//! Printers and roundings, against schoolbook arithmetic, core and serde_json.

use alloc::format;
use alloc::string::String;

use proptest::prelude::*;

use super::*;

fn text(decimal: Decimal, style: Style) -> String {
    let mut out = Vec::new();
    decimal.write(&mut out, style);
    String::from_utf8(out).unwrap()
}

fn interesting() -> impl Strategy<Value = f64> {
    prop_oneof![
        proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL | proptest::num::f64::ZERO,
        -4.0..4.0_f64,
        (-1e15..1e15_f64),
        (0..5_000_000_000_u64).prop_map(|n| n as f64 / 1e9),
        (-50_000_000_000_i64..50_000_000_000).prop_map(|n| n as f64 / 1e10),
        (0..1_000_000_u64).prop_map(|n| n as f64 * 1e-12),
        (-1_000_000..1_000_000_i64).prop_map(|n| n as f64),
    ]
}

/// Nine places, half away from zero, by schoolbook arithmetic on the text that `serde_json` gives.
fn oracle9(x: f64) -> String {
    let text = plain_text(x.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes().chain([b'0'; 9]).take(9)).collect();
    if fraction.as_bytes().get(9).is_some_and(|&digit| digit >= b'5') {
        let mut at = digits.len();
        loop {
            if at == 0 {
                digits.insert(0, b'1');
                break;
            }
            at -= 1;
            if digits[at] == b'9' {
                digits[at] = b'0';
            } else {
                digits[at] += 1;
                break;
            }
        }
    }
    let sign = if x < 0.0 && digits.iter().any(|&digit| digit != b'0') { "-" } else { "" };
    let fraction = digits.split_off(digits.len() - 9);
    format!("{sign}{}.{}", String::from_utf8(digits).unwrap(), String::from_utf8(fraction).unwrap())
}

/// `serde_json`'s digits without an exponent.
fn plain_text(x: f64) -> String {
    let text = serde_json::to_string(&x).unwrap();
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap();
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if exponent >= 0 {
        assert_eq!(exponent, 0, "the callers stay below 1e15");
        return text;
    }
    let zeros = "0".repeat(exponent.unsigned_abs() as usize - whole.len());
    format!("0.{zeros}{whole}{fraction}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_quick_shortest_decimal_is_the_searched_one(x in interesting()) {
        prop_assert_eq!(Decimal::shortest(x), shortest_by_search(x));
        prop_assert_eq!(Decimal::shortest(x).to_f64().to_bits(), x.to_bits());
    }

    #[test]
    fn nine_places_agree_with_schoolbook_arithmetic(x in interesting()) {
        prop_assume!(x.abs() < 1e15);
        prop_assert_eq!(text(Decimal::shortest(x).round9(), Style::Fixed9Unsigned), oracle9(x));
    }

    #[test]
    fn what_is_far_from_a_tie_is_rounded_alike_by_all(x in interesting()) {
        if let Some(quick) = away_from_ties(x) {
            prop_assert_eq!(quick, Decimal::shortest(x).round9());
            prop_assert_eq!(quick.to_f64(), libm::round(x * 1e9) / 1e9);
            prop_assert_eq!(quick.to_f64(), half_up(x * 1e9) / 1e9);
            prop_assert_eq!(quick.to_f64(), format!("{x:.9}").parse::<f64>().unwrap());
        }
    }

    #[test]
    fn binary_nine_places_agree_with_core(x in interesting()) {
        let mut out = Vec::new();
        write_binary_fixed9(&mut out, x);
        prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{x:.9}"));
    }

    #[test]
    fn a_number_of_nine_places_is_kept_by_every_rounding(units in -999_999_999_999_999_i64..=999_999_999_999_999) {
        let x = units as f64 / 1e9;
        let exact = Decimal::shortest(x);
        prop_assert_eq!(exact.keeps_under_rounding(), true);
        prop_assert_eq!((libm::round(x * 1e9) / 1e9).to_bits(), (x + 0.0).to_bits());
        prop_assert_eq!(half_up(x * 1e9) / 1e9, x);
        prop_assert_eq!(exact.round9(), exact);
        prop_assert_eq!(format!("{x:.9}").parse::<f64>().unwrap(), x);
    }

    #[test]
    fn serde_style_is_what_serde_json_prints(x in interesting()) {
        // Its releases disagree on the plus sign of large exponents, which no body can hold.
        prop_assume!(x.abs() < 1e16);
        prop_assert_eq!(text(Decimal::shortest(x), Style::Serde), serde_json::to_string(&x).unwrap());
    }

    #[test]
    fn every_style_reads_back_as_the_same_double(x in interesting()) {
        for style in [Style::Python, Style::Go, Style::EcmaScript, Style::Serde] {
            let text = text(Decimal::shortest(x), style);
            let back: f64 = text.parse().unwrap();
            prop_assert_eq!(back, x, "{}", text);
        }
    }
}

#[test]
fn the_printers_switch_to_exponents_where_their_languages_do() {
    let table: [(f64, &str, &str, &str, &str); 14] = [
        (0.0, "0.0", "0", "0", "0.0"),
        (-0.0, "-0.0", "-0", "0", "-0.0"),
        (1.0, "1.0", "1", "1", "1.0"),
        (0.35, "0.35", "0.35", "0.35", "0.35"),
        (1e-4, "0.0001", "0.0001", "0.0001", "0.0001"),
        (1e-5, "1e-05", "0.00001", "0.00001", "0.00001"),
        (1e-6, "1e-06", "0.000001", "0.000001", "1e-6"),
        (1.5e-7, "1.5e-07", "1.5e-7", "1.5e-7", "1.5e-7"),
        (1e-10, "1e-10", "1e-10", "1e-10", "1e-10"),
        (1e15, "1000000000000000.0", "1000000000000000", "1000000000000000", "1000000000000000.0"),
        (1e16, "1e+16", "10000000000000000", "10000000000000000", "1e16"),
        (1.5e20, "1.5e+20", "150000000000000000000", "150000000000000000000", "1.5e20"),
        (1e21, "1e+21", "1e+21", "1e+21", "1e21"),
        (-2.5e100, "-2.5e+100", "-2.5e+100", "-2.5e+100", "-2.5e100"),
    ];
    for (x, python, go, js, serde) in table {
        let decimal = Decimal::shortest(x);
        assert_eq!(text(decimal, Style::Python), python);
        assert_eq!(text(decimal, Style::Go), go);
        assert_eq!(text(decimal, Style::EcmaScript), js);
        assert_eq!(text(decimal, Style::Serde), serde);
    }
}

#[test]
fn ties_go_where_each_client_sends_them() {
    let table = [
        (0.123_456_788_5, "0.123456789", "0.123456789", "0.123456789", "0.123456788"),
        (-0.123_456_788_5, "-0.123456789", "-0.123456789", "-0.123456788", "-0.123456788"),
        (-1.000_000_000_5, "-1.000000001", "-1.000000001", "-1.0", "-1.000000001"),
        (5e-10, "1e-09", "1e-09", "1e-09", "1e-09"),
        (-1e-10, "-0.0", "-0.0", "-0.0", "-0.0"),
    ];
    for (x, decimal, scaled, up, binary) in table {
        let style = Style::Python;
        assert_eq!(text(round9(x, Rounding::DecimalHalfAway), style), decimal, "{x:e}");
        assert_eq!(text(round9(x, Rounding::ScaledHalfAway), style), scaled, "{x:e}");
        assert_eq!(text(round9(x, Rounding::BinaryHalfEven), style), binary, "{x:e}");
        if x > -1e-9 && x < 0.0 {
            assert_eq!(text(round9(x, Rounding::ScaledHalfUp), Style::EcmaScript), "0");
        } else {
            assert_eq!(text(round9(x, Rounding::ScaledHalfUp), style), up, "{x:e}");
        }
    }
}
