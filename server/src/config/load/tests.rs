//! Where a setting comes from, and which layer wins.

use super::*;
use crate::config::{Alg, HmacMode};

fn env(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect()
}

fn from_toml(text: &str, vars: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    load_from(&[], Some((PathBuf::from("flk.toml"), text.to_owned())), &env(vars), &[])
}

fn from_vars(vars: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    load_from(&[], None, &env(vars), &[])
}

#[test]
fn every_setting_says_its_unit_and_reason_once() {
    let mut names = std::collections::BTreeSet::new();
    let mut variables = std::collections::BTreeSet::new();
    for setting in SETTINGS {
        assert!(names.insert(setting.name), "{} stands twice", setting.name);
        assert!(setting.name.split_once('.').is_some(), "{}", setting.name);
        assert!(!setting.unit.is_empty() && setting.why.len() > 15, "{}", setting.name);
        assert!(setting.env.first().is_some_and(|e| e.starts_with("FLK_")), "{}", setting.name);
        for variable in setting.env {
            assert!(variables.insert(variable), "{variable} stands twice");
        }
    }
}

#[test]
fn the_last_layer_wins() {
    let key = ("PCS_HMAC_KEY", "testsecret");
    let port = |loaded: Loaded| loaded.config.port;
    assert_eq!(port(from_vars(&[key]).unwrap()), 8080);
    assert_eq!(port(from_toml("[http]\nport = 1", &[key]).unwrap()), 1);
    assert_eq!(port(from_toml("[http]\nport = 1", &[key, ("PORT", "2")]).unwrap()), 2);
    assert_eq!(
        port(from_toml("[http]\nport = 1", &[key, ("PORT", "2"), ("FLK_HTTP_PORT", "3")]).unwrap()),
        3
    );
    let flag = [("http.port".to_owned(), "4".to_owned())];
    assert_eq!(port(load_from(&[], None, &env(&[key, ("PORT", "2")]), &flag).unwrap()), 4);
    assert_eq!(port(from_vars(&[key, ("PORT", "")]).unwrap()), 8080, "an empty variable is an unset one");
}

#[test]
fn unknown_names_are_refused_in_every_layer() {
    let key = ("PCS_HMAC_KEY", "k");
    assert!(
        matches!(from_toml("[http]\nprot = 1", &[key]), Err(ConfigError::Unknown { name, .. }) if name == "http.prot")
    );
    assert!(matches!(from_toml("port = 1", &[key]), Err(ConfigError::Unknown { .. })));
    assert!(matches!(from_vars(&[key, ("FLK_PROT", "1")]), Err(ConfigError::Unknown { .. })));
    let flag = [("http.prot".to_owned(), "4".to_owned())];
    assert!(matches!(load_from(&[], None, &env(&[key]), &flag), Err(ConfigError::Unknown { .. })));
    let toml = "[tenants]\nmulti = true\n[[tenant]]\nid='a'\nalg='hmac'\nkey='k'\nrat=1";
    assert!(matches!(from_toml(toml, &[]), Err(ConfigError::File { why, .. }) if why.contains("rat")));
}

#[test]
fn values_out_of_range_name_setting_and_layer() {
    for (name, value) in [
        ("http.port", "70000"),
        ("http.body_max_bytes", "1048577"),
        ("http.body_timeout_ms", "0"),
        ("data.disk", "floppy"),
        ("region.id", "a/b"),
        ("region.id", ".."),
        ("region.origin_host", "a b"),
        ("tenants.multi", "yes"),
        ("auth.ed25519_pub", "AAAA"),
        ("policy.version", "2.0.0"),
    ] {
        let flag = [(name.to_owned(), value.to_owned())];
        let error = load_from(&[], None, &env(&[("PCS_HMAC_KEY", "k")]), &flag).unwrap_err().to_string();
        assert!(error.starts_with("command line: ") && error.contains(name), "{error}");
    }
}

