//! Which crate may depend on which.
//!
//! The rule is the drawing in `docs/ARCHITECTURE.md`: arrows point inward. It is read from `cargo metadata`, so a
//! development or build dependency counts as well, and what a room reaches through other crates is checked too.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Every room and the rooms that it may name. A crate that is not here may depend on none.
const ALLOWED: &[(&str, &[&str])] = &[
    ("engine", &[]),
    ("segments", &["engine"]),
    ("raft", &["engine", "segments"]),
    ("server", &["engine", "segments", "raft"]),
    ("tools", &["engine", "segments"]),
    ("tests", &["engine", "segments", "raft", "server", "tools"]),
    // Part of the room `tests`, a crate of its own for what its references need.
    ("bench", &["engine", "segments", "raft", "server", "tools"]),
];

/// What a room must not reach, however indirectly, and why.
const UNREACHABLE: &[(&str, &[&str], &str)] = &[
    (
        "engine",
        &["tokio", "rustix", "rand", "io-uring", "memmap2", "openraft", "hyper"],
        "it is a pure function",
    ),
    ("segments", &["tokio", "openraft", "hyper"], "the log knows no scheduler and no network"),
    ("tools", &["openraft", "raft", "server"], "an auditor's binary holds nothing that writes a log"),
];

fn names(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Complaints about the arrows in the output of `cargo metadata`.
pub fn check(metadata: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    let members: BTreeSet<&str> = names(&metadata["workspace_members"]).filter_map(Value::as_str).collect();
    let local: Vec<&Value> =
        names(&metadata["packages"]).filter(|package| members.contains(text(package, "id"))).collect();
    let rooms: BTreeSet<&str> = local.iter().map(|package| text(package, "name")).collect();
    for package in &local {
        let room = text(package, "name");
        let allowed = ALLOWED.iter().find(|(name, _)| *name == room).map_or(&[][..], |(_, allowed)| allowed);
        for dependency in names(&package["dependencies"]) {
            let target = text(dependency, "name");
            if rooms.contains(target) && !allowed.contains(&target) {
                complaints.push(format!("{room} -> {target}: not an arrow of docs/ARCHITECTURE.md"));
            }
        }
        if package["features"].as_object().is_some_and(|features| !features.is_empty()) {
            complaints.push(format!("{room} has Cargo features; behaviour enters through ports"));
        }
    }
    complaints.extend(reach(metadata));
    complaints
}

/// Complaints about what a room reaches in the resolved graph, development dependencies left out.
fn reach(metadata: &Value) -> Vec<String> {
    let name_of: BTreeMap<&str, &str> =
        names(&metadata["packages"]).map(|package| (text(package, "id"), text(package, "name"))).collect();
    let mut edges: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in names(&metadata["resolve"]["nodes"]) {
        let built = |dependency: &&Value| names(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null());
        let targets = names(&node["deps"]).filter(built).map(|dependency| text(dependency, "pkg")).collect();
        edges.insert(text(node, "id"), targets);
    }
    let mut complaints = Vec::new();
    for (room, forbidden, why) in UNREACHABLE {
        let start = name_of.iter().find(|(_, name)| *name == room).map(|(id, _)| *id);
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut open: Vec<&str> = start.into_iter().collect();
        while let Some(id) = open.pop() {
            for next in edges.get(id).into_iter().flatten() {
                if Some(*next) != start && !came_from.contains_key(next) {
                    came_from.insert(next, id);
                    open.push(next);
                }
            }
        }
        for id in came_from.keys() {
            let name = name_of.get(id).copied().unwrap_or(id);
            if forbidden.contains(&name) {
                let by = name_of.get(came_from[id]).copied().unwrap_or_default();
                complaints.push(format!("{room} reaches {name} through {by}, but {why}"));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metadata() -> Value {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let output = std::process::Command::new(cargo)
            .args([
                "metadata",
                "--format-version",
                "1",
                "--locked",
                "--filter-platform",
                "x86_64-unknown-linux-gnu",
            ])
            .current_dir(crate::manners::root())
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
    }

    #[test]
    fn arrows_point_inward() {
        let metadata = metadata();
        assert!(names(&metadata["workspace_members"]).count() >= ALLOWED.len());
        crate::manners::insist(&check(&metadata));
    }

    #[test]
    fn a_wrong_arrow_is_reported() {
        let package = |name: &str, needs: &[&str]| {
            let dependencies: Vec<Value> =
                needs.iter().map(|need| json!({"name": need, "kind": "dev"})).collect();
            json!({"id": name, "name": name, "dependencies": dependencies, "features": {}})
        };
        let planted = json!({
            "workspace_members": ["engine", "tools", "server"],
            "packages": [package("engine", &[]), package("tools", &["server"]), package("server", &["engine"])],
            "resolve": {"nodes": []},
        });
        assert_eq!(check(&planted), ["tools -> server: not an arrow of docs/ARCHITECTURE.md"]);
    }

    #[test]
    fn an_indirect_reach_is_reported() {
        let node = |name: &str, needs: &[&str]| {
            let deps: Vec<Value> =
                needs.iter().map(|need| json!({"pkg": need, "dep_kinds": [{"kind": null}]})).collect();
            json!({"id": name, "deps": deps})
        };
        let package = |name: &str| json!({"id": name, "name": name, "dependencies": [], "features": {}});
        let planted = json!({
            "workspace_members": ["engine"],
            "packages": [package("engine"), package("handy"), package("tokio")],
            "resolve": {"nodes": [node("engine", &["handy"]), node("handy", &["tokio"]), node("tokio", &[])]},
        });
        assert_eq!(check(&planted), ["engine reaches tokio through handy, but it is a pure function"]);
    }

    #[test]
    fn a_cargo_feature_is_reported() {
        let package = json!({"id": "engine", "name": "engine", "dependencies": [], "features": {"fast": []}});
        let planted =
            json!({"workspace_members": ["engine"], "packages": [package], "resolve": {"nodes": []}});
        assert_eq!(check(&planted).len(), 1);
    }
}
