//! Time stamps: a small authority built on `openssl ts`, given up, mended, and judged by `openssl ts -verify`.

use crate::node::Start;
use crate::outsiders::run;
use crate::pcs::submission;
use crate::tools::{self, insist_sound};
use crate::witness::{eventually, metric};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const CONFIG: &str = "[ tsa ]\ndefault_tsa = here\n[ here ]\nserial = serial\nsigner_digest = sha256\n\
default_policy = 1.2.3.4.1\ndigests = sha256\naccuracy = secs:1\nordering = yes\ntsa_name = yes\ness_cert_id_chain = no\n";

fn openssl(folder: &Path, line: &str) -> (Option<i32>, String) {
    run(Command::new("openssl").args(line.split(' ')).current_dir(folder))
}

/// An authority on this machine. Its certificate is `tsa.pem`, signed by `ca.pem`.
pub struct Authority {
    pub address: SocketAddr,
    pub folder: PathBuf,
    broken: Arc<AtomicBool>,
}

impl Authority {
    pub fn start(folder: &Path) -> Authority {
        std::fs::create_dir_all(folder).expect("a directory");
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("a file");
        write("tsa.cnf", CONFIG);
        write("serial", "01\n");
        write("ext.cnf", "extendedKeyUsage = critical,timeStamping\nkeyUsage = critical,digitalSignature\n");
        for line in [
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca",
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout tsa.key -out tsa.csr -subj /CN=tsa",
            "x509 -req -in tsa.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext.cnf -out tsa.pem",
        ] {
            let (code, said) = openssl(folder, line);
            assert_eq!(code, Some(0), "openssl {line}: {said}");
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let broken = Arc::new(AtomicBool::new(false));
        let authority = Authority { address, folder: folder.to_owned(), broken: broken.clone() };
        let folder = folder.to_owned();
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever went away in the middle comes back.
                let _ = answer(stream, &folder, broken.load(Ordering::Relaxed));
            }
        });
        authority
    }
}

fn answer(mut stream: TcpStream, folder: &Path, broken: bool) -> std::io::Result<()> {
    let Some((_, body)) = crate::http::asked(&mut stream)? else { return Ok(()) };
    if broken {
        return stream.write_all(b"HTTP/1.1 403 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
    std::fs::write(folder.join("query.tsq"), body)?;
    let line = "ts -reply -config tsa.cnf -section here -queryfile query.tsq -inkey tsa.key -signer tsa.pem -out reply.tsr";
    let (code, said) = openssl(folder, line);
    assert_eq!(code, Some(0), "{said}");
    let reply = std::fs::read(folder.join("reply.tsr"))?;
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/timestamp-reply\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        reply.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(&reply)
}

#[test]
fn checkpoints_are_stamped_what_fails_is_a_dead_letter_and_openssl_accepts_the_stamps() {
    let home = tempfile::tempdir().expect("a directory");
    let text = |path: &Path| path.to_str().expect("a text path").to_owned();
    let authority = Authority::start(&home.path().join("tsa"));
    authority.broken.store(true, Ordering::Relaxed);
    let targets = home.path().join("targets.toml");
    let list = format!(
        "[[target]]\nname = \"tsa-1\"\nkind = \"rfc3161\"\nurl = \"http://{}/\"\nevery_s = 1\n",
        authority.address
    );
    std::fs::write(&targets, list).expect("a file");
    let data = home.path().join("data");
    let start =
        Start::on(&data).with("FLK_ANCHOR_TARGETS_FILE", &text(&targets)).with("FLK_ADMIN_TOKEN", "operator");
    let node = start.ready();
    assert_eq!(node.submit(&submission(1).body).status, 200);

    // The authority refuses: a dead letter, and the way out of it.
    eventually("a dead letter", || metric(&node, "flk_anchor_dead_letters 1"));
    let token = home.path().join("token");
    std::fs::write(&token, "operator\n").expect("a file");
    let url = format!("http://{}", node.address);
    let dlq = |more: &[&str]| {
        tools::flk(&[&["audit", "dlq"], more, &["--url", &url, "--token-file", &text(&token)]].concat())
    };
    let said = dlq(&["list"]);
    assert!(
        said.code == Some(6) && said.out.contains("tsa-1") && said.out.contains("refused"),
        "{}",
        said.all()
    );
    let page = node.get("/metrics").text();
    let backlog = r#"flk_anchor_backlog_leaves{kind="rfc3161",target="tsa-1"} "#;
    assert!(page.lines().any(|line| line.strip_prefix(backlog).is_some_and(|count| count != "0")), "{page}");
    assert_eq!(node.get("/readyz").status, 200, "nothing waits for it");

    authority.broken.store(false, Ordering::Relaxed);
    let said = dlq(&["retry", "tsa-1"]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    eventually("it is stamped", || metric(&node, "flk_anchor_dead_letters 0"));
    let said = dlq(&["list"]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    eventually("nothing is behind", || metric(&node, &format!("{backlog}0")));

    // The process dies and comes back: the next stamp follows the last one.
    node.kill();
    std::fs::remove_dir_all(data.join("tlog/default/anchors")).expect("stamps beside the checkpoint");
    std::fs::remove_file(data.join("proj/anchors")).expect("a cache");
    let node = start.ready();
    assert_eq!(node.submit(&submission(2).body).status, 200);
    let folder = data.join("tlog/default/anchors");
    let stamps = || {
        let names = std::fs::read_dir(&folder).map(|list| list.flatten().map(|entry| entry.path()).collect());
        let mut names: Vec<PathBuf> = names.unwrap_or_default();
        names.retain(|name| name.extension().is_some_and(|end| end == "tsr"));
        names.sort();
        names
    };
    eventually("the old stamp is made again from the log, and a new one comes", || stamps().len() >= 2);
    node.stop();

    let ca = text(&authority.folder.join("ca.pem"));
    for stamp in stamps() {
        let note = stamp.with_extension("").with_extension("checkpoint");
        let verify = |note: &Path| {
            let mut command = Command::new("openssl");
            command.args(["ts", "-verify", "-data", &text(note), "-in", &text(&stamp), "-CAfile", &ca]);
            run(&mut command)
        };
        let (code, said) = verify(&note);
        assert_eq!(code, Some(0), "{said}");
        let mut bytes = std::fs::read(&note).expect("a checkpoint");
        bytes[3] ^= 1;
        let bent = home.path().join("bent");
        std::fs::write(&bent, bytes).expect("a file");
        assert_ne!(verify(&bent).0, Some(0), "another checkpoint is refused");
    }
    insist_sound(&data);
}
