//! libFuzzer over the targets of `tests::fuzz`; the environment variable `FLK_FUZZ_TARGET` names one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fuzz_target!(|bytes: &[u8]| {
    let run = TARGET.get_or_init(|| {
        let name = std::env::var("FLK_FUZZ_TARGET").unwrap_or_default();
        match tests::fuzz::target(&name) {
            Some(target) => target.run,
            None => {
                eprintln!("FLK_FUZZ_TARGET={name} is not a target");
                std::process::exit(1);
            }
        }
    });
    run(bytes);
});
