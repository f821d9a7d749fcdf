//! `flk sign`: puts a signature into a summary, and shows exactly which bytes it covers.

use std::io::Read;
use std::path::{Path, PathBuf};

use engine::codec::hex;
use engine::limits::BODY_MAX;
use engine::summary::canonical::canonical_bytes;
use engine::summary::{Pcs, PcsId, parse};
use serde_json::json;

use crate::keys::{Key, KeyArgs};
use crate::object::Object;
use crate::report::{Fault, Report, Table};

/// Signs a summary, or shows the bytes that a signature covers
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The summary, one JSON object; - for standard input
    pub file: PathBuf,
    /// Show the canonical bytes and their SHA-256 instead of the signed summary; needs no key
    #[arg(long)]
    pub show_bytes: bool,
    #[command(flatten)]
    /// The key.
    pub key: KeyArgs,
}

/// Reads a summary's bytes, at most as many as a server takes.
///
/// # Errors
/// The file cannot be read or is too long.
pub fn read_body(path: &Path) -> Result<Vec<u8>, Fault> {
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(|error| Fault::read(path, error))?)
    };
    let mut bytes = Vec::new();
    source.take(BODY_MAX as u64 + 1).read_to_end(&mut bytes).map_err(|error| Fault::read(path, error))?;
    if bytes.len() > BODY_MAX {
        return Err(Fault::new(
            "too long for a summary",
            path.display(),
            format!("a body is at most {BODY_MAX} bytes"),
            "send several summaries one a line to /v1/pcs/batch",
        ));
    }
    Ok(bytes)
}

/// Reads a summary's fields.
///
/// # Errors
/// The bytes are no summary; the fault says at which byte.
pub fn read_fields<'a>(path: &Path, body: &'a [u8]) -> Result<Pcs<'a>, Fault> {
    parse(body).map_err(|error| {
        Fault::new(
            "this is no summary",
            path.display(),
            error,
            "compare it with the fields in docs/FORMAT.md",
        )
    })
}

/// The summary with a signature over its fields, on one line.
///
/// # Errors
/// The text is not one JSON object.
pub fn signed(path: &Path, body: &[u8], key: &Key) -> Result<String, Fault> {
    let pcs = read_fields(path, body)?;
    let signature = key.sign(&pcs.signed_fields());
    let put = || {
        let mut object = Object::parse(body)?;
        object.set_text("sig", &signature)?;
        object.text()
    };
    put().map_err(|error| {
        Fault::new("cannot add a signature", path.display(), error, "write the summary as one JSON object")
    })
}

/// One signed field: its name, how the file writes it, and how the signed bytes write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedField {
    /// Name.
    pub name: &'static str,
    /// As in the file.
    pub written: String,
    /// As signed.
    pub signed: String,
}

/// The signed fields in the order in which they are signed.
#[must_use]
pub fn fields(body: &[u8], canonical: &[u8]) -> Vec<SignedField> {
    let written = Object::parse(body).ok();
    let signed = Object::parse(canonical).ok();
    let value = |object: &Option<Object>, name: &str| {
        object.as_ref().and_then(|object| object.get(name)).unwrap_or("(absent)").to_owned()
    };
    ["D_hat", "budget", "coh_star", "epoch", "merkle_root", "pcs_id", "r", "shard_id"]
        .map(|name| SignedField { name, written: value(&written, name), signed: value(&signed, name) })
        .to_vec()
}

/// What the reader should know about one field.
#[must_use]
pub fn remark(field: &SignedField) -> &'static str {
    let number = matches!(field.name, "D_hat" | "budget" | "coh_star" | "r");
    match (field.written == field.signed, number) {
        (true, _) => "",
        (false, true) => "signed with nine decimals",
        (false, false) => "signed in this spelling",
    }
}

