//! Trust policies: which logs and witnesses count, and how many of the witnesses are enough (C2SP tlog-policy).
//!
//! ```text
//! log <vkey> [<url>]
//! witness <name> <vkey> [<url>]
//! group <name> <k|any|all> <member>...      members are defined above, each stands in one group only
//! quorum <name|none>                         exactly once
//! ```
//! L1: logs, witnesses and groups are bounded, and groups cannot be circular because names are defined before use.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::{NoteError, Signed, Verifier, Witness};

/// Longest policy read, bytes.
const POLICY_MAX: usize = 256 << 10;

/// Most logs, witnesses and groups: three times what the format recommends to support.
const ENTRIES_MAX: usize = 96;

/// A log that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownLog {
    /// Its key; the name is the log's origin.
    pub verifier: Verifier,
    /// Where it is, if the policy says so.
    pub url: Option<String>,
}

/// A witness that may count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownWitness {
    /// Its name within the policy.
    pub name: String,
    /// Its key.
    pub witness: Witness,
    /// Its submission prefix, if the policy says so.
    pub url: Option<String>,
}

/// A policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustPolicy {
    /// Logs that count; if there is none, the log's key is known from elsewhere.
    pub logs: Vec<KnownLog>,
    /// Witnesses, in the order of the file.
    pub witnesses: Vec<KnownWitness>,
    groups: Vec<Group>,
    quorum: Option<Member>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Witness(usize),
    Group(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    name: String,
    need: usize,
    members: Vec<Member>,
}

/// Why a policy was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong with it.
    pub why: &'static str,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(self.why),
            line => write!(f, "line {line}: {}", self.why),
        }
    }
}

impl core::error::Error for PolicyError {}

/// Who cosigned a checkpoint, and whether that is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Names of the witnesses that did, and their times in seconds since the Unix epoch.
    pub cosigned: Vec<(String, u64)>,
    /// How many witnesses the policy knows.
    pub known: usize,
    /// Whether the quorum is met.
    pub met: bool,
}

impl fmt::Display for Standing {
    /// `2/3`: cosigned of known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cosigned.len(), self.known)
    }
}

