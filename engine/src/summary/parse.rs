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

use super::json::{Cursor, Fault, Kind, Refused};
use super::keys::{Field, FtField};
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

/// The magnitude from which nine decimal places mean nothing in a double.
const NUMBER_LIMIT: f64 = 1e15;

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
    match body_into(&mut cursor, &mut pcs) {
        Ok(()) => Ok(pcs),
        Err(Refused) => Err(cursor.error()),
    }
}

fn body_into<'a>(cursor: &mut Cursor<'a>, pcs: &mut Pcs<'a>) -> Result<(), Refused> {
    match cursor.kind()? {
        Kind::Null => cursor.null()?,
        Kind::Object => object(cursor, pcs)?,
        _ => {
            cursor.skip()?;
            cursor.end()?;
            return cursor.refuse(ParseError::NotAnObject);
        }
    }
    cursor.end()
}

fn object<'a>(cursor: &mut Cursor<'a>, pcs: &mut Pcs<'a>) -> Result<(), Refused> {
    let (mut seen, mut unknown) = (0_u32, BTreeSet::new());
    let mut more = cursor.open(b'}')?;
    while more {
        let key = cursor.key()?;
        if let Some(field) = Field::of(&key) {
            let mut value = Value { cursor, field: field.name() };
            if seen & 1 << field as u32 != 0 {
                return value.duplicate();
            }
            seen |= 1 << field as u32;
            value.assign(field, pcs)?;
        } else {
            if !unknown.insert(key.to_lowercase()) {
                return Value { cursor, field: "an unknown field" }.duplicate();
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
    fn assign(&mut self, field: Field, pcs: &mut Pcs<'a>) -> Result<(), Refused> {
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

    #[cold]
    fn wrong_type<T>(&mut self) -> Result<T, Refused> {
        self.cursor.refuse(ParseError::WrongType { field: self.field, at: self.cursor.at() })
    }

    #[cold]
    fn out_of_range<T>(&mut self) -> Result<T, Refused> {
        self.cursor.refuse(ParseError::OutOfRange { field: self.field, at: self.cursor.at() })
    }

    #[cold]
    fn duplicate<T>(&mut self) -> Result<T, Refused> {
        self.cursor.refuse(ParseError::Duplicate { field: self.field, at: self.cursor.at() })
    }

    /// Whether a value that may start like this comes next; `null` is absent, so is read and answered with
    /// `false`.
    fn expect(&mut self, starts: impl Fn(u8) -> bool) -> Result<bool, Refused> {
        if self.cursor.peek().is_some_and(starts) { Ok(true) } else { self.absent() }
    }

    #[cold]
    fn absent(&mut self) -> Result<bool, Refused> {
        match self.cursor.kind()? {
            Kind::Null => self.cursor.null().map(|()| false),
            _ => self.wrong_type(),
        }
    }

    fn text(&mut self, max: usize) -> Result<Cow<'a, str>, Refused> {
        if !self.expect(|byte| byte == b'"')? {
            return Ok(Cow::Borrowed(""));
        }
        let text = self.cursor.string()?;
        if text.len() > max { self.out_of_range() } else { Ok(text) }
    }

    fn integer(&mut self) -> Result<i64, Refused> {
        if !self.expect(|byte| byte == b'-' || byte.is_ascii_digit())? {
            return Ok(0);
        }
        let number = self.cursor.number()?;
        match number.integer() {
            Some(integer) => Ok(integer),
            None if number.is_whole() => self.out_of_range(),
            None => self.wrong_type(),
        }
    }

    /// A number and whether it was written as an integer.
    fn number(&mut self) -> Result<(f64, bool), Refused> {
        if !self.expect(|byte| byte == b'-' || byte.is_ascii_digit())? {
            return Ok((0.0, false));
        }
        let number = self.cursor.number()?;
        let double = number.double();
        if double.is_finite() { Ok((double, number.is_whole())) } else { self.out_of_range() }
    }

    fn signed_number(&mut self) -> Result<(f64, bool), Refused> {
        let (number, whole) = self.number()?;
        if number.abs() < NUMBER_LIMIT { Ok((number, whole)) } else { self.out_of_range() }
    }

    fn list<T>(
        &mut self,
        max: usize,
        item: impl Fn(&mut Self) -> Result<T, Refused>,
    ) -> Result<Vec<T>, Refused> {
        let mut items = Vec::new();
        if !self.expect(|byte| byte == b'[')? {
            return Ok(items);
        }
        let mut more = self.cursor.open(b']')?;
        while more {
            if items.len() == max {
                return self.out_of_range();
            }
            if items.is_empty() {
                // Enough for what clients send; an empty list needs nothing.
                items.reserve(8);
            }
            items.push(item(self)?);
            more = self.cursor.more(b']')?;
        }
        Ok(items)
    }

    /// `N_j`, sorted by key. Keys that are not the decimal text of an integer are kept, because they are
    /// part of what a replay must repeat.
    fn counts(&mut self) -> Result<Vec<(Count<'a>, i64)>, Refused> {
        let mut counts = Vec::with_capacity(8);
        if !self.expect(|byte| byte == b'{')? {
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
            return self.duplicate();
        }
        Ok(counts)
    }

    fn sent_at(&mut self) -> Result<(), Refused> {
        if !self.expect(|byte| byte == b'"')? {
            return Ok(());
        }
        let text = self.cursor.string()?;
        if time::is_accepted(text.as_bytes()) { Ok(()) } else { self.wrong_type() }
    }

    /// Fault-tolerance remarks: checked for type and forgotten, as nothing here depends on them.
    fn ft(&mut self) -> Result<(), Refused> {
        if !self.expect(|byte| byte == b'{')? {
            return Ok(());
        }
        let (mut seen, mut unknown) = (0_u8, BTreeSet::<String>::new());
        let mut more = self.cursor.open(b'}')?;
        while more {
            let key = self.cursor.key()?;
            let found = FtField::of(&key);
            let fresh = match found {
                Some(field) => {
                    let before = seen;
                    seen |= 1 << field as u8;
                    before != seen
                }
                None => unknown.insert(key.to_lowercase()),
            };
            if !fresh {
                return self.duplicate();
            }
            self.field = found.map_or("ft", FtField::name);
            match found {
                Some(FtField::OutboxSeq | FtField::ClockSkewMs) => drop(self.integer()?),
                Some(FtField::Degraded) => {
                    if self.expect(|byte| byte == b't' || byte == b'f')? {
                        self.cursor.bool()?;
                    }
                }
                Some(FtField::Fallbacks) => {
                    drop(self.list(usize::MAX, |value| value.text(usize::MAX).map(drop))?);
                }
                None => self.cursor.skip()?,
            }
            more = self.cursor.more(b'}')?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
