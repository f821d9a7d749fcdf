//! Time stamps (RFC 3161): the request made, and the answer held against it.
//!
//! The stamp is over the SHA-256 of the signed note, byte for byte as the log published it, so that
//! `openssl ts -verify -data NOTE -in STAMP` holds it against the same file. Here an answer is kept only if it says that it
//! was granted and names our digest, our nonce and a time near ours; the authority's signature is for whoever trusts the
//! authority to check, offline, with its certificate.
//!
//! DER is read strictly: definite lengths in their shortest form, within what was received (L1: no recursion, no allocation
//! by a length that was read).

use super::lane::Failure;
use crate::outbound::{Ask, Outbound, Url};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// Longest answer, bytes: a stamp with its chain is below 16 KiB.
const ANSWER_MAX: usize = engine::event::EVIDENCE_MAX;
/// How long an authority may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How far the time of a stamp may be from ours, seconds.
const APART_MAX_S: i64 = 300;

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const NULL: u8 = 0x05;
const OBJECT: u8 = 0x06;
const TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const TAGGED_0: u8 = 0xa0;

/// 2.16.840.1.101.3.4.2.1
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
/// 1.2.840.113549.1.7.2
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// 1.2.840.113549.1.9.16.1.4
const TST_INFO: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04];

/// Asks for a stamp on `note`; gives the whole response in DER.
///
/// # Errors
/// [`Failure`]; nothing was kept then.
pub async fn ask(out: &Outbound, url: &Url, note: &[u8], nonce: u64, now_s: i64) -> Result<Vec<u8>, Failure> {
    let digest: [u8; 32] = Sha256::digest(note).into();
    let ask = Ask {
        path: String::new(),
        media: "application/timestamp-query",
        accept: "application/timestamp-reply",
        body: request(&digest, nonce),
        max: ANSWER_MAX,
    };
    let told = out.post(url, ask, PATIENCE).await.map_err(|why| Failure::Later(why, None))?;
    match told.status {
        200 => {}
        429 | 500..=599 => {
            let wait = told.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
            return Err(Failure::Later(told.line(), wait));
        }
        _ => return Err(Failure::Refused(told.line())),
    }
    let stamped = check(&told.body, &digest, nonce).map_err(|why| Failure::Refused(why.to_owned()))?;
    let apart = stamped.as_second() - now_s;
    if apart.abs() > APART_MAX_S {
        return Err(Failure::Refused(format!("its time is {apart} s from ours; it is not kept")));
    }
    Ok(told.body)
}

fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    // Everything made here is short.
    assert!(length < 128, "L1: a request is made of short parts");
    let mut out = vec![tag, length as u8];
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// A request for a stamp on this digest, with the authority's certificates in the answer.
pub fn request(digest: &[u8; 32], nonce: u64) -> Vec<u8> {
    let algorithm = der(SEQUENCE, &[&der(OBJECT, &[SHA256]), &der(NULL, &[])]);
    let imprint = der(SEQUENCE, &[&algorithm, &der(OCTETS, &[digest])]);
    der(
        SEQUENCE,
        &[&der(INTEGER, &[&[1]]), &imprint, &der(INTEGER, &[&positive(nonce)]), &der(BOOLEAN, &[&[0xff]])],
    )
}

/// A number as DER wants it: no needless zeros, and one where it would look negative.
fn positive(number: u64) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count().min(7);
    let mut out = Vec::new();
    if bytes[zeros] >= 0x80 {
        out.push(0);
    }
    out.extend_from_slice(&bytes[zeros..]);
    out
}

/// Takes the next element apart: its tag, its content, and what follows.
fn next(input: &[u8]) -> Result<(u8, &[u8], &[u8]), &'static str> {
    const CUT: &str = "the stamp is cut off or malformed";
    let (&[tag, first], rest) = input.split_first_chunk::<2>().ok_or(CUT)?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f)).ok_or(CUT)?;
            let length = digits.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
            if digits.first() == Some(&0) || length < 0x80 {
                return Err(CUT);
            }
            (length, rest)
        }
        _ => return Err(CUT),
    };
    let (content, rest) = rest.split_at_checked(length).ok_or(CUT)?;
    Ok((tag, content, rest))
}

/// The content of the next element, which must have this tag, and what follows.
fn expect(input: &[u8], tag: u8) -> Result<(&[u8], &[u8]), &'static str> {
    match next(input)? {
        (found, content, rest) if found == tag => Ok((content, rest)),
        _ => Err("the stamp has another form than RFC 3161 says"),
    }
}

/// Holds an answer against what was asked; gives the time of the stamp.
///
/// # Errors
/// What does not hold.
pub fn check(answer: &[u8], digest: &[u8; 32], nonce: u64) -> Result<Timestamp, &'static str> {
    let (response, rest) = expect(answer, SEQUENCE)?;
    let (status, token) = expect(response, SEQUENCE)?;
    // 0 granted, 1 granted with modifications.
    if !matches!(expect(status, INTEGER)?.0, [0] | [1]) {
        return Err("the authority does not grant a stamp");
    }
    if !rest.is_empty() {
        return Err("something follows the stamp");
    }
    let (content, _) = expect(token, SEQUENCE)?;
    let (kind, content) = expect(content, OBJECT)?;
    if kind != SIGNED_DATA {
        return Err("the stamp is not signed");
    }
    let (signed, _) = expect(expect(content, TAGGED_0)?.0, SEQUENCE)?;
    let (_, signed) = expect(signed, INTEGER)?;
    let (_, signed) = expect(signed, SET)?;
    let (inner, _) = expect(signed, SEQUENCE)?;
    let (kind, inner) = expect(inner, OBJECT)?;
    if kind != TST_INFO {
        return Err("what is signed is no stamp");
    }
    let (info, _) = expect(expect(expect(inner, TAGGED_0)?.0, OCTETS)?.0, SEQUENCE)?;
    let (_, info) = expect(info, INTEGER)?;
    let (_, info) = expect(info, OBJECT)?;
    let (imprint, info) = expect(info, SEQUENCE)?;
    let (algorithm, imprint) = expect(imprint, SEQUENCE)?;
    if expect(algorithm, OBJECT)?.0 != SHA256 || expect(imprint, OCTETS)?.0 != digest {
        return Err("the stamp is about something else");
    }
    let (_, info) = expect(info, INTEGER)?;
    let (time, mut info) = expect(info, TIME)?;
    let mut named = false;
    while !info.is_empty() {
        let (tag, content, rest) = next(info)?;
        if tag == INTEGER {
            named = content == positive(nonce);
            break;
        }
        info = rest;
    }
    if !named {
        return Err("the stamp answers another request");
    }
    let text = std::str::from_utf8(time).ok();
    text.and_then(generalized).ok_or("the time of the stamp cannot be read")
}

