//! The node's own keys: the key-encryption key and the log's signing seed.
//!
//! Both are files an operator can provide. Where they are missing on a new data directory they are made, with
//! mode 0600, and synced before anything is sealed or signed with them: a log whose key was lost with the
//! power could not be read again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use engine::ids::{KeyId, TenantId};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// What is wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or made.
    #[error("key file {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file does not hold a key.
    #[error("key file {path} does not hold base64 of 32 bytes")]
    Form {
        /// The file.
        path: PathBuf,
    },
    /// Others may read the file.
    #[error("key file {path} may be read by others (mode {mode:o}); chmod 600 it")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file is missing and may not be made.
    #[error("key file {path} is missing, and {why}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// Why it is not made.
        why: &'static str,
    },
    /// A sealed secret does not open under this key-encryption key.
    #[error(
        "the secret of key '{key_id}' of tenant '{tenant}' does not open: is keys.kek_file the one it was sealed with?"
    )]
    Sealed {
        /// Whose key.
        tenant: String,
        /// Which key.
        key_id: String,
    },
    /// The operating system gives no randomness.
    #[error("no randomness: {0}")]
    Random(getrandom::Error),
}

/// Reads a 32-byte key, or makes one where that is allowed.
///
/// # Errors
/// [`KeyError`], naming the file.
pub fn load_or_create(
    path: &Path,
    may_create: Result<(), &'static str>,
) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let at = |source| KeyError::File { path: path.to_owned(), source };
    match std::fs::read(path) {
        Ok(text) => {
            let text = Zeroizing::new(text);
            let mode = std::fs::metadata(path).map_err(at)?.permissions().mode() & 0o777;
            // Group-readable is how orchestrators mount secrets; world-readable is a mistake.
            if mode & 0o007 != 0 {
                return Err(KeyError::Open { path: path.to_owned(), mode });
            }
            let bytes = Zeroizing::new(STANDARD.decode(text.trim_ascii()).unwrap_or_default());
            let key = <[u8; 32]>::try_from(bytes.as_slice())
                .map_err(|_| KeyError::Form { path: path.to_owned() })?;
            Ok(Zeroizing::new(key))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            may_create.map_err(|why| KeyError::Missing { path: path.to_owned(), why })?;
            let key = draw_seed()?;
            let text = Zeroizing::new(STANDARD.encode(&key[..]) + "\n");
            create(path, text.as_bytes(), 0o600).map_err(at)?;
            Ok(key)
        }
        Err(error) => Err(at(error)),
    }
}

/// A new seed.
///
/// # Errors
/// When the operating system gives no randomness.
pub fn draw_seed() -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut seed[..]).map_err(KeyError::Random)?;
    Ok(seed)
}

/// Writes a new file and makes it durable.
///
/// # Errors
/// When it exists already or the file system refuses.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    segments::create_dir_synced(parent)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    File::open(parent)?.sync_all()
}

/// The key-encryption key: seals the HMAC secrets that stand in the log.
pub struct Kek(Zeroizing<[u8; 32]>);

impl Kek {
    /// Wraps the key.
    pub fn new(key: Zeroizing<[u8; 32]>) -> Kek {
        Kek(key)
    }

