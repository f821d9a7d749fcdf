//! Two real regions, one of which does not let a tenant's submissions leave it.

use crate::http::Response;
use crate::node::{Node, Start};
use crate::pcs::{Draft, SECRET, Submission, submission};
use crate::regions::{World, accepted, converged, files, metric, regions, sound, wait};
use crate::regions2::{json, token, url};
use crate::tools::{Said, flk};
use crate::trio::text;
use base64::Engine as _;
use engine::checkpoint::Signer;
use engine::event::{Became, Item};
use engine::log::Digest;
use segments::shipment::bill::Bill;
use segments::shipment::chunk;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

/// Two tenants in both regions; `acme` stays in region `a`.
fn world() -> World {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("place");
    std::fs::create_dir(&place).expect("a place");
    let tenants = format!("acme:hmac:{SECRET},globex:hmac:{SECRET}");
    let both = [("FLK_MULTI_TENANT", "true"), ("FLK_TENANTS", &tenants), ("FLK_HMAC_KEY", "")];
    let withholds = [&both[..], &[("FLK_REGIONS_WITHHOLD", "acme")]].concat();
    let place = text(&place).to_owned();
    World::at(directory, &place, [&withholds, &both])
}

fn send(node: &Node, tenant: &str, body: &[u8]) -> Response {
    node.connect().send("POST", "/v1/pcs/submit", &[("X-Tenant-Id", tenant)], body).expect("an answer")
}

fn look(node: &Node, tenant: &str, path: &str) -> Response {
    node.connect().send("GET", path, &[("X-Tenant-Id", tenant)], b"").expect("an answer")
}

fn fill(node: &Node, tenant: &str, numbers: std::ops::Range<u64>) {
    for n in numbers {
        accepted(&send(node, tenant, &submission(n).body));
    }
}

fn other_content(number: u64) -> Submission {
    Draft { r: "0.4", budget: "0.43", ..Draft::accepted(number) }.signed()
}

/// Every file below a directory, what is packed in ranges unpacked.
fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for path in files(directory) {
        if path.is_dir() {
            found.extend(contents(&path));
            continue;
        }
        // What is being replaced may be gone.
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let in_chunks = path.parent().is_some_and(|parent| parent.ends_with("chunks"));
        let unpacked = if in_chunks { zstd::decode_all(&bytes[..]).expect("a range") } else { bytes };
        found.push((path, unpacked));
    }
    found
}

/// Files that hold the id of a submission, as text or as bytes, or the root it is of.
fn holding(contents: &[(PathBuf, Vec<u8>)], number: u64) -> Vec<&Path> {
    let draft = Draft::accepted(number);
    let raw = Sha256::digest(format!("{}|{}|{}", draft.merkle_root, draft.epoch, draft.shard_id));
    let (id, root) = (draft.id(), draft.merkle_root);
    let has = |bytes: &[u8], wanted: &[u8]| memchr::memmem::find(bytes, wanted).is_some();
    let holds = |bytes: &[u8]| [id.as_bytes(), &raw, root.as_bytes()].iter().any(|wanted| has(bytes, wanted));
    contents.iter().filter(|(_, bytes)| holds(bytes)).map(|(path, _)| path.as_path()).collect()
}

/// What the bills of `a` say they withhold.
fn billed(world: &World) -> u64 {
    let says = |path: PathBuf| {
        let text = std::fs::read_to_string(path).expect("a bill");
        text.lines().find_map(|line| line.strip_prefix("withheld ")?.parse::<u64>().ok())
    };
    world.shipped("a", "bills").into_iter().filter_map(says).sum()
}

fn divergence(world: &World, [a, b]: &[Node; 2]) -> Said {
    flk(&["divergence", &url(a), &url(b), "--token-file", &token(world), "--json"])
}

