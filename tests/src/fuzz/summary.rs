//! What clients send: bodies, numbers, policies.

use engine::event::{Envelope, KeyKind, KeySpec};
use engine::ids::{KeyId, TenantId};
use engine::summary::decimal::{Decimal, Style};
use engine::summary::{KeyRing, ParseError, Policy, judge, judge_presigned, parse};
use serde_json::Value;

/// A body is read the same way as by a JSON reader that we did not write, and judging it is a function.
pub fn body(bytes: &[u8]) {
    match (parse(bytes), serde_json::from_slice::<Value>(bytes)) {
        (Ok(_), Ok(value)) => assert!(value.is_object() || value.is_null(), "only an object is a summary"),
        (Ok(_), Err(error)) => {
            // A field that nobody reads may hold a number that no double holds.
            let text = error.to_string();
            assert!(text.contains("number out of range"), "we read what is no JSON: {text}");
        }
        (Err(ParseError::Syntax(fault)), Ok(_)) => {
            assert!(fault.what.contains("nest"), "we refuse what is JSON: {fault:?}");
        }
        (Err(ParseError::Encoding { at }), Ok(_)) => panic!("byte {at} is UTF-8"),
        (Err(_), _) => {}
    }
    let envelope = Envelope {
        tenant: TenantId::new("acme").expect("a tenant id"),
        received_at_ms: 1_790_000_000_000,
        salt: [7; 16],
        body: bytes.to_vec(),
    };
    let (keys, policy) = (unsigned(), Policy::default_1_0_0());
    let judged = judge(&envelope, Some(&keys), &policy);
    assert_eq!(judged, judge(&envelope, Some(&keys), &policy), "I3: a judgement is a function of its input");
    let byte = judged.signature_byte();
    assert_eq!(judged, judge_presigned(&envelope, byte, Some(&keys), &policy), "an auditor judges the same");
}

/// The key ring of a tenant that signs nothing: the numbers are judged whatever the signature is.
pub fn unsigned() -> KeyRing {
    let spec = KeySpec {
        at_ms: 0,
        tenant: TenantId::new("acme").expect("a tenant id"),
        key_id: KeyId::new("none").expect("a key id"),
        kind: KeyKind::Unsigned,
        not_before_ms: 0,
        not_after_ms: u64::MAX,
    };
    KeyRing::public(&[spec]).expect("a key ring")
}

/// The shortest decimal of a double agrees with the standard library's, and rounding it to nine places agrees
/// with rounding its digits by hand.
pub fn decimal(bytes: &[u8]) {
    let Some(eight) = bytes.first_chunk::<8>() else { return };
    let x = f64::from_le_bytes(*eight);
    if !x.is_finite() {
        return;
    }
    let text = |decimal: Decimal, style| {
        let mut out = Vec::new();
        decimal.write(&mut out, style);
        String::from_utf8(out).expect("digits are ASCII")
    };
    let shortest = Decimal::shortest(x);
    assert_eq!(shortest.to_f64().to_bits(), x.to_bits(), "{x:e} reads back");
    let go: f64 = text(shortest, Style::Go).parse().expect("a number");
    assert_eq!(go.to_bits(), x.to_bits(), "{x:e} reads back as Go writes it");
    // A double can lie in the middle of two decimals of 17 digits. Python, Go and we take the even one, the
    // standard library the upper one; below a million the difference is beyond the tenth place.
    if x.abs() < 1e6 {
        assert_eq!(text(shortest.round9(), Style::Fixed9Unsigned), by_hand(x), "{x:e}");
    }
}

/// Nine places, half away from zero, on the digits that the standard library prints.
fn by_hand(x: f64) -> String {
    let printed = format!("{:e}", x.abs());
    let (digits, exponent) = printed.split_once('e').expect("an exponent");
    let exponent: i32 = exponent.parse().expect("a number");
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_digit).collect();
    // Units of the ninth place: all digits down to it, plus one if the next is 5 or more.
    let place = |at: i32| {
        let index = exponent - at;
        usize::try_from(index)
            .ok()
            .and_then(|index| digits.get(index))
            .map_or(0, |digit| u128::from(digit - b'0'))
    };
    let mut units = (-9..=exponent.max(0)).rev().fold(0u128, |units, at| units * 10 + place(at));
    units += u128::from(place(-10) >= 5);
    let sign = if x < 0.0 && units > 0 { "-" } else { "" };
    format!("{sign}{}.{:09}", units / 1_000_000_000, units % 1_000_000_000)
}

/// What decodes to a policy is valid and encodes to the same bytes.
pub fn policy(bytes: &[u8]) {
    if let Ok(policy) = Policy::decode(bytes) {
        assert!(policy.validate().is_ok());
        let mut again = Vec::new();
        policy.encode(&mut again);
        assert_eq!(again, bytes, "a policy has one encoding");
    }
}

/// A whole summary, a small one, and the shapes at the edge.
pub fn body_seeds() -> Vec<Vec<u8>> {
    let whole = r#"{"pcs_id": "ab", "schema": "fractal-lba-kakeya", "version": "0.1", "shard_id": "s\u00e9\ud83d\ude00", "epoch": 7,
        "attempt": 1, "sent_at": "2026-01-01T00:00:00.5+02:00", "seed": -42, "scales": [2, 4, 8], "N_j": {"2": 3, "4": 6, "8": 12},
        "coh_star": 0.75, "v_star": [0.6, -8e-1, 0], "D_hat": 1.0, "r": 0.5, "regime": "sticky", "budget": 0.4,
        "merkle_root": "ff", "sig": "AAAA", "ft": {"outbox_seq": 0, "degraded": false, "fallbacks": ["x"], "clock_skew_ms": 0},
        "extra": [null, true, {"a": 1e9}]}"#;
    let texts = [whole, "{}", "null", r#"{"Epoch":1,"d_hat":-0,"n_j":{}}"#, r#"{"a":{"b":[[[]]]}}"#];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Ties, tiny and huge numbers, both zeros.
pub fn decimal_seeds() -> Vec<Vec<u8>> {
    let numbers = [
        0.0,
        -0.0,
        1.0,
        0.1,
        0.123_456_788_5,
        -1.000_000_000_5,
        1e-7,
        5e-324,
        999_999_999_999_999.9,
        f64::MAX,
    ];
    numbers.iter().map(|x| x.to_le_bytes().to_vec()).collect()
}

/// The default policy.
pub fn policy_seeds() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    Policy::default_1_0_0().encode(&mut out);
    vec![out]
}