    /// Seals the seed of the log's keys, for nobody but these: `keys` is the text of the public ones.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn seal_log_key(&self, keys: &str, seed: &[u8; 32]) -> Result<Vec<u8>, KeyError> {
        self.seal_with(&log_key_aad(keys), seed)
    }

    /// Opens what [`Kek::seal_log_key`] made for the same public keys; `None` under another key-encryption key, or when
    /// anything was changed.
    pub fn open_log_key(&self, keys: &str, sealed: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        let opened = self.open_with(&log_key_aad(keys), sealed)?;
        <[u8; 32]>::try_from(opened.as_slice()).ok().map(Zeroizing::new)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }

    /// Seals a secret: 24 bytes of nonce, then the ciphertext with its tag.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn seal(&self, tenant: &TenantId, key_id: &KeyId, secret: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.seal_with(&aad(tenant, key_id), secret)
    }

    fn seal_with(&self, aad: &[u8], secret: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut nonce = [0; 24];
        getrandom::fill(&mut nonce).map_err(KeyError::Random)?;
        let sealed = self
            .cipher()
            .encrypt(&XNonce::from(nonce), Payload { msg: secret, aad })
            .expect("a secret is far below the cipher's bound");
        Ok([nonce.as_slice(), &sealed].concat())
    }

    fn open_with(&self, aad: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_first_chunk::<24>()?;
        let secret = self.cipher().decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad });
        secret.ok().map(Zeroizing::new)
    }

    /// Opens what [`Kek::seal`] made for the same tenant and key.
    ///
    /// # Errors
    /// [`KeyError::Sealed`] under another key, or when anything was changed.
    pub fn open(
        &self,
        tenant: &TenantId,
        key_id: &KeyId,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        self.open_with(&aad(tenant, key_id), sealed).ok_or_else(|| KeyError::Sealed {
            tenant: tenant.as_str().to_owned(),
            key_id: key_id.as_str().to_owned(),
        })
    }

    /// Says whether two nodes have the same key, and nothing else about it.
    pub fn check(&self) -> [u8; 16] {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0[..]).expect("HMAC takes any key");
        mac.update(b"greeting between nodes");
        let digest = mac.finalize().into_bytes();
        *digest.first_chunk().expect("a digest has 32 bytes")
    }

    /// Name of an HMAC key: eight hex digits that say nothing about the secret to anyone without this key,
    /// and stay the same for the same secret.
    pub fn key_id(&self, tenant: &TenantId, secret: &[u8]) -> KeyId {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0[..]).expect("HMAC takes any key");
        for part in [b"key-id".as_slice(), tenant.as_bytes(), &[0], secret] {
            mac.update(part);
        }
        let digest = mac.finalize().into_bytes();
        let text = engine::codec::hex(&digest[..4]);
        KeyId::new(&text).expect("hex digits are a name")
    }
}

/// Another first word than secrets of tenants have, so that none can take the other's place.
fn log_key_aad(keys: &str) -> Vec<u8> {
    [b"flk-log-key".as_slice(), &[0], keys.as_bytes()].concat()
}

fn aad(tenant: &TenantId, key_id: &KeyId) -> Vec<u8> {
    [b"flk-hmac-key".as_slice(), tenant.as_bytes(), &[0], key_id.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_private_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys").join("kek");
        assert!(matches!(load_or_create(&path, Err("x")), Err(KeyError::Missing { .. })));
        let key = load_or_create(&path, Ok(())).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(*key, *load_or_create(&path, Err("x")).unwrap());
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(matches!(load_or_create(&path, Ok(())), Err(KeyError::Open { mode: 0o644, .. })));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(&path, "AAAA").unwrap();
        assert!(matches!(load_or_create(&path, Ok(())), Err(KeyError::Form { .. })));
    }

    #[test]
    fn a_sealed_secret_opens_only_for_its_tenant_key_and_kek() {
        let kek = Kek::new(Zeroizing::new([7; 32]));
        let (a, b) = (TenantId::new("a").unwrap(), TenantId::new("b").unwrap());
        let id = kek.key_id(&a, b"testsecret");
        assert_ne!(id, kek.key_id(&b, b"testsecret"));
        let sealed = kek.seal(&a, &id, b"testsecret").unwrap();
        assert_ne!(sealed, kek.seal(&a, &id, b"testsecret").unwrap(), "nonces are fresh");
        assert_eq!(*kek.open(&a, &id, &sealed).unwrap(), b"testsecret");
        assert!(kek.open(&b, &id, &sealed).is_err());
        assert!(Kek::new(Zeroizing::new([8; 32])).open(&a, &id, &sealed).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(kek.open(&a, &id, &changed).is_err());
            assert!(kek.open(&a, &id, &sealed[..at]).is_err());
        }
    }
}
