//! Flat canonical JSON: an object of strings and integers with ascending ASCII names, and nothing else.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use super::LeafError;
use crate::codec::{hex_into, unhex};
use crate::summary::decimal::{Decimal, Style};

/// Writes one line. Names must come in ascending order.
pub(super) struct Line {
    out: Vec<u8>,
    last: &'static str,
}

impl Line {
    pub(super) fn with_capacity(bytes: usize) -> Line {
        Line { out: Vec::with_capacity(bytes), last: "" }
    }

    pub(super) fn number(&mut self, name: &'static str, value: u64) {
        self.name(name);
        // Digits from the last to the first: four numbers stand in every leaf, and formatting shows.
        let (mut digits, mut rest) = ([b'0'; 20], value);
        let mut first = digits.len() - 1;
        loop {
            digits[first] += (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
            first -= 1;
        }
        self.out.extend_from_slice(&digits[first..]);
    }

    pub(super) fn display(&mut self, name: &'static str, value: &impl fmt::Display) {
        self.name(name);
        let _ = write!(self, "\"{value}\"");
    }

    pub(super) fn hex(&mut self, name: &'static str, bytes: &[u8]) {
        self.name(name);
        self.out.push(b'"');
        hex_into(&mut self.out, bytes);
        self.out.push(b'"');
    }

    pub(super) fn decimal(&mut self, name: &'static str, value: Decimal) {
        self.name(name);
        self.out.push(b'"');
        value.write(&mut self.out, Style::Fixed9Unsigned);
        self.out.push(b'"');
    }

    /// A string of printable ASCII.
    pub(super) fn text(&mut self, name: &'static str, value: &str) {
        self.name(name);
        self.out.push(b'"');
        let plain = |byte: &u8| (b' '..=b'~').contains(byte) && !matches!(byte, b'"' | b'\\');
        if value.as_bytes().iter().all(plain) {
            self.out.extend_from_slice(value.as_bytes());
        } else {
            value.bytes().for_each(|byte| self.escaped(byte));
        }
        self.out.push(b'"');
    }

    fn escaped(&mut self, byte: u8) {
        assert!((b' '..=b'~').contains(&byte), "a leaf holds printable ASCII only");
        if matches!(byte, b'"' | b'\\') {
            self.out.push(b'\\');
        }
        self.out.push(byte);
    }

    pub(super) fn close(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }

    fn name(&mut self, name: &'static str) {
        debug_assert!(self.last < name, "members of a canonical line ascend");
        self.last = name;
        self.out.push(if self.out.is_empty() { b'{' } else { b',' });
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Most members of a line: more is no leaf.
const MEMBERS_MAX: usize = 32;

/// The members of one line.
pub(super) struct Fields<'a>(Vec<(&'a str, Value<'a>)>);

enum Value<'a> {
    Number(u64),
    Text(Cow<'a, str>),
}

impl<'a> Fields<'a> {
    pub(super) fn parse(line: &'a [u8]) -> Option<Fields<'a>> {
        let line = core::str::from_utf8(line).ok()?;
        let mut rest = line.strip_prefix('{')?;
        let mut fields = Vec::with_capacity(MEMBERS_MAX);
        loop {
            let (name, after) = rest.strip_prefix('"')?.split_once("\":")?;
            let (value, after) = value(after)?;
            if fields.len() == MEMBERS_MAX {
                return None;
            }
            fields.push((name, value));
            match after.strip_prefix(',') {
                Some(after) => rest = after,
                None => return (after == "}").then_some(Fields(fields)),
            }
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(other, _)| *other == name)
    }

    pub(super) fn number(&self, member: &'static str) -> Result<u64, LeafError> {
        match self.get(member)? {
            Value::Number(value) => Ok(*value),
            Value::Text(_) => Err(LeafError { member }),
        }
    }

    pub(super) fn text(&self, member: &'static str) -> Result<Cow<'a, str>, LeafError> {
        match self.get(member)? {
            Value::Text(value) => Ok(value.clone()),
            Value::Number(_) => Err(LeafError { member }),
        }
    }

    /// A text from a fixed set, as the set's own reader reads it.
    pub(super) fn named<T>(
        &self,
        member: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, LeafError> {
        read(&self.text(member)?).ok_or(LeafError { member })
    }

    pub(super) fn id<T: core::str::FromStr>(&self, member: &'static str) -> Result<T, LeafError> {
        self.named(member, |text| text.parse().ok())
    }

    pub(super) fn hex<const N: usize>(&self, member: &'static str) -> Result<[u8; N], LeafError> {
        self.named(member, unhex)
    }

    pub(super) fn decimal(&self, member: &'static str) -> Result<Decimal, LeafError> {
        self.named(member, Decimal::parse_fixed9)
    }

    fn get(&self, member: &'static str) -> Result<&Value<'a>, LeafError> {
        let found = self.0.iter().find(|(name, _)| *name == member);
        found.map(|(_, value)| value).ok_or(LeafError { member })
    }
}

fn value(text: &str) -> Option<(Value<'_>, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !c.is_ascii_digit())?;
        return Some((Value::Number(text[..end].parse().ok()?), &text[end..]));
    };
    if let Some((raw, rest)) = quoted.split_once('"') {
        let plain = |byte: u8| (b' '..=b'~').contains(&byte) & (byte != b'\\');
        // Without a way out in the middle the compiler looks at many bytes at once.
        if raw.bytes().fold(true, |all, byte| all & plain(byte)) {
            return Some((Value::Text(Cow::Borrowed(raw)), rest));
        }
    }
    let mut escaped = false;
    for (at, byte) in quoted.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => {
                let (raw, rest) = (&quoted[..at], &quoted[at + 1..]);
                return Some((Value::Text(unescape(raw)?), rest));
            }
            b' '..=b'~' => {}
            _ => return None,
        }
    }
    None
}

fn unescape(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.contains('\\') {
        return Some(Cow::Borrowed(raw));
    }
    let mut text = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        text.push(match c {
            '\\' => chars.next().filter(|c| matches!(c, '"' | '\\'))?,
            c => c,
        });
    }
    Some(Cow::Owned(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_everybody_writes_them() {
        for value in [0, 7, 10, 99, 100, 1_760_000_000_000, u64::MAX - 1, u64::MAX] {
            let mut line = Line::with_capacity(0);
            line.number("n", value);
            assert_eq!(line.close(), alloc::format!("{{\"n\":{value}}}").into_bytes());
        }
    }

    #[test]
    fn other_texts_than_flat_canonical_ones_are_refused() {
        for text in [
            "",
            "{}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1",
            "{\"a\":1}}",
            "{\"a\":1,}",
            "{\"a\":-1}",
            "{\"a\":1.5}",
            "{\"a\":null}",
            "{\"a\":[1]}",
            "{\"a\":{\"b\":1}}",
            "{\"a\":\"x}",
            "{\"a\":\"\\n\"}",
            "{\"a\":\"\u{e4}\"}",
            "{\"a\":99999999999999999999}",
        ] {
            assert!(Fields::parse(text.as_bytes()).is_none(), "{text}");
        }
        let quoted = Fields::parse(br#"{"a":"say \"\\\"","b":2}"#).unwrap();
        assert_eq!(quoted.text("a").unwrap(), "say \"\\\"");
        assert_eq!(quoted.number("b"), Ok(2));
        assert_eq!(quoted.number("a"), Err(LeafError { member: "a" }));
    }
}
