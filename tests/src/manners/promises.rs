//! Every invariant stands in four places: the table of `docs/INVARIANTS.md`, the head of the module that keeps it,
//! an assertion that names it, and a checker with at least one mutant.

use super::{ROOMS, Source};
use std::collections::BTreeSet;

const TABLE: &str = "docs/INVARIANTS.md";
const CHECKERS: &str = "tests/src/checkers/";

/// One row of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Promise {
    /// Such as `S1`.
    pub id: String,
    /// Path of the module that keeps it.
    pub module: String,
    /// Name of the checker file without its ending.
    pub checker: String,
}

fn is_id(word: &str) -> bool {
    let mut letters = word.chars();
    letters.next().is_some_and(|first| first.is_ascii_uppercase())
        && word.len() >= 2
        && letters.all(|letter| letter.is_ascii_digit())
}

/// The rows of the table; a row with a wrong number of cells gives a complaint.
pub fn read_table(text: &str) -> (Vec<Promise>, Vec<String>) {
    let (mut promises, mut complaints) = (Vec::new(), Vec::new());
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if !is_id(cells[0]) {
            continue;
        }
        let [id, name, sentence, breaks, module, checker] = cells.as_slice() else {
            complaints.push(format!("{TABLE}: {} cells in the row of {}", cells.len(), cells[0]));
            continue;
        };
        if [name, sentence, breaks].iter().any(|cell| cell.is_empty()) {
            complaints.push(format!("{TABLE}: an empty cell in the row of {id}"));
        }
        let plain = |cell: &str| cell.trim_matches('`').to_owned();
        promises.push(Promise { id: (*id).to_owned(), module: plain(module), checker: plain(checker) });
    }
    (promises, complaints)
}

/// Ids at the beginning of messages of assertions: `assert!(holds, "S3: ...")`.
pub fn asserted(text: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for (at, _) in text.match_indices("assert") {
        // An assertion ends at the first ");" that closes a line, or is not one.
        let rest = &text[at..];
        let end = rest.find(");\n").unwrap_or(rest.len());
        for (quote, _) in rest[..end].match_indices('"') {
            let message = &rest[quote + 1..end];
            let word = message.split(':').next().unwrap_or_default();
            if message[word.len()..].starts_with(": ") && is_id(word) {
                ids.insert(word.to_owned());
            }
        }
    }
    ids
}

fn heads(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| line.starts_with("//!") || line.starts_with("#!["))
}

fn mentions(text: &str, id: &str) -> bool {
    text.split(|letter: char| !letter.is_ascii_alphanumeric()).any(|word| word == id)
}

