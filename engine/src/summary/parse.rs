//! Bytes become a [`Pcs`], or are refused as a whole.
//!
//! As lenient as the original where its clients need it (case of keys, unknown fields, `null` for absent,
//! any white space), and stricter where two readers could disagree about what was signed: duplicate keys,
//! text that is not UTF-8, halves of surrogate pairs, numbers too large for nine decimal places.

use alloc::borrow::Cow;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::json::{Cursor, Fault, Kind};
use super::{Count, Pcs, time};
use crate::limits::{BODY_MAX, COUNTS_MAX, DIMENSIONS_MAX, SCALES_MAX, SHARD_ID_MAX, TEXT_MAX};

/// Why a body is no summary at all. `at` is an offset into the body, bytes from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// More bytes than a body may have.
    TooLarge,
    /// Not UTF-8.
    Encoding {
        /// The first bad byte.
        at: usize,
    },
    /// Not JSON.
    Syntax(Fault),
    /// JSON, but neither an object nor `null`.
    NotAnObject,
    /// A field has a value of another type.
    WrongType {
        /// The field.
        field: &'static str,
        /// Where its value ends or starts.
        at: usize,
    },
    /// A number, a text or a list beyond what the field may hold.
    OutOfRange {
        /// The field.
        field: &'static str,
        /// Where its value ends.
        at: usize,
    },
    /// A key stands twice, perhaps in different case.
    Duplicate {
        /// The object it stands in, or the field it names.
        field: &'static str,
        /// Where the second one ends.
        at: usize,
    },
}

impl ParseError {
    /// A stable name, for counters.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            ParseError::TooLarge => "too-large",
            ParseError::Encoding { .. } => "not-utf8",
            ParseError::Syntax(_) => "not-json",
            ParseError::NotAnObject => "not-an-object",
            ParseError::WrongType { .. } => "wrong-type",
            ParseError::OutOfRange { .. } => "out-of-range",
            ParseError::Duplicate { .. } => "duplicate-key",
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::TooLarge => write!(f, "the body is longer than {BODY_MAX} bytes"),
            ParseError::Encoding { at } => write!(f, "the body is not UTF-8 at byte {at}"),
            ParseError::Syntax(Fault { at, what }) => write!(f, "the body is not JSON at byte {at}: {what}"),
            ParseError::NotAnObject => f.write_str("the body is not a JSON object"),
            ParseError::WrongType { field, at } => write!(f, "{field} has a wrong type at byte {at}"),
            ParseError::OutOfRange { field, at } => write!(f, "{field} is out of range at byte {at}"),
            ParseError::Duplicate { field, at } => write!(f, "a key stands twice at byte {at}: {field}"),
        }
    }
}

impl core::error::Error for ParseError {}

impl From<Fault> for ParseError {
    fn from(fault: Fault) -> ParseError {
        ParseError::Syntax(fault)
    }
}

/// The magnitude from which nine decimal places mean nothing in a double.
const NUMBER_LIMIT: f64 = 1e15;

#[derive(Clone, Copy, PartialEq)]
enum Field {
    PcsId,
    Schema,
    Version,
    ShardId,
    Epoch,
    Attempt,
    SentAt,
    Seed,
    Scales,
    NJ,
    CohStar,
    VStar,
    DHat,
    R,
    Regime,
    Budget,
    MerkleRoot,
    Sig,
    Ft,
}

const FIELDS: [(&str, Field); 19] = [
    ("pcs_id", Field::PcsId),
    ("schema", Field::Schema),
    ("version", Field::Version),
    ("shard_id", Field::ShardId),
    ("epoch", Field::Epoch),
    ("attempt", Field::Attempt),
    ("sent_at", Field::SentAt),
    ("seed", Field::Seed),
    ("scales", Field::Scales),
    ("N_j", Field::NJ),
    ("coh_star", Field::CohStar),
    ("v_star", Field::VStar),
    ("D_hat", Field::DHat),
    ("r", Field::R),
    ("regime", Field::Regime),
    ("budget", Field::Budget),
    ("merkle_root", Field::MerkleRoot),
    ("sig", Field::Sig),
    ("ft", Field::Ft),
];

const FT_FIELDS: [&str; 4] = ["outbox_seq", "degraded", "fallbacks", "clock_skew_ms"];

/// Whether `key` names the field as Go's decoder sees it: simple case folding, under which the long s and
/// the Kelvin sign are an s and a k.
fn names(key: &str, field: &str) -> bool {
    if key.is_ascii() {
        return key.eq_ignore_ascii_case(field);
    }
    let mut folded = key.chars().map(|character| match character {
        'ſ' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    });
    field.chars().all(|character| folded.next() == Some(character.to_ascii_lowercase()))
        && folded.next().is_none()
}

