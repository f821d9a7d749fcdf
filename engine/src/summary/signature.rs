//! The forms a signature may have, and its text.
//!
//! A form is a layout of the signed fields, whether the layout or its SHA-256 is signed, and the algorithm.
//! The union of all forms is as strong as one: every JSON layout tells any two summaries apart, a digest is
//! never a JSON text, and what the lossy ones blur is pinned again by the derived id
//! ([`Layout::bytes`](super::canonical::Layout::bytes)).

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::canonical::Layout;
use crate::ids::KeyId;

/// Which form a signature matched. Numbers are pinned, below 32: they stand in `Attested` events. Where
/// several forms give the same bytes, the lowest enabled number is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SignatureForm {
    /// HMAC over our canonical text.
    Canonical = 1,
    /// HMAC as the Python agent and CLI make it.
    PythonAgent = 2,
    /// HMAC over a SHA-256, as the Python SDK makes it.
    PythonSdk = 3,
    /// HMAC over a SHA-256, as the Go SDK makes it.
    GoSdk = 4,
    /// HMAC over a SHA-256, as the TypeScript client makes it.
    TsClient = 5,
    /// HMAC as the original Go server computes it.
    GoServer = 6,
    /// HMAC over Go's text with sorted keys.
    GoSorted = 7,
    /// HMAC as the TypeScript canonical module makes it.
    TsSource = 8,
    /// HMAC over the text of `flk_canonical.py`.
    PythonRaw = 9,
    /// HMAC over nine places as `'%.9f'` prints them.
    PythonFixed9 = 10,
    /// HMAC over a SHA-256, as the WASM SDK makes it.
    WasmSdk = 11,
    /// HMAC over the SHA-256 of a C struct, as the Rust SDK makes it.
    RustSdk = 12,
    /// Ed25519 over the SHA-256 of our canonical text.
    Ed25519Canonical = 17,
    /// Ed25519 over the SHA-256 of the Python agent's text.
    Ed25519PythonAgent = 18,
    /// Ed25519 over the SHA-256 of the original Go server's text.
    Ed25519GoServer = 19,
    /// No signature was asked for: development only.
    Unsigned = 31,
}

/// What a form signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC-SHA256.
    Hmac,
    /// Ed25519, strict verification.
    Ed25519,
    /// Nothing.
    None,
}

impl SignatureForm {
    /// Every form, by number.
    pub const ALL: [SignatureForm; 16] = [
        SignatureForm::Canonical,
        SignatureForm::PythonAgent,
        SignatureForm::PythonSdk,
        SignatureForm::GoSdk,
        SignatureForm::TsClient,
        SignatureForm::GoServer,
        SignatureForm::GoSorted,
        SignatureForm::TsSource,
        SignatureForm::PythonRaw,
        SignatureForm::PythonFixed9,
        SignatureForm::WasmSdk,
        SignatureForm::RustSdk,
        SignatureForm::Ed25519Canonical,
        SignatureForm::Ed25519PythonAgent,
        SignatureForm::Ed25519GoServer,
        SignatureForm::Unsigned,
    ];

