//! Time stamps (RFC 3161) checked offline, against the roots that an auditor trusts.
//!
//! A stamp holds if it is about these bytes, its signer's certificate signed it, and that certificate may stamp times and
//! leads to one of the roots, all as of the time that it states. What a time-stamp authority says stays true after its
//! certificate has run out, unless its key has become known since: who doubts that asks for a newer stamp.
//!
//! Chains and signatures are webpki's. The CMS around them is read here, strictly: DER with definite lengths in their
//! shortest form, within what is there (L1: no recursion, no allocation by a length that was read). One signer, as RFC 3161
//! section 2.4.2 wants it, with signed attributes.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use webpki::{EndEntityCert, KeyUsage};

use crate::report::Fault;

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OBJECT: u8 = 0x06;
const TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const TAGGED_0: u8 = 0xa0;
const TAGGED_1: u8 = 0xa1;

/// 1.2.840.113549.1.7.2
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// 1.2.840.113549.1.9.16.1.4
const TST_INFO: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04];
/// 1.2.840.113549.1.9.3
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
/// 1.2.840.113549.1.9.4
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
/// 2.16.840.1.101.3.4.2: SHA-256, SHA-384 and SHA-512 are 1, 2 and 3 below it.
const HASHES: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
/// 1.3.6.1.5.5.7.3.8, time stamping.
const STAMPING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];

/// Most certificates of a stamp or of a file of roots.
const CERTIFICATES_MAX: usize = 64;

/// What a stamp says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// When the bytes existed at the latest.
    pub time: Timestamp,
    /// How far the authority says that this may be off, seconds.
    pub accuracy_s: u64,
    /// SHA-256 of the signer's certificate, hex.
    pub signer: String,
    /// Whether the signer leads to a root that the caller trusts.
    pub trusted: bool,
}

/// Why a stamp does not hold, for people.
type Why = String;

/// Certificates of authorities that the auditor trusts.
pub struct Roots(Vec<CertificateDer<'static>>);

impl Roots {
    /// Reads certificates in PEM.
    ///
    /// # Errors
    /// The file cannot be read, holds none, or more than a list of authorities may.
    pub fn read(path: &Path) -> Result<Roots, Fault> {
        let bytes = crate::pack::small(path)?;
        let roots: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(&bytes).take(CERTIFICATES_MAX + 1).collect();
        match roots {
            Ok(roots) if !roots.is_empty() && roots.len() <= CERTIFICATES_MAX => Ok(Roots(roots)),
            other => {
                let why = match other {
                    Err(error) => error.to_string(),
                    Ok(roots) => format!("it holds {} certificates", roots.len()),
                };
                let next =
                    "it is the authority's root certificate in PEM, as openssl ts -verify -CAfile takes it";
                Err(Fault::new("these are no certificates", path.display(), why, next))
            }
        }
    }
}

/// Takes the next element apart: its tag, its content, and what follows.
fn next(input: &[u8]) -> Result<(u8, &[u8], &[u8]), Why> {
    let cut = || "it is cut off or malformed".to_owned();
    let (&[tag, first], rest) = input.split_first_chunk::<2>().ok_or_else(cut)?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f)).ok_or_else(cut)?;
            let length = digits.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
            if digits.first() == Some(&0) || length < 0x80 {
                return Err(cut());
            }
            (length, rest)
        }
        _ => return Err(cut()),
    };
    let (content, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
    Ok((tag, content, rest))
}

/// The content of the next element, which must have this tag, and what follows.
fn expect(input: &[u8], tag: u8) -> Result<(&[u8], &[u8]), Why> {
    match next(input)? {
        (found, content, rest) if found == tag => Ok((content, rest)),
        _ => Err("it has another form than RFC 3161 says".into()),
    }
}

/// The same with its tag and length, as it stands there.
fn whole(input: &[u8], tag: u8) -> Result<(&[u8], &[u8]), Why> {
    let (_, rest) = expect(input, tag)?;
    Ok(input.split_at(input.len() - rest.len()))
}