#[test]
fn what_is_withheld_is_proven_elsewhere_and_not_told() {
    let world = world();
    let nodes = world.ready();
    let [a, b] = &nodes;
    fill(a, "acme", 0..30);
    fill(a, "globex", 100..110);
    fill(b, "globex", 200..205);
    fill(b, "acme", 300..305);
    // One of each that is no first.
    assert_eq!(send(a, "acme", &submission(3).body).header("idempotent-replayed"), Some("true"));
    assert_eq!(send(a, "acme", &other_content(4).body).header("idempotent-replayed"), Some("conflict"));
    assert_eq!(send(a, "acme", b"{").status, 400);
    let unsigned = Draft::accepted(5).signed_with("nobody's");
    assert_eq!(send(a, "acme", &unsigned.body).status, 401);
    // The other region has cosigned the whole tree, and both have one truth.
    let merged = converged(&nodes);
    let [ours, theirs] = [a, b].map(regions);
    assert_eq!((&ours["withheld"], &ours["withheld_tenants"]), (&34.into(), &serde_json::json!(["acme"])));
    assert_eq!((&theirs["withheld"], &theirs["peers"][0]["withheld"]), (&0.into(), &34.into()), "{theirs}");
    assert_eq!(metric(b, "flk_region_quarantined{source_region=\"a\"}"), 0.0);
    wait("the bills say how many", || (billed(&world) == 34).then_some(()));

    // Nowhere outside of its region is anything of it; of what is not withheld there is, or this search is blind.
    let outside = [contents(&world.directory.path().join("place")), contents(&world.data("b"))].concat();
    for number in (0..30).chain([4, 5]) {
        assert_eq!(holding(&outside, number), [] as [&Path; 0], "{number}");
    }
    for number in 100..110 {
        let found = holding(&outside, number);
        assert!(found.iter().any(|path| path.parent().is_some_and(|path| path.ends_with("chunks"))));
        assert!(found.iter().any(|path| path.starts_with(world.data("b").join("log"))), "{found:?}");
    }
    assert!(!holding(&contents(&world.data("a")), 0).is_empty());

    // Both compare all they have, record by record and key by key.
    let said = divergence(&world, &nodes);
    assert!(said.code == Some(0) && said.out.contains("all equal"), "{}", said.all());
    assert_eq!(converged(&nodes), merged);

    // Whoever asks in the other region is told where it is, and no more.
    let id = submission(3).id;
    let told = look(b, "acme", &format!("/v1/pcs/{id}"));
    assert_eq!((told.status, &told.json()["region"]), (421, &"a".into()), "{}", told.text());
    assert!(told.text().contains("held by region a alone"), "{}", told.text());
    for kind in ["receipts", "lineage"] {
        let told = look(b, "acme", &format!("/v1/{kind}/{id}"));
        assert!(told.status == 404 && told.text().contains("of region a, which alone"), "{}", told.text());
    }
    assert_eq!(look(b, "globex", &format!("/v1/pcs/{id}")).status, 404, "it is nobody else's");
    assert_eq!(look(a, "acme", &format!("/v1/pcs/{id}")).status, 200);
    assert_eq!(look(a, "acme", &format!("/v1/receipts/{id}")).status, 200);
    for (body, replayed) in [(submission(3).body, "true"), (other_content(3).body, "conflict")] {
        let told = send(b, "acme", &body);
        assert_eq!((told.status, &told.json()["replayed"]), (421, &replayed.into()), "{}", told.text());
        assert_eq!((&told.json()["accepted"], &told.json()["region"]), (&true.into(), &"a".into()));
    }
    // The other way round nothing is withheld.
    let again = send(a, "acme", &submission(300).body);
    let first = look(b, "acme", &format!("/v1/pcs/{}", submission(300).id));
    assert_eq!(accepted(&again), accepted(&first));
    assert_ne!(converged(&nodes), merged, "what was tried there counts there");
    let said = divergence(&world, &nodes);
    assert!(said.code == Some(0) && said.out.contains("all equal"), "{}", said.all());
    let merged = converged(&nodes);
    nodes.into_iter().for_each(Node::stop);
    sound(&world, &merged);
    // From nothing but the logs it is the same.
    for region in ["a", "b"] {
        std::fs::remove_dir_all(world.data(region).join("proj")).expect("removed");
    }
    let nodes = world.ready();
    assert_eq!(converged(&nodes), merged);
}