    /// The pinned number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The form of a pinned number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<SignatureForm> {
        SignatureForm::ALL.into_iter().find(|form| form.code() == code)
    }

    /// The stable name in leaves, metrics and policy documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            SignatureForm::Canonical => "canonical",
            SignatureForm::PythonAgent => "python-agent",
            SignatureForm::PythonSdk => "python-sdk",
            SignatureForm::GoSdk => "go-sdk",
            SignatureForm::TsClient => "ts-client",
            SignatureForm::GoServer => "go-server",
            SignatureForm::GoSorted => "go-sorted",
            SignatureForm::TsSource => "ts-source",
            SignatureForm::PythonRaw => "python-raw",
            SignatureForm::PythonFixed9 => "python-fixed9",
            SignatureForm::WasmSdk => "wasm-sdk",
            SignatureForm::RustSdk => "rust-sdk",
            SignatureForm::Ed25519Canonical => "ed25519-canonical",
            SignatureForm::Ed25519PythonAgent => "ed25519-python-agent",
            SignatureForm::Ed25519GoServer => "ed25519-go-server",
            SignatureForm::Unsigned => "unsigned",
        }
    }

    /// How the fields are laid out; of no meaning for [`SignatureForm::Unsigned`].
    #[must_use]
    pub const fn layout(self) -> Layout {
        match self {
            SignatureForm::Canonical | SignatureForm::Ed25519Canonical | SignatureForm::Unsigned => {
                Layout::Canonical
            }
            SignatureForm::PythonAgent | SignatureForm::PythonSdk | SignatureForm::Ed25519PythonAgent => {
                Layout::PythonAscii
            }
            SignatureForm::GoServer | SignatureForm::Ed25519GoServer => Layout::GoStruct,
            SignatureForm::GoSdk | SignatureForm::GoSorted => Layout::GoSorted,
            SignatureForm::TsClient => Layout::TsClient,
            SignatureForm::TsSource => Layout::TsSource,
            SignatureForm::PythonRaw => Layout::PythonRaw,
            SignatureForm::PythonFixed9 => Layout::PythonFixed9,
            SignatureForm::WasmSdk => Layout::Serde,
            SignatureForm::RustSdk => Layout::RustStruct,
        }
    }

    /// Whether the SHA-256 of the layout is signed, not the layout itself.
    #[must_use]
    pub const fn signs_digest(self) -> bool {
        match self {
            SignatureForm::PythonSdk
            | SignatureForm::GoSdk
            | SignatureForm::TsClient
            | SignatureForm::WasmSdk
            | SignatureForm::RustSdk
            | SignatureForm::Ed25519Canonical
            | SignatureForm::Ed25519PythonAgent
            | SignatureForm::Ed25519GoServer => true,
            SignatureForm::Canonical
            | SignatureForm::PythonAgent
            | SignatureForm::GoServer
            | SignatureForm::GoSorted
            | SignatureForm::TsSource
            | SignatureForm::PythonRaw
            | SignatureForm::PythonFixed9
            | SignatureForm::Unsigned => false,
        }
    }

    /// What it signs with.
    #[must_use]
    pub const fn algorithm(self) -> Algorithm {
        match self.code() {
            0..16 => Algorithm::Hmac,
            16..31 => Algorithm::Ed25519,
            _ => Algorithm::None,
        }
    }
}

/// A set of forms: which ones a policy accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forms(u32);

impl Forms {
    /// Every form: the default for schema version 0.1.
    pub const ALL: Forms = Forms(0b1000_0000_0000_1110_0001_1111_1111_1110);
    /// Our own forms only.
    pub const CANONICAL: Forms = Forms(1 << 1 | 1 << 17);

    /// The pinned bits: bit `n` is the form of number `n`.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The set these bits say; `None` if one is not a form.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Option<Forms> {
        if bits & !Forms::ALL.0 == 0 { Some(Forms(bits)) } else { None }
    }

    /// Whether a form is in the set.
    #[must_use]
    pub const fn has(self, form: SignatureForm) -> bool {
        self.0 & 1 << form.code() != 0
    }

    /// The set with a form.
    #[must_use]
    pub const fn with(self, form: SignatureForm) -> Forms {
        Forms(self.0 | 1 << form.code())
    }

    /// The set without a form.
    #[must_use]
    pub const fn without(self, form: SignatureForm) -> Forms {
        Forms(self.0 & !(1 << form.code()))
    }
}

/// A good signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The form it has.
    pub form: SignatureForm,
    /// The key that made it.
    pub key_id: KeyId,
    /// That key's place among the tenant's keys sorted by id, below 8.
    pub key: u8,
}