/// The same if it has this tag; else nothing, and everything follows.
fn optional(input: &[u8], tag: u8) -> Result<(Option<&[u8]>, &[u8]), Why> {
    if input.first() == Some(&tag) {
        expect(input, tag).map(|(content, rest)| (Some(content), rest))
    } else {
        Ok((None, input))
    }
}

/// The hash that an algorithm names, of these bytes.
fn hash(algorithm: &[u8], bytes: &[u8]) -> Result<Vec<u8>, Why> {
    match expect(algorithm, OBJECT)?.0.strip_prefix(HASHES) {
        Some([1]) => Ok(Sha256::digest(bytes).to_vec()),
        Some([2]) => Ok(Sha384::digest(bytes).to_vec()),
        Some([3]) => Ok(Sha512::digest(bytes).to_vec()),
        _ => Err("it uses a hash that is none of SHA-256, SHA-384 and SHA-512".into()),
    }
}

/// Holds a stamp, a whole RFC 3161 response, against the bytes it is to be about and, if there are any, the roots.
///
/// # Errors
/// What does not hold. A signer that leads to none of the roots is no error: the stamp says so.
pub fn check(response: &[u8], about: &[u8], roots: Option<&Roots>) -> Result<Stamp, Why> {
    let (response, rest) = expect(response, SEQUENCE)?;
    let (status, token) = expect(response, SEQUENCE)?;
    if !matches!(expect(status, INTEGER)?.0, [0] | [1]) {
        return Err("the authority did not grant it".into());
    }
    let (content, after) = expect(token, SEQUENCE)?;
    if !rest.is_empty() || !after.is_empty() {
        return Err("something follows it".into());
    }
    let (kind, content) = expect(content, OBJECT)?;
    if kind != SIGNED_DATA {
        return Err("it is not signed".into());
    }
    let (signed, _) = expect(expect(content, TAGGED_0)?.0, SEQUENCE)?;
    let (_, signed) = expect(signed, INTEGER)?;
    let (_, signed) = expect(signed, SET)?;
    let (inner, signed) = expect(signed, SEQUENCE)?;
    let (kind, inner) = expect(inner, OBJECT)?;
    if kind != TST_INFO {
        return Err("what is signed is no time stamp".into());
    }
    let info = expect(expect(inner, TAGGED_0)?.0, OCTETS)?.0;
    let (certificates, signed) = optional(signed, TAGGED_0)?;
    let (_, signed) = optional(signed, TAGGED_1)?;
    let (signers, _) = expect(signed, SET)?;
    let (signer, others) = expect(signers, SEQUENCE)?;
    if !others.is_empty() {
        return Err("it has more than one signer".into());
    }
    let (time, accuracy_s) = read(info, about)?;
    let (attributes, signature) = signed_part(signer, info)?;
    let certificates = split(certificates.unwrap_or_default())?;
    let by = |certificate: &CertificateDer<'_>| signs(certificate, &attributes, signature);
    let signer = certificates.iter().find(|certificate| by(certificate));
    let signer = signer.ok_or("none of the certificates in it has signed it")?;
    let trusted = roots.is_some_and(|roots| leads_to(signer, &certificates, roots, time));
    let fingerprint = engine::codec::hex(&Sha256::digest(signer));
    Ok(Stamp { time, accuracy_s, signer: fingerprint, trusted })
}

/// What is stamped: about what, and when.
fn read(info: &[u8], about: &[u8]) -> Result<(Timestamp, u64), Why> {
    let (info, _) = expect(info, SEQUENCE)?;
    let (_, info) = expect(info, INTEGER)?;
    let (_, info) = expect(info, OBJECT)?;
    let (imprint, info) = expect(info, SEQUENCE)?;
    let (algorithm, imprint) = expect(imprint, SEQUENCE)?;
    if expect(imprint, OCTETS)?.0 != hash(algorithm, about)? {
        return Err("it is about something else".into());
    }
    let (_, info) = expect(info, INTEGER)?;
    let (time, info) = expect(info, TIME)?;
    let time = std::str::from_utf8(time).ok().and_then(generalized).ok_or("its time cannot be read")?;
    let (accuracy, _) = optional(info, SEQUENCE)?;
    let seconds =
        accuracy.map(|accuracy| optional(accuracy, INTEGER)).transpose()?.and_then(|(seconds, _)| seconds);
    let seconds = seconds.unwrap_or_default().iter().take(8).fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
    Ok((time, seconds))
}

