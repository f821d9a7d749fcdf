//! Two regions through a bucket of a server that we did not write, when it answers, denies, lies and is late.

use crate::moto::{Gate, Mood, Moto};
use crate::node::Node;
use crate::pcs::submission;
use crate::regions::{World, accepted, converged, metric, regions, sound, wait};
use std::path::Path;

fn submit(node: &Node, numbers: std::ops::Range<u64>) {
    for number in numbers {
        accepted(&node.submit(&submission(number).body));
    }
}

/// A file with the bucket `ship` at this address.
fn stores(home: &Path, name: &str, url: &str) -> String {
    let key = home.join("ship.key");
    std::fs::write(&key, "id\nsecret\n").expect("a file");
    let file = home.join(name);
    let text = format!(
        "[[store]]\nbucket = \"ship\"\nurl = \"{url}\"\nregion = \"us-east-1\"\nkey_file = \"{}\"\n",
        key.display()
    );
    std::fs::write(&file, text).expect("a file");
    file.to_str().expect("a text path").to_owned()
}

/// The same in the words of Google's store, with a service account's key as it is given out.
fn google(home: &Path, url: &str) -> String {
    let openssl = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
    let made = std::process::Command::new("openssl").args(openssl).output().expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let key = serde_json::json!({
        "type": "service_account", "private_key_id": "1", "client_email": "flk@project.example",
        "private_key": String::from_utf8(made.stdout).expect("PEM"),
    });
    let (key_file, file) = (home.join("google.json"), home.join("google.toml"));
    std::fs::write(&key_file, key.to_string()).expect("a file");
    let head = format!("[[store]]\nkind = \"gcs\"\nbucket = \"ship\"\nurl = \"{url}\"\n");
    std::fs::write(&file, format!("{head}key_file = \"{}\"\n", key_file.display())).expect("a file");
    file.to_str().expect("a text path").to_owned()
}

#[test]
fn a_bucket_that_is_asked_in_the_words_of_google_is_a_place_too() {
    let moto = Moto::start();
    moto.say("make", "ship", &["plain"]);
    let gate = Gate::before(&moto);
    let directory = tempfile::tempdir().expect("a directory");
    let stores = google(directory.path(), &gate.url);
    let more = [("FLK_REGIONS_STORES_FILE", stores.as_str())];
    let world = World::at(directory, "gs://ship/logs", [&more, &more]);
    let nodes = world.ready();
    submit(&nodes[0], 0..30);
    submit(&nodes[1], 30..60);
    converged(&nodes);
    gate.set(Mood::Denied);
    submit(&nodes[0], 100..120);
    wait("that it is denied is told", || regions(&nodes[0])["shipping_waits"].is_string().then_some(()));
    gate.set(Mood::Open);
    let merged = converged(&nodes);
    // What lies there is not put again by whoever begins anew.
    let [a, b] = nodes;
    a.kill();
    let nodes = [world.starts[0].ready(), b];
    assert_eq!(converged(&nodes), merged);
    assert_eq!(metric(&nodes[0], "wal_ship_errors_total"), 0.0);
    nodes.into_iter().for_each(Node::stop);
    sound(&world, &merged);
    // A key that cannot be read is told by its file, and by nothing that stands in it.
    let bad = world.directory.path().join("google.json");
    std::fs::write(&bad, "{\"private_key\": \"hush\"}").expect("a file");
    let (status, log) = world.starts[0].clone().refused();
    assert!(!status.success() && log.contains("google.json") && !log.contains("hush"), "{log}");
}

#[test]
fn a_bucket_is_a_place_and_one_that_lies_is_told_and_skips_nothing() {
    let moto = Moto::start();
    moto.say("make", "ship", &["plain"]);
    let gate = Gate::before(&moto);
    let directory = tempfile::tempdir().expect("a directory");
    let file = "FLK_REGIONS_STORES_FILE";
    let gated = stores(directory.path(), "gated.toml", &gate.url);
    let direct = stores(directory.path(), "direct.toml", &moto.url);
    let world = World::at(directory, "s3://ship/logs/all", [&[(file, &gated)], &[(file, &direct)]]);
    let nodes = world.ready();
    let [a, b] = &nodes;
    submit(a, 0..30);
    submit(b, 30..60);
    converged(&nodes);

    // One region is denied the bucket: nobody who submits notices, and it comes when it is let in.
    gate.set(Mood::Denied);
    submit(a, 100..120);
    submit(b, 120..140);
    wait("that it is denied is told", || {
        let told = regions(a)["shipping_waits"].is_string() && regions(a)["peers"][0]["waits"].is_string();
        (told && metric(a, "wal_ship_errors_total") > 0.0).then_some(())
    });
    gate.set(Mood::Open);
    converged(&nodes);

    // It takes everything and keeps nothing.
    gate.set(Mood::Lies);
    let (shipped, held) = (regions(a)["shipped"].clone(), regions(b)["peers"][0]["records"].clone());
    submit(a, 200..220);
    wait("that it lies is told", || {
        let why = regions(a)["shipping_waits"].as_str().map(str::to_owned)?;
        why.contains("the place lies: chunks/").then_some(())
    });
    assert_eq!(regions(a)["shipped"], shipped, "the watermark stays");
    assert_eq!(regions(b)["peers"][0]["records"], held);
    gate.set(Mood::Open);
    converged(&nodes);

    // It lists as it did at the beginning, when there was nothing.
    gate.set(Mood::Late);
    let [a, b] = nodes;
    a.kill();
    let nodes = [world.starts[0].ready(), b];
    submit(&nodes[0], 300..320);
    submit(&nodes[1], 320..340);
    let merged = converged(&nodes);
    assert_eq!(metric(&nodes[0], "wal_ship_errors_total"), 0.0);
    nodes.into_iter().for_each(Node::stop);
    sound(&world, &merged);
}
