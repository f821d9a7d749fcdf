//! What judging one submission costs: `cargo run --release -p engine --example judge_cost`.
//!
//! Prints the best of several rounds, in nanoseconds, with the parts a judgement is made of.

use std::hint::black_box;
use std::time::Instant;

use engine::event::{Envelope, KeyKind, KeySpec};
use engine::ids::{KeyId, TenantId};
use engine::summary::canonical::canonical_bytes;
use engine::summary::sign::{ed25519_public, sign_ed25519, sign_hmac};
use engine::summary::{
    Forms, Judged, KeyRing, Policy, Secrets, SignatureForm, fingerprint, judge, judge_presigned, parse,
    verdict,
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The test's secrets are their own sealed form.
struct Plain;

impl Secrets for Plain {
    fn hmac(&self, spec: &KeySpec) -> Option<zeroize::Zeroizing<Vec<u8>>> {
        match &spec.kind {
            KeyKind::HmacSealed(secret) => Some(secret.clone().into()),
            _ => None,
        }
    }
}

const SEED: [u8; 32] = [7; 32];
const SECRET: &[u8] = b"testsecret";

/// A body as the agent writes it, about 900 bytes, signed in a form.
fn body(form: SignatureForm) -> Vec<u8> {
    let root = "3f".repeat(32);
    let id = engine::summary::PcsId::derive(&root, 1, "test-shard");
    let unsigned = format!(
        r#"{{"pcs_id": "{id}", "schema": "fractal-lba-kakeya", "version": "0.1", "shard_id": "test-shard", "epoch": 1, "attempt": 1, "sent_at": "2024-05-01T12:00:00.123456Z", "seed": 42, "scales": [2, 4, 8, 16, 32], "N_j": {{"2": 3, "4": 5, "8": 9, "16": 17, "32": 31}}, "coh_star": 0.734567891, "v_star": [0.12345678901234567, -0.98765432109876543, 0.011739960602344248], "D_hat": 0.866733469, "r": 0.871234567, "regime": "sticky", "budget": 0.285543208, "merkle_root": "{root}", "ft": {{"outbox_seq": 0, "degraded": false, "fallbacks": [], "clock_skew_ms": 0}}, "note": "{}", "sig": ""}}"#,
        "x".repeat(60)
    );
    let pcs = parse(unsigned.as_bytes()).expect("the body is a summary");
    let sig = sign_hmac(form, &pcs.signed_fields(), SECRET)
        .or_else(|| sign_ed25519(form, &pcs.signed_fields(), &SEED))
        .expect("the form can sign it");
    unsigned.replace("\"sig\": \"\"", &format!("\"sig\": \"{sig}\"")).into_bytes()
}

fn spec(id: &str, kind: KeyKind) -> KeySpec {
    KeySpec {
        at_ms: 0,
        tenant: TenantId::new("demo").expect("a name"),
        key_id: KeyId::new(id).expect("a name"),
        kind,
        not_before_ms: 0,
        not_after_ms: u64::MAX,
    }
}

fn measure(what: &str, rounds: u32, mut work: impl FnMut()) {
    let mut best = f64::INFINITY;
    // Short slices: on a busy machine the best of many is the undisturbed one.
    for _ in 0..100 {
        let start = Instant::now();
        for _ in 0..rounds {
            work();
        }
        best = best.min(start.elapsed().as_secs_f64() / f64::from(rounds));
    }
    println!("{what:<44} {:>9.0} ns", best * 1e9);
}

fn main() {
    let policy = Policy::default_1_0_0();
    let ring = KeyRing::new(&[spec("h", KeyKind::HmacSealed(SECRET.to_vec()))], &Plain).expect("good keys");
    let public = KeyRing::public(&[spec("h", KeyKind::HmacSealed(Vec::new()))]).expect("good keys");
    let points =
        KeyRing::new(&[spec("e", KeyKind::Ed25519(ed25519_public(&SEED)))], &Plain).expect("good keys");
    let envelope = |form| Envelope {
        tenant: TenantId::new("demo").expect("a name"),
        received_at_ms: 1,
        salt: [0; 16],
        body: body(form),
    };

    let canonical = envelope(SignatureForm::Canonical);
    println!("body of {} bytes, best of 100 slices", canonical.body.len());
    measure("parse", 300, || drop(black_box(parse(black_box(&canonical.body)))));
    let value = || serde_json::from_slice::<serde::de::IgnoredAny>(black_box(&canonical.body));
    measure("reference: serde_json skips the body", 300, || drop(black_box(value())));
    let pcs = parse(&canonical.body).expect("a summary");
    let text = canonical_bytes(&pcs.signed_fields());
    let keyed = Hmac::<Sha256>::new_from_slice(SECRET).expect("HMAC takes any key");
    measure(&format!("reference: keyed HMAC of {} bytes", text.len()), 300, || {
        black_box(keyed.clone().chain_update(black_box(&text)).finalize());
    });
    measure("reference: BLAKE3 of as many", 300, || {
        black_box(blake3::hash(black_box(&text)));
    });
    measure("canonical bytes", 300, || drop(black_box(canonical_bytes(&pcs.signed_fields()))));
    measure("derive and compare the id", 300, || drop(black_box(verdict::structure(black_box(&pcs)))));
    measure("fingerprint", 300, || {
        black_box(fingerprint(black_box(&pcs)));
    });
    measure("verdict on the numbers", 300, || drop(black_box(verdict::numbers(black_box(&pcs), &policy))));

    for form in [
        SignatureForm::Canonical,
        SignatureForm::PythonAgent,
        SignatureForm::PythonSdk,
        SignatureForm::TsClient,
        SignatureForm::GoServer,
        SignatureForm::RustSdk,
    ] {
        let envelope = envelope(form);
        let pcs = parse(&envelope.body).expect("a summary");
        assert!(matches!(judge(&envelope, Some(&ring), &policy), Judged::Sound(_)));
        measure(&format!("check {}", form.name()), 300, || {
            let _ = black_box(ring.check(&pcs.signed_fields(), &pcs.sig, 1, Forms::ALL));
        });
        measure(&format!("judge {}", form.name()), 300, || {
            drop(black_box(judge(black_box(&envelope), Some(&ring), &policy)));
        });
    }
    let byte = judge(&canonical, Some(&ring), &policy).signature_byte();
    measure("judge presigned", 300, || {
        drop(black_box(judge_presigned(black_box(&canonical), byte, Some(&public), &policy)));
    });
    let wrong =
        KeyRing::new(&[spec("h", KeyKind::HmacSealed(b"other".to_vec()))], &Plain).expect("good keys");
    measure("judge a bad HMAC, all forms tried", 100, || {
        drop(black_box(judge(black_box(&canonical), Some(&wrong), &policy)));
    });
    let signed = envelope(SignatureForm::Ed25519Canonical);
    measure("judge Ed25519", 20, || drop(black_box(judge(black_box(&signed), Some(&points), &policy))));
    let stranger = [9; 32];
    let others =
        KeyRing::new(&[spec("e", KeyKind::Ed25519(ed25519_public(&stranger)))], &Plain).expect("good keys");
    measure("judge a bad Ed25519, all forms tried", 20, || {
        drop(black_box(judge(black_box(&signed), Some(&others), &policy)));
    });
}