/// `YYYYMMDDHHMMSS[.fraction]Z`.
fn generalized(text: &str) -> Option<Timestamp> {
    let digits = text.strip_suffix('Z')?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    if whole.len() != 14 || !whole.is_ascii() || fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let part = |from: usize, to: usize| &whole[from..to];
    let text = format!(
        "{}-{}-{}T{}:{}:{}.{fraction}Z",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(8, 10),
        part(10, 12),
        part(12, 14)
    );
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_what_openssl_makes() {
        // openssl ts -query -digest 00..00 -sha256 -cert, with the nonce set by hand.
        let hex = engine::codec::hex(&request(&[0; 32], 0x8000_0000_0000_0001));
        let digest = "00".repeat(32);
        let want = format!(
            "3044020101303130 0d0609608648016503040201 0500 0420{digest} 0209008000000000000001 0101ff"
        );
        assert_eq!(hex, want.replace(' ', ""));
        assert_eq!((positive(0), positive(127), positive(128)), (vec![0], vec![127], vec![0, 128]));
    }

    /// An answer with this inside, which may be longer than what a request is made of.
    fn long(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        match u8::try_from(content.len()) {
            Ok(length) if length < 128 => out.push(length),
            Ok(length) => out.extend_from_slice(&[0x81, length]),
            Err(_) => out.extend_from_slice(&[0x82, (content.len() >> 8) as u8, content.len() as u8]),
        }
        out.extend_from_slice(content);
        out
    }

    fn answer(status: u8, digest: &[u8; 32], nonce: u64, time: &str) -> Vec<u8> {
        let algorithm = der(SEQUENCE, &[&der(OBJECT, &[SHA256])]);
        let imprint = der(SEQUENCE, &[&algorithm, &der(OCTETS, &[digest])]);
        let accuracy = der(SEQUENCE, &[&der(INTEGER, &[&[1]])]);
        let parts = [
            der(INTEGER, &[&[1]]),
            der(OBJECT, &[&[42, 3]]),
            imprint,
            der(INTEGER, &[&[7]]),
            der(TIME, &[time.as_bytes()]),
            accuracy,
            der(BOOLEAN, &[&[0xff]]),
            der(INTEGER, &[&positive(nonce)]),
        ]
        .concat();
        let info = long(SEQUENCE, &parts);
        let inner = [der(OBJECT, &[TST_INFO]), long(TAGGED_0, &long(OCTETS, &info))].concat();
        let signed = [der(INTEGER, &[&[3]]), der(SET, &[]), long(SEQUENCE, &inner), der(SET, &[])].concat();
        let token = [der(OBJECT, &[SIGNED_DATA]), long(TAGGED_0, &long(SEQUENCE, &signed))].concat();
        let status = der(SEQUENCE, &[&der(INTEGER, &[&[status]])]);
        long(SEQUENCE, &[status, long(SEQUENCE, &token)].concat())
    }

    #[test]
    fn only_an_answer_to_what_was_asked_is_taken() {
        let time = "20261121140000.5Z";
        let good = answer(0, &[5; 32], 9, time);
        assert_eq!(check(&good, &[5; 32], 9), Ok("2026-11-21T14:00:00.5Z".parse().unwrap()));
        let why = |bytes: &[u8], digest: [u8; 32], nonce| check(bytes, &digest, nonce).unwrap_err();
        assert!(why(&answer(2, &[5; 32], 9, time), [5; 32], 9).contains("not grant"));
        assert!(why(&good, [6; 32], 9).contains("something else"));
        assert!(why(&good, [5; 32], 8).contains("another request"));
        assert!(why(&answer(0, &[5; 32], 9, "2611211400Z"), [5; 32], 9).contains("time"));
        for cut in 0..good.len() {
            assert!(check(&good[..cut], &[5; 32], 9).is_err(), "cut at {cut}");
        }
        let mut longer = good.clone();
        longer.push(0);
        assert!(check(&longer, &[5; 32], 9).is_err());
        // Whatever a byte becomes, nothing panics.
        for at in 0..good.len() {
            for value in [0, 0x80, 0x84, 0xff] {
                let mut bent = good.clone();
                bent[at] = value;
                let _ = check(&bent, &[5; 32], 9);
            }
        }
    }

    #[test]
    fn lengths_that_are_not_der_are_refused() {
        for bad in
            [&[0x30, 0x80, 0, 0][..], &[0x30, 0x81, 0x01, 0], &[0x30, 0x82, 0, 0x80], &[0x30, 0x85], &[0x30]]
        {
            assert!(next(bad).is_err(), "{bad:?}");
        }
    }
}