impl Signed {
    /// The byte an `Attested` event carries: the form's number, and the key's place in the upper 3 bits.
    #[must_use]
    pub fn byte(&self) -> u8 {
        self.form.code() | self.key << 5
    }
}

/// Why there is no good signature. Which of them it is follows from the body and the public part of the
/// keys alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsigned {
    /// The tenant has no key that counts at this time.
    NoKey,
    /// No `sig`, or an empty one.
    Missing,
    /// `sig` is not the base64 of 32 or 64 bytes.
    Encoding,
    /// No enabled form under any key that counts gives this signature.
    NoMatch,
}

impl fmt::Display for Unsigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unsigned::NoKey => "the tenant has no key that counts at this time",
            Unsigned::Missing => "sig is missing",
            Unsigned::Encoding => "sig is not the base64 of 32 or 64 bytes",
            Unsigned::NoMatch => "sig was not made from this content by a key we know",
        })
    }
}

impl core::error::Error for Unsigned {}

/// A signature's bytes; the length says which algorithm made them.
pub(super) enum Bytes {
    Hmac([u8; 32]),
    Ed25519([u8; 64]),
}

/// Reads `sig`: standard alphabet, padded, carriage returns and line feeds ignored. Unlike the original, bits
/// beyond the last byte must be zero, so that one signature has one text.
pub(super) fn decode(sig: &str) -> Result<Bytes, Unsigned> {
    if sig.is_empty() {
        return Err(Unsigned::Missing);
    }
    let mut text = [0; 88];
    let mut length = 0;
    for byte in sig.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')) {
        *text.get_mut(length).ok_or(Unsigned::Encoding)? = byte;
        length += 1;
    }
    let mut bytes = [0; 66];
    let count = STANDARD.decode_slice(&text[..length], &mut bytes).map_err(|_| Unsigned::Encoding)?;
    match bytes[..count] {
        ref hmac if count == 32 => Ok(Bytes::Hmac(hmac.try_into().expect("32 bytes"))),
        ref ed25519 if count == 64 => Ok(Bytes::Ed25519(ed25519.try_into().expect("64 bytes"))),
        _ => Err(Unsigned::Encoding),
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::string::String;

    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_the_sets_hold_them() {
        let names: BTreeSet<_> = SignatureForm::ALL.iter().map(|form| form.name()).collect();
        assert_eq!(names.len(), SignatureForm::ALL.len());
        let all = SignatureForm::ALL.iter().fold(Forms(0), |all, form| all.with(*form));
        assert_eq!(all, Forms::ALL);
        for form in SignatureForm::ALL {
            assert_eq!(SignatureForm::from_code(form.code()), Some(form));
            assert!(form.code() < 32 && !Forms::ALL.without(form).has(form));
        }
        assert!(SignatureForm::ALL.is_sorted());
        assert_eq!((SignatureForm::from_code(0), Forms::from_bits(1)), (None, None));
    }

    #[test]
    fn only_standard_padded_base64_of_a_known_length_is_a_signature() {
        let sig = |text: &str| decode(text).map(|bytes| matches!(bytes, Bytes::Ed25519(_)));
        let zeros = "A".repeat(43) + "=";
        assert_eq!(sig(&zeros), Ok(false));
        assert_eq!(sig(&("A".repeat(86) + "==")), Ok(true));
        assert_eq!(sig(&(String::from("\r\n") + &zeros[..20] + "\n" + &zeros[20..] + "\n")), Ok(false));
        assert_eq!(sig(""), Err(Unsigned::Missing));
        for bad in [
            &zeros[..43],
            &("A".repeat(42) + "B="),
            &("_".repeat(43) + "="),
            &(String::from(" ") + &zeros),
            "AAAA",
            &"A".repeat(1000),
            &("A".repeat(85) + "==="),
            "\n",
            "é",
        ] {
            assert_eq!(sig(bad), Err(Unsigned::Encoding), "{bad}");
        }
    }
}
