//! Names that arrive from outside and may stand in leaves, paths and answers: validated once, here.

use alloc::string::String;
use core::borrow::Borrow;
use core::fmt;

use crate::codec::{DecodeError, Reader};
use crate::limits::{KEY_ID_MAX, TENANT_ID_MAX};

/// The text is not a valid name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdError;

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name is 1 to 64 of A-Z a-z 0-9 . _ -")
    }
}

impl core::error::Error for IdError {}

/// 1 to 64 bytes of `[A-Za-z0-9._-]`, held in place: names are copied with every submission and must not
/// allocate.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Name {
    length: u8,
    bytes: [u8; 64],
}

impl Name {
    fn new(text: &[u8]) -> Result<Name, IdError> {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if text.is_empty() || text.len() > 64 || !text.iter().all(allowed) {
            return Err(IdError);
        }
        let mut bytes = [0; 64];
        bytes[..text.len()].copy_from_slice(text);
        Ok(Name { length: text.len() as u8, bytes })
    }

    fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..usize::from(self.length)]).expect("checked to be ASCII when made")
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(Name);

        impl $name {
            /// Checks and takes a name.
            ///
            /// # Errors
            /// [`IdError`] unless it is 1 to 64 of `[A-Za-z0-9._-]`.
            pub fn new(text: &str) -> Result<$name, IdError> {
                Name::new(text.as_bytes()).map($name)
            }

            /// The name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// The name's bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_str().as_bytes()
            }

            /// Reads a `u8` length and a name.
            ///
            /// # Errors
            /// [`DecodeError`] if the bytes end early or are not a name.
            pub fn read(reader: &mut Reader<'_>) -> Result<$name, DecodeError> {
                let bytes = reader.bytes8(64, $field)?;
                Name::new(bytes).map($name).map_err(|_| DecodeError::OutOfBounds($field))
            }
        }

        impl core::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<$name, IdError> {
                $name::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<$name, IdError> {
                $name::new(&text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &$name) -> Option<core::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &$name) -> core::cmp::Ordering {
                self.as_str().cmp(other.as_str())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

id! {
    /// Who a submission belongs to: 1 to 64 of `[A-Za-z0-9._-]`, ordered as text.
    TenantId, "tenant"
}
id! {
    /// Which of a tenant's keys: 1 to 64 of `[A-Za-z0-9._-]`, ordered as text.
    KeyId, "key id"
}

const _: () = {
    assert!(TENANT_ID_MAX == 64 && KEY_ID_MAX == 64, "Name holds 64 bytes in place");
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_safe_alphabet_is_a_name() {
        for good in ["a", "tenant-1", "A.b_C-9", &"x".repeat(64)] {
            assert_eq!(TenantId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a/b", "ä", "a\0", "\"", "a:b", &"x".repeat(65)] {
            assert_eq!(TenantId::new(bad), Err(IdError), "{bad:?}");
        }
    }

    #[test]
    fn order_is_the_texts_order() {
        let id = |text| KeyId::new(text).unwrap();
        assert!(id("a") < id("aa"));
        assert!(id("b") > id("aa"));
        assert!(id("Z") < id("a"));
    }
}
