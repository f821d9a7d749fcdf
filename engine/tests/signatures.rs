//! What clients in the field sign, against what we accept: every recorded signature in its form, no signature for
//! changed content, and our own form against an independent computation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::event::{KeyKind, KeySpec};
use engine::ids::{KeyId, TenantId};
use engine::summary::canonical::{Layout, Numbers, SignedFields, canonical_bytes};
use engine::summary::decimal::{Decimal, Rounding, Style, round9, write_binary_fixed9};
use engine::summary::sign::{ed25519_public, sign_ed25519, sign_hmac};
use engine::summary::{Forms, KeyError, KeyRing, Secrets, SignatureForm, Unsigned};
use proptest::prelude::*;
use serde_json::Value;

const NOW: u64 = 1_700_000_000_000;

/// Seals by doing nothing, so that tests can say which secret a key has.
struct Plain;

impl Secrets for Plain {
    fn hmac(&self, spec: &KeySpec) -> Option<zeroize::Zeroizing<Vec<u8>>> {
        match &spec.kind {
            KeyKind::HmacSealed(secret) if secret != b"lost" => Some(secret.clone().into()),
            _ => None,
        }
    }
}

fn spec(id: &str, kind: KeyKind) -> KeySpec {
    KeySpec {
        at_ms: 0,
        tenant: TenantId::new("demo").unwrap(),
        key_id: KeyId::new(id).unwrap(),
        kind,
        not_before_ms: 0,
        not_after_ms: u64::MAX,
    }
}

fn hmac_key(id: &str, secret: &str) -> KeySpec {
    spec(id, KeyKind::HmacSealed(secret.into()))
}

fn ring(specs: &[KeySpec]) -> KeyRing {
    KeyRing::new(specs, &Plain).unwrap()
}

fn golden(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn compat() -> Value {
    golden(include_str!("../../tests/golden/compat-vectors.json"))
}

/// A recorded input, owned, so that tests can change it.
#[derive(Clone, Debug)]
struct Input {
    pcs_id: String,
    merkle_root: String,
    epoch: i64,
    shard_id: String,
    numbers: Numbers,
}

impl Input {
    fn of(value: &Value) -> Input {
        let text = |name: &str| value[name].as_str().unwrap().to_owned();
        let number = |name: &str| value[name].as_f64().unwrap();
        Input {
            pcs_id: text("pcs_id"),
            merkle_root: text("merkle_root"),
            epoch: value["epoch"].as_i64().unwrap(),
            shard_id: text("shard_id"),
            numbers: Numbers {
                d_hat: number("D_hat"),
                coh_star: number("coh_star"),
                r: number("r"),
                budget: number("budget"),
                whole: [false; 4],
            },
        }
    }

    fn fields(&self) -> SignedFields<'_> {
        SignedFields {
            pcs_id: &self.pcs_id,
            merkle_root: &self.merkle_root,
            epoch: self.epoch,
            shard_id: &self.shard_id,
            numbers: self.numbers,
        }
    }

    /// Every change of one field that a nine-place form can see. The epoch moves by two steps of a double,
    /// because JavaScript cannot see less beyond 2^53; there the derived id tells them apart.
    fn changes(&self) -> Vec<Input> {
        let step = if self.epoch > 1 << 53 { 4 } else { 1 };
        let changes: [&dyn Fn(&mut Input); 11] = [
            &|input| input.pcs_id.push('p'),
            &|input| input.pcs_id.replace_range(0..1, "q"),
            &|input| input.merkle_root.replace_range(0..1, "b"),
            &|input| input.epoch += step,
            &|input| input.epoch -= step,
            &|input| input.shard_id.push('x'),
            &|input| input.shard_id = input.shard_id.to_uppercase() + "y",
            &|input| input.numbers.d_hat += 1e-8 + input.numbers.d_hat.abs() * 1e-9,
            &|input| input.numbers.coh_star -= 1e-8 + input.numbers.coh_star.abs() * 1e-9,
            &|input| input.numbers.r += 1e-8,
            &|input| input.numbers.budget = -input.numbers.budget,
        ];
        changes
            .iter()
            .map(|change| {
                let mut changed = self.clone();
                change(&mut changed);
                changed
            })
            .collect()
    }
}

