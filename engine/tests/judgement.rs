//! A whole submission, judged: the order of the checks, and that an auditor without secrets says the same.

use engine::event::{Envelope, KeyKind, KeySpec};
use engine::ids::{KeyId, TenantId};
use engine::summary::sign::{ed25519_public, sign_ed25519, sign_hmac};
use engine::summary::{
    Case, Forms, Judged, KeyRing, ParseError, PcsId, Policy, ReasonCode, Secrets, SignatureForm, Unsigned,
    judge, judge_many, judge_presigned, parse,
};
use proptest::prelude::*;

const SEED: [u8; 32] = [7; 32];

struct Plain;

impl Secrets for Plain {
    fn hmac(&self, spec: &KeySpec) -> Option<zeroize::Zeroizing<Vec<u8>>> {
        match &spec.kind {
            KeyKind::HmacSealed(secret) => Some(secret.clone().into()),
            _ => None,
        }
    }
}

fn spec(id: &str, kind: KeyKind, window: (u64, u64)) -> KeySpec {
    KeySpec {
        at_ms: 0,
        tenant: TenantId::new("demo").unwrap(),
        key_id: KeyId::new(id).unwrap(),
        kind,
        not_before_ms: window.0,
        not_after_ms: window.1,
    }
}

fn specs() -> Vec<KeySpec> {
    vec![
        spec("b", KeyKind::HmacSealed(b"old".to_vec()), (0, 200)),
        spec("a", KeyKind::HmacSealed(b"new".to_vec()), (100, 300)),
        spec("c", KeyKind::Ed25519(ed25519_public(&SEED)), (100, 300)),
    ]
}

fn envelope(body: impl Into<Vec<u8>>, at: u64) -> Envelope {
    Envelope { tenant: TenantId::new("demo").unwrap(), received_at_ms: at, salt: [0; 16], body: body.into() }
}

fn unsigned_body() -> String {
    let root = "a".repeat(64);
    let id = PcsId::derive(&root, 1, "test-shard");
    format!(
        r#"{{"pcs_id":"{id}","schema":"fractal-lba-kakeya","version":"0.1","shard_id":"test-shard","epoch":1,"scales":[2,4,8,16,32],"N_j":{{"2":3,"4":5,"8":9,"16":17,"32":31}},"coh_star":0.73,"D_hat":0.87,"r":0.87,"regime":"sticky","budget":0.285,"merkle_root":"{root}","sig":""}}"#
    )
}

fn signed(body: &str, form: SignatureForm, secret: &[u8]) -> String {
    let pcs = parse(body.as_bytes()).unwrap();
    let sig = sign_hmac(form, &pcs.signed_fields(), secret)
        .or_else(|| sign_ed25519(form, &pcs.signed_fields(), &SEED))
        .unwrap();
    body.replace("\"sig\":\"\"", &format!("\"sig\":\"{sig}\""))
}

fn ring() -> KeyRing {
    KeyRing::new(&specs(), &Plain).unwrap()
}

fn judged(body: &str, at: u64) -> Judged {
    judge(&envelope(body, at), Some(&ring()), &Policy::default_1_0_0())
}