/// Reads a body.
///
/// # Errors
/// [`ParseError`] if it is not JSON, not an object (or `null`), has a field of a wrong type or out of
/// bounds, or a key twice.
pub fn parse(body: &[u8]) -> Result<Pcs<'_>, ParseError> {
    if body.len() > BODY_MAX {
        return Err(ParseError::TooLarge);
    }
    let text =
        core::str::from_utf8(body).map_err(|error| ParseError::Encoding { at: error.valid_up_to() })?;
    let mut cursor = Cursor::new(text);
    let mut pcs = Pcs::default();
    match cursor.kind()? {
        Kind::Null => cursor.null()?,
        Kind::Object => object(&mut cursor, &mut pcs)?,
        _ => {
            cursor.skip()?;
            cursor.end()?;
            return Err(ParseError::NotAnObject);
        }
    }
    cursor.end()?;
    Ok(pcs)
}

fn object<'a>(cursor: &mut Cursor<'a>, pcs: &mut Pcs<'a>) -> Result<(), ParseError> {
    let (mut seen, mut unknown, mut expected) = (0_u32, BTreeSet::new(), 0);
    let mut more = cursor.open(b'}')?;
    while more {
        let key = cursor.key()?;
        // Clients write the fields in one order each, so the next one is usually right after the last.
        let found = (0..FIELDS.len())
            .map(|step| (expected + step) % FIELDS.len())
            .find(|&at| FIELDS[at].0 == key)
            .or_else(|| FIELDS.iter().position(|(name, _)| names(&key, name)));
        if let Some(at) = found {
            let (name, field) = FIELDS[at];
            expected = at + 1;
            if seen & 1 << at != 0 {
                return Err(ParseError::Duplicate { field: name, at: cursor.at() });
            }
            seen |= 1 << at;
            Value { cursor, field: name }.assign(field, pcs)?;
        } else {
            if !unknown.insert(key.to_lowercase()) {
                return Err(ParseError::Duplicate { field: "an unknown field", at: cursor.at() });
            }
            cursor.skip()?;
        }
        more = cursor.more(b'}')?;
    }
    Ok(())
}

/// The value of one field.
struct Value<'c, 'a> {
    cursor: &'c mut Cursor<'a>,
    field: &'static str,
}

