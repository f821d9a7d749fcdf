//! What is accepted, what is refused, and where the fields arrive.

use alloc::format;

use super::*;

fn refusal(body: &str) -> &'static str {
    parse(body.as_bytes()).map_or_else(|error| error.name(), |_| "")
}

#[test]
fn what_the_original_accepts_is_accepted() {
    for body in [
        "{}",
        "null",
        " null ",
        "{ \"epoch\" : 7 ,\r\n\t\"x\":{\"a\":[1,{\"a\":1e999}]}}  \n",
        r#"{"PCS_ID":"a","d_hat":1,"n_j":{"2":3}}"#,
        r#"{"scale\u017f":[1],"ſeed":2}"#,
        r#"{"pcs_id":null,"epoch":null,"scales":null,"N_j":null,"coh_star":null,"ft":null,"sent_at":null}"#,
        r#"{"scales":[1,null],"N_j":{"2":null,"x":-1,"02":5},"v_star":[null,-0.0,1e300]}"#,
        r#"{"epoch":-0,"seed":-9223372036854775808,"ft":{"OUTBOX_SEQ":1,"degraded":true,"fallbacks":["a",null],"clock_skew_ms":null,"more":1}}"#,
        r#"{"sent_at":"2024-02-29T12:00:00.123456789123+02:00","r":1E-400}"#,
        r#"{"D_hat":999999999999999.9}"#,
    ] {
        assert_eq!(refusal(body), "", "{body}");
    }
}

#[test]
fn what_no_reader_should_accept_is_refused() {
    for (body, name) in [
        ("", "not-json"),
        ("[]", "not-an-object"),
        ("\"x\"", "not-an-object"),
        ("\u{feff}{}", "not-json"),
        ("{} x", "not-json"),
        ("{}{}", "not-json"),
        ("{\"r\":NaN}", "not-json"),
        ("{\"r\":Infinity}", "not-json"),
        ("{\"r\":.5}", "not-json"),
        ("{\"r\":01}", "not-json"),
        ("{\"r\":+1}", "not-json"),
        ("{\"a\":1,}", "not-json"),
        ("{'a':1}", "not-json"),
        ("{\"shard_id\":\"\n\"}", "not-json"),
        (r#"{"shard_id":"\ud800"}"#, "not-json"),
        (r#"{"unknown":"\ud800"}"#, "not-json"),
        ("{\"r\":1e400}", "out-of-range"),
        ("{\"v_star\":[1e400]}", "out-of-range"),
        ("{\"D_hat\":1e15}", "out-of-range"),
        ("{\"budget\":-1000000000000000}", "out-of-range"),
        ("{\"epoch\":1.0}", "wrong-type"),
        ("{\"epoch\":1e0}", "wrong-type"),
        ("{\"epoch\":\"1\"}", "wrong-type"),
        ("{\"epoch\":true}", "wrong-type"),
        ("{\"epoch\":9223372036854775808}", "out-of-range"),
        ("{\"scales\":[2.0]}", "wrong-type"),
        ("{\"scales\":{}}", "wrong-type"),
        ("{\"N_j\":[]}", "wrong-type"),
        ("{\"N_j\":{\"2\":\"3\"}}", "wrong-type"),
        ("{\"r\":\"1\"}", "wrong-type"),
        ("{\"sig\":1}", "wrong-type"),
        ("{\"ft\":[]}", "wrong-type"),
        ("{\"ft\":{\"degraded\":1}}", "wrong-type"),
        ("{\"ft\":{\"fallbacks\":\"a\"}}", "wrong-type"),
        ("{\"sent_at\":\"2024-01-01 00:00:00Z\"}", "wrong-type"),
        ("{\"sent_at\":7}", "wrong-type"),
        (r#"{"r":1,"r":1}"#, "duplicate-key"),
        (r#"{"r":1,"R":null}"#, "duplicate-key"),
        (r#"{"D_hat":1,"d_hat":1}"#, "duplicate-key"),
        (r#"{"N_j":{"2":1,"2":1}}"#, "duplicate-key"),
        (r#"{"N_j":{"x":1,"x":1}}"#, "duplicate-key"),
        (r#"{"N_j":{"2":1,"\u0032":1}}"#, "duplicate-key"),
        (r#"{"ft":{"degraded":true,"Degraded":true}}"#, "duplicate-key"),
        (r#"{"ft":{"x":true,"x":true}}"#, "duplicate-key"),
        (r#"{"note":1,"Note":1}"#, "duplicate-key"),
        (r#"{"sig":"","ſig":""}"#, "duplicate-key"),
    ] {
        assert_eq!(refusal(body), name, "{body}");
    }
    assert_eq!(parse(b"{\"shard_id\":\"\xff\"}").unwrap_err(), ParseError::Encoding { at: 13 });
}

#[test]
fn every_list_and_text_has_its_bound() {
    let list = |count: usize| alloc::vec!["1"; count].join(",");
    assert_eq!(refusal(&format!("{{\"scales\":[{}]}}", list(SCALES_MAX))), "");
    assert_eq!(refusal(&format!("{{\"scales\":[{}]}}", list(SCALES_MAX + 1))), "out-of-range");
    assert_eq!(refusal(&format!("{{\"v_star\":[{}]}}", list(DIMENSIONS_MAX))), "");
    assert_eq!(refusal(&format!("{{\"v_star\":[{}]}}", list(DIMENSIONS_MAX + 1))), "out-of-range");
    let counts = |count: usize| {
        let entries: Vec<_> = (0..count).map(|at| format!("\"{at}\":1")).collect();
        format!("{{\"N_j\":{{{}}}}}", entries.join(","))
    };
    assert_eq!(refusal(&counts(COUNTS_MAX)), "");
    assert_eq!(refusal(&counts(COUNTS_MAX + 1)), "out-of-range");
    for field in ["pcs_id", "schema", "version", "shard_id", "regime", "merkle_root", "sig"] {
        assert_eq!(refusal(&format!("{{\"{field}\":\"{}\"}}", "x".repeat(1024))), "");
        assert_eq!(refusal(&format!("{{\"{field}\":\"{}\"}}", "x".repeat(1025))), "out-of-range");
    }
    assert_eq!(refusal(&" ".repeat(BODY_MAX + 1)), "too-large");
}

#[test]
fn fields_arrive_where_they_belong() {
    let pcs = parse(
        br#"{"pcs_id":"i","schema":"s","version":"v","shard_id":"d\u00e9","epoch":-5,"seed":9,
            "scales":[4,2],"N_j":{"4":10,"2":5,"x":1},"coh_star":0.5,"v_star":[1,0,-1],"D_hat":1,
            "r":0.25,"regime":"mixed","budget":1.0,"merkle_root":"m","sig":"g"}"#,
    )
    .unwrap();
    assert_eq!((&*pcs.pcs_id, &*pcs.schema, &*pcs.version, &*pcs.shard_id), ("i", "s", "v", "dé"));
    assert_eq!(
        (pcs.epoch, pcs.seed, &pcs.scales[..], pcs.count(2), pcs.count(4)),
        (-5, 9, &[4, 2][..], Some(5), Some(10))
    );
    assert_eq!(pcs.count(3), None);
    assert_eq!((pcs.coh_star, pcs.d_hat, pcs.r, pcs.budget), (0.5, 1.0, 0.25, 1.0));
    assert_eq!(pcs.whole, [true, false, false, false]);
    assert_eq!(
        (&pcs.v_star[..], &*pcs.regime, &*pcs.merkle_root, &*pcs.sig),
        (&[1.0, 0.0, -1.0][..], "mixed", "m", "g")
    );
}