#[test]
fn parsing_comes_before_keys_keys_before_the_signature_and_that_before_structure() {
    let good = signed(&unsigned_body(), SignatureForm::PythonAgent, b"new");
    assert!(matches!(judged("[]", 150), Judged::Malformed(ParseError::NotAnObject)));
    assert_eq!(judged("{}", 400), Judged::NoKey);
    assert_eq!(judged("{}", 150), Judged::BadSignature(Unsigned::Missing));
    assert_eq!(judged(&unsigned_body(), 150), Judged::BadSignature(Unsigned::Missing));
    assert_eq!(judged(&good.replace("0.87", "0.88"), 150), Judged::BadSignature(Unsigned::NoMatch));
    assert_eq!(judged(&good, 99), Judged::BadSignature(Unsigned::NoMatch));
    assert_eq!(judge(&envelope(&*good, 1), None, &Policy::default_1_0_0()), Judged::NoKey);

    let Judged::Sound(sound) = judged(&good, 150) else { panic!("it is sound") };
    assert_eq!((sound.signed.form, sound.signed.key_id.as_str()), (SignatureForm::PythonAgent, "a"));
    assert!(sound.verdict.is_clean());

    // Signed well, but nobody's id: answered, never indexed.
    let forged = unsigned_body().replace("\"epoch\":1", "\"epoch\":2");
    let judged = judged(&signed(&forged, SignatureForm::GoSdk, b"new"), 150);
    let Judged::Structure(unsound) = &judged else { panic!("its id is not derived") };
    assert_eq!(unsound.verdict.code, ReasonCode::PcsIdMismatch);
    assert_eq!(
        judged.signature_byte() & 31,
        SignatureForm::PythonSdk.code(),
        "the lowest form of equal bytes"
    );
}

#[test]
fn what_lossy_forms_blur_never_becomes_sound() {
    let long = "s".repeat(40);
    let root = "a".repeat(64);
    let id = PcsId::derive(&root, 1, &long);
    let body = unsigned_body()
        .replace("test-shard", &long)
        .replace(&PcsId::derive(&root, 1, "test-shard").to_string(), &id.to_string());
    let good = signed(&body, SignatureForm::RustSdk, b"new");
    assert!(matches!(judged(&good, 150), Judged::Sound(_)));
    // The struct holds 32 bytes of the shard, so the signature still matches; the id does not.
    let blurred = good.replace(&long, &("s".repeat(39) + "t"));
    assert!(matches!(judged(&blurred, 150), Judged::Structure(_)));

    let huge = 9_007_199_254_740_993_i64;
    let id = PcsId::derive(&root, huge, "test-shard");
    let body = unsigned_body()
        .replace("\"epoch\":1", &format!("\"epoch\":{huge}"))
        .replace(&PcsId::derive(&root, 1, "test-shard").to_string(), &id.to_string());
    let good = signed(&body, SignatureForm::TsClient, b"new");
    assert!(matches!(judged(&good, 150), Judged::Sound(_)));
    assert!(matches!(judged(&good.replace("740993", "740992"), 150), Judged::Structure(_)));
}

#[test]
fn a_policy_switches_forms_off() {
    let body = signed(&unsigned_body(), SignatureForm::RustSdk, b"new");
    let policy = Policy { forms: Forms::ALL.without(SignatureForm::RustSdk), ..Policy::default_1_0_0() };
    let judged = judge(&envelope(body, 150), Some(&ring()), &policy);
    assert_eq!(judged, Judged::BadSignature(Unsigned::NoMatch));
}

#[test]
fn an_unsigned_tenant_still_learns_which_key_signed() {
    let mut specs = specs();
    specs.push(spec("dev", KeyKind::Unsigned, (0, u64::MAX)));
    let ring = KeyRing::new(&specs, &Plain).unwrap();
    let by = |body: &str| match judge(&envelope(body, 150), Some(&ring), &Policy::default_1_0_0()) {
        Judged::Sound(sound) => (sound.signed.form, sound.signed.key_id.to_string()),
        other => panic!("{other:?}"),
    };
    let good = signed(&unsigned_body(), SignatureForm::Canonical, b"new");
    assert_eq!(by(&good), (SignatureForm::Canonical, "a".to_string()));
    assert_eq!(by(&unsigned_body()), (SignatureForm::Unsigned, "dev".to_string()));
    assert_eq!(
        by(&good.replace("\"D_hat\":0.87", "\"D_hat\":0.86")),
        (SignatureForm::Unsigned, "dev".to_string())
    );
}

