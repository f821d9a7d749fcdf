//! What exactly is signed: our canonical text, and the texts and bytes that clients in the field sign.
//!
//! Keeps invariant I4 (one-canon): the signed text, its rounding and its printers exist here and in
//! [`super::decimal`] and nowhere else. Our form is
//!
//! ```text
//! {"D_hat":1.410000000,"budget":0.420000000,"coh_star":0.730000000,"epoch":1,"merkle_root":"…",
//!  "pcs_id":"…","r":0.870000000,"shard_id":"…"}        (one line, no space)
//! ```
//!
//! byte-sorted keys, floats with nine places rounded half away from zero on their shortest decimal, zero
//! without sign, strings in UTF-8 with only `"`, `\` and control characters escaped.

use alloc::vec::Vec;

use super::decimal::{Decimal, Rounding, Style, nine, round9, write_binary_fixed9, write_integer};

/// The eight fields a signature covers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignedFields<'a> {
    /// The claimed id.
    pub pcs_id: &'a str,
    /// Root of the data's Merkle tree.
    pub merkle_root: &'a str,
    /// The producer's epoch.
    pub epoch: i64,
    /// The producer's shard.
    pub shard_id: &'a str,
    /// The four numbers.
    pub numbers: Numbers,
}

/// The four signed numbers, and how each was written.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Numbers {
    /// Fractal dimension.
    pub d_hat: f64,
    /// Directional coherence.
    pub coh_star: f64,
    /// Compressibility.
    pub r: f64,
    /// Trust budget.
    pub budget: f64,
    /// Which of them, in the order above, the body wrote as an integer. Python keeps such a number an `int`
    /// and one of its canonical forms then signs `1`, not `1.0`.
    pub whole: [bool; 4],
}

/// How a client escapes strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escapes {
    /// Only what JSON demands.
    Minimal,
    /// Everything outside space to `~` as `\u` and four hex digits: Python's default.
    Ascii,
    /// Go's default: also `<`, `>`, `&`, U+2028 and U+2029.
    Html,
}

/// One layout of the signed fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Layout {
    /// Our own form.
    Canonical,
    /// Python agent, CLI and SDK.
    PythonAscii,
    /// `flk_canonical.py`.
    PythonRaw,
    /// Nine places as `'%.9f'` gives them.
    PythonFixed9,
    /// The original server: Go, in the order of its struct.
    GoStruct,
    /// Go with sorted keys.
    GoSorted,
    /// TypeScript, the module that leaves whole numbers alone.
    TsSource,
    /// TypeScript, the client.
    TsClient,
    /// Rust: 200 bytes of C struct.
    RustStruct,
    /// WASM: `serde_json`.
    Serde,
}

/// How many layouts there are.
pub const LAYOUTS: usize = 10;

#[derive(Clone, Copy)]
enum Field {
    DHat,
    Budget,
    CohStar,
    Epoch,
    MerkleRoot,
    PcsId,
    R,
    ShardId,
}

use Field::{Budget, CohStar, DHat, Epoch, MerkleRoot, PcsId, R, ShardId};

const SORTED: [Field; 8] = [DHat, Budget, CohStar, Epoch, MerkleRoot, PcsId, R, ShardId];
const GO_STRUCT: [Field; 8] = [Budget, CohStar, DHat, Epoch, MerkleRoot, PcsId, R, ShardId];

impl Field {
    const fn label(self) -> &'static [u8] {
        match self {
            DHat => b"\"D_hat\":",
            Budget => b"\"budget\":",
            CohStar => b"\"coh_star\":",
            Epoch => b"\"epoch\":",
            MerkleRoot => b"\"merkle_root\":",
            PcsId => b"\"pcs_id\":",
            R => b"\"r\":",
            ShardId => b"\"shard_id\":",
        }
    }
}

