//! OpenTimestamps: two small calendars, one of which is away at first, and the tools of the makers of the format.

use crate::bins;
use crate::node::Start;
use crate::outsiders::{run, tool};
use crate::pcs::submission;
use crate::tools::{self, insist_sound};
use crate::witness::{eventually, metric};
use engine::ots::{Attestation, Item, Op, Stamp};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A calendar that promises everything and keeps its promises once its day is in a block.
struct Calendar {
    address: SocketAddr,
    away: Arc<AtomicBool>,
    mined: Arc<AtomicBool>,
}

impl Calendar {
    fn start() -> Calendar {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let calendar = Calendar { address, away: Arc::default(), mined: Arc::default() };
        let (away, mined) = (calendar.away.clone(), calendar.mined.clone());
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (away, mined) = (away.load(Ordering::Relaxed), mined.load(Ordering::Relaxed));
                // Whoever went away in the middle comes back.
                let _ = answer(stream, address, away, mined);
            }
        });
        calendar
    }
}

fn answer(mut stream: TcpStream, own: SocketAddr, away: bool, mined: bool) -> std::io::Result<()> {
    let Some((head, body)) = crate::http::asked(&mut stream)? else { return Ok(()) };
    let leads = |ops: &[Op], end: Attestation| {
        let end = Stamp(vec![Item::Attests(end)]);
        ops.iter().rev().fold(end, |below, op| Stamp(vec![Item::Leads(op.clone(), below)])).encode()
    };
    let (status, stamp) = match head.split(' ').take(2).collect::<Vec<_>>()[..] {
        _ if away => ("503 Away", Vec::new()),
        ["post", "/digest"] => {
            assert_eq!(body.len(), 32, "a digest");
            let promise = Attestation::Pending(format!("http://{own}"));
            ("200 OK", leads(&[Op::Append(vec![7; 8]), Op::Sha256], promise))
        }
        ["get", path] if mined => {
            assert_eq!(path.strip_prefix("/timestamp/").map(str::len), Some(64), "{path}");
            let way = [Op::Prepend(vec![1; 32]), Op::Sha256, Op::Sha256, Op::Append(vec![2; 32]), Op::Sha256];
            ("200 OK", leads(&way, Attestation::Bitcoin(870_123)))
        }
        _ => ("404 Not Found", b"Pending confirmation in Bitcoin blockchain".to_vec()),
    };
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", stamp.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(&stamp)
}

fn text(path: &Path) -> String {
    path.to_str().expect("a text path").to_owned()
}

#[test]
fn checkpoints_are_promised_then_in_a_block_and_the_makers_of_the_format_read_the_files() {
    let python = tool("anchors");
    let home = tempfile::tempdir().expect("a directory");
    let calendars = [Calendar::start(), Calendar::start()];
    calendars[1].away.store(true, Ordering::Relaxed);
    let targets = home.path().join("targets.toml");
    let list = format!(
        "[[target]]\nname = \"ots\"\nkind = \"opentimestamps\"\ncalendars = [\"http://{}\", \"http://{}\"]\n\
         upgrade_s = 1\nevery_s = 1\n",
        calendars[0].address, calendars[1].address
    );
    std::fs::write(&targets, list).expect("a file");
    let data = home.path().join("data");
    let start = Start::on(&data)
        .with("FLK_ANCHOR_TARGETS_FILE", &text(&targets))
        .with("FLK_ANCHOR_TRIES", "1")
        .with("FLK_ADMIN_TOKEN", "operator");
    let node = start.ready();
    assert_eq!(node.submit(&submission(1).body).status, 200);

    // Two have to promise, and one is away.
    eventually("a dead letter", || metric(&node, "flk_anchor_dead_letters 1"));
    calendars[1].away.store(false, Ordering::Relaxed);
    eventually("both promise", || metric(&node, "flk_anchor_dead_letters 0"));
    let folder = data.join("tlog/default/anchors");
    let proof = || -> Option<PathBuf> {
        let names = std::fs::read_dir(&folder).ok()?.flatten().map(|entry| entry.path());
        names.filter(|name| name.extension().is_some_and(|end| end == "ots")).min()
    };
    eventually("a file", || proof().is_some());
    let file = proof().expect("a file");
    let note = file.with_extension("").with_extension("checkpoint");
    let judge = |file: &Path, note: &Path| {
        let script = bins::root().join("tests/outsiders/ots.py");
        run(Command::new(&python).arg(script).args([file, note]))
    };
    let (code, said) = judge(&file, &note);
    assert_eq!(code, Some(0), "{said}");
    for calendar in &calendars {
        assert!(said.contains(&format!("pending http://{}", calendar.address)), "{said}");
    }

    // The process dies; what was promised is in the log, and the calendars keep it.
    node.kill();
    std::fs::remove_dir_all(&folder).expect("files beside the checkpoint");
    std::fs::remove_file(data.join("proj/anchors")).expect("a cache");
    calendars[0].mined.store(true, Ordering::Relaxed);
    let node = start.ready();
    let token = home.path().join("token");
    std::fs::write(&token, "operator\n").expect("a file");
    let url = format!("http://{}", node.address);
    let status = || tools::flk(&["audit", "status", "--url", &url, "--token-file", &text(&token)]);
    eventually("a block", || status().out.contains("under block 870123 of Bitcoin"));
    let (code, said) = judge(&file, &note);
    assert!(code == Some(0) && said.contains("block 870123 "), "{said}");
    let root = said.lines().find_map(|line| line.strip_prefix("block 870123 ")).expect("a root").trim();
    assert!(status().out.contains(root), "{}", status().all());
    in_a_pack(&home, &data, root);
    node.stop();

    let ots = python.with_file_name("ots");
    let (code, said) = run(Command::new(&ots).arg("info").arg(&file));
    assert!(code == Some(0) && said.contains("BitcoinBlockHeaderAttestation(870123)"), "{said}");
    let mut bytes = std::fs::read(&note).expect("a checkpoint");
    bytes[3] ^= 1;
    let bent = home.path().join("bent");
    std::fs::write(&bent, bytes).expect("a file");
    assert_ne!(judge(&file, &bent).0, Some(0), "another checkpoint is refused");
    insist_sound(&data);
}

