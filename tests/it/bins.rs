//! Where the built programs are. They are built on the first request, so that a test never judges yesterday's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Overrides the directory; then nothing is built.
const OVERRIDE: &str = "TEST_BIN_DIR";

/// Path of a program of this workspace.
pub fn path(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let program = DIRECTORY.get_or_init(directory).join(name);
    assert!(program.is_file(), "{} is not built", program.display());
    program
}

fn directory() -> PathBuf {
    if let Some(given) = std::env::var_os(OVERRIDE) {
        return PathBuf::from(given);
    }
    // This test runs as PROFILE/deps/it-HASH; cargo puts programs into PROFILE.
    let own = std::env::current_exe().expect("the path of this test");
    let profile = own.parent().and_then(Path::parent).expect("two directories up").to_owned();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--locked"]).current_dir(root());
    // The default members are selected, as for the tests, so that the dependencies are built once.
    build.args(["--bin", "flkd", "--bin", "flk", "--bin", "worm", "--bin", "lossyfs"]);
    if profile.ends_with("release") {
        build.arg("--release");
    }
    let status = build.status().expect("cargo runs");
    assert!(status.success(), "the programs do not build");
    profile
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests room stands in the root").to_owned()
}
