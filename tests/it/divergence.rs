//! A node whose log was rewritten with every sum redone: its bytes are sound, what it computes is not. It halts itself
//! and says why, the others go on, and one command names the record.

use crate::load::{Load, insist_all_present};
use crate::pcs::submission;
use crate::tools;
use crate::trio::{Group, number, text, until};
use engine::event::{Event, Payload, Record};
use engine::log::Lsn;
use segments::{AnyDisk, Frame, Identity, Kind, Log, Options, Prefer, Scan};
use std::convert::Infallible;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Segments as [`crate::node::Start`] has them made.
const SEGMENT_BYTES: u64 = 2 << 20;

/// One frame as it was read, and what its batch knew to be agreed.
struct Read {
    kind: Kind,
    lsn: Lsn,
    term: u64,
    payload: Vec<u8>,
    committed: Lsn,
}

/// A value of a node's identity file.
fn identity(data: &Path, name: &str) -> String {
    let file = std::fs::read_to_string(data.join("identity")).expect("an identity");
    let value = file.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_prefix('='));
    value.expect("it is there").trim().to_owned()
}

/// Waits until a node has so many records. Others may have agreed on them without it, on a busy machine for long.
pub fn wait_for_records(node: &crate::node::Node, records: u64) {
    until("it follows", || number(&node.get("/metrics").text(), "flk_log_applied_lsn") >= records);
}

/// Writes a node's log again with one bit of one submission's salt changed, and everything that could tell, from the
/// frame's sum to the manifest, made anew. What was made of the log before goes away. Returns the record.
pub fn rewrite_one_record(data: &Path) -> u64 {
    let (log, new) = (data.join("log"), data.join("log-new"));
    let mut frames = Vec::new();
    let scan = Scan::open(&log).expect("a log");
    for number in 1..=scan.last() {
        let read = scan.frames(number, &mut |found| {
            let Frame { kind, lsn, term, payload } = found.frame;
            frames.push(Read { kind, lsn, term, payload: payload.to_vec(), committed: found.committed });
            Ok::<(), Infallible>(())
        });
        read.expect("sound frames");
    }
    let submission = |frame: &&mut Read| {
        let record = Record::decode(&frame.payload);
        let is = |event: &Event| matches!(event, Event::Received(_));
        frame.kind == Kind::Entry
            && record
                .is_ok_and(|r| matches!(r.payload, Payload::Events(events) if events.first().is_some_and(is)))
    };
    let middle = frames.iter_mut().filter(|frame| submission(frame)).count() / 2;
    let chosen = frames.iter_mut().filter(submission).nth(middle).expect("a submission");
    let mut record = Record::decode(&chosen.payload).expect("it was decoded");
    if let Payload::Events(events) = &mut record.payload
        && let Some(Event::Received(envelope)) = events.first_mut()
    {
        envelope.salt[7] ^= 1;
    }
    chosen.payload.clear();
    record.encode(&mut chosen.payload);
    let lsn = chosen.lsn.0;

    let mut cluster = [0; 16];
    for (byte, digits) in cluster.iter_mut().zip(identity(data, "cluster").as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).expect("hex");
        *byte = u8::from_str_radix(digits, 16).expect("hex");
    }
    std::fs::create_dir(&new).expect("a directory");
    let (disk, _) = AnyDisk::open(&new, Prefer::Posix).expect("a disk");
    let mut options = Options::new(Identity { cluster, region: identity(data, "region") });
    options.segment_bytes = SEGMENT_BYTES;
    let (mut written, _) = Log::open(disk, &options, |_| Ok::<(), Infallible>(())).expect("a new log");
    for frame in &frames {
        written.set_committed(frame.committed);
        let Read { kind, lsn, term, ref payload, .. } = *frame;
        written.append(Frame { kind, lsn, term, payload }).expect("room");
        written.flush().expect("written");
    }
    drop(written);
    std::fs::rename(&log, data.join("log-before")).expect("renamed");
    std::fs::rename(&new, &log).expect("renamed");
    for made in ["proj", "worm", "tlog"] {
        // A node killed soon after its start has not made all of them yet.
        match std::fs::remove_dir_all(data.join(made)) {
            Err(error) if error.kind() != ErrorKind::NotFound => panic!("{made} stays: {error}"),
            _ => {}
        }
    }
    lsn
}

