//! Do enough witnesses stand behind this log? A trust policy (C2SP tlog-policy) held against the cosignatures in the log.

use std::collections::BTreeMap;
use std::path::Path;

use engine::checkpoint::{NoteSignature, Signed, TrustPolicy};
use engine::event::{AnchorKind, Anchored};

use crate::report::{Exit, Fault, State};
use crate::ui::thousands;

/// Cosigned checkpoints that are kept, the newest.
const KEPT: usize = 64;

/// Longest policy file read, bytes.
const POLICY_MAX: u64 = 256 << 10;

/// Reads a policy file.
///
/// # Errors
/// The file cannot be read, or is no policy.
pub fn read_policy(path: &Path) -> Result<TrustPolicy, Fault> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| Fault::read(path, error))?;
    file.take(POLICY_MAX + 1).read_to_string(&mut text).map_err(|error| Fault::read(path, error))?;
    TrustPolicy::parse(&text).map_err(|error| {
        Fault::new("this is no trust policy", path.display(), error, "its form is that of C2SP tlog-policy")
    })
}

/// Holds one checkpoint, with the lines that came with it, against a policy.
#[must_use]
pub fn judge(policy: &TrustPolicy, signed: &Signed) -> (State, Exit, String) {
    let size = thousands(signed.checkpoint.size);
    if let Err(error) = policy.signed_by_a_log(signed) {
        return (State::Fail, Exit::Tampered, format!("over {size} entries: of the policy's logs, {error}"));
    }
    match policy.standing(signed) {
        Err(forged) => {
            let why = format!("over {size} entries: the cosignature of {forged} does not verify");
            (State::Fail, Exit::Tampered, why)
        }
        Ok(standing) => {
            let names: Vec<&str> = standing.cosigned.iter().map(|(name, _)| name.as_str()).collect();
            let who = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
            let latest = standing.cosigned.iter().map(|(_, time)| *time).max();
            let latest = latest.and_then(|time| jiff::Timestamp::from_second(i64::try_from(time).ok()?).ok());
            let when = latest.map_or_else(String::new, |time| format!(", the last at {time}"));
            let text = format!("{standing} on {size} entries ({who}{when})");
            match standing.met {
                true => (State::Ok, Exit::Ok, format!("{text}: the policy is met")),
                false => (State::Fail, Exit::Policy, format!("{text}: the policy is NOT met")),
            }
        }
    }
}

/// Cosignatures as they come out of a log.
#[derive(Default)]
pub struct Witnesses {
    policy: Option<TrustPolicy>,
    cosigned: BTreeMap<u64, Signed>,
}

impl Witnesses {
    /// Gathers for this policy, if there is one.
    #[must_use]
    pub fn new(policy: Option<TrustPolicy>) -> Witnesses {
        Witnesses { policy, cosigned: BTreeMap::new() }
    }

    /// An attestation of a checkpoint that agrees.
    pub fn add(&mut self, anchored: &Anchored, signed: &Signed) {
        let line = std::str::from_utf8(&anchored.evidence).ok().and_then(|line| line.strip_suffix('\n'));
        let (AnchorKind::Cosignature, true, Some(line)) =
            (anchored.kind, self.policy.is_some(), line.and_then(NoteSignature::parse))
        else {
            return;
        };
        let size = signed.checkpoint.size;
        self.cosigned.entry(size).or_insert_with(|| signed.clone()).signatures.push(line);
        if self.cosigned.len() > KEPT {
            self.cosigned.pop_first();
        }
    }

    /// What the policy says: of the newest checkpoint that meets it, or else of the newest that anybody cosigned. Of
    /// `leaves` entries in all.
    #[must_use]
    pub fn judge(&self, leaves: u64) -> Option<(State, Exit, String)> {
        let policy = self.policy.as_ref()?;
        let judged: Vec<_> = self.cosigned.values().rev().map(|signed| judge(policy, signed)).collect();
        let forged = judged.iter().find(|(_, exit, _)| *exit == Exit::Tampered);
        let met = judged.iter().find(|(_, exit, _)| *exit == Exit::Ok);
        let of = |(state, exit, text): &(State, Exit, String)| {
            (*state, *exit, format!("{text}; the log holds {}", thousands(leaves)))
        };
        let best = forged.or(met).or(judged.first()).map(of);
        Some(best.unwrap_or_else(|| {
            let text = format!("witnesses 0/{}: no cosignature in this log", policy.witnesses.len());
            (State::Fail, Exit::Policy, text)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::checkpoint::{Checkpoint, Cosigner, Signer};
    use engine::tree::EMPTY_ROOT;

    fn anchored(by: u8, size: u64, bend: bool) -> (Anchored, Signed) {
        let signer = Signer::new("log/x", &[9; 32]).unwrap();
        let head = Checkpoint { origin: "log/x".into(), size, root: EMPTY_ROOT };
        let note = head.sign(&signer);
        let mut line = Cosigner::new(&format!("w{by}"), &[by; 32]).unwrap().cosign(&head.text(), 1000);
        line.signature[20] ^= u8::from(bend);
        let signed = Signed::parse(&note).unwrap();
        let (kind, evidence) = (AnchorKind::Cosignature, line.line().into_bytes());
        (Anchored { at_ms: 1, kind, target: format!("w{by}"), note, evidence }, signed)
    }

    #[test]
    fn the_newest_checkpoint_that_meets_the_policy_counts_and_a_forgery_is_never_passed_over() {
        let vkey = |n: u8| Cosigner::new(&format!("w{n}"), &[n; 32]).unwrap().witness().vkey();
        let text = format!("witness A {}\nwitness B {}\ngroup G 2 A B\nquorum G\n", vkey(1), vkey(2));
        let mut witnesses = Witnesses::new(Some(TrustPolicy::parse(&text).unwrap()));
        let exit = |witnesses: &Witnesses| witnesses.judge(9).map(|(_, exit, text)| (exit, text));
        let add = |witnesses: &mut Witnesses, by, size, bend| {
            let (event, signed) = anchored(by, size, bend);
            witnesses.add(&event, &signed);
        };
        assert_eq!(exit(&witnesses).unwrap().0, Exit::Policy);
        add(&mut witnesses, 1, 5, false);
        assert!(matches!(exit(&witnesses), Some((Exit::Policy, text)) if text.contains("1/2 on 5")));
        add(&mut witnesses, 2, 5, false);
        add(&mut witnesses, 1, 7, false);
        assert!(matches!(exit(&witnesses), Some((Exit::Ok, text)) if text.contains("2/2 on 5")));
        add(&mut witnesses, 2, 8, true);
        assert!(
            matches!(exit(&witnesses), Some((Exit::Tampered, text)) if text.contains("of B does not verify"))
        );
        assert_eq!(Witnesses::new(None).judge(9), None);
    }
}