impl Layout {
    /// The bytes this layout gives the fields; `None` if it cannot tell them from others: the struct holds
    /// numbers up to 9.2e9 only, and everything beyond would look the same.
    ///
    /// The struct also cuts strings, and JavaScript rounds epochs beyond 2^53. Both are harmless only
    /// because the id, which is signed whole, is derived from the full fields again before a submission
    /// counts.
    #[must_use]
    pub fn bytes(self, fields: &SignedFields<'_>) -> Option<Vec<u8>> {
        let strings = fields.pcs_id.len() + fields.merkle_root.len() + fields.shard_id.len();
        let mut out = Vec::with_capacity(192 + strings);
        let (order, escapes) = match self {
            Layout::RustStruct => return rust_struct(fields),
            Layout::GoStruct => (GO_STRUCT, Escapes::Html),
            Layout::GoSorted => (SORTED, Escapes::Html),
            Layout::PythonAscii | Layout::PythonFixed9 => (SORTED, Escapes::Ascii),
            Layout::Canonical | Layout::PythonRaw | Layout::TsSource | Layout::TsClient | Layout::Serde => {
                (SORTED, Escapes::Minimal)
            }
        };
        let mut before = b'{';
        for field in order {
            out.push(before);
            before = b',';
            out.extend_from_slice(field.label());
            match field {
                DHat => self.number(&mut out, fields.numbers.d_hat, fields.numbers.whole[0]),
                CohStar => self.number(&mut out, fields.numbers.coh_star, fields.numbers.whole[1]),
                R => self.number(&mut out, fields.numbers.r, fields.numbers.whole[2]),
                Budget => self.number(&mut out, fields.numbers.budget, fields.numbers.whole[3]),
                Epoch => self.epoch(&mut out, fields.epoch),
                MerkleRoot => write_string(&mut out, fields.merkle_root, escapes),
                PcsId => write_string(&mut out, fields.pcs_id, escapes),
                ShardId => write_string(&mut out, fields.shard_id, escapes),
            }
        }
        out.push(b'}');
        Some(out)
    }

    fn number(self, out: &mut Vec<u8>, x: f64, whole: bool) {
        let (rounding, style) = match self {
            Layout::Canonical => return nine(x).write(out, Style::Fixed9Unsigned),
            Layout::PythonFixed9 => return write_binary_fixed9(out, x),
            // A whole number of a body is within 1e15, so it is an i64.
            Layout::PythonRaw if whole => return write_integer(out, x as i64),
            Layout::PythonRaw => (Rounding::BinaryHalfEven, Style::Python),
            Layout::PythonAscii => (Rounding::DecimalHalfAway, Style::Python),
            Layout::GoStruct | Layout::GoSorted => (Rounding::ScaledHalfAway, Style::Go),
            Layout::TsSource => (Rounding::ScaledHalfUpKeepWhole, Style::EcmaScript),
            Layout::TsClient => (Rounding::ScaledHalfUp, Style::EcmaScript),
            Layout::Serde | Layout::RustStruct => (Rounding::ScaledHalfAway, Style::Serde),
        };
        round9(x, rounding).write(out, style);
    }

    fn epoch(self, out: &mut Vec<u8>, epoch: i64) {
        let exact = epoch.unsigned_abs() <= 1 << 53;
        if !exact && matches!(self, Layout::TsSource | Layout::TsClient) {
            Decimal::shortest(epoch as f64).write(out, Style::EcmaScript);
        } else {
            write_integer(out, epoch);
        }
    }
}

/// Our canonical bytes: what `flk sign` and `flk agent` sign.
#[must_use]
pub fn canonical_bytes(fields: &SignedFields<'_>) -> Vec<u8> {
    let bytes = Layout::Canonical.bytes(fields);
    bytes.expect("I4: our own form gives every summary its bytes")
}

