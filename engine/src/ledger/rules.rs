//! The policies of the region, by number: old ones are kept, so that old records can be judged again.

use alloc::vec::Vec;

use super::outcome::RefusedReason;
use crate::codec::{DecodeError, Reader, put16};
use crate::event::PolicySet;
use crate::limits::{POLICIES_MAX, POLICY_BYTES_MAX};
use crate::log::Digest;
use crate::summary::Policy;

/// A policy and what leaves say about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// When it was first set, log time in milliseconds; 0 for the one every log starts with.
    pub at_ms: u64,
    /// The numbers.
    pub policy: Policy,
    /// Hash of version and numbers.
    pub hash: Digest,
    /// Hash of everything a verdict depends on.
    pub params_hash: Digest,
}

/// All policies and the one that counts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rules {
    all: Vec<Rule>,
    current: u16,
    /// Over the encoding, kept as it changes: every record's digest needs it.
    digest: Digest,
}

impl Rules {
    /// Every log starts with policy 1.0.0 as number 0.
    pub(super) fn new() -> Rules {
        Rules::of(alloc::vec![Rule::new(0, Policy::default_1_0_0())], 0)
    }

    pub(super) fn get(&self, number: u16) -> Option<&Rule> {
        self.all.get(usize::from(number))
    }

    pub(super) fn current(&self) -> (u16, &Rule) {
        (self.current, &self.all[usize::from(self.current)])
    }

    pub(super) fn find(&self, version: &str) -> Option<(u16, &Rule)> {
        let number = self.all.iter().position(|rule| rule.policy.version == version)?;
        Some((number as u16, &self.all[number]))
    }

    /// The longest time any key may matter, milliseconds.
    pub(super) fn ttl_max_ms(&self) -> u64 {
        self.all.iter().map(|rule| rule.policy.dedup_ttl_ms).max().expect("there is always a policy")
    }

    /// Whether a policy may take effect.
    pub(super) fn check(&self, policy: &Policy) -> Result<(), RefusedReason> {
        policy.validate().map_err(|_| RefusedReason::InvalidPolicy)?;
        match self.find(&policy.version) {
            Some((_, rule)) if rule.policy == *policy => Ok(()),
            Some(_) => Err(RefusedReason::PolicyVersionTaken),
            None if self.all.len() < POLICIES_MAX => Ok(()),
            None => Err(RefusedReason::TooManyPolicies),
        }
    }

    /// Makes a policy that [`Rules::check`] let pass the one that counts; one that exists already comes back
    /// under its old number.
    pub(super) fn set(&mut self, set: &PolicySet) {
        self.current = match self.find(&set.policy.version) {
            Some((number, _)) => number,
            None => {
                self.all.push(Rule::new(set.at_ms, set.policy.clone()));
                (self.all.len() - 1) as u16
            }
        };
        self.digest = self.hash();
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.current.to_le_bytes());
        out.extend_from_slice(&(self.all.len() as u16).to_le_bytes());
        for rule in &self.all {
            out.extend_from_slice(&rule.at_ms.to_le_bytes());
            let mut bytes = Vec::new();
            rule.policy.encode(&mut bytes);
            put16(out, &bytes);
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Rules, DecodeError> {
        let current = reader.u16("current policy")?;
        let count = reader.u16("policies")?;
        if usize::from(count) > POLICIES_MAX || current >= count {
            return Err(DecodeError::OutOfBounds("policies"));
        }
        let mut all = Vec::with_capacity(usize::from(count).min(64));
        for _ in 0..count {
            let at_ms = reader.u64("policy time")?;
            all.push(Rule::new(at_ms, Policy::decode(reader.bytes16(POLICY_BYTES_MAX, "policy")?)?));
        }
        Ok(Rules::of(all, current))
    }

    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    fn of(all: Vec<Rule>, current: u16) -> Rules {
        let mut rules = Rules { all, current, digest: Digest::ZERO };
        rules.digest = rules.hash();
        rules
    }

    fn hash(&self) -> Digest {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        Digest(*blake3::hash(&bytes).as_bytes())
    }
}

impl Rule {
    fn new(at_ms: u64, policy: Policy) -> Rule {
        Rule { at_ms, hash: policy.hash(), params_hash: policy.params_hash(), policy }
    }
}
