//! A JSON object as text: members in the order and spelling of the file, so that adding a signature changes nothing
//! else.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// An object's members, values as written.
#[derive(Debug)]
pub struct Object(Vec<(String, Box<RawValue>)>);

impl Object {
    /// Reads exactly one object.
    ///
    /// # Errors
    /// What is wrong with the text, with line and column.
    pub fn parse(bytes: &[u8]) -> Result<Object, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The value of a member, as written.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(have, _)| have == name).map(|(_, value)| value.get())
    }

    /// Sets a member to a text, in its place or at the end.
    ///
    /// # Errors
    /// None that a text can cause.
    pub fn set_text(&mut self, name: &str, text: &str) -> Result<(), serde_json::Error> {
        let value = RawValue::from_string(serde_json::to_string(text)?)?;
        match self.0.iter_mut().find(|(have, _)| have == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
        Ok(())
    }

    /// The object on one line, without white space between members.
    ///
    /// # Errors
    /// None that a parsed object can cause.
    pub fn text(&self) -> Result<String, serde_json::Error> {
        let mut out = String::from("{");
        for (i, (name, value)) in self.0.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            out.push_str(&serde_json::to_string(name)?);
            out.push(':');
            out.push_str(value.get());
        }
        out.push('}');
        Ok(out)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if members.iter().any(|(have, _)| *have == name) {
                        return Err(A::Error::custom(format!("the key {name:?} stands twice")));
                    }
                    members.push((name, value));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_added_and_nothing_else_changes() {
        let mut object = Object::parse(b"{\"b\": 1.50, \"a\" : [1, 2],\n\"\\u00e9\":-0.0}").unwrap();
        object.set_text("sig", "x\"y").unwrap();
        assert_eq!(object.text().unwrap(), "{\"b\":1.50,\"a\":[1, 2],\"é\":-0.0,\"sig\":\"x\\\"y\"}");
        object.set_text("a", "z").unwrap();
        assert_eq!(object.get("a"), Some("\"z\""));
        assert_eq!(object.text().unwrap(), "{\"b\":1.50,\"a\":\"z\",\"é\":-0.0,\"sig\":\"x\\\"y\"}");
    }

    #[test]
    fn only_one_object_with_each_key_once() {
        for bad in ["", "[]", "{\"a\":1,\"a\":2}", "{\"a\":1}{", "{\"a\":01}"] {
            assert!(Object::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