/// Signs, or shows.
///
/// # Errors
/// The file is no summary, or there is no key.
pub fn run(args: &Args) -> Result<Report, Fault> {
    let body = read_body(&args.file)?;
    let pcs = read_fields(&args.file, &body)?;
    let mut report = Report::new("flk sign");
    let derived = PcsId::derive(&pcs.merkle_root, pcs.epoch, &pcs.shard_id);
    if !derived.is_written(&pcs.pcs_id) {
        return Err(Fault::new(
            "the summary's pcs_id does not belong to it",
            args.file.display(),
            format!("from merkle_root|epoch|shard_id follows {derived}"),
            format!("set \"pcs_id\":\"{derived}\""),
        ));
    }
    let canonical = canonical_bytes(&pcs.signed_fields());
    if args.show_bytes {
        use sha2::{Digest, Sha256};
        let text = String::from_utf8_lossy(&canonical).into_owned();
        let digest = hex(&Sha256::digest(&canonical));
        report.lines = vec![
            format!("bytes   {text}"),
            format!("length  {}", canonical.len()),
            format!("sha256  {digest}"),
        ];
        let fields = fields(&body, &canonical);
        report.table = Some(Table {
            headings: vec!["FIELD", "IN THE FILE", "AS SIGNED", ""],
            rows: fields
                .iter()
                .map(|field| {
                    vec![
                        field.name.to_owned(),
                        field.written.clone(),
                        field.signed.clone(),
                        remark(field).to_owned(),
                    ]
                })
                .collect(),
        });
        report.verdict = "HMAC-SHA256 covers the bytes, Ed25519 their SHA-256".into();
        report.data = json!({"bytes": text, "sha256": digest});
        return Ok(report);
    }
    let line = signed(&args.file, &body, &args.key.need()?)?;
    report.data = serde_json::from_str(&line).unwrap_or_default();
    report.lines.push(line);
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Format, render};

    fn summary(sig: &str) -> String {
        let root = "a".repeat(64);
        let id = PcsId::derive(&root, 1, "shard-001");
        format!(
            "{{\"pcs_id\":\"{id}\",\"merkle_root\":\"{root}\",\"epoch\":1,\"shard_id\":\"shard-001\",\
             \"D_hat\":1.41, \"coh_star\":0.73,\"r\":1,\"budget\":0.42{sig}}}"
        )
    }

    fn args(folder: &Path, text: &str, show_bytes: bool) -> Args {
        let file = folder.join("pcs.json");
        std::fs::write(&file, text).unwrap();
        let secret = folder.join("key");
        std::fs::write(&secret, "testsecret").unwrap();
        Args { file, show_bytes, key: KeyArgs { hmac_key: Some(secret), ed25519_key: None } }
    }

    #[test]
    fn the_bytes_are_shown_with_what_differs() {
        let folder = tempfile::tempdir().unwrap();
        let report = run(&args(folder.path(), &summary(""), true)).unwrap();
        let text = render(&report, Format::Text, false);
        assert!(
            text.starts_with(
                "bytes   {\"D_hat\":1.410000000,\"budget\":0.420000000,\"coh_star\":0.730000000,\"epoch\":1,"
            ),
            "{text}"
        );
        let row = |name: &str| {
            report.table.as_ref().unwrap().rows.iter().find(|row| row[0] == name).unwrap().clone()
        };
        assert_eq!(row("r"), ["r", "1", "1.000000000", "signed with nine decimals"]);
        assert_eq!(row("epoch")[3], "");
    }

    #[test]
    fn an_old_signature_is_replaced_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let fresh = run(&args(folder.path(), &summary(""), false)).unwrap().lines;
        let again = run(&args(folder.path(), &summary(",\"sig\":\"old\""), false)).unwrap().lines;
        assert_eq!(fresh, again);
        assert!(fresh[0].contains("\"r\":1,"), "the spelling of the file stays: {}", fresh[0]);
        let pcs = parse(fresh[0].as_bytes()).unwrap();
        let key = Key::Hmac(b"testsecret".to_vec().into());
        assert_eq!(pcs.sig, key.sign(&pcs.signed_fields()));
    }

    #[test]
    fn a_foreign_id_is_refused_with_the_right_one() {
        let folder = tempfile::tempdir().unwrap();
        let text = summary("").replace("shard-001", "shard-002");
        let fault = run(&args(folder.path(), &text, true)).unwrap_err();
        assert!(fault.next.starts_with("set \"pcs_id\":\""), "{fault:?}");
        let fault = run(&args(folder.path(), "{\"r\":\"x\"}", true)).unwrap_err();
        assert_eq!(fault.what, "this is no summary");
    }
}
