//! Evidence and submissions over https: a proxy with a certificate stands in front of the node, as in the field.

use crate::bins;
use crate::node::Start;
use crate::outsiders::{run, tool};
use crate::pcs::submission;
use crate::trio::{text, until};
use crate::{ports, tools};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Ends with the test, however it ends.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An authority, and a certificate of it for `localhost`.
fn certificates(folder: &Path) {
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost\n").expect("written");
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for line in [
        format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority -days 2"),
        format!("req -x509 {key} -keyout other.key -out other.pem -subj /CN=other -days 2"),
        format!("req {key} -keyout key.pem -out request.pem -subj /CN=localhost"),
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile names".into(),
    ] {
        let (code, said) = run(Command::new("openssl").args(line.split(' ')).current_dir(folder));
        assert_eq!(code, Some(0), "openssl {line}: {said}");
    }
}

#[test]
fn evidence_comes_over_https_from_whom_the_certificate_names_and_from_nobody_else() {
    let folder = tempfile::tempdir().expect("a directory");
    let at = |name: &str| folder.path().join(name);
    certificates(folder.path());
    let node =
        Start::on(&at("data")).with("FLK_AUDIT_TOKEN", "auditor").with("FLK_ADMIN_TOKEN", "auditor").ready();
    let port = ports::free().port();
    let mut proxy = Command::new(tool("python"));
    proxy
        .arg(bins::root().join("tests/outsiders/tls.py"))
        .arg(port.to_string())
        .arg(node.address.to_string());
    proxy.arg(at("cert.pem")).arg(at("key.pem")).stdout(Stdio::piped());
    let mut proxy = Proxy(proxy.spawn().expect("the proxy starts"));
    let mut said = String::new();
    BufReader::new(proxy.0.stdout.take().expect("piped")).read_line(&mut said).expect("a line");
    let (url, ca) = (format!("https://localhost:{port}"), at("ca.pem"));

    std::fs::write(at("one.json"), submission(1).body).expect("written");
    let sent =
        tools::flk(&["submit", text(&at("one.json")), "--url", &url, "--ca", text(&ca), "--no-receipt"]);
    assert_eq!(sent.code, Some(0), "{}", sent.all());
    for number in 2..40 {
        node.submit(&submission(number).body);
    }
    until("a checkpoint", || node.get("/tlog/default/checkpoint").status == 200);
    std::fs::write(at("token"), "auditor\n").expect("written");
    let (token, pack) = (at("token"), at("pack"));
    let fetch = |url: &str, more: &[&str]| {
        tools::worm(&[&["fetch", url, "--out", text(&pack), "--token-file", text(&token)], more].concat())
    };
    // Nobody here trusts that authority, another one did not sign, and the certificate is for another name.
    let other = at("other.pem");
    let elsewhere = format!("https://127.0.0.1:{port}");
    for (url, more) in
        [(&url, &[][..]), (&url, &["--ca", text(&other)][..]), (&elsewhere, &["--ca", text(&ca)][..])]
    {
        let said = fetch(url, more);
        let clear = said.err.contains("certificate") || said.err.contains("authority");
        assert!(said.code == Some(1) && clear && !pack.exists(), "{url} {more:?}: {}", said.all());
    }
    let said = fetch(&url, &["--ca", "/nowhere"]);
    assert!(said.code == Some(1) && said.err.contains("/nowhere"), "{}", said.all());
    let plain = fetch(&format!("http://localhost:{port}"), &[]);
    assert_eq!(plain.code, Some(1), "a server that speaks TLS is not asked in clear: {}", plain.all());

    let said = fetch(&url, &["--ca", text(&ca)]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let said = tools::worm(&["verify", text(&pack), "--vkey", text(&at("data").join("keys/log.vkey"))]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let asked: [&[&str]; 3] = [
        &["divergence", &url, &url, "--token-file", text(&token)],
        &["replay", "--check", "--live", &url],
        &["doctor", text(folder.path()), "--syncs", "1", "--url", &url],
    ];
    for (command, sees) in asked.into_iter().zip(["all equal", "agree", &format!("{url} is ready")]) {
        let said = tools::flk(&[command, &["--ca", text(&ca)]].concat());
        assert!(said.out.contains(sees), "{}", said.all());
        let said = tools::flk(&[command, &["--ca", text(&other)]].concat());
        assert!(said.all().contains("certificate") && !said.out.contains(sees), "{}", said.all());
    }
    // What the system trusts is trusted without being named.
    let mut system = Command::new(bins::path("worm"));
    system.args(["fetch", &url, "--out", text(&at("again")), "--token-file", text(&token)]);
    let (code, said) = run(system.env("SSL_CERT_FILE", &ca));
    assert_eq!(code, Some(0), "{said}");
    drop(proxy);
    assert_eq!(fetch(&url, &["--ca", text(&ca)]).code, Some(1), "nobody is there any more");
    node.stop();
}
