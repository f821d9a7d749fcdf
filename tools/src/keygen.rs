//! `flk keygen`: new keys for clients, in the form that clients in the field read.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use engine::summary::sign::ed25519_public;
use serde_json::json;

use crate::keys::{random32, write_public, write_secret};
use crate::report::{Fault, Report};

/// Makes a new signing key
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Which kind
    #[arg(value_enum)]
    pub kind: Kind,
    /// Write the secret to FILE (readable by its owner only) and a public key to FILE.pub, instead of printing them
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Kinds of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// A shared secret: 32 random bytes as base64 text; the text is the secret
    Hmac,
    /// A key pair: private and public key of 32 bytes each, in base64
    Ed25519,
}

/// Makes a key.
///
/// # Errors
/// No randomness, or a file that exists or cannot be written.
pub fn run(args: &Args) -> Result<Report, Fault> {
    let mut report = Report::new("flk keygen");
    let seed = random32()?;
    let secret = BASE64.encode(seed);
    let public = (args.kind == Kind::Ed25519).then(|| BASE64.encode(ed25519_public(&seed)));
    let word = if args.kind == Kind::Hmac { "hmac" } else { "ed25519" };
    let flag = if args.kind == Kind::Hmac { "--hmac-key" } else { "--ed25519-key" };
    report.data = json!({"kind": word, "public_key_b64": public});
    if let Some(path) = &args.out {
        write_secret(path, &format!("{secret}\n"))?;
        report.lines.push(format!("secret      {}  (mode 0600)", path.display()));
        report.data["secret_file"] = json!(path);
        if let Some(public) = &public {
            let mut name = path.clone().into_os_string();
            name.push(".pub");
            let name = PathBuf::from(name);
            write_public(&name, &format!("{public}\n"))?;
            report.lines.push(format!("public key  {}  {public}", name.display()));
        }
        report.verdict = format!("sign with {flag} {}", path.display());
    } else {
        let name = if args.kind == Kind::Hmac { "secret       " } else { "private key  " };
        report.lines.push(format!("{name}{secret}"));
        if let Some(public) = &public {
            report.lines.push(format!("public key   {public}"));
        }
        report.data["secret_b64"] = json!(secret);
        report.verdict = format!("keep it in a file and sign with {flag} FILE; it is shown only now");
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Key;
    use crate::report::{Format, render};

    #[test]
    fn keys_can_be_read_back_and_differ() {
        let folder = tempfile::tempdir().unwrap();
        let mut seen = Vec::new();
        for (kind, name) in [(Kind::Hmac, "a"), (Kind::Hmac, "b"), (Kind::Ed25519, "c")] {
            let path = folder.path().join(name);
            let report = run(&Args { kind, out: Some(path.clone()) }).unwrap();
            let secret = std::fs::read_to_string(&path).unwrap();
            assert!(!render(&report, Format::Text, false).contains(secret.trim()), "the secret is not shown");
            assert!(!render(&report, Format::Json, false).contains(secret.trim()), "the secret is not shown");
            let key = if kind == Kind::Hmac { Key::read_hmac(&path) } else { Key::read_ed25519(&path) };
            seen.push(match key.unwrap() {
                Key::Hmac(secret) => secret.to_vec(),
                Key::Ed25519(seed) => seed.to_vec(),
            });
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 3);
        let public = std::fs::read_to_string(folder.path().join("c.pub")).unwrap();
        assert_eq!(public.trim().len(), 44);
    }

    #[test]
    fn a_printed_pair_fits_together() {
        let report = run(&Args { kind: Kind::Ed25519, out: None }).unwrap();
        let raw = |name: &str| -> [u8; 32] {
            BASE64.decode(report.data[name].as_str().unwrap()).unwrap().try_into().unwrap()
        };
        assert_eq!(ed25519_public(&raw("secret_b64")), raw("public_key_b64"));
    }
}
