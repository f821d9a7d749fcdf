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
