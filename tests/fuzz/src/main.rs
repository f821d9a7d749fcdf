//! libFuzzer over the targets of `tests::fuzz`. The environment variable `FLK_FUZZ_TARGET` names one, and its seeds
//! are written into the directory `FLK_FUZZ_SEEDS` before libFuzzer reads its corpus.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::OnceLock;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fn start() -> Result<fn(&[u8]), String> {
    let name = std::env::var("FLK_FUZZ_TARGET").unwrap_or_default();
    let target = tests::fuzz::target(&name).ok_or(format!("FLK_FUZZ_TARGET={name} is not a target"))?;
    if let Some(directory) = std::env::var_os("FLK_FUZZ_SEEDS") {
        for (number, seed) in (target.seeds)().iter().enumerate() {
            let path = PathBuf::from(&directory).join(format!("seed-{number}"));
            std::fs::write(&path, seed).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(target.run)
}

fuzz_target!(
    init: {
        match start() {
            Ok(run) => drop(TARGET.set(run)),
            Err(error) => {
                eprintln!("{error}");
                std::process::exit(1);
            }
        }
    },
    |bytes: &[u8]| {
        if let Some(run) = TARGET.get() {
            run(bytes);
        }
    }
);