#[test]
fn single_tenant_takes_the_originals_variables() {
    let one = |vars: &[(&str, &str)]| from_vars(vars).map(|l| l.config.tenants[0].clone());
    let tenant = one(&[("PCS_SIGN_ALG", "hmac"), ("PCS_HMAC_KEY", "a:b"), ("TOKEN_RATE", "7")]).unwrap();
    assert_eq!((tenant.id.as_str(), tenant.rate_per_s, tenant.burst), ("default", 7, 14));
    assert_eq!(tenant.keys[0].hmac.as_ref().unwrap().bytes(), b"a:b");
    assert_eq!(one(&[("PCS_HMAC_KEYS", "old,new")]).unwrap().keys.len(), 2);
    let public = "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";
    assert!(one(&[("PCS_ED25519_PUB_B64", public)]).unwrap().keys[0].ed25519.is_some());
    assert!(one(&[("PCS_ED25519_PUB_B64", public), ("PCS_HMAC_KEY", "k")]).is_err(), "which of the two?");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "from-file\n").unwrap();
    let path = file.path().to_str().unwrap();
    assert_eq!(
        one(&[("PCS_HMAC_KEY_FILE", path)]).unwrap().keys[0].hmac.as_ref().unwrap().bytes(),
        b"from-file"
    );
    assert_eq!(
        from_vars(&[("PCS_HMAC_KEY", "k"), ("SIGN_HMAC_MODE", "legacy")]).unwrap().config.hmac_mode,
        HmacMode::Legacy
    );
}

#[test]
fn a_tenant_without_a_key_is_refused_and_none_needs_its_flag() {
    assert!(from_vars(&[]).is_err());
    assert!(from_vars(&[("PCS_SIGN_ALG", "hmac")]).is_err());
    assert!(from_vars(&[("PCS_SIGN_ALG", "ed25519")]).is_err());
    assert!(from_vars(&[("PCS_SIGN_ALG", "none")]).is_err());
    assert!(from_vars(&[("PCS_HMAC_KEY_FILE", "/nonexistent/key")]).is_err());
    assert!(from_vars(&[("MULTI_TENANT", "true"), ("TENANTS", "a:hmac:")]).is_err());
    assert!(from_vars(&[("MULTI_TENANT", "true"), ("TENANTS", "a:hmac")]).is_err());
    assert!(from_vars(&[("MULTI_TENANT", "true"), ("TENANTS", "a:none:")]).is_err());
    let loaded = from_vars(&[("PCS_SIGN_ALG", "none"), ("FLK_DEV_ALLOW_UNSIGNED", "true")]).unwrap();
    assert!(loaded.warnings.iter().any(|w| w.contains("unsigned")));
    assert_eq!(loaded.config.alg, Some(Alg::None));
}

#[test]
fn tenant_lists_keep_colons_in_keys_and_refuse_doubles() {
    let vars = [("MULTI_TENANT", "true"), ("TENANTS", "t1:hmac:k1,t3:hmac:a:b")];
    let config = from_vars(&vars).unwrap().config;
    assert_eq!(config.tenants.len(), 2);
    assert_eq!(config.tenants[1].keys[0].hmac.as_ref().unwrap().bytes(), b"a:b");
    assert!(from_vars(&[("MULTI_TENANT", "true"), ("TENANTS", "t1:hmac:k1,t1:hmac:k2")]).is_err());
    let only_default = from_vars(&[("MULTI_TENANT", "true"), ("PCS_HMAC_KEY", "k")]).unwrap().config;
    assert_eq!(only_default.tenants[0].id, "default");
}

#[test]
fn tenant_tables_have_rates_and_key_windows() {
    let toml = "[tenants]\nmulti = true\n[[tenant]]\nid = 'acme'\nalg = 'hmac'\nrate_per_s = 5\ndaily_quota = 10\n\
        keys = [{ key = 'old', not_after = '2026-01-01T00:00:00Z' }, { key = 'new', not_before = '2025-12-01T00:00:00Z' }]";
    let tenant = &from_toml(toml, &[]).unwrap().config.tenants[0];
    assert_eq!((tenant.rate_per_s, tenant.burst, tenant.daily_quota, tenant.keys.len()), (5, 10, 10, 2));
    assert_eq!(tenant.keys[0].not_after_ms, 1_767_225_600_000);
    assert_eq!(tenant.keys[1].not_after_ms, u64::MAX);
    assert!(
        from_toml("[[tenant]]\nid='a'\nalg='hmac'\nkey='k'", &[("PCS_HMAC_KEY", "k")]).is_err(),
        "needs multi"
    );
}

#[test]
fn printing_masks_secrets_and_reads_back() {
    let loaded =
        from_vars(&[("PCS_HMAC_KEY", "hunter2"), ("METRICS_USER", "ops"), ("METRICS_PASS", "swordfish")])
            .unwrap();
    let text = loaded.print();
    assert!(!text.contains("hunter2") && !text.contains("swordfish"), "{text}");
    assert!(text.contains("port = \"8080\"") && text.contains("environment METRICS_USER"));
    assert!(!format!("{:?}", loaded.config).contains("hunter2"));
    assert!(from_vars(&[("PCS_HMAC_KEY", "k"), ("METRICS_USER", "ops")]).is_err());
}
