//! The data directory of a node, as its auditors see it.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use engine::checkpoint::{LogKeys, Signed};
use engine::event::{KeyKind, KeySpec};
use engine::limits::NOTE_MAX;
use engine::summary::Secrets;
use zeroize::Zeroizing;

use crate::audit::keychain;
use crate::report::{Exit, Fault};

/// Which directory, and what of it stands elsewhere.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct HomeArgs {
    /// Data directory of a node, or a copy of one
    pub dir: PathBuf,
    /// The segments, where data.log_dir put them elsewhere
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// The WORM files, where data.worm_dir put them elsewhere
    #[arg(long, value_name = "DIR")]
    pub worm_dir: Option<PathBuf>,
}

impl HomeArgs {
    /// A directory with everything in it.
    #[must_use]
    pub fn of(dir: &Path) -> HomeArgs {
        HomeArgs { dir: dir.to_owned(), log_dir: None, worm_dir: None }
    }
}

/// Where things are in a data directory.
#[derive(Clone, Debug)]
pub struct Home(HomeArgs);

impl Home {
    /// A directory that holds a log.
    ///
    /// # Errors
    /// There is none: exit code 3 where the directory exists and its log is gone.
    pub fn open(args: &HomeArgs) -> Result<Home, Fault> {
        let path = args.dir.as_path();
        if !path.is_dir() {
            return Err(Fault::new(
                "no data directory",
                path.display(),
                "there is no such directory",
                "name the directory that flkd runs on, for example flk-dev",
            ));
        }
        let home = Home(args.clone());
        if !home.log().is_dir() && crate::pack::Pack::is_one(path) {
            return Err(Fault::new(
                "this is an evidence pack",
                path.display(),
                "the command looks at data directories",
                "worm verify, lineage, prove, population, sample and reconcile take packs",
            ));
        }
        if !home.log().is_dir() {
            return Err(Fault::new(
                "no log in the data directory",
                home.log().display(),
                "the folder is missing",
                "restore it from a copy, or name another directory",
            )
            .exit(Exit::Missing));
        }
        Ok(home)
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// The segments.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.0.log_dir.clone().unwrap_or_else(|| self.dir().join("log"))
    }

    /// The WORM files.
    #[must_use]
    pub fn worm(&self) -> PathBuf {
        self.0.worm_dir.clone().unwrap_or_else(|| self.dir().join("worm"))
    }

    /// The regions whose tree the directory publishes.
    #[must_use]
    pub fn regions(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.dir().join("tlog"))
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// The published checkpoint of a region.
    #[must_use]
    pub fn checkpoint(&self, region: &str) -> PathBuf {
        self.dir().join("tlog").join(region).join("checkpoint")
    }

    /// The log's public key.
    #[must_use]
    pub fn vkey(&self) -> PathBuf {
        self.dir().join("keys").join("log.vkey")
    }

    /// The public key that was given, or else the one of the directory, if it has one; with those that follow it or went
    /// before, by the directory's statements.
    ///
    /// # Errors
    /// As [`read_vkey`] and [`keychain::follow_in`].
    pub fn verifier(&self, given: Option<&str>) -> Result<Option<LogKeys>, Fault> {
        let keys = match given {
            Some(given) => read_vkey(given)?,
            None if self.vkey().exists() => read_vkey(&self.vkey().display().to_string())?,
            None => return Ok(None),
        };
        keychain::follow_in(&keys, &self.statements()).map(Some)
    }

    /// Where the statements stand by which one set of the log's keys follows another: beside the checkpoint, or, in a copy without
    /// one, beside the keys.
    #[must_use]
    pub fn statements(&self) -> PathBuf {
        let beside = |region: &String| self.dir().join("tlog").join(region);
        let found = self.regions().iter().map(beside).find(|dir| dir.join(keychain::name(2)).is_file());
        found.unwrap_or_else(|| self.dir().to_owned())
    }

