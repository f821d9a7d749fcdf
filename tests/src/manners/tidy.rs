//! What no file of the repository may say, and how long it may be.

use super::{ROOMS, Source};

/// Longest source file in lines. A file that outgrows it holds two things.
const LINES_MAX: usize = 500;

/// Words that stand for work not done, or for a way of speaking that the house does not use. They are written in
/// two pieces here so that this file does not accuse itself.
const UNSAID: &[(&str, &str)] = &[
    (concat!("todo", "!"), "finish it or leave the item out"),
    (concat!("unimple", "mented!"), "finish it or leave the item out"),
    (concat!("place", "holder"), "nothing stands in for anything"),
    (concat!("in produ", "ction"), "this is the production code"),
    (concat!("FIX", "ME"), "fix it"),
    (concat!("XX", "X"), "say what is wrong in words"),
];

/// Paths that exist on somebody's machine only.
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];

/// Package registries: which one to use is the machine's setting, not ours.
const REGISTRIES: &[&str] = &[
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("python", "hosted.org"),
    concat!("proxy.gol", "ang.org"),
    concat!("sum.gol", "ang.org"),
    concat!("registry.npm", "js.org"),
    concat!("deb.deb", "ian.org"),
    concat!("repo.mav", "en.apache.org"),
];

const SOURCE_ENDINGS: &[&str] =
    &[".rs", ".go", ".py", ".sh", ".md", ".toml", ".html", ".js", ".yml", ".yaml"];

/// Complaints about one file.
pub fn check(file: &Source) -> Vec<String> {
    let path = file.path.as_str();
    let mut complaints = Vec::new();
    let name = path.rsplit('/').next().unwrap_or(path);
    let lock = name.ends_with(".lock") || name == "go.sum";
    if lock || path.ends_with(".csv") {
        return complaints;
    }
    for (number, line) in file.text.lines().enumerate() {
        let place = format!("{path}:{}", number + 1);
        for (word, advice) in UNSAID {
            if line.contains(word) {
                complaints.push(format!("{place}: \"{word}\": {advice}"));
            }
        }
        for machine in MACHINE_PATHS {
            if line.contains(machine) {
                complaints.push(format!("{place}: {machine} is a path of one machine"));
            }
        }
        for registry in REGISTRIES {
            if line.contains(registry) {
                complaints.push(format!("{place}: {registry} names a registry host"));
            }
        }
        if in_a_room(path) && has_word(line, concat!("pha", "se")) {
            complaints.push(format!("{place}: \"{}\" is not a word of this house", concat!("pha", "se")));
        }
    }
    let lines = file.text.lines().count();
    if SOURCE_ENDINGS.iter().any(|ending| path.ends_with(ending)) && lines > LINES_MAX {
        complaints.push(format!("{path}: {lines} lines, at most {LINES_MAX}"));
    }
    if in_a_room(path) && !file.text.starts_with("//!") && !file.text.starts_with("#![") {
        complaints.push(format!("{path}: a module begins by saying what it is for (//!)"));
    }
    complaints
}

/// Whether this is source of the product.
fn in_a_room(path: &str) -> bool {
    path.ends_with(".rs") && ROOMS.iter().any(|room| path.starts_with(&format!("{room}/src/")))
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|letter: char| !letter.is_ascii_alphabetic()).any(|part| part.eq_ignore_ascii_case(word))
}

/// Complaints about the tree as a whole.
pub fn check_tree(files: &[Source]) -> Vec<String> {
    let text = |path: &str| files.iter().find(|file| file.path == path).map_or("", |file| file.text.as_str());
    let mut complaints = Vec::new();
    if !text("engine/src/lib.rs").contains("#![no_std]") {
        complaints.push("engine/src/lib.rs: no_std is the fence around the pure core".to_owned());
    }
    for room in ROOMS {
        let manifest = text(&format!("{room}/Cargo.toml"));
        if !manifest.contains("[lints]\nworkspace = true") {
            complaints.push(format!("{room}/Cargo.toml: takes the lints of the workspace"));
        }
        let bans = text(&format!("{room}/clippy.toml"));
        if bans.is_empty() {
            complaints.push(format!("{room}/clippy.toml: says which calls this room does not make"));
        }
        for line in bans.lines().filter(|line| line.contains("path =") && !line.contains("reason =")) {
            complaints.push(format!("{room}/clippy.toml: a ban without a reason: {line}"));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_tidy() {
        let files = crate::manners::sources();
        let mut complaints: Vec<String> = files.iter().flat_map(check).collect();
        complaints.extend(check_tree(&files));
        crate::manners::insist(&complaints);
    }

    #[test]
    fn every_rule_can_be_broken() {
        let complaints = |path: &str, text: String| check(&Source { path: path.to_owned(), text }).len();
        let room = "engine/src/some.rs";
        assert_eq!(complaints(room, "//! Good.\nfn f() {}\n".to_owned()), 0);
        for (word, _) in UNSAID {
            assert_eq!(complaints(room, format!("//! Head.\n{word}\n")), 1, "{word}");
        }
        for part in MACHINE_PATHS.iter().chain(REGISTRIES) {
            assert_eq!(complaints("docs/a.md", format!("see {part}x")), 1, "{part}");
            assert_eq!(complaints("Cargo.lock", format!("see {part}x")), 0, "{part}");
        }
        assert_eq!(complaints(room, "fn f() {}\n".to_owned()), 1, "no head");
        assert_eq!(complaints(room, format!("//! Next {}.\n", concat!("pha", "se"))), 1);
        assert_eq!(complaints(room, format!("//! Head.\n{}", "\n".repeat(LINES_MAX))), 1);
        assert_eq!(complaints(room, format!("//! Head.\n{}", "\n".repeat(LINES_MAX - 1))), 0);
        assert!(!check_tree(&[]).is_empty());
    }
}
