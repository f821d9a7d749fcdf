//! Three nodes in one process, over a transport that only calls: what a group promises its users.

#![expect(clippy::disallowed_methods, reason = "these tests run on the production runtime and its time")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::event::{Envelope, Event};
use engine::ids::TenantId;
use engine::log::Lsn;
use futures_util::future::BoxFuture;
use raft::{
    Batch, Group, GroupConfig, Machine, Member, MembersError, Peer, ProposeError, ReadError, Role, Standing,
    Transport, Unreached,
};
use segments::{Identity, Options, PosixDisk};

type Applied = Arc<Mutex<Vec<(Lsn, u64, Vec<Event>)>>>;

#[derive(Clone, Default)]
struct Recorder(Applied);

impl Machine for Recorder {
    fn standing(&self) -> Standing {
        Standing::default()
    }

    fn apply(&mut self, lsn: Lsn, term: u64, batch: &Batch) {
        self.0.lock().unwrap().push((lsn, term, batch.events.to_vec()));
    }
}

/// Who is up, by name.
#[derive(Clone, Default)]
struct Net(Arc<Mutex<BTreeMap<u64, Arc<Group>>>>);

/// One node's way to the others.
#[derive(Clone)]
struct From {
    net: Net,
    node: u64,
}

impl std::fmt::Debug for From {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "from node {}", self.node)
    }
}

impl Transport for From {
    fn ask(
        &self,
        peer: &Peer,
        request: Vec<u8>,
        within: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, Unreached>> {
        let (net, from, to) = (self.net.clone(), self.node, peer.node);
        Box::pin(async move {
            let group = net.0.lock().unwrap().get(&to).cloned();
            let group = group.ok_or_else(|| Unreached::NoWay("down".into()))?;
            let answer = tokio::time::timeout(within, group.serve(from, &request)).await;
            answer.map_err(|_| Unreached::NoAnswer("late".into()))
        })
    }
}

struct Node {
    group: Arc<Group>,
    applied: Applied,
}

fn member(node: u64) -> Member {
    Member { address: format!("node-{node}:1"), incarnation: 100 + node }
}

impl Net {
    async fn open(&self, dir: &Path, node: u64, join: bool) -> Node {
        let identity = Identity { cluster: [1; 16], region: "default".into() };
        let options = Options { segment_bytes: 16 << 20, ..Options::new(identity) };
        let config = GroupConfig {
            me: member(node),
            join,
            transport: Arc::new(From { net: self.clone(), node }),
            ..GroupConfig::new(node, options)
        };
        let machine = Recorder::default();
        let applied = machine.0.clone();
        let disk = PosixDisk::open(&dir.join(node.to_string())).unwrap();
        let group = Arc::new(Group::open(config, disk, machine).await.unwrap());
        self.0.lock().unwrap().insert(node, group.clone());
        Node { group, applied }
    }

    async fn stop(&self, node: Node) {
        self.0.lock().unwrap().remove(&node.group.node());
        node.group.shutdown().await;
    }