impl<'a> Value<'_, 'a> {
    fn assign(&mut self, field: Field, pcs: &mut Pcs<'a>) -> Result<(), ParseError> {
        match field {
            Field::PcsId => pcs.pcs_id = self.text(TEXT_MAX)?,
            Field::Schema => pcs.schema = self.text(TEXT_MAX)?,
            Field::Version => pcs.version = self.text(TEXT_MAX)?,
            Field::ShardId => pcs.shard_id = self.text(SHARD_ID_MAX)?,
            Field::Epoch => pcs.epoch = self.integer()?,
            Field::Attempt => drop(self.integer()?),
            Field::SentAt => self.sent_at()?,
            Field::Seed => pcs.seed = self.integer()?,
            Field::Scales => pcs.scales = self.list(SCALES_MAX, |value| value.integer())?,
            Field::NJ => pcs.n_j = self.counts()?,
            Field::CohStar => (pcs.coh_star, pcs.whole[1]) = self.signed_number()?,
            Field::VStar => pcs.v_star = self.list(DIMENSIONS_MAX, |value| Ok(value.number()?.0))?,
            Field::DHat => (pcs.d_hat, pcs.whole[0]) = self.signed_number()?,
            Field::R => (pcs.r, pcs.whole[2]) = self.signed_number()?,
            Field::Regime => pcs.regime = self.text(TEXT_MAX)?,
            Field::Budget => (pcs.budget, pcs.whole[3]) = self.signed_number()?,
            Field::MerkleRoot => pcs.merkle_root = self.text(TEXT_MAX)?,
            Field::Sig => pcs.sig = self.text(TEXT_MAX)?,
            Field::Ft => self.ft()?,
        }
        Ok(())
    }

    fn wrong_type<T>(&self) -> Result<T, ParseError> {
        Err(ParseError::WrongType { field: self.field, at: self.cursor.at() })
    }

    fn out_of_range<T>(&self) -> Result<T, ParseError> {
        Err(ParseError::OutOfRange { field: self.field, at: self.cursor.at() })
    }

    /// Whether a value of this kind comes next; `null` is absent, so is read and answered with `false`.
    fn expect(&mut self, kind: Kind) -> Result<bool, ParseError> {
        match self.cursor.kind()? {
            found if found == kind => Ok(true),
            Kind::Null => self.cursor.null().map(|()| false).map_err(Into::into),
            _ => self.wrong_type(),
        }
    }

    fn text(&mut self, max: usize) -> Result<Cow<'a, str>, ParseError> {
        if !self.expect(Kind::String)? {
            return Ok(Cow::Borrowed(""));
        }
        let text = self.cursor.string()?;
        if text.len() > max { self.out_of_range() } else { Ok(text) }
    }

    fn integer(&mut self) -> Result<i64, ParseError> {
        if !self.expect(Kind::Number)? {
            return Ok(0);
        }
        let text = self.cursor.number()?;
        if !is_whole(text) {
            return self.wrong_type();
        }
        text.parse().or_else(|_| self.out_of_range())
    }

    /// A number and whether it was written as an integer.
    fn number(&mut self) -> Result<(f64, bool), ParseError> {
        if !self.expect(Kind::Number)? {
            return Ok((0.0, false));
        }
        let text = self.cursor.number()?;
        let number: f64 = text.parse().or_else(|_| self.wrong_type())?;
        if number.is_finite() { Ok((number, is_whole(text))) } else { self.out_of_range() }
    }

    fn signed_number(&mut self) -> Result<(f64, bool), ParseError> {
        let (number, whole) = self.number()?;
        if number.abs() < NUMBER_LIMIT { Ok((number, whole)) } else { self.out_of_range() }
    }

    fn list<T>(
        &mut self,
        max: usize,
        item: impl Fn(&mut Self) -> Result<T, ParseError>,
    ) -> Result<Vec<T>, ParseError> {
        let mut items = Vec::new();
        if !self.expect(Kind::Array)? {
            return Ok(items);
        }
        let mut more = self.cursor.open(b']')?;
        while more {
            if items.len() == max {
                return self.out_of_range();
            }
            items.push(item(self)?);
            more = self.cursor.more(b']')?;
        }
        Ok(items)
    }

    /// `N_j`, sorted by key. Keys that are not the decimal text of an integer are kept, because they are
    /// part of what a replay must repeat.
    fn counts(&mut self) -> Result<Vec<(Count<'a>, i64)>, ParseError> {
        let mut counts = Vec::new();
        if !self.expect(Kind::Object)? {
            return Ok(counts);
        }
        let mut more = self.cursor.open(b'}')?;
        while more {
            let key = self.cursor.key()?;
            if counts.len() == COUNTS_MAX {
                return self.out_of_range();
            }
            let value = self.integer()?;
            counts.push((Count::of(key), value));
            more = self.cursor.more(b'}')?;
        }
        // Stable and already sorted in practice, so this is one pass.
        counts.sort();
        if counts.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(ParseError::Duplicate { field: self.field, at: self.cursor.at() });
        }
        Ok(counts)
    }

    fn sent_at(&mut self) -> Result<(), ParseError> {
        if !self.expect(Kind::String)? {
            return Ok(());
        }
        let text = self.cursor.string()?;
        if time::is_accepted(text.as_bytes()) { Ok(()) } else { self.wrong_type() }
    }

    /// Fault-tolerance remarks: checked for type and forgotten, as nothing here depends on them.
    fn ft(&mut self) -> Result<(), ParseError> {
        if !self.expect(Kind::Object)? {
            return Ok(());
        }
        let (mut seen, mut unknown) = (0_u8, BTreeSet::<String>::new());
        let mut more = self.cursor.open(b'}')?;
        while more {
            let key = self.cursor.key()?;
            let found = FT_FIELDS.iter().position(|name| names(&key, name));
            let fresh = match found {
                Some(at) => {
                    let before = seen;
                    seen |= 1 << at;
                    before != seen
                }
                None => unknown.insert(key.to_lowercase()),
            };
            if !fresh {
                return Err(ParseError::Duplicate { field: self.field, at: self.cursor.at() });
            }
            match found {
                Some(0 | 3) => drop(self.integer()?),
                Some(1) => {
                    if self.expect(Kind::Bool)? {
                        self.cursor.bool()?;
                    }
                }
                Some(_) => drop(self.list(usize::MAX, |value| value.text(usize::MAX).map(drop))?),
                None => self.cursor.skip()?,
            }
            more = self.cursor.more(b'}')?;
        }
        Ok(())
    }
}

fn is_whole(number: &str) -> bool {
    !number.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'))
}

#[cfg(test)]
mod tests;