#[test]
fn a_node_that_computes_something_else_halts_and_is_named() {
    let mut group = Group::of(3);
    let load = Load::start(group.nodes[&1].address, 6, &Arc::new(AtomicU64::new(0)));
    load.wait_for(400);
    let follower = if group.leader() == 3 { 2 } else { 3 };
    let healthy: Vec<u64> = [1, 2, 3].into_iter().filter(|node| *node != follower).collect();
    wait_for_records(&group.nodes[&follower], 50);
    group.nodes.remove(&follower).expect("it runs").kill();
    load.wait_for(load.count() + 50);
    let acked = load.end();
    let record = rewrite_one_record(&group.data(follower));

    let halted = group.start_alive(follower);
    until("the node halts", || number(&halted.get("/metrics").text(), "flk_divergence_lsn") > 0);
    let after = number(&halted.get("/metrics").text(), "flk_divergence_lsn");
    assert!(after >= record, "attested after {after}, changed in {record}");
    let ready = halted.get("/readyz");
    assert_eq!(ready.status, 503);
    let line = ready.text();
    let line = line.lines().find(|line| line.starts_with("[-] attested:")).expect("the check that failed");
    assert!(line.contains("differs after record") && line.contains("computed"), "{line}");
    assert_eq!(halted.get("/livez").status, 200);
    until("it has halted and says so", || {
        let log = halted.process.log();
        log.contains("DIVERGENCE") && log.contains("I3")
    });
    // It speaks for nobody any more, and the others do not need it.
    let refused = halted.submit(&submission(1 << 40).body);
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(halted.get(&format!("/v1/pcs/{}", acked[0].submission.id)).status, 503);
    for (name, nth) in healthy.iter().zip(1..) {
        let node = &group.nodes[name];
        assert_eq!(node.submit(&submission((1 << 41) + nth).body).status, 200);
        let page = node.get("/metrics").text();
        assert_eq!(number(&page, "flk_divergence_lsn"), 0);
        assert!(number(&page, "flk_attested_agreed_total") > 0);
        insist_all_present(node, &acked);
    }

    // What an alert looks at, and only a leader of several knows.
    let leader = group.nodes[&group.leader()].get("/metrics").text();
    assert!(leader.contains(&format!("flk_raft_peer_lag_records{{node=\"{follower}\"}}")), "{leader}");

    let token = group.directory.path().join("token");
    let url = |name: &u64| format!("http://{}", group.ports[name].0);
    let compare = |one: &u64, other: &u64| {
        tools::flk(&["divergence", &url(one), &url(other), "--token-file", text(&token), "--json"])
    };
    let said = compare(&healthy[0], &follower);
    assert_eq!(said.code, Some(2), "{}", said.all());
    let found: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    let data = &found["data"];
    assert_eq!(data["record"]["at"].as_u64(), Some(record), "{}", said.all());
    assert_eq!(data["leaf"]["one"]["lsn"].as_u64(), Some(record), "{}", said.all());
    let salted = |side: &str| data["record"][side]["events"][0]["commitment"].clone();
    assert!(salted("one").is_string() && salted("one") != salted("other"), "{}", said.all());
    assert!(data["questions"].as_u64().is_some_and(|questions| questions <= 16), "{}", said.all());
    until("the others are equal", || compare(&healthy[0], &healthy[1]).code == Some(0));

    // The nodes say the same of themselves, and the disk of one that is right says so, too.
    assert_eq!(tools::flk(&["replay", "--check", "--live", &url(&follower)]).code, Some(2));
    let said = tools::flk(&["replay", "--check", "--live", &url(&healthy[0])]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert_eq!(tools::flk(&["replay", "--check", text(&group.data(healthy[0]))]).code, Some(0));
    assert_eq!(halted.terminate().code(), Some(4));
}

/// Submissions that are attested together; nothing is attested for being idle.
const TOGETHER: u64 = 500;

#[test]
fn a_leader_that_is_wrong_halts_before_it_attests() {
    let settings =
        [("FLK_ATTEST_RECORDS", TOGETHER.to_string()), ("FLK_ATTEST_IDLE_MS", "3600000".to_owned())];
    let mut group = Group::with(3, Default::default(), &settings);
    let load = Load::start(group.nodes[&1].address, 4, &Arc::new(AtomicU64::new(0)));
    load.wait_for(100);
    let mut acked = load.end();
    wait_for_records(
        &group.nodes[&3],
        number(&group.nodes[&1].get("/metrics").text(), "flk_log_applied_lsn"),
    );
    group.nodes.remove(&3).expect("it runs").kill();
    rewrite_one_record(&group.data(3));
    group.start(3);
    // Nothing was attested yet: it does not know, and may lead.
    until("it leads", || group.leader() == 3 || group.cluster(&["transfer", "3"]).code == Some(0));
    let load = Load::start(group.nodes[&1].address, 4, &Arc::new(AtomicU64::new(1 << 40)));
    until("it halts", || number(&group.nodes[&3].get("/metrics").text(), "flk_divergence_lsn") > 0);
    let line = group.nodes[&3].get("/readyz").text();
    assert!(line.contains("attested: the other voters computed otherwise"), "{line}");
    // The others elect one of them, go on, and attest what is right.
    load.wait_for(load.count() + 2 * TOGETHER as usize);
    acked.extend(load.end());
    until("they attest", || {
        [1, 2]
            .iter()
            .all(|node| number(&group.nodes[node].get("/metrics").text(), "flk_attested_agreed_total") > 0)
    });
    group.nodes.remove(&3).expect("it runs").kill();
    std::fs::remove_dir_all(group.data(3)).expect("removed");
    group.insist_sound(&acked);
}
