//! Places that deny, lie, hang and come back.

use super::super::bucket::{self, Bucket};
use super::super::lane::{Lane, Next, Terms};
use super::*;
use crate::outbound::{Outbound, Url};
use object_store::aws::AwsCredential;
use object_store::local::LocalFileSystem;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const LOCKED: &str =
    "x-amz-object-lock-mode: COMPLIANCE\r\nx-amz-object-lock-retain-until-date: 1970-01-02T00:00:00.000Z\r\n";

/// What the store does next.
#[derive(Clone, Copy, Debug)]
enum Does {
    Deny,
    Overload,
    Hang,
    /// Says that it took an object, and gives these headers and this body for it.
    Say(&'static str, &'static str),
    /// Says that something lies there, and gives this.
    Have(&'static str, &'static str),
}

/// A store of our own, which does what it is told, and what it was sent.
fn store(does: &Arc<Mutex<Does>>) -> (Place, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let (log, does) = (seen.clone(), does.clone());
    // It ends with the test's process.
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let does = *does.lock().unwrap();
            let Some(head) = request(&mut stream) else { continue };
            let put = head.starts_with("put ");
            log.lock().unwrap().push(head);
            let (status, headers, body) = match does {
                Does::Hang => {
                    held.push(stream);
                    continue;
                }
                Does::Deny => ("403 Forbidden", "", "<Error><Code>AccessDenied</Code></Error>"),
                Does::Overload => ("503 Slow Down", "", "<Error><Code>SlowDown</Code></Error>"),
                Does::Have(..) if put => ("412 Precondition Failed", "", ""),
                Does::Say(..) if put => ("200 OK", "etag: \"e\"\r\n", ""),
                Does::Say(headers, body) | Does::Have(headers, body) => ("200 OK", headers, body),
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\n{headers}etag: \"e\"\r\nlast-modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
                 content-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            // Whoever went away in the middle comes back.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let bucket = Bucket { url: Url::parse(&url).unwrap(), name: "vault".into(), region: "r-1".into() };
    let key = AwsCredential { key_id: "id".into(), secret_key: "very secret".into(), token: None };
    let store = bucket::open(&bucket, key, Outbound::default()).unwrap();
    (Place::new(store, "s3://vault".into(), "eu", Some(SignedDuration::from_hours(24))), seen)
}

fn request(stream: &mut TcpStream) -> Option<String> {
    let mut seen = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        seen.extend_from_slice(&piece[..count]);
        let Some(at) = seen.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&seen[..at]).to_ascii_lowercase();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if seen.len() - at - 4 >= length.unwrap_or(0) {
            return Some(head);
        }
    }
}

async fn put(place: &Place) -> Result<Held, Failure> {
    place.put("x", Bytes::from_static(b"note"), NOW).await
}