    /// Node 1 founds a group, 2 and 3 join it and become voters.
    async fn three(&self, dir: &Path) -> [Node; 3] {
        for node in 1..=3 {
            std::fs::create_dir_all(dir.join(format!("{node}"))).unwrap();
        }
        let first = self.open(dir, 1, false).await;
        first.group.propose(batch(0)).await.unwrap();
        let (second, third) = (self.open(dir, 2, true).await, self.open(dir, 3, true).await);
        for node in [2, 3] {
            first.group.add(node, member(node)).await.unwrap();
            promoted(&first.group, node).await;
        }
        [first, second, third]
    }
}

async fn promoted(leader: &Group, node: u64) {
    until("a learner catches up", async || match leader.promote(node).await {
        Ok(()) => true,
        Err(MembersError::Behind { .. }) => false,
        Err(error) => panic!("{error}"),
    })
    .await;
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..3000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not within 30 s");
}

fn batch(n: u64) -> Batch {
    let body = n.to_le_bytes().to_vec();
    let tenant = TenantId::new("t").unwrap();
    let event = Event::Received(Envelope { tenant, received_at_ms: n, salt: [0; 16], body });
    Batch { events: vec![event].into(), local: None }
}

async fn equal(nodes: &[&Node], at_least: Lsn) {
    for node in nodes {
        until("every node applies", async || node.group.metrics().applied >= at_least).await;
    }
    let first = nodes[0].applied.lock().unwrap().clone();
    for node in &nodes[1..] {
        // What was under way may have reached one of them since.
        let other = node.applied.lock().unwrap().clone();
        let both = first.len().min(other.len());
        assert!(first[..both] == other[..both], "two nodes applied different things");
    }
}

/// The frames of a log that hold entries, as they stand there.
fn entries(dir: &Path, node: u64) -> Vec<(Lsn, u64, Vec<u8>)> {
    let scan = segments::Scan::open(&dir.join(node.to_string())).unwrap();
    let mut out = Vec::new();
    for number in 1..=scan.last() {
        scan.frames::<()>(number, &mut |scanned| {
            if scanned.frame.kind == segments::Kind::Entry {
                out.push((scanned.frame.lsn, scanned.frame.term, scanned.frame.payload.to_vec()));
            }
            Ok(())
        })
        .unwrap();
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_hold_the_same_bytes_and_a_new_one_catches_up() {
    let (dir, net) = (tempfile::tempdir().unwrap(), Net::default());
    let [first, second, third] = net.three(dir.path()).await;
    let mut last = Lsn::ZERO;
    for n in 1..100 {
        last = first.group.propose(batch(n)).await.unwrap();
    }
    equal(&[&first, &second, &third], last).await;
    assert_eq!(second.group.metrics().role, Role::Follower);
    assert_eq!(second.group.leader(), Some(1));
    assert!(matches!(second.group.propose(batch(7)).await, Err(ProposeError::NotLeader { leader: Some(1) })));
    // What was stamped for another term is not logged in this one.
    let term = first.group.leads().expect("it leads");
    for other in [0, term - 1, term + 1] {
        let refused = first.group.submit_in(other, batch(7)).await.unwrap().await;
        assert!(matches!(refused, Err(ProposeError::NotLeader { .. })), "{refused:?}");
    }
    let taken = first.group.submit_in(term, batch(7)).await.unwrap().await.unwrap();
    assert_eq!(taken, last.next(), "nothing came between");
    // ReadIndex: a follower sees at least what was acknowledged before it was asked.
    let last = first.group.propose(batch(100)).await.unwrap();
    assert!(third.group.read_index().await.unwrap() >= last);
    assert!(third.group.metrics().applied >= last);

    // A node that was away gets what it missed.
    net.stop(third).await;
    for n in 101..200 {
        first.group.propose(batch(n)).await.unwrap();
    }
    let third = net.open(dir.path(), 3, true).await;
    let last = first.group.propose(batch(200)).await.unwrap();
    equal(&[&first, &second, &third], last).await;
    for node in [first, second, third] {
        net.stop(node).await;
    }
    // Whoever stopped last may have been elected before, and has then one more.
    let bytes = entries(dir.path(), 1);
    let agreed = last.0 as usize;
    for node in [2, 3] {
        for (mine, theirs) in bytes[..agreed].iter().zip(&entries(dir.path(), node)) {
            assert_eq!(mine, theirs, "node {node} holds other bytes");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lead_is_handed_over_and_nodes_are_removed() {
    let (dir, net) = (tempfile::tempdir().unwrap(), Net::default());
    let [first, second, third] = net.three(dir.path()).await;
    let term = first.group.leads().unwrap();
    first.group.hand_over(Some(3), Duration::from_secs(10)).await.unwrap();
    until("node 3 leads", async || third.group.leads().is_some_and(|led| led > term)).await;
    until("the others know", async || first.group.leader() == Some(3)).await;
    assert!(matches!(first.group.remove(2).await, Err(MembersError::NotLeader { leader: Some(3) })));
    until("it takes entries", async || third.group.propose(batch(1)).await.is_ok()).await;
    let last = third.group.metrics().applied;
    equal(&[&first, &second, &third], last).await;

    // A name comes back only with its own disk.
    let other = Member { incarnation: 999, ..member(2) };
    assert!(matches!(third.group.add(2, other).await, Err(MembersError::Refused(_))));
    let moved = Member { address: "elsewhere:9".into(), ..member(2) };
    third.group.add(2, moved.clone()).await.unwrap();
    assert!(
        third.group.members().iter().any(|known| known.node == 2 && known.member == moved && known.voter)
    );

    third.group.remove(2).await.unwrap();
    assert_eq!(third.group.remove(2).await, Err(MembersError::Unknown(2)));
    // A leader that takes itself out leaves the lead to who is left.
    third.group.remove(3).await.unwrap();
    until("node 1 leads alone", async || first.group.leads().is_some()).await;
    let members = first.group.members();
    assert_eq!(members.iter().map(|member| member.node).collect::<Vec<_>>(), [1]);
    until("it takes entries", async || first.group.propose(batch(2)).await.is_ok()).await;
    assert!(matches!(first.group.remove(1).await, Err(MembersError::Refused(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_leader_is_replaced_and_a_lost_quorum_answers_nothing() {
    let (dir, net) = (tempfile::tempdir().unwrap(), Net::default());
    let [first, second, third] = net.three(dir.path()).await;
    let before = first.group.propose(batch(1)).await.unwrap();
    net.stop(first).await;
    until("another one leads", async || second.group.leads().is_some() || third.group.leads().is_some())
        .await;
    let (leader, other) = if second.group.leads().is_some() { (second, third) } else { (third, second) };
    // A new leader takes nothing before a quorum has answered it.
    until("it takes entries", async || leader.group.propose(batch(2)).await.is_ok()).await;
    let after = leader.group.metrics().applied;
    assert!(after > before);
    net.stop(other).await;
    // Alone of three: neither a write nor a read is answered as if it were agreed.
    let lonely = tokio::time::timeout(Duration::from_secs(3), leader.group.propose(batch(3))).await;
    assert!(!matches!(lonely, Ok(Ok(_))), "{lonely:?}");
    let read = tokio::time::timeout(Duration::from_secs(3), leader.group.read_index()).await;
    assert!(matches!(read, Err(_) | Ok(Err(ReadError::NotLeader { .. }))), "{read:?}");
    // The first comes back with its disk, which has all that was agreed without the other.
    let first = net.open(dir.path(), 1, false).await;
    until("the quorum is back", async || first.group.read_index().await.is_ok()).await;
    equal(&[&leader, &first], after).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_in_the_name_of_another_is_refused() {
    let (dir, net) = (tempfile::tempdir().unwrap(), Net::default());
    std::fs::create_dir_all(dir.path().join("1")).unwrap();
    let first = net.open(dir.path(), 1, false).await;
    let before = first.group.metrics().term;
    // A vote request of node 2 for term 99.
    let mut request = vec![2];
    request.extend_from_slice(&99u64.to_le_bytes());
    request.extend_from_slice(&2u64.to_le_bytes());
    request.extend_from_slice(&[0, 0, 0]);
    let refused = first.group.serve(3, &request).await;
    assert_eq!(refused[0], 5, "{}", String::from_utf8_lossy(&refused));
    assert_eq!(first.group.serve(2, &request[1..]).await[0], 5);
    assert_eq!(first.group.metrics().term, before);
}
