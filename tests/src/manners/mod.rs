//! The house rules, read from the tree itself: which room may use which, what no file may say, and that every
//! invariant stands in its four places.
//!
//! Each rule is a function from text to a list of complaints, so that its own tests can plant a violation.

pub mod arrows;
pub mod promises;
pub mod tidy;

use std::path::{Path, PathBuf};

/// The rooms whose source is the product.
pub const ROOMS: [&str; 5] = ["engine", "segments", "raft", "server", "tools"];

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests room stands in the root").to_owned()
}

/// A file of the repository: its path from the root with `/` between the parts, and its text.
pub struct Source {
    /// Path from the root.
    pub path: String,
    /// Contents.
    pub text: String,
}

/// Every text file that git tracks or would track, in order.
///
/// # Panics
/// If git cannot list them: without the list no rule has been checked.
pub fn sources() -> Vec<Source> {
    let listed = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    assert!(listed.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).expect("file names are UTF-8");
    let read = |name: &str| {
        let text = std::fs::read_to_string(root().join(name)).ok()?;
        Some(Source { path: name.to_owned(), text })
    };
    let mut found: Vec<Source> = names.split('\0').filter(|name| !name.is_empty()).filter_map(read).collect();
    found.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(found.len() > 20, "git listed only {} text files", found.len());
    found
}

/// Fails with all complaints at once.
///
/// # Panics
/// If there is any.
pub fn insist(complaints: &[String]) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}