#[tokio::test]
async fn what_a_store_does_not_keep_as_it_must_is_refused() {
    let short =
        "x-amz-object-lock-mode: COMPLIANCE\r\nx-amz-object-lock-retain-until-date: 1970-01-01T23:59:58Z\r\n";
    let weak =
        "x-amz-object-lock-mode: GOVERNANCE\r\nx-amz-object-lock-retain-until-date: 1970-01-03T00:00:00Z\r\n";
    let does = Arc::new(Mutex::new(Does::Say(LOCKED, "note")));
    let (place, seen) = store(&does);
    let until = Some(Timestamp::from_second(86_400).unwrap());
    assert_eq!(put(&place).await, Ok(Held { version: None, until }));
    let sent = seen.lock().unwrap().clone();
    assert_eq!(sent.len(), 2, "it is read back");
    let signed = sent[0].lines().find(|line| line.starts_with("authorization: ")).unwrap();
    for header in [
        "if-none-match: *",
        "x-amz-object-lock-mode: compliance",
        "x-amz-object-lock-retain-until-date: 1970-01-02t00:00:00z",
        "x-amz-checksum-sha256: ",
    ] {
        assert!(sent[0].contains(header), "{header}: {}", sent[0]);
        let name = header.split(':').next().unwrap();
        assert!(signed.contains(name), "a store refuses headers that are not signed: {name} in {signed}");
    }
    assert!(sent[0].starts_with("put /vault/eu/x http/1.1") && !sent.concat().contains("very secret"));

    for (does_now, why) in [
        (Does::Deny, "refused: the store denies it"),
        (Does::Say(LOCKED, "Note"), "refused: x was taken and something else is read back"),
        (Does::Say(LOCKED, "longer"), "refused: x was taken and something else is read back"),
        (
            Does::Say("", "note"),
            "refused: x must be locked (COMPLIANCE) until 1970-01-02T00:00:00Z and has no lock",
        ),
        (Does::Say(weak, "note"), "and has no lock"),
        (Does::Say(short, "note"), "and has a lock until 1970-01-01T23:59:58Z"),
        (Does::Have(LOCKED, "other"), "contradicted: something else lies at s3://vault/eu/x"),
        (Does::Have("", "note"), "has no lock"),
        (Does::Overload, "later: "),
    ] {
        *does.lock().unwrap() = does_now;
        let failure = put(&place).await.unwrap_err();
        let kind = match failure {
            Failure::Later(..) => "later",
            Failure::Refused(_) => "refused",
            Failure::Contradicted(_) => "contradicted",
        };
        let said = format!("{kind}: {}", failure.why());
        assert!(said.contains(why), "{does_now:?}: {said}");
    }
    // What an earlier try of ours put, whose answer was lost, is as good, though its lock ends a little sooner.
    *does.lock().unwrap() = Does::Have(short, "note");
    assert!(put(&place).await.is_ok());
}

#[tokio::test]
async fn a_store_that_is_away_becomes_a_dead_letter_and_one_that_hangs_holds_one_request() {
    let terms = Terms { every_ms: 1000, tries: 3 };
    let does = Arc::new(Mutex::new(Does::Overload));
    let (mut place, seen) = store(&does);
    let mut lane = Lane::default();
    let (mut now_ms, mut pauses) = (1_000_000, Vec::new());
    while lane.letter().is_none() {
        assert_eq!(lane.next(now_ms, 7, 0, 0, terms), Next::Go);
        let failure = put(&place).await.unwrap_err();
        lane.failed(now_ms, 7, failure, 0, terms);
        let Next::Wait(pause) = lane.next(now_ms, 7, 0, 0, terms) else { panic!("it waits") };
        pauses.push(pause);
        now_ms += pause;
    }
    assert_eq!(pauses, [1000, 2000, 4000], "each pause is longer");
    assert_eq!(lane.letter().map(|letter| (letter.size, letter.tries)), Some((7, 3)));

    *does.lock().unwrap() = Does::Hang;
    place.patience = Duration::from_millis(100);
    let sent = seen.lock().unwrap().len();
    for _ in 0..3 {
        lane.failed(now_ms, 8, put(&place).await.unwrap_err(), 0, terms);
    }
    let why = lane.letter().unwrap().failure.why().to_owned();
    assert_eq!(why, "the request before this one has not come back");
    assert_eq!(seen.lock().unwrap().len(), sent + 1, "L1: one request is under way");
}

#[tokio::test]
async fn in_a_directory_the_first_bytes_stay_and_the_same_bytes_again_are_fine() {
    let dir = tempfile::tempdir().unwrap();
    let store = Box::new(LocalFileSystem::new_with_prefix(dir.path()).unwrap().with_fsync(true));
    let place = Place::new(store, "file:///copies".into(), "a/b", None);
    for _ in 0..2 {
        assert_eq!(place.put("tile/0/000.p/7", Bytes::from_static(b"x"), NOW).await, Ok(Held::default()));
    }
    let other = place.put("tile/0/000.p/7", Bytes::from_static(b"y"), NOW).await;
    assert_eq!(
        other,
        Err(Failure::Contradicted("something else lies at file:///copies/a/b/tile/0/000.p/7".into()))
    );
    assert_eq!(std::fs::read(dir.path().join("a/b/tile/0/000.p/7")).unwrap(), b"x");
    assert!(matches!(place.put("../x", Bytes::new(), NOW).await, Err(Failure::Refused(_))));
}