impl TrustPolicy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// [`PolicyError`] with the line.
    pub fn parse(text: &str) -> Result<TrustPolicy, PolicyError> {
        if text.len() > POLICY_MAX {
            return Err(PolicyError { line: 0, why: "the policy is longer than 256 KiB" });
        }
        if text.bytes().any(|byte| byte < 0x20 && byte != b'\t' && byte != b'\n' || byte == 0x7f) {
            return Err(PolicyError { line: 0, why: "the policy holds a control character" });
        }
        let mut policy =
            TrustPolicy { logs: Vec::new(), witnesses: Vec::new(), groups: Vec::new(), quorum: None };
        let mut quorum = false;
        let mut used = Vec::new();
        for (number, line) in text.split('\n').enumerate() {
            let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
            let wrong = |why| PolicyError { line: number + 1, why };
            match words.as_slice() {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                ["log", vkey, url @ ..] if url.len() <= 1 => policy.log(vkey, url).map_err(wrong)?,
                ["witness", name, vkey, url @ ..] if url.len() <= 1 => {
                    policy.witness(name, vkey, url).map_err(wrong)?;
                }
                ["group", name, need, members @ ..] => {
                    policy.group(name, need, members, &mut used).map_err(wrong)?;
                }
                ["quorum", _] if quorum => return Err(wrong("there is a quorum already")),
                ["quorum", "none"] => quorum = true,
                ["quorum", name] => {
                    quorum = true;
                    policy.quorum = Some(policy.find(name).ok_or(wrong("no such witness or group above"))?);
                }
                _ => return Err(wrong("not a log, witness, group or quorum line")),
            }
        }
        if !quorum {
            return Err(PolicyError { line: 0, why: "the policy has no quorum line" });
        }
        Ok(policy)
    }

    fn find(&self, name: &str) -> Option<Member> {
        let witness = self.witnesses.iter().position(|known| known.name == name).map(Member::Witness);
        witness.or_else(|| self.groups.iter().position(|group| group.name == name).map(Member::Group))
    }

    fn log(&mut self, vkey: &str, url: &[&str]) -> Result<(), &'static str> {
        let verifier = Verifier::parse(vkey).map_err(|_| "not the verifier key of a log")?;
        if self.logs.len() == ENTRIES_MAX {
            return Err("too many logs");
        }
        if self.logs.iter().any(|known| known.verifier == verifier) {
            return Err("this log stands above already");
        }
        self.logs.push(KnownLog { verifier, url: url.first().map(ToString::to_string) });
        Ok(())
    }

    fn witness(&mut self, name: &str, vkey: &str, url: &[&str]) -> Result<(), &'static str> {
        let witness =
            Witness::parse(vkey).map_err(|_| "not the verifier key of a witness (cosignature/v1)")?;
        if self.witnesses.len() == ENTRIES_MAX {
            return Err("too many witnesses");
        }
        if name == "none" || self.find(name).is_some() {
            return Err("this name is taken");
        }
        if self.witnesses.iter().any(|known| known.witness.key() == witness.key()) {
            return Err("a witness above has the same key");
        }
        let url = url.first().map(ToString::to_string);
        self.witnesses.push(KnownWitness { name: name.to_string(), witness, url });
        Ok(())
    }

    fn group(
        &mut self,
        name: &str,
        need: &str,
        members: &[&str],
        used: &mut Vec<Member>,
    ) -> Result<(), &'static str> {
        if self.groups.len() == ENTRIES_MAX {
            return Err("too many groups");
        }
        if name == "none" || self.find(name).is_some() {
            return Err("this name is taken");
        }
        let mut found = Vec::new();
        for member in members {
            let member = self.find(member).ok_or("a member is not defined above")?;
            if used.contains(&member) {
                return Err("a member stands in a group already");
            }
            used.push(member);
            found.push(member);
        }
        let need = match need {
            "any" => 1,
            "all" => found.len(),
            number => super::note::decimal(number).and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
        };
        if need == 0 || need > found.len() {
            return Err("a group needs at least one member, and from one to all of them");
        }
        self.groups.push(Group { name: name.to_string(), need, members: found });
        Ok(())
    }

    /// Who of the known witnesses cosigned this checkpoint, and whether that is enough. Lines of others are ignored.
    ///
    /// # Errors
    /// The name of a known witness with a line that does not verify: somebody forged it.
    pub fn standing(&self, signed: &Signed) -> Result<Standing, String> {
        let text = signed.checkpoint.text();
        let mut times: Vec<Option<u64>> = Vec::new();
        for known in &self.witnesses {
            let mut time = None;
            for line in signed.signatures.iter().filter(|line| known.witness.is_of(line)) {
                time = Some(known.witness.verify(&text, line).map_err(|_| known.name.clone())?);
            }
            times.push(time);
        }
        let met = self.quorum.is_none_or(|member| self.holds(member, &times));
        let cosigned = self.witnesses.iter().zip(&times);
        let cosigned = cosigned.filter_map(|(known, time)| Some((known.name.clone(), (*time)?))).collect();
        Ok(Standing { cosigned, known: self.witnesses.len(), met })
    }

    fn holds(&self, member: Member, times: &[Option<u64>]) -> bool {
        match member {
            Member::Witness(at) => times[at].is_some(),
            // Members were defined before their group, so this ends.
            Member::Group(at) => {
                let group = &self.groups[at];
                group.members.iter().filter(|member| self.holds(**member, times)).count() >= group.need
            }
        }
    }

    /// Whether one of the policy's logs signed, or, if it names none, whether that is for others to say.
    ///
    /// # Errors
    /// [`NoteError`] if the policy names logs and none of them signed.
    pub fn signed_by_a_log(&self, signed: &Signed) -> Result<(), NoteError> {
        if self.logs.is_empty() {
            return Ok(());
        }
        let of_this = |known: &&KnownLog| known.verifier.name() == signed.checkpoint.origin;
        let mut last = Err(NoteError::NotSigned);
        for known in self.logs.iter().filter(of_this) {
            match signed.verify(&known.verifier) {
                Ok(_) => return Ok(()),
                Err(error) => last = Err(error),
            }
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Checkpoint, Cosigner, Signer};
    use crate::tree::EMPTY_ROOT;
    use alloc::format;

    fn cosigner(n: u8) -> Cosigner {
        Cosigner::new(&format!("w{n}.example"), &[n; 32]).unwrap()
    }

    fn witness(n: u8) -> String {
        format!("witness W{n} {} http://w{n}.example\n", cosigner(n).witness().vkey())
    }

    fn signed(by: &[u8]) -> Signed {
        let signer = Signer::new("log.example/pcs/x", &[99; 32]).unwrap();
        let head = Checkpoint { origin: signer.name().into(), size: 5, root: EMPTY_ROOT };
        let mut signed = Signed::parse(&head.sign(&signer)).unwrap();
        let text = head.text();
        by.iter().for_each(|n| signed.signatures.push(cosigner(*n).cosign(&text, u64::from(*n))));
        signed
    }

    /// The example of the format: two of three here and any of two there.
    #[test]
    fn nested_groups_count_as_the_file_says() {
        let text = format!(
            "# two operators\n{}{}{}\t group X 2 W1 W2 W3\n{}{}group Y any W4 W5\n\ngroup Z all X Y\nquorum Z\n",
            witness(1),
            witness(2),
            witness(3),
            witness(4),
            witness(5)
        );
        let policy = TrustPolicy::parse(&text).unwrap();
        assert_eq!(policy.witnesses[0].url.as_deref(), Some("http://w1.example"));
        for (by, met) in [
            (&[][..], false),
            (&[1, 2], false),
            (&[1, 4], false),
            (&[1, 2, 4], true),
            (&[2, 3, 5], true),
            (&[4, 5, 1], false),
            (&[1, 2, 3, 4, 5], true),
        ] {
            let standing = policy.standing(&signed(by)).unwrap();
            assert_eq!((standing.met, standing.cosigned.len()), (met, by.len()), "{by:?}");
            assert_eq!(standing.to_string(), format!("{}/5", by.len()));
        }
        // The same witness twice is one witness.
        assert!(!policy.standing(&signed(&[1, 1, 4])).unwrap().met);
        // A stranger's line changes nothing; a forged line of a known witness is named.
        assert!(policy.standing(&signed(&[1, 2, 4, 77])).unwrap().met);
        let mut forged = signed(&[1, 2, 4]);
        forged.checkpoint.size += 1;
        assert_eq!(policy.standing(&forged), Err("W1".into()));
    }

    #[test]
    fn quorum_none_needs_nobody_and_logs_are_held_to() {
        let key = Signer::new("log.example/pcs/x", &[99; 32]).unwrap().verifier().vkey();
        let policy = TrustPolicy::parse(&format!("log {key}\nquorum none\n")).unwrap();
        assert!(policy.standing(&signed(&[])).unwrap().met);
        assert_eq!(policy.signed_by_a_log(&signed(&[])), Ok(()));
        let other = Signer::new("log.example/pcs/x", &[98; 32]).unwrap().verifier().vkey();
        let policy = TrustPolicy::parse(&format!("log {other}\nquorum none\n")).unwrap();
        assert_eq!(policy.signed_by_a_log(&signed(&[])), Err(NoteError::NotSigned));
        assert_eq!(TrustPolicy::parse("quorum none").unwrap().signed_by_a_log(&signed(&[])), Ok(()));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let (one, two) = (witness(1), witness(2));
        let same_key = one.replace("W1", "W9");
        for (text, line, why) in [
            (String::new(), 0, "no quorum"),
            (format!("{one}quorum W2"), 2, "no such"),
            (format!("{one}{one}quorum W1"), 2, "name is taken"),
            (format!("{one}{same_key}quorum W1"), 2, "same key"),
            (format!("{one}quorum W1\nquorum W1"), 3, "already"),
            (format!("{one}{two}group G 3 W1 W2\nquorum G"), 3, "from one to all"),
            (format!("{one}group G 0 W1\nquorum G"), 2, "from one to all"),
            (format!("{one}group G any\nquorum G"), 2, "from one to all"),
            (format!("{one}group G any W1\ngroup H any W1\nquorum G"), 3, "in a group already"),
            (format!("{one}group G any H\nquorum G"), 2, "not defined above"),
            ("witness none x\nquorum none".into(), 1, "verifier key"),
            ("log x\nquorum none".into(), 1, "verifier key of a log"),
            ("what\nquorum none".into(), 1, "not a log"),
            ("quorum none\r\n".into(), 0, "control character"),
        ] {
            let error = TrustPolicy::parse(&text).unwrap_err();
            assert_eq!(error.line, line, "{text:?}: {error}");
            assert!(error.why.contains(why), "{text:?}: {error}");
        }
    }
}
