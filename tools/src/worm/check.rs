//! `worm check`: does a proof that somebody hands over hold, offline, with nothing but the log's public key?

use std::path::{Path, PathBuf};

use engine::checkpoint::Receipt;
use engine::leaf::{Leaf, What};
use engine::limits::LEAF_MAX;
use serde_json::{Value, json};

use crate::audit::home::read_vkey;
use crate::audit::keychain;
use crate::receipt::{proves, signers};
use crate::report::{Exit, Fault, Report, State};
use crate::ui::thousands;
use crate::worm::witnesses::{judge, read_policy};

/// Checks a proof or a receipt against a log's public key, offline
///
/// Exit codes: 0 it holds, 1 usage or input/output, 2 it does not hold, 4 it holds and the policy is not met.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A file from `worm prove`, `flk submit` or /v1/receipts/ID
    pub proof: PathBuf,
    /// The log's public key, or a file that holds its keys: keys/log.vkey of the node, or /tlog/REGION/vkey
    #[arg(long, value_name = "KEY")]
    pub vkey: String,
    /// A pack or another folder with statements about the log's keys, keys/N.tlog-proof: then any key of the chain will do
    #[arg(long, value_name = "DIR")]
    pub keys: Option<PathBuf>,
    /// Who has to have cosigned the checkpoint (C2SP tlog-policy): with fewer witnesses the exit code is 4
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// The entry that is to be proved [default: beside a proof the file .entry, else the entry in the receipt]
    #[arg(long, value_name = "FILE")]
    pub entry: Option<PathBuf>,
}

/// Longest proof file read, bytes: the receipt's own bound is below.
const PROOF_MAX: u64 = 1 << 20;

fn read(path: &Path, max: u64) -> Result<Vec<u8>, Fault> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| Fault::read(path, error))?;
    file.take(max + 1).read_to_end(&mut bytes).map_err(|error| Fault::read(path, error))?;
    if bytes.len() as u64 > max {
        return Err(Fault::read(path, format!("it is longer than {max} bytes")));
    }
    Ok(bytes)
}

/// The entry to prove: the file asked for, the one beside the proof, or what the receipt carries.
fn entry(args: &Args, receipt: &Receipt) -> Result<Vec<u8>, Fault> {
    let beside = args.proof.with_extension("entry");
    if let Some(path) = args.entry.as_ref().or_else(|| Some(&beside).filter(|path| path.is_file())) {
        return read(path, LEAF_MAX as u64);
    }
    let extra: Value =
        serde_json::from_slice(receipt.extra.as_deref().unwrap_or_default()).unwrap_or_default();
    extra["leaf"].as_str().map(|leaf| leaf.as_bytes().to_vec()).ok_or_else(|| {
        let why = "the proof carries none, and there is no file beside it";
        Fault::new("no entry to prove", args.proof.display(), why, "give --entry FILE")
    })
}

