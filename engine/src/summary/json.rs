//! Reading JSON text, strictly and without building a tree.
//!
//! Stricter than most readers in three places, because a signature must mean one thing: text is UTF-8,
//! escaped surrogates come in pairs, and whoever reads an object hears every key, so that duplicates can be
//! refused. Nesting is bounded; nothing here recurses.
//!
//! A refusal is a word without content ([`Refused`]); why and where stands in the cursor. That keeps every
//! result in a register, and a body is read in about a microsecond.

use alloc::borrow::Cow;
use alloc::string::String;

use super::parse::ParseError;
use crate::limits::JSON_DEPTH_MAX;
use number::Number;

mod number;

/// Where and why the text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Offset of the byte, from 0.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

/// The text is refused; [`Cursor::error`] says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused;

/// What kind of value comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

/// A place in a JSON text.
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    error: Option<ParseError>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Cursor<'a> {
        Cursor { text, at: 0, error: None }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Why the text was refused.
    pub(super) fn error(&self) -> ParseError {
        self.error.expect("a refusal leaves its reason")
    }

    /// Refuses the text.
    #[cold]
    pub(super) fn refuse<T>(&mut self, error: ParseError) -> Result<T, Refused> {
        self.error = Some(error);
        Err(Refused)
    }

    #[cold]
    fn fault<T>(&mut self, what: &'static str) -> Result<T, Refused> {
        self.refuse(ParseError::Syntax(Fault { at: self.at, what }))
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while self.byte().is_some_and(|byte| byte <= b' ' && matches!(byte, b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// The first byte of what comes next.
    pub(super) fn peek(&mut self) -> Option<u8> {
        self.space();
        self.byte()
    }

    /// What comes next, by its first character.
    pub(super) fn kind(&mut self) -> Result<Kind, Refused> {
        match self.peek() {
            Some(b'n') => Ok(Kind::Null),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b'"') => Ok(Kind::String),
            Some(b'[') => Ok(Kind::Array),
            Some(b'{') => Ok(Kind::Object),
            Some(_) => self.fault("no value starts like this"),
            None => self.fault("the text ends where a value should stand"),
        }
    }

    /// Nothing but white space may be left.
    pub(super) fn end(&mut self) -> Result<(), Refused> {
        if self.peek().is_none() { Ok(()) } else { self.fault("text follows the value") }
    }

    fn word(&mut self, word: &'static str) -> Result<(), Refused> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(())
        } else {
            self.fault("not a JSON word")
        }
    }

    pub(super) fn null(&mut self) -> Result<(), Refused> {
        self.word("null")
    }

    pub(super) fn bool(&mut self) -> Result<bool, Refused> {
        let value = self.byte() == Some(b't');
        self.word(if value { "true" } else { "false" })?;
        Ok(value)
    }

    /// A number.
    pub(super) fn number(&mut self) -> Result<Number<'a>, Refused> {
        let start = self.at;
        let mut mantissa = 0;
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        let mut digits = match self.byte() {
            Some(b'0') => {
                self.at += 1;
                1
            }
            _ => self.digits(&mut mantissa)?,
        };
        let mut places = 0;
        if self.byte() == Some(b'.') {
            self.at += 1;
            places = self.digits(&mut mantissa)?;
            digits += places;
        }
        let exponent = matches!(self.byte(), Some(b'e' | b'E'));
        if exponent {
            self.at += 1;
            if matches!(self.byte(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits(&mut 0)?;
        }
        Ok(Number { text: &self.text[start..self.at], mantissa, digits, places, exponent })
    }

    /// One or more digits; how many. Their value wraps beyond 19.
    fn digits(&mut self, value: &mut u64) -> Result<usize, Refused> {
        let start = self.at;
        while let Some(byte @ b'0'..=b'9') = self.byte() {
            *value = value.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
            self.at += 1;
        }
        if self.at > start { Ok(self.at - start) } else { self.fault("a number needs a digit") }
    }

    /// A string, borrowed unless it holds escapes.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, Refused> {
        if self.peek() != Some(b'"') {
            return self.fault("a string starts with a quotation mark");
        }
        self.at += 1;
        let start = self.at;
        self.plain();
        if self.byte() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(&self.text[start..self.at - 1]));
        }
        self.string_with_escapes(start).map(Cow::Owned)
    }

    #[cold]
    fn string_with_escapes(&mut self, start: usize) -> Result<String, Refused> {
        let mut text = String::from(&self.text[start..self.at]);
        while let Some(character) = self.escaped()? {
            text.push(character);
            let from = self.at;
            self.plain();
            text.push_str(&self.text[from..self.at]);
        }
        Ok(text)
    }

    /// Moves to the next quotation mark, backslash or control character, eight bytes at a time.
    fn plain(&mut self) {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const HIGHS: u64 = 0x8080_8080_8080_8080;
        const QUOTES: u64 = ONES * b'"' as u64;
        const BACKSLASHES: u64 = ONES * b'\\' as u64;
        let bytes = self.text.as_bytes();
        while let Some(chunk) = bytes[self.at..].first_chunk::<8>() {
            let word = u64::from_le_bytes(*chunk);
            let zero_in = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
            let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
            let found = control | zero_in(word ^ QUOTES) | zero_in(word ^ BACKSLASHES);
            // A borrow can only light marks above a true one, so the lowest mark is true.
            if found != 0 {
                self.at += found.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
        while self.byte().is_some_and(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
            self.at += 1;
        }
    }

    /// After [`Cursor::plain`]: the end of the string (`None`) or one escaped character.
    fn escaped(&mut self) -> Result<Option<char>, Refused> {
        match self.byte() {
            Some(b'"') => {
                self.at += 1;
                return Ok(None);
            }
            Some(b'\\') => self.at += 1,
            Some(_) => return self.fault("a control character stands in a string"),
            None => return self.fault("the text ends inside a string"),
        }
        let character = match self.byte() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode().map(Some);
            }
            _ => return self.fault("not an escape"),
        };
        self.at += 1;
        Ok(Some(character))
    }

    /// After `\u`: one character, which may take a second `\u`.
    fn unicode(&mut self) -> Result<char, Refused> {
        let first = self.unit()?;
        if let Some(character) = char::from_u32(first) {
            return Ok(character);
        }
        if first < 0xdc00 && self.text.as_bytes()[self.at..].starts_with(b"\\u") {
            self.at += 2;
            let second = self.unit()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).expect("a surrogate pair is a character"));
            }
        }
        self.fault("half of a surrogate pair")
    }

    fn unit(&mut self) -> Result<u32, Refused> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.byte().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else { return self.fault("an escape needs four hex digits") };
            unit = unit << 4 | digit;
            self.at += 1;
        }
        Ok(unit)
    }

    /// Opens an array or object; whether it has anything in it.
    pub(super) fn open(&mut self, close: u8) -> Result<bool, Refused> {
        self.at += 1;
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// After an item: whether another follows, or the container closed.
    pub(super) fn more(&mut self, close: u8) -> Result<bool, Refused> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ => self.fault("a comma or the end of the list should stand here"),
        }
    }

    /// A key and its colon.
    pub(super) fn key(&mut self) -> Result<Cow<'a, str>, Refused> {
        let key = self.string()?;
        if self.peek() != Some(b':') {
            return self.fault("a colon should stand after a key");
        }
        self.at += 1;
        Ok(key)
    }

    /// Reads any value and forgets it.
    pub(super) fn skip(&mut self) -> Result<(), Refused> {
        // One bit for each open container: set for objects.
        let (mut objects, mut depth) = (0_u128, 0_usize);
        loop {
            let opened = match self.kind()? {
                Kind::Null => self.null().map(|()| None)?,
                Kind::Bool => self.bool().map(|_| None)?,
                Kind::Number => self.number().map(|_| None)?,
                Kind::String => self.string().map(|_| None)?,
                Kind::Array => self.open(b']')?.then_some(false),
                Kind::Object => self.open(b'}')?.then_some(true),
            };
            if let Some(object) = opened {
                if depth == JSON_DEPTH_MAX {
                    return self.fault("values are nested too deeply");
                }
                depth += 1;
                objects = objects << 1 | u128::from(object);
                if object {
                    self.key()?;
                }
                continue;
            }
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let object = objects & 1 == 1;
                if self.more(if object { b'}' } else { b']' })? {
                    if object {
                        self.key()?;
                    }
                    break;
                }
                depth -= 1;
                objects >>= 1;
            }
        }
    }
}

const _: () = assert!(JSON_DEPTH_MAX <= 128, "one bit of a u128 for each open container");

#[cfg(test)]
mod tests;
