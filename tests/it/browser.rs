//! A browser without a network checks receipts with the page that the server and every export carry.

use crate::outsiders::{busy_node, run, tool};
use crate::tools;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::path::Path;
use std::process::Command;

/// A value behind the `#` of a link.
fn encoded(text: &str) -> String {
    text.replace('%', "%25").replace('+', "%2B").replace('/', "%2F").replace('=', "%3D").replace('&', "%26")
}

/// What the page says of these files: its title, which is its verdict, and the whole page.
fn judged(page: &Path, proof: &[u8], entry: Option<&[u8]>, key: Option<&str>) -> (String, String) {
    let mut link = format!("file://{}#proof={}", page.display(), encoded(&BASE64.encode(proof)));
    if let Some(entry) = entry {
        link.push_str(&format!("&entry={}", encoded(&BASE64.encode(entry))));
    }
    for key in key.iter().flat_map(|keys| keys.lines()) {
        link.push_str(&format!("&key={}", encoded(key)));
    }
    // As root it has no sandbox; the page is ours and the profile is thrown away.
    let profile = tempfile::tempdir().expect("a directory");
    let (code, said) = run(Command::new(tool("chromium"))
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--virtual-time-budget=20000", "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(&link));
    assert_eq!(code, Some(0), "{said}");
    let title = said.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
    (title.unwrap_or_else(|| panic!("no title: {said}")).0.to_owned(), said)
}

#[test]
fn a_browser_verifies_receipts_offline_and_refuses_what_was_changed() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = busy_node(directory.path(), 300);
    let page = node.get("/verify");
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let served = page.text();
    node.stop();
    let export = directory.path().join("export");
    let text = |path: &Path| path.to_str().expect("a text path").to_owned();
    let said = tools::worm(&["export", &text(directory.path()), "--out", &text(&export)]);
    assert_eq!(said.code, Some(0), "worm export: {}", said.all());
    let page = export.join("verify.html");
    let read =
        |path: &Path| std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(String::from_utf8_lossy(&read(&page)), served, "the same page in the export");

    let key = String::from_utf8(read(&directory.path().join("keys/log.vkey"))).expect("text");
    let name = std::fs::read_dir(export.join("proofs"))
        .expect("proofs")
        .flatten()
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|end| end == "entry"))
        .max()
        .expect("an entry");
    let (entry, proof) = (read(&name), read(&name.with_extension("tlog-proof")));
    let (title, said) = judged(&page, &proof, Some(&entry), Some(&key));
    assert!(title.starts_with("VERIFIED: entry "), "{title}\n{said}");
    let (title, _) = judged(&page, &proof, Some(&entry), None);
    assert!(title.starts_with("INCOMPLETE"), "{title}");
    let (title, _) = judged(&page, &proof, None, Some(&key));
    assert!(title.starts_with("INCOMPLETE"), "{title}");

    let mut other = entry.clone();
    *other.last_mut().expect("an entry is not empty") ^= 1;
    let (title, _) = judged(&page, &proof, Some(&other), Some(&key));
    assert!(title.starts_with("NOT VERIFIED"), "{title}");
    // A changed index, hash, size, root, signature: whatever line it stands in.
    let lines: Vec<&str> = std::str::from_utf8(&proof).expect("text").split_inclusive('\n').collect();
    // The index, the first hash, the last one, and every line of the checkpoint.
    let checkpoint = lines.iter().position(|line| *line == "\n").expect("a checkpoint");
    // But the ML-DSA-44 line, which is beyond a browser.
    let second = lines.iter().rposition(|line| line.len() > 3000).expect("a second line");
    let changed = [1, 2].into_iter().chain(checkpoint - 1..second);
    for at in changed.filter(|at| lines[*at].len() > 1) {
        let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let middle = lines[at].char_indices().nth(lines[at].chars().count() / 2).expect("a character").0;
        let was = lines[at].remove(middle);
        let now = if was.is_ascii_digit() {
            char::from(b'0' + (was as u8 - b'0' + 1) % 10)
        } else if was == 'A' {
            'B'
        } else {
            'A'
        };
        lines[at].insert(middle, now);
        let (title, said) = judged(&page, lines.concat().as_bytes(), Some(&entry), Some(&key));
        assert!(!title.starts_with("VERIFIED"), "line {at}: {title}\n{said}");
    }
}