/// Complaints about a table and the tree that must keep it.
pub fn check(files: &[Source]) -> Vec<String> {
    let find = |path: &str| files.iter().find(|file| file.path == path);
    let Some(table) = find(TABLE) else {
        return vec![format!("{TABLE} is missing")];
    };
    let (promises, mut complaints) = read_table(&table.text);
    if promises.is_empty() {
        complaints.push(format!("{TABLE} holds no invariant"));
    }
    let product = |file: &&Source| ROOMS.iter().any(|room| file.path.starts_with(&format!("{room}/src/")));
    let in_code: BTreeSet<String> =
        files.iter().filter(product).flat_map(|file| asserted(&file.text)).collect();
    for Promise { id, module, checker } in &promises {
        match find(module) {
            None => complaints.push(format!("{id}: its module {module} is missing")),
            Some(file) if !heads(&file.text).any(|line| mentions(line, id)) => {
                complaints.push(format!("{id}: the head of {module} does not mention it"));
            }
            Some(_) => {}
        }
        if !in_code.contains(id) {
            complaints.push(format!("{id}: no assertion in the rooms says \"{id}: ...\""));
        }
        let path = format!("{CHECKERS}{checker}.rs");
        match find(&path) {
            None => complaints.push(format!("{id}: its checker {path} is missing")),
            Some(file) => {
                if !mentions(&file.text, id) {
                    complaints.push(format!("{id}: {path} does not mention it"));
                }
                if !file.text.to_lowercase().contains("mutant") {
                    complaints.push(format!("{id}: {path} has no mutant that it must catch"));
                }
            }
        }
    }
    let known: BTreeSet<&str> = promises.iter().map(|promise| promise.id.as_str()).collect();
    for id in in_code.iter().filter(|id| !known.contains(id.as_str())) {
        complaints.push(format!("{id}: an assertion names it, {TABLE} does not"));
    }
    let named: BTreeSet<&str> = promises.iter().map(|promise| promise.checker.as_str()).collect();
    for file in files {
        let checker = file.path.strip_prefix(CHECKERS).and_then(|name| name.strip_suffix(".rs"));
        if checker.is_some_and(|checker| checker != "mod" && !named.contains(checker)) {
            complaints.push(format!("{}: no invariant in {TABLE} names this checker", file.path));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_invariant_stands_in_its_four_places() {
        crate::manners::insist(&check(&crate::manners::sources()));
    }

    fn tree() -> Vec<(&'static str, &'static str)> {
        vec![
            (
                TABLE,
                "| id | name | sentence | breaks | module | checker |\n|---|---|---|---|---|---|\n| S1 | durable | It stays. | A cache. | `segments/src/log.rs` | `durable` |\n",
            ),
            (
                "segments/src/log.rs",
                "//! Keeps S1.\n\nfn f() {\n    assert!(synced, \"S1: sync came first\");\n}\n",
            ),
            ("tests/src/checkers/durable.rs", "//! Checks S1; its mutant syncs nothing.\n"),
            ("tests/src/checkers/mod.rs", ""),
        ]
    }

    fn complaints(tree: &[(&str, &str)]) -> Vec<String> {
        let source =
            |(path, text): &(&str, &str)| Source { path: (*path).to_owned(), text: (*text).to_owned() };
        check(&tree.iter().map(source).collect::<Vec<_>>())
    }

    #[test]
    fn a_kept_promise_gives_no_complaint() {
        assert_eq!(complaints(&tree()), Vec::<String>::new());
    }

    #[test]
    fn each_missing_place_is_reported() {
        let change = |path: &str, text: Option<&'static str>| {
            let mut changed: Vec<_> = tree().into_iter().filter(|(name, _)| *name != path).collect();
            changed.extend(text.map(|text| (path.to_owned().leak() as &str, text)));
            complaints(&changed)
        };
        assert_eq!(change(TABLE, None).len(), 1);
        assert_eq!(change("tests/src/checkers/durable.rs", None).len(), 1, "no checker");
        assert_eq!(change("tests/src/checkers/durable.rs", Some("//! Checks S1.\n")).len(), 1, "no mutant");
        assert_eq!(change("tests/src/checkers/durable.rs", Some("//! A mutant.\n")).len(), 1, "another id");
        assert_eq!(change("segments/src/log.rs", Some("//! Keeps S1.\n")).len(), 1, "no assertion");
        assert_eq!(
            change("segments/src/log.rs", Some("//! A log.\nassert!(a, \"S1: so\");\n")).len(),
            1,
            "no head"
        );
        let stranger = "//! Keeps S1.\nassert!(a, \"S1: so\");\nassert!(b, \"S9: so\");\n";
        assert_eq!(change("segments/src/log.rs", Some(stranger)).len(), 1, "an id that the table lacks");
        assert_eq!(
            change("tests/src/checkers/other.rs", Some("//! S1 mutant.\n")).len(),
            1,
            "an orphan checker"
        );
    }

    #[test]
    fn ids_are_found_in_assertions_only() {
        let code = "assert_eq!(\n    a,\n    b,\n    \"I2: first\"\n);\nprintln!(\"I3: no\");\nassert!(x, \"plain: no\");\n";
        assert_eq!(asserted(code), BTreeSet::from(["I2".to_owned()]));
    }
}