/// What an auditor makes of it offline: a claim without the block's header, a time with it, a lie with another one.
fn in_a_pack(home: &tempfile::TempDir, data: &Path, root: &str) {
    let (pack, keys) = (home.path().join("pack"), data.join("keys/log.vkey"));
    let said = tools::worm(&["fetch", &text(data), "--out", &text(&pack)]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let verify =
        |more: &[&str]| tools::worm(&[&["verify", &text(&pack), "--vkey", &text(&keys)], more].concat());
    let said = verify(&[]);
    let claim = format!("are under block 870123 of Bitcoin if its Merkle root is {root}");
    assert!(said.code == Some(0) && said.out.contains(&claim), "{}", said.all());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
    let headers = home.path().join("headers");
    let with = |root: &str, time: u64| {
        std::fs::write(&headers, format!("870123 {}\n", header(root, time))).expect("written");
        verify(&["--bitcoin-headers", &text(&headers)])
    };
    let said = with(root, now);
    assert!(said.code == Some(0) && said.out.contains("existed before block 870123"), "{}", said.all());
    let said = with(&"11".repeat(32), now);
    assert!(said.code == Some(2) && said.out.contains("has another Merkle root"), "{}", said.all());
    let said = with(root, now - 86_400);
    assert!(said.code == Some(2) && said.out.contains("but existed before"), "{}", said.all());
    std::fs::write(&headers, format!("7 {}\n", header(root, now))).expect("written");
    let said = verify(&["--bitcoin-headers", &text(&headers)]);
    assert!(said.code == Some(4) && said.out.contains("no block of your file"), "{}", said.all());
    let said = tools::worm(&["verify", &text(data), "--bitcoin-headers", &text(&headers)]);
    assert_eq!(said.code, Some(1), "a data directory has no such stage: {}", said.all());
}

/// A header with this root, as explorers show it, that has done the little work its bits ask for.
fn header(root: &str, time: u64) -> String {
    use sha2::{Digest as _, Sha256};
    let mut bytes = [0; 80];
    for at in 0..32 {
        bytes[67 - at] = u8::from_str_radix(&root[2 * at..2 * at + 2], 16).expect("hex");
    }
    bytes[68..72].copy_from_slice(&u32::try_from(time).expect("a time").to_le_bytes());
    bytes[72..76].copy_from_slice(&0x207f_ffff_u32.to_le_bytes());
    let works = |bytes: &[u8; 80]| Sha256::digest(Sha256::digest(bytes))[31] < 0x7f;
    let nonce = (0_u32..).find(|nonce| {
        bytes[76..].copy_from_slice(&nonce.to_le_bytes());
        works(&bytes)
    });
    bytes[76..].copy_from_slice(&nonce.expect("a nonce").to_le_bytes());
    crate::pcs::hex(&bytes)
}