#[test]
fn what_is_said_of_it_is_believed_no_further_than_the_tree() {
    let world = world();
    let nodes = world.ready();
    fill(&nodes[0], "acme", 0..3);
    converged(&nodes);
    let [a, b] = nodes;
    b.kill();
    let before = world.shipped("a", "bills").len();
    fill(&a, "acme", 3..6);
    let signer = signer(&world.data("a"));
    let leaves = metric(&a, "flk_tree_leaves") as u64;
    let over = |path: PathBuf| {
        let bill = Bill::open(&std::fs::read(path).expect("a bill"), &signer.verifier()).expect("its own");
        bill.head.is_some_and(|(size, _)| size >= leaves)
    };
    // What is wrong shows where the region has signed what came of it.
    wait("it is shipped, and a checkpoint over it", || {
        (billed(&world) == 6 && world.shipped("a", "bills").into_iter().any(over)).then_some(())
    });
    a.stop();
    let mut changed = Vec::new();
    for path in world.shipped("a", "bills").split_off(before) {
        let note = std::fs::read(&path).expect("a bill");
        let mut bill = Bill::open(&note, &signer.verifier()).expect("its own");
        let there = world.directory.path().join("place/a").join(bill.chunk());
        let packed = std::fs::read(&there).expect("a range");
        let mut items = chunk::open(&packed, &bill).expect("what the bill says");
        if !other_leaf(&mut items) {
            continue;
        }
        let raw = chunk::encode(bill.from, &items);
        let other = chunk::pack(&raw).expect("packed");
        std::fs::write(&there, &other).expect("written");
        (bill.digest, bill.bytes) = (Digest(Sha256::digest(&other).into()), other.len() as u64);
        changed.push((path, there, packed, bill, other));
    }
    let (path, there, packed, bill, other) = changed.swap_remove(0);
    // In the place it is noticed, and told by its name.
    let b = world.starts[1].ready();
    let why = wait("it is refused", || regions(&b)["peers"][0]["waits"].as_str().map(str::to_owned));
    assert_eq!(why, format!("the range from record {}: it is not what its bill says", bill.from));
    assert!(metric(&b, "flk_region_refused_total{source_region=\"a\"}") > 0.0);
    std::fs::write(&there, &packed).expect("written");
    for (_, there, packed, ..) in &changed {
        std::fs::write(there, packed).expect("written");
    }
    b.kill();
    // Under the key of its own region, too: the tree is another then.
    std::fs::write(path.parent().and_then(Path::parent).expect("a place").join(bill.chunk()), other)
        .expect("written");
    std::fs::write(&path, bill.sign(&[&signer])).expect("written");
    let b = world.starts[1].ready();
    let part = wait("it is in quarantine", || {
        regions(&b)["peers"][0]["quarantine"]["part"].as_str().map(str::to_owned)
    });
    assert!(["outcomes", "checkpoint"].contains(&part.as_str()), "{part}");
    b.stop();
}

fn signer(data: &Path) -> Signer {
    let seed = std::fs::read(data.join("keys/log.key")).expect("the key");
    let seed = base64::engine::general_purpose::STANDARD.decode(seed.trim_ascii()).expect("base64");
    Signer::new("localhost/pcs/a", &seed.try_into().expect("a seed")).expect("a signer")
}

fn other_leaf(items: &mut [Item]) -> bool {
    let leaf = items.iter_mut().find_map(|item| match item {
        Item::Withheld(withheld) => match &mut withheld.became {
            Became::First { leaf, .. } => Some(leaf),
            _ => None,
        },
        _ => None,
    });
    leaf.map(|leaf| *leaf = Digest([9; 32])).is_some()
}

#[test]
fn its_region_is_not_restored_from_shipments_and_the_others_are() {
    let world = world();
    let nodes = world.ready();
    fill(&nodes[0], "acme", 0..7);
    fill(&nodes[1], "acme", 20..25);
    converged(&nodes);
    let [a, b] = nodes;
    // The setting is gone, and the log still says so.
    a.stop();
    let a = world.starts[0].clone().with("FLK_REGIONS_WITHHOLD", "").ready();
    assert!(a.process.log().contains("it stays withheld"));
    fill(&a, "acme", 7..9);
    let nodes = [a, b];
    converged(&nodes);
    assert_eq!(billed(&world), 9);
    assert_eq!(holding(&contents(&world.directory.path().join("place")), 8), [] as [&Path; 0]);
    nodes.into_iter().for_each(Node::stop);
    let place = world.directory.path().join("place");
    let restore = |region: &str, more: &[&str]| {
        let vkey = world.data(region).join("keys/region.vkey");
        let to = world.directory.path().join(format!("restored-{region}"));
        let (place, vkey, to) = (text(&place), text(&vkey), text(&to));
        let given =
            ["region", "restore", "--place", place, "--region", region, "--keys", vkey, "--to", to, "--json"];
        flk(&[&given[..], &["--segment-bytes", "2097152"], more].concat())
    };
    let peer = |region: &str| {
        let vkey = world.data(region).join("keys/region.vkey");
        format!("{region} {} {}", text(&place), text(&vkey))
    };
    let said = restore("a", &["--peer", &peer("b")]);
    assert_eq!(said.code, Some(3), "{}", said.all());
    let told = "9 submissions of acme (9) were withheld: region a alone has them";
    assert!(said.all().contains(told), "{}", said.all());
    assert!(!world.directory.path().join("restored-a/log").exists());
    let said = restore("b", &["--peer", &peer("a")]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    assert!(json(&said)["data"]["imported"].as_u64().is_some_and(|records| records > 0), "{}", said.all());
}

#[test]
fn who_is_no_tenant_cannot_be_withheld() {
    let directory = tempfile::tempdir().expect("a directory");
    let start = Start::on(directory.path()).with("FLK_REGIONS_WITHHOLD", "nobody");
    let (status, said) = start.refused();
    assert!(!status.success() && said.contains("regions.withhold names 'nobody'"), "{said}");
}
