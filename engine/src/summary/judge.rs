//! Judging one submission, and judging many with their hashes made together.

use alloc::vec::Vec;

use super::{
    Judged, KeyRing, Pcs, Policy, Regime, Signals, Signed, Sound, Unsigned, Unsound, fingerprint, parse,
    verdict,
};
use crate::event::Envelope;
use crate::lanes::{self, Message};
use crate::ledger::First;
use crate::log::Digest;

/// Judges a submission with the tenant's keys. The log time decides which keys count, the policy which
/// signature forms do.
#[must_use]
pub fn judge(envelope: &Envelope, keys: Option<&KeyRing>, policy: &Policy) -> Judged {
    judge_one(&Case { envelope, keys, attested: None }, policy)
}

/// Judges a submission without HMAC secrets. What needs a secret is taken from `byte`, which an `Attested`
/// event says of this submission; everything else, Ed25519 signatures too, is checked again.
#[must_use]
pub fn judge_presigned(envelope: &Envelope, byte: u8, keys: Option<&KeyRing>, policy: &Policy) -> Judged {
    judge_one(&Case { envelope, keys, attested: Some(byte) }, policy)
}

/// A submission to judge.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// It.
    pub envelope: &'a Envelope,
    /// Its tenant's keys.
    pub keys: Option<&'a KeyRing>,
    /// Where secrets are not at hand, what an `Attested` event says of it: see [`judge_presigned`].
    pub attested: Option<u8>,
}

fn judge_one(case: &Case<'_>, policy: &Policy) -> Judged {
    let mut covered = Vec::with_capacity(640);
    let mut judged = draft(case, policy, &mut covered);
    if let Judged::Sound(sound) = &mut judged {
        sound.key = First::key_of(&case.envelope.tenant, &sound.id.0);
        sound.commitment = case.envelope.commitment();
        sound.fingerprint.digest = fingerprint::digest(&covered);
    }
    judged
}

/// Judges many submissions: what [`judge`] and [`judge_presigned`] give of each, in less time, because what is hashed of
/// them is hashed together.
#[must_use]
pub fn judge_many(cases: &[Case<'_>], policy: &Policy) -> Vec<Judged> {
    let mut covered = Vec::with_capacity(640 * cases.len());
    let mut begins = Vec::with_capacity(cases.len() + 1);
    let mut judged = Vec::with_capacity(cases.len());
    for case in cases {
        begins.push(covered.len());
        judged.push(draft(case, policy, &mut covered));
    }
    begins.push(covered.len());
    let sound = |judged: &'_ Judged| if let Judged::Sound(sound) = judged { Some(sound.id) } else { None };
    let heads: Vec<_> = cases.iter().map(|case| First::key_head(&case.envelope.tenant)).collect();
    let ids: Vec<_> = judged.iter().map(sound).collect();
    let mut messages: Vec<Message<'_>> = Vec::with_capacity(3 * cases.len());
    for (nth, case) in cases.iter().enumerate() {
        let Some(id) = &ids[nth] else { continue };
        let (head, length) = &heads[nth];
        messages.push([&head[..*length], &id.0, &[]]);
        messages.push([&case.envelope.salt, &case.envelope.body, &[]]);
        messages.push([&covered[begins[nth]..begins[nth + 1]], &[], &[]]);
    }
    let hashes = lanes::sha256(&messages);
    let (hashes, _) = hashes.as_chunks::<3>();
    let sound = judged.iter_mut().filter_map(|judged| match judged {
        Judged::Sound(sound) => Some(sound),
        _ => None,
    });
    for (sound, [key, commitment, fingerprint]) in sound.zip(hashes) {
        sound.key = key.0;
        sound.commitment = *commitment;
        sound.fingerprint.digest = fingerprint::short(fingerprint);
    }
    judged
}

/// Judges a submission but for three hashes of a sound one: key, commitment, and the fingerprint's digest, which
/// is one of what is appended to `covered`.
fn draft(case: &Case<'_>, policy: &Policy, covered: &mut Vec<u8>) -> Judged {
    let pcs = match parse(&case.envelope.body) {
        Ok(pcs) => pcs,
        Err(error) => return Judged::Malformed(error),
    };
    let signed = match case.keys.map(|keys| check(case, keys, &pcs, policy)) {
        Some(Ok(signed)) => signed,
        Some(Err(Unsigned::NoKey)) | None => return Judged::NoKey,
        Some(Err(unsigned)) => return Judged::BadSignature(unsigned),
    };
    match verdict::structure(&pcs) {
        Ok(id) => Judged::Sound(Sound {
            id,
            key: [0; 32],
            commitment: Digest::ZERO,
            signed,
            fingerprint: fingerprint::draft(&pcs, covered),
            verdict: verdict::numbers(&pcs, policy),
            signals: Signals {
                d_hat: pcs.d_hat,
                coh_star: pcs.coh_star,
                r: pcs.r,
                budget: pcs.budget,
                regime: Regime::of(pcs.d_hat, pcs.coh_star, policy),
            },
            written: None,
        }),
        Err(verdict) => Judged::Structure(Unsound { signed, verdict }),
    }
}

fn check(case: &Case<'_>, keys: &KeyRing, pcs: &Pcs<'_>, policy: &Policy) -> Result<Signed, Unsigned> {
    let (fields, now_ms) = (pcs.signed_fields(), case.envelope.received_at_ms);
    match case.attested {
        None => keys.check(&fields, &pcs.sig, now_ms, policy.forms),
        Some(byte) => keys.check_presigned(&fields, &pcs.sig, now_ms, policy.forms, byte),
    }
}