/// Checks the proof.
///
/// # Errors
/// Files that cannot be read. A proof that does not hold is a result.
pub fn run(args: &Args) -> Result<Report, Fault> {
    let mut verifier = read_vkey(&args.vkey)?;
    if let Some(dir) = &args.keys {
        let dir = if dir.ends_with("keys") { dir.parent().unwrap_or(dir) } else { dir };
        verifier = keychain::follow_in(&verifier, dir)?;
    }
    let policy = args.policy.as_deref().map(read_policy).transpose()?;
    let bytes = read(&args.proof, PROOF_MAX)?;
    let receipt = Receipt::parse(&bytes).map_err(|error| {
        let next = "fetch it again: curl URL/v1/receipts/ID, or worm prove DIR ID";
        Fault::new("this is no proof", args.proof.display(), error, next).exit(Exit::Tampered)
    })?;
    let entry = entry(args, &receipt)?;
    let mut report = Report::new("worm check");
    match proves(&receipt, &entry, Some(&verifier)) {
        Ok(signed) => {
            let judged = policy.as_ref().map(|policy| judge(policy, &signed));
            // It held a moment ago, when the proof was looked at.
            let held = verifier.verify(&signed).map_err(|error| Fault::read(&args.proof, error))?;
            let (silent, by) = (&held.silent, signers(&held));
            let (origin, size) = (&signed.checkpoint.origin, signed.checkpoint.size);
            if silent.is_empty() {
                report.check("checkpoint", State::Ok, format!("signed by {by}, key of {}", verifier.name()));
            } else {
                let why = "no ML-DSA-44 line: what stands in an answer has none, /v1/receipts/ID gives one that does";
                report.check(
                    "checkpoint",
                    State::Warn,
                    format!("signed by {by}, key of {}; {why}", verifier.name()),
                );
            }
            let detail = format!(
                "{} of {} under root {}",
                thousands(receipt.index),
                thousands(size),
                signed.checkpoint.root
            );
            report.check("entry", State::Ok, detail);
            report.data = json!({"seq": receipt.index, "size": size, "origin": origin,
                "root": signed.checkpoint.root.to_string(),
                "leaf": serde_json::from_slice::<Value>(&entry).unwrap_or(Value::Null)});
            report.lines.push(String::from_utf8_lossy(&entry).into_owned());
            let about = match Leaf::parse(&entry).map(|leaf| leaf.what) {
                Ok(What::Pcs(pcs)) => format!("summary {} of tenant {} stands", pcs.pcs_id, pcs.tenant),
                _ => "it stands".to_owned(),
            };
            report.verdict = format!("{about} in {origin} as entry {}", receipt.index);
            if let Some((state, exit, detail)) = judged {
                report.check("witnesses", state, detail);
                report.exit = exit;
                match exit {
                    Exit::Policy => {
                        report.verdict.push_str(", but fewer witnesses saw it than your policy asks for")
                    }
                    Exit::Tampered => {
                        report.verdict = "somebody forged a witness's signature on this proof".into()
                    }
                    _ => {}
                }
            }
        }
        Err(why) => {
            report.exit = Exit::Tampered;
            report.check("proof", State::Fail, why.clone());
            report.data = json!({"wrong": why});
            report.verdict = "this proves nothing about the log of this key".into();
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::home::HomeArgs;
    use crate::ui::Ui;
    use crate::world::World;
    use crate::worm::prove::{ProveArgs, prove};

    #[test]
    fn what_worm_prove_writes_holds_and_a_changed_byte_does_not() {
        let world = World::busy(20);
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("log")).unwrap();
        world.write_projections(folder.path());
        let out = folder.path().join("out");
        let home = HomeArgs::of(folder.path());
        prove(&ProveArgs { home, pcs_id: None, seq: Some(5), region: None, out: out.clone() }, Ui::quiet())
            .unwrap();
        let key = folder.path().join("keys/log.vkey").display().to_string();
        let args = Args { proof: out.join("5.tlog-proof"), vkey: key, keys: None, entry: None, policy: None };
        assert_eq!(run(&args).unwrap().exit, Exit::Ok);

        let entry = out.join("5.entry");
        let mut bytes = std::fs::read(&entry).unwrap();
        bytes[10] ^= 1;
        std::fs::write(&entry, &bytes).unwrap();
        assert_eq!(run(&args).unwrap().exit, Exit::Tampered);
        std::fs::remove_file(&entry).unwrap();
        assert_eq!(run(&args).unwrap_err().what, "no entry to prove");
        let stranger = engine::checkpoint::Signer::new("elsewhere", &[3; 32]).unwrap().verifier().vkey();
        bytes[10] ^= 1;
        std::fs::write(&entry, &bytes).unwrap();
        assert_eq!(run(&Args { vkey: stranger, ..args.clone() }).unwrap().exit, Exit::Tampered);
        std::fs::write(&args.proof, "x").unwrap();
        assert_eq!(run(&args).unwrap_err().exit, Exit::Tampered);
    }
}
