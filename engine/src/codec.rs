//! Reading and writing little-endian bytes, bounded.
//!
//! Every decoder of this crate reads through [`Reader`], so none can run past its input, allocate more than
//! the input holds, or leave bytes unread without saying so.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// These bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end inside the named field.
    Short(&'static str),
    /// Bytes are left over after the last field.
    Trailing,
    /// A tag or version this release does not know.
    UnknownTag(u8),
    /// The named field is outside its bounds.
    OutOfBounds(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Short(field) => write!(f, "the bytes end inside {field}"),
            DecodeError::Trailing => f.write_str("bytes are left over after the last field"),
            DecodeError::UnknownTag(tag) => write!(f, "tag {tag} is not known to this release"),
            DecodeError::OutOfBounds(field) => write!(f, "{field} is outside its bounds"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// Takes fields off the front of a byte slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

macro_rules! integer {
    ($name:ident, $type:ty) => {
        #[doc = concat!("The next little-endian `", stringify!($type), "`.")]
        ///
        /// # Errors
        /// [`DecodeError::Short`] naming `field`.
        pub fn $name(&mut self, field: &'static str) -> Result<$type, DecodeError> {
            Ok(<$type>::from_le_bytes(self.array(field)?))
        }
    };
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`] naming `field`.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Short(field))?;
        self.rest = rest;
        Ok(*head)
    }

    integer!(u8, u8);
    integer!(u16, u16);
    integer!(u32, u32);
    integer!(u64, u64);

    /// The next `f64`, bit for bit.
    ///
    /// # Errors
    /// [`DecodeError::Short`] naming `field`.
    pub fn f64(&mut self, field: &'static str) -> Result<f64, DecodeError> {
        Ok(f64::from_bits(self.u64(field)?))
    }

    /// A truth value: one byte, 0 or 1 and nothing else.
    ///
    /// # Errors
    /// [`DecodeError::Short`] or [`DecodeError::OutOfBounds`] naming `field`.
    pub fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::OutOfBounds(field)),
        }
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`] naming `field`.
    pub fn bytes(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Short(field))?;
        self.rest = rest;
        Ok(head)
    }

    /// Everything that is left.
    pub fn remaining(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    /// A `u8` length, at most `max`, and that many bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`] or [`DecodeError::OutOfBounds`] naming `field`.
    pub fn bytes8(&mut self, max: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.u8(field)?;
        self.bounded(length.into(), max, field)
    }

    /// A `u16` length, at most `max`, and that many bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`] or [`DecodeError::OutOfBounds`] naming `field`.
    pub fn bytes16(&mut self, max: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.u16(field)?;
        self.bounded(length.into(), max, field)
    }

    /// A `u32` length, at most `max`, and that many bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`] or [`DecodeError::OutOfBounds`] naming `field`.
    pub fn bytes32(&mut self, max: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.u32(field)?;
        self.bounded(usize::try_from(length).map_err(|_| DecodeError::OutOfBounds(field))?, max, field)
    }

    /// A `u16` length, at most `max`, and that many bytes of UTF-8.
    ///
    /// # Errors
    /// [`DecodeError::Short`] or [`DecodeError::OutOfBounds`] naming `field`.
    pub fn text16(&mut self, max: usize, field: &'static str) -> Result<String, DecodeError> {
        let bytes = self.bytes16(max, field)?;
        Ok(core::str::from_utf8(bytes).map_err(|_| DecodeError::OutOfBounds(field))?.into())
    }

    /// Says that nothing may be left.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`].
    pub fn end(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }

    fn bounded(&mut self, length: usize, max: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        if length > max {
            return Err(DecodeError::OutOfBounds(field));
        }
        self.bytes(length, field)
    }
}

/// Writes a `u8` length and the bytes.
///
/// # Panics
/// If there are more than 255: the caller's type bounds them.
pub fn put8(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(u8::try_from(bytes.len()).expect("bounded by its type"));
    out.extend_from_slice(bytes);
}

/// Writes a `u16` length and the bytes.
///
/// # Panics
/// If there are more than 65,535: the caller's type bounds them.
pub fn put16(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u16::try_from(bytes.len()).expect("bounded by its type").to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Writes a `u32` length and the bytes.
///
/// # Panics
/// If there are more than `u32::MAX`: the caller's type bounds them.
pub fn put32(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).expect("bounded by its type").to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Appends text as it stands within a JSON string (RFC 8259, section 7).
pub fn json_text(out: &mut Vec<u8>, text: &[u8]) {
    if text.iter().any(|byte| *byte < b' ') {
        return json_text_with_controls(out, text);
    }
    let start = out.len();
    out.resize(start + 2 * text.len(), 0);
    let room = &mut out[start..];
    let mut at = 0;
    // JSON within JSON is full of quotes at places that no processor predicts: the backslash is written in any case,
    // and the byte after it or over it.
    for &byte in text {
        room[at] = b'\\';
        at += usize::from(byte == b'"' || byte == b'\\');
        room[at] = byte;
        at += 1;
    }
    out.truncate(start + at);
}

fn json_text_with_controls(out: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            ..b' ' => {
                out.extend_from_slice(b"\\u00");
                hex_into(out, &[byte]);
            }
            _ => out.push(byte),
        }
    }
}

/// Appends lower-case hex.
pub fn hex_into(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let start = out.len();
    out.resize(start + 2 * bytes.len(), 0);
    for (pair, byte) in out[start..].chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(2 * bytes.len());
    hex_into(&mut out, bytes);
    String::from_utf8(out).expect("digits are text")
}

/// Reads exactly `2 * N` lower-case hex digits.
#[must_use]
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_within_json_comes_back() {
        let all: String = (0..=255_u8).map(char::from).chain("\u{2014}".chars()).collect();
        let without_controls = all.trim_start_matches(char::is_control);
        for text in ["", "\\", "\"\"", "{\"a\":\"b\\\\c\"}", without_controls, &all] {
            let mut json = alloc::vec![b'"'];
            json_text(&mut json, text.as_bytes());
            json.push(b'"');
            assert_eq!(serde_json::from_slice::<String>(&json).unwrap(), text);
        }
    }

    #[test]
    fn a_reader_names_the_field_it_could_not_read() {
        let mut reader = Reader::new(&[1, 2, 0, 9]);
        assert_eq!(reader.u8("a"), Ok(1));
        assert_eq!(reader.bytes16(1, "b"), Err(DecodeError::OutOfBounds("b")));
        assert_eq!(reader.u32("c"), Err(DecodeError::Short("c")));
        assert_eq!(reader.left(), 1);
        assert_eq!(reader.clone().end(), Err(DecodeError::Trailing));
        assert_eq!(reader.remaining(), [9]);
        assert_eq!(reader.end(), Ok(()));
    }

    #[test]
    fn a_length_beyond_the_input_allocates_nothing_and_is_refused() {
        let mut reader = Reader::new(&[255, 255, 255, 255, 1]);
        assert_eq!(reader.bytes32(usize::MAX, "body"), Err(DecodeError::Short("body")));
    }

    #[test]
    fn hex_is_lower_case_both_ways() {
        let mut out = Vec::new();
        hex_into(&mut out, &[0x0f, 0xa0]);
        assert_eq!(out, b"0fa0");
        assert_eq!(unhex::<2>("0fa0"), Some([0x0f, 0xa0]));
        assert_eq!(unhex::<2>("0fA0"), None);
        assert_eq!(unhex::<2>("0fa"), None);
    }
}