/// `pcs_id[64] merkle_root[64] epoch i64 shard_id[32] D_hat coh_star r budget` in units of 1e-9 as i64, all
/// little-endian, strings cut or padded with zeros.
fn rust_struct(fields: &SignedFields<'_>) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(200);
    let text = |out: &mut Vec<u8>, text: &str, width: usize| {
        let end = out.len() + width;
        out.extend_from_slice(&text.as_bytes()[..text.len().min(width)]);
        out.resize(end, 0);
    };
    text(&mut out, fields.pcs_id, 64);
    text(&mut out, fields.merkle_root, 64);
    out.extend_from_slice(&fields.epoch.to_le_bytes());
    text(&mut out, fields.shard_id, 32);
    let Numbers { d_hat, coh_star, r, budget, .. } = fields.numbers;
    for x in [d_hat, coh_star, r, budget] {
        let units = libm::round(x * 1e9);
        if units.abs() >= 9.2e18 {
            return None;
        }
        out.extend_from_slice(&(units as i64).to_le_bytes());
    }
    Some(out)
}

/// Appends a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &str, escapes: Escapes) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut done = 0;
    let special = |byte: u8| match escapes {
        Escapes::Minimal => byte < 0x20 || byte == b'"' || byte == b'\\',
        Escapes::Ascii => !(0x20..0x7f).contains(&byte) || byte == b'"' || byte == b'\\',
        Escapes::Html => byte < 0x20 || matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&' | 0xe2),
    };
    while let Some(plain) = bytes[done..].iter().position(|&byte| special(byte)) {
        let at = done + plain;
        out.extend_from_slice(&bytes[done..at]);
        // A special byte starts a character: only the first byte of U+2028 is special under Html, and under
        // Ascii the whole character is consumed here.
        let character = text[at..].chars().next().expect("a special byte was found here");
        escape(out, character, escapes);
        done = at + character.len_utf8();
    }
    out.extend_from_slice(&bytes[done..]);
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, character: char, escapes: Escapes) {
    let short = match character {
        '"' => b'"',
        '\\' => b'\\',
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        '\u{8}' => b'b',
        '\u{c}' => b'f',
        _ if escapes == Escapes::Html && !character.is_ascii() && !is_line_break(character) => {
            let mut buffer = [0; 4];
            out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
            return;
        }
        _ => {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                out.extend_from_slice(b"\\u");
                crate::codec::hex_into(out, &unit.to_be_bytes());
            }
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

fn is_line_break(character: char) -> bool {
    matches!(character, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &str, escapes: Escapes) -> String {
        let mut out = Vec::new();
        write_string(&mut out, text, escapes);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_are_escaped_as_each_language_does() {
        let text = "a<b>&c\u{7f}é\u{2028}😀\"\\\n\u{1}\u{8}\u{c}";
        assert_eq!(escaped(text, Escapes::Minimal), "\"a<b>&c\u{7f}é\u{2028}😀\\\"\\\\\\n\\u0001\\b\\f\"");
        assert_eq!(
            escaped(text, Escapes::Ascii),
            "\"a<b>&c\\u007f\\u00e9\\u2028\\ud83d\\ude00\\\"\\\\\\n\\u0001\\b\\f\""
        );
        assert_eq!(
            escaped(text, Escapes::Html),
            "\"a\\u003cb\\u003e\\u0026c\u{7f}é\\u2028😀\\\"\\\\\\n\\u0001\\b\\f\""
        );
        assert_eq!(escaped("€\u{2027}", Escapes::Html), "\"€\u{2027}\"");
    }

    proptest! {
        #[test]
        fn every_escaped_string_reads_back(text in "\\PC*|[\\x00-\\x7f\u{2020}-\u{2030}]*") {
            for escapes in [Escapes::Minimal, Escapes::Ascii, Escapes::Html] {
                let back: String = serde_json::from_str(&escaped(&text, escapes)).unwrap();
                prop_assert_eq!(&back, &text);
            }
            prop_assert_eq!(escaped(&text, Escapes::Minimal), serde_json::to_string(&text).unwrap());
            prop_assert!(escaped(&text, Escapes::Ascii).is_ascii());
        }
    }
}
