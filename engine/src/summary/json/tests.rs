//! The reader, against serde_json on whole and damaged texts.

use alloc::string::ToString;
use alloc::vec::Vec;
use alloc::{format, vec};

use proptest::prelude::*;

use super::*;

fn whole(text: &str) -> Result<(), ParseError> {
    let mut cursor = Cursor::new(text);
    let read = cursor.skip().and_then(|()| cursor.end());
    read.map_err(|Refused| cursor.error())
}

#[test]
fn nesting_is_bounded_and_does_not_recurse() {
    let nested = |depth| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(whole(&nested(JSON_DEPTH_MAX)), Ok(()));
    let what = "values are nested too deeply";
    let at = JSON_DEPTH_MAX + 1;
    assert_eq!(whole(&nested(at)).unwrap_err(), ParseError::Syntax(Fault { at, what }));
    assert!(whole(&"[".repeat(1 << 20)).is_err());
    assert!(whole(&"{\"a\":".repeat(1 << 17)).is_err());
}

#[test]
fn surrogates_come_in_pairs() {
    for (text, expected) in [
        (r#""\ud83d\ude00""#, Some("😀")),
        (r#""\uD83D\uDE00x""#, Some("😀x")),
        (r#""\ud83d""#, None),
        (r#""\ude00""#, None),
        (r#""\ud83d\u0041""#, None),
        (r#""\ud83dx""#, None),
        (r#""\u00e9\/""#, Some("é/")),
    ] {
        assert_eq!(Cursor::new(text).string().ok().as_deref(), expected, "{text}");
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "\\PC*|[\\x00-\\x7f]*".prop_map(serde_json::Value::String),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map("[a-z\"]{0,9}", inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn numbers_are_the_ones_core_reads(text in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?") {
        let number = Cursor::new(&text).number().unwrap();
        prop_assert_eq!(number.text, &text);
        prop_assert_eq!(number.double().to_bits(), text.parse::<f64>().unwrap().to_bits());
        prop_assert_eq!(number.integer(), text.parse::<i64>().ok());
    }

    #[test]
    fn what_serde_json_prints_is_read(value in json()) {
        prop_assert_eq!(whole(&value.to_string()), Ok(()));
        prop_assert_eq!(whole(&serde_json::to_string_pretty(&value).unwrap()), Ok(()));
    }

    #[test]
    fn a_damaged_text_is_judged_as_serde_json_judges_it(
        value in json(), at in any::<prop::sample::Index>(), with in "[\\[\\]{}\",:0-9eE+.\\-\\\\ntu ]?"
    ) {
        let text = value.to_string();
        let mut characters: Vec<char> = text.chars().collect();
        let at = at.index(characters.len());
        characters.splice(at..=at, with.chars());
        let text: String = characters.into_iter().collect();
        prop_assert_eq!(whole(&text).is_ok(), serde_json::from_str::<Strict>(&text).is_ok(), "{}", text);
    }

    #[test]
    fn strings_are_what_serde_json_reads(text in "\\PC*|[\\x00-\\x7f]*") {
        let json = serde_json::to_string(&text).unwrap();
        prop_assert_eq!(Cursor::new(&json).string().unwrap(), text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
        let _ = whole(&text);
    }
}

/// serde_json's `Value` refuses numbers beyond f64, which as text are JSON; this accepts all that is
/// well formed, and checks strings, which `IgnoredAny` does not.
struct Strict;

impl<'de> serde::Deserialize<'de> for Strict {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Strict, D::Error> {
        let raw = <&serde_json::value::RawValue>::deserialize(deserializer)?;
        let strings = pieces(raw.get());
        if strings.iter().all(|text| serde_json::from_str::<String>(text).is_ok()) {
            Ok(Strict)
        } else {
            Err(serde::de::Error::custom("a string is not text"))
        }
    }
}

/// The string literals of a well-formed text.
fn pieces(text: &str) -> Vec<String> {
    let (mut found, mut current, mut escaped) = (vec![], None::<String>, false);
    for character in text.chars() {
        match &mut current {
            None if character == '"' => current = Some("\"".to_string()),
            None => {}
            Some(piece) => {
                piece.push(character);
                if character == '"' && !escaped {
                    found.extend(current.take());
                    escaped = false;
                    continue;
                }
                escaped = character == '\\' && !escaped;
            }
        }
    }
    found
}