#[test]
fn an_attested_byte_that_no_check_could_give_convinces_nobody() {
    let body = signed(&unsigned_body(), SignatureForm::Canonical, b"new");
    let public = KeyRing::public(&specs()).unwrap();
    let policy = Policy { forms: Forms::ALL.without(SignatureForm::GoSdk), ..Policy::default_1_0_0() };
    for byte in 0..=255 {
        let found = judge_presigned(&envelope(&*body, 150), byte, Some(&public), &policy);
        let form = SignatureForm::from_code(byte & 31);
        let hmac_key = matches!(byte >> 5, 0 | 1);
        let possible = hmac_key && form.is_some_and(|form| form.code() < 16 && form != SignatureForm::GoSdk);
        assert_eq!(found.signature_byte(), if possible { byte } else { 0 }, "{byte}");
    }
    // An Ed25519 signature is checked again, whatever the byte says.
    let body = signed(&unsigned_body(), SignatureForm::Ed25519PythonAgent, b"");
    for byte in [0, 1, 17, 255] {
        let found = judge_presigned(&envelope(&*body, 150), byte, Some(&public), &policy);
        assert_eq!(found.signature_byte(), SignatureForm::Ed25519PythonAgent.code() | 2 << 5);
    }
}

fn bodies() -> impl Strategy<Value = String> {
    let whole =
        (0..SignatureForm::ALL.len() - 1, any::<bool>(), 0..6_usize).prop_map(|(form, new, damage)| {
            let body = match damage {
                0 => unsigned_body().replace("\"version\":\"0.1\"", "\"version\":\"\""),
                1 => unsigned_body().replace("sticky", "mixed"),
                _ => unsigned_body(),
            };
            let body = signed(&body, SignatureForm::ALL[form], if new { b"new" } else { b"old" });
            match damage {
                2 => body.replace("0.73", "0.74"),
                3 => body.replace("\"sig\":\"", "\"sig\":\"A"),
                _ => body,
            }
        });
    prop_oneof![4 => whole, 1 => Just("{}".to_owned()), 1 => "[\\[{\":0-9a-z}\\]]{0,20}"]
}

proptest! {
    #[test]
    fn an_auditor_without_secrets_judges_alike(body in bodies(), at in 0..400_u64) {
        let policy = Policy::default_1_0_0();
        let with_secrets = judge(&envelope(&*body, at), Some(&ring()), &policy);
        let public = KeyRing::public(&specs()).unwrap();
        let byte = with_secrets.signature_byte();
        prop_assert_eq!(judge_presigned(&envelope(&*body, at), byte, Some(&public), &policy), with_secrets);
    }

    #[test]
    fn any_bytes_are_judged(body in prop::collection::vec(any::<u8>(), 0..200), byte in any::<u8>()) {
        let policy = Policy::default_1_0_0();
        let envelope = envelope(body, 150);
        let _ = judge(&envelope, Some(&ring()), &policy);
        let _ = judge_presigned(&envelope, byte, Some(&KeyRing::public(&specs()).unwrap()), &policy);
    }

    /// Many at once are judged as each is alone, with secrets and without, whatever stands beside what.
    #[test]
    fn many_are_judged_as_one_by_one(
        bodies in prop::collection::vec((bodies(), 0..400_u64, 0..3000_usize, any::<bool>()), 0..12),
    ) {
        let policy = Policy::default_1_0_0();
        let (ring, public) = (ring(), KeyRing::public(&specs()).unwrap());
        let envelopes: Vec<Envelope> = bodies
            .iter()
            .map(|(body, at, spaces, long)| {
                let body = format!("{body}{}", " ".repeat(if *long { *spaces } else { 0 }));
                Envelope { salt: [*spaces as u8; 16], ..envelope(body, *at) }
            })
            .collect();
        let alone: Vec<Judged> =
            envelopes.iter().map(|envelope| judge(envelope, Some(&ring), &policy)).collect();
        for (keys, attest) in [(&ring, false), (&public, true)] {
            let cases: Vec<Case<'_>> = envelopes
                .iter()
                .zip(&alone)
                .map(|(envelope, judged)| {
                    Case { envelope, keys: Some(keys), attested: attest.then(|| judged.signature_byte()) }
                })
                .collect();
            prop_assert_eq!(&judge_many(&cases, &policy), &alone);
        }
    }
}
