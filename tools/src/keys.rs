//! Signing keys of clients: where they are read from and what they sign. Their bytes are never printed, except by
//! `flk keygen` to whom asked for a new key.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use engine::summary::sign::{sign_ed25519, sign_hmac};
use engine::summary::{SignatureForm, SignedFields};
use zeroize::Zeroizing;

use crate::report::Fault;

/// Longest key file read, bytes.
const KEY_FILE_MAX: u64 = 4096;

/// Which key a command signs with.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct KeyArgs {
    /// File that holds an HMAC secret as text, without one newline at its end; or put it into PCS_HMAC_KEY
    #[arg(long, value_name = "FILE", conflicts_with = "ed25519_key", help_heading = "Key")]
    pub hmac_key: Option<PathBuf>,
    /// File that holds an Ed25519 private key: 32 bytes in base64
    #[arg(long, value_name = "FILE", help_heading = "Key")]
    pub ed25519_key: Option<PathBuf>,
}

/// A client's key.
pub enum Key {
    /// The secret of an HMAC-SHA256 over the canonical text.
    Hmac(Zeroizing<Vec<u8>>),
    /// The seed of an Ed25519 key that signs the SHA-256 of the canonical text.
    Ed25519(Zeroizing<[u8; 32]>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Key::Hmac(_) => "Key::Hmac(..)",
            Key::Ed25519(_) => "Key::Ed25519(..)",
        })
    }
}

impl KeyArgs {
    /// The key chosen by flags; without flags the secret in the variable `PCS_HMAC_KEY`, as clients in the field
    /// have it; `None` without either.
    ///
    /// # Errors
    /// A file that cannot be read or holds no key.
    pub fn load(&self) -> Result<Option<Key>, Fault> {
        if let Some(path) = &self.ed25519_key {
            return Key::read_ed25519(path).map(Some);
        }
        if let Some(path) = &self.hmac_key {
            return Key::read_hmac(path).map(Some);
        }
        Ok(std::env::var("PCS_HMAC_KEY")
            .ok()
            .filter(|key| !key.is_empty())
            .map(|key| Key::Hmac(key.into_bytes().into())))
    }

    /// The same where a key is needed.
    ///
    /// # Errors
    /// As [`KeyArgs::load`], and if there is none.
    pub fn need(&self) -> Result<Key, Fault> {
        self.load()?.ok_or_else(|| {
            Fault::new(
                "no key to sign with",
                "--hmac-key, --ed25519-key or PCS_HMAC_KEY",
                "none of them is given",
                "flk keygen hmac --out demo.hmac, or for a server started by `flkd dev`: --hmac-key flk-dev/keys/demo.hmac",
            )
        })
    }
}

impl Key {
    /// Reads an HMAC secret.
    ///
    /// # Errors
    /// The file cannot be read or is empty.
    pub fn read_hmac(path: &Path) -> Result<Key, Fault> {
        let mut bytes = read(path)?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        if bytes.is_empty() {
            return Err(Fault::new(
                "no HMAC secret",
                path.display(),
                "the file is empty",
                "flk keygen hmac --out FILE",
            ));
        }
        Ok(Key::Hmac(bytes.into()))
    }

    /// Reads an Ed25519 private key of 32 bytes in base64.
    ///
    /// # Errors
    /// The file cannot be read or holds something else.
    pub fn read_ed25519(path: &Path) -> Result<Key, Fault> {
        let bytes = read(path)?;
        let seed = BASE64.decode(bytes.trim_ascii()).ok().and_then(|raw| <[u8; 32]>::try_from(raw).ok());
        let seed = seed.ok_or_else(|| {
            let why = "it does not hold 32 bytes in base64 (44 characters)";
            Fault::new("no Ed25519 key", path.display(), why, "flk keygen ed25519 --out FILE")
        })?;
        Ok(Key::Ed25519(seed.into()))
    }

    /// The signature over our canonical form of these fields, base64, as it stands in `sig`.
    #[must_use]
    pub fn sign(&self, fields: &SignedFields<'_>) -> String {
        match self {
            Key::Hmac(secret) => sign_hmac(SignatureForm::Canonical, fields, secret),
            Key::Ed25519(seed) => sign_ed25519(SignatureForm::Ed25519Canonical, fields, seed),
        }
        .expect("I4: our own form gives every summary its bytes")
    }

    /// Name of the algorithm.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self {
            Key::Hmac(_) => "hmac",
            Key::Ed25519(_) => "ed25519",
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| Fault::read(path, error))?;
    file.take(KEY_FILE_MAX + 1).read_to_end(&mut bytes).map_err(|error| Fault::read(path, error))?;
    if bytes.len() as u64 > KEY_FILE_MAX {
        return Err(Fault::read(path, format!("a key file is at most {KEY_FILE_MAX} bytes")));
    }
    Ok(bytes)
}

/// Writes a new file that only its owner can read; an existing file is never touched. Synced when this returns.
///
/// # Errors
/// The file exists or cannot be written.
pub fn write_secret(path: &Path, text: &str) -> Result<(), Fault> {
    write_new(path, text, 0o600)
}

/// Writes a new file that everybody can read; an existing file is never touched.
///
/// # Errors
/// The file exists or cannot be written.
pub fn write_public(path: &Path, text: &str) -> Result<(), Fault> {
    write_new(path, text, 0o644)
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), Fault> {
    let open = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = open.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            let next = "choose another name, or move the old key away if nothing uses it";
            Fault::new("will not overwrite a key", path.display(), "the file exists", next)
        }
        _ => Fault::write(path, error),
    })?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| Fault::write(path, error))
}

/// Whether others than the owner may read a secret's file.
#[must_use]
pub fn too_open(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0)
}

/// 32 random bytes from the system.
///
/// # Errors
/// The system has no randomness to give.
pub fn random32() -> Result<[u8; 32], Fault> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        Fault::new("cannot draw a key", "getrandom", error, "check that /dev/urandom works")
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newline_at_the_end_is_no_part_of_the_secret_and_no_secret_is_printed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "Jefe\n").unwrap();
        let key = Key::read_hmac(&path).unwrap();
        let Key::Hmac(secret) = &key else { panic!("an HMAC key") };
        assert_eq!(secret.as_slice(), b"Jefe");
        assert_eq!(format!("{key:?}"), "Key::Hmac(..)");
    }

    #[test]
    fn an_ed25519_key_is_44_characters() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        for (text, good) in [
            (BASE64.encode([7; 32]), true),
            (format!("{}\n", BASE64.encode([7; 32])), true),
            (BASE64.encode([7; 31]), false),
            ("not base64!".into(), false),
            (String::new(), false),
        ] {
            std::fs::write(&path, &text).unwrap();
            assert_eq!(Key::read_ed25519(&path).is_ok(), good, "{text:?}");
        }
    }

    #[test]
    fn a_secret_is_private_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_secret(&path, "one").unwrap();
        assert!(!too_open(&path));
        assert_eq!(write_secret(&path, "two").unwrap_err().what, "will not overwrite a key");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        write_public(&folder.path().join("pub"), "x").unwrap();
        assert!(too_open(&folder.path().join("pub")));
    }
}