/// The signed attributes as they were signed, and the signature, if they are about `info`.
fn signed_part<'a>(signer: &'a [u8], info: &[u8]) -> Result<(Vec<u8>, &'a [u8]), Why> {
    let (_, signer) = expect(signer, INTEGER)?;
    let (_, _, signer) = next(signer)?;
    let (algorithm, signer) = expect(signer, SEQUENCE)?;
    let (attributes, signer) = whole(signer, TAGGED_0)?;
    let (_, signer) = expect(signer, SEQUENCE)?;
    let (signature, _) = expect(signer, OCTETS)?;
    let (mut kind, mut digest) = (None, None);
    let mut rest = expect(attributes, TAGGED_0)?.0;
    while !rest.is_empty() {
        let (attribute, after) = expect(rest, SEQUENCE)?;
        let (name, values) = expect(attribute, OBJECT)?;
        let (value, _) = expect(values, SET)?;
        match name {
            CONTENT_TYPE => kind = Some(expect(value, OBJECT)?.0),
            MESSAGE_DIGEST => digest = Some(expect(value, OCTETS)?.0),
            _ => {}
        }
        rest = after;
    }
    if kind != Some(TST_INFO) || digest != Some(&hash(algorithm, info)?[..]) {
        return Err("what is signed is another time stamp".into());
    }
    // They are signed as a SET, and stand there under another tag (RFC 5652, section 5.4).
    let mut attributes = attributes.to_vec();
    attributes[0] = SET;
    Ok((attributes, signature))
}

fn split(mut input: &[u8]) -> Result<Vec<CertificateDer<'_>>, Why> {
    let mut found = Vec::new();
    while !input.is_empty() {
        let (tag, _, rest) = next(input)?;
        let (one, _) = input.split_at(input.len() - rest.len());
        // Others are attribute certificates and the like.
        if tag == SEQUENCE {
            found.push(CertificateDer::from(one));
        }
        if found.len() > CERTIFICATES_MAX {
            return Err("it has too many certificates".into());
        }
        input = rest;
    }
    Ok(found)
}

fn signs(certificate: &CertificateDer<'_>, message: &[u8], signature: &[u8]) -> bool {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else { return false };
    // Each of them goes with a kind of key and a strong hash; whichever it was, this key signed these bytes.
    let mut all = webpki::ALL_VERIFICATION_ALGS.iter();
    all.any(|algorithm| certificate.verify_signature(*algorithm, message, signature).is_ok())
}

fn leads_to(
    signer: &CertificateDer<'_>,
    certificates: &[CertificateDer<'_>],
    roots: &Roots,
    time: Timestamp,
) -> bool {
    let anchors: Vec<TrustAnchor<'_>> =
        roots.0.iter().filter_map(|root| webpki::anchor_from_trusted_cert(root).ok()).collect();
    let Ok(seconds) = u64::try_from(time.as_second()) else { return false };
    let then = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let Ok(signer) = EndEntityCert::try_from(signer) else { return false };
    let usage = KeyUsage::required(STAMPING);
    signer
        .verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, certificates, then, usage, None, None)
        .is_ok()
}

/// `YYYYMMDDHHMMSS[.fraction]Z`.
fn generalized(text: &str) -> Option<Timestamp> {
    let digits = text.strip_suffix('Z')?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    if whole.len() != 14
        || !whole.bytes().all(|byte| byte.is_ascii_digit())
        || !(1..=9).contains(&fraction.len())
    {
        return None;
    }
    let (day, time) = whole.split_at(8);
    let (year, month, day) = (&day[..4], &day[4..6], &day[6..]);
    format!("{year}-{month}-{day}T{}:{}:{}.{fraction}Z", &time[..2], &time[2..4], &time[4..]).parse().ok()
}