    /// The published checkpoint of a region with its bytes, and whether the directory's key signed it: `false` where
    /// the directory has no key.
    ///
    /// # Errors
    /// As [`read_checkpoint`]; and there is a key, and the signature is not its.
    pub fn published(&self, region: &str) -> Result<(Vec<u8>, Signed, bool), Fault> {
        let path = self.checkpoint(region);
        let (note, signed) = read_checkpoint(&path)?;
        let Some(verifier) = self.verifier(None)? else { return Ok((note, signed, false)) };
        verifier.verify(&signed).map_err(|error| {
            Fault::new(
                "this checkpoint is not the log's",
                path.display(),
                error,
                format!("compare {} with a copy of the key from elsewhere", self.vkey().display()),
            )
            .exit(Exit::Tampered)
        })?;
        Ok((note, signed, true))
    }
}

/// Reads a signed checkpoint.
///
/// # Errors
/// The file cannot be read or is none; [`Exit::Missing`] where it was torn by a power loss.
pub fn read_checkpoint(path: &Path) -> Result<(Vec<u8>, Signed), Fault> {
    let bytes = std::fs::read(path).map_err(|error| {
        let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::Missing } else { Exit::Failed };
        Fault::new(
            "cannot read a checkpoint",
            path.display(),
            error,
            "a node writes one after its first submissions",
        )
        .exit(exit)
    })?;
    if bytes.len() > NOTE_MAX {
        return Err(Fault::read(path, "too long for a checkpoint").exit(Exit::Tampered));
    }
    // A note is text. It is written without a sync, so a power loss may leave nothing of it, or blocks of zeros.
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(Fault::new(
            "this checkpoint is torn",
            path.display(),
            "its bytes never reached the disk",
            "start the node, which writes it again from the log; or restore it from a copy",
        )
        .exit(Exit::Missing));
    }
    let signed = Signed::parse(&bytes).map_err(|error| {
        Fault::new(
            "this is no checkpoint",
            path.display(),
            error,
            "fetch it again, or restore it from a copy",
        )
        .exit(Exit::Tampered)
    })?;
    Ok((bytes, signed))
}

/// Reads the public keys of a log in C2SP form, a line each; the argument may be a key itself.
///
/// # Errors
/// The file cannot be read or holds no key.
pub fn read_vkey(given: &str) -> Result<LogKeys, Fault> {
    let text = if given.contains('+') && !Path::new(given).exists() {
        given.to_owned()
    } else {
        std::fs::read_to_string(given).map_err(|error| Fault::read(Path::new(given), error))?
    };
    LogKeys::parse(&text).map_err(|error| {
        Fault::new(
            "this is no public key of a log",
            given,
            error,
            "it looks like localhost/pcs/default+1f0c9a2b+AR...; a node keeps it in keys/log.vkey",
        )
    })
}

/// Opens the HMAC secrets of a log with its key-encryption key.
pub struct Kek(XChaCha20Poly1305);

impl Kek {
    /// Reads the key: 32 bytes in base64.
    ///
    /// # Errors
    /// The file cannot be read or holds something else.
    pub fn read(path: &Path) -> Result<Kek, Fault> {
        let text = Zeroizing::new(std::fs::read(path).map_err(|error| Fault::read(path, error))?);
        let bytes = Zeroizing::new(BASE64.decode(text.trim_ascii()).unwrap_or_default());
        if bytes.len() != 32 {
            return Err(Fault::new(
                "no key-encryption key",
                path.display(),
                "it does not hold 32 bytes in base64",
                "a node keeps it in keys/kek",
            ));
        }
        let key = Zeroizing::new(<[u8; 32]>::try_from(bytes.as_slice()).unwrap_or_default());
        Ok(Kek(XChaCha20Poly1305::new((&*key).into())))
    }
}

impl Secrets for Kek {
    fn hmac(&self, spec: &KeySpec) -> Option<Zeroizing<Vec<u8>>> {
        let KeyKind::HmacSealed(sealed) = &spec.kind else { return None };
        let (nonce, sealed) = sealed.split_first_chunk::<24>()?;
        let aad = [b"flk-hmac-key".as_slice(), spec.tenant.as_bytes(), &[0], spec.key_id.as_bytes()].concat();
        let secret = self.0.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &aad });
        secret.ok().map(Zeroizing::new)
    }
}