fn form_of(variant: &str) -> SignatureForm {
    match variant {
        "py_agent" => SignatureForm::PythonAgent,
        "py_flk_canonical" => SignatureForm::PythonRaw,
        "py_sdk" => SignatureForm::PythonSdk,
        "literal_9dp" => SignatureForm::PythonFixed9,
        "go_internal" => SignatureForm::GoServer,
        "go_pkg" => SignatureForm::GoSorted,
        "go_sdk" => SignatureForm::GoSdk,
        "ts_src" => SignatureForm::TsSource,
        "ts_client" => SignatureForm::TsClient,
        "rust_sdk" => SignatureForm::RustSdk,
        "wasm_sdk" => SignatureForm::WasmSdk,
        other => panic!("no form for {other}"),
    }
}

fn only(form: SignatureForm) -> Forms {
    SignatureForm::ALL.into_iter().filter(|other| *other != form).fold(Forms::ALL, Forms::without)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The struct saturates where its numbers end, so it is offered for no input beyond; and no body can hold such
/// an input. This is the one recorded signature that is refused.
fn saturates(case: &str, variant: &str) -> bool {
    case == "float_1e15" && variant == "rust_sdk"
}

#[test]
fn every_recorded_signature_is_accepted_in_its_form_and_for_its_content_only() {
    let vectors = compat();
    let ring = ring(&[hmac_key("k", vectors["hmac_key"].as_str().unwrap())]);
    let mut checked = 0;
    for case in vectors["cases"].as_array().unwrap() {
        let name = case["case"].as_str().unwrap();
        let input = Input::of(&case["input"]);
        for (variant, vector) in case["variants"].as_object().unwrap() {
            if saturates(name, variant) {
                continue;
            }
            let form = form_of(variant);
            let bytes = form.layout().bytes(&input.fields()).unwrap();
            match vector["payload_utf8"].as_str() {
                Some(text) => assert_eq!(String::from_utf8(bytes).unwrap(), text, "{name} {variant}"),
                None => assert_eq!(hex(&bytes), vector["payload_hex"].as_str().unwrap(), "{name} {variant}"),
            }
            assert_eq!(form.signs_digest(), vector["hmac_over"] == "sha256");
            let sig = vector["hmac_b64"].as_str().unwrap();
            let by = |forms| ring.check(&input.fields(), sig, NOW, forms).map(|signed| signed.form);
            assert_eq!(by(only(form)), Ok(form), "{name} {variant}");
            let reported = by(Forms::ALL).unwrap();
            assert!(reported <= form, "{name} {variant}: equal bytes are reported as the lowest form");
            assert_eq!(reported.layout().bytes(&input.fields()), form.layout().bytes(&input.fields()));
            for changed in input.changes() {
                let found = ring.check(&changed.fields(), sig, NOW, Forms::ALL);
                assert_eq!(found, Err(Unsigned::NoMatch), "{name} {variant} {changed:?}");
            }
            checked += 1;
        }
    }
    assert_eq!(checked, 98);
}

#[test]
fn every_recorded_ed25519_signature_is_accepted_for_its_content_only() {
    let vectors = compat();
    let public = STANDARD.decode(vectors["ed25519_pub_b64"].as_str().unwrap()).unwrap();
    let ring = ring(&[spec("e", KeyKind::Ed25519(public.try_into().unwrap()))]);
    for case in vectors["cases"].as_array().unwrap() {
        let input = Input::of(&case["input"]);
        for (variant, form) in
            [("py_agent", SignatureForm::Ed25519PythonAgent), ("go_internal", SignatureForm::Ed25519GoServer)]
        {
            let sig = case["variants"][variant]["ed25519_b64_over_sha256_payload"].as_str().unwrap();
            let found = ring.check(&input.fields(), sig, NOW, only(form)).map(|signed| signed.form);
            assert_eq!(found, Ok(form));
            for changed in input.changes() {
                assert!(ring.check(&changed.fields(), sig, NOW, Forms::ALL).is_err(), "{changed:?}");
            }
        }
    }
}

#[test]
fn our_form_is_what_an_independent_computation_says() {
    let vectors = golden(include_str!("../../tests/golden/canonical.json"));
    let ring = ring(&[hmac_key("k", "testsecret")]);
    for case in vectors["cases"].as_array().unwrap() {
        let input = Input::of(&case["input"]);
        let text = String::from_utf8(canonical_bytes(&input.fields())).unwrap();
        assert_eq!(text, case["canonical"].as_str().unwrap(), "{}", case["case"]);
        let sig = case["hmac_b64"].as_str().unwrap();
        assert_eq!(sign_hmac(SignatureForm::Canonical, &input.fields(), b"testsecret").unwrap(), sig);
        let found = ring.check(&input.fields(), sig, NOW, Forms::CANONICAL).map(|signed| signed.form);
        assert_eq!(found, Ok(SignatureForm::Canonical));
    }
}

#[test]
fn numbers_are_rounded_and_printed_as_python_go_and_javascript_do() {
    let vectors = golden(include_str!("../../tests/golden/printed-numbers.json"));
    let text = |decimal: Decimal, style| {
        let mut out = Vec::new();
        decimal.write(&mut out, style);
        String::from_utf8(out).unwrap()
    };
    for row in vectors["rows"].as_array().unwrap() {
        let x = f64::from_bits(u64::from_str_radix(row["bits"].as_str().unwrap(), 16).unwrap());
        let mut fixed = Vec::new();
        write_binary_fixed9(&mut fixed, x);
        let found = [
            ("repr", text(Decimal::shortest(x), Style::Python)),
            ("half_up9", text(round9(x, Rounding::DecimalHalfAway), Style::Python)),
            ("round9", text(round9(x, Rounding::BinaryHalfEven), Style::Python)),
            ("fixed9", String::from_utf8(fixed).unwrap()),
            ("go", text(Decimal::shortest(x), Style::Go)),
            ("go_round9", text(round9(x, Rounding::ScaledHalfAway), Style::Go)),
            ("js", text(Decimal::shortest(x), Style::EcmaScript)),
            ("js_round9", text(round9(x, Rounding::ScaledHalfUp), Style::EcmaScript)),
            ("js_source_round9", text(round9(x, Rounding::ScaledHalfUpKeepWhole), Style::EcmaScript)),
        ];
        for (column, found) in found {
            assert_eq!(found, row[column].as_str().unwrap(), "{column} of {x:e}");
        }
    }
}

#[test]
fn a_key_counts_within_its_window_and_two_may_overlap() {
    let input = Input::of(&compat()["cases"][0]["input"]);
    let sign =
        |secret: &str| sign_hmac(SignatureForm::Canonical, &input.fields(), secret.as_bytes()).unwrap();
    let old = KeySpec { not_after_ms: 200, ..hmac_key("old", "one") };
    let new = KeySpec { not_before_ms: 100, ..hmac_key("new", "two") };
    let ring = ring(&[old, new]);
    let by = |secret, now| {
        let signed = ring.check(&input.fields(), &sign(secret), now, Forms::ALL)?;
        Ok((signed.key_id.as_str().to_owned(), signed.key))
    };
    assert_eq!(by("one", 99), Ok(("old".into(), 1)));
    assert_eq!(by("two", 99), Err(Unsigned::NoMatch));
    assert_eq!(by("one", 200), Ok(("old".into(), 1)));
    assert_eq!(by("two", 100), Ok(("new".into(), 0)));
    assert_eq!(by("one", 201), Err(Unsigned::NoMatch));
    let late = KeyRing::new(&[KeySpec { not_before_ms: 5, ..hmac_key("k", "s") }], &Plain).unwrap();
    assert_eq!(late.check(&input.fields(), &sign("s"), 4, Forms::ALL), Err(Unsigned::NoKey));
    assert_eq!(ring.check(&input.fields(), "", 150, Forms::ALL), Err(Unsigned::Missing));
    assert_eq!(ring.check(&input.fields(), "AAAA", 150, Forms::ALL), Err(Unsigned::Encoding));
}

#[test]
fn a_form_that_is_switched_off_is_refused() {
    let input = Input::of(&compat()["cases"][0]["input"]);
    let ring = ring(&[hmac_key("k", "s")]);
    for form in SignatureForm::ALL {
        let Some(sig) = sign_hmac(form, &input.fields(), b"s") else { continue };
        assert!(ring.check(&input.fields(), &sig, NOW, only(form)).is_ok(), "{}", form.name());
        let same = |other: &SignatureForm| sign_hmac(*other, &input.fields(), b"s").as_ref() == Some(&sig);
        let without = SignatureForm::ALL.into_iter().filter(same).fold(Forms::ALL, Forms::without);
        assert_eq!(
            ring.check(&input.fields(), &sig, NOW, without),
            Err(Unsigned::NoMatch),
            "{}",
            form.name()
        );
    }
}

#[test]
fn keys_that_cannot_convict_are_refused() {
    let id = |id: &str| KeyId::new(id).unwrap();
    let refused = |specs: &[KeySpec]| KeyRing::new(specs, &Plain).unwrap_err();
    let small_order = {
        let mut one = [0; 32];
        one[0] = 1;
        one
    };
    let no_point = {
        let mut two = [0; 32];
        two[0] = 2;
        two
    };
    assert_eq!(refused(&[spec("w", KeyKind::Ed25519(small_order))]), KeyError::Weak(id("w")));
    assert_eq!(refused(&[spec("w", KeyKind::Ed25519([0; 32]))]), KeyError::Weak(id("w")));
    assert_eq!(refused(&[spec("n", KeyKind::Ed25519(no_point))]), KeyError::NotAPoint(id("n")));
    assert_eq!(refused(&[hmac_key("l", "lost")]), KeyError::Sealed(id("l")));
    assert_eq!(refused(&[hmac_key("e", "")]), KeyError::Empty(id("e")));
    assert_eq!(refused(&[hmac_key("d", "a"), hmac_key("d", "b")]), KeyError::Duplicate(id("d")));
    let nine: Vec<_> = (0..9).map(|at| hmac_key(&at.to_string(), "s")).collect();
    assert_eq!(refused(&nine), KeyError::TooMany);
    assert!(!format!("{:?}", ring(&[hmac_key("k", "hidden")])).contains("hidden"));
}

#[test]
fn a_number_written_as_an_integer_stays_one_in_the_form_that_keeps_it() {
    let mut input = Input::of(&compat()["cases"][0]["input"]);
    input.numbers.d_hat = 1.0;
    let text = |input: &Input| String::from_utf8(Layout::PythonRaw.bytes(&input.fields()).unwrap()).unwrap();
    assert!(text(&input).starts_with(r#"{"D_hat":1.0,"#));
    input.numbers.whole = [true, false, false, false];
    assert!(text(&input).starts_with(r#"{"D_hat":1,"#));
}

fn summaries() -> impl Strategy<Value = Input> {
    let number = prop_oneof![
        (0..4_000_000_000_u64).prop_map(|units| units as f64 / 1e9),
        -1e15..1e15_f64,
        (-40_000_000_000_i64..40_000_000_000).prop_map(|units| units as f64 / 1e10),
        Just(0.0),
        Just(-0.0),
        Just(1.0),
        0.0..1e-6_f64,
    ];
    let text = prop_oneof![Just("shard-001".to_owned()), "[ -~]{0,40}", "\\PC{0,12}"];
    let numbers = (number.clone(), number.clone(), number.clone(), number);
    ("[a-f0-9]{64}", "[a-f0-9]{64}", any::<i64>(), text, numbers).prop_map(
        |(pcs_id, merkle_root, epoch, shard_id, (d_hat, coh_star, r, budget))| Input {
            pcs_id,
            merkle_root,
            epoch,
            shard_id,
            numbers: Numbers { d_hat, coh_star, r, budget, whole: [false; 4] },
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_form_is_found_whatever_was_found_before(inputs in prop::collection::vec(summaries(), 1..4)) {
        let fresh = || ring(&[hmac_key("a", "other"), hmac_key("k", "s")]);
        let used = fresh();
        for input in &inputs {
            for form in SignatureForm::ALL {
                let Some(sig) = sign_hmac(form, &input.fields(), b"s") else { continue };
                let found = used.check(&input.fields(), &sig, NOW, Forms::ALL);
                prop_assert!(found.is_ok(), "{}", form.name());
                prop_assert_eq!(found, fresh().check(&input.fields(), &sig, NOW, Forms::ALL));
                let byte = found.unwrap().byte();
                let public = KeyRing::public(&[hmac_key("a", "x"), hmac_key("k", "x")]).unwrap();
                let presigned = public.check_presigned(&input.fields(), &sig, NOW, Forms::ALL, byte);
                prop_assert_eq!(presigned, found);
            }
        }
    }

    #[test]
    fn json_forms_tell_any_two_summaries_apart(one in summaries(), other in summaries(), mix in 0..8_u32) {
        // Take one field from the other: neighbours are harder to tell apart than strangers.
        let mut near = one.clone();
        match mix {
            0 => near.pcs_id = other.pcs_id,
            1 => near.merkle_root = other.merkle_root,
            2 => near.epoch = other.epoch,
            3 => near.shard_id = other.shard_id,
            4 => near.numbers.d_hat = other.numbers.d_hat,
            5 => near.numbers.coh_star = other.numbers.coh_star,
            6 => near.numbers.r = other.numbers.r,
            _ => near.numbers.budget = other.numbers.budget,
        }
        let same = canonical_bytes(&one.fields()) == canonical_bytes(&near.fields());
        for layout in [Layout::PythonAscii, Layout::GoStruct, Layout::GoSorted, Layout::Serde] {
            let equal = layout.bytes(&one.fields()) == layout.bytes(&near.fields());
            // Beyond 15 digits a double's rounding may keep what nine places cannot show, and the other
            // way round for negative zero.
            let plain = |x: f64| x.abs() < 1e6 && (x == 0.0) == (x.to_bits() == 0) && x.abs() * 1e9 > 0.5 || x.to_bits() == 0;
            let numbers = [one.numbers, near.numbers];
            let all_plain = numbers.iter().all(|n| [n.d_hat, n.coh_star, n.r, n.budget].into_iter().all(plain));
            if all_plain && layout == Layout::PythonAscii {
                prop_assert_eq!(equal, same);
            }
            if mix < 4 {
                prop_assert_eq!(equal, same);
            }
        }
    }

    #[test]
    fn ed25519_in_our_form_is_accepted_and_any_other_bit_is_not(input in summaries(), flip in 0..512_usize) {
        let seed = [7; 32];
        let ring = ring(&[spec("e", KeyKind::Ed25519(ed25519_public(&seed)))]);
        let sig = sign_ed25519(SignatureForm::Ed25519Canonical, &input.fields(), &seed).unwrap();
        let found = ring.check(&input.fields(), &sig, NOW, Forms::CANONICAL).map(|signed| signed.form);
        prop_assert_eq!(found, Ok(SignatureForm::Ed25519Canonical));
        let mut bytes = STANDARD.decode(&sig).unwrap();
        bytes[flip / 8] ^= 1 << (flip % 8);
        let forged = ring.check(&input.fields(), &STANDARD.encode(bytes), NOW, Forms::CANONICAL);
        prop_assert_eq!(forged, Err(Unsigned::NoMatch));
    }
}
